"""Probabilities of films that are in a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from chexlib.inference import Preparation

if TYPE_CHECKING:
    from collections.abc import Callable

    from chexlib.data.dataset import Dataset
    from chexlib.models import CheXNet

__all__ = ["predict"]


def predict(
    model: CheXNet,
    films: Dataset,
    *,
    size: int | None = None,
    ten_crop: bool = False,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    step: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Return probabilities of the 14 findings.

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
        Called with the numbers of films done and of all.

    Returns
    -------
    float32 ndarray [N, 14]
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
            step(min(start + batch_size, len(films)), len(films))
    return np.concatenate(found)
