"""What every method needs of a network: its last map, its outputs by name, its dense blocks."""

from __future__ import annotations

import difflib
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, linear
from torch.overrides import TorchFunctionMode

from chexlib.findings import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LastMap", "densenet_of", "last_map", "names_of", "rows_of"]

MEANS = {adaptive_avg_pool2d, avg_pool2d, torch.mean, torch.Tensor.mean}
TOLERANCE = 1e-4


class LastMap(NamedTuple):
    """What a network's head was given in a pass, before its mean over positions, and gave.

    Attributes
    ----------
    features : Tensor [B, C, h, w]
    weight : Tensor [F, C]
    bias : Tensor [F] or None
        Of the head.
    logits : Tensor [B, F]
        The network's own.
    """

    features: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    logits: torch.Tensor

    @property
    def maps(self) -> torch.Tensor:
        """The head at each position, without its bias: float32 [B, F, h, w]."""
        # Not in half precision, whatever the surroundings.
        with torch.autocast(self.features.device.type, enabled=False):
            return torch.einsum("fc,bchw->bfhw", self.weight.float(), self.features.float())


class _Watch(TorchFunctionMode):
    """Keep the last linear step of a pass, and the last map of which the mean was taken.

    Functions are watched and not modules: a DenseNet's last ReLU and its mean are no modules.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head: tuple | None = None  # what it was given, weight, bias, result
        self.map: torch.Tensor | None = None

    def __torch_function__(
        self, function: Any, _types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function is linear:
            bias = args[2] if len(args) > 2 else (kwargs or {}).get("bias")
            self.head = (*args[:2], bias, result)
        elif function in MEANS and args and args[0].ndim == 4:
            given = args[0]
            # Where one value a channel is left.
            self.map = given if result.numel() == len(given) * given.shape[1] else self.map
        return result


def last_map(model: nn.Module, images: torch.Tensor) -> LastMap:
    """Run a network once, and return what its head applies to the mean of.

    Any network will do whose logits are a linear layer of the mean over positions of a map:
    CheXNet, the DenseNets of torchvision and torchxrayvision with any number of outputs, most
    ResNets. What is found is held to that on the images given: mean of the map + bias = logit.

    Parameters
    ----------
    model : Module
        In eval mode.
    images : Tensor
        As the network takes them.

    Raises
    ------
    ValueError
        With the reason, if the network is another one.
    """

    def refused(why: str) -> ValueError:
        return ValueError(
            "Expected a network whose logits are a linear layer of the mean over positions of its "
            f"last map, since nothing else has class activation maps, got {type(model).__name__}: "
            f"{why}. Take a method of pixels, such as occlusion."
        )

    watch = _Watch()
    with torch.autocast(images.device.type, enabled=False), watch:
        output = model(images)
    if watch.head is None:
        raise refused("no linear layer was seen in a pass (a compiled network hides its layers)")
    given, weight, bias, logits = watch.head
    if not _made_of(output, logits, model):
        raise refused("it returns neither the result of its last linear layer nor its sigmoid")
    features = watch.map
    if given.ndim != 2 or features is None or features.shape[1] != weight.shape[1]:
        raise refused("what its last linear layer is given is no mean of a map of as many channels")
    found = LastMap(features, weight, bias, logits)
    with torch.no_grad():
        means = found.maps.mean((2, 3)) + (0 if bias is None else bias.float())
        apart = float((means - logits.float()).abs().max())
        scale = max(1.0, float(logits.abs().max()))
    # Half precision rounds more than the tolerance.
    if not apart <= scale * max(TOLERANCE, 16 * torch.finfo(logits.dtype).eps):
        raise refused(f"mean of the map + bias and the logit differ by up to {apart:.3g}")
    return found


def _made_of(output: object, logits: torch.Tensor, model: nn.Module) -> bool:
    """Return whether an output is logits, probabilities, or torchxrayvision's made of these."""
    if output is logits:
        return True
    if not isinstance(output, torch.Tensor) or output.shape != logits.shape:
        return False
    probable = logits.sigmoid()
    known = [logits, probable]
    points = getattr(model, "op_threshs", None)
    if isinstance(points, torch.Tensor):
        # Its operating point becomes 1/2; of an output without one (NaN) all does.
        high = 1 - (1 - probable) / (2 * (1 - points))
        moved = torch.where(probable < points, probable / (2 * points), high)
        known.append(torch.where(points.isnan(), 0.5, moved))
    return any(torch.allclose(output, one, atol=1e-5) for one in known)


def names_of(model: nn.Module) -> list[str] | list[int]:
    """Return a network's own names of its outputs; their positions where it has none.

    Raises
    ------
    ValueError
        If it has no linear layer to count them by.
    """
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise ValueError(f"Expected a network with a linear head, got {type(model).__name__}.")
    count = heads[-1].out_features
    for kind in ("findings", "pathologies", "targets"):  # CheXNet's, torchxrayvision's two
        if len(names := getattr(model, kind, ())) == count:
            return list(names)
    return list(range(count))


def rows_of(findings: str | int | Sequence[str | int] | None, model: nn.Module) -> list[int]:
    """Return the rows of the head that findings have; all for None.

    Parameters
    ----------
    findings : str, int, or sequence of these, optional
        Names, in any spelling, where the network names its outputs; or positions from 0.
    model : Module

    Raises
    ------
    ValueError
        If a name or a position is unknown, or there is none.

    Examples
    --------
    >>> from chexlib.models import CheXNet
    >>> model = CheXNet(growth_rate=12)
    >>> rows_of(["mass", "Infiltrate"], model), rows_of(13, model), len(rows_of(None, model))
    ([4, 3], [13], 14)
    """
    names = names_of(model)
    if findings is None:
        return list(range(len(names)))
    asked = [findings] if isinstance(findings, str | int) else list(findings)
    if not asked:
        raise ValueError("Expected at least one finding, got none. Leave it out for all.")
    known = {_plain(name): row for row, name in enumerate(names) if isinstance(name, str)}
    rows = []
    for one in asked:
        row = known.get(_plain(one), -1) if isinstance(one, str) else operator.index(one)
        if not 0 <= row < len(names):
            near = difflib.get_close_matches(str(one), known, n=1)
            raise ValueError(
                f"Expected a position from 0 to {len(names) - 1}, or one of the network's names of "
                f"its outputs ({', '.join(known) or 'it has none'}), got {one!r}."
                + (f" Did you mean {near[0]!r}?" if near else "")
            )
        rows.append(row)
    return rows


def _plain(name: str) -> str:
    """Return a name as it stands in FINDINGS, or as it is."""
    try:
        return normalise(name)
    except ValueError:
        return name


def densenet_of(model: nn.Module) -> nn.Module:
    """Return the DenseNet itself, whose ``features`` are named as torchvision's.

    Raises
    ------
    ValueError
        If it is none.
    """
    network = getattr(model, "densenet", model)
    if not hasattr(getattr(network, "features", None), "transition3"):
        raise ValueError(
            f"Expected a DenseNet for a method that looks at its blocks, got "
            f"{type(model).__name__}. Take cam, or a method of pixels, such as occlusion."
        )
    return network
