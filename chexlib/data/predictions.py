"""Predictions of a model: one row a film, 14 probabilities, read and checked."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.data.checks import CheckedTable
from chexlib.files import brief, original
from chexlib.findings import FINDINGS, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["match_labels", "read_predictions"]

_IMAGE = "Image Index"
_PREFIX = "prob_"


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Return predictions from a CSV: ``Image Index`` and one column of probabilities a finding.

    Columns may stand in any order, be named by any alias of
    :func:`chexlib.findings.normalise`, and carry the prefix ``prob_``. A ``'`` that keeps a
    spreadsheet from computing a name, as ``chexlib predict`` puts it, is no part of the name.

    Parameters
    ----------
    path : path

    Returns
    -------
    DataFrame [N]
        ``image`` and 14 float columns named and ordered as :data:`chexlib.findings.FINDINGS`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, unknown or there twice, an image is there twice, or a value is no
        probability: names file, row (header is row 1) and column.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of predictions at {path}, found none.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = csv.reader(file)
    except (ValueError, csv.Error) as error:  # an empty file has no header to unpack
        raise ValueError(f"Expected a CSV of predictions at {path}, got: {error}.") from error
    places = _places(path, header)
    while rows and not rows[-1]:
        rows.pop()
    if not rows:
        raise ValueError(f"Expected at least one film in {path}, got the header alone.")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(
                f"Expected {len(header)} values in {path}, row {number}, got {len(row)}."
            )
    raw = pd.DataFrame(rows, columns=header, dtype="str")
    read = CheckedTable(path, {}, frame=raw, advice="Correct it, or predict again.")
    images = raw[places[_IMAGE]].str.strip().map(original)
    read.refuse(images == "", places[_IMAGE], "an image name")
    read.refuse(images.duplicated(), places[_IMAGE], "no image twice")
    columns = {"image": images}
    for finding in FINDINGS:
        value = pd.to_numeric(raw[places[finding]], errors="coerce").astype(float)
        read.refuse(~np.isfinite(value), places[finding], "a number")
        expected = "a probability between 0 and 1 (of a logit, the sigmoid)"
        read.refuse(~value.between(0, 1), places[finding], expected)
        columns[finding] = value
    return pd.DataFrame(columns)


def match_labels(
    predictions: pd.DataFrame, labels: pd.DataFrame, *, source: str = "the predictions"
) -> pd.DataFrame:
    """Return the label rows of the predicted images, in the order of the predictions.

    Parameters
    ----------
    predictions : DataFrame
        With a column ``image``, from :func:`read_predictions`.
    labels : DataFrame
        With a column ``image``, such as :func:`chexlib.data.load_labels`; other films may be there.
    source : str
        What to call the predictions in an error, such as their file.

    Raises
    ------
    ValueError
        If an image has no label row, or two.

    Examples
    --------
    >>> labels = pd.DataFrame({"image": ["a.png", "b.png"], "Mass": [True, False]})
    >>> match_labels(pd.DataFrame({"image": ["b.png", "a.png"]}), labels)["Mass"].tolist()
    [False, True]
    """
    if labels["image"].duplicated().any():
        twice = labels["image"][labels["image"].duplicated()].iloc[0]
        raise ValueError(f"Expected each image once in the labels, got {brief(twice)} twice.")
    place = pd.Index(labels["image"]).get_indexer(predictions["image"])
    if (place < 0).any():
        row = int(np.flatnonzero(place < 0)[0])
        raise ValueError(
            f"Expected images with labels, got {brief(predictions['image'].iloc[row])} in "
            f"{source}, row {row + 2}, and {int((place < 0).sum())} without labels in all. Give "
            "the label file that belongs to these images."
        )
    return labels.iloc[place].reset_index(drop=True)


def _places(path: Path, header: Sequence[str]) -> dict[str, str]:
    """Return the title of ``Image Index`` and of each finding."""
    places: dict[str, str] = {}
    for place, title in enumerate(header, start=1):
        name = title.strip()
        if name != _IMAGE:
            try:
                name = normalise(name.removeprefix(_PREFIX))
            except ValueError as error:
                raise ValueError(
                    f"Expected {_IMAGE!r} and the 14 findings as columns of {path}, got "
                    f"{brief(title)} in column {place}. {error} Remove the column if it "
                    "is no finding."
                ) from None
        if name in places:
            raise ValueError(
                f"Expected each column once in {path}, got {brief(places[name])} in column "
                f"{header.index(places[name]) + 1} and {brief(title)} in column {place}."
            )
        places[name] = title
    missing = [name for name in (_IMAGE, *FINDINGS) if name not in places]
    if missing:
        raise ValueError(
            f"Expected {_IMAGE!r} and the 14 findings as columns of {path}; missing: "
            f"{', '.join(missing)}."
        )
    return places
