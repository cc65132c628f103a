"""What an image costs: parameters and operations, counted without computing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from chexlib.models.chexnet import CheXNet

__all__ = ["Cost", "cost"]


@dataclass(frozen=True)
class Cost:
    """What a network costs an image.

    Attributes
    ----------
    parameters : int
    forward : int
        Floating-point operations of convolutions and matrix products of one image; a multiply and
        an add are two.
    training : int
        The same of a forward and a backward pass: three times as many, less the first
        convolution's gradient with respect to the image, which nobody needs.
    """

    parameters: int
    forward: int
    training: int


def cost(model: CheXNet, *, size: int = 224) -> Cost:
    """Count what one image costs, without computing anything.

    Parameters
    ----------
    model : CheXNet
    size : int
        Pixels a side, from 29 up.

    Returns
    -------
    Cost
        Exact for convolutions and matrix products; normalisation, ReLU and pooling, which cost
        memory traffic rather than arithmetic, do not count.

    Raises
    ------
    ValueError
        If images of that size are too small.

    Examples
    --------
    >>> from chexlib.models import CheXNet
    >>> counted = cost(CheXNet())
    >>> counted.parameters, round(counted.forward / 1e9, 2), round(counted.training / 1e9, 2)
    (6968206, 5.67, 16.76)
    """
    with torch.device("meta"):
        twin = type(model)(**model.options).to("meta")
        images = torch.empty(2, 1, size, size)  # of one, 32 px leave nothing to normalise
    with FlopCounterMode(display=False) as forward:
        twin.eval()(images)
    with FlopCounterMode(display=False) as training:
        twin(images).sum().backward()
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, forward.get_total_flops() // 2, training.get_total_flops() // 2)
