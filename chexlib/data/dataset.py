"""One way in: films, labels and images of a split, real or simulated."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from chexlib.data.cache import ImageCache
from chexlib.data.labels import load_boxes, load_labels
from chexlib.data.phantom import VERSION, PhantomSource, boxes_of, noisy_labels, population
from chexlib.data.splits import official_split, patient_split
from chexlib.files import cache_home, write_csv
from chexlib.findings import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Of the phantom's splits: how many patients when nobody says otherwise, the number of the first,
# and the last digits of the real patients whose rows they are given.
SPLITS = {
    "train": (4000, 1, range(3, 10)),
    "val": (600, 2_000_001, [2]),
    "test": (1800, 4_000_001, [0, 1]),
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """The films of a split.

    Attributes
    ----------
    name : str
        ``phantom`` or ``chest-xray14``.
    split : str
        ``train``, ``val`` or ``test``.
    films : DataFrame
        The columns of :func:`chexlib.data.load_labels`, index 0 to N - 1; of the phantom also
        severities and devices.
    cache : ImageCache
        Where the images are.
    rows : int64 array [N]
        The row of each film in the cache.
    labels : bool array [N, 14]
        What a network is trained on and judged by, unless one says otherwise.
    truth : bool array [N, 14] or None
        What is there; known of the phantom alone.
    opened : dict or None
        What :func:`open_dataset` was asked for; None of films that come from elsewhere, or were
        changed by ``dataclasses.replace``.
    """

    name: str
    split: str
    films: pd.DataFrame
    cache: ImageCache
    rows: np.ndarray
    labels: np.ndarray
    truth: np.ndarray | None = None
    opened: dict[str, Any] | None = field(default=None, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of films."""
        return len(self.films)

    def __repr__(self) -> str:
        """Name the split and its size."""
        patients = self.films["patient"].nunique()
        return f"Dataset({self.name}, {self.split}: {len(self):,} films, {patients:,} patients)"

    @property
    def patients(self) -> np.ndarray:
        """The patient of each film, int64 [N]."""
        return self.films["patient"].to_numpy(np.int64)

    @cached_property
    def boxes(self) -> pd.DataFrame:
        """Where findings are, as :func:`chexlib.data.load_boxes`; of NIH's films for a few only.

        The phantom's are simulated once and kept beside its cache.
        """
        if self.name != "phantom":
            boxes = load_boxes()
        else:
            path = self.cache.folder / f"boxes-{self.cache.content_hash}.csv"
            if not path.exists():
                write_csv(path, boxes_of(self.films))
            boxes = pd.read_csv(path)
        return boxes[boxes["image"].isin(self.films["image"])].reset_index(drop=True)


def open_dataset(
    name: str,
    split: str,
    *,
    size: int = 256,
    folder: str | Path | None = None,
    progress: Callable[[int, int, int], None] | None = None,
    **phantom: Any,
) -> Dataset:
    """Open a split of the real or of the simulated data set.

    Parameters
    ----------
    name : {"phantom", "chest-xray14"}
    split : {"train", "val", "test"}
        Of NIH's films: the official test part, and its other part cut 7 to 1 by patient. Of the
        phantom: populations that share no patient.
    size : int
        Pixels a side.
    folder : path, optional
        The image cache of NIH's films, where ``chexlib cache`` put it elsewhere than by default;
        or where to keep the phantom's.
    progress : callable, optional
        Called with the numbers of films done, of all, and of rejected ones, while the phantom is
        simulated: once, then it is kept under :func:`chexlib.data.cache_home`.
    **phantom
        For the phantom: ``n_patients`` and the other options of
        :func:`chexlib.data.phantom.population`, whose prevalence is "enriched" here by default; and
        ``noise``, a dict of options of :func:`chexlib.data.phantom.noisy_labels`, for labels that
        are not the truth.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If a name or an option is unknown, or films of the split are missing from the cache.
    FileNotFoundError
        If NIH's films are not in a cache yet, or its official lists are not there; it says how to
        get them.

    Examples
    --------
    >>> open_dataset("phantom", "val", size=32, n_patients=2)  # doctest: +SKIP
    Dataset(phantom, val: 4 films, 2 patients)
    """
    if name not in ("phantom", "chest-xray14"):
        raise ValueError(
            f'Expected the data set "phantom" or "chest-xray14", got {name!r}. Other films are '
            "given to fit as data=."
        )
    if split not in SPLITS:
        raise ValueError(f"Expected a split among {tuple(SPLITS)}, got {split!r}.")
    if name == "phantom":
        found = _phantom(split, size, folder, progress, **phantom)
    elif phantom:
        raise ValueError(f"Expected options of the phantom with it alone, got {sorted(phantom)}.")
    else:
        found = _chest_xray14(split, size, folder)
    place = {} if folder is None else {"folder": folder}
    asked = {"name": name, "split": split, "size": size, **place, **phantom}
    object.__setattr__(found, "opened", asked)
    return found


def _chest_xray14(split: str, size: int, folder: str | Path | None) -> Dataset:
    cache = ImageCache.open(folder or cache_home() / f"chest-xray14-{size}")
    labels = load_labels()
    part = official_split(labels)
    if split == "test":
        chosen = part == "test"
    else:
        rest = patient_split(labels[part == "train_val"], fractions={"train": 7 / 8, "val": 1 / 8})
        chosen = rest.reindex(labels.index) == split
    films = labels[chosen].reset_index(drop=True)
    rows = cache.rows(films["image"])
    bad = films["image"][cache.index["status"].to_numpy()[rows] != "ok"]
    if len(bad):
        raise ValueError(
            f"Expected all films of the split, got {len(bad)} that the cache rejected, such as "
            f"{bad.iloc[0]}. Repair those in {cache.folder / 'rejected.csv'} and build again."
        )
    return Dataset("chest-xray14", split, films, cache, rows, films[list(FINDINGS)].to_numpy())


def _phantom(
    split: str,
    size: int,
    folder: str | Path | None,
    progress: Callable[[int, int, int], None] | None,
    *,
    n_patients: int | None = None,
    noise: dict[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    options = {"prevalence": "enriched", "seed": 0, **options}
    usual, first, digits = SPLITS[split]
    n_patients = usual if n_patients is None else n_patients
    rows = load_labels()
    rows = rows[(rows["patient"] % 10).isin(digits)]
    try:  # all of it, before anything is simulated
        films = population(n_patients, first=first, rows=rows, **options)
        truth = films[list(FINDINGS)].to_numpy()
        labels = truth if noise is None else noisy_labels(films, **noise).to_numpy()
    except TypeError as error:
        given = {**options, "noise": noise, "n_patients": n_patients}
        raise ValueError(f"Expected options of the phantom, got {given}: {error}.") from error
    cache = None
    if folder is None:
        shortcut = options.get("shortcut")
        plain = {**options, "shortcut": asdict(shortcut) if shortcut else None}
        asked = json.dumps([VERSION, n_patients, plain], sort_keys=True, default=str)
        key = hashlib.sha256(asked.encode()).hexdigest()[:12]
        folder = cache_home() / f"phantom-{split}-{size}-{key}"
        with suppress(FileNotFoundError, ValueError):
            cache = ImageCache.open(folder)
    if cache is None:  # or a folder whose name does not say what is in it: a build compares
        log.info("Simulating %d films in %s", len(films), folder)
        source = PhantomSource(films, size=size)
        cache = ImageCache.build(source, folder, size=size, progress=progress)
    return Dataset("phantom", split, films, cache, cache.rows(films["image"]), labels, truth)
