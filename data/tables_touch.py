"""What the things to touch on the site know: `data/touch/NAME.json`, written as tables are.

A page computes no statistics of its own: it adds up what stands here. Intervals are of 95% and by
patient.
"""

from __future__ import annotations

import numpy as np
from builders import FIVE, LABELS, Document, builds, simulated
from numpy.typing import ArrayLike, NDArray
from reference_films import provenance
from tables_operating_points import GRID, RESAMPLES, shared
from tables_readers import SOURCE, about, five

from chexlib.data import table
from chexlib.data.phantom import noise_rates
from chexlib.data.tables import table_folder
from chexlib.findings import FINDINGS, INFO
from chexlib.metrics import Resamples, ppv, roc, threshold_sweep
from chexlib.metrics.resampling import percentile_ends

SPOILED = {"halved": 0.5, "measured": 1, "raised": 1.5, "doubled": 2}
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
    return content, provenance(f"intervals of 95% by patient, {RESAMPLES} resamples")


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


def small(values: ArrayLike, decimals: int = 4) -> list:
    """Return rounded numbers as JSON can hold them; what is undefined is null."""
    rounded = np.round(np.asarray(values, dtype=float), decimals)
    return np.where(np.isnan(rounded), None, rounded).tolist()
