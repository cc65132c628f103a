"""Tables of chapter 9 on the fourteen findings together: means, calls a film, "No Finding".

Thresholds but 0.5 and the survey's are chosen on one half of the patients, figures are of the other
(the means at 0.5: of all). Intervals are of 95% and by patient.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from builders import Built, builds, named, ratio
from numpy.typing import NDArray
from reference_films import provenance
from tables_operating_points import RESAMPLES, RULES, SURVEY, chosen, half, shared

from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics import Bootstrap, Resamples, any_of, assess, choose, youden

NAMES = list(FINDINGS)


@builds("mean_precision_recall")
def mean_precision_recall() -> Built:
    """Mean precision and recall of the 14 findings at 0.5, by convention for the undefined."""
    films = shared()
    y, call = films.labels[NAMES].to_numpy(), films.scores[NAMES].to_numpy() >= 0.5
    columns = np.hstack([y & call, call, y])
    draws = Resamples(films.patient, resamples=RESAMPLES, seed=0)
    once, drawn = columns.sum(axis=0)[None].astype(float), draws.sums(columns)
    rows = []
    for how, figure in CONVENTIONS.items():
        pairs = zip(("precision", "recall"), figure(once), figure(drawn), strict=True)
        for name, value, replicates in pairs:
            rows.append((how, name, value[0], *Bootstrap(value[0], replicates, draws).interval()))
    columns = ["convention", "figure", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=columns).round(5), provenance(
        f"threshold 0.5, all 22,433 films; intervals of 95% by patient, {RESAMPLES} resamples"
    )


@builds("calls_per_film")
def calls_per_film() -> Built:
    """Fourteen thresholds at once: labels found, false calls a film, films with any call."""
    films, part = shared(), half("report")
    y, p = (frame.loc[part, NAMES].to_numpy() for frame in (films.labels, films.scores))
    draws = Resamples(films.patient[part], resamples=RESAMPLES, seed=0)
    thresholds = {"0.5": 0.5, "survey's": np.array(SURVEY)}
    thresholds |= {rule: chosen(rule)[NAMES].to_numpy() for rule in RULES}
    rows = []
    for rule, cut in thresholds.items():
        call = p >= cut
        false, film = (call & ~y).sum(axis=1), np.ones(len(y))
        shares = {
            "found": ((y & call).sum(axis=1), y.sum(axis=1)),
            "false_calls": (false, film),
            "any_call": (call.any(axis=1), film),
        }
        row = {"rule": rule}
        for name, parts in shares.items():
            found = ratio(*parts, draws)
            row |= named(name, float(found.estimate), *found.interval())
        rows.append(row)
    return pd.DataFrame(rows).round(5), provenance(
        "the 14 findings together, figures of the half `report`; found: share of labels; "
        f"false_calls: a film; intervals of 95% by patient, {RESAMPLES} resamples"
    )


@builds("no_finding_rules")
def no_finding_rules() -> Built:
    """Ways to say "No Finding" from 14 scores, chosen on one half, reported on the other."""
    films, part = shared(), half("report")
    p, product = films.scores.loc[part, NAMES], films.scores.loc[part, NO_FINDING]
    y, patient = films.labels[NO_FINDING][part].to_numpy(), films.patient[part]
    calls = {"no score reaches 0.5": (p < 0.5).all(axis=1)}
    for rule in RULES:
        below = (p < chosen(rule)[NAMES]).all(axis=1)
        calls[f"no score reaches its threshold: {rule}"] = below
    calls["product of 1 - p, 0.5"] = product >= 0.5
    for rule in ("Youden", "specificity 0.95"):
        calls[f"product of 1 - p: {rule}"] = product >= chosen(rule)[NO_FINDING]
    largest = 1 - any_of(films.scores[NAMES], how="max")
    cut = choose(films.labels[NO_FINDING][~part], largest[~part], youden)
    calls["1 - largest p: Youden"] = largest[part] >= cut
    rows = []
    for way, call in calls.items():
        row = {"way": way, "declared": float(np.mean(call))}
        figures = ("sensitivity", "specificity", "ppv")
        for name, one in assess(call, y, statistics=figures, patient=patient).items():
            row |= named(name, one.estimate, one.low, one.high)
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
        precision = np.where(called > 0, precision, undefined)
        return np.nanmean(precision, axis=1), np.nanmean(recall, axis=1)

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
