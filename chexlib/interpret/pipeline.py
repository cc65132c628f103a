"""From a checkpoint and films with boxes to the localisation table, in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from chexlib.inference import Preparation
from chexlib.interpret.attribution import case_maps, heat_of
from chexlib.interpret.controls import CONTROLS, controls
from chexlib.interpret.localization import find_cases, score_cases
from chexlib.interpret.table import localization_table
from chexlib.metrics.resampling import RESAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chexlib.data.batches import Batcher
    from chexlib.interpret.localization import Cases
    from chexlib.models.chexnet import CheXNet

    Progress = Callable[[str, int, int], None]

__all__ = ["BoxedFilms", "Localization", "localize", "open_boxed"]


@dataclass(frozen=True)
class BoxedFilms:
    """Films with boxes, ready for a network.

    Attributes
    ----------
    batcher : Batcher
    cases : Cases
        Whose ``film`` is a row of the batcher.
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
    cases: Cases
    about: str
    read: int = 0
    rejected: Sequence[tuple[str, str, str]] = ()
    ignored: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Localization:
    """A localisation table and what it is made of.

    Attributes
    ----------
    table : DataFrame
        Of :func:`chexlib.interpret.localization_table`.
    cases : DataFrame
        Scores of each case, with the column ``source``.
    """

    table: pd.DataFrame
    cases: pd.DataFrame


def open_boxed(
    source: str | Path,
    *,
    size: int,
    cache_size: int | None = None,
    split: str = "test",
    n_patients: int | None = None,
    progress: Progress | None = None,
) -> BoxedFilms:
    """Open films that have boxes.

    Parameters
    ----------
    source : "phantom" or path
        The simulated films of a split; or where NIH's films are, in any layout that
        :func:`chexlib.data.find_radiographs` knows. Only those with boxes are read, at most 880:
        no cache is needed.
    size, cache_size : int
        Pixels a side for the network, and those that a film is shrunk to first, as
        :class:`chexlib.inference.Preparation` has them; the second is like the first by default.
    split : {"train", "val", "test"}
        Of the phantom. NIH's boxes are all in the official test set.
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
        If none of the films has a box, or none of these can be read.
    """
    preparation = Preparation(size if cache_size is None else cache_size, size)
    if source == "phantom":
        return _phantom(preparation, split, n_patients, progress)
    from chexlib.data.labels import load_boxes
    from chexlib.data.sources import find_radiographs, read_all
    from chexlib.files import cores

    boxes = load_boxes()
    films = find_radiographs(source)
    boxed = set(boxes["image"])
    places = [i for i, name in enumerate(films.names) if name in boxed]
    if not places:
        raise ValueError(
            f"Expected some of NIH's {len(boxed)} films with boxes in {source}, found none among "
            f"{len(films.names):,} films. They are in the official test set: "
            "chexlib fetch images"
        )
    images, bad, side = {}, {}, preparation.cache_size
    for results in read_all(films, places, size=side, workers=max(2, cores())):
        for found in results:
            if found.reason is None:
                images[found.position] = found.pixels
            else:
                bad[found.position] = found.reason
        if progress:
            progress("reading films", len(images) + len(bad), len(places))
    if not images:
        raise ValueError(
            f"Expected a film with boxes that can be read in {source}, found none among "
            f"{len(bad):,}, such as {bad[min(bad)]}"
        )
    kept = sorted(images)
    names = [films.names[i] for i in kept]
    # The first part of NIH's file names is the patient.
    patients = [int(name.split("_")[0]) for name in names]
    cases = find_cases(boxes, names, patients)
    whole = boxes["image"].nunique()
    about = f"NIH: {len(names)} of {whole} films with boxes, {len(cases)} cases"
    rejected = [(films.names[i], films.origins[i], bad[i]) for i in sorted(bad)]
    others = set(range(len(films.names))) - set(places)
    return BoxedFilms(
        preparation.batcher(np.stack([images[i] for i in kept])),
        cases,
        about,
        read=len(kept),
        rejected=rejected,
        ignored=[*films.ignored, *((films.names[i], "without boxes") for i in sorted(others))],
    )


def _phantom(
    preparation: Preparation, split: str, n_patients: int | None, progress: Progress | None
) -> BoxedFilms:
    from chexlib.data.dataset import open_dataset

    report = None
    if progress:
        report = lambda done, total, _bad: progress("simulating films", done, total)  # noqa: E731
    size = preparation.cache_size
    data = open_dataset("phantom", split, size=size, n_patients=n_patients, progress=report)
    cases = find_cases(data.boxes, data.films["image"].tolist(), data.patients)
    batcher = preparation.batcher(data.cache)
    cases = type(cases)(
        data.rows[cases.film], cases.finding, cases.patient, cases.truth, cases.image
    )
    about = f"phantom, {split}: {len(data):,} simulated films, {len(cases):,} cases"
    return BoxedFilms(batcher, cases, about, read=len(data))


def localize(
    model: CheXNet,
    films: BoxedFilms,
    *,
    method: str = "cam",
    names: Sequence[str] = CONTROLS,
    batch_size: int = 32,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Localization:
    """Score a method's maps and their controls on films with boxes.

    Parameters
    ----------
    model : CheXNet
    films : BoxedFilms
    method, batch_size, **options
        As for :func:`chexlib.interpret.case_maps`.
    names : sequence of str
        Controls; see :mod:`chexlib.interpret.controls`.
    resamples, seed
        As for :func:`chexlib.interpret.localization_table`; the seed is that of controls as well.
    progress : callable, optional
        Called with a step's name and the numbers of cases done and of all.

    Returns
    -------
    Localization
    """

    def step(name: str) -> Callable[[int, int], None] | None:
        return (lambda done, total: progress(name, done, total)) if progress else None

    cases = films.cases
    maps = case_maps(
        model,
        films.batcher,
        cases.film,
        cases.finding,
        method=method,
        batch_size=batch_size,
        progress=step(f"maps: {method}"),
        **options,
    )
    heat = heat_of(maps, method=method, input_size=films.batcher.size)
    every = {method: heat, **controls(heat, cases, names=names, seed=seed)}
    scores = {
        name: score_cases(one, cases, progress=step(f"scores: {name}"))
        for name, one in every.items()
    }
    table = localization_table(scores, resamples=resamples, seed=seed)
    return Localization(table, pd.concat([f.assign(source=name) for name, f in scores.items()]))
