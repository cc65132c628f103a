"""Splits into train, validation and test: always whole patients.

Films of one patient resemble one another, so a split by film lets a network recognise test
patients. Every split here keeps a patient's films together, and
:func:`assert_no_patient_overlap` proves it of any other.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.files import data_home
from chexlib.findings import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHEXNET_FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}
"""The fractions of the CheXNet paper; its lists were never released."""


def official_split(labels: pd.DataFrame, *, folder: str | Path | None = None) -> pd.Series:
    """Return NIH's official split, ``train_val`` or ``test`` for each row of the label table.

    Parameters
    ----------
    labels : DataFrame
        From :func:`chexlib.data.load_labels`, or some of its rows.
    folder : path, optional
        Holds ``train_val_list.txt`` and ``test_list.txt``, an image name a line. By default
        ``official_split`` under :func:`chexlib.data.data_home`, where ``chexlib fetch split`` puts
        them.

    Returns
    -------
    Series of category, index of ``labels``
        86,524 ``train_val`` and 25,596 ``test`` over the whole table.

    Raises
    ------
    FileNotFoundError
        If the lists are not there.
    ValueError
        If a list has a line twice, both name one film, or a film of ``labels`` is in neither.
    """
    folder = Path(folder) if folder is not None else data_home() / "official_split"
    parts = {}
    for part in ("train_val", "test"):
        path = folder / f"{part}_list.txt"
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected NIH's list at {path}, found none. Run `chexlib fetch split`, or set "
                "CHEXLIB_DATA to the folder that has official_split/."
            )
        parts[part] = pd.Index(path.read_text(encoding="utf-8").split())
    names = parts["train_val"].append(parts["test"])
    if names.has_duplicates:
        film = names[names.duplicated()][0]
        lists = [part for part, films in parts.items() if film in films]
        raise ValueError(
            f"Expected each film once in the lists in {folder}, got {film} twice: in "
            f"{' and '.join(lists)}. Run `chexlib fetch split --force`."
        )
    split = pd.Series(pd.NA, index=labels.index, dtype=pd.CategoricalDtype(list(parts)))
    for part, names in parts.items():
        split[labels["image"].isin(names)] = part
    if split.isna().any():
        film = labels.loc[split.isna(), "image"].iloc[0]
        raise ValueError(
            f"Expected every film in one of the lists in {folder}, got {film} in none."
        )
    return split


def patient_split(
    labels: pd.DataFrame,
    *,
    fractions: Mapping[str, float] = CHEXNET_FRACTIONS,
    seed: int = 0,
    findings: Sequence[str] = FINDINGS,
) -> pd.Series:
    """Split patients at random, keeping each finding's share of patients about equal in every part.

    Iterative stratification (Sechidis et al., ECML PKDD 2011) over properties of a patient: ever
    had each of the findings, and has more films than the median patient.

    Parameters
    ----------
    labels : DataFrame
        Columns ``patient`` and the findings; what is not known of a film is NaN.
    fractions : mapping of part to fraction
        Positive, sums to one. Default: 70/10/20, as in the CheXNet paper.
    seed : int
        The same seed, table and library versions give the same split.
    findings : sequence of str
        The columns to balance.

    Returns
    -------
    Series of category, index of ``labels``
        The part of each film. Fractions are of patients; of films they hold approximately.

    Raises
    ------
    ValueError
        If fractions are not positive or do not sum to one, or there are fewer patients than parts.
    """
    shares = np.array(list(fractions.values()), dtype=float)
    if len(shares) < 2 or not (shares > 0).all() or not np.isclose(shares.sum(), 1):
        raise ValueError(
            f"Expected at least two positive fractions that sum to one, got {dict(fractions)}."
        )
    patients = labels.groupby("patient")[list(findings)].max() == 1
    if len(patients) < len(shares):
        raise ValueError(f"Expected at least {len(shares)} patients, got {len(patients)}.")
    films = labels["patient"].value_counts().reindex(patients.index)
    traits = np.column_stack([patients.to_numpy(), films > films.median()]).astype(int)

    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    dtype = pd.CategoricalDtype(list(fractions))
    part_of = pd.Series(dtype.categories[0], index=patients.index, dtype=dtype)
    rest = np.arange(len(patients))
    # Cut off one part after another; what is left is the first part.
    for position in range(len(shares) - 1, 0, -1):
        share = shares[position] / shares[: position + 1].sum()
        cutter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=share, random_state=seed)
        kept, cut = next(cutter.split(np.zeros((len(rest), 1)), traits[rest]))
        part_of.iloc[rest[cut]] = dtype.categories[position]
        rest = rest[kept]
    return labels["patient"].map(part_of).astype(dtype)


def identity_scores(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Score test films by who is on them, without an image: what a split by film gives away.

    Parameters
    ----------
    train, test : DataFrame
        Columns ``patient`` and the 14 findings.

    Returns
    -------
    ndarray float64 [N, 14]
        The share of the patient's training films with each finding; the share of all training films
        where the patient has none.
    """
    findings = train[list(FINDINGS)]
    known = findings.groupby(train["patient"]).mean()
    return known.reindex(test["patient"]).fillna(findings.mean()).to_numpy()


def assert_no_patient_overlap(**parts: pd.DataFrame | pd.Series) -> None:
    """Raise if two parts share a patient.

    Parameters
    ----------
    **parts : DataFrame with a column ``patient``, or Series of patient numbers
        Two or more, by name.

    Raises
    ------
    ValueError
        Naming the two parts, how many patients they share, and one of them.

    Examples
    --------
    >>> assert_no_patient_overlap(train=pd.Series([1, 1, 2]), test=pd.Series([3]))
    >>> assert_no_patient_overlap(train=pd.Series([1, 1, 2]), test=pd.Series([2]))
    Traceback (most recent call last):
        ...
    ValueError: Expected no patient in two parts, got 1 in both 'train' and 'test', such as 2. ...
    """
    if len(parts) < 2:
        raise ValueError(f"Expected two or more parts, got {len(parts)}.")
    sets = {
        name: set(part["patient"] if isinstance(part, pd.DataFrame) else part)
        for name, part in parts.items()
    }
    for one, other in itertools.combinations(sets, 2):
        shared = sets[one] & sets[other]
        if shared:
            raise ValueError(
                f"Expected no patient in two parts, got {len(shared)} in both {one!r} and "
                f"{other!r}, such as {min(shared)}. Split by patient."
            )
