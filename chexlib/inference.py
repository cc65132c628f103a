"""From a film to logits and probabilities: the only way, whoever asks.

``predict``, ``explain``, ``localize`` and the evaluation of a run bring a film to a network here,
so that it has one probability. A film [H, W] is shrunk to a square of ``cache_size``, as image
caches hold it; the square is resized to ``size``, or to 8/7 of it and cut into ten crops; the
network gives logits, and ``logits.sigmoid()`` are probabilities. Thresholds make calls of them.

Of ten crops the probabilities are averaged, as published CheXNets do. The logit is then the log
odds of that mean, no output of the network.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from chexlib.data.batches import Batcher
from chexlib.data.cache import LARGEST
from chexlib.data.checks import numbers, own_table
from chexlib.data.predictions import IDENTIFY
from chexlib.data.radiographs import FITS, resized
from chexlib.data.sources import CHUNK, read_all, write_rejected
from chexlib.files import Journal, brief, cores, disk_errors, write_csv
from chexlib.findings import FINDINGS, own_name
from chexlib.metrics import OneClassWarning, choose
from chexlib.metrics.thresholds import RULES
from chexlib.models.chexnet import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from chexlib.data.cache import ImageCache
    from chexlib.data.dataset import Dataset
    from chexlib.data.sources import Films
    from chexlib.models import CheXNet


@dataclass(frozen=True)
class Preparation:
    """How a film is brought to a network: as in the training of that network.

    Attributes
    ----------
    cache_size : int
        Pixels a side that a film is shrunk to first, from 1 to 2048.
    size : int
        Pixels a side of the network's input, from 29 to 2048.
    ten_crop : bool
        Whether probabilities are means over ten crops.
    fit : {"squash", "pad"}
        How a film that is no square becomes one: :func:`chexlib.data.radiographs.resized`.

    Raises
    ------
    ValueError
        If a value is none of these.

    Examples
    --------
    >>> from chexlib.models import CheXNet
    >>> Preparation.of(CheXNet(growth_rate=12))
    Preparation(cache_size=256, size=224, ten_crop=False, fit='squash')
    """

    cache_size: int = 256
    size: int = 224
    ten_crop: bool = False
    fit: str = "squash"

    def __post_init__(self) -> None:
        for name, least in (("cache_size", 1), ("size", 29)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= LARGEST:
                raise ValueError(
                    f"Expected {name} in pixels from {least} to {LARGEST}, got {str(value)[:80]}."
                )
        if not isinstance(self.ten_crop, bool):
            raise ValueError(f"Expected ten_crop true or false, got {str(self.ten_crop)[:80]}.")
        if self.fit not in FITS:
            raise ValueError(f"Expected fit of {FITS}, got {str(self.fit)[:80]}.")

    @classmethod
    def of(cls, model: CheXNet, *, size: int | None = None) -> Preparation:
        """Return how a network is to be asked.

        Parameters
        ----------
        model : CheXNet
            Its checkpoint says how films came to it in training; one that does not say gets them as
            CheXNet did, the defaults.
        size : int, optional
            Another size than that of training: films then come straight to it, whole, and
            probabilities are not those of ``chexlib predict``.
        """
        metadata = model.provenance.get("metadata", {})
        ours = metadata.get("chexlib")  # of a resume point; else the version
        said = ours.get("recipe") if isinstance(ours, dict) else metadata.get("recipe")
        try:
            recipe = json.loads(said)
        except (TypeError, ValueError, RecursionError):
            recipe = None
        if not isinstance(recipe, dict):
            recipe = {}
        own = cls(**{key: recipe[key] for key in asdict(cls()) if key in recipe})
        return own if size in (None, own.size) else cls(size, size, fit=own.fit)

    def shrunk(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a film uint8 [H, W] as image caches hold it, [cache_size, cache_size].

        Raises
        ------
        ValueError
            If it is no film.
        """
        pixels = np.asarray(pixels)
        if pixels.ndim != 2 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise ValueError(
                f"Expected a film as uint8 [H, W], got {pixels.dtype} {list(pixels.shape)}. "
                "Read it with chexlib.data.read_radiograph."
            )
        return resized(pixels, self.cache_size, fit=self.fit)

    def batcher(
        self, films: NDArray[np.uint8] | ImageCache, *, device: str | torch.device = "cpu"
    ) -> Batcher:
        """Return what makes inputs of films uint8 [N, cache_size, cache_size], or of a cache."""
        return Batcher(films, size=self.size, device=device)

    def films_at_once(self, device: torch.device) -> int:
        """Return how many films to give a network together, from 1 to 32.

        On a CPU as many as have the pixels of eight films of 224 px. Of more, the largest tensors
        pass 32 MiB, which glibc takes from the system anew each time: half the time goes to pages
        that are filled with zeros.
        """
        most = 8 * 224**2 // self.size**2 if device.type == "cpu" else CHUNK
        return min(max(most, 1), CHUNK)

    @torch.no_grad()
    def logits(
        self, model: CheXNet, batcher: Batcher, rows: ArrayLike, *, images_at_once: int = 160
    ) -> torch.Tensor:
        """Return the logits of films; their sigmoid is the probability.

        Parameters
        ----------
        model : CheXNet
            Used as for testing, whatever mode it is in.
        batcher : Batcher
            Of :meth:`batcher`, on the device of the model.
        rows : array_like of int [B]
            Films of the batcher.
        images_at_once : int
            At most so many go through the network together (of ten crops at least ten do).

        Returns
        -------
        Tensor float32 [B, F]
            Of ten crops, the log odds of the mean probability; finite all the same.
        """

        def both(images: torch.Tensor) -> torch.Tensor:
            found = model(images).double()
            # 1 - p would be 0 from a logit of 37 on.
            return torch.stack([found.sigmoid(), (-found).sigmoid()], dim=1)

        with evaluating(model):
            if not self.ten_crop:
                k, n = images_at_once, len(rows)
                return torch.cat([model(batcher(rows[i : i + k])).float() for i in range(0, n, k)])
            means = batcher.ten_crop_mean(both, rows, max_images_at_once=max(10, images_at_once))
        yes, no = means.clamp_min(torch.finfo(means.dtype).tiny).log().unbind(1)
        return (yes - no).float()


def device_named(name: str) -> torch.device:
    """Return a device; ``auto`` is a GPU where there is one.

    Raises
    ------
    ValueError
        If it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"Expected a device of this machine, got {name!r}: {error}") from None


def predict(
    model: CheXNet,
    films: Dataset,
    *,
    size: int | None = None,
    ten_crop: bool = False,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    step: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Return probabilities of a network's findings.

    Parameters
    ----------
    model : CheXNet
        Moved to the device; used as for testing.
    films : Dataset
        Of :func:`chexlib.data.open_dataset`.
    size : int, optional
        Pixels a side of the input; those of the cache by default.
    ten_crop : bool
        The mean probability of ten crops, of films resized to 8/7 of ``size``.
    batch_size : int
        Images at once.
    device : optional
        Where the model is, by default.
    step : callable, optional
        Called after a batch with its number of films, such as the ``update`` of a bar.

    Returns
    -------
    float32 ndarray [N, F]
        From 0 to 1, in the order of ``films.films`` and of the findings.
    """
    device = next(model.parameters()).device if device is None else torch.device(device)
    model.to(device)
    side = films.cache.images.shape[1]
    preparation = Preparation(side, side if size is None else size, ten_crop)
    batcher = preparation.batcher(films.cache, device=device)
    found = []
    for start in range(0, len(films), batch_size):
        rows = films.rows[start : start + batch_size]
        logits = preparation.logits(model, batcher, rows, images_at_once=batch_size)
        found.append(logits.sigmoid().cpu().numpy())
        if step:
            step(len(rows))
    return np.concatenate(found)


# ---- films as people have them


def predict_files(
    model: CheXNet,
    source: Films,
    out: str | Path,
    *,
    preparation: Preparation | None = None,
    identify: bool = False,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> tuple[int, int]:
    """Write the predictions of all films of a source, or go on with it.

    Parameters
    ----------
    model : CheXNet
        On the device where it is to run. On a CPU its weights are laid out channels last, which is
        faster; their values are the same.
    source : Films
        From :func:`chexlib.data.find_radiographs`.
    out : path
        A CSV as :func:`chexlib.data.read_predictions` reads it, put there once it is whole. Until
        then what is done stands beside it, in ``out`` with ``.part`` added. Films that cannot be
        read are listed in a second file, whose name ends in ``-rejected.csv``.
    preparation : Preparation, optional
        As in the network's training by default.
    identify : bool
        Add the columns of :data:`chexlib.data.predictions.IDENTIFY`: each film's path from the
        folder that was searched, and of DICOM its SOP instance and study UID and its patient's ID.
    batch_size : int, optional
        Films that go through the network together, from 1 to 32; :meth:`Preparation.films_at_once`
        by default.
    workers : int, optional
        Processes that read films; one a core, and at least two, by default. One is this process,
        which a bad film may end.
    progress : callable, optional
        Called with the numbers of films done, of all, and of rejected ones.

    Returns
    -------
    int, int
        Numbers of films predicted and rejected.

    Raises
    ------
    ValueError
        If what is beside ``out`` is of other films or of another network.
    OSError
        If it cannot be written; what is done stays.

    Notes
    -----
    Films are read as for a cache, by processes that a bad one may end, in tasks of at most 32, and
    go through the network so many of a task at a time. The same films stand together whether a job
    was stopped or not, so that the file is the same. Other batches may give another last digit.
    """
    preparation = preparation or Preparation.of(model)
    out, device, count = Path(out), next(model.parameters()).device, len(source.names)
    named = IDENTIFY if identify else ()
    width = len(named), len(model.findings)
    out.parent.mkdir(parents=True, exist_ok=True)
    mark = mark_of(model, preparation, source, named)
    at_once = {"images_at_once": batch_size or preparation.films_at_once(device)}
    if device.type == "cpu":
        model.to(memory_format=torch.channels_last)
    tell = progress or (lambda *_: None)
    # At least two: one worker would be this process, which a bad film must not end.
    how = {"size": preparation.cache_size, "fit": preparation.fit}
    how["workers"] = workers or max(2, cores())

    def sound(task: list) -> bool:
        return all(_is_sound(*row, count, *width) for row in task)

    with disk_errors(out), Journal(part_of(out), mark, sound=sound) as journal:
        rows = {position: found for task in journal.tasks for position, found in task}
        left = [i for i in range(count) if i not in rows]
        bad = sum(len(row) == 1 for row in rows.values())
        tell(len(rows), count, bad)
        for films in read_all(source, left, **how):
            new = {film.position: [film.reason] for film in films if film.reason is not None}
            if good := [film for film in films if film.reason is None]:
                batcher = preparation.batcher(np.stack([f.pixels for f in good]), device=device)
                logits = preparation.logits(model, batcher, np.arange(len(good)), **at_once)
                for film, row in zip(good, logits.sigmoid().tolist(), strict=True):
                    said = (source.paths[film.position], *film.identity) if named else ()
                    texts = (*said, *[""] * (len(named) - len(said)))
                    new[film.position] = [*texts, *(f"{p:.6g}" for p in row)]
            journal.add(list(new.items()))
            rows |= new
            bad += len(films) - len(good)
            tell(len(rows), count, bad)
        done = sorted(rows.items())
        refused = [[source.names[i], source.origins[i], *row] for i, row in done if len(row) == 1]
        write_rejected(rejected_of(out), refused)
        found = [[source.names[i], *row] for i, row in done if len(row) > 1]
        write_csv(out, pd.DataFrame(found, columns=["Image Index", *named, *model.findings]))
    return len(found), bad


def part_of(out: Path) -> Path:
    """Return where what is done stands until all is."""
    return out.with_name(out.name + ".part")


def rejected_of(out: Path) -> Path:
    """Return where films that cannot be read are listed."""
    return out.with_name(f"{out.stem}-rejected.csv")


def mark_of(model: CheXNet, preparation: Preparation, source: Films, options: object) -> str:
    """Return a hash of weights, options and films: what others gave may not be mixed in."""
    digest = hashlib.sha256(repr((astuple(preparation), model.findings, options)).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    digest.update("\n".join([*source.names, *source.stamps]).encode())
    return digest.hexdigest()


def _is_sound(position: int, found: list[str], count: int, texts: int, findings: int) -> bool:
    """Return whether a film has its names and probabilities, or why there are none."""
    scores = found[texts:]
    good = len(scores) == findings and all(0 <= float(value) <= 1 for value in scores)
    return type(position) is int and 0 <= position < count and (good or len(found) == 1)


# ---- thresholds


def choose_thresholds(
    labels: np.ndarray, scores: np.ndarray, *, findings: Sequence[str] = FINDINGS
) -> pd.DataFrame:
    """Return the threshold that each rule chooses for each finding.

    Parameters
    ----------
    labels : array [N, F]
        True and False, or 1, 0 and NaN: what is not known is left out.
    scores : array [N, F]
        Probabilities of films that were not trained on, and on which nothing is reported.
    findings : sequence of str
        F names.

    Returns
    -------
    DataFrame
        ``rule``, ``finding``, ``threshold``: one of the scores; ``inf`` where it is best to call no
        film, NaN where no film, or every film, has the finding.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OneClassWarning)  # the table says NaN
        chosen = {name: choose(labels, scores, rule) for name, rule in RULES.items()}
    wide = pd.DataFrame(chosen, index=list(findings))
    long = wide.melt(ignore_index=False, var_name="rule", value_name="threshold")
    return long.reset_index(names="finding")[["rule", "finding", "threshold"]]


def read_thresholds(
    path: str | Path, *, rule: str = "youden", findings: Sequence[str] = FINDINGS
) -> np.ndarray:
    """Return the thresholds of a table.

    Parameters
    ----------
    path : path
        CSV: ``finding`` and ``threshold``, and ``rule`` where there are several, such as a run's
        ``thresholds.csv`` or ``operating_points.csv`` of ``chexlib evaluate``. Rows of other
        names than the findings, such as ``No_Finding``, are left out.
    rule : str
        Which rows, where the table has rules.
    findings : sequence of str
        F names, such as those of a network.

    Returns
    -------
    float array [F]
        In the order of the findings; NaN where the table has none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, no row is of the rule, a finding is there twice, or a threshold is
        no number or below 0.
    """
    read = own_table(path, "thresholds", "Correct it.", columns=("finding", "threshold"))
    names = read.frame["finding"].map(own_name)
    used = names.isin(list(findings))
    if "rule" in read.frame:
        known = list(dict.fromkeys(read.frame["rule"]))
        if rule not in known:
            raise ValueError(f"Expected a rule among {brief(known)} of {path}, got {rule!r}.")
        used &= read.frame["rule"] == rule
    if not used.any():
        raise ValueError(
            f"Expected findings of {brief(list(findings))} in the column `finding` of {path}, "
            "found none."
        )
    raw = read.frame["threshold"]
    value = numbers(raw)
    bad = (value < 0) | (value.isna() & (raw != "")) | names.where(used).duplicated()
    read.refuse(bad & used, "threshold", "one threshold from 0 up for each finding")
    return pd.Series(value[used].to_numpy(float), names[used]).reindex(list(findings)).to_numpy()
