"""From rows of an image cache to batches: augmented, in [0, 1], on the device.

Nothing is decoded here. A batch is a gather of uint8 films, at most one resampling, and one
division into the output; or, with the whole cache in the GPU's memory (7.3 GB for
ChestX-ray14 at 256 px), an index. Films are resampled on the device, as a batch.
"""

from __future__ import annotations

import copy
import math
import operator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from chexlib.data.augment import Augment, Draw, random_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike

    from chexlib.data.cache import ImageCache

RESIDENT_SHARE = 0.6  # of free GPU memory: the network needs the rest


class Batcher:
    """Make batches of the films of a cache.

    A call is a pure function of (rows, epoch): what happens to a film depends on the seed, the
    epoch and its row, not on the films beside it, the worker or the rank.

    Without augmentation that moves films, a cache larger than ``size`` is reduced with
    antialiasing. In the moving ones a film is sampled once, bilinearly; where that would skip
    pixels (a cache of twice the size or more), it is averaged over whole pixels first.

    Parameters
    ----------
    images : ImageCache or uint8 ndarray [N, S, S]
        The films. Rejected ones of a cache are refused by name when they are asked for.
    size : int, optional
        Pixels a side of the output; the films' own by default.
    augment : Augment, optional
        None by default.
    device : str or torch.device
        Where batches are wanted.
    resident : "auto" or bool
        Whether all films are copied to the device at once. "auto" does so on a GPU where they take
        at most 60% of its free memory; else films are gathered into pinned memory and copied batch
        by batch.
    seed : int
        From 0 up.

    Raises
    ------
    ValueError
        If the films are not uint8 [N, S, S] or an option does not fit.

    Notes
    -----
    Picklable: in a worker process a cache is opened again, not copied. Workers should
    make batches on the CPU.

    Examples
    --------
    >>> films = np.zeros((5, 32, 32), np.uint8)
    >>> batcher = Batcher(films, augment=Augment.chexnet())
    >>> batcher([3, 1]).shape
    torch.Size([2, 1, 32, 32])
    """

    def __init__(
        self,
        images: ImageCache | np.ndarray,
        *,
        size: int | None = None,
        augment: Augment | None = None,
        device: str | torch.device = "cpu",
        resident: str | bool = "auto",
        seed: int = 0,
    ) -> None:
        self._images, self._rejected, self._resident = images, {}, None
        films = self._films
        if films.dtype != np.uint8 or films.ndim != 3 or films.shape[1:] != films.shape[:0:-1]:
            raise ValueError(
                f"Expected films as uint8 [N, S, S], got {films.dtype} {list(films.shape)}. "
                "Build an ImageCache, or resize to squares of 8 bits."
            )
        if films is not images:
            bad = images.index[images.index["status"] != "ok"].itertuples()
            self._rejected = {film.Index: f"{film.image} ({film.reason})" for film in bad}
        if resident not in ("auto", True, False):
            raise ValueError(f'Expected resident "auto", True or False, got {resident!r}.')
        self.size = films.shape[1] if size is None else operator.index(size)
        if self.size < 1:
            raise ValueError(f"Expected a size from 1 up, got size={size}.")
        self.augment, self.device = augment or Augment.none(), torch.device(device)
        self.seed = seed
        if resident == "auto":
            free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else 0
            resident = films.nbytes <= RESIDENT_SHARE * free
        if resident:
            self._resident = _upload(films, self.device)

    def __len__(self) -> int:
        """Return how many films there are."""
        return len(self._films)

    @property
    def resident(self) -> bool:
        """Whether all films are in the memory of the device."""
        return self._resident is not None

    @property
    def _films(self) -> np.ndarray:
        return getattr(self._images, "images", self._images)

    def without_augmentation(self) -> Batcher:
        """Return a batcher that shares these films and leaves them as they are."""
        plain = copy.copy(self)
        plain.augment = Augment.none()
        return plain

    def __call__(
        self, rows: ArrayLike, *, epoch: int = 0, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the films of these rows.

        Parameters
        ----------
        rows : array_like of int [B]
            From 0 to N - 1, in any order, repeats allowed.
        epoch : int
            From 0 up; without augmentation it changes nothing.
        out : Tensor float32 [>= B, 1, size, size], optional
            Where to write, on the device: fresh memory costs a CPU more time than what is written
            there. The first B of it are returned.

        Returns
        -------
        Tensor float32 [B, 1, size, size]
            On the device, from 0 (black) to 1 (white).

        Raises
        ------
        ValueError
            If a row is not a whole number, is out of range or was rejected by the cache, or ``out``
            does not fit.
        """
        rows = self._checked(rows)
        draw = self.augment.draw(rows, seed=self.seed, epoch=epoch)
        films = self._gather(rows)
        if draw.matrix is None:
            if draw.flip.any():
                flip = torch.from_numpy(np.flatnonzero(draw.flip)).to(films.device)
                films[flip] = films[flip].flip(-1)  # they are a fresh copy
            films = _resized(films, self.size)
        else:
            side = self._films.shape[1]
            shrink = max(1, int(side * self.augment.smallest_side / self.size))
            films = _sampled(films, draw.matrix, size=self.size, shrink=shrink)
        return self._finished(films, draw, out)

    def ten_crop(self, rows: ArrayLike) -> torch.Tensor:
        """Return four corners and the centre of each film, then those of its mirror image.

        Films are resized to 8/7 of ``size`` before crops of it are cut: 256 for crops of 224. Ten
        images a film: ask for few films at once, or for ``ten_crop_mean``, whose memory is bounded.

        Parameters
        ----------
        rows : array_like of int [B]
            As for a call.

        Returns
        -------
        Tensor float32 [B, 10, 1, size, size]
            In the order of torchvision's ``TenCrop``; never augmented.

        Raises
        ------
        ValueError
            As for a call.
        """
        rows, side = self._checked(rows), round(self.size * 8 / 7)
        films = _resized(self._gather(rows), side)
        far, middle, s = side - self.size, round((side - self.size) / 2), self.size
        corners = [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]
        crops = [
            mirrored[:, top : top + s, left : left + s]
            for mirrored in (films, films.flip(-1))
            for top, left in corners
        ]
        stacked = torch.stack(crops, dim=1).reshape(-1, s, s)
        return self._finished(stacked, None, None).view(len(rows), 10, 1, s, s)

    def ten_crop_mean(
        self,
        function: Callable[[torch.Tensor], torch.Tensor],
        rows: ArrayLike,
        *,
        max_images_at_once: int = 160,
    ) -> torch.Tensor:
        """Return the mean of a function's results over the ten crops of each film.

        Parameters
        ----------
        function : callable
            From images float32 [n, 1, size, size] to a tensor [n, ...]. Whether it gives
            probabilities or logits decides what is averaged; published CheXNets average
            probabilities.
        rows : array_like of int [B]
            As for a call.
        max_images_at_once : int
            The largest n, from 10 up; memory does not grow with the number of rows beyond it.

        Returns
        -------
        Tensor [B, ...]

        Raises
        ------
        ValueError
            As for ``ten_crop``, or if there is no row or ``max_images_at_once`` is below 10.
        """
        rows = self._checked(rows)
        if max_images_at_once < 10 or not len(rows):
            raise ValueError(
                f"Expected rows and at least 10 images at once, got {len(rows)} rows and "
                f"{max_images_at_once} images."
            )
        means, step = [], max_images_at_once // 10
        for start in range(0, len(rows), step):
            results = function(self.ten_crop(rows[start : start + step]).flatten(0, 1))
            means.append(results.unflatten(0, (-1, 10)).mean(dim=1))
        return torch.cat(means)

    def _checked(self, rows: ArrayLike) -> np.ndarray:
        rows = rows.cpu().numpy() if isinstance(rows, torch.Tensor) else np.asarray(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ValueError(
                f"Expected rows as whole numbers [B], got {rows.dtype} {list(rows.shape)}. "
                "For names, ask cache.rows(names)."
            )
        rows = rows.astype(np.int64)
        outside = rows[(rows < 0) | (rows >= len(self))]
        if outside.size:
            raise ValueError(
                f"Expected rows from 0 to {len(self) - 1}, got {outside[:5].tolist()}."
            )
        bad = [self._rejected[row] for row in sorted(self._rejected.keys() & {*rows.tolist()})]
        if bad:
            raise ValueError(
                f"Expected films that the cache could read, got {len(bad)} that it rejected: "
                f'{"; ".join(bad[:5])}. Leave out rows whose status in the index is not "ok".'
            )
        return rows

    def _gather(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 films [B, S, S] on the device."""
        if self._resident is not None:
            return self._resident.index_select(0, torch.from_numpy(rows).to(self.device))
        source, on_gpu = np.asarray(self._films), self.device.type == "cuda"
        shape = (len(rows), *source.shape[1:])
        films = torch.empty(shape, dtype=torch.uint8, pin_memory=on_gpu)
        target = films.numpy()
        for i in np.argsort(rows, kind="stable"):  # a file is read in its order, once it is colder
            target[i] = source[rows[i]]
        return films.to(self.device, non_blocking=True)

    def _finished(
        self, films: torch.Tensor, draw: Draw | None, out: torch.Tensor | None
    ) -> torch.Tensor:
        """Return float32 [B, 1, s, s] in [0, 1] of grey [B, s, s] from 0 to 255."""
        films = films[:, None]
        shape = films.shape
        if out is None:
            out = torch.empty(shape, device=films.device)
        elif out.shape[1:] != shape[1:] or len(out) < shape[0] or out.dtype != torch.float32:
            raise ValueError(
                f"Expected out as float32 {list(shape)} or longer, got {out.dtype} "
                f"{list(out.shape)}."
            )
        out = out[: len(films)]
        if draw is None or draw.gain is None:
            return torch.div(films, 255, out=out)
        gain = films.new_tensor(draw.gain, dtype=torch.float32) / 255
        bias = films.new_tensor((127.5 * (1 - draw.gain) + draw.bias) / 255, dtype=torch.float32)
        gain, bias = (value[:, None, None, None] for value in (gain, bias))
        return torch.addcmul(bias, films, gain, out=out).clamp_(0, 1)


class Batches:
    """The batches of an epoch, in an order that is a pure function of (seed, epoch).

    A plain iterable, and a sequence: ``batches[step]`` is ``(images, targets, rows)``. So it is
    also a map-style dataset of whole batches for torch: ``DataLoader(batches, batch_size=None,
    num_workers=2)`` gives the same tensors in the same order. A ``DataLoader`` that draws its own
    batches takes the batcher to collate: ``DataLoader(rows, batch_sampler=...,
    collate_fn=batcher)``.

    Each of ``world_size`` ranks takes every ``world_size``-th film of the same order, exactly: no
    film is repeated to pad, so the batches of all ranks at a step are one batch of ``batch_size *
    world_size``.

    Parameters
    ----------
    batcher : Batcher
        Its seed decides the order too.
    rows : array_like of int [n]
        The films of this split; repeats are allowed.
    targets : ndarray or Tensor [n, ...], optional
        Of each of the rows. Labels that are bool become float32, as losses take them.
    batch_size : int
        Films a batch on each rank.
    shuffle : bool
        Whether the order changes from epoch to epoch; otherwise it is that of ``rows``.
    epoch : int
        From 0 up.
    rank, world_size : int
        This process and the number of them.
    reuse : int
        Tensors that batches are written to in turn, each overwritten ``reuse`` batches later: on a
        CPU some times as fast as new memory for every batch, which is what 0 gives. A loop that
        lets go of a batch before it asks for the next is safe with 1; do not collect batches.
    drop_last : bool
        Drop what does not fill a batch on every rank, so that all ranks take as many steps. Without
        it, the last batch is smaller, and ranks may differ by a film, hence by a step.

    Raises
    ------
    ValueError
        If an option does not fit the others, or a row is refused by the batcher.

    Examples
    --------
    >>> batcher = Batcher(np.zeros((10, 32, 32), np.uint8))
    >>> batches = Batches(batcher, rows=range(10), batch_size=4, shuffle=False, epoch=0)
    >>> [rows.tolist() for _, _, rows in batches]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """

    def __init__(
        self,
        batcher: Batcher,
        *,
        rows: ArrayLike,
        targets: np.ndarray | torch.Tensor | None = None,
        batch_size: int,
        shuffle: bool,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        reuse: int = 0,
    ) -> None:
        rows = batcher._checked(rows)
        if batch_size < 1 or not 0 <= rank < world_size or reuse < 0:
            raise ValueError(
                "Expected a batch_size from 1 up, a rank below world_size and reuse from 0 up, got "
                f"batch_size={batch_size}, rank={rank}, world_size={world_size}, reuse={reuse}."
            )
        if targets is not None and len(targets) != len(rows):
            raise ValueError(f"Expected a target for each of {len(rows)} rows, got {len(targets)}.")
        self.batcher, self.rows, self.epoch, self.batch_size = batcher, rows, epoch, batch_size
        if isinstance(targets, np.ndarray):  # torch warns of an array that cannot be written to
            targets = np.require(targets, np.float32 if targets.dtype == bool else None, "W")
        self.targets = None if targets is None else torch.as_tensor(targets)
        self._rank, self._world_size = rank, world_size
        self._shuffle, self._drop_last = shuffle, drop_last
        self._order = self._ordered()
        shape = (batch_size, 1, batcher.size, batcher.size)
        self._memory = [torch.empty(shape, device=batcher.device) for _ in range(reuse)]

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self._order) / self.batch_size)

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor | None, np.ndarray]:
        """Return batch ``step``: images, targets (on the device) or None, and rows int64 [B]."""
        if not 0 <= step < len(self):
            raise IndexError(f"Expected a step from 0 to {len(self) - 1}, got {step}.")
        positions = self._order[step * self.batch_size : (step + 1) * self.batch_size]
        rows = self.rows[positions]
        targets = None
        if self.targets is not None:
            targets = self.targets[torch.from_numpy(positions)].to(self.batcher.device)
        out = self._memory[step % len(self._memory)] if self._memory else None
        return self.batcher(rows, epoch=self.epoch, out=out), targets, rows

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | None, np.ndarray]]:
        return (self[step] for step in range(len(self)))

    def _ordered(self) -> np.ndarray:
        """Return the positions in ``rows`` of this rank's films, in the order of the epoch."""
        n = len(self.rows)
        order = np.arange(n)
        if self._shuffle:
            order = random_order(n, seed=self.batcher.seed, epoch=self.epoch)
        if self._drop_last:
            order = order[: n - n % (self.batch_size * self._world_size)]
        return order[self._rank :: self._world_size]

    def of_epoch(self, epoch: int) -> Batches:
        """Return the batches of another epoch, from its first."""
        other = copy.copy(self)
        other.epoch = epoch
        other._order = other._ordered()
        return other


def _upload(films: np.ndarray, device: torch.device) -> torch.Tensor:
    there = torch.empty(films.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(films), 1024):  # a mapped file is never wholly in memory here
        part = np.array(films[start : start + 1024])
        there[start : start + len(part)].copy_(torch.from_numpy(part))
    return there


def _resized(films: torch.Tensor, size: int) -> torch.Tensor:
    """Return [B, size, size]: uint8 where the size is right already, else float32."""
    if films.shape[-1] == size:
        return films
    grey = films[:, None].float()
    return interpolate(grey, (size, size), mode="bilinear", antialias=True)[:, 0]


def _sampled(films: torch.Tensor, matrix: np.ndarray, *, size: int, shrink: int) -> torch.Tensor:
    """Return float32 [B, size, size]: output point p is the film at matrix @ (p, 1)."""
    grey = films[:, None].float()
    if shrink > 1:
        grey = avg_pool2d(grey, shrink)
    m = torch.from_numpy(matrix).to(films.device, torch.float32)[..., None, None]  # [B, 2, 3, 1, 1]
    p = (torch.arange(size, device=films.device, dtype=torch.float32) * 2 + 1) / size - 1
    # A sum of a column and a row: affine_grid multiplies matrices of three columns, at 10 times
    # the cost.
    grid = torch.stack(
        [torch.add(m[:, k, 0] * p, m[:, k, 1] * p[:, None] + m[:, k, 2]) for k in (0, 1)], -1
    )
    return grid_sample(grey, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]
