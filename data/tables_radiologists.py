"""Tables of chapter 11: one network beside the five radiologists who read the same films.

The films are those of the shared test set that all five read; every figure is by finding. Intervals
are of 95%, by patient, or by patient and reader where it is said.
"""

from __future__ import annotations

import warnings
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from builders import FIVE, Built, builds
from numpy.typing import NDArray
from reference_films import model_scores, provenance, shared_films
from scipy.special import ndtri
from scipy.stats import nct, t

from chexlib.data import load_readers
from chexlib.findings import FINDINGS
from chexlib.metrics import (
    Bootstrap,
    Resamples,
    UndefinedWarning,
    assess,
    choose,
    compare_with_reader,
    delong,
    max_f1,
    roc,
)
from chexlib.metrics.readers import (
    beside_readers,
    majority_of_others,
    over_readers,
    spread_over_readers,
)

RESAMPLES = 2000
LEAST = 20
MARGIN = 0.10
"""How much worse still counts as good: of sensitivity, and of positive agreement. It was written
down before any figure of this module was computed."""
STRICT, TIES, ALL_FIVE = "three of the other four", "two of the other four", "majority of five"
READERS = tuple(f"reader {k}" for k in "ABCDE")  # by number, as in chapter 4
PANEL, THESE = "readers like the five", "these five readers"
TRIAL_READERS, TRIAL_POSITIVES = (3, 5, 10, 20), (20, 50, 100, 200, 500, 1000, 2000)
COLUMNS = ["finding", "rater", "against", "statistic", "estimate", "low", "high"]
COLUMNS += ["n", "n_positive"]


@cache
def read_films() -> tuple[pd.DataFrame, dict[str, NDArray[np.bool_]], dict[str, float]]:
    """Return the films, the five readers' calls ``[N, 5]`` of each finding, and its threshold.

    The threshold is the network's of the highest F1 against NIH's label on the films of the shared
    test set whose patients are not among these.
    """
    shared, reads = shared_films(), load_readers("all")
    films = shared[shared["image"].isin(reads["image"])].reset_index(drop=True)
    wide = reads.pivot(index="image", columns="reader", values=list(FINDINGS))
    calls = {name: wide[name].loc[films["image"]].to_numpy(dtype=bool) for name in FINDINGS}
    others = shared[~shared["patient"].isin(films["patient"])]
    scores = model_scores().loc[others["image"]]
    labels = others[list(FINDINGS)].set_axis(scores.index)
    return films, calls, dict(zip(FINDINGS, choose(labels, scores, max_f1), strict=True))


def _majority(reads: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the films that three of the five call."""
    return reads.sum(axis=1) >= 3


def _provenance(note: str) -> dict[str, object]:
    kept = provenance(note)
    reads = "five radiologists' reads released with Nabulsi et al. (Sci Rep 2021)"
    source = f"{kept['source']}; {reads}"
    inputs = [*kept["inputs"], FIVE]
    licence = f"{kept['licence']}; reads for research and education"
    return kept | {"source": source, "inputs": inputs, "licence": licence}


@builds("reader_comparison")
def reader_comparison() -> Built:
    """Every rater against the readers: CheXNet's scheme, points beside the curve, agreement."""
    films, calls, thresholds = read_films()
    draws = Resamples(films["patient"], resamples=RESAMPLES, seed=0)
    scores, rows = model_scores().loc[films["image"]], []
    with warnings.catch_warnings():  # a finding without positives has empty cells
        warnings.simplefilter("ignore", UndefinedWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        for name in FINDINGS:
            reads, score, label = calls[name], scores[name].to_numpy(), films[name].to_numpy()
            few = {"n": len(films), "n_positive": int(_majority(reads).sum())}
            found = [
                *_agreement(reads, label, score, thresholds[name], draws),
                *_beside(reads, score, draws),
                *_against_five(reads, label, score, thresholds[name], draws),
            ]
            rows += [dict(zip(COLUMNS, (name, *row, *few.values()), strict=True)) for row in found]
    note = (
        "f1 and agreement are means over the readers a rater is set against, never itself; "
        f"f1_difference and sensitivity_difference: the network's less the readers'; {PANEL}: "
        "interval for other readers and other patients (Obuchowski-Rockette, Hillis), else by "
        "patient; network: its threshold chosen by F1 against NIH's label on other patients; "
        "n_positive: films that three of five readers call"
    )
    return pd.DataFrame(rows), _provenance(note)


def _agreement(
    reads: NDArray[np.bool_],
    label: NDArray[np.bool_],
    score: NDArray[np.float64],
    threshold: float,
    draws: Resamples,
) -> list[tuple]:
    """Return F1 and agreement of every rater with each reader in turn: the paper's scheme.

    Two raters who never call and who call at random as often as the readers stand beside them.
    """
    n_films, n = reads.shape
    best = choose(reads.ravel(), np.repeat(score, n), max_f1) if reads.any() else np.inf
    raters = {
        **dict(zip(READERS, reads.T, strict=True)),
        "NIH's label": label,
        "network": score >= threshold,
        "network, threshold of these films": score >= best,
        "never calls": np.zeros(n_films),
        "calls at random": np.full(n_films, reads.mean()),
    }
    x = np.stack(list(raters.values()), axis=1).astype(float)
    columns = np.hstack([x, (x[:, :, None] * x[:, None, :n]).reshape(n_films, -1), x[:, :1] ** 0])

    def scored(totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return F1 and agreement with each reader, ``[2, ..., raters, R]``."""
        calls, films = totals[..., : len(raters)], totals[..., -1:, None]
        both = totals[..., len(raters) : -1].reshape(*calls.shape, n)
        sums = calls[..., None] + calls[..., None, :n]
        with np.errstate(invalid="ignore"):
            return np.stack([2 * both / sums, (films - sums + 2 * both) / films])

    itself = np.arange(n), np.arange(n)
    figures = [scored(columns.sum(axis=0)), scored(draws.sums(columns))]
    for values in figures:
        values[..., *itself] = np.nan
    rows = []
    for k, statistic in enumerate(("f1", "agreement")):
        each = Bootstrap(figures[0][k], figures[1][k], draws)
        own = Bootstrap(*(np.nanmean(f[k][..., :n, :], axis=-1) for f in figures), draws)
        rows.append((THESE, "each other", statistic, *_ends(own.mean())))
        for r, rater in enumerate(raters):
            others = Bootstrap(*(np.nanmean(f[k][..., r, :], axis=-1) for f in figures), draws)
            rows.append((rater, "each reader", statistic, *_ends(others)))
            if r >= n:  # reader by reader: with this rater less with the other readers
                whole = over_readers(each[r] - own)
                ends = whole.estimate, whole.low, whole.high
                rows.append((rater, PANEL, f"{statistic}_difference", *ends))
                less = _ends((each[r] - own).mean())
                rows.append((rater, THESE, f"{statistic}_difference", *less))
    calls = Bootstrap(x.mean(axis=0), draws.sums(x) / draws.sums(x[:, :1] ** 0), draws)
    rows += [(r, "", "call_rate", *_ends(calls[k])) for k, r in enumerate(raters)]
    return rows


def _beside(reads: NDArray[np.bool_], score: NDArray[np.float64], draws: Resamples) -> list[tuple]:
    """Return each reader as a point, and the network at the reader's rate of false alarms."""
    rows = []
    for against, ties in ((STRICT, False), (TIES, True)):
        truth = majority_of_others(reads, ties=ties) == 1
        found = beside_readers(reads, score, draws, ties=ties)
        gap = found[:, 0] - found[:, 1]
        whole = over_readers(gap)
        rows.append(
            (PANEL, against, "sensitivity_difference", whole.estimate, whole.low, whole.high)
        )
        rows.append((THESE, against, "sensitivity_difference", *_ends(gap.mean())))
        for k, reader in enumerate(READERS):
            rate = (reads[:, k] & ~truth[:, k]).sum() / (~truth[:, k]).sum()
            nothing = (np.nan, np.nan)
            rows += [
                (reader, against, "sensitivity", *_ends(found[k, 1])),
                (reader, against, "false_positive_rate", rate, *nothing),
                (reader, against, "positive_films", truth[:, k].sum(), *nothing),
                (reader, against, "network_sensitivity", *_ends(found[k, 0])),
                (reader, against, "sensitivity_difference", *_ends(gap[k])),
            ]
    return rows


def _against_five(
    reads: NDArray[np.bool_],
    label: NDArray[np.bool_],
    score: NDArray[np.float64],
    threshold: float,
    draws: Resamples,
) -> list[tuple]:
    """Return network and label against the majority of all five."""
    truth = _majority(reads)
    if not truth.any():
        return []
    (area,) = delong(truth, score, patient=draws.code).estimates()
    rows = [("network", ALL_FIVE, "auroc", area.estimate, area.low, area.high)]
    for rater, called in (("network", score >= threshold), ("NIH's label", label)):
        found = assess(called, truth, patient=draws.code, statistics=["sensitivity", "specificity"])
        rows += [(rater, ALL_FIVE, k, e.estimate, e.low, e.high) for k, e in found.items()]
    gap = compare_with_reader(truth, score, label, patient=draws)
    ends = gap.difference, gap.low, gap.high
    return [*rows, ("NIH's label", ALL_FIVE, "sensitivity_difference", *ends)]


def _ends(found: Bootstrap) -> tuple[float, float, float]:
    return (float(found.estimate), *(float(end) for end in found.interval()))


@builds("reader_verdicts")
def reader_verdicts() -> Built:
    """Better, as good, worse, cannot tell: by sensitivity, and by positive agreement."""
    table, kept = reader_comparison()
    rows = table[(table["rater"] == PANEL) & (table["against"] == STRICT)]
    other = table[(table["rater"] == "network") & (table["against"] == PANEL)]
    other = other[other["statistic"] == "f1_difference"]
    out = rows[["finding", "n_positive", "estimate", "low", "high"]].reset_index(drop=True)
    out["verdict"] = _verdict(out)
    for name in ("estimate", "low", "high"):
        out["agreement" if name == "estimate" else f"agreement_{name}"] = other[name].to_numpy()
    agreed = other.reset_index(drop=True).assign(n_positive=out["n_positive"])
    out["agreement_verdict"] = _verdict(agreed)
    note = (
        f"estimate: sensitivity less the readers', at each reader's rate of false alarms, {STRICT} "
        "as the reference; agreement: F1 with a reader less that of the other readers; better: the "
        f"interval lies above 0; worse: below 0; as good: above -{MARGIN}; cannot tell: else, or "
        f"fewer than {LEAST} films that three of five call"
    )
    return out, kept | {"note": note}


def _verdict(rows: pd.DataFrame) -> NDArray[np.str_]:
    few = rows["n_positive"] < LEAST
    choices = [few, rows["low"] > 0, rows["high"] < 0, rows["low"] > -MARGIN]
    return np.select(choices, ["cannot tell", "better", "worse", "as good"], "cannot tell")


@builds("reader_curves")
def reader_curves() -> Built:
    """Draw the network's ROC curve for each reader left out, on a grid of false-positive rates."""
    films, calls, _ = read_films()
    scores, rates, tables = model_scores().loc[films["image"]], np.linspace(0, 1, 51), []
    for name in FINDINGS:
        truth = majority_of_others(calls[name]) == 1
        if _majority(calls[name]).sum() < LEAST:
            continue
        for reader, column in zip(READERS, truth.T, strict=True):
            curve = roc(column, scores[name].to_numpy())
            where = {"finding": name, "reader": reader, "false_positive_rate": rates}
            height = curve.at_false_positive_rate(rates)
            tables.append(pd.DataFrame(where | {"sensitivity": height}))
    note = f"reference: {STRICT}, the reader named left out; upper end of vertical steps"
    return pd.concat(tables, ignore_index=True), _provenance(note)


@builds("reader_trial")
def reader_trial() -> Built:
    """Compute what chance a trial has to show "as good" where it is so."""
    films, calls, _ = read_films()
    draws = Resamples(films["patient"], resamples=RESAMPLES, seed=0)
    scores, parts = model_scores().loc[films["image"]], {}
    for name in FINDINGS:
        n_positive = _majority(calls[name]).sum()
        if n_positive >= LEAST:
            found = beside_readers(calls[name], scores[name].to_numpy(), draws)
            gap = found[:, 0] - found[:, 1]
            parts[name] = (*_components(gap), n_positive)
    typical = np.array([part[:3] for part in parts.values()])
    scale = np.array([part[3] for part in parts.values()])[:, None] / 50
    typical[:, 1:] *= scale  # what 50 positive films would give
    parts["typical"] = (*np.median(typical, axis=0), 50)
    rows = [
        (name, margin, n, k, *part, trial_power(*part, n_readers=n, n_positive=k, margin=margin))
        for name, part in parts.items()
        for margin, n, k in product((0.05, MARGIN), TRIAL_READERS, TRIAL_POSITIVES)
    ]
    columns = ["finding", "margin", "n_readers", "n_positive", "reader_variance", "error_variance"]
    columns += ["error_covariance", "n_seen", "power"]
    note = (
        "chance that the lower end of the 95% interval of the difference in sensitivity, for other "
        "readers and patients, lies above minus the margin, where the difference is 0; variances "
        "as seen with n_seen positive films, those of error falling with their number; typical: "
        "medians over the findings, for 50 positive films"
    )
    return pd.DataFrame(rows, columns=columns), _provenance(note)


def _components(gap: Bootstrap) -> tuple[float, float, float]:
    """Return the variance of readers, and variance and covariance of their error."""
    between, error, common = spread_over_readers(gap)
    return max(between - (error - common), 0.0), error, common


def trial_power(
    reader_variance: float,
    error_variance: float,
    error_covariance: float,
    n_seen: float,
    *,
    n_readers: int,
    n_positive: int,
    margin: float,
) -> float:
    """Return the chance to show a difference above minus the margin where it is 0.

    Components are of a study with ``n_seen`` positive films; error falls with their number
    (Hillis, Obuchowski and Berbaum, Academic Radiology 18 (2011) 129-142).
    """
    scale = n_seen / n_positive
    between = reader_variance + (error_variance - error_covariance) * scale
    total = between + n_readers * error_covariance * scale
    freedom = (n_readers - 1) * (total / between) ** 2
    away = margin / np.sqrt(total / n_readers)
    return float(nct.sf(t.ppf(0.975, freedom), freedom, away))


@builds("reader_coverage")
def reader_coverage() -> Built:
    """Simulate how often the intervals hold the truth, the others' majority as reference."""
    n_films, skill_of, rate_of = 188, (0.8, 0.06), (0.2, 0.5)
    rng, hits, n = np.random.default_rng(0), [], 1000

    def trial(films: int) -> tuple[NDArray, NDArray]:
        """Draw five readers' calls, and the score of a network as skilled as their mean."""
        skill = np.append(np.clip(rng.normal(*skill_of, 5), 0.3, 0.98), skill_of[0])
        rate = np.clip(np.exp(rng.normal(np.log(rate_of[0]), rate_of[1], 5)), 0.05, 0.6)
        shown, noise = rng.normal(size=(films, 1)), rng.normal(size=(films, 6))
        seen = skill * shown + np.sqrt(1 - skill**2) * noise
        return seen[:, :5] > -ndtri(rate), seen[:, 5]

    def gap(reads: NDArray, score: NDArray, resamples: int) -> Bootstrap:
        draws = Resamples(np.arange(len(reads)), resamples=resamples, seed=0)
        found = beside_readers(reads, score, draws)
        return found[:, 0] - found[:, 1]

    truth = np.mean([gap(*trial(20_000), 1).estimate.mean() for _ in range(300)])
    for _ in range(n):
        found = gap(*trial(n_films), 200)
        whole = over_readers(found)
        for name, (low, high) in {
            "patients alone": found.mean().interval(),
            "readers and patients": (whole.low, whole.high),
        }.items():
            hits.append((name, low <= truth <= high, high - low))
    out = pd.DataFrame(hits, columns=["sample", "estimate", "width"])
    out = out.groupby("sample", sort=False).mean().reset_index()
    half = 1.96 * np.sqrt(out["estimate"] * (1 - out["estimate"]) / n)
    out = out.assign(low=out["estimate"] - half, high=out["estimate"] + half, truth=truth, n=n)
    note = "simulated reads; share of intervals that hold the mean over very many readers and films"
    return out, {"source": "simulated reads", "licence": "CC BY 4.0", "inputs": [], "note": note}
