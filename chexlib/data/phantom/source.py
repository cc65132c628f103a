"""Simulated films as a source, so that an image cache takes them like real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import pandas as pd

from chexlib.data.cache.workers import cores, processes
from chexlib.data.phantom.film import Film
from chexlib.data.phantom.population import films_of
from chexlib.data.phantom.reference import VERSION
from chexlib.data.phantom.render import render
from chexlib.data.radiographs import Radiograph
from chexlib.data.sources import Item, batched

__all__ = ["PhantomSource", "boxes_of"]

BOX_SIZE = 256  # pixels at which boxes are taken: a nodule of 1 cm is 8 of them wide


class PhantomSource:
    """The films of a population.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`chexlib.data.phantom.population`.
    size : int
        Pixels a side, that of the cache.
    """

    def __init__(self, frame: pd.DataFrame, *, size: int) -> None:
        self.films, self.size = films_of(frame), size
        self.names: list[str] = frame["image"].tolist()
        self.patients: list[int] = frame["patient"].tolist()
        self.origins = [f"simulated, phantom {VERSION}"] * len(frame)
        self.stamps = [f"{film:016x}" for film in pd.util.hash_pandas_object(frame, index=False)]

    def tasks(self, positions: Sequence[int]) -> Iterator[Simulate]:
        """Yield the work of simulating these films."""
        for part in batched(positions):
            yield Simulate(part, tuple(self.films[i] for i in part), self.size)


@dataclass(frozen=True)
class Simulate:
    """The simulation of a few films."""

    positions: tuple[int, ...]
    films: tuple[Film, ...]
    size: int

    def __call__(self) -> Iterator[Item]:
        """Yield the films."""
        for position, film in zip(self.positions, self.films, strict=True):
            pixels = render(film, size=self.size).image
            digest = hashlib.sha256(pixels).hexdigest()
            yield Item(position, Radiograph(pixels, view=film.view, format="simulated"), digest)


def boxes_of(frame: pd.DataFrame, *, workers: int | None = None) -> pd.DataFrame:
    """Return where the findings of simulated films are.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`chexlib.data.phantom.population`, or some of its rows.
    workers : int, optional
        Processes; all cores by default.

    Returns
    -------
    DataFrame
        As :func:`chexlib.data.load_boxes`: ``image``, ``finding``, ``x``, ``y``, ``width``,
        ``height``, in pixels of a 1024 px film. Boxes are taken from masks of 256 px, so edges are
        exact to 4 px.
    """
    parts = list(batched(zip(frame["image"], films_of(frame), strict=True), of=64))
    workers = cores() if workers is None else workers
    if workers == 1 or len(parts) < 2:
        rows = [_boxes(part) for part in parts]
    else:
        with processes(workers) as pool:
            rows = list(pool.map(_boxes, parts))
    columns = ["image", "finding", "x", "y", "width", "height"]
    return pd.DataFrame(list(chain.from_iterable(rows)), columns=columns)


def _boxes(part: Sequence[tuple[str, Film]]) -> list[tuple]:
    return [
        (name, finding, *box)
        for name, film in part
        if film.severity
        for finding, found in render(film, size=BOX_SIZE).boxes.items()
        for box in found
    ]
