"""Tables of chapter 9: what thresholds do, and how far a chosen one can be relied upon.

Thresholds are chosen on one half of the patients of the shared test set and reported on the other.
Intervals are of 95% and by patient. What the fourteen do
together is in ``tables_all_findings.py``, what is about probabilities in ``tables_calibration.py``.
"""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
from builders import Built, builds
from numpy.typing import NDArray
from reference_films import Films, every_subset, provenance

from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics import (
    UndefinedWarning,
    at_sensitivity,
    at_specificity,
    choose,
    counts_by_threshold,
    max_f1,
    min_cost,
    operating_points,
    threshold_sweep,
    youden,
)

NAMES = (*FINDINGS, NO_FINDING)
RESAMPLES = 1000
SPLITS = 500

RULES = {
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


@builds("operating_points")
def operating_points_table() -> Built:
    """Operating points of each rule, on the half it was chosen on and on the other."""
    films, tables = shared(), []
    thresholds = {"0.5": pd.Series(0.5, NAMES), "survey's": pd.Series(SURVEY, FINDINGS)}
    for rule, cuts in (thresholds | {rule: chosen(rule) for rule in RULES}).items():
        names = list(cuts.index)
        for part in ("choose", "report"):
            y, s = (frame.loc[half(part), names] for frame in (films.labels, films.scores))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UndefinedWarning)  # NaN in the table says it
                points = operating_points(y, s, cuts, patient=films.patient[half(part)])
            points.insert(1, "rule", rule)
            points.insert(3, "half", part)
            tables.append(points)
    table = pd.concat(tables, ignore_index=True)
    cells = dict.fromkeys(["tp", "fp", "fn", "tn"], int)
    rounded = table.columns[4:].difference(list(cells))
    return table.round(dict.fromkeys(rounded, 5)).astype(cells), provenance(
        "every threshold but 0.5 and the survey's is chosen on the half `choose`; intervals of 95% "
        "by patient"
    )


@builds("threshold_grid")
def threshold_grid() -> Built:
    """Operating points of each finding along a grid of thresholds, on the whole shared test set."""
    films, tables = shared(), []
    for name in NAMES:
        y, s = films.labels[name], films.scores[name]
        sweep = threshold_sweep(y, s, GRID, patient=films.patient, resamples=RESAMPLES)
        sweep = sweep.drop(columns=["fn", "tn"]).astype({"tp": int, "fp": int})
        sweep.insert(0, "finding", name)
        sweep.insert(1, "prevalence", y.mean())
        tables.append(sweep)
    table = pd.concat(tables, ignore_index=True)
    table = table.round(dict.fromkeys(table.columns[5:], 4))
    return table, provenance(f"intervals of 95% by patient, {RESAMPLES} resamples")


@builds("threshold_stability")
def threshold_stability() -> Built:
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
            here, there = (counts_by_threshold(y[rows], s[rows]) for rows in (part, ~part))
            for rule, figure in AIMED_AT.items():
                worth = RULES[rule](here)
                k = np.argmax(worth >= np.nanmax(worth) - 1e-12)
                # On the other half, the last of the falling thresholds that is not below this one.
                cut = here.threshold[k]
                at = np.searchsorted(-there.threshold, -cut, side="right") - 1
                found[rule].append((cut, figure(here)[k], figure(there)[at]))
        where = {"finding": name, "n_positive": int(y.sum())}
        rows += [where | _spread(rule, np.array(one)) for rule, one in found.items()]
    table = pd.DataFrame(rows)
    table.insert(1, "rule", table.pop("rule"))
    return table, provenance(
        f"{SPLITS} random halvings of the patients; low and high hold 95% of them; splits share "
        "films, so this is no interval of the mean"
    )


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
    return {"rule": rule} | {name: float(f"{value:.5g}") for name, value in row.items()}
