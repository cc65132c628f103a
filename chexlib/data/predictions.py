"""Files of one's own, read and checked: a model's predictions, and what readers said."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.data.checks import CheckedTable
from chexlib.files import brief, original
from chexlib.findings import FINDINGS, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

_IMAGE = "Image Index"
_PREFIX = "prob_"
_READS = dict.fromkeys(("0", "0.0", "NO", "FALSE"), False)
_READS |= dict.fromkeys(("1", "1.0", "YES", "TRUE"), True)


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
    read = _read(Path(path), "predictions", "Correct it, or predict again.")
    raw, places = read.frame, _places(read.path, list(read.frame.columns))
    images = read.frame[places[_IMAGE]].str.strip().map(original)
    read.refuse(images == "", places[_IMAGE], "an image name")
    read.refuse(images.duplicated(), places[_IMAGE], "no image twice")
    columns = {"image": images}
    for finding in FINDINGS:
        value = pd.to_numeric(raw[places[finding]], errors="coerce").astype(float)
        read.refuse(~np.isfinite(value), places[finding], "a number")
        low, high, why = value.min(), value.max(), ""
        if low < 0:
            why = ", as logits do: give the sigmoid of each, 1 / (1 + exp(-x))"
        elif 1 < high <= 100:
            why = ", as per cent do: divide by 100"
        span = f"the column runs from {low:.3g} to {high:.3g}{why}"
        expected = f"a probability between 0 and 1 ({span})"
        read.refuse(~value.between(0, 1), places[finding], expected)
        columns[finding] = value
    return pd.DataFrame(columns)


def read_readers(path: str | Path) -> pd.DataFrame:
    """Return what readers said of films, from a CSV of one row a read.

    Parameters
    ----------
    path : path
        ``image``, ``reader`` and a column for each finding that was asked for, with 0 and 1 or
        ``NO`` and ``YES``. ``Image Index``, ``Image ID`` and ``Reader ID`` are known too, findings
        by any alias of :func:`chexlib.findings.normalise`.

    Returns
    -------
    DataFrame [N]
        ``image``, ``reader`` (text) and bool columns in the order of
        :data:`chexlib.findings.FINDINGS`. ``attrs["unused"]`` lists the columns that are none of
        these.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing or there twice, a reader read an image twice, there is one reader
        alone, or a value is no read: names file, row (header is row 1) and column.
    """
    read = _read(Path(path), "reads", "Correct it.")
    known = {"imageindex": "image", "imageid": "image", "readerid": "reader"}
    columns: dict[str, str] = {}
    unused = []
    for title in read.frame.columns:
        key = re.sub("[^a-z]", "", title.lower())
        name = known.get(key, key)
        if name not in ("image", "reader"):
            try:
                name = normalise(title)
            except ValueError:
                unused.append(title)
                continue
        if name in columns:
            raise ValueError(
                f"Expected each column once in {path}, got {brief(columns[name])} and "
                f"{brief(title)}."
            )
        columns[name] = title
    asked = [name for name in FINDINGS if name in columns]
    if not {"image", "reader"} <= columns.keys() or not asked:
        raise ValueError(
            f"Expected columns 'image', 'reader' and at least one finding in {path}, got "
            f"{brief(list(read.frame.columns))}."
        )
    out = {name: read.frame[columns[name]].str.strip() for name in ("image", "reader")}
    for name, value in out.items():
        read.refuse(value == "", columns[name], "a name")
    out["image"] = out["image"].map(original)
    read.refuse(pd.DataFrame(out).duplicated(), columns["image"], "no image twice by one reader")
    if out["reader"].nunique() < 2:
        raise ValueError(
            f"Expected at least two readers in {path}, got {brief(out['reader'].iloc[0])} alone: "
            "the others are the reference. Give one reader's reads as --labels instead."
        )
    for name in asked:
        value = read.frame[columns[name]].str.strip().str.upper()
        read.refuse(~value.isin(_READS), columns[name], "0 or 1, NO or YES")
        out[name] = value.map(_READS).astype(bool)
    out = pd.DataFrame(out)
    out.attrs["unused"] = unused
    return out


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


def patients_of(path: str | Path, labels: pd.DataFrame) -> pd.Series:
    """Return the patients of a list of images, one a line.

    Parameters
    ----------
    path : path
    labels : DataFrame
        ``image`` and ``patient`` of these images, and of others.

    Raises
    ------
    ValueError
        If an image has no label row: nobody knows its patient then.
    """
    lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    films = pd.DataFrame({"image": [original(line.strip()) for line in lines if line.strip()]})
    return match_labels(films, labels, source=str(path))["patient"]


def _read(path: Path, what: str, advice: str) -> CheckedTable:
    """Return a CSV as text, checked to be one."""
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of {what} at {path}, found none.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = csv.reader(file)
    except (ValueError, csv.Error) as error:  # an empty file has no header to unpack
        raise ValueError(f"Expected a CSV of {what} at {path}, got: {error}.") from error
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
    return CheckedTable(path, {}, frame=raw, advice=advice)


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
