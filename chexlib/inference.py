"""From a film to logits and probabilities: the only way, whoever asks.

``predict``, ``explain``, ``localize`` and the evaluation of a run bring a film to a network here,
so that it has one probability. A film [H, W] is shrunk to a square of ``cache_size``, as image
caches hold it; the square is resized to ``size``, or to 8/7 of it and cut into ten crops; the
network gives logits, and ``logits.sigmoid()`` are probabilities.

Of ten crops the probabilities are averaged, as published CheXNets do. The logit is then the log
odds of that mean, no output of the network.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from chexlib.data.batches import Batcher
from chexlib.data.cache import LARGEST
from chexlib.data.radiographs import resized
from chexlib.models.chexnet import SMALLEST, evaluating

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from chexlib.data.cache import ImageCache
    from chexlib.models import CheXNet

__all__ = ["Preparation", "device_named"]


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

    Raises
    ------
    ValueError
        If a value is none of these.

    Examples
    --------
    >>> from chexlib.models import CheXNet
    >>> Preparation.of(CheXNet(growth_rate=12))
    Preparation(cache_size=256, size=224, ten_crop=False)
    """

    cache_size: int = 256
    size: int = 224
    ten_crop: bool = False

    def __post_init__(self) -> None:
        for name, least in (("cache_size", 1), ("size", SMALLEST)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= LARGEST:
                raise ValueError(
                    f"Expected {name} in pixels from {least} to {LARGEST}, got {str(value)[:80]}."
                )
        if not isinstance(self.ten_crop, bool):
            raise ValueError(f"Expected ten_crop true or false, got {str(self.ten_crop)[:80]}.")

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
        return own if size in (None, own.size) else cls(size, size)

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
        return resized(pixels, self.cache_size)

    def batcher(
        self, films: NDArray[np.uint8] | ImageCache, *, device: str | torch.device = "cpu"
    ) -> Batcher:
        """Return what makes inputs of films uint8 [N, cache_size, cache_size], or of a cache."""
        return Batcher(films, size=self.size, device=device)

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
            Of ten crops, at most so many go through the network together (at least ten do).

        Returns
        -------
        Tensor float32 [B, 14]
            Of ten crops, the log odds of the mean probability; finite all the same.
        """
        if not self.ten_crop:
            return _logits(model, batcher(rows))

        def both(images: torch.Tensor) -> torch.Tensor:
            found = _logits(model, images).double()
            # 1 - p would be 0 from a logit of 37 on.
            return torch.stack([found.sigmoid(), (-found).sigmoid()], dim=1)

        means = batcher.ten_crop_mean(both, rows, max_images_at_once=max(10, images_at_once))
        yes, no = means.clamp_min(torch.finfo(means.dtype).tiny).log().unbind(1)
        return (yes - no).float()


@torch.no_grad()
def _logits(model: CheXNet, images: torch.Tensor) -> torch.Tensor:
    with evaluating(model):
        return model(images).float()


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
