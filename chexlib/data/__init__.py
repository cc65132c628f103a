"""Data: label tables, splits, tables of figures, and the files that are fetched.

>>> from chexlib.data import load_labels
>>> load_labels().shape
(112120, 25)
"""

from chexlib.data.home import data_home, package_file
from chexlib.data.labels import load_boxes, load_labels
from chexlib.data.predictions import match_labels, read_predictions
from chexlib.data.radiologists import load_adjudicated, load_rsna
from chexlib.data.tables import table

__all__ = [
    "data_home",
    "load_adjudicated",
    "load_boxes",
    "load_labels",
    "load_rsna",
    "match_labels",
    "package_file",
    "read_predictions",
    "table",
]
