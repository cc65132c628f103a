"""Tables of chapter 7: what thresholds do, and how far a chosen one can be relied upon.

Thresholds are chosen on one half of the patients of the shared test set and reported on the other.
Intervals are of 95% and by patient. What the fourteen do
together is in ``tables_all_findings.py``, what is about probabilities in ``tables_calibration.py``.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from reference_films import LICENCE, SOURCE, Films, every_subset, inputs

from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics.curves import CountsByThreshold, counts_by_threshold
from chexlib.metrics.estimates import UndefinedWarning
from chexlib.metrics.operating import operating_points
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
}
