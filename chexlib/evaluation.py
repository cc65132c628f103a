"""What ``chexlib evaluate`` computes: figures of one model's predictions, as tables.

:mod:`chexlib.report` writes them down, and draws them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from chexlib import metrics
from chexlib.data.splits import patient_split
from chexlib.findings import FINDINGS
from chexlib.metrics.readers import beside_readers, majority_of_others, over_readers
from chexlib.metrics.thresholds import RULES
from chexlib.pitfalls import cross_auroc, pitfalls

__all__ = ["STEPS", "Evaluation", "evaluate"]

STEPS = ("checks", "ranking", "thresholds", "calibration", "subgroups", "readers")
LEAST = 20
"""Films that a majority of readers calls, below which a score is not judged beside readers."""
NONE = "No_Finding"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of one model on one set of films.

    Attributes
    ----------
    labels, scores : DataFrame [N, 15]
        The 14 findings and ``No_Finding``, whose score is the product of 1 - p over the findings.
    tables : dict of str to DataFrame
        ``ranking`` (AUROC and average precision of each finding), ``operating_points`` (a row a
        rule and finding; thresholds chosen on half of the patients, reported on the others),
        ``calibration``, ``reliability`` (a row a finding and bin), ``subgroups``, ``checks`` (from
        :func:`chexlib.pitfalls.pitfalls`), ``columns`` (AUROC of each column, a row each, against
        each finding), and with reads ``readers`` (a row a finding and reader, and their mean).
    mean : dict of str to tuple
        ``auroc`` and ``average_precision``: mean over the findings that have a value, low, high.
    notes : tuple of str
        What could not be computed, and why.
    """

    labels: pd.DataFrame
    scores: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    mean: dict[str, tuple[float, float, float]]
    notes: tuple[str, ...]


def evaluate(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    readers: pd.DataFrame | None = None,
    trained_on: ArrayLike | None = None,
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
    readers : DataFrame, optional
        What readers said of some of the films: :func:`chexlib.data.read_readers`.
    trained_on : array_like, optional
        Patients that the network was trained on.
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
        If rows do not belong together, all films are of one patient, or none was read.
    """
    predictions, labels = (x.reset_index(drop=True) for x in (predictions, labels))
    if not predictions["image"].equals(labels["image"]):
        raise ValueError(
            "Expected labels of the predicted films, row by row, got others. Use match_labels."
        )
    draws = metrics.Resamples(labels["patient"], resamples=resamples, seed=seed)
    if not draws.code.any():
        raise ValueError("Expected films of at least two patients, got one: no interval exists.")
    truth = labels[list(FINDINGS)].assign(**{NONE: labels["no_finding"]})
    p = predictions[list(FINDINGS)]
    scores = p.assign(**{NONE: metrics.no_finding(p)})

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", metrics.UndefinedWarning)
        step("checks")
        findings = list(FINDINGS)
        checks = pitfalls(truth[findings], p, labels["patient"], trained_on=trained_on)
        crossed = pd.DataFrame(cross_auroc(truth[findings], p), columns=findings)
        crossed.insert(0, "column", findings)
        step("ranking")
        ranking, mean = _ranking(truth, scores, draws)
        step("thresholds")
        half = patient_split(labels, fractions={"choose": 0.5, "report": 0.5}, seed=seed)
        points = _operating_points(truth, scores, half.to_numpy() == "report", draws)
        step("calibration")
        overall, bins = _calibration(truth, scores, draws)
        step("subgroups")
        groups = {
            "sex": labels["sex"],
            "view": labels["view"],
            "age": metrics.age_band(labels["age"]),
        }
        subgroups = metrics.by_subgroup(truth, scores, groups, patient=draws)
        step("readers")
        read = None if readers is None else _readers(readers, predictions, draws)
    notes = dict.fromkeys(
        str(warning.message) for warning in caught if warning.category is not DeprecationWarning
    )
    tables = {"ranking": ranking, "operating_points": points, "calibration": overall}
    tables |= {"reliability": bins, "subgroups": subgroups, "checks": checks, "columns": crossed}
    tables |= {} if read is None else {"readers": read}
    return Evaluation(truth, scores, tables, mean, tuple(notes))


def _ranking(
    truth: pd.DataFrame, scores: pd.DataFrame, draws: metrics.Resamples
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
    for name, metric in (
        ("auroc", metrics.auroc),
        ("average_precision", metrics.average_precision),
    ):
        found = metrics.resampled(metric, truth, scores, draws)
        table[name] = found.estimate
        table[f"{name}_low"], table[f"{name}_high"] = found.interval()
        # The mean of the literature is over the findings; "No Finding" is none.
        findings = found[: len(FINDINGS)].mean()
        mean[name] = tuple(float(x) for x in (findings.estimate, *findings.interval()))
    table["method"] = f"bootstrap by patient, {len(draws)} resamples"
    return table, mean


def _operating_points(
    truth: pd.DataFrame, scores: pd.DataFrame, reported: np.ndarray, draws: metrics.Resamples
) -> pd.DataFrame:
    parts = {}
    for name, rule in RULES.items():
        thresholds = metrics.choose(truth[~reported], scores[~reported], rule)
        parts[name] = metrics.operating_points(
            truth[reported], scores[reported], thresholds, patient=draws.select(reported)
        )
    return pd.concat(parts, names=["rule"]).reset_index("rule").reset_index(drop=True)


def _calibration(
    truth: pd.DataFrame, scores: pd.DataFrame, draws: metrics.Resamples
) -> tuple[pd.DataFrame, pd.DataFrame]:
    overall, bins = [], {}
    for name in truth.columns:
        y, p = truth[name].to_numpy(), scores[name].to_numpy()
        prevalence = y.mean()
        row = {
            "finding": name,
            "prevalence": prevalence,
            "mean_probability": p.mean(),
            "brier": metrics.brier(y, p),
            "brier_of_prevalence": prevalence * (1 - prevalence),
            "calibration_error": metrics.calibration_error(y, p),
        }
        if y.any() and not y.all():
            line = metrics.fit_platt(y, p)
            row |= {"slope": line.slope, "intercept": line.intercept}
        overall.append(row)
        bins[name] = metrics.reliability(y, p, patient=draws)
    bins = pd.concat(bins, names=["finding"]).reset_index("finding").reset_index(drop=True)
    return pd.DataFrame(overall), bins


def _readers(
    readers: pd.DataFrame, predictions: pd.DataFrame, draws: metrics.Resamples
) -> pd.DataFrame:
    """Set each finding's score beside each reader, and beside the mean of the readers."""
    asked = [name for name in FINDINGS if name in readers]
    wide = readers.pivot(index="image", columns="reader", values=asked)
    films = predictions["image"].isin(wide.index).to_numpy()
    if not films.any():
        raise ValueError(
            "Expected reads of some of the predicted films, got reads of others alone, such as "
            f"{wide.index[0]}. Give predictions for the films that were read."
        )
    wide, p = wide.loc[predictions["image"][films]], predictions[films]
    some, tables = draws.select(films), []
    for name in asked:
        reads = wide[name].to_numpy(dtype=float)
        truth = majority_of_others(reads)
        found = beside_readers(reads, p[name], some)
        gap = found[:, 0] - found[:, 1]
        false, negative = (reads * (truth == 0)).sum(axis=0), (truth == 0).sum(axis=0)
        table = pd.DataFrame(found.estimate, columns=["score", "sensitivity"])
        table.insert(0, "finding", name)
        table.insert(1, "reader", wide[name].columns.astype("str"))
        with np.errstate(invalid="ignore"):
            table["false_positive_rate"] = false / negative
        table["estimate"] = gap.estimate
        with warnings.catch_warnings():  # the table shows where there is none
            warnings.simplefilter("ignore", metrics.UndefinedWarning)
            table["low"], table["high"] = gap.interval()
        table["n_images"] = (~np.isnan(truth)).sum(axis=0)
        table["n_positive"] = (truth == 1).sum(axis=0)
        table["method"] = some.method
        whole = over_readers(gap)
        last = table.mean(numeric_only=True).to_dict() | {"finding": name, "reader": "mean"}
        last |= {"low": whole.low, "high": whole.high, "method": whole.method}
        last |= {"n_images": len(reads), "n_positive": (np.nanmean(reads, axis=1) > 0.5).sum()}
        tables += [table, pd.DataFrame([last])]
    out = pd.concat(tables, ignore_index=True)
    few = out["n_positive"] < LEAST
    choices = [few, out["low"] > 0, out["high"] < 0]
    return out.assign(above=np.select(choices, ["too few", "score", "reader"], "cannot tell"))
