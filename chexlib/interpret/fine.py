r"""Maps of twice the resolution: dense blocks 3 and 4 combined.

The last map of a 224 px film has 7 x 7 cells, each larger than most nodules. The one before dense
block 4 has 14 x 14. It does not lead to the logits by a linear step, so gradients say what each of
its positions adds (LayerCAM, :func:`layer_maps`); and it knows less about findings. So the two are
multiplied (:func:`fine_maps`): hot is what both call hot, at the resolution of the finer.

References
----------
Jiang et al., LayerCAM: exploring hierarchical class activation maps for localization, IEEE
Transactions on Image Processing 30 (2021) 5875-5888, equations 6 to 8: the maps, and their
combination by the maximum. Combination by the geometric mean is this project's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import relu

from chexlib.interpret.geometry import STRIDE, cell_centres, interpolation_matrix
from chexlib.interpret.inside import densenet_of, last_map, rows_of
from chexlib.models.chexnet import evaluating

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chexlib.models.chexnet import CheXNet

__all__ = ["FINE_STRIDE", "fine_maps", "layer_maps"]

FINE_STRIDE = STRIDE // 2
WAYS = ("product", "maximum")


def layer_maps(
    model: CheXNet, images: torch.Tensor, findings: str | int | Sequence[str | int] | None = None
) -> torch.Tensor:
    r"""Return LayerCAM before dense block 4: :math:`\sum_c \max(\partial z_f / \partial A_{cij}, 0)
    A_{cij}`.

    One pass through the network, and one backward through dense block 4 alone a finding.

    Parameters
    ----------
    model : CheXNet, or another DenseNet
    images : Tensor float32 [B, 1 or 3, H, W]
        See :func:`chexlib.interpret.class_activation_maps`.
    findings : str, int, or sequence of these, optional
        F of them, by name or position; all by default.

    Returns
    -------
    Tensor float32 [B, F, h, w]
        From 0 up; h and w are H and W divided by 16. Enlarge them with ``stride=FINE_STRIDE``.
    """  # noqa: D205 - the formula is the summary
    return _both(model, images, rows_of(findings, model))[0]


def fine_maps(
    model: CheXNet,
    images: torch.Tensor,
    findings: str | int | Sequence[str | int] | None = None,
    *,
    how: str = "product",
) -> torch.Tensor:
    """Return maps of twice the resolution of :func:`chexlib.interpret.class_activation_maps`.

    Both maps are cut at 0 and divided by their maximum; that of the last layer is interpolated to
    the cells of the finer.

    Parameters
    ----------
    model, images, findings
        As for :func:`layer_maps`.
    how : {"product", "maximum"}
        Geometric mean of the two, or the larger of them, where the finer goes through
        ``tanh(2 x)`` first, as in the paper.

    Returns
    -------
    Tensor float32 [B, F, h, w]
        In [0, 1]: all 0 where no position speaks for the finding. They do not sum to a logit.

    Raises
    ------
    ValueError
        If ``how`` is unknown.

    Examples
    --------
    >>> from chexlib.models import CheXNet
    >>> model = CheXNet(growth_rate=12)
    >>> fine_maps(model, torch.rand(1, 1, 96, 96), ["Mass", "Nodule"]).shape
    torch.Size([1, 2, 6, 6])
    """
    if how not in WAYS:
        raise ValueError(f"Expected a way to combine among {WAYS}, got {how!r}.")
    chosen = rows_of(findings, model)
    fine, coarse = _both(model, images, chosen)
    matrices = [
        torch.from_numpy(
            interpolation_matrix(
                cell_centres(coarse.shape[axis]),
                cell_centres(fine.shape[axis], stride=FINE_STRIDE),
            )
        ).to(coarse.device)
        for axis in (2, 3)
    ]
    coarse = _by_maximum(matrices[0] @ relu(coarse[:, chosen]) @ matrices[1].T)
    fine = _by_maximum(fine)
    if how == "maximum":
        return torch.maximum(torch.tanh(2 * fine), coarse)
    return (fine * coarse).sqrt()


def _by_maximum(maps: torch.Tensor) -> torch.Tensor:
    high = maps.amax((2, 3), keepdim=True)
    return maps / torch.where(high > 0, high, 1)


def _both(
    model: CheXNet, images: torch.Tensor, chosen: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return LayerCAM of the chosen findings and the CAM of all."""
    kept = []

    def cut(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        """Begin the gradient here: what is before costs no more than a forward pass."""
        kept.append(output.detach().requires_grad_())
        return kept[0]

    hook = densenet_of(model).features.transition3.relu.register_forward_hook(cut)
    try:
        with evaluating(model), torch.enable_grad():
            found = last_map(model, images)
    finally:
        hook.remove()
    inner, maps = kept[0], []
    for k, row in enumerate(chosen):
        (gradient,) = torch.autograd.grad(
            found.logits[:, row].sum(), inner, retain_graph=k < len(chosen) - 1
        )
        maps.append((relu(gradient) * inner.detach()).sum(dim=1))
    return torch.stack(maps, dim=1).float(), found.maps.detach()
