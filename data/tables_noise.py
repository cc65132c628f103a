"""Tables of chapter 7: networks trained on wrong labels, judged by the truth and by the labels.

The runs are those of `data/train_runs.py`; what they said of the phantom's test films is kept in
`data/predictions`. Intervals are of 95%. Where the spread of runs is part of them, it is each
training's own: careless labels make runs differ more than right ones do.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import train_runs
from builders import LABELS, LUNGS, Built, builds, named, simulated
from keep_predictions import COMPARED, kept, path_of, tested_films
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import sem
from scipy.stats import t as student

from chexlib.data.phantom import noise_rates, noisy_labels
from chexlib.data.prevalence import clustered_mean
from chexlib.data.tables import table_folder
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
from chexlib.metrics.label_noise import find_issues, undo_noise

TRAININGS = {
    name: train_runs.VARIANTS[name][0] for name in ("true", *train_runs.NOISE, "corrected")
}
"""Trainings, and how many seeds they have: other first weights, and other errors of the labels."""

LABELS_OF = {"true": None, "start": None, "corrected": "measured", "start-measured": "measured"}
"""Which noise a training's labels have, where it is not called like the training."""

PAIRS = (
    *((name, "true") for name in TRAININGS if name != "true"),
    *((name, "measured") for name in TRAININGS if name not in ("true", "measured", "doubled")),
)
MEAN = "mean of 14"
EVERY = (*FINDINGS, MEAN)
RESAMPLES = 1000
ASSUMED = (0.0, 0.5, 0.75, 1.0, 1.25)
"""Error rates that a correction takes for true, as multiples of the true ones."""
DRAWS = 4
"""Draws of the test films' labels for each run, where a rule is tested: one is too noisy."""
ALARMS = 0.1
"""Share of films without a finding that are called, where two trainings are to be compared."""


def _films() -> pd.DataFrame:
    return tested_films().films


@cache
def _truth() -> NDArray[np.bool_]:
    return _films()[list(FINDINGS)].to_numpy(dtype=bool)


@cache
def _labels(training: str, seed: int) -> NDArray[np.bool_]:
    """Return the labels of the test films by the labeller that taught a run, [N, 14]."""
    kind = LABELS_OF.get(training, training)
    if kind is None:
        return _truth()
    return noisy_labels(_films(), **train_runs.NOISE[kind], seed=seed).to_numpy()


def _patients() -> NDArray[np.int64]:
    return _films()["patient"].to_numpy(np.int64)


def _scores(training: str, seed: int) -> NDArray[np.float64]:
    return kept(train_runs.runs_of(training)[seed]).scores


def _seeds(training: str) -> list[NDArray[np.float64]]:
    """Return the scores of a training's seeds that are judged."""
    return [_scores(training, seed) for seed in range(TRAININGS[training])]


def _runs() -> list[tuple[str, int]]:
    return [(training, seed) for training, seeds in TRAININGS.items() for seed in range(seeds)]


@cache
def _draws() -> Resamples:
    return Resamples(_patients(), resamples=RESAMPLES, seed=0)


@builds("noise_runs")
def noise_runs() -> Built:
    """List what was trained, for how long, and on what."""
    rows = []
    for training, seed in _runs():
        about = kept(f"{training}-{seed}").about
        labels = LABELS_OF.get(training, training) or "true"
        loss = about["values"].get("loss", "bce")
        made = about["minutes"], about["torch"], about["processor"]
        rows.append((f"{training}-{seed}", training, seed, labels, loss, *made))
    columns = ["run", "training", "seed", "labels", "loss", "minutes", "torch", "processor"]
    note = f"{len(_films())} test films; trained by python data/train_runs.py"
    return pd.DataFrame(rows, columns=columns), _provenance(note)


@builds("noise_auroc")
def noise_auroc() -> Built:
    """AUROC of each training by the truth and by its own labels, with both spreads."""
    found, rows = _Aurocs(), []
    for training, judge, (k, finding) in product(TRAININGS, JUDGES, enumerate(EVERY)):
        where = {"training": training, "seeds": TRAININGS[training], "judge": judge}
        rows.append(where | {"finding": finding} | found.row({training: 1.0}, judge, k))
    note = (
        "mean over seeds; intervals hold the spread over patients (DeLong, by patient) and over "
        "seeds (each training's own, t with the degrees of freedom of Welch and Satterthwaite); "
        "lowest, highest: of the seeds; labels: of the labeller that taught the run, whose errors "
        "are drawn anew with each seed"
    )
    return pd.DataFrame(rows), _provenance(note)


@builds("noise_differences")
def noise_differences() -> Built:
    """AUROC by the truth of one training less that of another, on the same films."""
    found, tables = _Aurocs(), []
    for first, second in PAIRS:
        rows = [found.row({first: 1.0, second: -1.0}, "truth", k) for k in range(len(EVERY))]
        part = pd.DataFrame(rows).drop(columns=["lowest", "highest"])
        part = pd.DataFrame({"first": first, "second": second, "finding": EVERY}).join(part)
        tables.append(part.assign(p_adjusted=[*holm(part["p"][:-1]), np.nan]))
    note = (
        "estimate: AUROC of first less that of second, mean over seeds; paired by film; intervals "
        "as in noise_auroc; p_adjusted: adjusted for the 14 findings of a pair"
    )
    return pd.concat(tables, ignore_index=True), _provenance(note)


JUDGES = ("truth", "labels")


class _Aurocs:
    """All AUROCs by both judges, with their joint covariance over patients."""

    def __init__(self) -> None:
        labels, scores = [], []
        for name, seed in _runs():
            labels += [_truth(), _labels(name, seed)]
            scores += [_scores(name, seed)] * 2
        found = delong(np.hstack(labels), np.hstack(scores), patient=_patients())
        self.names = np.array([name for name, _ in _runs()])
        self.auroc = found.auroc.reshape(len(self.names), 2, len(FINDINGS))
        self.covariance = found.covariance

    def row(self, weights: dict[str, float], judge: str, k: int) -> dict[str, float]:
        """Return a weighted sum of trainings' AUROCs for a finding, or (k = 14) their mean."""
        j, names = JUDGES.index(judge), self.names
        findings = range(len(FINDINGS)) if k == len(FINDINGS) else [k]
        values = self.auroc[:, j, findings].mean(axis=-1)
        share = np.zeros(len(names))
        for name, weight in weights.items():
            share[names == name] = weight / (names == name).sum()
        coefficients = np.zeros_like(self.auroc)
        coefficients[:, j, findings] = share[:, None] / len(findings)
        c = coefficients.ravel()
        estimate = float(share @ values)
        patients = float(c @ self.covariance @ c)
        seeds, uncertain = 0.0, 0.0
        for name, weight in weights.items():
            own = values[names == name]
            part = weight**2 * own.var(ddof=1) / len(own)
            seeds, uncertain = seeds + part, uncertain + part**2 / (len(own) - 1)
        # Welch and Satterthwaite: the spread over patients is known well, that over seeds badly.
        freedom = (patients + seeds) ** 2 / uncertain
        error = np.sqrt(patients + seeds)
        half, p = student.ppf(0.975, freedom) * error, np.nan
        if len(weights) == 1:
            half /= estimate * (1 - estimate)
            low, high = (expit(logit(estimate) + sign * half) for sign in (-1, 1))
        else:
            low, high = estimate - half, estimate + half
            p = 2 * student.sf(abs(estimate) / error, freedom)
        used = values[share > 0]
        ends = {"estimate": estimate, "low": low, "high": high, "p": p}
        spreads = {"se_patients": np.sqrt(patients), "se_seeds": np.sqrt(seeds)}
        return ends | spreads | {"lowest": used.min(), "highest": used.max()}


@builds("noise_curve")
def noise_curve() -> Built:
    """AUROC by the truth against the share of patients in training, and where noisy labels stand.

    What a labelled film is worth of one with the truth: the share of the patients with whose true
    labels a network gets as far, given as many steps (few films, seen often) or as many passes (as
    often seen, in fewer steps); between the shares that were tried, linear in their logarithm.
    """
    noisy = [name for name in TRAININGS if name in train_runs.NOISE]
    curves = {
        kind: {f"{kind}-{share}": share for share in train_runs.SHARES} | {"true": 1.0}
        for kind in ("steps", "passes")
    }
    shares = {name: share for curve in curves.values() for name, share in curve.items()}
    runs = {
        name: [
            resampled(auroc, _truth(), kept(run).scores, _draws()).mean()
            for run in train_runs.runs_of(name)
        ]
        for name in (*shares, *noisy)
    }
    single = {name: np.array([float(one.estimate) for one in each]) for name, each in runs.items()}
    rng, means = np.random.default_rng(0), {}
    for name, each in runs.items():
        patients = np.mean([one.replicates for one in each], axis=0)
        seeds = rng.standard_t(len(each) - 1, size=len(patients)) * sem(single[name])
        means[name] = np.append(single[name].mean(), patients + seeds)
    rows = []
    for name, values in means.items():
        row = {"training": name, "share": shares.get(name, 1.0), "seeds": len(runs[name])}
        found = {"auroc": values}
        for kind, curve in curves.items():
            reached = np.maximum.accumulate([means[of] for of in curve], axis=0).T
            tried = np.log(list(curve.values()))
            worth = [np.interp(a, one, tried) for a, one in zip(values, reached, strict=True)]
            found[kind] = np.exp(worth) if name in noisy else np.full(len(values), np.nan)
        for what, drawn in found.items():
            row |= named(what, drawn[0], *np.quantile(drawn[1:], [0.025, 0.975]))
        rows.append(row)
    note = (
        "mean AUROC of 14 findings by the truth; share: of the training patients; steps, passes: "
        "the share of patients with true labels that gets as far with as many steps, or passes, at "
        f"least {min(train_runs.SHARES)}; intervals hold the spread over patients (bootstrap, "
        f"{RESAMPLES} resamples) and over seeds (each training's own, Student's t)"
    )
    return pd.DataFrame(rows), _provenance(note, *shares, *noisy)


@builds("noise_shrink")
def noise_shrink() -> Built:
    """AUROC against the labels: seen, and what errors that ignore the film would leave."""
    tables, draws, truth = [], _draws(), _truth()

    def areas(labels: NDArray, scores: NDArray) -> NDArray[np.float64]:
        """Return the AUROCs: of the films themselves, then of the resamples."""
        found = resampled(auroc, labels, scores, draws)
        return np.vstack([found.estimate, found.replicates])

    for training, seeds in TRAININGS.items():
        if training == "true":
            continue
        runs, right = [], [areas(truth, scores) for scores in _seeds(training)]
        for seed in range(DRAWS * seeds):
            labels, scores = _labels(training, seed), _scores(training, seed % seeds)
            counts = np.stack([truth & labels, labels, ~truth & ~labels, ~labels], axis=1)
            counts = counts.reshape(len(truth), -1)
            sums = np.vstack([counts.sum(axis=0), draws.sums(counts)])
            sums = sums.reshape(-1, 4, len(FINDINGS))
            with np.errstate(invalid="ignore"):
                factor = sums[:, 0] / sums[:, 1] + sums[:, 2] / sums[:, 3] - 1
            expected = 0.5 + factor * (right[seed % seeds] - 0.5)
            seen = areas(labels, scores)
            runs.append([factor, expected, seen, seen - expected])
        columns = {"training": training, "finding": EVERY}
        figures = ("factor", "expected", "seen", "excess")
        # A resample may lack a film that one of the draws labels Hernia: then the others count.
        for name, values in zip(figures, np.nanmean(runs, axis=0), strict=True):
            both = np.column_stack([values, values.mean(axis=1)])
            columns |= named(name, both[0], *np.quantile(both[1:], [0.025, 0.975], axis=0))
        tables.append(pd.DataFrame(columns))
    note = (
        "factor: PPV + NPV - 1 of the labels; expected: 0.5 + factor (AUROC against truth - 0.5); "
        f"seen: AUROC against the labels; excess: seen less expected; mean over seeds and {DRAWS} "
        f"draws of labels each; intervals by bootstrap of patients, {RESAMPLES} resamples"
    )
    return pd.concat(tables, ignore_index=True), _provenance(note)


@builds("noise_readers")
def noise_readers() -> Built:
    """Each run against the labels that taught it, both judged by the truth."""
    tables, truth, patient = [], _truth(), _patients()
    for training, seed in [*_runs(), *((name, 0) for name in COMPARED)]:
        if seed and training != "measured":
            continue
        # What was taught the truth is the most that can be hoped for: against measured labels.
        labeller = LABELS_OF.get(training, training) or "measured"
        labels, scores, rows = _labels(labeller, seed), _scores(training, seed), []
        for k, finding in enumerate(FINDINGS):
            y, called = truth[:, k], labels[:, k]
            options = {"patient": patient, "resamples": RESAMPLES}
            found = compare_with_reader(y, scores[:, k], called, **options)
            row = finding, int(y.sum()), called[~y].mean(), found.first, found.second
            rows.append((*row, found.difference, found.low, found.high, found.p_value))
        columns = ["finding", "n_positive", "false_positive_rate", "first", "second"]
        part = pd.DataFrame(rows, columns=[*columns, "estimate", "low", "high", "p"])
        for place, (name, value) in enumerate(
            {"training": training, "seed": seed, "labels": labeller}.items()
        ):
            part.insert(place, name, value)
        tables.append(part.assign(p_adjusted=holm(part["p"])))
    note = (
        "estimate: first less second; sensitivity: first is the run's, second the label's, both by "
        f"the truth, at the label's false-positive rate; bootstrap by patient, {RESAMPLES} "
        "resamples; p_adjusted: adjusted for the 14 findings of a run; start: films of 112 px, a "
        "wider network"
    )
    return pd.concat(tables, ignore_index=True), _provenance(note, *TRAININGS, *COMPARED)


def _called(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Call a tenth of the films; those tied at the threshold, many in half precision, in part."""
    cut = np.quantile(scores, 1 - ALARMS, method="higher")
    above, tied = scores > cut, scores == cut
    return above + tied * (ALARMS * len(scores) - above.sum()) / tied.sum()


@builds("noise_habits")
def noise_habits() -> Built:
    """Ask, among films without a finding, whether its score knows the tube, or the wrong labels."""
    names = ("true", "measured", "symmetric", "cue", "faint")
    runs = [(name, seed) for name, seed in _runs() if name in names]
    owner = np.array([name for name, _ in runs])
    share = {name: (owner == name) / (owner == name).sum() for name in names}
    tube, rows = _films()["device_tube"].to_numpy(bool), []

    def add(finding: str, target: str, n: tuple, training: str, less: str, *ends: float) -> None:
        rows.append((finding, "truly negative", target, *n, training, less, *ends))

    for k, finding in enumerate(FINDINGS):
        negative = ~_truth()[:, k]
        patient, tubes, films = _patients()[negative], tube[negative], int(negative.sum())
        scores = [_scores(*run)[negative, k] for run in runs]
        # The true labels have none among these films: the cue's stand in.
        taught = {
            (name, seed): _labels("cue" if name == "true" else name, seed)[negative, k]
            for name, seed in runs
        }
        for target in ("tube", "label"):
            wanted = dict.fromkeys(runs, tubes) if target == "tube" else taught
            labels = np.stack([wanted[run] for run in runs], axis=1)
            found = delong(labels, np.stack(scores, axis=1), patient=patient)
            asked = {(name, ""): share[name] for name in names}
            if target == "tube":
                asked |= {("cue", less): share["cue"] - share[less] for less in names[:2]}
            else:
                del asked["true", ""]
            for (name, less), weight in asked.items():
                gap, n = found.contrast(weight), (films, round(share[name] @ labels.sum(axis=0)))
                p = gap.p_value if less else np.nan
                add(finding, target, n, name, less, gap.estimate, gap.low, gap.high, p)
        for name in names:
            # At a threshold for each seed that calls a tenth of the films without the finding.
            mine = [s for s, of in zip(scores, owner, strict=True) if of == name]
            called = np.mean([_called(s) for s in mine], axis=0)
            for target, part in (("tube", tubes), ("no tube", ~tubes)):
                (mean,), (error,) = clustered_mean(called[part, None], patient[part])
                ends, n = (mean - 1.96 * error, mean + 1.96 * error), (films, int(part.sum()))
                add(finding, f"alarms, {target}", n, name, "", mean, *ends, np.nan)
    columns = ["finding", "among", "target", "n_films", "n", "training", "less", "estimate"]
    frame = pd.DataFrame(rows, columns=[*columns, "low", "high", "p"])
    for _, part in frame[frame["less"] != ""].groupby("less"):
        frame.loc[part.index, "p_adjusted"] = holm(part["p"])
    note = (
        "AUROC, among films truly without the finding, of its score for a tracheal tube, and for "
        "the label (n of n_films have it, mean over seeds); less: a difference between two "
        f"trainings; alarms: share called where {ALARMS:.0%} of all films without the finding "
        "are, among the n with and without a tube; mean over seeds; DeLong by patient, thresholds "
        "taken as fixed; p_adjusted: adjusted for 14 findings"
    )
    return frame, _provenance(note)


@builds("noise_calibration")
def noise_calibration() -> Built:
    """Mean probability against the true share; calibration error; Brier score, also compared."""
    tables, truth = [], _truth()

    def brier(training: str) -> NDArray[np.float64]:
        return np.mean([(scores - truth) ** 2 for scores in _seeds(training)], axis=0)

    for training, seeds in TRAININGS.items():
        scores, squared = _seeds(training), brier(training)
        figures = {"probability less truth": np.mean(scores, axis=0) - truth}
        figures["Brier score"] = squared
        if training == "corrected":
            figures["Brier score less that of measured"] = squared - brier("measured")
        error = [
            np.mean([calibration_error(truth[:, k], one[:, k]) for one in scores])
            for k in range(len(FINDINGS))
        ]
        labelled = np.mean([_labels(training, seed) for seed in range(seeds)], axis=0)
        shares = {"true share": truth, "labelled share": labelled}
        errors = pd.DataFrame({"finding": EVERY, "estimate": [*error, np.mean(error)]})
        parts = [
            *(_means(films).assign(measure=what) for what, films in figures.items()),
            errors.assign(measure="calibration error"),
            *(_means(films).assign(measure=what) for what, films in shares.items()),
        ]
        tables.append(pd.concat(parts).assign(training=training))
    columns = ["training", "measure", "finding", "estimate", "low", "high"]
    note = (
        "means over test films and seeds, 95% intervals by patient; calibration error: 15 bins of "
        "equal mass, by the truth"
    )
    return pd.concat(tables, ignore_index=True)[columns], _provenance(note)


@builds("noise_wrong_rates")
def noise_wrong_rates() -> Built:
    """Correct the probabilities of networks taught wrong labels, with rates that are assumed."""
    true, tables, truth = noise_rates()[["sensitivity", "specificity"]], [], _truth()
    for scale, source in product(ASSUMED, ("measured", "cue")):
        rates = (1 - scale * (1 - true)).to_dict("series")
        fixed = [undo_noise(scores, **rates) for scores in _seeds(source)]
        edge = np.mean([((one == 0) | (one == 1)).mean() for one in fixed])
        whole = {"AUROC": np.mean([auroc(truth, one) for one in fixed]), "cut off": edge}
        parts = [
            _means(np.mean(fixed, axis=0) - truth).assign(measure="probability less truth"),
            _means(np.mean([(one - truth) ** 2 for one in fixed], axis=0)).assign(
                measure="Brier score"
            ),
            pd.DataFrame({"finding": MEAN, "estimate": whole.values(), "measure": whole.keys()}),
        ]
        tables.append(pd.concat(parts).assign(training=source, assumed=scale))
    columns = ["training", "assumed", "measure", "finding", "estimate", "low", "high"]
    note = (
        "probabilities r of networks taught noisy labels, turned into (r - 1 + t) / (s + t - 1), "
        "cut off at 0 and 1; assumed: multiple of the true error rates 1 - s and 1 - t; means over "
        "test films and seeds, 95% intervals by patient"
    )
    return pd.concat(tables, ignore_index=True)[columns], _provenance(note)


@builds("noise_issues")
def noise_issues() -> Built:
    """Which labels of the test films cleanlab calls wrong, and which of them are."""
    tables, truth = [], _truth()
    for training in ("measured", "symmetric", "cue", "halved", "raised"):
        labels, scores = _labels(training, 0), _scores(training, 0)
        wrong = labels != truth
        found = [find_issues(labels[:, k], scores[:, k]) for k in range(len(FINDINGS))]
        cleanlab = np.stack(found, axis=1)
        flags = {
            "cleanlab": cleanlab,
            "as many, by distance": _farthest(labels, scores, cleanlab.sum(axis=0)),
            "as many as are wrong, by distance": _farthest(labels, scores, wrong.sum(axis=0)),
        }
        kinds = {"all": True, "invented": labels, "missed": ~labels}
        for (method, flagged), (kind, there) in product(flags.items(), kinds.items()):
            where = {"training": training, "method": method, "errors": kind}
            where["finding"] = (*FINDINGS, "all 14")
            found = _precision_and_recall(wrong & there, flagged & there, _draws(), of=there)
            tables.append(pd.DataFrame(where | found))
    note = (
        "test films, probabilities of seed 0, which was trained on other films with the same kind "
        "of noise; share_wrong: of labels looked at (all, those given, those not given); "
        "precision: of flagged labels, wrong; recall: of wrong labels, flagged; intervals by "
        f"bootstrap of patients, {RESAMPLES} resamples; cleanlab's default filter"
    )
    return pd.concat(tables, ignore_index=True), _provenance(note)


def _precision_and_recall(
    wrong: NDArray, flagged: NDArray, draws: Resamples, *, of: NDArray | bool = True
) -> dict[str, NDArray[np.float64]]:
    """Return how many flagged labels are wrong and how many wrong ones are flagged.

    Parameters
    ----------
    wrong, flagged : array_like of bool [N, F]
    draws : Resamples
        Patients drawn anew.
    of : array_like of bool [N, F], optional
        The labels looked at; all by default.

    Returns
    -------
    dict of ndarray [F + 1]
        ``n``, ``n_wrong``, ``n_flagged`` and ``n_found`` (counts), ``share_wrong``, ``precision``
        and ``recall`` with ``…_low`` and ``…_high``, and ``lift``, precision over the share wrong;
        last, of all findings' labels together. NaN where nothing is counted.
    """
    wrong, flagged = (np.asarray(x, dtype=bool) for x in (wrong, flagged))
    of = np.broadcast_to(np.asarray(of, dtype=bool), wrong.shape)
    if wrong.ndim != 2 or wrong.shape != flagged.shape:
        raise ValueError(
            f"Expected two arrays [N, F] of one shape, got {wrong.shape} and {flagged.shape}."
        )
    kinds = {"n": of, "n_wrong": wrong, "n_flagged": flagged, "n_found": wrong & flagged}
    out, drawn = {}, {}
    for name, kind in kinds.items():
        counts = kind.sum(axis=0)
        out[name] = np.append(counts, counts.sum())
        sums = draws.sums(kind)
        drawn[name] = np.column_stack([sums, sums.sum(axis=1)])
    ratios = {
        "share_wrong": ("n_wrong", "n"),
        "precision": ("n_found", "n_flagged"),
        "recall": ("n_found", "n_wrong"),
        "lift": ("precision", "share_wrong"),
    }
    for name, (top, bottom) in ratios.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            out[name] = out[top] / out[bottom]
            drawn[name] = drawn[top] / drawn[bottom]
        ends = np.full((2, len(out[name])), np.nan)
        for k, column in enumerate(drawn[name].T):
            defined = column[~np.isnan(column)]
            if len(defined):
                ends[:, k] = np.quantile(defined, [0.025, 0.975], method="inverted_cdf")
        out[f"{name}_low"], out[f"{name}_high"] = ends
    return out


def _farthest(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], count: NDArray[np.int_]
) -> NDArray[np.bool_]:
    """Flag the labels of each finding that are farthest from its probability, so many of each."""
    order = np.argsort(-np.abs(labels - scores), axis=0, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(len(labels))[:, None], axis=0)
    return place < count


def _means(films: NDArray) -> pd.DataFrame:
    """Return the mean over films of each finding, and of all, with intervals by patient."""
    films = np.column_stack([films, films.mean(axis=1)]).astype(float)
    mean, error = clustered_mean(films, _patients())
    ends = {"low": mean - 1.96 * error, "high": mean + 1.96 * error}
    return pd.DataFrame({"finding": EVERY, "estimate": mean} | ends)


SOURCE = "simulated radiographs; label quality as measured in data/label_quality.csv"


def _provenance(note: str, *trainings: str) -> dict:
    """Return where a table comes from: all trainings, or those that are named."""
    inputs = [LABELS, table_folder() / "label_quality.csv", LUNGS]
    return simulated(SOURCE, [*inputs, *map(path_of, trainings or TRAININGS)], note)
