"""Tables of chapter 7: what thresholds do, and how far a chosen one can be relied upon.

Thresholds are chosen on one half of the patients of the shared test set and reported on the other.
Intervals are of 95% and by patient. What is about probabilities is in ``tables_calibration.py``.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from reference_films import LICENCE, SOURCE, Films, every_subset, inputs

from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics.agreement import assess
from chexlib.metrics.curves import CountsByThreshold, counts_by_threshold
from chexlib.metrics.estimates import UndefinedWarning
from chexlib.metrics.operating import operating_points
from chexlib.metrics.resampling import Bootstrap, Resamples
from chexlib.metrics.sweep import threshold_sweep
from chexlib.metrics.thresholds import (
    Rule,
    at_sensitivity,
    at_specificity,
    choose,
    max_f1,
    min_cost,
    youden,
)
from chexlib.metrics.unions import any_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NAMES = (*FINDINGS, NO_FINDING)
RESAMPLES = 1000
SPLITS = 500

RULES: dict[str, Rule] = {
    "Youden": youden,
    "highest F1": max_f1,
    "sensitivity 0.90": at_sensitivity(0.90),
    "specificity 0.95": at_specificity(0.95),
    "a miss costs 10 alarms": min_cost(miss=10, false_alarm=1),
}
AIMED_AT = {
    "Youden": lambda counts: counts.sensitivity + counts.specificity - 1,
    "highest F1": lambda counts: counts.f1,
    "sensitivity 0.90": lambda counts: counts.sensitivity,
    "specificity 0.95": lambda counts: counts.specificity,
}
PROMISED = {"sensitivity 0.90": 0.90, "specificity 0.95": 0.95}
# Three quarters of the grid lie below 0.2, where the scores of rare findings are.
GRID = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.075),
    *(0.09, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9),
)
# The thresholds that the survey printed, in the order of FINDINGS.
SURVEY = (
    *(0.12584402, 0.033162296, 0.16826268, 0.18238032, 0.072381005, 0.07161161, 0.017619494),
    *(0.0711597, 0.0655834, 0.039323617, 0.039765418, 0.022241825, 0.04171453, 0.0019557325),
)


def provenance(note: str) -> dict:
    """Return what every table here says of where it comes from."""
    return {"source": SOURCE, "licence": LICENCE, "inputs": inputs(), "note": note}


@cache
def shared() -> Films:
    """Return the shared test set with NIH's labels."""
    return every_subset()[0]


def half(name: str) -> NDArray[np.bool_]:
    """Return which films belong to the patients for choosing (``choose``) or for reporting."""
    return (shared().frame["half"] == name).to_numpy()


@cache
def chosen(rule: str) -> pd.Series:
    """Return the threshold of each finding that a rule chooses on the choosing half."""
    films, part = shared(), half("choose")
    # To overlook a film without a finding costs nobody ten alarms.
    names = list(FINDINGS if "costs" in rule else NAMES)
    return pd.Series(
        choose(films.labels[names][part], films.scores[names][part], RULES[rule]), names
    )


def operating_points_table() -> tuple[pd.DataFrame, dict]:
    """Operating points of each rule, on the half it was chosen on and on the other."""
    films, tables = shared(), []
    fixed = {"0.5": pd.Series(0.5, NAMES), "survey's": pd.Series(SURVEY, FINDINGS)}
    for rule in (*fixed, *RULES):
        thresholds = fixed[rule] if rule in fixed else chosen(rule)
        names = list(thresholds.index)
        for part in ("choose", "report"):
            rows = half(part)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UndefinedWarning)  # NaN in the table says it
                points = operating_points(
                    films.labels[names][rows],
                    films.scores[names][rows],
                    thresholds,
                    patient=films.patient[rows],
                )
            points.insert(1, "rule", rule)
            points.insert(3, "half", part)
            tables.append(points)
    table = pd.concat(tables, ignore_index=True)
    cells = ["tp", "fp", "fn", "tn"]
    rounded = [c for c in table.columns[4:] if c not in cells]
    table[rounded] = table[rounded].round(5)
    return table.astype(dict.fromkeys(cells, int)), provenance(
        "every threshold but 0.5 and the survey's is chosen on the half `choose`; intervals of 95% "
        "by patient"
    )


def threshold_grid() -> tuple[pd.DataFrame, dict]:
    """Operating points of each finding along a grid of thresholds, on the whole shared test set."""
    films, tables = shared(), []
    for name in NAMES:
        sweep = threshold_sweep(
            films.labels[name],
            films.scores[name],
            GRID,
            patient=films.patient,
            resamples=RESAMPLES,
        )
        tables.append(
            sweep.drop(columns=["fn", "tn"]).assign(
                finding=name, prevalence=films.labels[name].mean()
            )
        )
    table = pd.concat(tables, ignore_index=True)
    table = table[["finding", "prevalence", *table.columns.drop(["finding", "prevalence"])]]
    table = table.astype({"tp": int, "fp": int})
    table.iloc[:, 5:] = table.iloc[:, 5:].round(4)
    return table, provenance(f"intervals of 95% by patient, {RESAMPLES} resamples")


def threshold_stability() -> tuple[pd.DataFrame, dict]:
    """Choose and report on halves drawn anew, many times: what one split cannot show.

    ``apparent`` and ``reported`` are means over the splits of the figure that the rule aims at,
    ``optimism`` is their difference; ``…_low`` and ``…_high`` hold 95% of the splits.
    """
    films, rng = shared(), np.random.default_rng(0)
    patients, code = np.unique(films.patient, return_inverse=True)
    halves = []
    for _ in range(SPLITS):
        picked = np.zeros(len(patients), dtype=bool)
        picked[rng.permutation(len(patients))[: len(patients) // 2]] = True
        halves.append(picked[code])
    rows = []
    for name in NAMES:
        y, s = films.labels[name].to_numpy(), films.scores[name].to_numpy()
        found = {rule: [] for rule in AIMED_AT}
        for part in halves:
            here, there = (
                counts_by_threshold(y[part], s[part]),
                counts_by_threshold(y[~part], s[~part]),
            )
            for rule, figure in AIMED_AT.items():
                worth = RULES[rule](here)
                k = np.argmax(worth >= np.nanmax(worth) - 1e-12)
                threshold = here.threshold[k]
                found[rule].append(
                    (threshold, figure(here)[k], figure(there)[_at(there, threshold)])
                )
        rows += [
            {"finding": name, "rule": rule, "n_positive": int(y.sum())}
            | _spread(rule, np.array(one))
            for rule, one in found.items()
        ]
    return pd.DataFrame(rows), provenance(
        f"{SPLITS} random halvings of the patients; low and high hold 95% of them; splits share "
        "films, so this is no interval of the mean"
    )


def mean_precision_recall() -> tuple[pd.DataFrame, dict]:
    """Mean precision and recall of the 14 findings at 0.5, by convention for the undefined."""
    films = shared()
    y, call = (
        films.labels[list(FINDINGS)].to_numpy(),
        films.scores[list(FINDINGS)].to_numpy() >= 0.5,
    )
    columns = np.hstack([y & call, call, y])
    draws = Resamples(films.patient, resamples=RESAMPLES, seed=0)
    once, drawn = columns.sum(axis=0)[None].astype(float), draws.sums(columns)
    rows = []
    for how, figure in CONVENTIONS.items():
        for name, value, replicates in zip(
            ("precision", "recall"), figure(once), figure(drawn), strict=True
        ):
            low, high = Bootstrap(value[0], replicates, draws).interval()
            row = {
                "convention": how,
                "figure": name,
                "estimate": value[0],
                "ci_low": low,
                "ci_high": high,
            }
            rows.append(row)
    return pd.DataFrame(rows).round(5), provenance(
        f"threshold 0.5, all 22,433 films; intervals of 95% by patient, {RESAMPLES} resamples"
    )


def calls_per_film() -> tuple[pd.DataFrame, dict]:
    """Fourteen thresholds at once: labels found, false calls a film, films with any call."""
    films, part = shared(), half("report")
    y, p = (table[list(FINDINGS)].to_numpy()[part] for table in (films.labels, films.scores))
    draws = Resamples(films.patient[part], resamples=RESAMPLES, seed=0)
    thresholds = {"0.5": 0.5, "survey's": np.array(SURVEY)}
    thresholds |= {rule: chosen(rule)[list(FINDINGS)].to_numpy() for rule in RULES}
    rows = []
    for rule, cut in thresholds.items():
        call = p >= cut
        sums = [(y & call).sum(axis=1), y.sum(axis=1), (call & ~y).sum(axis=1), call.any(axis=1)]
        columns = np.column_stack([*sums, np.ones(len(y))]).astype(float)
        row = {"rule": rule}
        for name, above, below in (("found", 0, 1), ("false_calls", 2, 4), ("any_call", 3, 4)):
            once, drawn = columns.sum(axis=0), draws.sums(columns)
            value = np.asarray(once[above] / once[below])
            low, high = Bootstrap(value, drawn[:, above] / drawn[:, below], draws).interval()
            row |= {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(row)
    return pd.DataFrame(rows).round(5), provenance(
        "the 14 findings together, figures of the half `report`; found: share of labels; "
        f"false_calls: a film; intervals of 95% by patient, {RESAMPLES} resamples"
    )


def no_finding_rules() -> tuple[pd.DataFrame, dict]:
    """Ways to say "No Finding" from 14 scores, chosen on one half, reported on the other."""
    films, part = shared(), half("report")
    p = films.scores[list(FINDINGS)][part]
    y, patient = films.labels[NO_FINDING][part].to_numpy(), films.patient[part]
    calls = {"no score reaches 0.5": (p < 0.5).all(axis=1)}
    for rule in RULES:
        calls[f"no score reaches its threshold: {rule}"] = (p < chosen(rule)[list(FINDINGS)]).all(
            axis=1
        )
    calls["product of 1 - p, 0.5"] = films.scores[NO_FINDING][part] >= 0.5
    for rule in ("Youden", "specificity 0.95"):
        calls[f"product of 1 - p: {rule}"] = (
            films.scores[NO_FINDING][part] >= chosen(rule)[NO_FINDING]
        )
    largest = 1 - any_of(films.scores[list(FINDINGS)], how="max")
    cut = choose(films.labels[NO_FINDING][~part], largest[~part], youden)
    calls["1 - largest p: Youden"] = largest[part] >= cut
    rows = []
    for way, call in calls.items():
        row = {"way": way, "declared": float(np.mean(call))}
        figures = ("sensitivity", "specificity", "ppv")
        for name, one in assess(call, y, statistics=figures, patient=patient).items():
            row |= {name: one.estimate, f"{name}_low": one.low, f"{name}_high": one.high}
        rows.append(row)
    return pd.DataFrame(rows).round(5), provenance(
        "thresholds chosen on the half `choose`, figures of the half `report`; positive means No "
        "Finding; intervals of 95% by patient"
    )


def _pooled(sums: NDArray) -> tuple[NDArray, NDArray]:
    tp, called, positive = (block.sum(axis=1) for block in np.split(sums, 3, axis=1))
    return tp / called, tp / positive


def _macro(undefined: float) -> Callable[[NDArray], tuple[NDArray, NDArray]]:
    def figure(sums: NDArray) -> tuple[NDArray, NDArray]:
        tp, called, positive = np.split(sums, 3, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision, recall = tp / called, tp / positive
        return np.nanmean(np.where(called > 0, precision, undefined), axis=1), np.nanmean(
            recall, axis=1
        )

    return figure


def _by_positives(sums: NDArray) -> tuple[NDArray, NDArray]:
    tp, called, positive = np.split(sums, 3, axis=1)
    precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    share = positive / positive.sum(axis=1, keepdims=True)
    return (share * precision).sum(axis=1), tp.sum(axis=1) / positive.sum(axis=1)


CONVENTIONS = {
    "mean, undefined left out": _macro(np.nan),
    "mean, undefined as 0": _macro(0.0),
    "mean, undefined as 1": _macro(1.0),
    "mean weighted by positives": _by_positives,
    "all calls pooled": _pooled,
}


def _at(counts: CountsByThreshold, threshold: float) -> int:
    """Return the place in falling thresholds of the last that is not below this one."""
    return int(np.searchsorted(-counts.threshold, -threshold, side="right")) - 1


def _spread(rule: str, found: NDArray) -> dict:
    threshold, apparent, reported = found.T
    optimism = apparent - reported
    ends = {}
    for name, values in (("threshold", threshold), ("reported", reported), ("optimism", optimism)):
        low, high = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
        ends |= {f"{name}_low": low, f"{name}_high": high}
    kept = np.mean(reported >= PROMISED[rule]) if rule in PROMISED else np.nan
    means = {"apparent": apparent.mean(), "reported": reported.mean(), "optimism": optimism.mean()}
    row = {"threshold": np.median(threshold)} | means | ends | {"promise_kept": kept}
    return {name: float(f"{value:.5g}") for name, value in row.items()}


TABLES: dict[str, Callable[[], tuple[pd.DataFrame, dict]]] = {
    "operating_points": operating_points_table,
    "threshold_grid": threshold_grid,
    "threshold_stability": threshold_stability,
    "mean_precision_recall": mean_precision_recall,
    "calls_per_film": calls_per_film,
    "no_finding_rules": no_finding_rules,
}
