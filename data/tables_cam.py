"""Tables of chapter 13: where the book's network looks, on simulated films with known truth."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from builders import LUNGS, Built, builds, by_finding, described, ratio, simulated
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from chexlib.data import Batcher, open_dataset
from chexlib.data.phantom import Film, films_of, render
from chexlib.findings import FINDINGS
from chexlib.interpret import (
    HeatMap,
    case_maps,
    cell_centres,
    controls,
    find_cases,
    localization_table,
    maps_of,
    normalise,
    score_cases,
    to_levels,
    truth_mask,
)
from chexlib.metrics import Bootstrap, Resamples, auroc, choose, resampled, youden
from chexlib.metrics.resampling import proportions
from chexlib.models import load_checkpoint, phantom_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chexlib.data.dataset import Dataset
    from chexlib.models import CheXNet

SIZE = 224  # pixels a side that the network was trained on
LARGER = (320, 448)
MOST = 40  # cases of a finding for methods that cost a pass each
HALF, HOT = 128, 180  # of 255
SIDE = 128  # pixels a side at which maps are compared with boxes
UNLIKELY = 0.02  # a probability below which one would say "no"
TWICE = 2.0  # a ratio to prevalence above which one would say "more than usual"
MEAN = "mean of findings"
PLACES = ("on the lesion", "off-centre", "elsewhere")


@dataclass(frozen=True)
class _Seen:
    """What the network makes of the test films, and of each film's finding with boxes."""

    model: CheXNet
    data: Dataset
    cases: pd.DataFrame
    maps: NDArray[np.float32]  # [N, 14, h, w]
    logits: NDArray[np.float32]  # [N, 14]
    thresholds: NDArray[np.float64]  # [14], of the logit
    prevalence: NDArray[np.float64]  # [14], on validation films

    @property
    def column(self) -> NDArray[np.int64]:
        """The finding of each case, as a column."""
        return self.cases["finding"].map(FINDINGS.index).to_numpy()

    @property
    def called(self) -> NDArray[np.bool_]:
        """Whether each film is called for each finding [N, 14]."""
        return self.logits >= self.thresholds


@cache
def _test_films() -> tuple[Dataset, pd.DataFrame]:
    data = open_dataset("phantom", "test", size=SIZE)
    return data, find_cases(data.boxes, data.films["image"].tolist(), data.patients)


@cache
def _seen() -> _Seen:
    model, films = load_checkpoint(phantom_checkpoint()), _test_films()
    validation = open_dataset("phantom", "val", size=SIZE)
    _, logits = maps_of(model, Batcher(validation.cache), validation.rows)
    thresholds, prevalence = choose(validation.truth, logits, youden), validation.truth.mean(axis=0)
    found = maps_of(model, Batcher(films[0].cache), films[0].rows)
    return _Seen(model, *films, *found, thresholds, prevalence)


@cache
def _judged() -> pd.DataFrame:
    """Return a row for each case: where its map points, how wide it is, whether it is called."""
    seen = _seen()
    maps = seen.maps[seen.cases["film"], seen.column]
    own = HeatMap(maps, SIZE)
    other = _other_film(own, seen.cases)
    scores, others = (
        score_cases(heat, seen.cases, size=SIDE, cuts=(HOT,)) for heat in (own, other)
    )
    everywhere = np.ones(len(scores), bool)
    return scores.assign(
        place=verdicts(scores, everywhere),
        called=seen.called[seen.cases["film"], seen.column],
        logit=seen.logits[seen.cases["film"], seen.column],
        warm=_warm(maps),
        right_cell=_right_cell(maps, seen.cases),
        other_place=verdicts(others, everywhere),
        other_cell=_right_cell(other.values, seen.cases),
    )


def verdicts(scores: pd.DataFrame, called: ArrayLike) -> pd.Series:
    """Return what became of each case: the three pictures of a heat map, counted not picked.

    Parameters
    ----------
    scores : DataFrame
        Of :func:`chexlib.interpret.score_cases`, with the cut 180.
    called : array_like of bool [M]
        Whether the network calls the finding, at the threshold in use.

    Returns
    -------
    Series of str
        "missed": not called. Of those called, "on the lesion": the hottest pixel is in a box;
        "off-centre": it is not, but a box drawn at 180 of 255 touches a true one; "elsewhere".
    """
    called = np.asarray(called, bool)
    if len(called) != len(scores):
        raise ValueError(f"Expected a call for each of {len(scores)} cases, got {len(called)}.")
    where = np.where(scores["iou_180"] > 0, "off-centre", "elsewhere")
    where = np.where(scores["hit"] >= 0.5, "on the lesion", where)
    return pd.Series(np.where(called, where, "missed"), index=scores.index, name="verdict")


def _warm(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the share of the film on which a map, drawn by its own range, is above half of it."""
    parts = [
        (HeatMap(maps[i : i + 256], SIZE).levels(96) >= HALF).mean(axis=(1, 2))
        for i in range(0, len(maps), 256)
    ]
    return np.concatenate(parts)


def _wide(judged: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which maps are wider than the median map of their finding."""
    return (judged["warm"] > judged.groupby("finding")["warm"].transform("median")).to_numpy()


@builds("cam_verdicts")
def verdict_shares() -> Built:
    """Count what the survey showed: called or missed, and where the map is; beside another film's.

    Another film's map is counted on the same cases: those that are missed have other lesions.
    """
    judged = _judged()
    called, every, wide = judged["called"].to_numpy(), np.ones(len(judged), bool), _wide(judged)
    shares = {"called": (called, every)}
    whose = {"": ("place", "right_cell"), "other film's map, ": ("other_place", "other_cell")}
    for answer, chosen in (("called", called), ("missed", ~called)):
        for place in PLACES:
            here = (judged["place"] == place).to_numpy()
            shares[f"{answer}, {place}"] = (chosen & here, every)
        for who, (place, cell) in whose.items():
            for name in PLACES:
                here = (judged[place] == name).to_numpy()
                shares[f"{name}, {who}of {answer}"] = (chosen & here, chosen)
            right = judged[cell].to_numpy()
            shares[f"right cell, {who}of {answer}"] = (chosen & right, chosen)
        shares[f"wide, of {answer}"] = (chosen & wide, chosen)
        shares[f"area of boxes, of {answer}"] = (chosen * judged["area"].to_numpy(), chosen)
    shares["area of boxes"] = (judged["area"].to_numpy(), every)
    draws = Resamples(judged["patient"])
    # A column for each finding, in which only its own cases count.
    own = (judged["finding"].to_numpy()[:, None] == np.array(FINDINGS)).astype(float)
    found = {
        name: ratio(*(one[:, None] * own for one in parts), draws) for name, parts in shares.items()
    }
    found["elsewhere, missed less called"] = (
        found["elsewhere, of missed"] - found["elsewhere, of called"]
    )
    n = judged.groupby("finding")["patient"].agg(n_cases="size", n_patients="nunique")
    n.loc[MEAN] = len(judged), judged["patient"].nunique()
    tables = [by_finding(one, MEAN).assign(share=name) for name, one in found.items()]
    frame = pd.concat(tables, ignore_index=True).join(n, on="finding")
    columns = ["share", "finding", "n_cases", "n_patients", "estimate", "low", "high"]
    note = (
        "thresholds by Youden's index on validation films; on the lesion: at least half of the "
        "hottest pixels in a box; off-centre: not, but a box around what is above 180 of 255 "
        "touches one; elsewhere: neither; right cell: the hottest cell is the nearest to the "
        "middle of a box, or has its own middle in one; other film's map: the map of another "
        "patient with the finding, on the same cases; wide: more of the film above half of the "
        "map's range than on the median map of the finding; intervals by patient"
    )
    return frame[columns], _provenance(note)


def _right_cell(maps: NDArray[np.float32], cases: pd.DataFrame) -> NDArray[np.bool_]:
    """Return whether the hottest cell is the nearest to a box's middle, or its middle is in a box.

    What can be asked of so coarse a map: the best cell for the lesion, not a point inside it.
    """
    places = cell_centres(maps.shape[-1]) / SIZE
    right = []
    for one, boxes in zip(maps, cases["truth"], strict=True):
        row, column = np.unravel_index(one.argmax(), one.shape)
        start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        nearest = np.abs((start + end)[..., None] / 2 - places).argmin(axis=2)  # x and y
        here = places[[column, row]]
        inside = ((start <= here) & (here < end)).all(axis=1)
        right.append((inside | (nearest == [column, row]).all(axis=1)).any())
    return np.array(right)


@builds("cam_focus")
def focus() -> Built:
    """Ask whether a picture, or a number, tells right answers from wrong ones."""
    seen = _seen()
    patients = pd.Series(seen.data.patients)
    draws = Resamples(patients)
    truth, called = seen.data.truth, seen.called
    # Among called films, is the finding there? Among films with it, is it called?
    asked = {"right or false alarm": (called, truth), "found or missed": (truth, called)}
    warm = np.stack([_warm(seen.maps[:, k]) for k in range(len(FINDINGS))], axis=1)
    measures = {"focus": -warm, "height": seen.maps.max((2, 3)), "probability": seen.logits}
    tables = []
    for (question, (films, labels)), (measure, scores) in product(asked.items(), measures.items()):
        if measure == "probability" and question == "found or missed":
            continue  # a call is a probability: 1 by definition
        parts, sizes = [], []
        for k in range(len(FINDINGS)):
            here = np.flatnonzero(films[:, k])
            yes, score = labels[here, k], scores[here, k]
            parts.append(resampled(auroc, yes, score, draws.select(here)))
            width = [np.median(warm[here, k][yes == is_so]) for is_so in (1, 0)]
            sizes.append((yes.sum(), (~yes).sum(), *width))
        found = Bootstrap(
            np.array([float(p.estimate) for p in parts]),
            np.stack([p.replicates.reshape(len(draws)) for p in parts], axis=1),
            draws,
        )
        sizes = pd.DataFrame(sizes, columns=["n_yes", "n_no", "warm_yes", "warm_no"])
        sizes.loc[len(FINDINGS)] = [*sizes.iloc[:, :2].sum(), *sizes.iloc[:, 2:].mean()]
        rows = by_finding(found, MEAN)
        sizes = sizes.astype({"n_yes": int, "n_no": int})
        tables.append(rows.join(sizes).assign(question=question, measure=measure))
    columns = ["question", "measure", "finding", "n_yes", "n_no", "warm_yes", "warm_no"]
    note = (
        "estimate: AUROC of telling yes from no; focus: less of the film above half of the map's "
        "range; height: the map's maximum, in units of the logit; warm: median share of the film "
        "above half of the range; thresholds by Youden's index on validation films; intervals by "
        "patient"
    )
    frame = pd.concat(tables, ignore_index=True)
    return frame[[*columns, "estimate", "low", "high"]], _provenance(note)


@builds("cam_examples")
def examples() -> Built:
    """Choose the film with the median probability among those that a rule describes."""
    seen, judged = _seen(), _judged()
    called, place = judged["called"], judged["place"]
    rules = {
        "wrong and elsewhere": ~called & (place == PLACES[2]),
        "right and off-centre": called & (place == PLACES[1]),
        "right and on the lesion": called & (place == PLACES[0]),
    }
    films = films_of(seen.data.films)
    rows = []
    for (k, finding), (rule, chosen) in product(enumerate(FINDINGS), rules.items()):
        alike = judged[chosen & (judged["finding"] == finding)]
        if len(alike):
            one = alike.sort_values(["logit", "image"]).iloc[(len(alike) - 1) // 2]
            chances = expit(np.array([one["logit"], seen.thresholds[k]], float))
            known = *chances, seen.prevalence[k], json.dumps(described(films[one["film"]]))
            rows.append((finding, rule, len(alike), one["image"], *known))
    columns = ["finding", "rule", "n_alike", "image", "probability", "threshold"]
    columns += ["prevalence", "film"]
    note = (
        "of the films that a rule describes, that with the median probability; thresholds by "
        "Youden's index on validation films, whose prevalence is given; film: arguments "
        "of chexlib.data.phantom.Film"
    )
    return pd.DataFrame(rows, columns=columns), _provenance(note)


@builds("cam_methods")
def methods() -> Built:
    """Score finer maps, the copied ones, and the lesion's own effect on the same cases."""
    model, (data, every) = load_checkpoint(phantom_checkpoint()), _test_films()
    shuffled = every["finding"].sample(frac=1, random_state=0)
    chosen = shuffled.groupby(shuffled).head(MOST).index
    cases = every.iloc[np.sort(chosen)]
    films = films_of(data.films)
    film, column = cases["film"].to_numpy(), cases["finding"].map(FINDINGS.index).to_numpy()
    batcher, which = Batcher(data.cache), np.unique(film)
    place = np.searchsorted(which, film)
    seen, logits = maps_of(model, batcher, data.rows[which])
    maps = seen[place, column]
    twins, _ = _rendered(
        model,
        [_without(films[i], name) for i, name in zip(film, cases["finding"], strict=True)],
        SIZE,
    )
    heats = {
        "cam": HeatMap(maps, SIZE),
        "other film": _other_film(HeatMap(maps, SIZE), cases),
        "twin": HeatMap(maps - twins[np.arange(len(cases)), column], SIZE),
    }
    for method in ("copied", "layercam", "fine"):
        given = data.rows[film], cases["finding"]
        heats[method] = case_maps(model, batcher, *given, method=method)
        heats[f"{method}, other film"] = _other_film(heats[method], cases)
    frames = {
        name: score_cases(heat, cases, size=SIDE, cuts=(HOT,)) for name, heat in heats.items()
    }
    truth, patients = data.truth[which], data.patients[which]
    answers, cells = {SIZE: logits}, {SIZE: seen.shape[-1]}
    for size in LARGER:
        larger, answers[size] = _rendered(model, [films[i] for i in which], size)
        cells[size] = larger.shape[-1]
        frames[_name(size)] = score_cases(
            HeatMap(larger[place, column], size), cases, size=SIDE, cuts=(HOT,)
        )
    for size, n in cells.items():
        frames[f"best cell {size}"] = frames["cam"].assign(
            hit=_best_cell(cases, n, size), overlap=np.nan, iou_best=np.nan
        )
    table = localization_table(
        frames, metrics={name: name for name in ("hit", "overlap", "iou_best")}
    )
    aurocs = _aurocs(truth, answers, patients)
    columns = ["source", "group", "metric", "n_cases", "n_patients", "estimate"]
    columns += ["low", "high", "gain", "gain_low", "gain_high"]
    frame = pd.concat([table, aurocs], ignore_index=True)[columns]
    frame = frame.dropna(subset="estimate").rename(columns={"group": "finding"})
    note = (
        f"at most {MOST} cases of each finding, drawn at random; cam: of {SIZE} px; "
        f"{', '.join(map(_name, LARGER))}: the same network on larger films; twin: the map "
        "less that of the same film without the finding; other film: the map of another patient "
        "with the finding, by the same method; best cell: a judge who knows the answer points at "
        "one cell; gain: cam less this one (of the AUROC: this one "
        f"less that of {SIZE} px), paired; intervals by patient"
    )
    return frame, _provenance(note)


def _other_film(heat: HeatMap, cases: pd.DataFrame) -> HeatMap:
    return controls(heat, cases, names=("other film",), size=SIDE)["other film"]


def _without(film: Film, finding: str) -> Film:
    """Return the same film of the same patient, the finding taken away."""
    return replace(film, severity={n: s for n, s in film.severity.items() if n != finding})


def _rendered(model: CheXNet, films: list[Film], size: int) -> tuple[NDArray, NDArray]:
    """Return maps and logits of films, simulated at a size."""
    maps, logits = [], []
    for start in range(0, len(films), 64):
        images = np.stack([render(film, size=size).image for film in films[start : start + 64]])
        found = maps_of(model, Batcher(images), range(len(images)))
        maps.append(found[0])
        logits.append(found[1])
    return np.concatenate(maps), np.concatenate(logits)


def _best_cell(cases: pd.DataFrame, cells: int, size: int) -> NDArray[np.float64]:
    """Return the hit of the best cell: of the pixels it makes hottest, the share in the boxes."""
    single = np.eye(cells**2, dtype=np.float32).reshape(-1, cells, cells)
    hottest = HeatMap(single, size).pixels(SIDE).reshape(cells**2, -1)
    hottest = hottest >= hottest.max(axis=1, keepdims=True) * (1 - 1e-6)
    weights = hottest / hottest.sum(axis=1, keepdims=True)
    return np.array([(weights @ truth_mask(boxes, SIDE).ravel()).max() for boxes in cases["truth"]])


def _aurocs(
    truth: NDArray[np.bool_], answers: Mapping[int, NDArray], patients: NDArray
) -> pd.DataFrame:
    """Return AUROC at each size, and the gain over that of the first."""
    draws = Resamples(patients)
    found = {size: resampled(auroc, truth, logits, draws) for size, logits in answers.items()}
    groups = [*((name, truth[:, k]) for k, name in enumerate(FINDINGS)), (MEAN, truth.any(axis=1))]
    sizes = [(name, int(here.sum()), len(np.unique(patients[here]))) for name, here in groups]
    rows = []
    for size, one in found.items():
        gain = one - found[SIZE]
        both = [[b.estimate, *b.interval()] for b in (one, gain)]
        means = [[b.estimate, *b.interval()] for b in (one.mean(), gain.mean())]
        lines = np.column_stack([np.vstack(both), np.reshape(means, 6)]).T
        for (name, *n), line in zip(sizes, lines, strict=True):
            of_gain = line[3:] if size != SIZE else [np.nan] * 3
            rows.append((_name(size), name, "AUROC", *n, *line[:3], *of_gain))
    columns = ["source", "group", "metric", "n_cases", "n_patients", "estimate", "low"]
    return pd.DataFrame(rows, columns=[*columns, "high", "gain", "gain_low", "gain_high"])


def _name(size: int) -> str:
    return "cam" if size == SIZE else f"cam {size}"


@builds("cam_scales")
def scales() -> Built:
    """Count how often each scale paints something hot where nothing is, and where something is."""
    seen = _seen()
    bias = seen.model.classifier.bias.detach().numpy()
    known = {"bias": bias, "prevalence": seen.prevalence}
    hot = {"map": [], "shared": [], "ratio": []}
    for start in range(0, len(seen.maps), 128):
        part = HeatMap(seen.maps[start : start + 128], SIZE).pixels(48)
        hot["map"].append((to_levels(part) >= HOT).any((2, 3)))
        hot["shared"].append((normalise(part, how="shared") * 255 >= HOT).any((2, 3)))
        hot["ratio"].append((normalise(part, how="ratio", **known) >= TWICE).any((2, 3)))
    truth, probability = seen.data.truth, expit(seen.logits.astype(float))
    kinds = {
        "absent, unlikely": ~truth & (probability < UNLIKELY),
        "present, called": truth & seen.called,
    }
    patients = np.repeat(seen.data.patients, len(FINDINGS))  # of each map
    among = np.stack([chosen.ravel() for chosen in kinds.values()], axis=1)
    n_patients = [len(np.unique(patients[chosen])) for chosen in among.T]
    draws, rows = Resamples(patients), []
    for scale, parts in hot.items():
        shares = proportions(np.concatenate(parts).reshape(-1, 1), among, draws, name="hot maps")
        for kind, n, one in zip(kinds, n_patients, shares, strict=True):
            rows.append((scale, kind, one.n, n, one.estimate, one.low, one.high))
    columns = ["scale", "kind", "n_maps", "n_patients", "estimate", "low", "high"]
    note = (
        f"estimate: share of maps that are hot somewhere, from {HOT} of 255 up (map, shared), or "
        f"from {TWICE:g} times the prevalence up (ratio); unlikely: probability below "
        f"{UNLIKELY:g}; called: threshold by Youden's index on validation films; intervals by "
        "patient"
    )
    return pd.DataFrame(rows, columns=columns), _provenance(note)


def _provenance(note: str) -> dict:
    return simulated(
        "simulated radiographs, and the book's network",
        [phantom_checkpoint(), LUNGS],
        f"{len(_test_films()[0]):,} test films; {note}",
    )
