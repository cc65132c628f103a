"""Tables of chapter 7 on the fourteen findings together: means, calls a film, "No Finding".

Thresholds but 0.5 and the survey's are chosen on one half of the patients, figures are of the other
(the means at 0.5: of all). Intervals are of 95% and by patient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tables_operating_points import RESAMPLES, RULES, SURVEY, chosen, half, provenance, shared

from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics.agreement import assess
from chexlib.metrics.resampling import Bootstrap, Resamples
from chexlib.metrics.thresholds import choose, youden
from chexlib.metrics.unions import any_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


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
                "low": low,
                "high": high,
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


TABLES: dict[str, Callable[[], tuple[pd.DataFrame, dict]]] = {
    "mean_precision_recall": mean_precision_recall,
    "calls_per_film": calls_per_film,
    "no_finding_rules": no_finding_rules,
}
