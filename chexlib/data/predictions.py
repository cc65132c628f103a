"""Files of one's own, read and checked: a model's predictions, and what readers said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.data.checks import numbers, own_table
from chexlib.files import brief, original
from chexlib.findings import FINDINGS, own_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_IMAGE = "Image Index"
IDENTIFY = ("Path", "SOPInstanceUID", "StudyInstanceUID", "PatientID")
"""Columns that say which film it is, beside its name."""

_SUFFIX = re.compile(r"\.(png|jpe?g|dcm|dicom)$", re.IGNORECASE)
_PREFIX = "prob_"
_READS = dict.fromkeys(("0", "0.0", "NO", "FALSE"), False)
_READS |= dict.fromkeys(("1", "1.0", "YES", "TRUE"), True)


def read_predictions(
    path: str | Path, *, findings: Sequence[str] | None = FINDINGS
) -> pd.DataFrame:
    """Return predictions from a CSV: ``Image Index`` and one column of probabilities a finding.

    Columns may stand in any order, be named by any alias of
    :func:`chexlib.findings.own_name`, and carry the prefix ``prob_``. A ``'`` that keeps a
    spreadsheet from computing a name, as ``chexlib predict`` puts it, is no part of the name.

    Parameters
    ----------
    path : path
    findings : sequence of str or None
        These have to be there; None takes every column of numbers. By default NIH's 14, and then
        another column is an error, unless it is one of :data:`IDENTIFY`.

    Returns
    -------
    DataFrame [N]
        ``image``, where the file has it ``path``, and float columns named and ordered as
        ``findings``, or as the file has them. ``attrs["unused"]`` lists the columns that are none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, unknown or there twice, an image is there twice, or a value is no
        probability: names file, row (header is row 1) and column.
    """
    read = own_table(path, "predictions", "Correct it, or predict again.")
    raw, titles = read.frame, read.titles(lambda title: own_name(title.removeprefix(_PREFIX)))
    others = [name for name in titles if name not in (_IMAGE, *IDENTIFY)]
    some = (name for name in others if numbers(raw[titles[name]]).notna().any())
    asked = list(some if findings is None else map(own_name, findings))
    missing = [name for name in (_IMAGE, *asked) if name not in titles]
    unused = [titles[name] for name in others if name not in asked]
    if missing or not asked or (unused and tuple(asked) == FINDINGS):
        raise ValueError(
            f"Expected {_IMAGE!r} and {len(asked) or 'some'} findings as columns of {path}; "
            f"missing: {', '.join(missing) or 'none'}; of no finding: {brief(unused)}. Remove the "
            "column if it is none, or name the findings."
        )
    images = raw[_IMAGE].str.strip().map(original)
    read.refuse(images == "", _IMAGE, "an image name")
    read.refuse(images.duplicated(), _IMAGE, "no image twice")
    columns = {"image": images}
    if "Path" in raw:
        columns["path"] = raw["Path"].map(original)
    for finding in asked:
        title = titles[finding]
        value = numbers(raw[title])
        read.refuse(~np.isfinite(value), title, "a number")
        low, high = value.min(), value.max()
        why = ", as per cent do: divide by 100" if 1 < high <= 100 else ""
        why = ", as logits do: give the sigmoid of each, 1 / (1 + exp(-x))" if low < 0 else why
        span = f"the column runs from {low:.3g} to {high:.3g}{why}"
        read.refuse(~value.between(0, 1), title, f"a probability between 0 and 1 ({span})")
        columns[finding] = value
    out = pd.DataFrame(columns)
    out.attrs["unused"] = unused
    return out


def read_readers(path: str | Path, *, findings: Sequence[str] = FINDINGS) -> pd.DataFrame:
    """Return what readers said of films, from a CSV of one row a read.

    Parameters
    ----------
    path : path
        ``image``, ``reader`` and a column for each finding that was asked for, with 0 and 1 or
        ``NO`` and ``YES``. ``Image Index``, ``Image ID`` and ``Reader ID`` are known too, findings
        by any alias of :func:`chexlib.findings.own_name`.
    findings : sequence of str
        Those that are looked for; by default NIH's 14.

    Returns
    -------
    DataFrame [N]
        ``image``, ``reader`` (text) and bool columns in the order of ``findings``.
        ``attrs["unused"]`` lists the columns that are none of these.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing or there twice, a reader read an image twice, there is one reader
        alone, or a value is no read: names file, row (header is row 1) and column.
    """
    read = own_table(path, "reads", "Correct it.")
    known = {"image": "image", "imageindex": "image", "imageid": "image"}
    known |= {"reader": "reader", "readerid": "reader"}
    columns = read.titles(
        lambda title: known.get(re.sub("[^a-z]", "", title.lower())) or own_name(title)
    )
    asked = [name for name in findings if name in columns]
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
    out.attrs["unused"] = [title for name, title in columns.items() if name not in out]
    return out


def match_labels(
    predictions: pd.DataFrame, labels: pd.DataFrame, *, source: str = "the predictions"
) -> pd.DataFrame:
    """Return the label rows of the predicted images, in the order of the predictions.

    Parameters
    ----------
    predictions : DataFrame
        With a column ``image``, and if wanted ``path``, from :func:`read_predictions`. An image
        whose name has no label is looked for by its path, where it has one, as
        :func:`match_films` does.
    labels : DataFrame
        With a column ``image``, such as :func:`chexlib.data.load_labels`; other films may be there.
    source : str
        What to call the predictions in an error, such as their file.

    Raises
    ------
    ValueError
        If an image has no label row, or it is not clear which.

    Examples
    --------
    >>> labels = pd.DataFrame({"image": ["a.png", "b.png"], "Mass": [True, False]})
    >>> match_labels(pd.DataFrame({"image": ["b.png", "a.png"]}), labels)["Mass"].tolist()
    [False, True]
    """
    if labels["image"].duplicated().any():
        twice = labels["image"][labels["image"].duplicated()].iloc[0]
        raise ValueError(f"Expected each image once in the labels, got {brief(twice)} twice.")
    image = predictions["image"]
    names = image.where(image.isin(labels["image"]), predictions.get("path", image))
    place = match_films(names, labels["image"], strict=False)
    if (place < 0).any():
        row = int(np.flatnonzero(place < 0)[0])
        raise ValueError(
            f"Expected images with labels, got {brief(image.iloc[row])} in "
            f"{source}, row {row + 2}, and {int((place < 0).sum())} without labels in all. Give "
            "the label file that belongs to these images."
        )
    films = labels.iloc[place].reset_index(drop=True)
    return films.assign(image=image.to_numpy())


def match_films(wanted: Iterable[str], names: Iterable[str], *, strict: bool = True) -> np.ndarray:
    """Return where each wanted film stands among names: file names or paths on either side.

    A name that is equal comes first. Else one has to be the end of the other, whole folders and
    file name, as ``p1/a.png`` is of ``train/p1/a.png``; or be so without ``.png``, ``.jpg`` or
    ``.dcm``. Folders that contradict each other never match.

    Parameters
    ----------
    wanted : iterable of str
        Repeats are allowed.
    names : iterable of str
        No two equal.
    strict : bool
        Whether a film that is not there is an error, or -1.

    Returns
    -------
    int64 array, as many as wanted

    Raises
    ------
    ValueError
        If a film is not among the names, may be two of them, or two may be one: names it.

    Examples
    --------
    >>> match_films(["p2/a.png", "b"], ["set/p1/a.png", "set/p2/a.png", "b.dcm"])
    array([1, 2])
    """
    names = list(names)
    codes, texts = pd.factorize(np.asarray(list(wanted), dtype=object))
    place = pd.Index(names, dtype=object).get_indexer(texts)
    for cut in ("", _SUFFIX):
        if (place >= 0).all():
            break
        shown = [re.sub(cut, "", name.replace("\\", "/")) for name in names]
        whole: dict[str, list[int]] = {}
        ends: dict[str, list[int]] = {}
        for i, name in enumerate(shown):
            whole.setdefault(name, []).append(i)
            for end in _ends(name):
                ends.setdefault(end, []).append(i)
        for row in np.flatnonzero(place < 0):
            text = re.sub(cut, "", texts[row].replace("\\", "/"))
            found = ends.get(text) or next(filter(None, map(whole.get, _ends(text))), [])
            if len(found) > 1:
                one, other = (brief(names[i]) for i in found[:2])
                raise ValueError(
                    f"Expected one film for {brief(texts[row])}, found {len(found):,}, such as "
                    f"{one} and {other}. Name films by their paths."
                )
            place[row] = found[0] if found else -1
    there = place[place >= 0]
    if len(set(there)) < len(there):
        twice = int(pd.Series(there).mode()[0])
        one, other = (brief(texts[row]) for row in np.flatnonzero(place == twice)[:2])
        raise ValueError(
            f"Expected films apart, got {one} and {other}, and {brief(names[twice])} may be either."
            " Give paths, from a folder further up."
        )
    if strict and (place < 0).any():
        film = texts[np.argmax(place < 0)]
        raise ValueError(
            f"Expected films among {len(names):,}, such as {brief(names[0] if names else '')}, got "
            f"{brief(film)} and {(place < 0).sum():,} that are not there in all."
        )
    return place[codes].astype(np.int64)


def _ends(path: str) -> Iterator[str]:
    """Yield a path, then the same without its first folder, and so on to the file's name."""
    yield path
    while "/" in path:
        path = path.partition("/")[2]
        yield path


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
