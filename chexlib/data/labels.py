"""Labels: a table of one's own, and NIH's text-mined findings and hand-drawn boxes.

NIH's ship inside the package ``torchxrayvision`` and are read from its files. Each reader checks
what it reads (columns, kinds, known labels, row counts, duplicates) and names file, row and column
of the first thing that is wrong; nothing is dropped or repaired silently.
"""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.data.checks import ANY, IMAGE, CheckedTable, number, numbers, one_of, own_table
from chexlib.files import brief, original, package_file
from chexlib.findings import FINDINGS, NO_FINDING, normalise, own_name

if TYPE_CHECKING:
    from collections.abc import Sequence

SEXES, VIEWS = ("M", "F"), ("PA", "AP")
MAX_NAMES = 1000  # findings of one column; a text that nobody joined has a name a film
# How the columns of others are titled, their letters alone, the first that is there before others.
TITLES = {
    "image": (
        "path", "imagepath", "filepath", "image", "imageindex", "imageid", "imagename", "filename",
        "file",
    ),
    "patient": ("patient", "patientid", "subject", "subjectid"),
    "age": ("age", "patientage", "ageyears"),
    "sex": ("sex", "gender", "patientsex", "patientgender", "patientsexdicom"),
    "view": ("view", "viewposition", "projection", "appa"),
    "split": ("split", "partition", "subset"),
    "weight": ("weight", "sampleweight"),
    "joined": ("findinglabels", "findings", "labels", "finding", "label", "diagnoses", "diagnosis"),
}  # fmt: skip
_BOX = {
    **{name: TITLES[name] for name in ("image", "patient")},
    **{"finding": ("finding", "findinglabel", "label"), "x": ("x",), "y": ("y",)},
    **{"width": ("width", "w"), "height": ("height", "h")},
}
_NIH = {
    "Follow-up #": "follow_up", "OriginalImage[Width": "width", "Height]": "height",
    "OriginalImagePixelSpacing[x": "spacing_x", "y]": "spacing_y",
}  # fmt: skip
EMPTY = ("", "nan", "na", "n/a", "none", "null")
OTHER = np.inf
_VALUES = {
    **dict.fromkeys(EMPTY, np.nan),
    **dict.fromkeys(("0", "0.0", "false"), 0.0),
    **dict.fromkeys(("1", "1.0", "true"), 1.0),
    **dict.fromkeys(("-1", "-1.0"), -1.0),
}
_UNCERTAIN = {"positive": 1.0, "negative": 0.0, "missing": np.nan}
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
    keys = {re.sub("[^a-z]", "", title.lower()): title for title in read.frame.columns[::-1]}
    titles = {name: next(filter(keys.get, known), None) for name, known in _BOX.items()}
    missing = [name for name, key in titles.items() if key is None and name != "patient"]
    if missing:
        raise ValueError(
            f"Expected columns image, finding, x, y, width and height in {path}, found no "
            f"{' and no '.join(missing)} among {brief(list(read.frame.columns))}."
        )
    out = {name: read.frame[keys[key]].str.strip() for name, key in titles.items() if key}
    for name in ("image", "finding"):
        read.refuse(out[name] == "", keys[titles[name]], "a name")
    for name in ("x", "y", "width", "height"):
        rule = number(0, above=name in ("width", "height"))
        out[name] = numbers(out[name])
        read.refuse(~rule.good(out[name]), keys[titles[name]], rule.expected)
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
    if uncertain not in (None, *_UNCERTAIN):
        raise ValueError(f"Expected uncertain of {tuple(_UNCERTAIN)}, got {uncertain!r}.")
    read = own_table(path, "labels", "Correct it.")
    frame = read.frame = read.frame.loc[:, read.frame.columns.str.strip() != ""]
    frame.columns = frame.columns.str.strip()
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"Expected each column once in {path}, got {brief(twice)} twice.")
    keys = {re.sub("[^a-z]", "", title.lower()): title for title in frame.columns[::-1]}
    known = {
        name: keys[next(key for key in titles if key in keys)]
        for name, titles in TITLES.items()
        if not keys.keys().isdisjoint(titles)
    }
    if "image" not in known:
        raise ValueError(
            f"Expected a column of films in {path}, titled {', '.join(TITLES['image'])}; found "
            f"columns {brief(list(frame.columns))}. Give it such a title."
        )
    joined = known.pop("joined", None)
    others = [title for title in frame.columns if title not in known.values()]
    values = {title: _values(frame[title]) for title in others}
    if joined and not (values[joined] == OTHER).any():
        joined = None  # a finding of this name, or an empty column
    titles: dict[str, str] = {}
    for title in others:
        first = titles.setdefault(own_name(title), title)
        if first != title:
            raise ValueError(
                f"Expected one column for {brief(own_name(title))} in {path}, got {brief(first)} "
                f"and {brief(title)}."
            )
    names = None if findings is None else tuple(own_name(name) for name in findings)
    if names and titles.keys() >= set(names):
        joined = None
    out = _described(read, known)
    if joined:
        found, names = _joined(read, joined, names, separator)
    else:
        found = _columns(read, titles, values, names, uncertain)
        names = tuple(found)
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"Expected findings, each once, for {path}, got {brief(list(names))}.")
    taken = {joined} if joined else {titles[name] for name in names}
    rest = {t if t not in {*out, *found} else f"{t} (text)": t for t in others if t not in taken}
    out |= found | {name: frame[title].str.strip() for name, title in rest.items()}
    for title, name in _NIH.items():
        if title in out:
            out[name] = numbers(out.pop(title))
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    log.info("%s films, %s findings (%s) in %s", len(frame), len(names), shown, path)
    return pd.DataFrame(out), names


def _described(read: CheckedTable, known: dict[str, str]) -> dict[str, pd.Series]:
    """Return the film of each row, its patient, and what else is said of it."""
    text = {name: read.frame[title].str.strip() for name, title in known.items()}
    image = text["image"].map(original)
    read.refuse(image == "", known["image"], "a film's name or path")
    read.refuse(image.duplicated(), known["image"], "no image twice")
    patient = text.get("patient", image.str.extract(_PATIENT, expand=False)).fillna("")
    patient = patient.map(original).where(patient != "", "film " + image)
    out = {"image": image, "patient": patient} | {
        name: text[name] for name in ("age", "sex", "view", "split", "weight") if name in text
    }
    if "age" in out:  # DICOM writes 057Y
        years = out["age"].str.replace(r"^0*(\d+)Y$", r"\1", regex=True)
        bad = ~(numbers(years) >= 0) & ~years.str.lower().isin(EMPTY)
        read.refuse(bad, known["age"], "an age in years, or nothing")
        out["age"] = numbers(years)
    if "sex" in out:
        out["sex"] = out["sex"].str.lower().map(_SEXES).fillna(out["sex"])
    if "weight" in out:
        out["weight"] = numbers(out["weight"])
        bad = ~((out["weight"] >= 0) & np.isfinite(out["weight"]))
        read.refuse(bad, known["weight"], "a weight of at least 0")
    return out


def _values(column: pd.Series) -> np.ndarray:
    """Return 0, 1, -1 and NaN as they are written, and OTHER for what is none of these."""
    codes, texts = pd.factorize(column.str.strip().str.lower().str.replace(",", "."))
    return np.array([_VALUES.get(text, OTHER) for text in texts])[codes]


def _columns(
    read: CheckedTable,
    titles: dict[str, str],
    values: dict[str, np.ndarray],
    names: tuple[str, ...] | None,
    uncertain: str | None,
) -> dict[str, np.ndarray]:
    """Return the findings that are columns of 0, 1 and nothing, or of those that are asked for."""
    missing = [name for name in names or () if name not in titles]
    if missing:
        raise ValueError(
            f"Expected findings {brief(missing)} as columns of {read.path}, found columns "
            f"{brief(list(titles.values()))}. Give the findings as the file has them."
        )
    found = {}
    for name in names or titles:
        title = titles[name]
        value, asked = values[title], f"0, 1 or nothing for the finding {name!r}"
        some = np.isin(value, (0, 1, -1)).sum()
        # One that a wrong value spoils is no other column: it would be lost without a word.
        if names is None and (
            not some or some < 0.9 * (~np.isnan(value)).sum() or name == own_name(NO_FINDING)
        ):
            continue
        if names is None and OTHER in value:
            asked += " (or name the findings: findings=)"
        read.refuse(value == OTHER, title, asked)
        if uncertain is None:
            asked += ' (or uncertain="positive", "negative" or "missing" for -1)'
            read.refuse(value == -1, title, asked)
        value = np.where(value == -1, _UNCERTAIN.get(uncertain, np.nan), value)
        if np.isnan(value).all():
            if names is None:
                continue
            raise ValueError(f"Expected some 0 or 1 in {read.path}, column {title!r}, got none.")
        found[name] = value if np.isnan(value).any() else value == 1
    if not found:
        raise ValueError(
            f"Expected findings in {read.path}: columns of 0, 1 or nothing, or one of names titled "
            f"{', '.join(TITLES['joined'])}; found columns {brief(list(titles.values()))}."
        )
    return found


def _joined(
    read: CheckedTable, title: str, names: tuple[str, ...] | None, separator: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return the findings that one column names, and whether it says that there is none."""
    codes, cells = pd.factorize(read.frame[title].str.strip())
    said = [_said(cell, separator) if cell.lower() not in EMPTY else None for cell in cells]
    alone = [bool(s) and NO_FINDING in s and len(s) > 1 for s in said]
    read.refuse(np.array(alone)[codes], title, f"{NO_FINDING!r} alone")
    there = set().union(*(s for s in said if s)) - {NO_FINDING}
    if names is None:
        names = tuple(sorted(there))
        if there <= set(FINDINGS) and there:
            names = FINDINGS
        if len(names) > MAX_NAMES:
            raise ValueError(
                f"Expected at most {MAX_NAMES:,} findings in {read.path}, column {title!r}, got "
                f"{len(names):,}, such as {brief(names[0])}. Name them (findings=), or give what "
                "joins names (separator=)."
            )
    if absent := set(names) - there:
        log.warning("No film in %s has: %s", read.path, ", ".join(sorted(absent)))
    empty = np.array([s is None for s in said])
    if empty[codes].any():
        text = "%s films in %s have nothing in %s: not known. %r is how a film without any is told"
        log.warning(text, f"{empty[codes].sum():,}", read.path, title, NO_FINDING)
    table = {name: np.array([name in (s or ()) for s in said]) for name in names}
    table = {n: (np.where(empty, np.nan, v) if empty.any() else v)[codes] for n, v in table.items()}
    none = np.array([s is not None and not s - {NO_FINDING} for s in said])[codes]
    return table | {"no_finding": none}, names


def _said(text: str, separator: str) -> set[str]:
    """Return the findings that a text such as ``Mass|Nodule`` or ``['mass', 'nodule']`` names."""
    parts = text.split(separator)
    if text.startswith("[") and text.endswith("]"):
        try:
            parts = [str(part) for part in ast.literal_eval(text)]
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            parts = text[1:-1].split(",")
    names = {own_name(part) for part in parts if part.strip()}
    return {NO_FINDING if name.lower() == NO_FINDING.lower() else name for name in names}


def _positive(text: str) -> list[bool]:
    """Turn a text such as ``Mass|Nodule`` into 14 findings and whether there is none."""
    names = [name if name == NO_FINDING else normalise(name) for name in text.split("|")]
    if len(set(names)) < len(names):
        raise ValueError("no label twice")
    if NO_FINDING in names and len(names) > 1:
        raise ValueError(f"{NO_FINDING!r} has to stand alone")
    return [name in names for name in (*FINDINGS, NO_FINDING)]
