"""Tables of chapter 6: what recipes, crops, class weights and seeds do to a network in training.

Runs are those of ``data/train_runs.py``: simulated films of 64 px, true labels. All
are tested on the same films, so differences are paired by film and their intervals are by patient.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import train_runs
from builders import LABELS, LUNGS, Built, builds, by_finding, quoted, ratio, simulated
from keep_predictions import WHOLE as OF_WHOLE_FILMS
from keep_predictions import kept, path_of, tested_films

from chexlib.data import open_dataset
from chexlib.findings import FINDINGS
from chexlib.metrics import (
    Bootstrap,
    Resamples,
    auroc,
    calibration_error,
    resampled,
    undo_class_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

MEAN = "Mean of 14"
RESAMPLES = 2000

SEEDS = tuple(train_runs.runs_of("true"))
RECIPES = ("paper-0", "paper-slow-0", "paper-crop-0", "paper-crop-both-0", "zoogzog-0")
WEIGHTED = "weighted-0"
WHOLE = f"zoogzog-0, {OF_WHOLE_FILMS}"  # the same weights as zoogzog-0, tested without ten crops
# What a difference is called, its first run, and the run it is taken from.
DIFFERENCES = (
    ("learning rate 0.0001 instead of 0.001", "paper-slow-0", "paper-0"),
    ("crops in training", "paper-crop-0", "paper-0"),
    ("crops in validation as well", "paper-crop-both-0", "paper-crop-0"),
    ("ten crops in testing", "zoogzog-0", WHOLE),
    ("all of these together", "zoogzog-0", "paper-0"),
    ("class weights in the loss", WEIGHTED, "true-0"),
    *((f"seed {b[-1]} instead of {a[-1]}", b, a) for a, b in combinations(SEEDS, 2)),
)


class Tested(NamedTuple):
    """A run's probabilities of the test films, and what they are judged by."""

    labels: np.ndarray  # bool [N, 14]
    scores: np.ndarray  # [N, 14]
    patients: np.ndarray  # [N]


def tested(name: str) -> Tested:
    """Return what a run said of the test films."""
    return Tested(tested_films().truth, kept(name).scores, tested_films().patients)


@cache
def _draws() -> Resamples:
    return Resamples(tested("true-0").patients, resamples=RESAMPLES)


@cache
def aurocs(name: str) -> Bootstrap:
    """Return a run's AUROCs of the 14 findings with their resamples, the same for all runs."""
    found = tested(name)
    return resampled(auroc, found.labels, found.scores, _draws())


@builds("training_runs")
def run_table() -> Built:
    """Mean AUROC of each run with its interval by patient."""
    names, films = (*SEEDS, WEIGHTED, *RECIPES, WHOLE), tested("true-0")
    n = len(films.labels), len(np.unique(films.patients))
    rows = []
    for name in names:
        mean = aurocs(name).mean()
        rows.append((name, *n, mean.estimate, *mean.interval(), mean.replicates.std(ddof=1)))
    columns = ["run", "n_films", "n_patients", "estimate", "low", "high", "patient_sd"]
    note = "estimate: mean AUROC; patient_sd: standard deviation over resamples of patients"
    return pd.DataFrame(rows, columns=columns), _provenance(names, note)


@builds("training_differences")
def difference_table() -> Built:
    """Differences of mean AUROC between runs, paired by film, intervals by patient."""
    rows, used = [], []
    for what, *pair in DIFFERENCES:
        used += pair
        first, second = (aurocs(name).mean() for name in pair)
        gap = first - second
        rows.append((what, *pair, gap.estimate, *gap.interval()))
    columns = ["what", "first", "second", "estimate", "low", "high"]
    note = "estimate: mean AUROC of first less that of second"
    return pd.DataFrame(rows, columns=columns), _provenance(used, note)


@builds("training_seeds")
def seed_table() -> Built:
    """AUROC of each finding in runs that differ by nothing but the seed."""
    tables = []
    for name in SEEDS:
        found = aurocs(name)
        spread = [one.replicates.std(axis=0, ddof=1) for one in (found, found.mean())]
        rows = by_finding(found, MEAN).assign(patient_sd=np.hstack(spread))
        rows.insert(1, "seed", int(name[-1]))
        tables.append(rows)
    note = "estimate: AUROC; patient_sd: standard deviation over resamples of patients"
    return pd.concat(tables, ignore_index=True), _provenance(SEEDS, note)


@builds("training_history")
def history_table() -> Built:
    """Losses and AUROC of the validation films after each epoch."""
    names = (*SEEDS, WEIGHTED, *RECIPES)
    parts = [pd.DataFrame(kept(name).about["history"]).assign(run=name) for name in names]
    columns = ["run", "epoch", "train_loss", "val_loss", "val_auroc", "learning_rate"]
    frame = pd.concat(parts, ignore_index=True)[columns]
    note = "val_loss: cross-entropy without weights; where films were cropped, of cropped films"
    return frame, _provenance(names, note)


@builds("training_calibration")
def calibration_table() -> Built:
    """Probabilities of networks trained with and without class weights, and with these undone."""
    share = open_dataset("phantom", "train", size=train_runs.SMALL["size"]).labels.mean(0)
    plain, weighted, draws = tested("true-0"), tested(WEIGHTED), _draws()
    undone = undo_class_weights(weighted.scores, positive=1 - share, negative=share)
    kinds = {
        "no weights": plain.scores,
        "class weights": weighted.scores,
        "class weights, undone": undone,
    }
    rows = []
    for kind, scores in kinds.items():
        gaps = ratio(scores - plain.labels, np.ones(scores.shape), draws)
        ends = np.quantile(gaps.replicates, [0.025, 0.975], axis=0).T
        for k, finding in enumerate(FINDINGS):
            y, p = plain.labels[:, k], scores[:, k]
            errors = calibration_error(y, p), _by_luck(p, seed=k)
            means = y.mean(), p.mean(), gaps.estimate[k]
            rows.append((finding, kind, *means, *ends[k], *errors))
    columns = ["finding", "probabilities", "positives", "promised", "estimate", "low", "high"]
    frame = pd.DataFrame(rows, columns=[*columns, "calibration_error", "by_luck"])
    note = (
        "promised: mean probability; estimate: promised less positives, interval by patient; "
        "calibration_error in 15 bins of equally many films; by_luck: what it would be if every "
        "probability were right, mean of 100 draws"
    )
    return frame, _provenance(("true-0", WEIGHTED), note)


def _by_luck(probabilities: np.ndarray, *, seed: int) -> float:
    rng = np.random.default_rng(seed)
    drawn = rng.random((100, len(probabilities))) < probabilities
    return float(np.mean([calibration_error(y, probabilities) for y in drawn if y.any()]))


CARDS = (
    # card, arithmetic, peak in TFLOPS without sparsity, memory in GB/s, citation
    ("P100", "float32", 9.3, 732, "nvidia_p100"),
    ("RTX 3090", "float16, tensor cores", 71.0, 936, "nvidia_ga102"),
    ("A100", "bfloat16, tensor cores", 312.0, 2039, "nvidia_a100"),
    ("H100", "bfloat16, tensor cores", 989.0, 3350, "nvidia_h100"),
)
SHEETS = "data sheets and benchmarks as cited, keys of book/references.bib"
SPEEDS = (
    # what, card, images a second in training, citation
    ("channels first", "RTX 3090", 730, "timm"),
    ("channels last", "RTX 3090", 914, "timm"),
)


@builds("graphics_cards")
def card_table() -> Built:
    """Peak rates of graphics cards, as their maker publishes them."""
    columns = ["card", "arithmetic", "peak_tflops", "memory_gb_per_s", "citation"]
    note = "P100: PCIe, 16 GB; A100: SXM, 80 GB; H100: SXM, 80 GB; without sparsity"
    return pd.DataFrame(CARDS, columns=columns), quoted(SHEETS, note=note)


@builds("training_speed")
def speed_table() -> Built:
    """Images a second of DenseNet-121 in training at 224 px, as published."""
    frame = pd.DataFrame(SPEEDS, columns=["what", "card", "images_per_second", "citation"])
    note = "DenseNet-121, 224 px, mixed precision, images already on the card"
    return frame, quoted(SHEETS, note=note)


def _provenance(names: Iterable[str], note: str) -> dict:
    """Name the films' sources and the predictions as inputs."""
    trainings = dict.fromkeys(name.partition(",")[0].rpartition("-")[0] for name in names)
    return simulated(
        "networks trained on simulated radiographs by data/train_runs.py",
        [LUNGS, LABELS, *map(path_of, trainings)],
        f"64 px, true labels; {note}",
    )
