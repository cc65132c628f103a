"""Any metric by sex, view, age or whatever else, against the films outside each group.

Films of one patient can fall in several groups (a PA and an AP film), so groups are not
independent: all are resampled by one and the same draw of patients. Looking at many groups finds
differences by chance; the table says how many were looked at and adjusts for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from chexlib.metrics.inputs import OneClassWarning, UndefinedWarning, check_films
from chexlib.metrics.ranking import auroc
from chexlib.metrics.resampling import RESAMPLES, Bootstrap, Resamples, draws_of, resampled

_DIFFERENCE = ("difference", "difference_low", "difference_high")
_COLUMNS = "attribute group finding n_films n_patients n_positive estimate low high difference "
_COLUMNS += "difference_low difference_high p p_adjusted comparisons"


def age_band(age: ArrayLike) -> pd.Categorical:
    """Return the age band of each film, in whole years: 0-17, 18-39, 40-59, 60-79, 80+.

    Parameters
    ----------
    age : array_like [N]
        Years, at least 0; a missing age, NaN, is in no band.

    Examples
    --------
    >>> list(age_band([17, 18, 95]))
    ['0-17', '18-39', '80+']
    """
    age = np.asarray(age, dtype=float)
    if (age < 0).any():
        raise ValueError(f"Expected ages of at least 0, got {np.nanmin(age):g}.")
    names = ["0-17", "18-39", "40-59", "60-79", "80+"]
    return pd.cut(age, [0, 18, 40, 60, 80, np.inf], right=False, labels=names)


def by_subgroup(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: pd.DataFrame | Mapping[str, ArrayLike],
    *,
    metric: Callable[..., ArrayLike] = auroc,
    patient: ArrayLike | Resamples | None = None,
    sample_weight: ArrayLike | None = None,
    at_least: int = 10,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a metric in each group of films, and its difference from the films outside the group.

    Parameters
    ----------
    labels, scores : array_like [N] or [N, F]
        Tables give their column names to the rows. A film whose label is NaN is left out of that
        finding.
    groups : DataFrame or mapping of str to array_like [N]
        Attributes such as ``{"sex": …, "view": …}``. Films with a missing value are in no group of
        that attribute, and not outside one either.
    metric : callable
        ``metric(labels, scores, sample_weight=…)``; :func:`~chexlib.metrics.auroc` and
        :func:`~chexlib.metrics.average_precision` are fast.
    patient, sample_weight, level, resamples, seed
        Patients are resampled; left out, films are.
    at_least : int
        Patients with the finding, and patients without, that a group must have to get an interval
        and be compared; below that, resampling promises more than it can keep.

    Returns
    -------
    DataFrame
        A row for each attribute, group and finding, none where there is no group: ``attribute
        group finding n_films n_patients n_positive estimate low high difference difference_low
        difference_high p p_adjusted comparisons``. ``difference`` is the group's figure less that
        of the films outside; of an attribute with two groups, only the first row has it, since the
        second says the same again.
        ``p`` and interval agree; ``p_adjusted`` is for all ``comparisons`` of the table
        (:meth:`~chexlib.metrics.Bootstrap.p_adjusted`). An attribute with one group has no
        difference. Average precision rises with prevalence: differences in it are no
        differences in quality where groups differ in prevalence.

    Raises
    ------
    ValueError
        If lengths differ.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels, sex = rng.random(400) < 0.5, rng.choice(["F", "M"], 400)
    >>> found = by_subgroup(labels, labels + rng.normal(size=400), {"sex": sex}, resamples=200)
    >>> found[["group", "n_films", "comparisons"]]
      group  n_films  comparisons
    0     F      195            1
    1     M      205            1
    """
    films = check_films(labels, scores, sample_weight=sample_weight, unknown=True)
    n, given = len(films.kept), np.where(films.known, films.labels, np.nan)
    draws = draws_of(films.kept, patient, resamples=resamples, seed=seed)

    def on(inside: NDArray[np.bool_]) -> tuple[Bootstrap, NDArray[np.bool_]]:
        """Resample some films; also say for which findings they are enough."""
        weight = None if films.weight is None else films.weight[inside]
        y, s, who = given[inside], films.scores[inside], draws.select(inside)
        enough = np.minimum(*(_patients(who, kind) for kind in (y == 1, y == 0))) >= at_least
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OneClassWarning)  # a NaN in the table says it
            return resampled(metric, y, s, who, sample_weight=weight), enough

    rows, gaps = [], []
    for attribute, column in dict(groups).items():
        values = pd.Categorical(column)
        if len(values) != n:
            raise ValueError(f"Expected {attribute} of {n} films, got {len(values)} values.")
        values = values[films.kept]
        present = [k for k in range(len(values.categories)) if (values.codes == k).any()]
        others = None
        for number, k in enumerate(present):
            inside, outside = values.codes == k, (values.codes != k) & (values.codes >= 0)
            # Of two groups, what is outside one is the other.
            found, enough = others if others and len(present) == 2 else on(inside)
            row = {
                "attribute": attribute,
                "group": str(values.categories[k]),
                "finding": films.names,
                "n_films": films.known[inside].sum(axis=0),
                "n_patients": _patients(draws.select(inside), films.known[inside]),
                "n_positive": films.labels[inside].sum(axis=0),
                "estimate": found.estimate,
            }
            row["low"], row["high"] = _ends(found, enough, level)
            row |= dict.fromkeys(_DIFFERENCE, np.nan)
            replicates = np.full((len(draws), len(films.names)), np.nan)
            if len(present) > 2 or (len(present) == 2 and number == 0):
                others = on(outside)
                gap, both = found - others[0], enough & others[1]
                figures = np.where(both, gap.estimate, np.nan), *_ends(gap, both, level)
                row |= dict(zip(_DIFFERENCE, figures, strict=True))
                replicates[:, both] = gap.replicates.reshape(replicates.shape)[:, both]
            rows.append(pd.DataFrame(row))
            gaps.append(replicates)
    if not rows:
        return pd.DataFrame(columns=_COLUMNS.split())
    table = pd.concat(rows, ignore_index=True)
    together = Bootstrap(table["difference"].to_numpy(), np.hstack(gaps), draws)
    table["p"], table["p_adjusted"] = together.p_value(), together.p_adjusted()
    return table.assign(comparisons=int(table["p"].notna().sum()))


def _patients(draws: Resamples, films: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return how many patients have some of the films [N, F]."""
    return np.array([np.count_nonzero(np.bincount(draws.code[column])) for column in films.T])


def _ends(found: Bootstrap, enough: NDArray[np.bool_], level: float) -> list[NDArray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedWarning)  # a NaN in the table says it
        return [np.where(enough, end, np.nan) for end in found.interval(level=level)]
