"""What the things to touch on the site know: `data/touch/NAME.json`, written as tables are.

A page computes no statistics of its own: it adds up what stands here. Intervals are of 95% and by
patient.
"""

from __future__ import annotations

import re

import numpy as np
from builders import FIVE, LABELS, Document, builds, simulated
from numpy.typing import ArrayLike, NDArray
from reference_films import provenance
from tables_operating_points import GRID, RESAMPLES, shared
from tables_readers import SOURCE, about, five
from tables_reports import OPENI, RATES, counted

from chexlib.data import load_reports, table
from chexlib.data.phantom import noise_rates
from chexlib.data.reports import CUES, RULES, called, coded, find_mentions
from chexlib.data.tables import table_folder
from chexlib.findings import FINDINGS, INFO
from chexlib.metrics import Resamples, ppv, roc, threshold_sweep
from chexlib.metrics.resampling import percentile_ends
from figures.reports import PHRASES, phrase_reports

SPOILED = {"halved": 0.5, "measured": 1, "raised": 1.5, "doubled": 2}
SWITCHES = ["sections", "denied", "guessed", "past"]
STEPS = {"word": 0, "sections": 1, "negation": 3, "uncertainty": 7, "history": 15}
CURVE = 60  # points that a curve is drawn with


@builds("touch/thresholds")
def thresholds() -> Document:
    """Every finding along the grid of thresholds: rates, and how they vary together.

    Precision follows from prevalence and ``ratio``, the false-positive rate over the sensitivity,
    whose ends are those of its interval; ``variance`` is of both rates and their covariance, from
    which the page has the interval of any cost. ``chapter`` is the row of ``miss_costs``.
    """
    films, line = shared(), table("calibration").set_index(["method", "finding"]).loc["Platt"]
    chapter = table("miss_costs").set_index(["way", "finding"]).loc["1/11 after Platt"]
    draws = Resamples(films.patient, resamples=RESAMPLES, seed=0)
    found = {}
    for name in FINDINGS:
        y, score = films.labels[name].to_numpy(dtype=bool), films.scores[name].to_numpy()
        sweep = threshold_sweep(y, score, GRID, patient=draws)
        rates, false_rates = _replicates(y, score, draws)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = percentile_ends(np.where(rates > 0, false_rates / rates, np.nan))
        varied = [np.cov(*both) for both in zip(rates.T, false_rates.T, strict=True)]
        curve = roc(y, score)
        found[name] = {
            "english": INFO[name].english,
            "prevalence": float(y.mean()),
            "platt": line.loc[name, ["fitted_slope", "fitted_intercept"]].tolist(),
            "chapter": chapter.loc[name, ["estimate", "low", "high"]].tolist(),
            "rates": small(np.column_stack([sweep["sensitivity"], 1 - sweep["specificity"]]), 6),
            "sensitivity": small(sweep[["sensitivity_low", "sensitivity_high"]]),
            "specificity": small(sweep[["specificity_low", "specificity_high"]]),
            "ratio": small(ratio.T, 6),
            "variance": [[float(f"{v:.4g}") for v in (c[0, 0], c[1, 1], c[0, 1])] for c in varied],
            "curve": small(_thinned(curve.false_positive_rate, curve.sensitivity)),
        }
    content = {"thresholds": list(GRID), "findings": found}
    about = provenance(f"intervals of 95% by patient, {RESAMPLES} resamples")
    about["inputs"] += [table_folder() / f"{one}.csv" for one in ("calibration", "miss_costs")]
    return content, about


def _replicates(y: NDArray, score: NDArray, draws: Resamples) -> tuple[NDArray, NDArray]:
    """Return sensitivity and false-positive rate at each threshold in each resample, [B, T]."""
    calls = score[:, None] >= np.array(GRID)
    sums = draws.sums(np.column_stack([y, ~y, calls & y[:, None], calls & ~y[:, None]]))
    hits, alarms = np.split(sums[:, 2:], 2, axis=1)
    return hits / sums[:, :1], alarms / sums[:, 1:2]


def _thinned(x: NDArray, y: NDArray) -> NDArray:
    """Keep points at about equal distances along a curve, both ends included, [N, 2]."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.searchsorted(along, np.linspace(0, along[-1], CURVE)).clip(0, len(x) - 1)
    return np.column_stack([x, y])[np.unique(kept)]


@builds("touch/noise")
def noise() -> Document:
    """Rates of the labels that chapter 7 spoiled, and the AUROC of what was trained on them."""
    rates, shares = noise_rates().set_index("finding"), table("noise_calibration")
    shares = shares[(shares["training"] == "true") & (shares["measure"] == "true share")]
    shares = shares.set_index("finding")["estimate"]
    scored = table("noise_auroc").set_index(["training", "judge", "finding"])
    ends, found = ["estimate", "low", "high"], {}
    for name in FINDINGS:
        missed, invented = 1 - rates.loc[name, ["sensitivity", "specificity"]].astype(float)
        runs = [
            {
                "times": times,
                "sensitivity": round(1 - min(times * missed, 0.95), 6),
                "specificity": round(1 - min(times * invented, 0.95), 6),
                "truth": small(scored.loc[(training, "truth", name), ends]),
                "labels": small(scored.loc[(training, "labels", name), ends]),
            }
            for training, times in SPOILED.items()
        ]
        best = scored.loc[("true", "truth", name), "estimate"]
        found[name] = {"english": INFO[name].english, "share": round(shares[name], 6)}
        found[name] |= {"best": round(best, 4), "runs": runs}
    inputs = [f"{name}.csv" for name in ("noise_auroc", "noise_calibration", "label_quality")]
    note = "intervals as in noise_auroc; best: AUROC of the network taught the truth"
    source = "simulated radiographs; label quality as measured in data/label_quality.csv"
    return {"findings": found}, simulated(source, [table_folder() / one for one in inputs], note)


@builds("touch/guess")
def guess() -> Document:
    """How many films so many of five readers call, with and without NIH's label.

    ``confirmed`` has a row for each number of votes that one may ask for, 1 to 5: labels, those of
    them with so many votes, their share and its interval.
    """
    films, calls, _ = five()
    found = {}
    for name in FINDINGS:
        label, votes = films[name].to_numpy(dtype=bool), calls[name].sum(axis=1)
        kept = [ppv(label, votes >= k, patient=films["patient"]) for k in range(1, 6)]
        found[name] = {
            "english": INFO[name].english,
            "labelled": np.bincount(votes[label], minlength=6).tolist(),
            "others": np.bincount(votes[~label], minlength=6).tolist(),
            "confirmed": [
                [one.k, one.n, *small([one.estimate, one.low, one.high])] for one in kept
            ],
        }
    note = "films with 0 to 5 votes; intervals of 95% by patient, Wilson's where films stand alone"
    return {"patients": int(films["patient"].nunique()), "findings": found}, about(
        note, [FIVE, LABELS], f"{SOURCE}; NIH's label"
    )


@builds("touch/sentences")
def sentences() -> Document:
    """Judge made-up phrases by a miner of reports, and every set of its rules on all reports.

    A set of rules is a number of bits, in the order of ``rules``. ``sets`` has for each of the 16
    the reports called, those of them that annotators coded, precision and recall with their ends.
    """
    said = find_mentions(phrase_reports())
    phrases = [{"section": section, "text": text, "mentions": []} for section, text in PHRASES]
    for row in said.to_dict("records"):
        text = phrases[row["report"]]["text"].lower()
        flags = {name: _cue(text, name) for name in ("denied", "guessed", "past") if row[name]}
        start = text.index(row["word"].lower())
        phrases[row["report"]]["mentions"].append(
            {"finding": row["finding"], "start": start, "end": start + len(row["word"])} | flags
        )
    texts = load_reports()
    mentions, truth = find_mentions(texts), coded(texts)[list(FINDINGS)].to_numpy()
    mentions["sections"] = ~mentions["section"].isin(RULES["sections"][0])
    draws, sets = Resamples(np.arange(len(texts))), {name: [] for name in (*FINDINGS, "all")}
    for bits in range(2 ** len(SWITCHES)):
        dropped = [name for k, name in enumerate(SWITCHES) if bits >> k & 1]
        left = mentions[~mentions[dropped].any(axis=1)]
        calls = called(left, texts).to_numpy()
        for k, name in enumerate(sets):
            row = counted(calls, truth, k, draws)
            shares = [row[f"{rate}{end}"] for rate in RATES for end in ("", "_low", "_high")]
            sets[name].append([row["n_called"], row["n_both"], *small(shares)])
    held = table("reports").query("half == 'held out' and mapping == 'narrow'")
    held = held.set_index(["rule", "finding"])[["precision", "precision_low", "precision_high"]]
    chapter = {
        bits: {name: small(held.loc[(rule, name)]) for name in sets} for rule, bits in STEPS.items()
    }
    asked = [*truth.sum(axis=0).tolist(), int(truth.sum())]
    content = {"rules": SWITCHES, "phrases": phrases, "n": len(texts), "sets": sets}
    content |= {"coded": dict(zip(sets, asked, strict=True))}
    content |= {"english": {name: INFO[name].english for name in FINDINGS}}
    return content | {"chapter": chapter}, {
        **OPENI,
        "inputs": [*OPENI["inputs"], table_folder() / "reports.csv"],
        "note": "intervals of 95%: Wilson’s, of all findings by report; chapter: the held-out half",
    }


def _cue(text: str, flag: str) -> str:
    """Return the longest cue of a kind that a text holds."""
    cues = CUES[flag]["before"] + CUES[flag]["after"]
    return max((cue for cue in cues if re.search(rf"\b{cue}\b", text)), key=len, default="")


def small(values: ArrayLike, decimals: int = 4) -> list:
    """Return rounded numbers as JSON can hold them; what is undefined is null."""
    rounded = np.round(np.asarray(values, dtype=float), decimals)
    return np.where(np.isnan(rounded), None, rounded).tolist()
