"""Tables of chapter 4: what recipes, crops, class weights and seeds do to a network in training.

Runs are those of ``data/train_runs.py``: simulated films of 64 px, three epochs, true labels. All
are tested on the same films, so differences are paired by film and their intervals are by patient.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from train_runs import folder_of, runs

from chexlib.data import open_dataset, package_file
from chexlib.data.phantom import VERSION
from chexlib.data.tables import table_folder
from chexlib.files import sha256
from chexlib.findings import FINDINGS
from chexlib.metrics import Resamples, auroc, calibration_error, resampled, undo_class_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from chexlib.metrics.resampling import Bootstrap

LABELS = package_file("torchxrayvision", "data", "Data_Entry_2017_v2020.csv.gz")
LUNGS = table_folder() / "phantom_lungs.csv"  # what the phantom's anatomy is drawn from
LICENCE = "figures CC BY 4.0; label rows of NIH, free use with attribution"
MEAN = "Mean of 14"
RESAMPLES = 2000

SEEDS = tuple(f"true-{seed}" for seed in range(5))
RECIPES = ("paper-0", "paper-slow-0", "paper-crop-0", "paper-crop-both-0", "zoogzog-0")
WEIGHTED = "weighted-0"
WHOLE = "zoogzog-0, whole films"  # the same weights as zoogzog-0, tested without ten crops
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


def _file(name: str, file: str) -> str:
    """Return a file of a finished run, or say what trains it."""
    path = folder_of(name) / file
    if not (folder_of(name) / "metrics.json").is_file():
        raise FileNotFoundError(
            f"Expected the finished run {name!r} in {path.parent}, found none: "
            f"python data/train_runs.py {name}"
        )
    return str(path)


@cache
def tested(name: str) -> Tested:
    """Return what a run said of the test films."""
    run = name.partition(",")[0]
    films = pd.read_csv(_file(run, "labels.csv"))
    texts = films["Finding Labels"].str.get_dummies("|")
    labels = texts.reindex(columns=list(FINDINGS), fill_value=0).to_numpy(bool)
    scores = _whole_films(run) if name == WHOLE else pd.read_csv(_file(run, "predictions.csv"))
    if list(scores["Image Index"]) != list(films["Image Index"]):
        raise ValueError(f"Expected labels and predictions of the same films in the run {run!r}.")
    return Tested(labels, scores[list(FINDINGS)].to_numpy(), films["Patient ID"].to_numpy())


def _whole_films(name: str) -> pd.DataFrame:
    """Test the weights of a run that was tested by ten crops once more, on whole films."""
    from chexlib.models import load_checkpoint
    from chexlib.training import RECIPES as KNOWN
    from chexlib.training import predict
    from chexlib.training.recipes import data_options

    model = load_checkpoint(_file(name, "best.safetensors"))
    recipe = KNOWN["phantom-cpu"].with_values(**runs()[name])
    films = open_dataset("phantom", "test", **data_options(recipe))
    scores = pd.DataFrame(predict(model, films, size=recipe.size), columns=list(FINDINGS))
    return scores.assign(**{"Image Index": films.films["image"].to_numpy()})


@cache
def _draws() -> Resamples:
    return Resamples(tested("true-0").patients, resamples=RESAMPLES)


@cache
def aurocs(name: str) -> Bootstrap:
    """Return a run's AUROCs of the 14 findings with their resamples, the same for all runs."""
    found = tested(name)
    if not np.array_equal(found.labels, tested("true-0").labels):
        raise ValueError(f"Expected the run {name!r} to be tested on the films of true-0.")
    return resampled(auroc, found.labels, found.scores, _draws())


def _there(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the runs that are finished; the first is a must."""
    _file(names[0], "predictions.csv")
    return tuple(n for n in names if (folder_of(n.partition(",")[0]) / "metrics.json").is_file())


def run_table() -> tuple[pd.DataFrame, dict]:
    """Mean AUROC of each run with its interval by patient."""
    rows = []
    names = _there((*SEEDS, WEIGHTED, *RECIPES, WHOLE))
    for name in names:
        mean = aurocs(name).mean()
        low, high = mean.interval()
        spread = mean.replicates.std(ddof=1)
        rows.append((name, float(mean.estimate), low, high, spread))
    frame = pd.DataFrame(rows, columns=["run", "mean_auroc", "low", "high", "patient_sd"])
    found = tested("true-0")
    frame.insert(1, "n_films", len(found.labels))
    frame.insert(2, "n_patients", len(np.unique(found.patients)))
    return frame, _provenance(names, "patient_sd: standard deviation over resamples of patients")


def difference_table() -> tuple[pd.DataFrame, dict]:
    """Differences of mean AUROC between runs, paired by film, intervals by patient."""
    rows, used = [], {}
    for what, first, second in DIFFERENCES:
        if len(_there(("true-0", first, second))) < 3:
            continue
        used |= {first: None, second: None}
        gap = aurocs(first).mean() - aurocs(second).mean()
        rows.append((what, first, second, float(gap.estimate), *gap.interval()))
    columns = ["what", "first", "second", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns), _provenance(
        tuple(used), "difference: mean AUROC of first less that of second"
    )


def seed_table() -> tuple[pd.DataFrame, dict]:
    """AUROC of each finding in runs that differ by nothing but the seed."""
    rows = []
    names = _there(SEEDS)
    for name in names:
        found = aurocs(name)
        low, high = found.interval()
        spread = found.replicates.std(axis=0, ddof=1)
        values = zip(FINDINGS, found.estimate, low, high, spread, strict=True)
        rows += [(finding, int(name[-1]), *row) for finding, *row in values]
        mean = found.mean()
        spread = mean.replicates.std(ddof=1)
        rows.append((MEAN, int(name[-1]), float(mean.estimate), *mean.interval(), spread))
    columns = ["finding", "seed", "auroc", "low", "high", "patient_sd"]
    return pd.DataFrame(rows, columns=columns), _provenance(
        names, "patient_sd: standard deviation over resamples of patients"
    )


def history_table() -> tuple[pd.DataFrame, dict]:
    """Losses and AUROC of the validation films after each epoch."""
    names = _there((*SEEDS, WEIGHTED, *RECIPES))
    parts = [pd.read_csv(_file(name, "history.csv")).assign(run=name) for name in names]
    columns = ["run", "epoch", "train_loss", "val_loss", "val_auroc", "learning_rate"]
    frame = pd.concat(parts, ignore_index=True)[columns]
    note = "val_loss: cross-entropy without weights; where films were cropped, of cropped films"
    return frame, _provenance(names, note)


def calibration_table() -> tuple[pd.DataFrame, dict]:
    """Probabilities of networks trained with and without class weights, and with these undone."""
    _there((WEIGHTED, "true-0"))
    share = open_dataset("phantom", "train", size=64).labels.mean(0)
    plain, weighted = tested("true-0"), tested(WEIGHTED)
    undone = undo_class_weights(weighted.scores, positive=1 - share, negative=share)
    kinds = {
        "no weights": plain.scores,
        "class weights": weighted.scores,
        "class weights, undone": undone,
    }
    rows, draws = [], _draws()
    for kind, scores in kinds.items():
        both = np.column_stack([plain.labels, scores])
        sums, n = draws.sums(both), draws.sums(np.ones((len(scores), 1)))
        gaps = (sums[:, len(FINDINGS) :] - sums[:, : len(FINDINGS)]) / n
        low, high = np.quantile(gaps, [0.025, 0.975], axis=0)
        for k, finding in enumerate(FINDINGS):
            y, p = plain.labels[:, k], scores[:, k]
            error, luck = calibration_error(y, p), _by_luck(p, seed=k)
            gap = p.mean() - y.mean()
            rows.append((finding, kind, y.mean(), p.mean(), gap, low[k], high[k], error, luck))
    columns = ["finding", "probabilities", "positives", "promised", "gap", "low", "high"]
    frame = pd.DataFrame(rows, columns=[*columns, "calibration_error", "by_luck"])
    note = (
        "promised: mean probability; gap: promised less positives, interval by patient; "
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
SPEEDS = (
    # what, card, images a second in training, citation
    ("channels first", "RTX 3090", 730, "timm"),
    ("channels last", "RTX 3090", 914, "timm"),
)


def card_table() -> tuple[pd.DataFrame, dict]:
    """Peak rates of graphics cards, as their maker publishes them."""
    columns = ["card", "arithmetic", "peak_tflops", "memory_gb_per_s", "citation"]
    note = "P100: PCIe, 16 GB; A100: SXM, 80 GB; H100: SXM, 80 GB; without sparsity"
    return pd.DataFrame(CARDS, columns=columns), _quoted(note)


def speed_table() -> tuple[pd.DataFrame, dict]:
    """Images a second of DenseNet-121 in training at 224 px, as published."""
    frame = pd.DataFrame(SPEEDS, columns=["what", "card", "images_per_second", "citation"])
    return frame, _quoted("DenseNet-121, 224 px, mixed precision, images already on the card")


def _quoted(note: str) -> dict:
    source = "data sheets and benchmarks as cited, keys of book/references.bib"
    return {"source": source, "licence": "figures quoted", "inputs": [], "note": note}


def _provenance(names: tuple[str, ...], note: str) -> dict:
    """Name the films' sources as inputs, and each run by what it said of the test films."""
    digests = {}
    for name in dict.fromkeys(name.partition(",")[0] for name in names):
        digests[name] = sha256(_file(name, "predictions.csv"))[:12]
    listed = ", ".join(f"{name} {digest}" for name, digest in digests.items())
    return {
        "source": "networks trained on simulated radiographs by data/train_runs.py",
        "licence": LICENCE,
        "inputs": [LUNGS, LABELS],
        "note": f"phantom {VERSION}; 64 px, 3 epochs, true labels; {note}; runs by the first 12 "
        f"digits of the SHA-256 of their predictions: {listed}",
    }


TABLES: dict[str, Callable[[], tuple[pd.DataFrame, dict]]] = {
    "training_runs": run_table,
    "training_differences": difference_table,
    "training_seeds": seed_table,
    "training_history": history_table,
    "training_calibration": calibration_table,
    "graphics_cards": card_table,
    "training_speed": speed_table,
}
