"""Labels: a table of one's own, and NIH's text-mined findings and hand-drawn boxes.

NIH's ship inside the package ``torchxrayvision`` and are read from its files. Each reader checks
what it reads (columns, kinds, known labels, row counts, duplicates) and names file, row and column
of the first thing that is wrong; nothing is dropped or repaired silently.
"""

from __future__ import annotations

import logging
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.data.checks import ANY, IMAGE, CheckedTable, number, numbers, one_of, own_table
from chexlib.files import brief, original, package_file
from chexlib.findings import FINDINGS, NO_FINDING, normalise, own_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SEXES, VIEWS = ("M", "F"), ("PA", "AP")
MAX_NAMES = 1000  # findings of one column; a text that nobody joined has a name a film
# How others title a column, its letters alone: the first that is there, before others.
TITLES = {
    "image": "path imagepath filepath image imageindex imageid imagename filename file",
    "patient": "patient patientid subject subjectid",
    "age": "age patientage ageyears",
    "sex": "sex gender patientsex patientgender patientsexdicom",
    "view": "view viewposition projection appa",
    "split": "split partition subset",
    "weight": "weight sampleweight",
    "joined": "findinglabels findings labels finding label diagnoses diagnosis",
}
_BOX = {name: TITLES[name] for name in ("image", "patient")}
_BOX |= {"finding": "finding findinglabel label", "x": "x", "y": "y"}
_BOX |= {"width": "width w", "height": "height h"}
_COUNT, _PIXELS = number(0, whole=True), number(1, whole=True)
_SPACING = number(0, above=True)
# NIH's columns: what they are here, and what each value has to be.
_NIH = {
    "Image Index": ("image", ANY), "Patient ID": ("patient", _COUNT),
    "Follow-up #": ("follow_up", _COUNT), "Patient Age": ("age", _COUNT),
    "Patient Gender": ("sex", one_of(SEXES)), "View Position": ("view", one_of(VIEWS)),
    "OriginalImage[Width": ("width", _PIXELS), "Height]": ("height", _PIXELS),
    "OriginalImagePixelSpacing[x": ("spacing_x", _SPACING), "y]": ("spacing_y", _SPACING),
}  # fmt: skip
EMPTY = ("", "nan", "na", "n/a", "null")
OTHER = np.inf
_VALUES = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1, "-1": -1, "-1.0": -1}
_VALUES |= dict.fromkeys(EMPTY, np.nan)
_UNCERTAIN = {"positive": 1.0, "negative": 0.0, "missing": np.nan, None: np.nan}
_SEXES = {"male": "M", "m": "M", "female": "F", "f": "F"}
# The patient that a path names: CheXpert's folders, and NIH's files.
_PATIENT = re.compile(r"(?:^|/)(patient\d+(?=/)|\d{8}(?=_\d{3}\.png$))")


log = logging.getLogger(__name__)


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
    rules = {title: rule for title, (_, rule) in _NIH.items()} | {"Finding Labels": ANY}
    rules |= {"Image Index": IMAGE} if published else {}  # others name their films otherwise
    path = path or package_file("torchxrayvision", "data", "Data_Entry_2017_v2020.csv.gz")
    read = CheckedTable(path, rules, unique="Image Index", rows=112_120 if published else None)
    out = read.frame[list(_NIH)].set_axis([name for name, _ in _NIH.values()], axis=1)
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
    keys, corner, side = ["Image Index", "Finding Label"], number(0), number(0, above=True)
    rules = {keys[0]: IMAGE, keys[1]: ANY, "x": corner, "y": corner, "w": side, "h": side}
    # The header has the four values under one name, followed by three empty ones.
    if len(raw.columns) >= 6 and raw.columns[2].startswith("Bbox"):
        raw = raw.set_axis([*rules, *raw.columns[6:]], axis=1)
    read = CheckedTable(path, rules, unique=keys, rows=984 if published else None, frame=raw)
    for low, length in (("x", "w"), ("y", "h")):
        # Corners and sides are published rounded: an edge may pass 1024 by less than a pixel.
        read.refuse(raw[low] + raw[length] >= 1025, length, "a box inside 1024 x 1024 pixels")
    out = raw[list(rules)].set_axis(["image", "finding", "x", "y", "width", "height"], axis=1)
    return out.assign(finding=read.converted("Finding Label", normalise))


def read_boxes(path: str | Path) -> pd.DataFrame:
    """Return boxes of one's own, from a CSV of one box a row.

    Parameters
    ----------
    path : path
        The image (titled as for :func:`read_labels`), ``finding``, ``x`` and ``y`` of the left top
        corner, ``width`` and ``height``, in pixels of the film; if wanted ``patient``.

    Returns
    -------
    DataFrame
        ``image`` (text as written), ``finding`` (:func:`chexlib.findings.own_name`), ``x``, ``y``,
        ``width``, ``height``, and where the file has it ``patient`` (text).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing or a value is none: names file, row (header is row 1) and column.
    """
    read = own_table(path, "boxes", "Correct it.")
    titles = _titled(read.frame, _BOX)
    missing = [name for name in _BOX if name not in (*titles, "patient")]
    if missing:
        raise ValueError(
            f"Expected columns image, finding, x, y, width and height in {path}, found no "
            f"{' and no '.join(missing)} among {brief(list(read.frame.columns))}."
        )
    out = {name: read.frame[title].str.strip() for name, title in titles.items()}
    for name in ("image", "finding"):
        read.refuse(out[name] == "", titles[name], "a name")
    for name in ("x", "y", "width", "height"):
        rule = number(0, above=name in ("width", "height"))
        out[name] = numbers(out[name])
        read.refuse(~rule.good(out[name]), titles[name], rule.expected)
    out |= {"image": out["image"].map(original), "finding": out["finding"].map(own_name)}
    return pd.DataFrame(out)


def read_labels(
    path: str | Path,
    *,
    findings: Sequence[str] | None = None,
    separator: str = "|",
    uncertain: str | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return films and findings of a CSV of one's own, or of NIH, CheXpert or PadChest.

    The titles of columns are known by their letters, whatever their case: :data:`TITLES` lists
    them. One names the film, by file name or path. Findings are columns of 0, 1 or nothing (False
    and True as well), or one column of names such as ``Mass|Nodule``, or ``['mass', 'nodule']`` as
    PadChest has them; there :data:`chexlib.findings.NO_FINDING` is none of them, and nothing means
    that nothing is known. Text is UTF-8 or UTF-16, separated by commas, semicolons or tabs.

    Parameters
    ----------
    path : path
    findings : sequence of str, optional
        Which ones: titles of columns, or names in the column of names. By default every column of
        0, 1 and nothing that has no other meaning; or, where there is a column of names, all that
        stand in it, or NIH's 14 where it has none but those.
    separator : str
        What joins names in one column.
    uncertain : {"positive", "negative", "missing"}, optional
        What -1, CheXpert's mark of a finding that the report leaves open, counts as.

    Returns
    -------
    DataFrame
        ``image`` and ``patient`` (text; a film of no known patient is one of its own); where the
        file has them ``age`` (years, NaN where unknown), ``sex`` (``M``, ``F`` or what is there),
        ``view``, ``split`` and ``weight`` (at least 0); a column a finding, bool, or 0, 1 and NaN
        where not every film has a value; of names also ``no_finding``; then every other column as
        text.
    tuple of str
        The findings, aliases of the 14 by :func:`chexlib.findings.own_name`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, has no column of films or no finding, an image twice, or a value that
        is none: names file, row (header is row 1) and column.

    References
    ----------
    Irvin et al., CheXpert, AAAI 2019 (arXiv 1901.07031); Bustos et al., PadChest, Medical Image
    Analysis 66 (2020).
    """
    if uncertain not in _UNCERTAIN:
        raise ValueError(f"Expected uncertain of {tuple(_UNCERTAIN)}, got {uncertain!r}.")
    read = own_table(path, "labels", "Correct it.")
    titles, frame = read.titles(own_name), read.frame
    known = _titled(frame, TITLES)
    joined = known.pop("joined", None)
    if "image" not in known:
        raise ValueError(
            f"Expected a column of films in {path}, titled one of {TITLES['image']}; found "
            f"{brief(list(frame.columns))}. Give it such a title."
        )
    names = tuple(map(own_name, findings)) if findings else None
    out = _described(read, known)
    titles = {name: title for name, title in titles.items() if title not in known.values()}
    if joined and OTHER in _values(frame[joined]) and titles.keys().isdisjoint(names or ()):
        found, used = _joined(read, joined, names, separator), {joined}
    else:
        found = _columns(read, titles, names, uncertain)
        used = {titles[name] for name in found}
    names = tuple(name for name in found if name != "no_finding")
    for title in titles.values():
        name, _ = _NIH.get(title, (title, ANY))
        if title in _NIH and name not in out:
            out[name] = numbers(frame[title])
        elif title not in used and title not in (*out, *found):
            found[title] = frame[title]
    return pd.DataFrame(out | found), names


def _titled(frame: pd.DataFrame, spellings: dict[str, str]) -> dict[str, str]:
    """Return the columns of a frame by what they mean, where they are there."""
    keys = {re.sub("[^a-z]", "", title.lower()): title for title in frame.columns[::-1]}
    first = {name: next(filter(keys.get, some.split()), None) for name, some in spellings.items()}
    return {name: keys[key] for name, key in first.items() if key}


def _described(read: CheckedTable, known: dict[str, str]) -> dict[str, pd.Series]:
    """Return the film of each row, its patient, and what else is said of it."""
    text = {name: read.frame[title].str.strip() for name, title in known.items()}
    image = text["image"].map(original)
    read.refuse(image == "", known["image"], "a film's name or path")
    read.refuse(image.duplicated(), known["image"], "no image twice")
    patient = text.get("patient", image.str.extract(_PATIENT, expand=False)).fillna("")
    said = ~patient.str.lower().isin(EMPTY)
    patient = patient.map(original).where(said, "film " + image)
    out = text | {"image": image, "patient": patient}
    if "age" in out:  # DICOM writes 057Y
        years = out["age"].str.replace(r"^0*(\d+)Y$", r"\1", regex=True)
        bad = ~(numbers(years) >= 0) & ~years.str.lower().isin(EMPTY)
        read.refuse(bad, known["age"], "an age in years, or nothing")
        out["age"] = numbers(years)
    if "sex" in out:
        out["sex"] = out["sex"].str.lower().map(_SEXES).fillna(out["sex"])
    if "weight" in out:
        out["weight"] = numbers(out["weight"])
        read.refuse(~out["weight"].between(0, 1e9), known["weight"], "a weight from 0 to 1e9")
    return {name: out[name] for name in TITLES if name in out}


def _values(column: pd.Series) -> np.ndarray:
    """Return 0, 1, -1 and NaN as they are written, and OTHER for what is none of these."""
    codes, texts = pd.factorize(column.str.strip().str.lower().str.replace(",", "."))
    return np.array([_VALUES.get(text, OTHER) for text in texts], float)[codes]


def _columns(
    read: CheckedTable, titles: dict[str, str], names: Sequence[str] | None, uncertain: str | None
) -> dict[str, np.ndarray]:
    """Return the findings that are columns of 0, 1 and nothing, or of those that are asked for."""
    found = {}
    for name in titles if names is None else [name for name in names if name in titles]:
        value = _values(read.frame[titles[name]])
        some, there = np.isin(value, (0, 1, -1)).sum(), (~np.isnan(value)).sum()
        # One that a wrong value spoils is no other column: it would be lost without a word.
        if names is None and (some < max(1, 0.9 * there) or name.lower() == NO_FINDING.lower()):
            continue
        asked = f"0, 1 or nothing for the finding {name!r} (others: name the findings)"
        read.refuse(value == OTHER, titles[name], asked)
        asked += '; or uncertain="positive", "negative" or "missing" for -1'
        read.refuse((value == -1) & (uncertain is None), titles[name], asked)
        value = np.where(value == -1, _UNCERTAIN[uncertain], value)
        if not np.isnan(value).all():
            found[name] = value if np.isnan(value).any() else value == 1
    missing = [name for name in names or () if name not in found]
    if missing or not found:
        raise ValueError(
            f"Expected findings{f' {brief(missing)}' if missing else ''} in {read.path}: columns "
            f"that have some 0 or 1, or one of names titled one of {TITLES['joined']}; found "
            f"{brief(list(titles.values()))}."
        )
    return found


def _joined(
    read: CheckedTable, title: str, names: Sequence[str] | None, separator: str
) -> dict[str, np.ndarray]:
    """Return the findings that one column names, and whether it says that there is none."""
    said = read.converted(title, partial(_said, separator=separator))
    there = set().union(*(one for one in said if one)) - {NO_FINDING}
    if names is None:
        names = FINDINGS if there <= set(FINDINGS) else tuple(sorted(there))
    if len(names) > MAX_NAMES:
        raise ValueError(
            f"Expected at most {MAX_NAMES:,} findings in {read.path}, column {title!r}, got "
            f"{len(names):,}, such as {brief(names[0])}. Name them (findings=), or give what "
            "joins names (separator=)."
        )
    if absent := [name for name in names if name not in there]:
        log.warning("No film of %s has: %s", read.path, ", ".join(absent))
    empty = np.array([one is None for one in said])
    found = {name: np.array([name in (one or ()) for one in said]) for name in names}
    if empty.any():
        found = {name: np.where(empty, np.nan, value) for name, value in found.items()}
    return found | {"no_finding": np.array([one in ({NO_FINDING}, set()) for one in said])}


def _said(
    text: str, separator: str = "|", name: Callable[[str], str] = own_name
) -> set[str] | None:
    """Return the findings that a text such as ``Mass|Nodule`` or ``['mass', 'nodule']`` names."""
    if text.strip().lower() in EMPTY:
        return None
    listed = re.fullmatch(r"\s*\[(.*)\]\s*", text, re.DOTALL)
    parts = listed[1].split(",") if listed else text.split(separator)
    names = {name(part.strip(" '\"")) for part in parts} - {""}
    names = {NO_FINDING if one.lower() == NO_FINDING.lower() else one for one in names}
    if NO_FINDING in names and len(names) > 1:
        raise ValueError(f"{NO_FINDING!r} has to stand alone")
    return names


def _positive(text: str) -> list[bool]:
    """Turn a text such as ``Mass|Nodule`` into 14 findings and whether there is none."""
    names = _said(text, name=lambda one: one if one == NO_FINDING else normalise(one))
    if len(names) <= text.count("|"):
        raise ValueError("no label twice")
    return [name in names for name in (*FINDINGS, NO_FINDING)]
