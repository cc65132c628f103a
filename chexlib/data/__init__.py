"""Data: label tables, splits, tables of figures, and the files that are fetched.

>>> from chexlib.data import load_labels
>>> load_labels().shape
(112120, 25)
"""

import importlib

from chexlib.data.labels import load_boxes, load_labels, read_boxes, read_labels
from chexlib.data.networks import load_networks, load_relabelled
from chexlib.data.predictions import (
    match_films,
    match_labels,
    patients_of,
    read_predictions,
    read_readers,
)
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
    "Augment": "augment",
    "Batcher": "batches",
    "Batches": "batches",
    "ImageCache": "cache",
    "find_radiographs": "sources",
    "open_dataset": "dataset",
    "own_data": "dataset",
    "open_radiograph": "radiographs",
    "quality_table": "quality",
    "read_radiograph": "radiographs",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_LATER[name]}")
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
