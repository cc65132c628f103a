r"""Class activation maps: what each position of the last feature map adds to a logit.

The head of CheXNet is linear and comes after a mean over positions, so the two can change places:

.. math::

    z_f = b_f + \sum_c w_{fc} \frac{1}{hw} \sum_{ij} A_{cij}
        = b_f + \frac{1}{hw} \sum_{ij} M_{fij},
    \qquad M_{fij} = \sum_c w_{fc} A_{cij}.

:math:`A` is the last feature map after batch normalisation and ReLU, :math:`M_f` the map of finding
f. It is in units of the logit and leaves the bias out: **mean of the map + bias = logit**. That is
so for every network whose head is a linear layer of such a mean, and the DenseNets of torchvision
and torchxrayvision are taken as they are. Each pass is held to it, to 1e-4; a network of which it
is not true is refused.

References
----------
Zhou et al., Learning deep features for discriminative localization, CVPR 2016, equations 1 and 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from chexlib.interpret.inside import last_map
from chexlib.models.chexnet import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from chexlib.data.batches import Batcher
    from chexlib.models.chexnet import CheXNet

__all__ = ["Maps", "class_activation_maps", "maps_and_logits", "maps_of"]


class Maps(NamedTuple):
    """Maps of a batch with the logits that they sum to.

    Attributes
    ----------
    maps : Tensor float32 [B, 14, h, w]
        In units of the logit, without the bias; any sign. For somebody else's network, one for each
        of its outputs.
    logits : Tensor float32 [B, 14]
        The network's own, which are ``maps.mean((2, 3)) + bias``.
    """

    maps: torch.Tensor
    logits: torch.Tensor


def class_activation_maps(model: CheXNet, images: torch.Tensor) -> torch.Tensor:
    """Return the maps of all 14 findings, from one forward pass.

    Parameters
    ----------
    model : CheXNet, or another network
        Used as for testing, whatever mode it is in. torchvision's and torchxrayvision's DenseNets
        will do, with any number F of outputs, and so will others whose head is a linear layer of
        the mean of a map.
    images : Tensor float32 [B, 1 or 3, H, W]
        As the network takes them; as :class:`chexlib.data.Batcher` gives them for a CheXNet. Larger
        films than those of training give finer maps, of a network that sees bones larger than it
        learned.

    Returns
    -------
    Tensor float32 [B, 14, h, w]
        ``maps.mean((2, 3)) + model.classifier.bias`` are the logits. h and w are H and W divided by
        32: 7 for 224 px. For the place of cells in the image see
        :func:`chexlib.interpret.upsample`, which knows DenseNets: leave its ``input_size`` out for
        the maps of another network.

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
    return maps_and_logits(model, images).maps


@torch.no_grad()
def maps_and_logits(model: CheXNet, images: torch.Tensor) -> Maps:
    """Return maps and logits of one forward pass; see :func:`class_activation_maps`.

    All maps cost less than a thousandth of the pass, so this replaces ``model(images)`` where both
    are wanted.

    Returns
    -------
    Maps
        A pair ``(maps, logits)``.
    """
    with evaluating(model):
        found = last_map(model, images)
    return Maps(found.maps, found.logits.float())


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
    maps : float32 [N, 14, h, w]
    logits : float32 [N, 14]

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
    plain = batcher.without_augmentation()
    maps: NDArray[np.float32] | None = None
    logits: NDArray[np.float32] | None = None
    for start in range(0, len(rows), batch_size):
        part = slice(start, min(start + batch_size, len(rows)))
        found = maps_and_logits(model, plain(rows[part]))
        if maps is None:
            maps, logits = (np.empty((len(rows), *one.shape[1:]), np.float32) for one in found)
        maps[part], logits[part] = found.maps.cpu().numpy(), found.logits.cpu().numpy()
        if progress:
            progress(part.stop, len(rows))
    return maps, logits
