"""Tables of chapter 7 on probabilities: calibration, what mends it, other places, net benefit.

Maps are fitted on one half of the patients of the shared test set and judged on the other.
Intervals are of 95% and by patient.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tables_operating_points import RESAMPLES, chosen, half, provenance, shared

from chexlib.findings import FINDINGS
from chexlib.metrics.agreement import assess, share
from chexlib.metrics.calibration import (
    brier_parts,
    calibration_error,
    calibration_slope,
    reliability,
)
from chexlib.metrics.decision import decision_curve
from chexlib.metrics.recalibration import (
    fit_isotonic,
    fit_platt,
    fit_temperature,
    shift_prevalence,
)
from chexlib.metrics.resampling import Bootstrap, Resamples, resampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ECE_BINS = 15
AS_PUBLISHED = "as published"
FITS = {"temperature": fit_temperature, "Platt": fit_platt, "isotonic": fit_isotonic}
CHANCES = (
    *(0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7),
    0.8,
)


def films_of(name: str, part: str) -> tuple[NDArray, NDArray, NDArray]:
    """Return labels, scores and patients of one finding's films in one half."""
    films, rows = shared(), half(part)
    return (
        films.labels[name].to_numpy()[rows],
        films.scores[name].to_numpy()[rows],
        films.patient[rows],
    )


@cache
def maps(name: str) -> dict[str, Callable[[NDArray], NDArray]]:
    """Return what mends the probabilities of a finding, fitted on the choosing half."""
    y, p, _ = films_of(name, "choose")
    return {AS_PUBLISHED: np.asarray} | {how: fit(y, p) for how, fit in FITS.items()}


def reliability_table() -> tuple[pd.DataFrame, dict]:
    """Ten bins of equally many films for each finding and each way of mending."""
    tables = []
    for name in FINDINGS:
        y, p, patient = films_of(name, "report")
        for how, mend in maps(name).items():
            bins = reliability(y, mend(p), patient=patient).drop(columns=["lower", "upper"])
            bins.insert(0, "finding", name)
            tables.append(bins.assign(method=how).round(5))
    table = pd.concat(tables, ignore_index=True)
    return table[["finding", "method", *table.columns[1:-1]]], provenance(
        "fitted on the half `choose`, figures of the half `report`; intervals of 95% by patient"
    )


def calibration_table() -> tuple[pd.DataFrame, dict]:
    """Calibration error, Brier score and its parts, for each finding and way of mending.

    ``fitted_…`` is the line that mends, ``slope`` and ``intercept`` what is left to mend on the
    reporting half. ``ece_chance`` is the mean error of labels drawn from the probabilities
    themselves: what chance alone leaves on so many films. The error has no interval: resampling
    adds distance of its own. ``ratio`` is of expected to observed films with the finding.
    """
    rows = []
    for name in FINDINGS:
        y, p, patient = films_of(name, "report")
        draws = Resamples(patient, resamples=RESAMPLES, seed=0)
        for how, mend in maps(name).items():
            q = mend(p)
            parts = brier_parts(y, q, bins=ECE_BINS)
            row = {"finding": name, "method": how, "n_positive": int(y.sum())}
            if how in ("Platt", "temperature"):
                row |= {"fitted_slope": mend.slope, "fitted_intercept": mend.intercept}
            if how != "isotonic":  # it says 0 and 1, which have no logit
                row |= _slope(y, q, draws)
            row |= {"ece": calibration_error(y, q, bins=ECE_BINS), "ece_chance": _chance(q)}
            row |= {"brier": parts.brier} | _brier_gain(y, p, q, draws)
            row |= {"reliability": parts.reliability, "resolution": parts.resolution}
            row |= {"uncertainty": parts.uncertainty, "within": parts.within}
            row |= _ratio(y, q, draws)
            rows.append(row)
    return pd.DataFrame(rows).round(6), provenance(
        f"fitted on the half `choose`, figures of the half `report`; {ECE_BINS} bins of equally "
        f"many films; brier_gain: Brier score as published less this; intervals of 95% by patient, "
        f"{RESAMPLES} resamples"
    )


def decision_curves() -> tuple[pd.DataFrame, dict]:
    """Net benefit of each finding's score as published and mended by Platt's method."""
    tables = []
    for name in FINDINGS:
        y, p, patient = films_of(name, "report")
        for how in (AS_PUBLISHED, "Platt"):
            curve = decision_curve(
                y, maps(name)[how](p), CHANCES, patient=patient, resamples=RESAMPLES
            )
            tables.append(curve.assign(finding=name, method=how))
    table = pd.concat(tables, ignore_index=True).round(6)
    return table[["finding", "method", *table.columns[:-2]]], provenance(
        "Platt fitted on the half `choose`, figures of the half `report`; per film; intervals of "
        f"95% by patient, {RESAMPLES} resamples"
    )


def miss_costs() -> tuple[pd.DataFrame, dict]:
    """Cost of films if a miss costs ten false alarms: a searched threshold against arithmetic.

    ``cost`` is in false alarms per 1,000 films; ``extra`` is the cost less that of the searched
    threshold, paired.
    """
    columns, names = [], []
    for name in FINDINGS:
        y, p, patient = films_of(name, "report")
        calls = {
            "searched": p >= chosen("a miss costs 10 alarms")[name],
            "1/11 as published": p >= 1 / 11,
            "1/11 after Platt": maps(name)["Platt"](p) >= 1 / 11,
            "no call": np.zeros(len(y), dtype=bool),
        }
        columns.append(np.stack([10 * (y & ~call) + (call & ~y) for call in calls.values()]))
        names.append(name)
    names, columns = [*names, "all 14"], [*columns, np.sum(columns, axis=0)]
    draws, rows = Resamples(patient, resamples=RESAMPLES, seed=0), []
    for name, costs in zip(names, columns, strict=True):
        once = 1000 * costs.mean(axis=1)
        sums = draws.sums(np.vstack([costs, np.ones(len(patient))]).T)
        drawn = 1000 * sums[:, :-1] / sums[:, -1:]
        low, high = Bootstrap(once, drawn, draws).interval()
        extra = Bootstrap(once - once[0], drawn - drawn[:, :1], draws)
        extra_low, extra_high = extra.interval(fixed=True)  # the first way less itself
        table = {"way": list(calls), "cost": once, "low": low, "high": high}
        table |= {"extra": extra.estimate, "extra_low": extra_low, "extra_high": extra_high}
        rows.append(pd.DataFrame({"finding": name} | table))
    return pd.concat(rows, ignore_index=True).round(3), provenance(
        "thresholds chosen and Platt fitted on the half `choose`, figures of the half `report`; "
        f"intervals of 95% by patient, {RESAMPLES} resamples"
    )


def prior_shift() -> tuple[pd.DataFrame, dict]:
    """Carry each finding's threshold and probabilities to PA films alone and to AP films alone.

    ``ppv_expected`` is what Bayes' rule makes of sensitivity and specificity on all films and the
    prevalence in the view. ``expected`` is the mean probability (Platt), ``expected_shifted`` that
    after the correction for prevalence: the prevalence itself, if nothing but it has changed.
    """
    view = shared().frame["view"].astype(str).to_numpy()[half("report")]
    rows = []
    for name in FINDINGS:
        y, s, patient = films_of(name, "report")
        call, q = s >= chosen("Youden")[name], maps(name)["Platt"](s)
        trained = films_of(name, "choose")[0].mean()
        sensitivity, false_alarms = call[y].mean(), call[~y].mean()
        for one in ("all", "PA", "AP"):
            part = view == one if one != "all" else np.ones(len(y), dtype=bool)
            observed = share(y[part], patient=patient[part])
            odds = observed.estimate * sensitivity, (1 - observed.estimate) * false_alarms
            row = {"finding": name, "view": one, "n": int(part.sum())}
            row |= _triple("prevalence", observed)
            figures = ("sensitivity", "specificity", "ppv")
            for figure, estimate in assess(
                call[part], y[part], statistics=figures, patient=patient[part]
            ).items():
                row |= _triple(figure, estimate)
            shifted = shift_prevalence(q[part], trained=trained, used=observed.estimate)
            row |= {"ppv_expected": odds[0] / sum(odds), "expected": q[part].mean()}
            rows.append(row | {"expected_shifted": shifted.mean()})
    return pd.DataFrame(rows).round(5), provenance(
        "threshold: Youden's, chosen on the half `choose`; figures of the half `report`; intervals "
        "of 95% by patient"
    )


def _triple(name: str, estimate: object) -> dict:
    ends = {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return {name: estimate.estimate} | ends


def _slope(y: NDArray, q: NDArray, draws: Resamples) -> dict:
    found = resampled(calibration_slope, y, q, draws)
    ends = zip(found.estimate, *found.interval(), strict=True)
    row = {}
    for name, (value, low, high) in zip(("slope", "intercept"), ends, strict=True):
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row


def _chance(q: NDArray) -> float:
    rng = np.random.default_rng(0)
    drawn = rng.random((200, len(q))) < q
    return float(np.mean([calibration_error(one, q, bins=ECE_BINS) for one in drawn]))


def _brier_gain(y: NDArray, p: NDArray, q: NDArray, draws: Resamples) -> dict:
    gain = (p - y) ** 2 - (q - y) ** 2
    sums = draws.sums(np.column_stack([gain, np.ones(len(y))]))
    found = Bootstrap(np.asarray(gain.mean()), sums[:, 0] / sums[:, 1], draws)
    low, high = found.interval(fixed=True)  # as published, less itself
    return {"brier_gain": gain.mean(), "gain_low": float(low), "gain_high": float(high)}


def _ratio(y: NDArray, q: NDArray, draws: Resamples) -> dict:
    sums = draws.sums(np.column_stack([q, y]))
    with np.errstate(divide="ignore"):
        replicates = sums[:, 0] / sums[:, 1]
    value = q.sum() / y.sum()
    low, high = Bootstrap(np.asarray(value), replicates, draws).interval()
    return {"ratio": value, "ratio_low": float(low), "ratio_high": float(high)}


TABLES: dict[str, Callable[[], tuple[pd.DataFrame, dict]]] = {
    "reliability": reliability_table,
    "calibration": calibration_table,
    "decision_curves": decision_curves,
    "miss_costs": miss_costs,
    "prior_shift": prior_shift,
}
