"""Why is my AUROC strange? Mistakes that leave a number and no error, looked for one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from chexlib.metrics import delong

__all__ = ["ADVICE", "cross_auroc", "pitfalls"]

ADVICE = {
    "order": "The columns may stand in another order than their names: each AUROC is then right, "
    "and of another finding. Compare the header with the list that the network was trained on.",
    "reversed": "The more likely, the lower the score: the column may hold the probability of "
    "absence, or the labels may count 0 as present. Turning it round gives 1 - AUROC.",
    "constant": "One value ranks no film above another, and AUROC is 0.5 whatever the network "
    "knows. The column may never have been filled in.",
    "calls": "With two values the ROC curve has one corner, and its AUROC is the mean of "
    "sensitivity and specificity there. Give the score before the threshold.",
    "sigmoid": "The sigmoid of a probability lies between 0.5 and 0.731: it may have been applied "
    "twice. AUROC does not change; thresholds and calibration mean nothing.",
    "no positives": "Without films of both kinds there is no AUROC. If the labels should have the "
    "finding, look for another spelling, such as a space for an underscore: a row that matches "
    "nothing is an easy way to lose a finding.",
    "patients": "A network may know patients that it was trained on, and AUROC is then too high. "
    "Leave their films out, all of them.",
}
"""What each check means for the AUROC, and what to do."""

_SURE = 1e-4  # of p: many columns are looked at together, and order is chosen among them


def pitfalls(
    labels: pd.DataFrame,
    scores: pd.DataFrame,
    patient: ArrayLike,
    *,
    trained_on: ArrayLike | None = None,
) -> pd.DataFrame:
    """Look for what makes an AUROC strange.

    Parameters
    ----------
    labels, scores : DataFrame [N, F]
        The same findings in the same order; scores are probabilities. Labels may be NaN.
    patient : array_like [N]
        The patient of each film.
    trained_on : array_like, optional
        Patients that the network was trained on. Left out, no overlap is looked for.

    Returns
    -------
    DataFrame
        A row for each thing that was seen: ``check`` (a key of :data:`ADVICE`), ``column`` (a
        finding, or ``all``), ``seen`` (in words and figures) and ``advice``. Empty where nothing
        was.

    Notes
    -----
    Order: findings and columns are paired so that the AUROCs lie as far from 0.5 as they can
    (Kuhn, Naval Research Logistics Quarterly 2 (1955) 83-97). A finding is named where the paired
    column ranks its films better than its own does, at p < 0.0001 by DeLong's test, by patient.
    """
    rows = list(_of_columns(labels, scores))
    odd = {column for check, column, _ in rows if check in ("constant", "no positives")}
    rows += _of_order(labels, scores, patient, odd)
    if trained_on is not None:
        patient = np.asarray(patient)
        known = np.isin(patient, np.asarray(trained_on))
        if known.any():
            n, of = len(np.unique(patient[known])), len(np.unique(patient))
            seen = f"{n:,} of {of:,} patients ({known.sum():,} films) are in the list of training"
            rows.append(("patients", "all", seen))
    found = pd.DataFrame(rows, columns=["check", "column", "seen"])
    return found.assign(advice=found["check"].map(ADVICE))


def cross_auroc(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Return the AUROC of each column of scores against each finding, ``[columns, findings]``.

    A film whose label is NaN is left out of that finding; NaN where a finding is on no film or on
    all.

    Examples
    --------
    >>> cross_auroc([[0, 1], [1, 0], [1, 0]], [[0.1, 0.9], [0.7, 0.5], [0.8, 0.5]])
    array([[1., 0.],
           [0., 1.]])
    """
    y, scores = np.asarray(labels, dtype=float), np.asarray(scores)
    area = np.empty((scores.shape[1], y.shape[1]))
    # Findings that are known of the same films share the ranks.
    masks, mask = np.unique(~np.isnan(y), axis=1, return_inverse=True)
    for m, known in enumerate(masks.T):
        here = y[np.ix_(known, mask == m)]
        n = here.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            wins = rankdata(scores[known], axis=0).T @ here - n * (n + 1) / 2
            area[:, mask == m] = wins / (n * (len(here) - n))
    return area


def _of_columns(labels: pd.DataFrame, scores: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    for name in labels.columns:
        values, n, of = np.unique(scores[name]), int(labels[name].sum()), labels[name].count()
        if n in (0, of):
            yield "no positives", name, f"{n:,} of {of:,} films have the finding"
        if len(values) == 1:
            yield "constant", name, f"every film has {values[0]:.3g}"
        elif len(values) == 2:
            yield "calls", name, f"there are two values, {values[0]:.3g} and {values[1]:.3g}"
        elif values[0] >= 0.5 and values[-1] < 0.7311:
            yield "sigmoid", name, f"all values lie from {values[0]:.3f} to {values[-1]:.3f}"


def _of_order(
    labels: pd.DataFrame, scores: pd.DataFrame, patient: ArrayLike, odd: set[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield findings that another column ranks better, and columns that rank upside down."""
    area = cross_auroc(labels, scores)
    far = np.nan_to_num(np.abs(area - 0.5))
    paired = dict(zip(*linear_sum_assignment(far, maximize=True)[::-1], strict=True))
    for k, name in enumerate(labels.columns):
        best, own = paired[k], area[k, k]
        if np.isnan(own):
            continue
        known = labels[name].notna().to_numpy()
        both = scores.to_numpy()[known][:, [best, k]]
        pair = delong(labels[name][known], both, patient=np.asarray(patient)[known])
        signs = np.where(pair.auroc < 0.5, -1, 1) * (1, -1)
        if best != k and far[best, k] > far[k, k] and pair.contrast(signs).p_value < _SURE:
            yield (
                "order",
                name,
                f"the column of {scores.columns[best]} ranks its films with an AUROC of "
                f"{area[best, k]:.3f}, its own with {own:.3f}",
            )
        elif name not in odd and pair.estimates(level=1 - 10 * _SURE)[1].high < 0.5:
            yield "reversed", name, f"AUROC is {own:.3f}, below 0.5 beyond chance"
