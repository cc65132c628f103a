"""Data: label tables, splits, tables of figures, and the files that are fetched.

>>> from chexlib.data import load_labels
>>> load_labels().shape
(112120, 25)
"""

from importlib import import_module

from chexlib.data.labels import load_boxes, load_labels
from chexlib.data.predictions import match_labels, patients_of, read_predictions, read_readers
from chexlib.data.readers import (
    load_adjudicated,
    load_chestx_det,
    load_readers,
    load_rsna,
    load_vinbigdata,
)
from chexlib.data.reports import load_reports
from chexlib.data.tables import table
from chexlib.files import cache_home, data_home, package_file

# What decodes films or makes tensors is loaded when it is asked for: label tables need neither.
_LATER = {
    "Augment": "chexlib.data.augment",
    "Batcher": "chexlib.data.batches",
    "Batches": "chexlib.data.batches",
    "ImageCache": "chexlib.data.cache",
    "find_radiographs": "chexlib.data.sources",
    "open_dataset": "chexlib.data.dataset",
    "open_radiograph": "chexlib.data.radiographs",
    "quality_table": "chexlib.data.quality",
    "read_radiograph": "chexlib.data.radiographs",
}

__all__ = [
    "Augment",
    "Batcher",
    "Batches",
    "ImageCache",
    "cache_home",
    "data_home",
    "find_radiographs",
    "load_adjudicated",
    "load_boxes",
    "load_chestx_det",
    "load_labels",
    "load_readers",
    "load_reports",
    "load_rsna",
    "load_vinbigdata",
    "match_labels",
    "open_dataset",
    "open_radiograph",
    "package_file",
    "patients_of",
    "quality_table",
    "read_predictions",
    "read_radiograph",
    "read_readers",
    "table",
]


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LATER[name]), name)
    globals()[name] = value
    return value
