"""Sanity checks: whether a map depends on the network and on the labels, and names what it uses.

A map that looks the same for a network whose layers were drawn at random cannot explain the trained
one. :func:`cascade` draws layers anew from the head down; :func:`compare_models` sets two networks
side by side, such as one trained on true and one on shuffled labels; :func:`perturbation_curves`
takes pixels away, or gives them, in the order of a map.

References
----------
Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018: randomisation of layers (section 3)
and of labels (section 4). Petsiuk et al., RISE: randomized input sampling for explanation of
black-box models, BMVC 2018, section 4.3: insertion and deletion.
"""

from __future__ import annotations

import copy
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import ConstantInputWarning, pearsonr, rankdata

from chexlib.interpret.attribution import attribute, blank, to_grey
from chexlib.interpret.cam import names_of, rows_of
from chexlib.models.chexnet import CheXNet, evaluating

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from chexlib.interpret.heatmap import HeatMap

_APART = 7_919_000
_AT_ONCE = 32  # films in the network
KINDS = ("spearman", "pearson")
# A part of a network that has a number: a block, and what comes before the next one.
_BLOCK = re.compile(r"(?:features\.)?(?:denseblock|transition|layer)?([1-9])\.")


def _stages(model: CheXNet) -> dict[str, list[str]]:
    """Return the tensors of a network by stage, from the head down."""
    stage, root, stages = "stem", model.head.split(".")[0], {}
    for key in model.network.state_dict():
        if key.startswith(f"{root}."):
            stage = "head"
        elif numbered := _BLOCK.match(key):
            stage = f"block {numbered[1]}"
        stages.setdefault(stage, []).append(key)
    return dict(reversed(stages.items()))


def randomised(model: CheXNet, *, seed: int = 0) -> Iterator[tuple[str, CheXNet]]:
    """Yield a network with more and more of its parts as before training.

    Parameters
    ----------
    model : CheXNet
        Of any architecture; left as it is.
    seed : int
        Of the weights drawn.

    Yields
    ------
    name, network : str, CheXNet
        The last part that was replaced, from "head" over "block 4", "block 3", … to "stem", and a
        network with it and all parts above it as drawn, the statistics of batch normalisation
        included; one network, which changes from one to the next.

    Raises
    ------
    ValueError
        If the network is no CheXNet: how another one was drawn is not known.
    """
    if not isinstance(model, CheXNet):
        raise ValueError(
            f"Expected a CheXNet, whose layers can be drawn anew, got {type(model).__name__}. "
            "load_checkpoint makes one of the weights that people have."
        )
    network = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        # Training began at a seed as well, most often 0: with the same, parts would not be drawn
        # anew but set back to where the network began, and it is still near there.
        torch.manual_seed(_APART + seed)
        fresh = type(model)(**model.options, findings=model.findings)
    # torchvision starts the head's bias at 0, and its weights by PyTorch's default: as in training.
    drawn = fresh.network.state_dict()
    for stage, keys in _stages(network).items():
        network.network.load_state_dict({key: drawn[key] for key in keys}, strict=False)
        yield stage, network


def compare_models(
    model: CheXNet,
    other: CheXNet,
    images: torch.Tensor,
    findings: str | int | Sequence[str | int] | None = None,
    *,
    kind: str = "spearman",
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
    kind : {"spearman", "pearson"}
        As for :func:`similarity`.
    **options
        As for :func:`chexlib.interpret.attribute`: ``method``, and those of the method.

    Returns
    -------
    DataFrame
        A row an image and finding: ``film`` (position), ``finding``, and a column named as the
        kind. Maps are compared in their own resolution.
    """
    maps = [attribute(one, images, findings, **options) for one in (model, other)]
    return _alike(*maps, _names(findings, model), kind)


def cascade(
    model: CheXNet,
    images: torch.Tensor,
    findings: str | int | Sequence[str | int] | None = None,
    *,
    kind: str = "spearman",
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Return how alike maps stay as layers are drawn anew, from the head down.

    Parameters
    ----------
    model, images, findings, kind, **options
        As for :func:`compare_models`.
    seed : int
        Of the weights drawn.

    Returns
    -------
    DataFrame
        As :func:`compare_models`, for each part of :func:`randomised` in a first column ``stage``,
        beginning with "trained", where all are alike.
    """
    own, names = attribute(model, images, findings, **options), _names(findings, model)
    tables = {"trained": _alike(own, own, names, kind)}
    for stage, network in randomised(model, seed=seed):
        tables[stage] = _alike(own, attribute(network, images, findings, **options), names, kind)
    table = pd.concat(tables, names=["stage"]).reset_index("stage").reset_index(drop=True)
    table["stage"] = pd.Categorical(table["stage"], [*tables], ordered=True)
    return table


def _names(
    findings: str | int | Sequence[str | int] | None, model: torch.nn.Module
) -> NDArray[np.generic]:
    return np.array(names_of(model))[rows_of(findings, model)]


def _alike(a: HeatMap, b: HeatMap, names: NDArray, kind: str) -> pd.DataFrame:
    film, finding = np.indices(a.values.shape[:2]).reshape(2, -1)
    alike = np.ravel(similarity(a.values, b.values, kind=kind))
    return pd.DataFrame({"film": film, "finding": names[finding], kind: alike})


def similarity(
    a: ArrayLike | torch.Tensor, b: ArrayLike | torch.Tensor, *, kind: str = "spearman"
) -> NDArray[np.float64]:
    """Return how alike maps are, pair by pair.

    Parameters
    ----------
    a, b : array_like or Tensor [..., H, W]
        Of one shape.
    kind : {"spearman", "pearson"}
        Correlation of ranks (ties share theirs), or of values. Neither sees how strong a map is.

    Returns
    -------
    ndarray float64 [...]
        From -1 to 1. NaN with a constant map.

    Raises
    ------
    ValueError
        If the kind is unknown or shapes differ.

    Examples
    --------
    >>> a = np.arange(9.0).reshape(3, 3)
    >>> similarity(a, np.exp(a)).round(6), similarity(a, -a, kind="pearson").round(6)
    (np.float64(1.0), np.float64(-1.0))
    """
    if kind not in KINDS:
        raise ValueError(f"Expected a similarity among {KINDS}, got {kind!r}.")
    a, b = (torch.as_tensor(m).detach().cpu().double().numpy() for m in (a, b))
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"Expected maps [..., H, W] of one shape, got {a.shape} and {b.shape}.")
    a, b = (m.reshape(*m.shape[:-2], -1) for m in (a, b))
    if kind == "spearman":
        a, b = rankdata(a, axis=-1), rankdata(b, axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)  # the NaN says it
        return pearsonr(a, b, axis=-1).statistic


@torch.no_grad()
def perturbation_curves(
    model: CheXNet,
    images: torch.Tensor,
    heat: ArrayLike | torch.Tensor,
    finding: str,
    *,
    kind: str = "deletion",
    steps: int = 28,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how the probability of a finding changes as pixels go or come, the hottest first.

    Pixels are taken from a film, which leave its mean grey, or given to a blurred one (sigma of
    1/22 of its side: a blank film with sharp islands has artificial edges). If the map names what
    the network uses, the probability falls quickly, or rises quickly. Films that lack pixels are
    films that no network was trained on, so a curve means little without that of a random order
    beside it: pass random maps to the same function.

    Parameters
    ----------
    model : CheXNet
    images : Tensor float32 [B, 1 or 3, H, W]
        As :class:`chexlib.data.Batcher` gives them.
    heat : array_like or Tensor [B, H, W]
        A map of each, in pixels: :meth:`HeatMap.pixels`.
    finding : str
    kind : {"deletion", "insertion"}
    steps : int
        Into which the pixels are divided.

    Returns
    -------
    share : float64 [steps + 1]
        Of pixels that were deleted or inserted, 0 to 1.
    probability : float64 [B, steps + 1]
        Of the finding. The area under a curve, ``np.trapezoid(probability, share)``, is small for a
        good map and deletion, and large for insertion.

    Raises
    ------
    ValueError
        If the kind is unknown or shapes do not fit.
    """
    if kind not in ("deletion", "insertion"):
        raise ValueError(f"Expected a kind, deletion or insertion, got {kind!r}.")
    heat = torch.as_tensor(heat, device=images.device).float()
    if heat.shape != (len(images), *images.shape[2:]) or steps < 1:
        raise ValueError(
            f"Expected maps {[len(images), *images.shape[2:]]} and steps from 1 up, got "
            f"{list(heat.shape)} and {steps}. Enlarge maps: HeatMap.pixels."
        )
    (row,) = rows_of(finding, model)
    film = to_grey(images)
    first, last = (film, blank(film)) if kind == "deletion" else (_blurred(film), film)
    # Where each pixel comes in the order of the map.
    rank = heat.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    rank = rank.view(len(film), 1, *film.shape[2:])
    counts = np.round(np.linspace(0, heat[0].numel(), steps + 1)).astype(int)
    probability = np.empty((len(film), steps + 1))
    pairs = np.indices(probability.shape).reshape(2, -1)
    with evaluating(model):
        for i, k in np.split(pairs, range(_AT_ONCE, pairs.shape[1], _AT_ONCE), axis=1):
            done = rank[i] < torch.as_tensor(counts[k], device=rank.device).view(-1, 1, 1, 1)
            seen = torch.where(done, last[i], first[i]).expand(-1, images.shape[1], -1, -1)
            probability[i, k] = model(seen)[:, row].double().sigmoid().cpu().numpy()
    return counts / heat[0].numel(), probability


def _blurred(film: torch.Tensor) -> torch.Tensor:
    from torchvision.transforms.functional import gaussian_blur

    sigma = min(film.shape[2:]) / 22
    side = 2 * round(2.5 * sigma) + 1
    return gaussian_blur(film, [side, side], [sigma, sigma])
