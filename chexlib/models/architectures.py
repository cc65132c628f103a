"""torchvision's networks that end in features, a mean and a linear layer, and how to tell them.

A network of which only names and shapes matter is built without values, on PyTorch's meta device.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torchvision.models import get_model, list_models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Layers of each dense block and growth rate; the first convolution has twice as many channels.
DENSE: dict[str, tuple[tuple[int, int, int, int], int]] = {
    "densenet121": ((6, 12, 24, 16), 32),
    "densenet161": ((6, 12, 36, 24), 48),
    "densenet169": ((6, 12, 32, 32), 32),
    "densenet201": ((6, 12, 48, 32), 32),
}
# By a key that occurs once in a network's state dict. EfficientNetV2-L is left out: its weights
# take images that are normalised otherwise than those of all others.
FAMILIES: dict[str, Sequence[str]] = {
    "features.conv0.weight": list(DENSE),
    "layer1.0.conv1.weight": list_models(include=["resne*t*", "wide_resnet*"]),
    "features.0.0.weight": list_models(
        include=["convnext*", "efficientnet_[!v]*", "efficientnet_v2_[!l]"]
    ),
}
ARCHITECTURES: tuple[str, ...] = tuple(name for family in FAMILIES.values() for name in family)
"""Names that :class:`chexlib.models.CheXNet` takes for ``arch``."""

COUNTER = ".num_batches_tracked"


@cache
def signature(arch: str) -> tuple[str, str, dict[str, torch.Size]]:
    """Return what the tensors of an architecture are called.

    Returns
    -------
    stem : str
        The weight of its first convolution.
    head : str
        Its last linear layer, such as ``classifier.1``.
    body : dict of str to Size
        Shapes of what is between, but for counters and what is beside the head.
    """
    with torch.device("meta"):
        state = get_model(arch, weights=None).state_dict()
    stem, *others = state
    head = others[-1].removesuffix(".bias")
    return stem, head, {key: state[key].shape for key in others if _is_body(key, head)}


def _is_body(key: str, head: str) -> bool:
    root, *_ = head.split(".")
    return not key.endswith(COUNTER) and not key.startswith(f"{root}.")


def nearest(state: Mapping[str, torch.Tensor], family: Sequence[str]) -> str:
    """Return the architecture of a family whose names and shapes are nearest to a state dict's.

    The names alone tell a DenseNet, of whatever growth rate.
    """

    def apart(arch: str) -> int:
        stem, head, body = signature(arch)
        mine = {key for key in state if key != stem and _is_body(key, head)}
        other = [
            key for key in mine & body.keys() if arch not in DENSE and state[key].shape != body[key]
        ]
        return len(body) * len(mine ^ body.keys()) + len(other)

    return next((arch for arch in family if not apart(arch)), None) or min(family, key=apart)
