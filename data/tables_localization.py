"""Tables of chapter 14: whether maps look at the right place, and what they show when they do."""

from __future__ import annotations

import json
import zipfile
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import published
from builders import (
    BOXES,
    CHESTX_DET,
    LABELS,
    LUNGS,
    Built,
    builds,
    carried,
    drawn_by_chestx_det,
    quoted,
    ratio,
    simulated,
)
from PIL import Image
from train_runs import SHORTCUT, folder_of

from chexlib.data import Batcher, load_boxes, load_chestx_det, load_labels, open_dataset
from chexlib.data.phantom import Shortcut, films_of, render
from chexlib.data.splits import patient_split
from chexlib.files import sha256
from chexlib.findings import FINDINGS
from chexlib.interpret import (
    CONTROLS,
    BoxedFilms,
    Grid,
    HeatMap,
    attribute,
    cascade,
    case_maps,
    cell_centres,
    compare_models,
    controls,
    find_cases,
    localization_table,
    maps_and_logits,
    maps_of,
    open_boxed,
    perturbation_curves,
    score_cases,
    similarity,
    truth_mask,
)
from chexlib.metrics import Resamples, auroc, resampled
from chexlib.models import load_checkpoint, phantom_checkpoint
from chexlib.training.run import auroc_with_intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from chexlib.models import CheXNet

SIZE = 224
PER_FINDING = 80  # cases scored of each finding, drawn at random
PER_FINDING_FEW = 8  # of them with methods that need many passes a film
PER_FINDING_RUN = 40  # of them with each run
SHORTCUT_PATIENTS = 350  # of the simulated test patients
CHECKED = ("Cardiomegaly", "Effusion", "Mass", "Nodule", "Pneumothorax")
SMALL_RUNS = (
    *("true-0", "measured-0", "corrected-0", "symmetric-0", "cue-0", "doubled-0"),
    *("weighted-0", "paper-0", "paper-slow-0", "paper-crop-0"),
)
FEW = ("hit", "overlap", "IoBB > 0.1", "IoU > 0.1")  # scores of finer maps that are kept
SIZES = {"below 1%": 0.01, "1 to 3%": 0.03, "3 to 10%": 0.1, "10 to 30%": 0.3, "above 30%": 1.01}
SLOW = {
    "integrated_gradients": {"steps": 8},
    "smoothgrad": {"samples": 8},
    "occlusion": {"window": 56, "stride": 28},
}
LUNG_MASKS = carried("semantic_masks_v7labs_lungs.zip")
OTHER_METHODS = {"fine": {}, "layercam": {}, "gradcam": {}, **SLOW, "copied": {}}


@cache
def _model(name: str) -> CheXNet:
    """Return the book's model, or that of a run."""
    path = _weights(name)
    if not path.is_file():
        command = "python data/train_runs.py " + name
        if name == "default":
            command += " && python data/ship_weights.py"
        raise FileNotFoundError(f"Expected trained weights in {path}, found none: {command}")
    return load_checkpoint(path)


def _weights(name: str) -> Path:
    return phantom_checkpoint() if name == "default" else folder_of(name) / "best.safetensors"


@cache
def _boxed() -> BoxedFilms:
    return open_boxed("phantom", size=SIZE)


def _sample(
    cases: pd.DataFrame, per_finding: int, findings: tuple[str, ...] = FINDINGS
) -> pd.DataFrame:
    """Return some cases of each finding, drawn at random, in the order of the book's findings."""
    rng = np.random.default_rng(0)
    chosen = []
    for finding in findings:
        mine = np.flatnonzero(cases["finding"] == finding)
        chosen.append(np.sort(rng.permutation(mine)[:per_finding]))
    return cases.iloc[np.concatenate(chosen)]


def _scores(
    model: CheXNet,
    films: BoxedFilms,
    cases: pd.DataFrame,
    method: str,
    *,
    names: Sequence[str],
    **how: Any,
) -> dict[str, pd.DataFrame]:
    """Return scores of a method's maps, and of its controls."""
    maps = case_maps(model, films.batcher, cases["film"], cases["finding"], method=method, **how)
    every = {method: maps, **controls(maps, cases, names=names, prior=_boxed().cases)}
    return {name: score_cases(heat, cases) for name, heat in every.items()}


def _own(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Name the controls of a table after their method; those of the CAM are the plain ones."""
    if method == "cam":
        return table
    own = {name: f"{method}, {name}" for name in CONTROLS}
    return table.replace({"source": own})


@builds("localization")
def localization() -> Built:
    """Score the book's model on simulated boxes, by finding and by size, beside controls."""
    cases, tables = _sample(_boxed().cases, PER_FINDING), []
    for method in ("cam", "layercam", "fine"):
        scores = _scores(_model("default"), _boxed(), cases, method, names=CONTROLS)
        area = scores[method]["area"]
        size = pd.cut(area, [0, *SIZES.values()], labels=list(SIZES), right=False)
        scores = {name: one.assign(size=size.to_numpy()) for name, one in scores.items()}
        order = np.argsort(size.cat.codes, kind="stable")
        in_order = {name: one.iloc[order].reset_index(drop=True) for name, one in scores.items()}
        for by, parts in {"finding": scores, "size": in_order}.items():
            table = _own(localization_table(parts, by=by), method).assign(by=by)
            tables.append(table if method == "cam" else table[table["metric"].isin(FEW)])
    frame = pd.concat(tables, ignore_index=True)
    note = (
        f"up to {PER_FINDING} simulated test films a finding, {SIZE} px; means with 95% intervals "
        "by patient; layercam, fine: maps of the layer before, and of both, each beside controls "
        "of its own; gain: the map less its control, paired; p_adjusted: of no gain, adjusted for "
        "the groups; sizes are shares of the film in boxes"
    )
    return frame.round(4), _provenance(note, "default")


@builds("localization_blind")
def blind() -> Built:
    """Score candidates that have seen no film on the boxes drawn on NIH's films."""
    boxes = load_boxes()
    images = sorted(boxes["image"].unique())
    # The first part of NIH's file names is the patient.
    cases = find_cases(boxes, images, [int(name.split("_")[0]) for name in images])
    cells = HeatMap(np.zeros((len(cases), 32, 32), np.float32))
    made = controls(cells, cases, names=("position", "centre", "random"))
    scores = {name: score_cases(heat, cases) for name, heat in made.items()}
    frame = localization_table(scores).drop(columns=["gain", "gain_low", "gain_high", "p_adjusted"])
    note = (
        f"{len(cases)} pairs of a film and a finding; position: the mean box of the finding's "
        "other patients; random: noise of 32 x 32 cells; 95% intervals by patient"
    )
    about = {"source": "NIH ChestX-ray14 boxes (Wang et al., 2017)", "inputs": [BOXES]}
    return frame.round(4), _provenance("", "default") | about | {"note": note}


@builds("localization_chestx_det")
def blind_chestx_det() -> Built:
    """Score candidates that have seen no film on what ChestX-Det's radiologists drew."""
    marks, films = drawn_by_chestx_det(), load_chestx_det()["image"]
    labels = load_labels()
    labels = labels[labels["image"].isin(films)]
    half = patient_split(labels, fractions={"learn": 0.5, "score": 0.5}, seed=0)
    images = {part: labels["image"][half == part].tolist() for part in ("learn", "score")}
    cases, learn = (
        find_cases(marks, images[part], [int(name[:8]) for name in images[part]])
        for part in ("score", "learn")
    )
    nih = load_boxes()
    drawn = sorted(nih["image"].unique())
    nih = find_cases(nih, drawn, [int(name[:8]) for name in drawn])
    cells = HeatMap(np.zeros((len(cases), 32, 32), np.float32))
    heat = controls(cells, cases, names=("position", "centre", "random"), prior=learn)
    anything = np.stack([truth_mask(boxes, 64) for boxes in learn["truth"]]).mean(axis=0)
    for name, mean in {"any finding": anything, "lungs": _mean_lungs(64)}.items():
        heat[name] = HeatMap(np.broadcast_to(mean.astype(np.float32), (len(cases), 64, 64)))
    boxed, both = cases.drop(columns="outline"), cases["finding"].isin(nih["finding"])
    parts = []
    for truth, these in {"boxes": boxed, "outlines": cases}.items():
        scores = {name: score_cases(one, these) for name, one in heat.items()}
        parts.append(localization_table(scores).assign(truth=truth))
        some = these[both].reset_index(drop=True)  # findings that NIH has boxes of
        by_nih = controls(cells[both.to_numpy()], some, names=("position",), prior=nih)
        few = {"position": scores["position"][both.to_numpy()].reset_index(drop=True)}
        few["position, NIH's boxes"] = score_cases(by_nih["position"], some)
        parts.append(localization_table(few).assign(truth=truth).query("source != 'position'"))
    frame = pd.concat(parts, ignore_index=True).drop(columns=["gain_low", "gain_high", "gain"])
    drawn_only = frame["metric"].str.contains("IoBB|IoU >|boxes") & (frame["truth"] == "outlines")
    frame = frame[~drawn_only].drop(columns="p_adjusted").set_index("truth").reset_index()
    note = (
        f"{len(cases)} pairs of a film and a finding, of one half of ChestX-Det's patients; "
        "position: the mean box of the finding in the other half; any finding: the mean of all "
        "boxes there; position, NIH's boxes: the mean box of the finding of NIH's other patients, "
        "for findings that NIH has boxes of, and their mean; lungs: the mean of lung masks of "
        "another data set; random: noise of 32 x 32 cells; outlines: pixels within the outlines, "
        "in the scores that compare pixels; 95% intervals by patient"
    )
    inputs = [*CHESTX_DET, BOXES, LABELS, LUNG_MASKS]
    source = "ChestX-Det (Apache-2.0), joined by the names in ChestX-Det10's first upload"
    about = {"source": f"{source}; NIH's boxes; lung masks of V7 Labs", "inputs": inputs}
    about |= {"licence": "figures CC BY 4.0; inputs as published", "note": note}
    return frame.round(4), about


def _mean_lungs(size: int) -> np.ndarray:
    """Return the share of lung masks of another data set that cover each cell."""
    sides = (size, size)
    with zipfile.ZipFile(LUNG_MASKS) as masks:
        names = [name for name in masks.namelist() if name.lower().endswith((".png", ".jpg"))]
        images = [Image.open(masks.open(name)).convert("L").resize(sides) for name in names]
    return np.mean([np.asarray(image) > 127 for image in images], axis=0)


@builds("published_localization")
def published_localization() -> Built:
    """Return accuracies of ChestX-ray8's network, by the names of this chapter's metrics."""
    source = "Wang et al., ChestX-ray8, arXiv:1705.02315 v5, Tables 4 and 7"
    note = "no intervals were published; IoBB: intersection over the detected box"
    return published.localization(), quoted(source, note=note)


@builds("localization_methods")
def methods() -> Built:
    """Score every method on the same few cases, each beside its own maps of other films."""
    films, model = _boxed(), _model("default")
    cases = _sample(films.cases, PER_FINDING_FEW)
    tables = [localization_table(_scores(model, films, cases, "cam", names=CONTROLS))]
    for method, options in OTHER_METHODS.items():
        scores = _scores(model, films, cases, method, names=("other film",), **options)
        tables.append(_own(localization_table(scores), method))
    frame = pd.concat(tables, ignore_index=True)
    kept = ("hit", "energy", "overlap", "iou_area", "iou_best", "IoBB > 0.1", "IoU > 0.1")
    frame = frame[frame["metric"].isin(kept) & (frame["group"] == "mean of findings")]
    frame = frame.drop(columns="p_adjusted")
    options = ", ".join(f"{m} {o}" for m, o in SLOW.items()).replace("'", "")
    note = (
        f"{PER_FINDING_FEW} simulated test films a finding, {SIZE} px; mean of "
        "findings, 95% intervals by patient; gain: the map less its control, paired (of a "
        f"method, other film: the map by that method less that of another film); {options}"
    )
    return frame.round(4), _provenance(note, "default")


# The shortcut: each film with the marker and without it, everything else the same.
@cache
def _marked() -> dict:
    data = open_dataset("phantom", "test", size=SIZE, shortcut=Shortcut(**SHORTCUT))
    first = data.films["patient"].min()
    mine = (data.films["patient"] < first + SHORTCUT_PATIENTS).to_numpy()
    films = data.films[mine].reset_index(drop=True)
    drawn = np.asarray(data.cache.images)[data.rows[mine]]
    has = films["device_marker"].to_numpy(bool)
    turned = films.assign(device_marker=~has)
    other = np.stack([render(f, size=SIZE).image for f in films_of(turned, seed=0)])
    with_, without = drawn.copy(), other.copy()
    with_[~has], without[~has] = other[~has], drawn[~has]
    apart = np.abs(with_.astype(int) - without) > 30
    place = np.full((len(films), 2), np.nan)  # row and column of its middle, in pixels
    for i, mask in enumerate(apart):
        if mask.sum() >= 20:  # else the collimator hid it
            place[i] = np.median(np.argwhere(mask), axis=0)
    return {"films": films, "with": with_, "without": without, "place": place}


@cache
def _told(run: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a run's maps [N, h, w] and logits [N] of Nodule."""
    if kind in ("with", "without"):
        images, k = _marked()[kind], FINDINGS.index("Nodule")
        maps, logits = maps_of(_model(run), Batcher(images), np.arange(len(images)))
        return maps[:, k], logits[:, k]
    on = _marked()["films"]["device_marker"].to_numpy(bool) == (kind == "drawn")
    maps, logits = zip(_told(run, "with"), _told(run, "without"), strict=True)
    return np.where(on[:, None, None], *maps), np.where(on, *logits)


@builds("localization_shortcut")
def shortcut() -> Built:
    """AUROC for Nodule as the marker goes with it, is on no film, on all, or goes without it."""
    marked = _marked()
    labels = marked["films"]["Nodule"].to_numpy(bool)
    draws = Resamples(marked["films"]["patient"])
    kinds = {
        "as trained": "drawn",
        "marker on every film": "with",
        "marker on no film": "without",
        "the other way round": "turned",
    }
    counts, rows = (len(labels), int(labels.sum()), len(draws.drawn)), []
    for run in ("default", "shortcut"):
        scores = {name: _told(run, kind)[1] for name, kind in kinds.items()}
        found = {name: resampled(auroc, labels, s, draws) for name, s in scores.items()}
        for name, one in found.items():
            changed = (np.nan,) * 3
            if name != "as trained":
                less = one - found["as trained"]
                changed = less.estimate, *less.interval()
            rows.append((run, name, *counts, one.estimate, *one.interval(), *changed))
    columns = ["run", "films", "n_films", "n_positive", "n_patients", "estimate", "low"]
    columns += ["high", "change", "change_low", "change_high"]
    note = (
        f"AUROC for Nodule on {SHORTCUT_PATIENTS} simulated test patients whose "
        f"side marker is on {SHORTCUT['with_finding']:.0%} of films with a nodule and on "
        f"{SHORTCUT['without']:.0%} of others, and on the same films with the marker added or "
        "taken away; 95% intervals by patient; change: less that as trained, paired"
    )
    return pd.DataFrame(rows, columns=columns).round(4), _provenance(note, "default", "shortcut")


def _cell(place: np.ndarray, cells: int, grid: Grid) -> np.ndarray:
    """Return the cell whose centre is nearest, for places in pixels [N, 2]."""
    centres = cell_centres(cells, grid)
    return np.abs(place[..., None] - centres).argmin(-1)


def _cue_cases() -> dict:
    """Return the films with a nodule whose marker is seen, and the cells of both."""
    marked, pool = _marked(), _boxed().cases
    of = pool[pool["finding"] == "Nodule"].set_index("image")["truth"]
    images = marked["films"]["image"]
    chosen = np.flatnonzero(images.isin(of.index) & ~np.isnan(marked["place"][:, 0]))
    middles = [
        [((y + h / 2) * SIZE - 0.5, (x + w / 2) * SIZE - 0.5) for x, y, w, h in of[images[i]]]
        for i in chosen
    ]
    return {"rows": chosen, "nodules": middles, "truth": [of[images[i]] for i in chosen]}


@builds("localization_shortcut_maps")
def shortcut_maps() -> Built:
    """Say where the map for Nodule is hottest, and what it says of the marker."""
    marked, cue = _marked(), _cue_cases()
    rows = cue["rows"]
    patient = marked["films"]["patient"].to_numpy()[rows]
    n, draws, out = (len(rows), len(np.unique(patient))), Resamples(patient), []
    grids = {"cam": Grid(14.5, 32), "layercam": Grid(6.5, 16)}
    for run, (method, grid) in product(("default", "shortcut"), grids.items()):
        maps, logit = _told(run, "with")
        gone, logit_gone = _told(run, "without")
        seen, hidden = maps[rows], gone[rows]
        if method != "cam":
            names = ["Nodule"] * len(rows)
            seen, hidden = (
                case_maps(_model(run), Batcher(marked[kind]), rows, names, method=method).values
                for kind in ("with", "without")
            )
        cells = seen.shape[-1]
        marker = _cell(marked["place"][rows], cells, grid)
        hottest = np.stack(np.divmod(seen.reshape(len(seen), -1).argmax(1), cells), 1)
        near = [_cell(np.array(places), cells, grid) for places in cue["nodules"]]
        at, positive = (np.arange(len(rows)), *marker.T), np.clip(seen, 0, None)
        pairs = zip(near, hottest, strict=True)
        values = {
            "hottest cell is the marker's": (hottest == marker).all(1),
            "hottest cell is a nodule's": np.array([(c == hot).all(1).any() for c, hot in pairs]),
            "share of the map at the marker": positive[at] / np.maximum(positive.sum((1, 2)), 1e-9),
        }
        if method == "cam":
            values["map at the marker"] = seen[at] / cells**2
            values["map at the marker, change"] = (seen - hidden)[at] / cells**2
            values["logit, change"] = (logit - logit_gone)[rows]
        for name, value in values.items():
            out.append((run, method, name, *n, *_mean(value.astype(float), draws)))
    columns = ["run", "method", "measure", "n_films", "n_patients", "estimate", "low", "high"]
    note = (
        "simulated films with a nodule and a side marker; a map's cells, "
        "the marker's being the one whose centre is nearest; map and logit of Nodule; change: with "
        "the marker less without it; 95% intervals by patient"
    )
    return pd.DataFrame(out, columns=columns).round(4), _provenance(note, "default", "shortcut")


@builds("localization_shortcut_films")
def shortcut_films() -> Built:
    """Keep maps for Nodule of the first films with one nodule, and what else is on them."""
    marked, cue = _marked(), _cue_cases()
    films, out = marked["films"], []
    for i, truth in zip(cue["rows"], cue["truth"], strict=True):
        film = films.iloc[i]
        if film["severity_Nodule"] < 0.5 or len(truth) > 1:
            continue
        about = {
            **{k: film[k] for k in ("patient", "follow_up", "view", "sex", "age")},
            "severity": film["severity_Nodule"],
            "others": " ".join(
                f"{name} {film[f'severity_{name}']:.3f}"
                for name in FINDINGS
                if name != "Nodule" and film[f"severity_{name}"] > 0
            ),
            "devices": " ".join(c[7:] for c in films if c.startswith("device_") and film[c]),
            **dict(zip(("x", "y", "width", "height"), np.round(truth[0], 4), strict=True)),
        }
        for run, kind in product(("default", "shortcut"), ("with", "without")):
            maps, logits = _told(run, kind)
            cells = {f"m{r}{c}": maps[i, r, c] for r, c in np.ndindex(maps[i].shape)}
            out.append({**about, "run": run, "marker": kind, "logit": logits[i], **cells})
        if len(out) >= 4 * 4:
            break
    note = f"class activation maps of Nodule, cells m(row)(column), {SIZE} px"
    return pd.DataFrame(out).round(4), _provenance(note, "default", "shortcut")


def _few(per_finding: int) -> dict[str, pd.DataFrame]:
    """Return films with each of the findings that are checked."""
    cases = _sample(_boxed().cases, per_finding, CHECKED)
    return {finding: cases[cases["finding"] == finding] for finding in CHECKED}


def shift_equivariance(
    model: CheXNet,
    images: torch.Tensor,
    finding: str,
    *,
    shifts: Sequence[int] = (4, 8, 16, 32),
    method: str = "cam",
) -> pd.DataFrame:
    """Return whether maps of a finding move with what they show.

    A film is seen through two windows, one of them further down and to the right. Nothing is
    padded: where they overlap, both see the same film, and an equivariant map is the same.

    Parameters
    ----------
    model : CheXNet
    images : Tensor float32 [B, 1 or 3, H, W]
    finding : str
    shifts : sequence of int
        Pixels, from 1 up and less than half of the film. All windows have the film's side less the
        largest shift.
    method : str
        As for :func:`chexlib.interpret.attribute`.

    Returns
    -------
    DataFrame
        A row a film and shift: ``film``, ``shift``; ``spearman``, of the maps in pixels where
        windows overlap; ``peak``, the distance in pixels between the hottest places there, 0 for an
        equivariant map; and ``logit``, how far the logit changes.

    Raises
    ------
    ValueError
        If a shift does not fit.
    """
    height, width = images.shape[2:]
    if not shifts or min(shifts) < 1 or max(shifts) > min(height, width) // 2:
        raise ValueError(
            f"Expected shifts from 1 to half of the film's side, got {list(shifts)} for films of "
            f"{height} x {width} px."
        )
    inner = (height - max(shifts), width - max(shifts))
    row = FINDINGS.index(finding)

    def seen(by: int) -> tuple[np.ndarray, np.ndarray]:
        window = images[:, :, by : by + inner[0], by : by + inner[1]].contiguous()
        maps = attribute(model, window, finding, method=method).pixels(inner)[:, 0]
        return maps.cpu().numpy(), maps_and_logits(model, window)[1][:, row].cpu().numpy()

    def peak(maps: np.ndarray) -> np.ndarray:
        return np.array(np.divmod(maps.reshape(len(maps), -1).argmax(-1), maps.shape[-1]))

    still, logit = seen(0)
    tables = []
    for by in shifts:
        moved, other = seen(by)
        a, b = still[:, by:, by:], moved[:, : inner[0] - by, : inner[1] - by]
        table = {"film": np.arange(len(a)), "shift": by, "spearman": similarity(a, b)}
        table |= {"peak": np.hypot(*(peak(a) - peak(b))), "logit": other - logit}
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


@builds("localization_sanity")
def sanity() -> Built:
    """Draw layers anew, shuffle labels, move the window, and see whether maps notice."""
    model, shuffled = _model("default"), _model("random-labels")
    batcher = _boxed().batcher
    ways = {"cam": {}, "layercam": {}, "copied": {}, "integrated_gradients": {"steps": 8}}
    ways["smoothgrad"] = {"samples": 8}
    parts = []
    for finding, cases in _few(4).items():
        images, patient = batcher(cases["film"]), cases["patient"].to_numpy()
        for method, options in ways.items():
            given = {"method": method, **options}
            fallen = cascade(model, images, finding, **given).assign(check="layers drawn anew")
            other = compare_models(model, shuffled, images, finding, **given)
            other = other.assign(stage="random labels", check="random labels")
            both = pd.concat([fallen.astype({"stage": str}), other]).assign(method=method)
            both["patient"] = patient[both["film"]]
            parts.append(both.rename(columns={"spearman": "value"}).assign(measure="spearman"))
        for method in ("cam", "layercam"):
            moved = shift_equivariance(model, images, finding, method=method)
            moved["logit"] = moved["logit"].abs()
            for measure in ("spearman", "peak", "logit"):
                one = moved.rename(columns={measure: "value"})[["film", "shift", "value"]]
                one = one.assign(check="window moved", method=method, measure=measure)
                one["stage"], one["patient"] = one.pop("shift").astype(str), patient[one["film"]]
                parts.append(one)
    every = pd.concat(parts, ignore_index=True)
    rows = []
    keys = ["check", "method", "stage", "measure"]
    for key, part in every.groupby(keys, sort=False):
        ranked = part[part["value"].notna()]  # a constant map has no rank
        mean, low, high = _mean(ranked["value"].to_numpy(), Resamples(ranked["patient"]))
        rows.append((*key, len(ranked), mean, low, high))
    columns = [*keys, "n", "estimate", "low", "high"]
    note = (
        f"4 simulated test films of each of {', '.join(CHECKED)}; rank "
        "correlation of a map with the trained network's own; of windows moved by so many pixels, "
        "where they overlap: correlation, distance of peaks in pixels, change of the logit"
    )
    frame = pd.DataFrame(rows, columns=columns)
    return frame.round(4), _provenance(note, "default", "random-labels")


@builds("localization_perturbation")
def perturbation() -> Built:
    """Take pixels away, or give them, in the order of maps, of chance and of the truth."""
    model, batcher = _model("default"), _boxed().batcher
    rng, curves, areas = np.random.default_rng(0), [], []
    for finding, some in _few(8).items():
        images, given = batcher(some["film"]), (model, batcher, some["film"], some["finding"])
        heat = {name: case_maps(*given, method=name).pixels(SIZE) for name in ("cam", "layercam")}
        noise = rng.random((len(some), SIZE, SIZE))
        truth = np.stack([truth_mask(boxes, SIZE) for boxes in some["truth"]])
        heat |= {"random": noise, "truth": truth + 0.5 * noise}
        for (source, maps), kind in product(heat.items(), ("deletion", "insertion")):
            found = perturbation_curves(model, images, maps, finding, kind=kind, steps=14)
            share, probability = found
            where = {"source": source, "kind": kind}
            area = np.trapezoid(probability, share, axis=1)
            areas.append(pd.DataFrame(where | {"patient": some["patient"], "area": area}))
            curve = {"share": share, "probability": probability.mean(0)}
            curves.append(pd.DataFrame(where | curve))
    mean = pd.concat(curves).groupby(["source", "kind", "share"], sort=False)["probability"]
    lines = mean.mean().rename("estimate").reset_index().assign(what="curve")
    every, rows = pd.concat(areas), []
    for (source, kind), part in every.groupby(["source", "kind"], sort=False):
        draws = Resamples(part["patient"])
        own = part["area"].to_numpy()
        chance = every[(every["source"] == "random") & (every["kind"] == kind)]["area"].to_numpy()
        rows.append((source, kind, *_mean(own, draws), *_mean(own - chance, draws), "area"))
    columns = ["source", "kind", "estimate", "low", "high", "less_random", "less_random_low"]
    columns += ["less_random_high", "what"]
    frame = pd.concat([lines, pd.DataFrame(rows, columns=columns)], ignore_index=True)
    note = (
        f"8 simulated test films of each of {', '.join(CHECKED)}; mean "
        "probability of the finding; pixels replaced by the film's mean, or given to the blurred "
        "film; truth: the boxes first, in random order; areas with 95% intervals by patient, and "
        "less that in random order, paired"
    )
    return frame.round(4), _provenance(note, "default")


@builds("localization_auroc")
def against_auroc() -> Built:
    """Set AUROC beside localisation: of runs; and the AUROC of findings alone."""
    known = json.loads(_model("default").provenance["metadata"]["metrics"])["auroc"]
    rows = []
    for finding, area in known.items():
        ends = [area[k] for k in ("estimate", "low", "high")]
        rows.append(("finding", finding, SIZE, "", *ends, *[np.nan] * 6))
    for run in ("default", "shortcut", "random-labels", *SMALL_RUNS):
        rows += _run_rows(run)
    columns = ["by", "name", "size", "metric", "auroc", "auroc_low", "auroc_high", "estimate"]
    columns += ["low", "high", "gain", "gain_low", "gain_high"]
    note = (
        f"class activation maps on simulated test films; mean of findings for "
        f"runs ({PER_FINDING_RUN} films a finding; AUROC against the truth on films of all test "
        f"patients, of the shortcut's run on those of {SHORTCUT_PATIENTS}); gain over the map of "
        "another patient's film with the finding; 95% intervals by patient"
    )
    frame = pd.DataFrame(rows, columns=columns)
    return frame.round(4), _provenance(note, "default", "shortcut", "random-labels", *SMALL_RUNS)


def _run_rows(run: str) -> list[tuple]:
    size = 64 if run in SMALL_RUNS else SIZE
    data = open_dataset("phantom", "test", size=size)
    batcher, cases = Batcher(data.cache), _sample(_boxed().cases, PER_FINDING_RUN)
    if run == "shortcut":  # its own test films have the marker where it was trained to expect it
        mine = (data.patients < data.patients.min() + SHORTCUT_PATIENTS).nonzero()[0]
        _, logits = maps_of(_model(run), batcher, data.rows[mine])
        judged = auroc_with_intervals(data.truth[mine], logits, data.patients[mine])
    else:
        judged = json.loads((folder_of(run) / "metrics.json").read_text())["truth"]
    films = BoxedFilms(batcher, cases, "")
    scores = _scores(_model(run), films, cases, "cam", names=("other film",))
    metrics = {"overlap": "overlap", "hit": "hit"}
    table = localization_table(scores, metrics=metrics)
    table = table[table["group"] == "mean of findings"].set_index(["source", "metric"])
    rows = []
    for metric in metrics:
        own = table.loc[("cam", metric), ["estimate", "low", "high"]]
        gain = table.loc[("other film", metric), ["gain", "gain_low", "gain_high"]]
        rows.append(("run", run, size, metric, *judged["mean_auroc"].values(), *own, *gain))
    return rows


def _mean(values: np.ndarray, draws: Resamples) -> tuple[float, float, float]:
    """Return a mean with its interval by patient."""
    found = ratio(values, np.ones(len(values)), draws)
    return (float(found.estimate), *map(float, found.interval()))


def _provenance(note: str, *runs: str) -> dict:
    trained = [f"{run} {sha256(_weights(run))[:12]}" for run in runs if run != "default"]
    if trained:
        note += f"; runs of data/train_runs.py, by SHA-256 of their weights: {', '.join(trained)}"
    inputs = [LUNGS, LABELS, phantom_checkpoint()]
    return simulated("simulated radiographs and networks trained on them", inputs, note)
