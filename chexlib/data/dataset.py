"""One way in: films, labels and images of a split, real or simulated."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from chexlib.data.cache import ImageCache
from chexlib.data.labels import load_boxes, load_labels, read_labels
from chexlib.data.phantom import VERSION, PhantomSource, boxes_of, noisy_labels, population
from chexlib.data.predictions import match_films
from chexlib.data.sources import NIH_NAME, find_radiographs
from chexlib.data.splits import (
    CHEXNET_FRACTIONS,
    assert_no_patient_overlap,
    official_split,
    patient_split,
)
from chexlib.files import brief, cache_home, legible, write_csv
from chexlib.findings import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from chexlib.data.sources import Films

# Of the phantom's splits: how many patients when nobody says otherwise, the number of the first,
# and the last digits of the real patients whose rows they are given.
SPLITS = {
    "train": (4000, 1, range(3, 10)),
    "val": (600, 2_000_001, [2]),
    "test": (1800, 4_000_001, [0, 1]),
}
# What files of labels call them.
PARTS = {"train": "train", "training": "train", "train_val": "train", "test": "test"}
PARTS |= dict.fromkeys(("val", "valid", "validation", "dev"), "val") | {"testing": "test"}
FEW = 10  # patients with a finding, below which a network can hardly learn it
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """The films of a split.

    Attributes
    ----------
    name : str
        ``phantom``, ``chest-xray14`` or ``own``.
    split : str
        ``train``, ``val`` or ``test``.
    films : DataFrame
        The columns of :func:`chexlib.data.load_labels`, index 0 to N - 1; of the phantom also
        severities and devices; of one's own films those of :func:`chexlib.data.read_labels`.
    cache : ImageCache
        Where the images are.
    rows : int64 array [N]
        The row of each film in the cache.
    labels : bool array [N, F], or float32 of 0, 1 and NaN
        What a network is trained on and judged by, unless one says otherwise; NaN is not known.
    truth : bool array [N, F] or None
        What is there; known of the phantom alone.
    findings : tuple of str
        The F findings.
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
    findings: tuple[str, ...] = FINDINGS
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
        """The patient of each film [N], int64 or, of one's own films, text."""
        return self.films["patient"].to_numpy()

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
        If a name or an option is unknown, or no film of the split is in the cache. Where some are
        not, or the cache rejected them, the others are opened, and the log counts those.
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
            "opened by own_data, and given to fit as data=."
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
    films, rows = _kept(labels[chosen], labels.loc[chosen, "image"], cache)
    return Dataset("chest-xray14", split, films, cache, rows, films[list(FINDINGS)].to_numpy())


def _kept(
    films: pd.DataFrame, names: pd.Series, cache: ImageCache
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the films that are in a cache, by their names there, and their rows.

    The log counts those that are not there, and those that the cache rejected.
    """
    rows = pd.Index(cache.index["image"]).get_indexer(names)
    bad = (rows >= 0) & (cache.index["status"].to_numpy()[rows] != "ok")
    good = (rows >= 0) & ~bad
    if not good.any():
        raise ValueError(
            f"Expected films of the {len(films):,} with labels in {cache.folder}, found none of "
            f"them: {brief(list(films['image'][:3]))}. Build the cache of these films."
        )
    _left_out(films["image"], rows < 0, "with labels are not there")
    why = f"were rejected, for reasons in {cache.folder / 'rejected.csv'}"
    _left_out(films["image"], bad, why)
    return films[good].reset_index(drop=True), rows[good].astype(np.int64)


def _left_out(names: ArrayLike, which: np.ndarray, why: str) -> None:
    if which.any():
        film = legible(np.asarray(names)[which][0])
        log.warning("%s films %s and are left out, such as %s", f"{which.sum():,}", why, film)


def own_folder(source: str | Path, films: Films, *, size: int, fit: str = "squash") -> Path:
    """Return where the cache of a source's films is kept, if nobody says otherwise.

    NIH's are where :func:`open_dataset` looks for them; others in a folder that is called as their
    place is, and as its full path's hash.
    """
    place = Path(source).absolute()
    digest = hashlib.sha256(str(place).encode(errors="surrogateescape")).hexdigest()[:8]
    name = f"{legible(place.stem)}-{digest}"
    if sum(map(bool, map(NIH_NAME.fullmatch, films.names))) > len(films.names) / 2:
        name = "chest-xray14"
    return cache_home() / f"{name}-{size}{'' if fit == 'squash' else f'-{fit}'}"


def own_data(
    labels: str | Path,
    images: str | Path,
    *,
    size: int = 256,
    findings: Sequence[str] | None = None,
    fractions: Mapping[str, float] = CHEXNET_FRACTIONS,
    seed: int = 0,
    folder: str | Path | None = None,
    fit: str = "squash",
    progress: Callable[[int, int, int], None] | None = None,
    **options: Any,
) -> dict[str, Dataset]:
    """Open films of one's own with their labels, split into train, val and test.

    Films are found and decoded once, into an image cache; a second call opens it, and adds films
    that came since. Those that are in both are used; the log counts the others.

    Parameters
    ----------
    labels : path
        As for :func:`chexlib.data.read_labels`. A column ``split`` is kept to; a part that it lacks
        is cut from ``train``, by patient.
    images : path
        As for :func:`chexlib.data.find_radiographs`. Labels name films as
        :func:`chexlib.data.match_films` says: by path where folders share a file name.
    size : int
        Pixels a side.
    findings : sequence of str, optional
        As for :func:`chexlib.data.read_labels`.
    fractions : mapping
        Of patients, for ``train``, ``val`` and ``test``.
    seed : int
        Of the split.
    folder : path, optional
        Of the cache; by default one under :func:`chexlib.data.cache_home` for these films.
    fit : {"squash", "pad"}
        As for :meth:`chexlib.data.ImageCache.build`.
    progress : callable, optional
        As for :meth:`chexlib.data.ImageCache.build`.
    **options
        ``separator`` and ``uncertain`` of :func:`chexlib.data.read_labels`.

    Returns
    -------
    dict of Dataset
        ``train``, ``val`` and ``test``.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file cannot be read, no film has a label, a split is unknown, a patient is in two
        parts, or there are too few patients for three.
    """
    if set(fractions) != set(SPLITS):
        raise ValueError(f"Expected fractions of {tuple(SPLITS)}, got {dict(fractions)}.")
    table, names = read_labels(labels, findings=findings, **options)
    known = table[list(names)].notna().any(axis=1).to_numpy()
    source = find_radiographs(images)
    both = zip(source.names, source.paths, strict=True)  # a list may give a film another name
    path = [path if path.endswith(name) else name for name, path in both]
    place = match_films(table["image"], path, strict=False)
    there = np.isin(np.arange(len(path)), place)
    if not there.any():
        match_films(table["image"], path)  # says so
    folder = folder or own_folder(images, source, size=size, fit=fit)
    chosen = source.some(np.flatnonzero(there))
    cache = ImageCache.build(chosen, folder, size=size, fit=fit, progress=progress)
    _left_out(path, ~there, f"in {images} have no labels")
    _left_out(table["image"], ~known, "have no finding that is known")
    named = pd.Series(np.where(place >= 0, np.array(source.names, dtype=object)[place], None))
    films, rows = _kept(table[known], named[known], cache)
    part = films.get("split", pd.Series("train", index=films.index)).str.lower().map(PARTS)
    if part.isna().any():
        film = films[part.isna()].iloc[0]
        raise ValueError(
            f"Expected a split of train, val or test for each film in {labels}, got "
            f"{brief(film['split'])} for {brief(film['image'])}. Correct it."
        )
    if cut := [split for split in SPLITS if split not in set(part)]:
        shares = pd.Series({split: fractions[split] for split in ("train", *cut)})
        shares, mine = dict(shares / shares.sum()), films[part == "train"]
        drawn = patient_split(mine, fractions=shares, seed=seed, findings=names)
        part = drawn.astype(object).reindex(films.index).fillna(part)
        log.warning("%s cut from train by patient, at random (seed %s)", " and ".join(cut), seed)
    parts = {split: films[part == split] for split in SPLITS}
    assert_no_patient_overlap(**parts)
    values = films[list(names)].to_numpy()
    values = values if values.dtype == bool else values.astype(np.float32)
    with_it = {f: [p["patient"][p[f] == 1].nunique() for p in parts.values()] for f in names}
    if few := [f"{f} {count}" for f, count in with_it.items() if count[0] < FEW or 0 in count]:
        log.warning("Few patients of train, val or test have: %s", ", ".join(few))
    data = {}
    for split, one in parts.items():
        i, own = one.index, one.reset_index(drop=True)
        data[split] = Dataset("own", split, own, cache, rows[i], values[i], None, names)
    return data


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
