"""NIH's own labels: the table of text-mined findings and the hand-drawn boxes.

Both ship inside the package ``torchxrayvision`` and are read from its files. Each reader checks
what it reads (columns, kinds, known labels, row counts, duplicates) and names file, row and column
of the first thing that is wrong; nothing is dropped or repaired silently.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from chexlib.data.checks import Checker, read_csv
from chexlib.data.home import package_file
from chexlib.files import original
from chexlib.findings import FINDINGS, NO_FINDING, normalise

__all__ = ["SEXES", "VIEWS", "load_boxes", "load_labels"]

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
    path = (
        package_file("torchxrayvision", "data", "Data_Entry_2017_v2020.csv.gz")
        if published
        else Path(path)
    )
    raw = read_csv(path)
    columns = {
        "image": "Image Index",
        "patient": "Patient ID",
        "follow_up": "Follow-up #",
        "age": "Patient Age",
        "sex": "Patient Gender",
        "view": "View Position",
        "width": "OriginalImage[Width",
        "height": "Height]",
        "spacing_x": "OriginalImagePixelSpacing[x",
        "spacing_y": "y]",
    }
    check = Checker(path, raw, (*columns.values(), "Finding Labels"))
    if published:  # one's own films, and the phantom's, have other names
        check.image_names("Image Index")
    check.unique("Image Index")
    for column in ("Patient ID", "Follow-up #", "Patient Age"):
        check.whole_numbers(column, low=0)
    for column in ("OriginalImage[Width", "Height]"):
        check.whole_numbers(column, low=1)
    for column in ("OriginalImagePixelSpacing[x", "y]"):
        check.numbers(column, low=0, above=True)
    check.one_of("Patient Gender", SEXES)
    check.one_of("View Position", VIEWS)
    if published:
        check.rows(112_120)

    out = pd.DataFrame({name: raw[column] for name, column in columns.items()})
    out["image"] = out["image"].astype("str").map(original)
    out["sex"] = pd.Categorical(out["sex"], categories=SEXES)
    out["view"] = pd.Categorical(out["view"], categories=VIEWS)
    positive, no_finding = _split_findings(check, "Finding Labels")
    out = pd.concat([out, pd.DataFrame(positive, columns=list(FINDINGS), index=out.index)], axis=1)
    out["no_finding"] = no_finding
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
    path = (
        package_file("torchxrayvision", "data", "BBox_List_2017.csv.gz")
        if published
        else Path(path)
    )
    raw = read_csv(path)
    # The header has the four values under one name, followed by three empty ones.
    if len(raw.columns) >= 6 and raw.columns[2].startswith("Bbox"):
        raw = raw.set_axis(
            ["Image Index", "Finding Label", "x", "y", "w", "h", *raw.columns[6:]], axis=1
        )
    check = Checker(path, raw, ("Image Index", "Finding Label", "x", "y", "w", "h"))
    check.image_names("Image Index")
    check.unique("Image Index", "Finding Label")
    for column, above in (("x", False), ("y", False), ("w", True), ("h", True)):
        check.numbers(column, low=0, above=above)
    for corner, side in (("x", "w"), ("y", "h")):
        # Corners and sides are published rounded: an edge may pass 1024 by less than a pixel.
        check.refuse(raw[corner] + raw[side] >= 1025, side, "a box inside 1024 x 1024 pixels")
    if published:
        check.rows(984)
    return pd.DataFrame(
        {
            "image": raw["Image Index"],
            "finding": check.converted("Finding Label", normalise),
            "x": raw["x"],
            "y": raw["y"],
            "width": raw["w"],
            "height": raw["h"],
        }
    )


def _split_findings(check: Checker, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Turn texts such as ``Mass|Nodule`` into bool ``[N, 14]`` and bool ``[N]`` (no finding)."""
    codes, texts = pd.factorize(check.frame[column])  # 836 texts, 112,120 rows
    positive = np.zeros((len(texts), len(FINDINGS)), dtype=bool)
    no_finding = np.zeros(len(texts), dtype=bool)

    def refuse(row: int, expected: str) -> None:
        check.refuse(pd.Series(codes == row), column, expected)

    for row, text in enumerate(texts):
        names = str(text).split("|")
        if NO_FINDING in names:
            if len(names) > 1:
                refuse(row, f"{NO_FINDING!r} to stand alone")
            no_finding[row] = True
            continue
        for name in names:
            try:
                index = FINDINGS.index(normalise(name))
            except ValueError as error:
                refuse(row, f"known labels ({error})")
            if positive[row, index]:
                refuse(row, "no label twice")
            positive[row, index] = True
    return positive[codes], no_finding[codes]
