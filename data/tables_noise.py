"""Tables of chapter 5: networks trained on wrong labels, judged by the truth and by the labels.

The runs are those of `data/train_runs.py`, kept under the cache folder: 14 probabilities for each
test film of the phantom. Intervals are of 95%. Where the spread of runs is part of them, it is that
of all trainings together, since none has many seeds.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import train_runs
from scipy.special import expit, logit
from scipy.stats import t as student

from chexlib.data import open_dataset, package_file, table
from chexlib.data.phantom import VERSION, noise_rates, noisy_labels
from chexlib.data.prevalence import clustered_mean
from chexlib.data.tables import table_folder
from chexlib.files import sha256
from chexlib.findings import FINDINGS
from chexlib.metrics import (
    Resamples,
    auroc,
    calibration_error,
    compare_with_reader,
    delong,
    holm,
    resampled,
)
from chexlib.metrics.label_issues import find_issues, precision_and_recall, undo_noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

TRAININGS = {
    **{"true": 2, "halved": 1, "measured": 2, "raised": 1, "doubled": 1},
    **{"corrected": 2, "symmetric": 2, "cue": 2},
}
"""Trainings, and how many of their seeds are judged."""

LABELS_OF = {"true": None, "corrected": "measured"}
"""Which noise a training's labels have, where it is not called like the training."""

PAIRS = (
    *((name, "true") for name in TRAININGS if name != "true"),
    *(("corrected", "measured"), ("symmetric", "measured"), ("cue", "measured")),
    *(("halved", "measured"), ("raised", "measured")),
)
MEAN = "mean of 14"
RESAMPLES = 1000
ASSUMED = (0.0, 0.5, 0.75, 1.0, 1.25)
"""Error rates that a correction takes for true, as multiples of the true ones."""
ALARMS = 0.1
"""Share of films without a finding that are called, where two trainings are to be compared."""
RUNS_TABLE = "noise_runs.csv"


@cache
def _films() -> pd.DataFrame:
    return open_dataset("phantom", "test", size=train_runs.SMALL["cache_size"]).films


@cache
def _truth() -> NDArray[np.bool_]:
    return _films()[list(FINDINGS)].to_numpy(dtype=bool)


@cache
def _labels(training: str) -> NDArray[np.bool_]:
    """Return the labels of the test films by the labeller that taught a training, [N, 14]."""
    kind = LABELS_OF.get(training, training)
    if kind is None:
        return _truth()
    return noisy_labels(_films(), **train_runs.NOISE[kind]).to_numpy()


def _patients() -> NDArray[np.int64]:
    return _films()["patient"].to_numpy(np.int64)


def _folder(training: str, seed: int):
    name = f"{training}-{seed}"
    folder = train_runs.folder_of(name)
    if not (folder / "metrics.json").is_file():
        raise FileNotFoundError(
            f"Expected a finished run in {folder}, found none: python data/train_runs.py {name}"
        )
    return folder


@cache
def _scores(training: str, seed: int) -> NDArray[np.float64]:
    frame = pd.read_csv(_folder(training, seed) / "predictions.csv")
    if frame["Image Index"].tolist() != _films()["image"].tolist():
        raise ValueError(f"Expected predictions of the phantom's test films from {training}-{seed}")
    return frame[list(FINDINGS)].to_numpy()


@cache
def _draws() -> Resamples:
    return Resamples(_patients(), resamples=RESAMPLES, seed=0)


def noise_runs() -> tuple[pd.DataFrame, dict[str, Any]]:
    """List what was trained, and the hash of its predictions: the input of all tables here."""
    rows = []
    for training, seeds in TRAININGS.items():
        for seed in range(seeds):
            folder = _folder(training, seed)
            place = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
            seconds = pd.read_csv(folder / "history.csv")["seconds"].sum()
            rows.append(
                {
                    "run": folder.name,
                    "training": training,
                    "seed": seed,
                    "labels": LABELS_OF.get(training, training) or "true",
                    "loss": train_runs.runs()[folder.name].get("loss", "bce"),
                    "minutes": round(seconds / 60, 1),
                    "torch": place["torch"],
                    "processor": place["processor"],
                    "predictions_sha256": sha256(folder / "predictions.csv"),
                }
            )
    inputs = [
        package_file("torchxrayvision", "data", "Data_Entry_2017_v2020.csv.gz"),
        *(table_folder() / name for name in ("label_quality.csv", "phantom_lungs.csv")),
    ]
    about = f"phantom {VERSION}; {len(_films())} test films; trained by python data/train_runs.py"
    return pd.DataFrame(rows), _about(inputs, about)


def noise_auroc() -> tuple[pd.DataFrame, dict[str, Any]]:
    """AUROC of each training by the truth and by its own labels, with both spreads."""
    found, rows = _Aurocs(), []
    for training, seeds in TRAININGS.items():
        for judge in ("truth", "labels"):
            for k, finding in enumerate((*FINDINGS, MEAN)):
                rows.append(
                    {
                        "training": training,
                        "seeds": seeds,
                        "judge": judge,
                        "finding": finding,
                        **found.row({training: 1.0}, judge, k),
                    }
                )
    note = (
        f"phantom {VERSION}; mean over seeds; intervals hold the spread over patients (DeLong, by "
        "patient) and over seeds (one variance for all trainings of a finding, t with its degrees "
        "of freedom); lowest, highest: of the seeds; labels: of the labeller that taught the run"
    )
    return pd.DataFrame(rows), _provenance(note)


def noise_differences() -> tuple[pd.DataFrame, dict[str, Any]]:
    """AUROC by the truth of one training less that of another, on the same films."""
    found, rows = _Aurocs(), []
    for first, second in PAIRS:
        if first not in TRAININGS:
            continue
        part = [
            {
                "first": first,
                "second": second,
                "finding": finding,
                **found.row({first: 1.0, second: -1.0}, "truth", k),
            }
            for k, finding in enumerate((*FINDINGS, MEAN))
        ]
        adjusted = [*holm([row["p"] for row in part[:-1]]), np.nan]
        rows += [row | {"p_adjusted": p} for row, p in zip(part, adjusted, strict=True)]
    frame = pd.DataFrame(rows).drop(columns=["lowest", "highest"])
    note = (
        f"phantom {VERSION}; mean over seeds; paired by film; intervals as in noise_auroc; "
        "p_adjusted: over the 14 findings of a pair"
    )
    return frame.rename(columns={"estimate": "difference"}), _provenance(note)


class _Aurocs:
    """All AUROCs by both judges, with their joint covariance over patients."""

    def __init__(self) -> None:
        self.runs = [(name, seed) for name, seeds in TRAININGS.items() for seed in range(seeds)]
        labels, scores = [], []
        for name, seed in self.runs:
            labels += [_truth(), _labels(name)]
            scores += [_scores(name, seed)] * 2
        found = delong(np.hstack(labels), np.hstack(scores), patient=_patients())
        n = len(FINDINGS)
        self.auroc = found.auroc.reshape(len(self.runs), 2, n)
        self.covariance = found.covariance

    def row(self, weights: dict[str, float], judge: str, k: int) -> dict[str, float]:
        """Return a weighted sum of trainings' AUROCs for a finding, or (k = 14) their mean."""
        j = ("truth", "labels").index(judge)
        values = self.auroc[:, j].mean(axis=-1) if k == len(FINDINGS) else self.auroc[:, j, k]
        coefficients = np.zeros_like(self.auroc)
        names = np.array([name for name, _ in self.runs])
        share = np.zeros(len(names))
        for name, weight in weights.items():
            share[names == name] = weight / (names == name).sum()
        if k == len(FINDINGS):
            coefficients[:, j] = share[:, None] / len(FINDINGS)
        else:
            coefficients[:, j, k] = share
        c = coefficients.ravel()
        estimate = float(share @ values)
        patients = float(c @ self.covariance @ c)
        left = sum(seeds - 1 for seeds in TRAININGS.values())
        spread = sum(
            ((values[names == name] - values[names == name].mean()) ** 2).sum()
            for name in TRAININGS
        )
        seeds = float(spread / left * (share**2).sum()) if left else 0.0
        variance = patients + seeds
        # Satterthwaite: the spread over patients is known well, that over seeds badly.
        freedom = left * (variance / seeds) ** 2 if seeds else np.inf
        error = np.sqrt(variance)
        half = student.ppf(0.975, freedom) * error
        one = len(weights) == 1
        if one:
            centre, half = logit(estimate), half / (estimate * (1 - estimate))
            low, high = expit(centre - half), expit(centre + half)
        else:
            low, high = estimate - half, estimate + half
        used = values[share > 0]
        return {
            "estimate": estimate,
            "low": float(low),
            "high": float(high),
            "p": np.nan if one else float(2 * student.sf(abs(estimate) / error, freedom)),
            "se_patients": np.sqrt(patients),
            "se_seeds": np.sqrt(seeds),
            "lowest": float(used.min()),
            "highest": float(used.max()),
        }


def noise_shrink() -> tuple[pd.DataFrame, dict[str, Any]]:
    """AUROC against the labels: seen, and what errors that ignore the film would leave."""
    rows, draws, truth = [], _draws(), _truth()
    for training, seeds in TRAININGS.items():
        if training == "true":
            continue
        labels = _labels(training)
        counts = np.stack([truth & labels, labels, ~truth & ~labels, ~labels], axis=1)
        share = [
            _per(counts.sum(axis=0, keepdims=True).astype(float))[0],
            _per(draws.sums(counts.reshape(len(truth), -1)).reshape(-1, 4, len(FINDINGS))),
        ]
        by = {}
        for judge, y in (("truth", truth), ("labels", labels)):
            found = [resampled(auroc, y, _scores(training, s), draws) for s in range(seeds)]
            by[judge] = [
                np.mean([one.estimate for one in found], axis=0),
                np.mean([one.replicates for one in found], axis=0),
            ]
        for k, finding in enumerate((*FINDINGS, MEAN)):
            pick = slice(None) if k == len(FINDINGS) else [k]
            expected, seen, factor = (
                [one[..., pick].mean(axis=-1) for one in figures]
                for figures in (
                    [0.5 + f * (a - 0.5) for f, a in zip(share, by["truth"], strict=True)],
                    by["labels"],
                    share,
                )
            )
            excess = [s - e for s, e in zip(seen, expected, strict=True)]
            row = {"training": training, "finding": finding}
            for name, (value, drawn) in {
                "factor": factor,
                "expected": expected,
                "seen": seen,
                "excess": excess,
            }.items():
                low, high = np.quantile(drawn, [0.025, 0.975])
                row |= {name: float(value), f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    note = (
        f"phantom {VERSION}; factor: PPV + NPV - 1 of the labels; expected: 0.5 + factor (AUROC "
        "against truth - 0.5); seen: AUROC against the labels; excess: seen less expected; mean "
        f"over seeds; intervals by bootstrap of patients, {RESAMPLES} resamples"
    )
    return pd.DataFrame(rows), _provenance(note)


def _per(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return PPV + NPV - 1 from counts [B, 4, 14] of true calls, calls, true passes, passes."""
    return counts[:, 0] / counts[:, 1] + counts[:, 2] / counts[:, 3] - 1


def noise_readers() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Each run against the labels that taught it, both judged by the truth."""
    rows, truth, patient = [], _truth(), _patients()
    for training, seeds in TRAININGS.items():
        # What was taught the truth is the most that can be hoped for: against measured labels.
        labeller = "measured" if training == "true" else LABELS_OF.get(training, training)
        labels = _labels(labeller)
        for seed in range(seeds if training == "measured" else 1):
            scores, part = _scores(training, seed), []
            for k, finding in enumerate(FINDINGS):
                found = compare_with_reader(
                    *(truth[:, k], scores[:, k], labels[:, k]),
                    patient=patient,
                    resamples=RESAMPLES,
                )
                rate = labels[~truth[:, k], k].mean()
                part.append(
                    {
                        **{"training": training, "seed": seed, "labels": labeller},
                        **{"finding": finding},
                        **{"n_positive": int(truth[:, k].sum()), "false_positive_rate": rate},
                        **{"first": found.first, "second": found.second},
                        **{"difference": found.difference},
                        **{"low": found.low, "high": found.high, "p": found.p_value},
                    }
                )
            adjusted = holm([row["p"] for row in part])
            rows += [row | {"p_adjusted": p} for row, p in zip(part, adjusted, strict=True)]
    note = (
        f"phantom {VERSION}; sensitivity: first is the run's, second the label's, both by the "
        f"truth, at the label's false-positive rate; bootstrap by patient, {RESAMPLES} resamples; "
        "p_adjusted: adjusted for the 14 findings of a run"
    )
    return pd.DataFrame(rows), _provenance(note)


def noise_habits() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Ask, among films without a finding, whether its score knows the tube, or the wrong labels."""
    names = [name for name in ("true", "measured", "symmetric", "cue") if name in TRAININGS]
    tube, truth, patient = _films()["device_tube"].to_numpy(bool), _truth(), _patients()
    rows = []
    for k, finding in enumerate(FINDINGS):
        negative = ~truth[:, k]
        for target in ("tube", "label"):
            # By "label" the true labels have none among these films: the cue's stand in.
            wanted = {
                name: tube if target == "tube" else _labels("cue" if name == "true" else name)[:, k]
                for name in names
            }
            columns, owner = [], []
            for name in names:
                for seed in range(TRAININGS[name]):
                    columns.append((wanted[name][negative], _scores(name, seed)[negative, k]))
                    owner.append(name)
            labels, scores = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
            found = delong(labels, scores, patient=patient[negative])
            owner = np.array(owner)

            def share(name: str, owner: NDArray = owner) -> NDArray[np.float64]:
                return (owner == name) / (owner == name).sum()

            one = {"finding": finding, "among": "truly negative", "target": target}
            for name in names:
                count = {"n_films": int(negative.sum()), "n": int(wanted[name][negative].sum())}
                if target == "label" and name == "true":
                    continue
                gap = found.contrast(share(name))
                rows.append({**one, **count, "training": name, "less": "", **_ends(gap)})
            if target == "tube":
                for other in [other for other in ("true", "measured") if other in names]:
                    gap = found.contrast(share("cue") - share(other))
                    rows.append({**one, **count, "training": "cue", "less": other, **_ends(gap)})
        one = {"finding": finding, "among": "truly negative"}
        for name in names:
            # At a threshold for each seed that calls a tenth of the films without the finding.
            called = np.mean(
                [_called(_scores(name, s)[negative, k]) for s in range(TRAININGS[name])], 0
            )
            for target, part in (("tube", tube[negative]), ("no tube", ~tube[negative])):
                mean, error = clustered_mean(called[part, None], patient[negative][part])
                ends = {"low": mean[0] - 1.96 * error[0], "high": mean[0] + 1.96 * error[0]}
                count = {"n_films": int(negative.sum()), "n": int(part.sum())}
                where = {"target": f"alarms, {target}", "training": name, "less": ""}
                rows.append({**one, **where, **count, "estimate": mean[0], **ends})
    frame = pd.DataFrame(rows)
    compared = frame["less"] != ""
    frame.loc[~compared, "p"] = np.nan
    for _, part in frame[compared].groupby("less"):
        frame.loc[part.index, "p_adjusted"] = holm(part["p"])
    note = (
        f"phantom {VERSION}; AUROC, among films truly without the finding, of its score for a "
        "tracheal tube, and for the label (n of n_films have it); less: a difference between two "
        f"trainings; alarms: share called where {ALARMS:.0%} of all films without the finding are, "
        "among the n with and without a tube; mean over seeds; DeLong by patient, thresholds taken "
        "as fixed; p_adjusted: adjusted for 14 findings"
    )
    return frame, _provenance(note)


def _called(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    return scores > np.quantile(scores, 1 - ALARMS)


def _ends(found: Any) -> dict[str, float]:
    return {
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
        "p": found.p_value,
    }


def noise_calibration() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Mean probability against the true share; calibration error; Brier score, also compared."""
    rows = []
    truth = _truth()
    for training, seeds in TRAININGS.items():
        scores = [_scores(training, seed) for seed in range(seeds)]
        predicted = np.mean(scores, axis=0)
        squared = np.mean([(one - truth) ** 2 for one in scores], axis=0)
        error = [
            np.mean([calibration_error(truth[:, k], one[:, k]) for one in scores])
            for k in range(len(FINDINGS))
        ]
        figures = {
            "probability less truth": predicted - truth,
            "Brier score": squared,
        }
        if training == "corrected":
            other = [_scores("measured", seed) for seed in range(TRAININGS["measured"])]
            figures["Brier score less that of measured"] = squared - np.mean(
                [(one - truth) ** 2 for one in other], axis=0
            )
        for what, films in figures.items():
            rows += _means(films, {"training": training, "measure": what})
        for finding, value in zip((*FINDINGS, MEAN), [*error, np.mean(error)], strict=True):
            where = {"training": training, "measure": "calibration error", "finding": finding}
            rows.append(where | {"estimate": value})
        shares = {"true share": truth, "labelled share": _labels(training)}
        for what, films in shares.items():
            rows += _means(films.astype(float), {"training": training, "measure": what})
    note = (
        f"phantom {VERSION}; means over test films and seeds, 95% intervals by patient; "
        "calibration error: 15 bins of equal mass, by the truth"
    )
    return pd.DataFrame(rows), _provenance(note)


def noise_wrong_rates() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Correct the probabilities of networks taught wrong labels, with rates that are assumed."""
    rates, rows, truth = noise_rates(), [], _truth()
    for scale in ASSUMED:
        sensitivity = 1 - scale * (1 - rates["sensitivity"].to_numpy())
        specificity = 1 - scale * (1 - rates["specificity"].to_numpy())
        for source in ("measured", "cue"):
            if source not in TRAININGS:
                continue
            fixed = [
                undo_noise(_scores(source, seed), sensitivity=sensitivity, specificity=specificity)
                for seed in range(TRAININGS[source])
            ]
            where = {"training": source, "assumed": scale}
            gap = np.mean(fixed, axis=0) - truth
            rows += _means(gap, where | {"measure": "probability less truth"})
            brier = np.mean([(one - truth) ** 2 for one in fixed], axis=0)
            rows += _means(brier, where | {"measure": "Brier score"})
            area = np.mean([auroc(truth, one) for one in fixed])
            rows.append(where | {"measure": "AUROC", "finding": MEAN, "estimate": area})
            edge = np.mean([((one == 0) | (one == 1)).mean() for one in fixed])
            rows.append(where | {"measure": "cut off", "finding": MEAN, "estimate": edge})
    note = (
        f"phantom {VERSION}; probabilities r of networks taught noisy labels, turned into (r - 1 + "
        "t) / (s + t - 1), cut off at 0 and 1; assumed: multiple of the true error rates 1 - s and "
        "1 - t; means over test films and seeds, 95% intervals by patient"
    )
    return pd.DataFrame(rows), _provenance(note)


def noise_issues() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Which labels of the test films cleanlab calls wrong, and which of them are."""
    rows, truth, draws = [], _truth(), _draws()
    names = ("measured", "symmetric", "cue", "halved", "raised")
    for training in (name for name in names if name in TRAININGS):
        labels, scores = _labels(training), _scores(training, 0)
        wrong = labels != truth
        cleanlab = np.stack(
            [find_issues(labels[:, k], scores[:, k]) for k in range(len(FINDINGS))], axis=1
        )
        flags = {
            "cleanlab": cleanlab,
            "as many, by distance": _farthest(labels, scores, cleanlab.sum(axis=0)),
            "as many as are wrong, by distance": _farthest(labels, scores, wrong.sum(axis=0)),
        }
        for method, flagged in flags.items():
            for kind, there in (("all", True), ("invented", labels), ("missed", ~labels)):
                found = precision_and_recall(wrong & there, flagged & there, draws, of=there)
                for k, finding in enumerate((*FINDINGS, "all 14")):
                    where = {"training": training, "method": method, "errors": kind}
                    figures = {name: values[k] for name, values in found.items()}
                    rows.append(where | {"finding": finding} | figures)
    note = (
        f"phantom {VERSION}; test films, probabilities of seed 0, which was trained on other films "
        "with the same kind of noise; share_wrong: of labels looked at (all, those given, those "
        "not given); precision: of flagged labels, wrong; recall: of wrong labels, flagged; "
        f"intervals by bootstrap of patients, {RESAMPLES} resamples; cleanlab's default filter"
    )
    return pd.DataFrame(rows), _provenance(note)


def _farthest(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], count: NDArray[np.int_]
) -> NDArray[np.bool_]:
    """Flag the labels of each finding that are farthest from its probability, so many of each."""
    flagged = np.zeros_like(labels)
    order = np.argsort(-np.abs(labels - scores), axis=0, kind="stable")
    for k, n in enumerate(count):
        flagged[order[:n, k], k] = True
    return flagged


def _means(films: NDArray[np.float64], where: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows of the mean over films of each finding, and of all, with intervals by patient."""
    films = np.column_stack([films, films.mean(axis=1)])
    mean, error = clustered_mean(films, _patients())
    return [
        where | {"finding": finding, "estimate": m, "low": m - 1.96 * e, "high": m + 1.96 * e}
        for finding, m, e in zip((*FINDINGS, MEAN), mean, error, strict=True)
    ]


def _provenance(note: str) -> dict[str, Any]:
    """Return where a table comes from; the runs it read must be those that are listed."""
    listed = table(RUNS_TABLE.partition(".")[0]).set_index("run")["predictions_sha256"]
    for training, seeds in TRAININGS.items():
        for seed in range(seeds):
            folder = _folder(training, seed)
            if listed.get(folder.name) != sha256(folder / "predictions.csv"):
                raise ValueError(
                    f"Expected the predictions of {folder.name} as {RUNS_TABLE} lists them, got "
                    "others. Run python data/make_tables.py noise_runs first."
                )
    return _about([table_folder() / RUNS_TABLE], note)


def _about(inputs: list, note: str) -> dict[str, Any]:
    return {
        "source": "simulated radiographs; label quality as measured in data/label_quality.csv",
        "licence": "figures CC BY 4.0; label rows of NIH, free use with attribution",
        "inputs": inputs,
        "note": note,
    }


TABLES: dict[str, Callable[[], tuple[pd.DataFrame, dict[str, Any]]]] = {
    "noise_runs": noise_runs,
    "noise_auroc": noise_auroc,
    "noise_differences": noise_differences,
    "noise_shrink": noise_shrink,
    "noise_readers": noise_readers,
    "noise_habits": noise_habits,
    "noise_calibration": noise_calibration,
    "noise_wrong_rates": noise_wrong_rates,
    "noise_issues": noise_issues,
}
