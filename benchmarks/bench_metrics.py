"""Bootstrap of 14 AUROCs by patient: `chexlib` beside the loop over scikit-learn's function.

Both see the same resamples. The loop would run for minutes, so a part of its calls is timed and the
rest reckoned from it; the largest difference is taken over those calls.

Run: python benchmarks/bench_metrics.py [--resamples 1000] [--calls 140]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from chexlib.data import data_home, load_labels, match_labels, read_predictions
from chexlib.findings import FINDINGS
from chexlib.metrics import Resamples, auroc, average_precision, delong, resampled


def films() -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Return labels [N, 14], scores [N, 14], patients [N], and what they are."""
    path = data_home() / "reference_predictions" / "preds.csv"
    labels = load_labels()
    if path.is_file():
        predictions = read_predictions(path)
        labels = match_labels(predictions, labels)
        scores, what = predictions[list(FINDINGS)].to_numpy(), "published predictions"
    else:
        labels = labels.head(22_433)
        noise = np.random.default_rng(0).normal(size=(len(labels), len(FINDINGS)))
        scores = 1.3 * labels[list(FINDINGS)].to_numpy() + noise
        what = "simulated scores (for published ones: chexlib fetch predictions)"
    return labels[list(FINDINGS)].to_numpy(), scores, labels["patient"].to_numpy(), what


def seconds(function, *, repeats: int = 3) -> tuple[float, object]:
    """Return the best time of a few runs, and the result."""
    best, result = np.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return best, result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=140, help="of scikit-learn's that are timed")
    options = parser.parse_args()
    labels, scores, patients, what = films()
    n, f = labels.shape
    print(f"{what}: {n:,} films of {len(np.unique(patients)):,} patients, {f} findings")

    ours, found = seconds(
        lambda: resampled(auroc, labels, scores, Resamples(patients, resamples=options.resamples))
    )
    total = options.resamples * f
    calls = min(options.calls, total)
    chosen = np.linspace(0, total - 1, calls).astype(int)
    start, theirs = time.perf_counter(), []
    for b, k in zip(*np.divmod(chosen, f), strict=True):
        rows = np.repeat(np.arange(n), found.draws.weight(b))
        theirs.append(roc_auc_score(labels[rows, k], scores[rows, k]))
    each = (time.perf_counter() - start) / calls
    difference = np.abs(np.array(theirs) - found.replicates.ravel()[chosen]).max()

    print(f"chexlib, {options.resamples:,} resamples x {f} findings: {ours:.2f} s, draws included")
    print(
        f"loop over roc_auc_score: {each * 1e3:.1f} ms a call, {each * total:.0f} s for {total:,}"
    )
    print(f"  ({calls} calls timed, spread over resamples and findings; the rest reckoned)")
    print(f"ratio: {each * total / ours:.0f}")
    print(f"largest difference on the same resamples: {difference:.1e}")
    other, _ = seconds(lambda: resampled(average_precision, labels, scores, found.draws), repeats=1)
    print(f"average precision on the same resamples: {other:.2f} s")
    closed, _ = seconds(lambda: delong(labels, scores, patient=patients))
    print(f"DeLong by patient, 14 x 14 covariances: {closed:.2f} s")


if __name__ == "__main__":
    main()
