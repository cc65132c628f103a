"""Scores of eighty networks on real films, and labels that a network corrected.

Neither file ships: the scores are joined by ``data/convert_networks.py``, and the relabelled lists
lie inside a release of another package. Their repositories state no licence, or one that this
project's does not fit, so that figures leave this module and rows do not.
"""

from __future__ import annotations

import bz2
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from chexlib.data.checks import DAMAGED, IMAGE, CheckedTable, number, one_of
from chexlib.data.labels import SEXES
from chexlib.files import brief, data_home
from chexlib.findings import FINDINGS

__all__ = ["LOGITS", "WOMEN_PERCENT", "load_networks", "load_relabelled"]

WOMEN_PERCENT = (0, 25, 50, 100)  # the folders published for 75 are those of 50, byte for byte
LOGITS = (-17.0, 17.0)  # the ends of 16 bits: a probability moves by at most 7e-5
_CODES = ("ate", "car", "eff", "inf", "mas", "nod", "pne", "pnt", "con", "ede", "emp")
_CODES += ("fib", "plt", "her")  # in the order of FINDINGS
_PARTS = ("train", "validation", "test")


def load_networks(
    path: str | Path | None = None, *, women_percent: int | None = None
) -> pd.DataFrame:
    """Return what 80 DenseNet-121 say of 52,011 films of ChestX-ray14, each film out of sample.

    Twenty folds, in each of which four networks were trained on equally many films with 0, 25, 50
    or 100% women and tested on the same films of men and of women. Folds draw their test films
    anew, so a film may be in several, and two folds share training films: they are not independent.

    Parameters
    ----------
    path : path, optional
        Another file in the format of the converted one. By default ``networks/predictions.npz``
        under :func:`chexlib.data.data_home`.
    women_percent : {0, 25, 50, 100}, optional
        Of the training films: these networks alone.

    Returns
    -------
    DataFrame
        A row a film and network: ``image`` (categorical), ``fold`` (0 to 19), ``women_percent``,
        and 14 probabilities, float32. All 1,553,532 rows take about 105 MB, and twice as much while
        they are read.

    Raises
    ------
    FileNotFoundError
        If there is no such file: says how it is made.
    ValueError
        If ``women_percent`` is none of the four, or the file is damaged or is another one.

    References
    ----------
    Larrazabal et al., PNAS 117 (2020) 12592-12594, who published the test lists; the scores were
    published by another group (beepulbharti/Revisiting_CheXnet_GenderBias).
    """
    if women_percent not in (None, *WOMEN_PERCENT):
        raise ValueError(f"Expected women_percent of {WOMEN_PERCENT}, got {women_percent!r}.")
    made = "Make it with `python data/convert_networks.py`, which says what it needs."
    path = _there(path or data_home() / "networks" / "predictions.npz", made)
    kinds = {"image": "u", "fold": "u", "women_percent": "u", "logit": "u", "names": "S"}
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in kinds}
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"Expected arrays {', '.join(kinds)} in {path}, got: {error}. {DAMAGED}"
        ) from error
    rows, names = len(found["image"]), found["names"]
    for name, kind in kinds.items():
        array = found[name]
        shape = {"names": names.shape[:1], "logit": (rows, len(FINDINGS))}.get(name, (rows,))
        if array.dtype.kind != kind or array.shape != shape:
            raise ValueError(
                f"Expected {name} of shape {shape} and kind {kind!r} in {path}, got shape "
                f"{array.shape} and kind {array.dtype.kind!r}. {DAMAGED}"
            )
    listed = CheckedTable(
        path, {"names": IMAGE}, unique="names", frame=pd.DataFrame({"names": names.astype(str)})
    )
    if rows and found["image"].max() >= len(names):
        raise ValueError(
            f"Expected indices below {len(names):,} in {path}, image, got {found['image'].max()}. "
            f"{DAMAGED}"
        )
    who = pd.DataFrame({name: found[name] for name in ("fold", "women_percent")})
    shares = {"fold": number(0, whole=True), "women_percent": one_of(WOMEN_PERCENT)}
    CheckedTable(path, shares, frame=who.astype(int), header=0)
    kept = slice(None) if women_percent is None else who["women_percent"] == women_percent
    low, high = LOGITS
    probability = found["logit"][kept].astype(np.float32)
    probability *= (low - high) / np.iinfo(np.uint16).max
    np.exp(np.subtract(probability, low, out=probability), out=probability)
    np.reciprocal(np.add(probability, 1, out=probability), out=probability)
    out = pd.DataFrame(probability, columns=list(FINDINGS))
    image = pd.Categorical.from_codes(found["image"][kept].astype(np.int32), listed.frame["names"])
    for place, (name, values) in enumerate({"image": image, **who[kept]}.items()):
        out.insert(place, name, np.asarray(values) if name != "image" else values)
    return out


def load_relabelled(path: str | Path | None = None) -> pd.DataFrame:
    """Return CheXNet's own lists, with the labels that a network gave CheXNeXt's training films.

    CheXNeXt (Rajpurkar et al. 2018) trained networks, let them relabel the films that they were
    trained on, and trained again. Here ``train`` and ``validation`` carry those labels and ``test``
    NIH's. Of 25,596 films of NIH's official test part 20,299 are in ``train``.

    Parameters
    ----------
    path : path, optional
        By default ``chexnext/default.json.bz2`` under :func:`chexlib.data.data_home`: the file
        ``mednet/config/classify/data/nih_cxr14/default.json.bz2`` of the wheel ``mednet`` 2.1.0
        (GPL-3.0-or-later), which ``pip download --no-deps mednet==2.1.0`` brings.

    Returns
    -------
    DataFrame
        112,120 rows: ``image``, ``part`` (``train``, ``validation`` or ``test``), ``age`` (years),
        ``sex``, and 14 bool findings.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or is another one: names part, row and value.

    References
    ----------
    Rajpurkar et al., PLoS Medicine 15 (2018) e1002686.
    """
    published = path is None
    wheel = "It is in the wheel of mednet 2.1.0: pip download --no-deps mednet==2.1.0."
    path = _there(path or data_home() / "chexnext" / "default.json.bz2", wheel)
    try:
        with bz2.open(path, "rt", encoding="utf-8") as file:
            parts = json.load(file)
        rows = [(part, *row) for part in _PARTS for row in parts[part]]
        films = pd.DataFrame(rows, columns=["part", "image", "codes", "age", "sex"])
        films["image"] = films["image"].str.removeprefix("images/")
        said = films["codes"].map(set)
    except (KeyError, TypeError, ValueError, AttributeError, OSError, EOFError) as error:
        raise ValueError(
            f"Expected lists {', '.join(_PARTS)} of [image, codes, age, sex] in {path}, got: "
            f"{error}. {DAMAGED}"
        ) from error
    rules = {"image": IMAGE, "age": number(0, whole=True), "sex": one_of(SEXES)}
    table = CheckedTable(
        path, rules, unique="image", rows=112_120 if published else None, frame=films, header=0
    )
    unknown = said.map(lambda codes: brief(sorted(codes.difference(_CODES))))
    table.refuse(unknown != brief([]), "codes", f"codes of {' '.join(_CODES)}")
    for name, code in zip(FINDINGS, _CODES, strict=True):
        films[name] = said.map(lambda codes, code=code: code in codes)
    films["part"] = pd.Categorical(films["part"], categories=_PARTS)
    return films[["image", "part", "age", "sex", *FINDINGS]]


def _there(path: str | Path, advice: str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file at {path}, found none. {advice}")
    return path
