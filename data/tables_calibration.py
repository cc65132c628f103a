"""Tables of chapter 9 on probabilities: calibration, what mends it, other places, net benefit.

Maps are fitted on one half of the patients of the shared test set and judged on the other.
Intervals are of 95% and by patient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
from builders import Built, builds, named, ratio
from numpy.typing import NDArray
from reference_films import provenance
from tables_operating_points import RESAMPLES, chosen, half, shared

from chexlib.findings import FINDINGS
from chexlib.metrics import (
    Bootstrap,
    Estimate,
    Resamples,
    assess,
    brier_parts,
    calibration_error,
    calibration_slope,
    decision_curve,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    reliability,
    resampled,
    share,
    shift_prevalence,
)

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
    y, s = (frame[name].to_numpy()[rows] for frame in (films.labels, films.scores))
    return y, s, films.patient[rows]


@cache
def maps(name: str) -> dict[str, Callable[[NDArray], NDArray]]:
    """Return what mends the probabilities of a finding, fitted on the choosing half."""
    y, p, _ = films_of(name, "choose")
    return {AS_PUBLISHED: np.asarray} | {how: fit(y, p) for how, fit in FITS.items()}


@builds("reliability")
def reliability_table() -> Built:
    """Ten bins of equally many films for each finding and each way of mending."""
    tables = []
    for name in FINDINGS:
        y, p, patient = films_of(name, "report")
        for how, mend in maps(name).items():
            bins = reliability(y, mend(p), patient=patient).drop(columns=["lower", "upper"])
            bins.insert(0, "finding", name)
            bins.insert(1, "method", how)
            tables.append(bins.round(5))
    return pd.concat(tables, ignore_index=True), provenance(
        "fitted on the half `choose`, figures of the half `report`; intervals of 95% by patient"
    )


@builds("calibration")
def calibration_table() -> Built:
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
            gain = ratio((p - y) ** 2 - (q - y) ** 2, np.ones(len(y)), draws)
            low, high = gain.interval(fixed=True)  # as published, less itself
            row |= {"ece": calibration_error(y, q, bins=ECE_BINS), "ece_chance": _chance(q)}
            row |= {"brier": parts.brier, "brier_gain": gain.estimate}
            row |= {"gain_low": low, "gain_high": high}
            row |= {"reliability": parts.reliability, "resolution": parts.resolution}
            row |= {"uncertainty": parts.uncertainty, "within": parts.within}
            expected = ratio(q, y, draws)
            rows.append(row | named("ratio", expected.estimate, *expected.interval()))
    return pd.DataFrame(rows).round(6), provenance(
        f"fitted on the half `choose`, figures of the half `report`; {ECE_BINS} bins of equally "
        f"many films; brier_gain: Brier score as published less this; intervals of 95% by patient, "
        f"{RESAMPLES} resamples"
    )


@builds("decision_curves")
def decision_curves() -> Built:
    """Net benefit of each finding's score as published and mended by Platt's method."""
    tables = []
    for name in FINDINGS:
        y, p, patient = films_of(name, "report")
        for how in (AS_PUBLISHED, "Platt"):
            q = maps(name)[how](p)
            curve = decision_curve(y, q, CHANCES, patient=patient, resamples=RESAMPLES)
            curve.insert(0, "finding", name)
            curve.insert(1, "method", how)
            tables.append(curve)
    return pd.concat(tables, ignore_index=True).round(6), provenance(
        "estimate: net benefit of the model; Platt fitted on the half `choose`, figures of the "
        f"half `report`; per film; intervals of 95% by patient, {RESAMPLES} resamples"
    )


@builds("miss_costs")
def miss_costs() -> Built:
    """Cost of films if a miss costs ten false alarms: a searched threshold against arithmetic.

    ``estimate`` is the cost in false alarms per 1,000 films; ``extra`` is the cost less that of the
    searched threshold, paired.
    """
    costs = {}
    for name in FINDINGS:
        y, p, patient = films_of(name, "report")
        calls = {
            "searched": p >= chosen("a miss costs 10 alarms")[name],
            "1/11 as published": p >= 1 / 11,
            "1/11 after Platt": maps(name)["Platt"](p) >= 1 / 11,
            "no call": np.zeros(len(y), dtype=bool),
        }
        costs[name] = 1000 * np.stack([10 * (y & ~c) + (c & ~y) for c in calls.values()], axis=1)
    costs["all 14"] = sum(costs.values())
    draws, rows = Resamples(patient, resamples=RESAMPLES, seed=0), []
    for name, cost in costs.items():
        found = ratio(cost, np.ones(cost.shape), draws)
        low, high = found.interval()
        first = Bootstrap(found.estimate[:1], found.replicates[:, :1], draws)
        extra = found - first
        ends = extra.interval(fixed=True)  # the first way less itself
        table = {"way": list(calls), "estimate": found.estimate, "low": low, "high": high}
        table |= named("extra", extra.estimate, *ends)
        rows.append(pd.DataFrame({"finding": name} | table))
    return pd.concat(rows, ignore_index=True).round(3), provenance(
        "estimate: cost in false alarms per 1,000 films; thresholds chosen and Platt fitted on the "
        f"half `choose`, figures of the half `report`; intervals of 95% by patient, {RESAMPLES} "
        "resamples"
    )


@builds("prior_shift")
def prior_shift() -> Built:
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
            judged = assess(call[part], y[part], statistics=figures, patient=patient[part])
            for figure, estimate in judged.items():
                row |= _triple(figure, estimate)
            shifted = shift_prevalence(q[part], trained=trained, used=observed.estimate)
            row |= {"ppv_expected": odds[0] / sum(odds), "expected": q[part].mean()}
            rows.append(row | {"expected_shifted": shifted.mean()})
    return pd.DataFrame(rows).round(5), provenance(
        "threshold: Youden's, chosen on the half `choose`; figures of the half `report`; intervals "
        "of 95% by patient"
    )


def _triple(name: str, found: Estimate) -> dict:
    return named(name, found.estimate, found.low, found.high)


def _slope(y: NDArray, q: NDArray, draws: Resamples) -> dict:
    found = resampled(calibration_slope, y, q, draws)
    slope, intercept = zip(found.estimate, *found.interval(), strict=True)
    return named("slope", *slope) | named("intercept", *intercept)


def _chance(q: NDArray) -> float:
    rng = np.random.default_rng(0)
    drawn = rng.random((200, len(q))) < q
    return float(np.mean([calibration_error(one, q, bins=ECE_BINS) for one in drawn]))
