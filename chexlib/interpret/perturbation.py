"""Insertion and deletion: whether the probability changes where the map says that it should.

Pixels are taken from a film, or given to a blurred one, in the order of a map, the hottest first.
If the map names what the network uses, the probability falls quickly, or rises quickly. Films that
lack pixels are films that no network was trained on, so a curve means little without that of a
random order beside it: pass random maps to the same function.

References
----------
Petsiuk et al., RISE: randomized input sampling for explanation of black-box models, BMVC 2018,
section 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from chexlib.interpret.captum_methods import to_grey
from chexlib.interpret.inside import rows_of
from chexlib.models.chexnet import evaluating

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from chexlib.models.chexnet import CheXNet

__all__ = ["PerturbationCurves", "perturbation_curves"]

KINDS = ("deletion", "insertion")


@dataclass(frozen=True)
class PerturbationCurves:
    """Probabilities as pixels are deleted or inserted.

    Attributes
    ----------
    kind : str
        "deletion" or "insertion".
    share : float64 array [steps + 1]
        Of pixels that were deleted or inserted, 0 to 1.
    probability : float64 array [B, steps + 1]
        Of the finding.
    """

    kind: str
    share: NDArray[np.float64]
    probability: NDArray[np.float64]

    @property
    def area(self) -> NDArray[np.float64]:
        """Area under each curve, [B]: small is good for deletion, large for insertion."""
        return np.trapezoid(self.probability, self.share, axis=1)


@torch.no_grad()
def perturbation_curves(
    model: CheXNet,
    images: torch.Tensor,
    heat: ArrayLike | torch.Tensor,
    finding: str,
    *,
    kind: str = "deletion",
    steps: int = 28,
    substrate: str | float | None = None,
    batch_size: int = 32,
) -> PerturbationCurves:
    """Return how the probability of a finding changes as pixels go or come, the hottest first.

    Parameters
    ----------
    model : CheXNet
    images : Tensor float32 [B, 1 or 3, H, W]
        As :class:`chexlib.data.Batcher` gives them.
    heat : array_like or Tensor [B, H, W]
        A map of each, in pixels: :func:`chexlib.interpret.to_pixels`.
    finding : str
    kind : {"deletion", "insertion"}
    steps : int
        Into which the pixels are divided.
    substrate : "blur", "mean" or float, optional
        What is there without a pixel: the film blurred (sigma of 1/22 of its side), its mean grey,
        or a grey value from 0 to 1. By default the mean for deletion and the blurred film for
        insertion: a blank film with sharp islands has edges that are none.
    batch_size : int
        Films in the network at once.

    Returns
    -------
    PerturbationCurves

    Raises
    ------
    ValueError
        If an option is unknown or shapes do not fit.
    """
    if kind not in KINDS:
        raise ValueError(f"Expected a kind among {KINDS}, got {kind!r}.")
    heat = torch.as_tensor(heat, device=images.device).float()
    if heat.shape != (len(images), *images.shape[2:]) or steps < 1 or batch_size < 1:
        raise ValueError(
            f"Expected maps {[len(images), *images.shape[2:]]}, and steps and a batch size from 1 "
            f"up, got {list(heat.shape)}, {steps} and {batch_size}. Enlarge maps with to_pixels."
        )
    (row,) = rows_of(finding, model)
    film = to_grey(images)
    substrate = ("mean" if kind == "deletion" else "blur") if substrate is None else substrate
    ground = _ground(film, substrate)
    first, last = (film, ground) if kind == "deletion" else (ground, film)
    order = heat.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    rank = rank.view(len(film), 1, *film.shape[2:])
    counts = np.round(np.linspace(0, order.shape[1], steps + 1)).astype(int)
    probability = np.empty((len(film), steps + 1))
    pairs = [(i, k) for i in range(len(film)) for k in range(steps + 1)]
    with evaluating(model):
        for start in range(0, len(pairs), batch_size):
            i, k = np.array(pairs[start : start + batch_size]).T
            done = rank[i] < torch.as_tensor(counts[k], device=rank.device).view(-1, 1, 1, 1)
            mixed = torch.where(done, last[i], first[i])
            logits = model(mixed.expand(-1, images.shape[1], -1, -1))
            probability[i, k] = logits[:, row].double().sigmoid().cpu().numpy()
    return PerturbationCurves(kind, counts / order.shape[1], probability)


def _ground(film: torch.Tensor, substrate: str | float) -> torch.Tensor:
    if substrate == "mean":
        return film.mean((1, 2, 3), keepdim=True).expand_as(film)
    if substrate == "blur":
        from torchvision.transforms.functional import gaussian_blur

        sigma = min(film.shape[2:]) / 22
        side = 2 * round(2.5 * sigma) + 1
        return gaussian_blur(film, [side, side], [sigma, sigma])
    if isinstance(substrate, str) or not 0 <= substrate <= 1:
        raise ValueError(
            f'Expected "blur", "mean" or a grey value from 0 to 1 as substrate, got {substrate!r}.'
        )
    return torch.full_like(film, float(substrate))
