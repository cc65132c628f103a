"""NIH's own labels: the table of text-mined findings, its patients, and the hand-drawn boxes.

Both ship inside the package ``torchxrayvision`` and are read from its files. Each reader checks
what it reads (columns, kinds, known labels, row counts, duplicates) and names file, row and column
of the first thing that is wrong; nothing is dropped or repaired silently.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from chexlib.data.checks import ANY, IMAGE, CheckedTable, number, one_of
from chexlib.files import original, package_file
from chexlib.findings import FINDINGS, NO_FINDING, normalise

SEXES, VIEWS = ("M", "F"), ("PA", "AP")


def load_labels(path: str | Path | None = None) -> pd.DataFrame:
    """Return NIH's label table: one row a film, 112,120 rows of 30,805 patients.

    Parameters
    ----------
    path : path, optional
        Another file in the format of ``Data_Entry_2017_v2020.csv``, of images of any names. By
        default the published table, whose names and row count are checked too.

    Returns
    -------
    DataFrame
        ``image`` (file name), ``patient`` and ``follow_up`` (int), ``age`` (years, int), ``sex``
        (``M``/``F``), ``view`` (``PA``/``AP``), ``width`` and ``height`` (pixels of the original),
        ``spacing_x`` and ``spacing_y`` (mm per original pixel), 14 bool columns named and ordered
        as :data:`chexlib.findings.FINDINGS`, and ``no_finding``.

    Raises
    ------
    ValueError
        If the file is damaged or is another file: names file, row (header is row 1) and column.

    References
    ----------
    Wang et al., ChestX-ray8, CVPR 2017 (arXiv 1705.02315); label file of 2020 by NIH.

    Examples
    --------
    >>> labels = load_labels()
    >>> len(labels), labels["patient"].nunique(), int(labels["Hernia"].sum())
    (112120, 30805, 227)
    """
    published = path is None
    count, pixels = number(0, whole=True), number(1, whole=True)
    spacing = number(0, above=True)
    columns = {
        "image": ("Image Index", IMAGE if published else ANY),  # others name their films otherwise
        "patient": ("Patient ID", count),
        "follow_up": ("Follow-up #", count),
        "age": ("Patient Age", count),
        "sex": ("Patient Gender", one_of(SEXES)),
        "view": ("View Position", one_of(VIEWS)),
        "width": ("OriginalImage[Width", pixels),
        "height": ("Height]", pixels),
        "spacing_x": ("OriginalImagePixelSpacing[x", spacing),
        "spacing_y": ("y]", spacing),
    }
    read = CheckedTable(
        path or package_file("torchxrayvision", "data", "Data_Entry_2017_v2020.csv.gz"),
        {**dict(columns.values()), "Finding Labels": ANY},
        unique="Image Index",
        rows=112_120 if published else None,
    )
    out = pd.DataFrame({name: read.frame[title] for name, (title, _) in columns.items()})
    out["image"] = out["image"].astype("str").map(original)
    out["sex"] = pd.Categorical(out["sex"], categories=SEXES)
    out["view"] = pd.Categorical(out["view"], categories=VIEWS)
    out[[*FINDINGS, "no_finding"]] = read.converted("Finding Labels", _positive)
    return out


def load_boxes(path: str | Path | None = None) -> pd.DataFrame:
    """Return NIH's hand-drawn boxes: 984 boxes on 880 films, 8 findings.

    One radiologist drew them, each for a finding that the label names (Wang et al., ChestX-ray8,
    CVPR 2017): other findings on these films have no box.

    Parameters
    ----------
    path : path, optional
        Another file in the format of ``BBox_List_2017.csv``; by default the published one.

    Returns
    -------
    DataFrame
        ``image``, ``finding`` (one of :data:`chexlib.findings.FINDINGS`), and ``x``, ``y`` (left
        top corner), ``width``, ``height``, in pixels of the 1024 x 1024 PNG.

    Raises
    ------
    ValueError
        If the file is damaged or is another file, or a box leaves the image.

    Examples
    --------
    >>> boxes = load_boxes()
    >>> len(boxes), boxes["image"].nunique(), boxes["finding"].nunique()
    (984, 880, 8)
    """
    published = path is None
    path = Path(path or package_file("torchxrayvision", "data", "BBox_List_2017.csv.gz"))
    raw = CheckedTable.read(path)
    # The header has the four values under one name, followed by three empty ones.
    if len(raw.columns) >= 6 and raw.columns[2].startswith("Bbox"):
        raw = raw.set_axis(
            ["Image Index", "Finding Label", "x", "y", "w", "h", *raw.columns[6:]], axis=1
        )
    read = CheckedTable(
        path,
        {"Image Index": IMAGE, "Finding Label": ANY}
        | dict.fromkeys(("x", "y"), number(0))
        | dict.fromkeys(("w", "h"), number(0, above=True)),
        unique=["Image Index", "Finding Label"],
        rows=984 if published else None,
        frame=raw,
    )
    for low, length in (("x", "w"), ("y", "h")):
        # Corners and sides are published rounded: an edge may pass 1024 by less than a pixel.
        read.refuse(raw[low] + raw[length] >= 1025, length, "a box inside 1024 x 1024 pixels")
    out = raw[["Image Index", "Finding Label", "x", "y", "w", "h"]]
    out = out.set_axis(["image", "finding", "x", "y", "width", "height"], axis=1)
    return out.assign(finding=read.converted("Finding Label", normalise))


def _positive(text: str) -> list[bool]:
    """Turn a text such as ``Mass|Nodule`` into 14 findings and whether there is none."""
    names = [name if name == NO_FINDING else normalise(name) for name in text.split("|")]
    if len(set(names)) < len(names):
        raise ValueError("no label twice")
    if NO_FINDING in names and len(names) > 1:
        raise ValueError(f"{NO_FINDING!r} has to stand alone")
    return [name in names for name in (*FINDINGS, NO_FINDING)]
