"""The localisation table: means over cases, with intervals by patient and gains over controls."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.metrics.estimates import UndefinedWarning, wilson_interval
from chexlib.metrics.resampling import RESAMPLES, Bootstrap, Resamples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

__all__ = ["METRICS", "localization_table", "verdicts"]

ALL = "mean of findings"
_IOBB, _IOU = (0.1, 0.25, 0.5), (0.1, 0.3, 0.5)

METRICS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "hit": lambda scores: scores["hit"],
    "energy": lambda scores: scores["energy"],
    "overlap": lambda scores: scores["overlap"],
    "iou_area": lambda scores: scores["iou_area"],
    "iou_best": lambda scores: scores["iou_best"],
    **{f"IoBB > {t:g}": lambda scores, t=t: scores["iobb_wang"] > t for t in _IOBB},
    **{f"IoU > {t:g}": lambda scores, t=t: scores["iou_wang"] > t for t in _IOU},
    "IoU > 0.3, Otsu": lambda scores: scores["iou_otsu"] > 0.3,
    "boxes": lambda scores: scores["boxes_wang"],
}
"""What the table reports: a value of each case, by name; shares are means of 0 and 1."""


def localization_table(
    scores: Mapping[str, pd.DataFrame],
    *,
    by: str = "finding",
    metrics: Mapping[str, Callable[[pd.DataFrame], pd.Series]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return mean scores of a map and of its controls, and what the map adds to each of them.

    Parameters
    ----------
    scores : mapping of name to DataFrame
        Of :func:`chexlib.interpret.score_cases`, all on the same cases. The first is the map that
        is judged; the rest are controls or other methods.
    by : str
        Column of the scores that splits the cases: findings, or one you add, such as sizes.
    metrics : mapping of name to callable, optional
        From scores to a value for each case, a whole number or one in [0, 1]; :data:`METRICS` by
        default.
    resamples, seed, level
        Of the bootstrap by patient, and the confidence of its intervals.

    Returns
    -------
    DataFrame
        ``source`` (name of the map or control), ``group`` (of ``by``; then "mean of findings", or
        of whatever splits them, each counting alike), ``metric``, ``n_cases``, ``n_patients``,
        ``estimate``, ``low``, ``high``; and ``gain``, ``gain_low``, ``gain_high``: the first
        source minus this one, paired. ``p_adjusted`` is of no gain, adjusted for the number of
        groups (:meth:`chexlib.metrics.Bootstrap.p_adjusted`); that of the mean is a single test and
        is not. Intervals are NaN where fewer than two patients are; of the mean, where that is so
        in a group. Where resampling cannot move a mean, since all cases have 0 or all have 1, its
        interval is Wilson's with patients as trials; that of a gain is NaN.

    Raises
    ------
    ValueError
        If there are no scores, or not of the same cases.
    """
    metrics = METRICS if metrics is None else metrics
    frames = list(scores.values())
    if not frames or any(
        not f[["image", "finding"]].equals(frames[0][["image", "finding"]]) for f in frames
    ):
        raise ValueError("Expected scores of the same cases, in the same order, got others.")
    first = frames[0]
    draws = Resamples(first["patient"], resamples=resamples, seed=seed)
    groups = {
        str(key): part for key, part in first.groupby(by, sort=False, observed=True).indices.items()
    }
    counts = [(len(rows), first["patient"].iloc[rows].nunique()) for rows in groups.values()]
    columns = {name: [np.asarray(of(f)) for of in metrics.values()] for name, f in scores.items()}
    found = {
        name: _means(np.stack(values, 1).astype(float), groups, draws)
        for name, values in columns.items()
    }
    share = [values.dtype.kind in "bf" for values in next(iter(columns.values()))]
    enough = np.array([patients > 1 for _, patients in counts])
    lines = [*groups, ALL if by == "finding" else f"mean of {by}"]
    sizes = [*counts, (len(first), first["patient"].nunique())]
    judged = next(iter(found.values()))
    rows = []
    for name, one in found.items():
        gain = judged - one
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedWarning)  # NaN in the table says it
            ends, gain_ends = one.interval(level=level), gain.interval(level=level)
        judgeable = np.append(enough, enough.all())[:, None]
        gain = replace(gain, replicates=np.where(judgeable, gain.replicates, np.nan))
        p = np.stack([gain[:-1, m].p_adjusted() for m in range(len(metrics))], 1)
        p = np.vstack([p, gain[-1].p_value()])
        for g, (group, size) in enumerate(zip(lines, sizes, strict=True)):
            sure = enough[g] if g < len(groups) else enough.all()
            for m, metric in enumerate(metrics):
                at = (g, m)
                values = [one.estimate[at], *(end[at] if sure else np.nan for end in ends)]
                if sure and np.isnan(values[1]) and share[m] and values[0] in (0, 1):
                    values[1:] = wilson_interval(values[0], size[1], level=level)
                if one is not judged:
                    values += [gain.estimate[at]]
                    values += [end[at] if sure else np.nan for end in gain_ends]
                    values += [p[at]]
                else:
                    values += [np.nan] * 4
                rows.append((name, group, metric, *size, *values))
    columns = ["source", "group", "metric", "n_cases", "n_patients", "estimate", "low"]
    columns += ["high", "gain", "gain_low", "gain_high", "p_adjusted"]
    return pd.DataFrame(rows, columns=columns)


def _means(values: NDArray, groups: Mapping[str, NDArray], draws: Resamples) -> Bootstrap:
    """Return means of columns [M, K] in each group and over groups, [G + 1, K]."""
    estimates, replicates = [], []
    ones = np.ones((len(values), 1))
    for rows in groups.values():
        estimates.append(values[rows].mean(axis=0))
        sums = draws.select(rows).sums(np.hstack([values, ones])[rows])
        with np.errstate(invalid="ignore", divide="ignore"):
            replicates.append(sums[:, :-1] / sums[:, -1:])
    estimates.append(np.mean(estimates, axis=0))
    # NaN where a resample has no case of a group: it has no mean of all groups either.
    replicates.append(np.mean(replicates, axis=0))
    return Bootstrap(np.array(estimates), np.stack(replicates, axis=1), draws)


def verdicts(scores: pd.DataFrame, called: NDArray[np.bool_] | pd.Series) -> pd.Series:
    """Return what became of each case: the three pictures of a heat map, counted not picked.

    Parameters
    ----------
    scores : DataFrame
        Of :func:`chexlib.interpret.score_cases`, with the cut 180.
    called : array_like of bool [M]
        Whether the network calls the finding, at the threshold in use.

    Returns
    -------
    Series of str
        "missed": not called. Of those called, "on the lesion": the hottest pixel is in a box;
        "off-centre": it is not, but a box drawn at 180 of 255 touches a true one; "elsewhere".
    """
    called = np.asarray(called, bool)
    if len(called) != len(scores):
        raise ValueError(f"Expected a call for each of {len(scores)} cases, got {len(called)}.")
    where = np.where(scores["iou_180"] > 0, "off-centre", "elsewhere")
    where = np.where(scores["hit"] >= 0.5, "on the lesion", where)
    return pd.Series(np.where(called, where, "missed"), index=scores.index, name="verdict")
