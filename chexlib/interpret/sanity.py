"""Sanity checks: whether a map depends on the network, on the labels, on where things are.

A map that looks the same for a network whose layers were drawn at random cannot explain the trained
one. :func:`cascade` draws layers anew from the head down; :func:`compare_models` sets two networks
side by side, such as one trained on true and one on shuffled labels; :func:`shift_equivariance`
moves the window through which a film is seen.

References
----------
Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018: randomisation of layers (section 3)
and of labels (section 4).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from chexlib.interpret.attribution import attribute, to_pixels
from chexlib.interpret.cam import maps_and_logits
from chexlib.interpret.inside import names_of, rows_of
from chexlib.interpret.similarity import similarity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chexlib.models.chexnet import CheXNet

__all__ = ["STAGES", "cascade", "compare_models", "randomised", "shift_equivariance"]

_APART = 7_919_000
STAGES: dict[str, tuple[str, ...]] = {
    "head": ("classifier",),
    "block 4": ("features.norm5", "features.denseblock4"),
    "block 3": ("features.transition3", "features.denseblock3"),
    "block 2": ("features.transition2", "features.denseblock2"),
    "block 1": ("features.transition1", "features.denseblock1"),
    "stem": ("features.norm0", "features.conv0"),
}
"""Parts of a DenseNet from the head down, in the order in which :func:`cascade` draws them anew."""


def randomised(model: CheXNet, *, seed: int = 0) -> Iterator[tuple[str, CheXNet]]:
    """Yield a network with more and more of its parts as before training.

    Parameters
    ----------
    model : CheXNet
        Left as it is.
    seed : int
        Of the weights drawn.

    Yields
    ------
    name, network : str, CheXNet
        The last part that was replaced, and a network with it and all parts above it as drawn, the
        statistics of batch normalisation included; one network, which changes from one to the next.
    """
    network = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        # Training began at a seed as well, most often 0: with the same, parts would not be drawn
        # anew but set back to where the network began, and it is still near there.
        torch.manual_seed(_APART + seed)
        fresh = type(model)(**model.options)
    # torchvision starts the head's bias at 0, and its weights by PyTorch's default: as in training.
    for name, parts in STAGES.items():
        for part in parts:
            state = fresh.densenet.get_submodule(part).state_dict()
            network.densenet.get_submodule(part).load_state_dict(state)
        yield name, network


def compare_models(
    model: CheXNet,
    other: CheXNet,
    images: torch.Tensor,
    findings: str | int | Sequence[str | int] | None = None,
    *,
    method: str = "cam",
    kinds: Sequence[str] = ("spearman", "ssim"),
    absolute: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Return how alike the maps of two networks are.

    Parameters
    ----------
    model, other : CheXNet
        For the label check: trained on true labels, and on shuffled ones.
    images : Tensor float32 [B, 1 or 3, H, W]
    findings : str, int, or sequence of these, optional
        By name or position; all by default.
    method, **options
        As for :func:`chexlib.interpret.attribute`.
    kinds : sequence of str
        As for :func:`chexlib.interpret.similarity`.
    absolute : bool
        Compare absolute values, so that a map and its negative are alike.

    Returns
    -------
    DataFrame
        A row an image and finding: ``film`` (position), ``finding``, and a column a kind. Maps are
        compared in their own resolution, by SSIM enlarged to that of the images.
    """
    maps = [attribute(m, images, findings, method=method, **options) for m in (model, other)]
    enlarge = {"method": method, "size": tuple(images.shape[2:])}
    names = _names(findings, model)
    return _alike(*maps, names, kinds=kinds, absolute=absolute, **enlarge)


def cascade(
    model: CheXNet,
    images: torch.Tensor,
    findings: str | int | Sequence[str | int] | None = None,
    *,
    method: str = "cam",
    kinds: Sequence[str] = ("spearman", "ssim"),
    absolute: bool = False,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Return how alike maps stay as layers are drawn anew, from the head down.

    Parameters
    ----------
    model, images, findings, method, kinds, absolute, **options
        As for :func:`compare_models`.
    seed : int
        Of the weights drawn.

    Returns
    -------
    DataFrame
        As :func:`compare_models`, for each stage of :data:`STAGES` in a first column ``stage``,
        beginning with "trained", where all are alike.
    """
    own = attribute(model, images, findings, method=method, **options)
    how = {"kinds": kinds, "absolute": absolute, "method": method, "size": tuple(images.shape[2:])}
    names = _names(findings, model)
    rows = [_alike(own, own, names, **how).assign(stage="trained")]
    for name, network in randomised(model, seed=seed):
        maps = attribute(network, images, findings, method=method, **options)
        rows.append(_alike(own, maps, names, **how).assign(stage=name))
    table = pd.concat(rows, ignore_index=True)
    table["stage"] = pd.Categorical(table["stage"], ["trained", *STAGES], ordered=True)
    return table[["stage", *(column for column in table if column != "stage")]]


def _names(
    findings: str | int | Sequence[str | int] | None, model: torch.nn.Module
) -> list[str | int]:
    names = names_of(model)
    return [names[row] for row in rows_of(findings, model)]


def _alike(
    a: torch.Tensor,
    b: torch.Tensor,
    names: Sequence[str | int],
    *,
    kinds: Sequence[str],
    absolute: bool,
    method: str,
    size: tuple[int, int],
) -> pd.DataFrame:
    if absolute:
        a, b = a.abs(), b.abs()
    film, finding = np.indices(a.shape[:2])
    table = {"film": film.ravel(), "finding": np.array(names)[finding.ravel()]}
    for kind in kinds:
        pair = (a, b)
        if kind == "ssim":
            pair = tuple(to_pixels(m, size, method=method, input_size=size) for m in pair)
        table[kind] = np.ravel(similarity(*pair, kind=kind))
    return pd.DataFrame(table)


def shift_equivariance(
    model: CheXNet,
    images: torch.Tensor,
    findings: str | int | Sequence[str | int] | None = None,
    *,
    shifts: Sequence[int] = (1, 2, 4, 8, 16, 32),
    method: str = "cam",
    **options: Any,
) -> pd.DataFrame:
    """Return whether maps move with what they show.

    A film is seen through two windows, one of them further down and to the right. Nothing is
    padded: where they overlap, both see the same film, and an equivariant map is the same.

    Parameters
    ----------
    model, images, findings, method, **options
        As for :func:`compare_models`.
    shifts : sequence of int
        Pixels, from 1 up and less than half of the film. All windows have the film's side less the
        largest shift.

    Returns
    -------
    DataFrame
        A row a film, finding and shift: ``film``, ``finding``, ``shift``; ``spearman`` and
        ``pearson``, of the maps in pixels where windows overlap; ``peak``, the distance in pixels
        between the hottest places there, 0 for an equivariant map; and ``logit``, how far the logit
        changes.

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
    rows = rows_of(findings, model)
    names = _names(findings, model)
    inner = (height - max(shifts), width - max(shifts))

    def seen(by: int) -> tuple[np.ndarray, np.ndarray]:
        window = images[:, :, by : by + inner[0], by : by + inner[1]].contiguous()
        maps = attribute(model, window, rows, method=method, **options)
        maps = to_pixels(maps, inner, method=method, input_size=inner)
        logits = maps_and_logits(model, window).logits[:, rows]
        return maps.cpu().numpy(), logits.cpu().numpy()

    still, logit = seen(0)
    film, finding = np.indices(still.shape[:2])
    tables = []
    for by in shifts:
        moved, other = seen(by)
        a, b = still[:, :, by:, by:], moved[:, :, : inner[0] - by, : inner[1] - by]
        table = {"film": film.ravel(), "finding": np.array(names)[finding.ravel()], "shift": by}
        for kind in ("spearman", "pearson"):
            table[kind] = np.ravel(similarity(a, b, kind=kind))
        apart = np.array(_peak(a)) - np.array(_peak(b))
        table["peak"] = np.hypot(*apart).ravel()
        table["logit"] = (other - logit).ravel()
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def _peak(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = maps.reshape(*maps.shape[:2], -1).argmax(-1)
    return np.divmod(flat, maps.shape[-1])
