"""What every metric asks of its input: labels of 0 and 1, finite scores, rows that match."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


class UndefinedWarning(UserWarning):
    """A figure has no value on these films, such as the PPV of a label that no film has."""


class OneClassWarning(UndefinedWarning):
    """A finding is on no film or on every film, so a figure that needs both kinds is NaN."""


class Films(NamedTuple):
    """Checked input, always with a column a finding.

    ``labels`` bool and ``scores`` float, both ``[N, F]``; ``weight`` float ``[N]``, above 0, or
    None; ``single`` whether the caller gave one finding as ``[N]``; ``names`` of the columns;
    ``kept`` bool ``[N]``, which of the films given are here: those of weight 0 are left out;
    ``known`` bool ``[N, F]``, where there is a label: where not, ``labels`` is False.
    """

    labels: NDArray[np.bool_]
    scores: NDArray[np.float64]
    weight: NDArray[np.float64] | None
    single: bool
    names: tuple[str, ...]
    kept: NDArray[np.bool_]
    known: NDArray[np.bool_]

    @property
    def mass(self) -> NDArray[np.float64]:
        """What each film ``[N]`` counts: its weight, or 1."""
        return np.ones(len(self.labels)) if self.weight is None else self.weight

    def patients(self, patient: ArrayLike | None) -> NDArray[np.intp]:
        """Return the number of each film's patient, of patients given for all films [N].

        Without patients, each film is its own.
        """
        n = len(self.kept)
        code = np.arange(n) if patient is None else check_patients(patient, n)
        return code if self.kept.all() else np.unique(code[self.kept], return_inverse=True)[1]

    def squeeze(self, values: NDArray) -> NDArray | float:
        """Give back one number for one finding, an array ``[..., F]`` for several."""
        if not self.single:
            return values
        one = values[..., 0]
        return float(one) if one.ndim == 0 else one


def check_films(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    probabilities: bool = False,
    one_finding: bool = False,
    both_classes: bool = False,
    unknown: bool = False,
) -> Films:
    """Check labels and scores and bring them to ``[N, F]``.

    A column of one is used with every column of the other: one label set with several scores, or
    several label sets with one score.

    Parameters
    ----------
    labels : array_like [N] or [N, F]
        bool, or numbers that are 0 or 1: whether the film has the finding.
    scores : array_like [N] or [N, F]
        Larger where the finding is likelier.
    sample_weight : array_like [N], optional
        Finite, at least 0. Films of weight 0 are left out.
    probabilities : bool
        Whether scores must lie in [0, 1].
    one_finding, both_classes : bool
        Whether there must be one finding, and films with and without a finding.
    unknown : bool
        Whether a label may be NaN: nobody knows it. Who asks must leave such films out of that
        finding.

    Raises
    ------
    ValueError
        If shapes do not fit, a label is not 0 or 1, a score is not finite or (where asked) not in
        [0, 1], or both are tables whose rows or columns have different names.
    """
    _check_names(labels, scores)
    tables = [x for x in (labels, scores) if isinstance(x, pd.DataFrame)]
    names = tuple(map(str, tables[0].columns)) if tables else ()
    y, s = np.asarray(labels), np.asarray(scores)
    single = y.ndim == 1 and s.ndim == 1
    if one_finding and not single:
        raise ValueError("Expected one finding, got several. Call this once for each column.")
    for name, x in (("labels", y), ("scores", s)):
        if x.ndim not in (1, 2) or (x.ndim == 2 and not x.shape[1]):
            raise ValueError(f"Expected {name} of shape [N] or [N, F], got shape {x.shape}.")
    y, s = (x[:, None] if x.ndim == 1 else x for x in (y, s))
    if len(y) != len(s):
        raise ValueError(f"Expected a score for each label, got {len(y)} labels, {len(s)} scores.")
    if not len(y):
        raise ValueError("Expected at least one film, got none.")
    if y.shape[1] != s.shape[1] and 1 not in (y.shape[1], s.shape[1]):
        raise ValueError(
            f"Expected as many columns of labels as of scores, got {y.shape[1]} and {s.shape[1]}."
        )
    known = np.ones(y.shape, dtype=bool)
    if unknown and y.dtype.kind in "fO":
        known = ~pd.isna(y)
        y = np.where(known, y, 0)
    y = as_bool("labels", y, "The order of arguments is labels, then scores.")
    s = _as_scores(s, probabilities=probabilities)
    n_findings = max(y.shape[1], s.shape[1])
    y, s, known = (np.broadcast_to(x, (len(x), n_findings)) for x in (y, s, known))
    if len(names) != n_findings:
        names = ("",) if single else tuple(f"column {column}" for column in range(n_findings))
    weight, kept = None, np.ones(len(y), dtype=bool)
    if sample_weight is not None:
        weight = check_weight(sample_weight, len(y))
        kept = weight > 0
        if not kept.all():
            y, s, known, weight = (x[kept] for x in (y, s, known, weight))
    if both_classes and (not y.any() or y.all()):
        raise ValueError("Expected films of both classes, got one. Use films of both.")
    return Films(y, s, weight, single, names, kept, known)


def check_patients(patient: ArrayLike, n: int | None = None) -> NDArray[np.intp]:
    """Return patients as numbers from 0, in the order in which they sort.

    Parameters
    ----------
    patient : array_like [N]
        The patient of each film: numbers or text.
    n : int, optional
        How many films there are.

    Raises
    ------
    ValueError
        If there is not one patient for each film, or a patient is missing: None, NaN, NA or NaT.
        Films of nobody in particular are not films of one patient.
    """
    # As objects: in an array of text, NumPy would turn a missing patient into one called "nan".
    values = np.asarray(patient if hasattr(patient, "dtype") else np.array(patient, dtype=object))
    if values.ndim != 1 or not len(values) or (n is not None and len(values) != n):
        each = "each film" if n is None else f"each of {n} films"
        raise ValueError(f"Expected a patient for {each}, got shape {values.shape}.")
    code, _ = pd.factorize(values, sort=True)
    if (code < 0).any():
        row = int(np.argmax(code < 0))
        raise ValueError(
            f"Expected a patient for each film, got a missing one ({values[row]}) in row {row}. "
            "Drop or name those films."
        )
    return code


def check_weight(sample_weight: ArrayLike, n: int) -> NDArray[np.float64]:
    """Return weights as float ``[N]``; refuse negative, missing, or all-zero ones."""
    weight = np.asarray(sample_weight, dtype=float)
    if weight.shape != (n,):
        raise ValueError(f"Expected a weight for each of {n} films, got shape {weight.shape}.")
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError("Expected finite weights of at least 0, one above 0, got others.")
    return weight


def check_share(name: str, values: ArrayLike, *, strict: bool = False) -> NDArray[np.float64]:
    """Return values as float; refuse what is not between 0 and 1 (strictly: what is 0 or 1)."""
    values = np.asarray(values, dtype=float)
    inside = (values > 0) & (values < 1) if strict else (values >= 0) & (values <= 1)
    if not inside.all():
        where = "strictly between" if strict else "between"
        raise ValueError(f"Expected {name} {where} 0 and 1, got {values[~inside].ravel()[0]}.")
    return values


def from_counts(
    scores: ArrayLike, *, positive: ArrayLike, negative: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Turn a table of scores and counts into one row a film.

    Areas and thresholds take counts as ``sample_weight``; intervals need to know how many films
    there are, and get it this way. The films count as independent: who the patients were is lost.

    Parameters
    ----------
    scores : array_like [K]
    positive, negative : array_like [K] of int
        Films with and without the finding at each score.

    Returns
    -------
    labels, scores : ndarray [N]
        N films.

    Examples
    --------
    >>> from_counts([0.1, 0.9], positive=[0, 2], negative=[1, 1])
    (array([False, False,  True,  True]), array([0.1, 0.9, 0.9, 0.9]))
    """
    scores, positive, negative = (np.asarray(x, dtype=float) for x in (scores, positive, negative))
    if not scores.shape == positive.shape == negative.shape or scores.ndim != 1:
        raise ValueError(
            "Expected scores and two counts of one length, got shapes "
            f"{scores.shape}, {positive.shape} and {negative.shape}."
        )
    counts = np.stack([negative, positive], axis=1).ravel()
    if not (np.isfinite(counts).all() and (counts >= 0).all() and (counts % 1 == 0).all()):
        raise ValueError("Expected whole counts of at least 0, got others.")
    counts = counts.astype(int)
    labels = np.tile([False, True], len(scores))
    return np.repeat(labels, counts), np.repeat(np.repeat(scores, 2), counts)


def warn_one_class(name: str, films: Films, undefined: NDArray[np.bool_]) -> None:
    """Warn which of the findings have no value for want of a second class."""
    if not undefined.any():
        return
    which = ", ".join(n for n, bad in zip(films.names, undefined, strict=True) if bad)
    warnings.warn(
        f"{name} is undefined{' for ' + which if which else ''}: every film is of one class.",
        OneClassWarning,
        stacklevel=3,
    )


def as_bool(name: str, values: NDArray, do: str) -> NDArray[np.bool_]:
    """Return labels as bool; refuse what is not 0 or 1, saying what to do."""
    if values.dtype == bool:
        return values
    given = values.ravel().tolist()
    if values.dtype.kind == "O":  # a table of several types, such as a label table's own columns
        values = _numbers(name, values)
    if values.dtype.kind not in "iuf" or not ((values == 0) | (values == 1)).all():
        odd = next((v for v in given if v not in (0, 1)), values.dtype)
        raise ValueError(
            f"Expected {name} of bool, or of numbers that are 0 or 1, got {odd!r}. {do}"
        )
    return values.astype(bool)


def _check_names(labels: object, scores: object) -> None:
    """Refuse two tables whose rows or columns do not correspond: arrays cannot tell, tables can."""
    if not all(isinstance(x, pd.DataFrame | pd.Series) for x in (labels, scores)):
        return
    align = "Align them by image name; if rows do correspond, pass .to_numpy()."
    axes = [("row", labels.index, scores.index, align)]
    if labels.ndim == scores.ndim == 2 and labels.shape[1] > 1:
        select = "Select both by one list of names."
        axes.insert(0, ("column", labels.columns, scores.columns, select))
    for axis, one, other, do in axes:
        if len(one) == len(other) and not one.equals(other):
            k = int(np.argmax(one.to_numpy() != other.to_numpy()))
            raise ValueError(
                f"Expected {axis}s of labels and scores to be named alike and in one order, got "
                f"{one[k]!r} against {other[k]!r} in {axis} {k}. {do}"
            )


def _as_scores(values: NDArray, *, probabilities: bool) -> NDArray[np.float64]:
    values = _numbers("scores", values)
    for bad, what, do in (
        (~np.isfinite(values), "finite scores", "Leave such films out of every array first."),
        (
            (values < 0) | (values > 1) if probabilities else np.array(False),
            "probabilities between 0 and 1",
            "If these are logits, apply a sigmoid first.",
        ),
    ):
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"Expected {what}, got {values[row, column]} in row {row}, column {column}. {do}"
            )
    return values


def _numbers(name: str, values: NDArray) -> NDArray[np.float64]:
    # Text that spells a number is a column read wrongly; NumPy would convert it in silence.
    text = values.dtype.kind == "O" and any(isinstance(value, str) for value in values.ravel())
    if values.dtype.kind in "biufO" and not text:
        try:
            return values.astype(float)
        except (TypeError, ValueError):
            pass
    odd = "text" if text or values.dtype.kind in "US" else values.dtype
    raise ValueError(f"Expected {name} to be numbers, got {odd}.")
