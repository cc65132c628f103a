r"""Does the map look at the right place? Scores of one map against the boxes of one finding.

A case is a film with a finding that has boxes. Every score sees the map at one size, scaled to [0,
1] by its own range, so that the unit of a method does not matter.

``hit``
    The pointing game: is the hottest pixel in a box? Where several are equally hot, the share of
    them, so that a constant map scores the area of the boxes.
``energy``
    Share of the map's sum that is in the boxes.
``overlap``
    Of the hottest pixels, as many as the boxes have, the share that is in them. No threshold, and
    no gain from regions that are large or small; chance is ``area``.
``iou_area``, ``iou_best``
    IoU of the region above a threshold with the boxes, as that threshold runs from 0 to 1: the area
    under this curve, and its maximum (the threshold a judge who knows the answer would choose).
``iou_<cut>``, ``iobb_<cut>``, ``boxes_<cut>``
    Of the boxes that :func:`chexlib.interpret.heat_boxes` draws: the best IoU and the best IoBB of
    any of them with any true box, and how many there are. The best of many boxes is easily good:
    read ``boxes``, and the controls.

References
----------
Zhang et al., Top-down neural attention by excitation backprop, IJCV 126 (2018) 1084-1102 (pointing
game). Wang, H. et al., Score-CAM, CVPR Workshops 2020 (energy). Choe et al., Evaluating weakly
supervised object localization methods right, CVPR 2020 (curves instead of thresholds). Wang, X. et
al., ChestX-ray8, CVPR 2017 (boxes, IoU, IoBB).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from chexlib.files import brief
from chexlib.inference import Preparation
from chexlib.interpret.attribution import case_maps
from chexlib.interpret.heatmap import CUTS, LEVELS, HeatMap, heat_boxes, iobb, iou, truth_mask
from chexlib.metrics.inputs import UndefinedWarning
from chexlib.metrics.resampling import RESAMPLES, Bootstrap, Resamples, wilson_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from chexlib.data.batches import Batcher
    from chexlib.models.chexnet import CheXNet

    Progress = Callable[[str, int, int], None]

SIZE = 256
NIH_SIZE = 1024  # pixels a side in which boxes are given, of NIH and of the phantom
MEAN = "mean of findings"
CONTROLS = ("random", "centre", "position", "moved", "other film")
_AT_ONCE = 32  # maps enlarged at once: 8 MB, which stay in a cache
_GRID = 64  # cells a side of the position prior

METRICS = {
    **{name: name for name in ("hit", "energy", "overlap", "iou_area", "iou_best")},
    **{f"IoBB > {t:g}": f"iobb_wang > {t}" for t in (0.1, 0.25, 0.5)},
    **{f"IoU > {t:g}": f"iou_wang > {t}" for t in (0.1, 0.3, 0.5)},
    "IoU > 0.3, Otsu": "iou_otsu > 0.3",
    "boxes": "boxes_wang",
}
"""What the table reports: a value of each case, computed of its scores; shares are means of 0 and
1."""


def find_cases(boxes: pd.DataFrame, images: Sequence[str], patients: ArrayLike) -> pd.DataFrame:
    """Return the films with a finding that has boxes.

    Parameters
    ----------
    boxes : DataFrame
        As :func:`chexlib.data.load_boxes`, in pixels of 1024 x 1024; those of other films are left
        out. A column ``outline``, points [P, 2] in the same pixels, is carried along.
    images : sequence of str [N]
        Names of films.
    patients : array_like [N]

    Returns
    -------
    DataFrame
        A row a case, in the order of films, then of findings as boxes name them: ``film`` (its row
        among ``images``), ``image``, ``finding``, ``patient``, and ``truth``, an array [K, 4] of
        boxes: x, y, width, height as shares of the image's sides, 0 to 1; and ``outline``, a list
        of K arrays [P, 2] in the same unit, where boxes have it.

    Raises
    ------
    ValueError
        If none of the boxes is on one of the films.

    Examples
    --------
    >>> boxes = pd.DataFrame({"image": ["a.png", "a.png"], "finding": ["Mass", "Mass"],
    ...     "x": [0, 512], "y": [0, 512], "width": [256, 512], "height": [128, 512]})
    >>> cases = find_cases(boxes, ["b.png", "a.png"], [1, 2])
    >>> cases["film"].item(), cases["finding"].item(), cases["truth"].item()
    (1, 'Mass', array([[0.   , 0.   , 0.25 , 0.125],
           [0.5  , 0.5  , 0.5  , 0.5  ]]))
    """
    place = pd.Series(np.arange(len(images)), index=pd.Index(images))
    here = boxes[boxes["image"].isin(place.index)]
    if here.empty:
        raise ValueError(
            f"Expected boxes on some of {len(images)} films, got none among {len(boxes)} boxes. "
            "Of NIH's films, 880 of the official test set have boxes."
        )
    truth = list(here[["x", "y", "width", "height"]].to_numpy(float) / NIH_SIZE)
    here = here.assign(film=place[here["image"]].to_numpy(), truth=truth)
    groups = here.sort_values("film", kind="stable").groupby(
        ["film", "image", "finding"], sort=False
    )
    cases = groups["truth"].agg(list).map(np.stack).reset_index()
    if "outline" in here:
        outlines = groups["outline"].agg(list)
        cases["outline"] = [[np.asarray(o) / NIH_SIZE for o in case] for case in outlines]
    cases.insert(3, "patient", np.asarray(patients)[cases["film"]])
    return cases


def score_cases(
    heat: HeatMap | ArrayLike,
    cases: pd.DataFrame,
    *,
    size: int = SIZE,
    cuts: Sequence[str | int] = CUTS,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Score a map of each case against its boxes.

    Parameters
    ----------
    heat : HeatMap, or array_like [M, h, w]
        A plain array is taken to cover the film evenly.
    cases : DataFrame
        M of them, of :func:`find_cases`. Where they have an ``outline``, it takes the place of the
        boxes in the scores that compare pixels; drawn boxes are still held against boxes.
    size : int
        Pixels a side at which maps are compared with boxes.
    cuts : sequence
        As for :func:`chexlib.interpret.heat_boxes`.
    progress : callable, optional
        Called with the numbers of cases done and of all.

    Returns
    -------
    DataFrame
        A row a case: ``film``, ``image``, ``finding``, ``patient``, ``area`` (share of the image in
        boxes), ``n_truth`` (boxes), and the scores of :mod:`chexlib.interpret.localization`.

    Raises
    ------
    ValueError
        If there are not as many maps as cases.
    """
    heat = heat if isinstance(heat, HeatMap) else HeatMap(np.asarray(heat, np.float32))
    if len(heat) != len(cases) or heat.values.ndim != 3:
        raise ValueError(
            f"Expected a map [h, w] for each of {len(cases)} cases, got {list(heat.values.shape)}."
        )
    rows: list[dict[str, float]] = []
    marks = cases.get("outline", cases["truth"])
    for start in range(0, len(cases), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        here = (heat[part].levels(size), marks.iloc[part], cases["truth"].iloc[part])
        for levels, mark, truth in zip(*here, strict=True):
            rows.append(_pixels(levels, truth_mask(mark, size)))
            rows[-1] |= _drawn(levels, size * np.asarray(truth), cuts)
        if progress:
            progress(len(rows), len(cases))
    who = cases[["film", "image", "finding", "patient"]].reset_index(drop=True)
    who["n_truth"] = cases["truth"].map(len).to_numpy()
    return pd.concat([who, pd.DataFrame(rows)], axis=1)


def _pixels(levels: NDArray[np.uint8], truth: NDArray[np.bool_]) -> dict[str, float]:
    """Return the scores that compare pixels, all from how many have each level in and out."""
    inside = np.bincount(levels[truth], minlength=LEVELS + 1)
    every = np.bincount(levels.ravel(), minlength=LEVELS + 1)
    level = np.arange(LEVELS + 1)
    n_truth, n = inside.sum(), every.sum()
    top = level[every > 0][-1]
    total = float(level @ every)
    # Counts at or above each level; a threshold between 0 and 1 cuts below level 1, 2, … 255.
    above_in, above = (np.cumsum(c[::-1])[::-1] for c in (inside, every))
    curve = above_in[1:] / (n_truth + above[1:] - above_in[1:])
    return {
        "area": n_truth / n,
        "hit": inside[top] / every[top],
        "energy": float(level @ inside) / total if total else n_truth / n,
        "overlap": _hottest(above_in, above, n_truth) / n_truth,
        "iou_area": float(curve.mean()),
        "iou_best": float(curve.max()),
    }


def _hottest(above_in: NDArray, above: NDArray, wanted: int) -> float:
    """Return how many of the ``wanted`` hottest pixels are inside; ties count by their share."""
    full = np.flatnonzero(above >= wanted)[-1]  # the highest level that gives enough
    more, more_in = (c[full + 1] if full < LEVELS else 0 for c in (above, above_in))
    tied, tied_in = above[full] - more, above_in[full] - more_in
    return more_in + (wanted - more) * tied_in / tied


def _drawn(levels: NDArray[np.uint8], truth: NDArray, cuts: Sequence[str | int]) -> dict:
    """Return the scores of boxes at each cut; regions at a threshold are looked for once."""
    at = cache(lambda cut: heat_boxes(levels, cut=cut))
    row: dict[str, float] = {}
    for cut in cuts:
        drawn = np.concatenate([at(60), at(180)]) if cut == "wang" else at(cut)
        row[f"iou_{cut}"] = iou(drawn, truth).max(initial=0.0)
        row[f"iobb_{cut}"] = iobb(drawn, truth).max(initial=0.0)
        row[f"boxes_{cut}"] = len(drawn)
    return row


def controls(
    heat: HeatMap,
    cases: pd.DataFrame,
    *,
    names: Sequence[str] = CONTROLS,
    seed: int = 0,
    size: int = SIZE,
    prior: pd.DataFrame | None = None,
) -> dict[str, HeatMap]:
    """Return maps that know less than the network: what a score is worth without it.

    ``random``
        Noise in the cells of the map, enlarged in the same way. It knows nothing.
    ``centre``
        A normal hill in the middle of the film. It knows that films are centred.
    ``position``
        The mean of the boxes of other patients with the finding. It knows where a finding usually
        is, and has not seen the film.
    ``moved``
        The map itself, moved by a random distance, what leaves on one side returning on the other.
        At every threshold its region has the same area: only the place is wrong.
    ``other film``
        The map of another patient with the same finding. The network without this film.

    Parameters
    ----------
    heat : HeatMap
        The maps that are to be judged, [M, h, w].
    cases : DataFrame
        M of them, of :func:`find_cases`.
    names : sequence of str
        Among :data:`CONTROLS`, as above.
    seed : int
        The same seed gives the same controls.
    size : int
        That :func:`score_cases` will use.
    prior : DataFrame, optional
        Cases that "position" learns from, such as those of the validation part. By default the
        cases themselves, each without its own patient.

    Returns
    -------
    dict of str to HeatMap

    Raises
    ------
    ValueError
        If a name is unknown or there are not as many maps as cases.
    """
    n = len(cases)
    if not set(names) <= set(CONTROLS) or len(heat) != n:
        raise ValueError(
            f"Expected controls among {CONTROLS} and a map for each of {n} cases, got "
            f"{tuple(names)} and {len(heat)} maps."
        )
    # A stream for each, so that leaving one out does not change the others.
    streams = np.random.default_rng(seed).spawn(len(CONTROLS))
    slope = np.exp(-0.5 * (((np.arange(_GRID) + 0.5) / _GRID - 0.5) / 0.25) ** 2)
    hill = np.outer(slope, slope).astype(np.float32)
    made: dict[str, Callable[[np.random.Generator], HeatMap]] = {
        "random": lambda rng: replace(heat, values=rng.random(heat.values.shape, dtype=np.float32)),
        "centre": lambda _: HeatMap(np.broadcast_to(hill, (n, _GRID, _GRID))),
        "position": lambda _: HeatMap(_usual_places(cases, cases if prior is None else prior)),
        "moved": lambda rng: replace(heat, roll=rng.integers(0, size, (n, 2))),
        "other film": lambda rng: heat[_partners(cases, rng)],
    }
    return {name: made[name](streams[CONTROLS.index(name)]) for name in names}


def _usual_places(cases: pd.DataFrame, prior: pd.DataFrame) -> NDArray[np.float32]:
    """Return for each case the sum of boxes of its finding, of other patients."""
    masks = np.stack([truth_mask(boxes, _GRID) for boxes in prior["truth"]]).astype(np.float32)
    finding, patient = prior["finding"].to_numpy(), prior["patient"].to_numpy()
    return np.stack(
        [
            masks[(finding == case.finding) & (patient != case.patient)].sum(axis=0)
            for case in cases.itertuples()
        ]
    )


def _partners(cases: pd.DataFrame, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return for each case another with the same finding, of another patient; else itself."""
    finding, patient = cases["finding"].to_numpy(), cases["patient"].to_numpy()
    partner = np.arange(len(cases))
    for name in np.unique(finding.astype(str)):
        mine = np.flatnonzero(finding == name)
        for i in mine:
            others = mine[patient[mine] != patient[i]]
            if len(others):
                partner[i] = others[rng.integers(len(others))]
    return partner


def localization_table(
    scores: Mapping[str, pd.DataFrame],
    *,
    by: str = "finding",
    metrics: Mapping[str, str] = METRICS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return mean scores of a map and of its controls, and what the map adds to each of them.

    Parameters
    ----------
    scores : mapping of name to DataFrame
        Of :func:`score_cases`, all on the same cases. The first is the map that is judged; the rest
        are controls or other methods.
    by : str
        Column of the scores that splits the cases: findings, or one you add, such as sizes.
    metrics : mapping of name to str
        How each is computed of the scores' columns, as :meth:`pandas.DataFrame.eval` takes it: for
        each case a whole number or one in [0, 1]. :data:`METRICS` by default.
    resamples, seed
        Of the bootstrap by patient.

    Returns
    -------
    DataFrame
        ``source`` (name of the map or control), ``group`` (of ``by``; then "mean of findings", or
        of whatever splits them, each counting alike), ``metric``, ``n_cases``, ``n_patients``,
        ``estimate``, ``low``, ``high``; and ``gain``, ``gain_low``, ``gain_high``: the first
        source minus this one, paired. ``p_adjusted`` is of no gain, adjusted for the number of
        groups (:meth:`chexlib.metrics.Bootstrap.p_adjusted`); that of the mean is a single test and
        is not. Intervals are NaN where fewer than two patients are; of the mean, where that is so
        in a group. Where resampling cannot move a mean, since all cases have 0 or all have 1, its
        interval is Wilson's with patients as trials; that of a gain is NaN.

    Raises
    ------
    ValueError
        If there are no scores, or not of the same cases.
    """
    frames, same = list(scores.values()), ["image", "finding"]
    if not frames or any(not f[same].equals(frames[0][same]) for f in frames):
        raise ValueError("Expected scores of the same cases, in the same order, got others.")
    first = frames[0]
    draws = Resamples(first["patient"], resamples=resamples, seed=seed)
    groups = first.groupby(by, sort=False, observed=True).indices
    parts = [*groups.values(), np.arange(len(first))]
    sizes = pd.DataFrame(
        {
            "group": [*map(str, groups), MEAN if by == "finding" else f"mean of {by}"],
            "n_cases": [len(rows) for rows in parts],
            "n_patients": [first["patient"].iloc[rows].nunique() for rows in parts],
        }
    )
    values = {name: [frame.eval(how) for how in metrics.values()] for name, frame in scores.items()}
    share = np.array([one.dtype.kind in "bf" for one in next(iter(values.values()))])
    found = {
        name: _means(np.column_stack(columns).astype(float), groups.values(), draws)
        for name, columns in values.items()
    }
    judged = next(iter(found.values()))
    tables = []
    for name, one in found.items():
        gain = judged - one
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedWarning)  # NaN in the table says it
            ends, gain_ends = np.stack(one.interval()), gain.interval()
        still = np.isnan(ends[0]) & ~np.isnan(one.replicates).all(axis=0)
        for at in zip(*np.nonzero(still & share & np.isin(one.estimate, (0, 1))), strict=True):
            ends[:, *at] = wilson_interval(one.estimate[at], sizes["n_patients"][at[0]])
        columns = {"estimate": one.estimate, "low": ends[0], "high": ends[1]}
        columns |= dict.fromkeys(("gain", "gain_low", "gain_high", "p_adjusted"), np.nan)
        if one is not judged:
            p = [gain[:-1, m].p_adjusted() for m in range(len(metrics))]
            columns |= {"gain": gain.estimate, "gain_low": gain_ends[0], "gain_high": gain_ends[1]}
            columns["p_adjusted"] = np.vstack([np.column_stack(p), gain[-1].p_value()])
        table = sizes.loc[sizes.index.repeat(len(metrics))].reset_index(drop=True)
        table.insert(0, "source", name)
        table.insert(2, "metric", [*metrics] * len(sizes))
        full = {key: np.broadcast_to(v, one.estimate.shape).ravel() for key, v in columns.items()}
        tables.append(table.assign(**full))
    return pd.concat(tables, ignore_index=True)


def _means(values: NDArray, groups: Iterable[NDArray], draws: Resamples) -> Bootstrap:
    """Return means of columns [M, K] in each group and over groups, [G + 1, K].

    Replicates are NaN for a group of one patient, who cannot show how patients differ, and for a
    resample without a case of a group; of the mean, where that is so in a group.
    """
    estimates, replicates = [], []
    counted = np.column_stack([values, np.ones(len(values))])
    for rows in groups:
        here = draws.select(rows)
        estimates.append(values[rows].mean(axis=0))
        sums = here.sums(counted[rows])
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums[:, :-1] / sums[:, -1:]
        replicates.append(means if len(np.unique(here.code)) > 1 else np.full_like(means, np.nan))
    estimates.append(np.mean(estimates, axis=0))
    replicates.append(np.mean(replicates, axis=0))
    return Bootstrap(np.array(estimates), np.stack(replicates, axis=1), draws)


@dataclass(frozen=True)
class BoxedFilms:
    """Films with boxes, ready for a network.

    Attributes
    ----------
    batcher : Batcher
    cases : DataFrame
        Of :func:`find_cases`; ``film`` is a row of the batcher.
    about : str
        One line on what they are.
    read : int
        Films.
    rejected : sequence of (str, str, str)
        ``image``, ``source`` and ``reason`` of those that cannot be read.
    ignored : sequence of (str, str)
        What else was found, and why it is left aside.
    """

    batcher: Batcher
    cases: pd.DataFrame
    about: str
    read: int = 0
    rejected: Sequence[tuple[str, str, str]] = ()
    ignored: Sequence[tuple[str, str]] = ()


def open_boxed(
    source: str | Path,
    *,
    boxes: str | Path | None = None,
    findings: Sequence[str] | None = None,
    size: int,
    cache_size: int | None = None,
    fit: str = "squash",
    n_patients: int | None = None,
    progress: Progress | None = None,
) -> BoxedFilms:
    """Open films that have boxes.

    Parameters
    ----------
    source : "phantom" or path
        The simulated films of the test split; or where films are, in any layout that
        :func:`chexlib.data.find_radiographs` knows. Only those with boxes are read: no cache is
        needed.
    boxes : path, optional
        As for :func:`chexlib.data.read_boxes`; :func:`chexlib.data.match_films` finds the films.
        By default NIH's.
    findings : sequence of str, optional
        What the network knows. Boxes of other findings are left out, and ``about`` says so.
    size, cache_size, fit
        Pixels a side for the network, those that a film is shrunk to first, and how, as
        :class:`chexlib.inference.Preparation` has them; the second is like the first by default.
    n_patients : int, optional
        Simulated ones.
    progress : callable, optional
        Called with a step's name and the numbers of films done and of all.

    Returns
    -------
    BoxedFilms

    Raises
    ------
    ValueError
        If none of the films has a box, none of these can be read, or a box leaves its film.
    """
    preparation = Preparation(size if cache_size is None else cache_size, size)
    tell = progress or (lambda *_: None)
    if source == "phantom":
        return _phantom(preparation, n_patients, findings, tell)
    from chexlib.data import find_radiographs, load_boxes, match_films, read_boxes
    from chexlib.data.sources import read_squares

    whose = Path(boxes).name if boxes else "NIH"
    drawn, left = _known(read_boxes(boxes) if boxes else load_boxes(), findings)
    films = find_radiographs(source)
    code, wanted = pd.factorize(drawn["image"])
    names, paths = (np.array(x, dtype=object) for x in (films.names, films.paths))
    place = pd.Index(names).get_indexer(wanted)
    place = match_films(np.where(place < 0, wanted, paths[place]), paths, strict=False)
    places = np.unique(place[place >= 0]).tolist()
    if not places:
        raise ValueError(
            f"Expected some of the {len(wanted)} films with boxes of {whose} in {source}, such as "
            f"{brief(wanted[0])}, found none among {len(names):,} films. Give the folder that "
            "holds them; those of NIH are brought by: chexlib fetch images"
        )
    drawn = drawn.assign(image=np.where(place < 0, None, names[place])[code])
    how = {"size": preparation.cache_size, "fit": fit, "tell": partial(tell, "reading films")}
    good, bad = read_squares(films, places, **how)
    names = [films.names[one.position] for one in good]
    patients = [films.patients[one.position] for one in good]
    if boxes:
        drawn = _as_seen(drawn, names, np.array([one.shape[::-1] for one in good]), fit)
        said = drawn.groupby("image")["patient"].first() if "patient" in drawn else {}
        patients = [said.get(name) or f"film {name}" for name in names]
    cases = find_cases(drawn, names, patients)
    others = set(range(len(films.names))) - set(places)
    return BoxedFilms(
        preparation.batcher(np.stack([one.pixels for one in good])),
        cases,
        f"{whose}: {len(names)} of {len(wanted)} films with boxes, {len(cases)} cases{left}",
        read=len(good),
        rejected=[(films.names[b.position], films.origins[b.position], b.reason) for b in bad],
        ignored=[*films.ignored, *((films.names[i], "without boxes") for i in sorted(others))],
    )


def _known(boxes: pd.DataFrame, findings: Sequence[str] | None) -> tuple[pd.DataFrame, str]:
    """Return the boxes of findings that a network knows, and a text on those left out."""
    names = boxes["finding"].unique()
    other = [name for name in names if findings is not None and name not in findings]
    if len(other) == len(names):
        raise ValueError(
            f"Expected boxes of a finding that the network knows, {brief(list(findings or ()))}, "
            f"got boxes of {brief(other)}. Rename the findings of the boxes."
        )
    left = f"; left out, unknown to the network: {', '.join(other)}" if other else ""
    return boxes[~boxes["finding"].isin(other)], left


def _as_seen(
    boxes: pd.DataFrame, names: Sequence[str], sizes: NDArray[np.int64], fit: str
) -> pd.DataFrame:
    """Return boxes of films, widths and heights [N, 2], in the pixels of the squares they become.

    Those of films that could not be read are left out.
    """
    boxes = boxes[boxes["image"].isin(names)]
    film = pd.Index(names).get_indexer(boxes["image"])
    side, start, length = sizes[film], boxes[["x", "y"]], boxes[["width", "height"]].to_numpy()
    out = (start + length >= side + 1).any(axis=1).to_numpy()
    if out.any():
        k = int(np.argmax(out))
        raise ValueError(
            f"Expected boxes inside {names[film[k]]}, {side[k, 0]} x {side[k, 1]} pixels, got one "
            f"at {start.iloc[k].tolist()} with sides {length[k].tolist()}. Give x, y, width and "
            "height in pixels of the film."
        )
    if fit == "pad":  # as chexlib.data.radiographs.resized puts the film between bars
        square = np.broadcast_to(side.max(axis=1, keepdims=True), side.shape)
        start, side = start + (square - side) // 2, square
    pixels = np.hstack([start, length]) * NIH_SIZE / np.tile(side, 2)
    return boxes.assign(**dict(zip(("x", "y", "width", "height"), pixels.T, strict=True)))


def _phantom(
    preparation: Preparation, n_patients: int | None, known: Sequence[str] | None, tell: Progress
) -> BoxedFilms:
    from chexlib.data import open_dataset

    data = open_dataset(
        "phantom",
        "test",
        size=preparation.cache_size,
        n_patients=n_patients,
        progress=lambda done, total, _bad: tell("simulating films", done, total),
    )
    boxes, left = _known(data.boxes, known)
    cases = find_cases(boxes, data.films["image"].tolist(), data.patients)
    cases["film"] = data.rows[cases["film"]]
    about = f"phantom, test: {len(data):,} simulated films, {len(cases):,} cases{left}"
    return BoxedFilms(preparation.batcher(data.cache), cases, about, read=len(data))


def localize(
    model: CheXNet,
    films: BoxedFilms,
    *,
    method: str = "cam",
    batch_size: int = 32,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score a method's maps and their controls on films with boxes.

    Parameters
    ----------
    model : CheXNet
    films : BoxedFilms
    method, batch_size, **options
        As for :func:`chexlib.interpret.case_maps`.
    resamples, seed
        As for :func:`localization_table`; the seed is that of controls as well.
    progress : callable, optional
        Called with a step's name and the numbers of cases done and of all.

    Returns
    -------
    table : DataFrame
        Of :func:`localization_table`.
    cases : DataFrame
        Scores of each case, with the column ``source``.
    """

    def step(name: str) -> Callable[[int, int], None] | None:
        return (lambda done, total: progress(name, done, total)) if progress else None

    cases = films.cases
    given = {"method": method, "batch_size": batch_size, "progress": step(f"maps: {method}")}
    heat = case_maps(model, films.batcher, cases["film"], cases["finding"], **given, **options)
    scores = {
        name: score_cases(one, cases, progress=step(f"scores: {name}"))
        for name, one in {method: heat, **controls(heat, cases, seed=seed)}.items()
    }
    table = localization_table(scores, resamples=resamples, seed=seed)
    return table, pd.concat([one.assign(source=name) for name, one in scores.items()])
