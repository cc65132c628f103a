r"""Class activation maps: what each position of the last feature map adds to a logit.

The head of CheXNet is linear and comes after a mean over positions, so the two can change places:

.. math::

    z_f = b_f + \sum_c w_{fc} \frac{1}{hw} \sum_{ij} A_{cij}
        = b_f + \frac{1}{hw} \sum_{ij} M_{fij},
    \qquad M_{fij} = \sum_c w_{fc} A_{cij}.

:math:`A` is the last feature map after batch normalisation and ReLU, :math:`M_f` the map of finding
f. It is in units of the logit and leaves the bias out: **mean of the map + bias = logit**. That is
so for every network whose head is a linear layer of such a mean: torchvision's and
torchxrayvision's DenseNets and ResNets, EfficientNets, and others, which are taken as they are.

ConvNeXt normalises the mean before its head. Given the mean :math:`\mu` and the deviation
:math:`\sigma` that it then finds over the channels of a film, that is linear as well, and
:math:`A_{cij}` is :math:`\gamma_c (A_{cij} - \mu) / \sigma + \beta_c`: the identity holds, with
other weights for each film. Each pass of any network is held to it, to 1e-4; one of which it is not
true is refused.

References
----------
Zhou et al., Learning deep features for discriminative localization, CVPR 2016, equations 1 and 2.
"""

from __future__ import annotations

import difflib
import operator
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from chexlib.findings import own_name
from chexlib.interpret.heatmap import Grid
from chexlib.models.chexnet import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from chexlib.data.batches import Batcher
    from chexlib.models.chexnet import CheXNet

MEANS = {functional.adaptive_avg_pool2d, functional.avg_pool2d, torch.mean, torch.Tensor.mean}
# Layers that see windows of a map, and their arguments in order.
WINDOWS = {
    functional.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation"),
    functional.max_pool2d: ("input", "kernel_size", "stride", "padding", "dilation"),
    functional.avg_pool2d: ("input", "kernel_size", "stride", "padding"),
}
TOLERANCE = 1e-4


def class_activation_maps(model: CheXNet, images: torch.Tensor) -> torch.Tensor:
    """Return the maps of all findings, from one forward pass.

    Parameters
    ----------
    model : CheXNet, or another network
        Used as for testing, whatever mode it is in. torchvision's and torchxrayvision's will do,
        with any number F of outputs, and so will others whose head is a linear layer of the mean of
        a map.
    images : Tensor float32 [B, 1 or 3, H, W]
        As the network takes them; as :class:`chexlib.data.Batcher` gives them for a CheXNet. Larger
        films than those of training give finer maps, of a network that sees bones larger than it
        learned.

    Returns
    -------
    Tensor float32 [B, F, h, w]
        ``maps.mean((2, 3)) + model.classifier.bias`` are the logits. h and w are H and W divided by
        32: 7 for 224 px. Where the cells lie in the image, :func:`chexlib.interpret.attribute`
        says, with the same maps.

    Raises
    ------
    ValueError
        If the network has no such maps, with the reason.

    Examples
    --------
    >>> from chexlib.models import CheXNet
    >>> model, images = CheXNet(growth_rate=12).eval(), torch.rand(2, 1, 96, 96)
    >>> maps = class_activation_maps(model, images)
    >>> maps.shape
    torch.Size([2, 14, 3, 3])
    >>> torch.allclose(maps.mean((2, 3)) + model.classifier.bias, model(images), atol=1e-5)
    True
    """
    return maps_and_logits(model, images)[0]


@torch.no_grad()
def maps_and_logits(model: CheXNet, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return maps and logits of one forward pass; see :func:`class_activation_maps`.

    All maps cost less than a thousandth of the pass, so this replaces ``model(images)`` where both
    are wanted.

    Returns
    -------
    maps : Tensor float32 [B, F, h, w]
        In units of the logit, without the bias; any sign.
    logits : Tensor float32 [B, F]
        The network's own, which are ``maps.mean((2, 3)) + bias``.
    """
    with evaluating(model):
        found = last_map(model, images)
    return found.maps, found.logits.float()


def maps_of(
    model: CheXNet,
    batcher: Batcher,
    rows: ArrayLike,
    *,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return maps and logits of many films, as arrays.

    Parameters
    ----------
    model : CheXNet
    batcher : Batcher
        Without augmentation; it sets the size of the films.
    rows : array_like of int [N]
        Films of the batcher.
    batch_size : int
        Films at once; memory for the network does not grow beyond it.
    progress : callable, optional
        Called with the numbers of films done and of all.

    Returns
    -------
    maps : float32 [N, F, h, w]
    logits : float32 [N, F]

    Raises
    ------
    ValueError
        If there is no film, or the batch size is below 1.

    Examples
    --------
    >>> from chexlib.data import Batcher
    >>> from chexlib.models import CheXNet
    >>> films = np.zeros((5, 64, 64), np.uint8)
    >>> maps, logits = maps_of(CheXNet(growth_rate=12), Batcher(films), range(5), batch_size=2)
    >>> maps.shape, logits.shape
    ((5, 14, 2, 2), (5, 14))
    """
    rows = np.asarray(rows)
    if not len(rows) or batch_size < 1:
        raise ValueError(
            f"Expected at least one film and a batch size from 1 up, got {len(rows)} films and "
            f"{batch_size}."
        )
    plain, parts, done = batcher.without_augmentation(), [], 0
    for part in np.split(rows, range(batch_size, len(rows), batch_size)):
        parts.append([one.cpu().numpy() for one in maps_and_logits(model, plain(part))])
        done += len(part)
        if progress:
            progress(done, len(rows))
    maps, logits = map(np.concatenate, zip(*parts, strict=True))
    return maps, logits


class LastMap(NamedTuple):
    """What a network's head was given in a pass, before its mean over positions, and gave.

    Attributes
    ----------
    features : Tensor [B, C, h, w]
        Of a ConvNeXt, normalised as its mean is.
    weight : Tensor [F, C]
    bias : Tensor [F] or None
        Of the head.
    logits : Tensor [B, F]
        The network's own.
    grids : mapping of Tensor to (Grid, sides)
        Where the cells of the pass's maps lie, as far as that is known.
    """

    features: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    logits: torch.Tensor
    grids: MutableMapping[torch.Tensor, tuple[Grid, torch.Size]]

    def grid(self, features: torch.Tensor | None = None) -> Grid | None:
        """Return where the cells of the last map lie, or of another one of the pass, if known."""
        return self.grids.get(self.features if features is None else features, (None, ()))[0]

    @property
    def maps(self) -> torch.Tensor:
        """The head at each position, without its bias: float32 [B, F, h, w]."""
        # Not in half precision, whatever the surroundings.
        with torch.autocast(self.features.device.type, enabled=False):
            return torch.einsum("fc,bchw->bfhw", self.weight.float(), self.features.float())


class _Watch(TorchFunctionMode):
    """Keep the last linear step of a pass, and the last map of which the mean was taken.

    Functions are watched and not modules: a DenseNet's last ReLU and its mean are no modules. Where
    the cells of a map lie follows it through the pass; it is lost where the map changes its sides
    by other means than windows.
    """

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.head: tuple | None = None  # what it was given, weight, bias, result
        self.map: torch.Tensor | None = None
        self.norm: dict[str, Any] | None = None  # of its mean, before the head
        self.grids = WeakTensorKeyDictionary({images: (Grid(0.5, 1), images.shape[2:])})

    def __torch_function__(
        self, function: Any, _types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if isinstance(result, torch.Tensor):
            self._place(function, args, kwargs, result)
        if function is functional.linear:
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            self.head = (*args[:2], bias, result)
        elif function in MEANS and args and args[0].ndim == 4:
            given = args[0]
            if result.numel() == len(given) * given.shape[1]:  # one value a channel is left
                self.map, self.norm = given, None
        elif function is functional.layer_norm and self.map is not None:
            self.norm = kwargs if result.numel() == self.map[:, :, 0, 0].numel() else None
        return result

    def _place(self, function: Any, args: tuple, kwargs: dict, result: torch.Tensor) -> None:
        given = chain.from_iterable(a if isinstance(a, list | tuple) else [a] for a in args)
        known = {self.grids[one] for one in given if one in self.grids}
        if len(known) != 1:
            return
        [(grid, sides)] = known
        if function in WINDOWS:
            given = dict(zip(WINDOWS[function], args, strict=False)) | kwargs
            convolution = function is functional.conv2d
            kernel = given["weight"].shape[2:] if convolution else given["kernel_size"]
            stride = given.get("stride") or (1 if convolution else kernel)
            grid = grid.behind(kernel, stride, given.get("padding", 0), given.get("dilation", 1))
            sides = result.shape[2:]
        if grid is not None and sides in (result.shape[-2:], result.shape[1:3]):
            self.grids[result] = grid, sides


def last_map(model: nn.Module, images: torch.Tensor) -> LastMap:
    """Run a network once, and return what its head applies to the mean of.

    Any network will do whose logits are a linear layer of the mean over positions of a map, or of
    that mean normalised over its channels. What is found is held to that on the images given: mean
    of the map + bias = logit.

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

    watch = _Watch(images)
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
    if watch.norm is not None:
        with watch:  # which sees where the cells lie
            features = _normalised(features, watch.norm)
    found = LastMap(features, weight, bias, logits, watch.grids)
    with torch.no_grad():
        means = found.maps.mean((2, 3)) + (0 if bias is None else bias.float())
        apart = float((means - logits.float()).abs().max())
        scale = max(1.0, float(logits.abs().max()))
    # Half precision rounds more than the tolerance.
    if not apart <= scale * max(TOLERANCE, 16 * torch.finfo(logits.dtype).eps):
        raise refused(f"mean of the map + bias and the logit differ by up to {apart:.3g}")
    return found


def _normalised(features: torch.Tensor, norm: dict[str, Any]) -> torch.Tensor:
    """Return a map [B, C, h, w] normalised as the mean over its positions is, over channels."""
    means = features.mean((2, 3), keepdim=True)
    variance, mean = torch.var_mean(means, dim=1, correction=0, keepdim=True)
    found = (features - mean) / (variance + norm["eps"]).sqrt()
    found = found if norm["weight"] is None else found * norm["weight"][:, None, None]
    return found if norm["bias"] is None else found + norm["bias"][:, None, None]


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
    known = {own_name(name): row for row, name in enumerate(names) if isinstance(name, str)}
    rows = []
    for one in asked:
        row = known.get(own_name(one), -1) if isinstance(one, str) else operator.index(one)
        if not 0 <= row < len(names):
            near = difflib.get_close_matches(str(one), known, n=1)
            raise ValueError(
                f"Expected a position from 0 to {len(names) - 1}, or one of the network's names of "
                f"its outputs ({', '.join(known) or 'it has none'}), got {one!r}."
                + (f" Did you mean {near[0]!r}?" if near else "")
            )
        rows.append(row)
    return rows


def layers_of(model: nn.Module) -> nn.Module | None:
    """Return the layers of a DenseNet, named as torchvision's, or None of another network."""
    layers = getattr(getattr(model, "network", model), "features", None)
    return layers if hasattr(layers, "transition3") else None
