"""What ``chexlib evaluate`` computes: figures of one model's predictions, as tables.

:mod:`chexlib.report` writes them down, and draws them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from chexlib import metrics
from chexlib.data.splits import patient_split
from chexlib.files import brief
from chexlib.findings import FINDINGS
from chexlib.metrics.readers import beside_readers, majority_of_others, over_readers
from chexlib.metrics.thresholds import RULES
from chexlib.pitfalls import cross_auroc, pitfalls

__all__ = ["STEPS", "Evaluation", "evaluate"]

STEPS = ("checks", "ranking", "thresholds", "calibration", "subgroups", "readers")
LEAST = 20
"""Films that a majority of readers calls, below which a score is not judged beside readers."""
MOST = 50
"""Groups of a further column: one with more is a number or a name, no grouping."""
NONE = "No_Finding"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of one model on one set of films.

    Attributes
    ----------
    labels, scores : DataFrame [N, F]
        The findings; a label is NaN where nobody knows. Of NIH's 14 ``No_Finding`` as well, whose
        score is the product of 1 - p over them: no other list says that there is nothing else.
    n_patients : int
    tables : dict of str to DataFrame
        ``ranking`` (AUROC and average precision of each finding), ``operating_points`` (a row a
        rule and finding; thresholds chosen on half of the patients, reported on the others),
        ``calibration``, ``reliability`` (a row a finding and bin), ``subgroups``, ``checks`` (from
        :func:`chexlib.pitfalls.pitfalls`), ``columns`` (AUROC of each column, a row each, against
        each finding), and with reads ``readers`` (a row a finding and reader, and their mean).
    mean : dict of str to tuple
        ``auroc`` and ``average_precision``: mean over the findings that have a value, low, high.
    notes : tuple of str
        What was left out or could not be computed, and why.
    """

    labels: pd.DataFrame
    scores: pd.DataFrame
    n_patients: int
    tables: dict[str, pd.DataFrame]
    mean: dict[str, tuple[float, float, float]]
    notes: tuple[str, ...]


def evaluate(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    findings: Iterable[str] = FINDINGS,
    by: Iterable[str] = (),
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
        Row by row the labels of the same films: :func:`chexlib.data.match_labels`. Of the columns
        beside the findings ``patient`` has to be there; ``sex``, ``view`` and ``age`` make
        subgroups where they are. A film whose label is NaN is left out of that finding.
    findings : iterable of str
        The labelled ones, in the order of the tables. Those without predictions are left out, as
        are predictions without labels; notes name both.
    by : iterable of str
        Further columns of the labels that part the films into groups, at most :data:`MOST`.
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
        If rows do not belong together, no finding is predicted and labelled, a column of ``by``
        is none, all films are of one patient, or none was read.
    """
    predictions, labels = (x.reset_index(drop=True) for x in (predictions, labels))
    if not predictions["image"].equals(labels["image"]):
        raise ValueError(
            "Expected labels of the predicted films, row by row, got others. Use match_labels."
        )
    draws = metrics.Resamples(labels["patient"], resamples=resamples, seed=seed)
    if not draws.code.any():
        raise ValueError("Expected films of at least two patients, got one: no interval exists.")
    used, notes = _used(list(findings), predictions, labels)
    y, p, groups = labels[used], predictions[used], _groups(labels, by)
    whole = set(used) == set(FINDINGS) and "no_finding" in labels
    truth = y.assign(**{NONE: labels["no_finding"]}) if whole else y
    scores = p.assign(**{NONE: metrics.no_finding(p)}) if whole else p

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", metrics.UndefinedWarning)
        step("checks")
        checks = pitfalls(y, p, labels["patient"], trained_on=trained_on)
        crossed = pd.DataFrame(cross_auroc(y, p), columns=used)
        crossed.insert(0, "column", used)
        step("ranking")
        ranking, mean = _ranking(truth, scores, draws, findings=len(used))
        step("thresholds")
        halves = {"choose": 0.5, "report": 0.5}
        half = patient_split(labels, fractions=halves, seed=seed, findings=used)
        points = _operating_points(truth, scores, half.to_numpy() == "report", draws)
        step("calibration")
        overall, bins = _calibration(truth, scores, draws)
        step("subgroups")
        subgroups = metrics.by_subgroup(truth, scores, groups, patient=draws)
        step("readers")
        films = predictions[["image", *used]]
        read = None if readers is None else _readers(readers, films, draws)
    notes += [str(w.message) for w in caught if w.category is not DeprecationWarning]
    vague = ranking["finding"][ranking["auroc"].notna() & ranking["auroc_low"].isna()]
    if len(vague):
        why = "fewer than two patients with or without, or no resample moves it"
        notes.append(f"The interval of {', '.join(vague)} and of the mean: {why}.")
    tables = {"ranking": ranking, "operating_points": points, "calibration": overall}
    tables |= {"reliability": bins, "subgroups": subgroups, "checks": checks, "columns": crossed}
    tables |= {} if read is None else {"readers": read}
    n_patients = len(np.unique(draws.code))
    return Evaluation(truth, scores, n_patients, tables, mean, tuple(dict.fromkeys(notes)))


def _used(
    findings: list[str], predictions: pd.DataFrame, labels: pd.DataFrame
) -> tuple[list[str], list[str]]:
    """Return the findings that have predictions and labels, and notes on what has not both."""
    predicted = [name for name in predictions if name not in ("image", "path")]
    labelled = [name for name in findings if name in labels and labels[name].notna().any()]
    used = [name for name in labelled if name in predicted]
    if not used:
        raise ValueError(
            f"Expected a finding with predictions and labels, got predictions of "
            f"{brief(predicted)} and labels of {brief(labelled)}. Rename the columns of one file."
        )
    sides = (labelled, "labels but no predictions"), (predicted, "predictions but no labels")
    apart = [(", ".join(name for name in side if name not in used), of) for side, of in sides]
    notes = [f"{names}: {of}." for names, of in apart if names]
    if "weight" in labels:
        notes.append("Weighted figures: the column weight is not used, each film counts as one.")
    return used, notes


def _groups(labels: pd.DataFrame, by: Iterable[str]) -> dict[str, ArrayLike]:
    """Return the groups that films are in; a missing value is none."""
    for name in by:
        if name not in labels or (labels[name].nunique() > MOST and name != "age"):
            raise ValueError(
                f"Expected a column of the labels with at most {MOST} values to part films by, got "
                f"{brief(name)}; columns are {brief(list(labels))}."
            )
    groups = {name: labels[name] for name in ("sex", "view", *by) if name in labels}
    groups = {name: column.replace("", None) for name, column in groups.items()}
    return groups | ({"age": metrics.age_band(labels["age"])} if "age" in labels else {})


def _ranking(
    truth: pd.DataFrame, scores: pd.DataFrame, draws: metrics.Resamples, *, findings: int
) -> tuple[pd.DataFrame, dict[str, tuple[float, float, float]]]:
    table = pd.DataFrame(
        {
            "finding": truth.columns,
            "n_images": truth.count().to_numpy(),
            "n_patients": [len(np.unique(draws.code[truth[name].notna()])) for name in truth],
            "n_positive": truth.sum().to_numpy(dtype=int),
            "prevalence": truth.mean().to_numpy(dtype=float),
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
        over = found[:findings].mean()
        mean[name] = tuple(float(x) for x in (over.estimate, *over.interval()))
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
        known = truth[name].notna().to_numpy()
        y, p = truth[name].to_numpy()[known].astype(bool), scores[name].to_numpy()[known]
        prevalence = y.mean()
        row = {
            "finding": name,
            "n_images": len(y),
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
        bins[name] = metrics.reliability(y, p, patient=draws.select(known))
    bins = pd.concat(bins, names=["finding"]).reset_index("finding").reset_index(drop=True)
    return pd.DataFrame(overall), bins


def _readers(
    readers: pd.DataFrame, predictions: pd.DataFrame, draws: metrics.Resamples
) -> pd.DataFrame:
    """Set each finding's score beside each reader, and beside the mean of the readers."""
    asked = [name for name in predictions if name in readers and name != "image"]
    if not asked:
        raise ValueError("Expected reads of a finding with predictions and labels, got none.")
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
