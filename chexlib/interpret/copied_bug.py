"""The "class activation map" that was copied from repository to repository, and is none.

``HeatmapGenerator`` of zoogzog/chexnet takes ``list(model.features.parameters())[-2]`` for the
weights of the class. Those are the last parameters but one of the *features*, which do not include
the head: the scales of the final batch normalisation. They know no finding, so the picture is the
same for all 14. It takes the feature map before the ReLU, which the head never sees; divides by the
maximum only; and casts to 8 bits, so that what is negative wraps around and is painted hot.

Reported in issue 13 of that repository. Reproduced here to be compared, not to be used.

References
----------
zoogzog/chexnet on GitHub, ``HeatmapGenerator.py``, commit bbe30b5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from chexlib.interpret.geometry import upsample
from chexlib.interpret.inside import densenet_of, names_of
from chexlib.models.chexnet import evaluating

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from chexlib.models.chexnet import CheXNet

__all__ = ["as_drawn", "copied_heat_maps"]


@torch.no_grad()
def copied_heat_maps(model: CheXNet, images: torch.Tensor) -> torch.Tensor:
    r"""Return what the copied code calls the class activation map, for all 14 findings.

    :math:`\sum_c \gamma_c N_c`, with the scales :math:`\gamma` of the final batch normalisation
    and its output :math:`N`, before the ReLU. No finding occurs in it.

    Parameters
    ----------
    model : CheXNet, or another DenseNet
    images : Tensor float32 [B, 1 or 3, H, W]
        See :func:`chexlib.interpret.class_activation_maps`.

    Returns
    -------
    Tensor float32 [B, 14, h, w]
        14 times the same map, and not in units of anything.

    Examples
    --------
    >>> from chexlib.models import CheXNet
    >>> maps = copied_heat_maps(CheXNet(growth_rate=12), torch.rand(1, 1, 64, 64))
    >>> bool((maps == maps[:, :1]).all())
    True
    """
    kept = []
    layers = densenet_of(model).features
    # A copy, since the network applies its ReLU in place.
    hook = layers.norm5.register_forward_hook(lambda _m, _i, output: kept.append(output.clone()))
    try:
        with evaluating(model):
            model(images)
    finally:
        hook.remove()
    scales = list(layers.parameters())[-2].detach()
    one = torch.einsum("c,bchw->bhw", scales.float(), kept[0].float())
    return one[:, None].expand(-1, len(names_of(model)), -1, -1).clone()


def as_drawn(heat: NDArray[np.floating], size: int) -> NDArray[np.uint8]:
    """Return the 8-bit values that the copied code colours.

    Divided by the maximum, enlarged, multiplied by 255 and cast to 8 bits, which on the usual
    processors keeps the remainder of a division by 256: -0.1 becomes 231 of 255, and hot.

    Parameters
    ----------
    heat : ndarray [h, w]
    size : int
        Pixels a side.

    Returns
    -------
    uint8 [size, size]

    Examples
    --------
    >>> as_drawn(np.array([[1.0, -0.1]]), 2)[0]
    array([255, 231], dtype=uint8)
    """
    values = 255 * upsample(np.asarray(heat) / np.max(heat), size)
    return (np.trunc(values).astype(np.int64) % 256).astype(np.uint8)
