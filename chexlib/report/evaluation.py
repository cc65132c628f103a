"""All figures of a model's predictions at once: what ``chexlib evaluate`` reports."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.data.splits import patient_split
from chexlib.findings import FINDINGS
from chexlib.metrics import (
    Resamples,
    UndefinedWarning,
    age_band,
    at_sensitivity,
    auroc,
    average_precision,
    brier,
    by_subgroup,
    calibration_error,
    choose,
    fit_platt,
    max_f1,
    no_finding,
    operating_points,
    reliability,
    resampled,
    youden,
)
from chexlib.metrics.inputs import check_patients

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RULES", "STEPS", "Evaluation", "evaluate"]

RULES = {"youden": youden, "max_f1": max_f1, "sensitivity_0.90": at_sensitivity(0.9)}
"""How thresholds are chosen, by the name that the table gives the rule."""

STEPS = ("ranking", "thresholds", "calibration", "subgroups")
NONE = "No_Finding"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of one model on one set of films.

    Attributes
    ----------
    labels, scores : DataFrame [N, 15]
        The 14 findings and ``No_Finding``, whose score is the product of 1 - p over the findings.
    patients : ndarray [N]
    tables : dict of str to DataFrame
        ``ranking`` (AUROC and average precision of each finding), ``operating_points`` (a row a
        rule and finding; thresholds chosen on half of the patients, reported on the others),
        ``calibration``, ``reliability`` (a row a finding and bin), ``subgroups``.
    mean : dict of str to tuple
        ``auroc`` and ``average_precision``: mean over the findings that have a value, low, high.
    notes : tuple of str
        What could not be computed, and why.
    """

    labels: pd.DataFrame
    scores: pd.DataFrame
    patients: np.ndarray
    tables: dict[str, pd.DataFrame]
    mean: dict[str, tuple[float, float, float]]
    notes: tuple[str, ...]


def evaluate(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    resamples: int = 1000,
    seed: int = 0,
    step: Callable[[str], None] = lambda _name: None,
) -> Evaluation:
    """Compute ranking, thresholds, calibration and subgroups, with intervals by patient.

    Parameters
    ----------
    predictions : DataFrame [N]
        From :func:`chexlib.data.read_predictions`.
    labels : DataFrame [N]
        Row by row the labels of the same films: :func:`chexlib.data.match_labels`.
    resamples, seed : int
        Of the bootstrap by patient, and of the halves.
    step : callable
        Is told the name of each of :data:`STEPS` as it begins.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If rows do not belong together or all films are of one patient.
    """
    if (
        not predictions["image"]
        .reset_index(drop=True)
        .equals(labels["image"].reset_index(drop=True))
    ):
        raise ValueError(
            "Expected labels of the predicted films, row by row, got others. Use match_labels."
        )
    patients = labels["patient"].to_numpy()
    if not check_patients(patients).any():
        raise ValueError("Expected films of at least two patients, got one: no interval exists.")
    truth = labels[list(FINDINGS)].assign(**{NONE: labels["no_finding"]})
    truth = truth.reset_index(drop=True)
    p = predictions[list(FINDINGS)]
    scores = p.assign(**{NONE: no_finding(p)}).reset_index(drop=True)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UndefinedWarning)
        step("ranking")
        draws = Resamples(patients, resamples=resamples, seed=seed)
        ranking, mean = _ranking(truth, scores, draws)
        step("thresholds")
        half = patient_split(
            labels.reset_index(drop=True), fractions={"choose": 0.5, "report": 0.5}, seed=seed
        )
        points = _operating_points(truth, scores, half.to_numpy(), draws)
        step("calibration")
        overall, bins = _calibration(truth, scores, draws)
        step("subgroups")
        groups = {"sex": labels["sex"], "view": labels["view"], "age": age_band(labels["age"])}
        subgroups = by_subgroup(truth, scores, groups, patient=draws)
    notes = dict.fromkeys(
        str(warning.message) for warning in caught if warning.category is not DeprecationWarning
    )
    tables = {
        "ranking": ranking,
        "operating_points": points,
        "calibration": overall,
        "reliability": bins,
        "subgroups": subgroups,
    }
    return Evaluation(truth, scores, patients, tables, mean, tuple(notes))


def _ranking(
    truth: pd.DataFrame, scores: pd.DataFrame, draws: Resamples
) -> tuple[pd.DataFrame, dict[str, tuple[float, float, float]]]:
    table = pd.DataFrame(
        {
            "finding": truth.columns,
            "n_images": len(truth),
            "n_patients": len(np.unique(draws.code)),
            "n_positive": truth.sum().to_numpy(),
            "prevalence": truth.mean().to_numpy(),
        }
    )
    mean = {}
    for name, metric in (("auroc", auroc), ("average_precision", average_precision)):
        found = resampled(metric, truth, scores, draws)
        table[name] = found.estimate
        table[f"{name}_low"], table[f"{name}_high"] = found.interval()
        # The mean of the literature is over the findings; "No Finding" is none.
        findings = found[: len(FINDINGS)].mean()
        mean[name] = tuple(float(x) for x in (findings.estimate, *findings.interval()))
    table["method"] = f"bootstrap by patient, {len(draws)} resamples"
    return table, mean


def _operating_points(
    truth: pd.DataFrame, scores: pd.DataFrame, half: np.ndarray, draws: Resamples
) -> pd.DataFrame:
    here, there = half == "choose", half == "report"
    parts = []
    for name, rule in RULES.items():
        thresholds = choose(truth[here], scores[here], rule)
        part = operating_points(
            truth[there], scores[there], thresholds, patient=draws.select(there)
        )
        part.insert(0, "rule", name)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _calibration(
    truth: pd.DataFrame, scores: pd.DataFrame, draws: Resamples
) -> tuple[pd.DataFrame, pd.DataFrame]:
    overall, bins = [], []
    for name in truth.columns:
        y, p = truth[name].to_numpy(), scores[name].to_numpy()
        prevalence = y.mean()
        row = {
            "finding": name,
            "prevalence": prevalence,
            "mean_probability": p.mean(),
            "brier": brier(y, p),
            "brier_of_prevalence": prevalence * (1 - prevalence),
            "calibration_error": calibration_error(y, p),
        }
        if y.any() and not y.all():
            line = fit_platt(y, p)
            row |= {"slope": line.slope, "intercept": line.intercept}
        overall.append(row)
        part = reliability(y, p, patient=draws)
        part.insert(0, "finding", name)
        bins.append(part)
    return pd.DataFrame(overall), pd.concat(bins, ignore_index=True)
