r"""Every method behind one call: class activation maps, and Captum's for comparison.

=========================  ================================================  ===========
method                     map                                               resolution
=========================  ================================================  ===========
``cam``                    what a position adds to the logit                 H/32, W/32
``gradcam``                the same, negative values cut, divided by hw      H/32, W/32
``layercam``               before dense block 4, what speaks for it          H/16, W/16
``fine``                   the two multiplied: hot in both                   H/16, W/16
``integrated_gradients``   what a pixel adds, from a blank film on           H, W
``smoothgrad``             size of the gradient, mean over noisy copies      H, W
``occlusion``              what the logit loses when a square is blank       H, W
``copied``                 the bug of many repositories                      H/32, W/32
=========================  ================================================  ===========

Methods that look at pixels see the grey film in one channel, whatever the network takes, so that
their noise and their blank squares are grey.

The last map of a 224 px film has 7 x 7 cells, each larger than most nodules. The one before dense
block 4 has 14 x 14. It does not lead to the logits by a linear step, so gradients say what each of
its positions adds (LayerCAM); and it knows less about findings. ``fine`` multiplies the two.

Grad-CAM++ is left out. Captum has none; the package that keeps one needs a second OpenCV; and it is
"practically equivalent to Grad-CAM with positive gradients" (Lerma and Lucas, arXiv:2205.10838). Of
this architecture that is the CAM computed with the positive weights of the head alone.

References
----------
Selvaraju et al., Grad-CAM, ICCV 2017. Jiang et al., LayerCAM, IEEE Transactions on Image Processing
30 (2021) 5875-5888, equations 6 to 8: the maps, and their combination by the maximum; that by the
geometric mean is this project's. Sundararajan et al., Axiomatic attribution for deep networks, ICML
2017. Smilkov et al., SmoothGrad, arXiv:1706.03825. Zeiler and Fergus, Visualizing and understanding
convolutional networks, ECCV 2014 (occlusion). Kokhlikyan et al., Captum, arXiv:2009.07896.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import linear, relu

from chexlib.interpret.cam import last_map, layers_of, maps_of, rows_of
from chexlib.interpret.heatmap import HeatMap
from chexlib.models.chexnet import CheXNet, check_films, evaluating

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from chexlib.data.batches import Batcher
    from chexlib.interpret.heatmap import Grid

    Made = tuple[Tensor, Grid | None]


def attribute(
    model: CheXNet,
    images: Tensor,
    findings: str | int | Sequence[str | int] | None = None,
    *,
    method: str = "cam",
    batch_size: int = 8,
    **options: Any,
) -> HeatMap:
    """Return heat maps of images for findings, by any method.

    Parameters
    ----------
    model : CheXNet, or another network
        Used as for testing, whatever mode it is in. Which others, see
        :func:`chexlib.interpret.class_activation_maps`; ``layercam``, ``fine`` and ``copied`` take
        DenseNets only. Methods of pixels say what a pixel does to whatever the network returns:
        logits, of a CheXNet.
    images : Tensor float32 [B, 1 or 3, H, W]
        Grey films as :class:`chexlib.data.Batcher` gives them.
    findings : str, int, or sequence of these, optional
        F of them, by name where the network names its outputs, or by position; all by default. All
        but ``cam`` and ``copied`` cost F times as much.
    method : str
        One of :data:`METHODS`; see :mod:`chexlib.interpret.attribution`.
    batch_size : int
        Images in the network at once, whatever B is and however many copies a method makes of each.
    **options
        Of the method: ``steps`` (integrated gradients); ``samples``, ``noise`` and ``seed``
        (SmoothGrad); ``window`` and ``stride`` (occlusion).

    Returns
    -------
    HeatMap
        Its ``values`` are a Tensor float32 [B, F, h, w] in the resolution of the method; its
        :meth:`~HeatMap.pixels` enlarges them, each cell to the place of the image that it sees.
        Those of a network that makes its maps smaller by other means than convolutions and pooling
        are taken to cover the image evenly.

    Raises
    ------
    ValueError
        If a name is unknown, an option is of another method or out of range, there is no image, or
        the network has no such maps.

    Examples
    --------
    >>> from chexlib.models import CheXNet
    >>> model, images = CheXNet(growth_rate=12), torch.zeros(1, 1, 64, 64)
    >>> attribute(model, images, "Mass", method="gradcam").values.shape
    torch.Size([1, 1, 2, 2])
    """
    known = _check(method, options)
    rows = rows_of(findings, model)
    if images.ndim != 4 or not len(images) or batch_size < 1:
        raise ValueError(
            f"Expected images [B, 1 or 3, H, W] and a batch size from 1 up, got "
            f"{list(images.shape)} and {batch_size}."
        )
    if "batch_size" in known:
        options["batch_size"] = batch_size
    with evaluating(model):
        made = [METHODS[method](model, p, rows, **options) for p in images.split(batch_size)]
    parts, grids = zip(*made, strict=True)
    maps = torch.cat([part.detach().float() for part in parts])
    return _placed(maps, grids[0], tuple(images.shape[2:]))


def case_maps(
    model: CheXNet,
    batcher: Batcher,
    rows: ArrayLike,
    findings: Sequence[str | int],
    *,
    method: str = "cam",
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> HeatMap:
    """Return one map for each of many pairs of a film and a finding.

    Parameters
    ----------
    model : CheXNet
    batcher : Batcher
        Without augmentation; it sets the size of the films.
    rows : array_like of int [M]
        The film of each pair, in the batcher.
    findings : sequence of str or int [M]
        The finding of each pair, by name or position.
    method, batch_size, **options
        As for :func:`attribute`.
    progress : callable, optional
        Called with the numbers of pairs (of ``cam``: films) done and of all.

    Returns
    -------
    HeatMap
        Its ``values`` are an ndarray float32 [M, h, w].

    Raises
    ------
    ValueError
        As :func:`attribute`, or if there are not as many findings as rows.
    """
    rows = np.asarray(rows)
    if len(rows) != len(findings) or not len(rows):
        raise ValueError(
            f"Expected a finding for each film, got {len(findings)} for {len(rows)} films."
        )
    _check(method, options)
    column, plain = np.array(rows_of(findings, model)), batcher.without_augmentation()
    if method == "cam":
        films, place = np.unique(rows, return_inverse=True)
        maps, _ = maps_of(model, batcher, films, batch_size=batch_size, progress=progress)
        with evaluating(model), torch.no_grad():
            grid = last_map(model, plain(films[:1])).grid()
        return _placed(maps[place, column], grid, batcher.size)
    order, maps = [], []
    for finding in np.unique(column):
        mine = np.flatnonzero(column == finding)
        for part in np.split(mine, range(batch_size, len(mine), batch_size)):
            given = {"method": method, "batch_size": batch_size, **options}
            found = attribute(model, plain(rows[part]), int(finding), **given)
            maps.extend(found.values[:, 0].cpu().numpy())
            order.extend(part)
            if progress:
                progress(len(order), len(rows))
    values, size = np.stack(maps)[np.argsort(order)], found.input_size and batcher.size
    return replace(found, values=values, input_size=size)


def _check(method: str, options: dict[str, Any]) -> set[str]:
    """Refuse a method or an option that is unknown; return those that the method has."""
    if method not in METHODS:
        raise ValueError(f"Expected a method among {sorted(METHODS)}, got {method!r}.")
    known = set(inspect.signature(METHODS[method]).parameters) - {"model", "images", "rows"}
    own = sorted(known - {"batch_size"})
    if not set(options) <= set(own):
        raise ValueError(
            f"Expected options of {method} ({', '.join(own) or 'it has none'}), got "
            f"{sorted(options)}."
        )
    for name, value in options.items():
        if name != "seed" and value is not None and not value > 0:
            raise ValueError(f"Expected {name} above 0, got {value}.")
    return known


def _placed(values: Any, grid: Grid | None, size: int | tuple[int, int]) -> HeatMap:
    return HeatMap(values) if grid is None else HeatMap(values, size, grid)


def to_grey(images: Tensor) -> Tensor:
    """Return grey films [B, 1, H, W] of images [B, 1 or 3, H, W] in [0, 1].

    Raises
    ------
    ValueError
        If a value is not in [0, 1], or three channels are not copies of one film.
    """
    check_films(images)
    grey = images[:, :1]
    if not torch.allclose(images, grey.expand_as(images), atol=1e-3):
        raise ValueError(
            "Expected grey films, got images whose three channels differ. chexlib.data.Batcher "
            "makes grey ones."
        )
    return grey.contiguous()


def blank(grey: Tensor) -> Tensor:
    """Return films of one grey value, each film's mean."""
    return grey.mean((1, 2, 3), keepdim=True).expand_as(grey)


def _of_grey(model: Module, images: Tensor, *, noisy: bool = False) -> Callable[[Tensor], Tensor]:
    """Return a network as a function of one grey channel, with as many copies as images have."""
    if noisy and isinstance(model, CheXNet):  # which refuses values outside [0, 1]
        return lambda grey: model.network(model.normalised(grey))
    return lambda grey: model(grey.expand(-1, images.shape[1], -1, -1))


@torch.no_grad()
def _cam(model: Module, images: Tensor, rows: Sequence[int]) -> Made:
    found = last_map(model, images)
    return found.maps[:, rows], found.grid()


def _grad_cam(model: Module, images: Tensor, rows: Sequence[int]) -> Made:
    """Return Grad-CAM at the last feature map, after its ReLU.

    The gradient of a logit there is the head's weight divided by the number of cells at every
    position, so this is the class activation map, cut at 0 and divided by their number; a test
    holds it to that.
    """
    with torch.no_grad():
        found = last_map(model, images)
    with torch.enable_grad():
        features = found.features.detach().requires_grad_()
        logits = linear(features.mean((2, 3)), found.weight, found.bias)
        weights = _gradients(logits, features, rows)
    maps = relu((weights.mean((3, 4), keepdim=True) * features[:, None]).sum(2))
    return maps, found.grid()


def _gradients(logits: Tensor, features: Tensor, rows: Sequence[int]) -> Tensor:
    """Return the gradients of logits [B, F, C, h, w] with respect to features [B, C, h, w]."""
    sums = [logits[:, row].sum() for row in rows]
    found = [torch.autograd.grad(one, features, retain_graph=True)[0] for one in sums]
    return torch.stack(found, dim=1)


def _layers(model: Module, images: Tensor, rows: Sequence[int]) -> tuple[HeatMap, HeatMap]:
    """Return LayerCAM before dense block 4 and the CAM, of findings."""
    kept = []

    def cut(_module: object, _inputs: object, output: Tensor) -> Tensor:
        """Begin the gradient here: what is before costs no more than a forward pass."""
        kept.append(output.detach().requires_grad_())
        return kept[0]

    hook = _blocks(model).transition3.relu.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            found = last_map(model, images)
    finally:
        hook.remove()
    maps = (relu(_gradients(found.logits, kept[0], rows)) * kept[0].detach()[:, None]).sum(2)
    size = tuple(images.shape[2:])
    fine = _placed(maps.float(), found.grid(kept[0]), size)
    return fine, _placed(found.maps.detach()[:, rows], found.grid(), size)


def _layer_cam(model: Module, images: Tensor, rows: Sequence[int]) -> Made:
    r"""Return :math:`\sum_c \max(\partial z_f / \partial A_{cij}, 0) A_{cij}` before block 4."""
    fine, _ = _layers(model, images, rows)
    return fine.values, fine.grid


def _fine(model: Module, images: Tensor, rows: Sequence[int]) -> Made:
    """Return maps in [0, 1] of twice the resolution: the geometric mean of LayerCAM and CAM.

    Both are cut at 0 and divided by their maximum; the CAM is interpolated to the cells of the
    finer.
    """
    fine, coarse = _layers(model, images, rows)
    coarse = replace(coarse, values=relu(coarse.values)).at(*fine.places(coarse.extent()))
    scaled = [
        maps / torch.where((highest := maps.amax((2, 3), keepdim=True)) > 0, highest, 1)
        for maps in (fine.values, coarse)
    ]
    return scaled[0].mul(scaled[1]).sqrt(), fine.grid


@torch.no_grad()
def _copied(model: Module, images: Tensor, rows: Sequence[int]) -> Made:
    r"""Return the "class activation map" that was copied from repository to repository.

    ``HeatmapGenerator`` of zoogzog/chexnet (``HeatmapGenerator.py``, commit bbe30b5) takes
    ``list(model.features.parameters())[-2]`` for the weights of the class. Those are the last
    parameters but one of the *features*, which do not include the head: the scales
    :math:`\gamma` of the final batch normalisation. So it is :math:`\sum_c \gamma_c N_c`, with the
    output :math:`N` of that normalisation before the ReLU, which the head never sees. No finding
    occurs in it: the map is the same for all 14, in units of nothing. Reported in issue 13 of that
    repository; here to be compared, not to be used.
    """
    kept, layers = [], _blocks(model)
    # A copy, since the network applies its ReLU in place.
    hook = layers.norm5.register_forward_hook(lambda _m, _i, output: kept.append(output.clone()))
    try:
        grid = last_map(model, images).grid()
    finally:
        hook.remove()
    scales = list(layers.parameters())[-2].detach()
    one = torch.einsum("c,bchw->bhw", scales.float(), kept[0].float())
    return one[:, None].repeat(1, len(rows), 1, 1), grid


def _blocks(model: Module) -> Module:
    layers = layers_of(model)
    if layers is None:
        raise ValueError(
            f"Expected a DenseNet for a method that looks at its blocks, got "
            f"{type(model).__name__}. Take cam, or a method of pixels, such as occlusion."
        )
    return layers


def _integrated_gradients(
    model: Module, images: Tensor, rows: Sequence[int], *, steps: int = 32, batch_size: int = 8
) -> Made:
    """Return integrated gradients of the grey film.

    A map sums to the difference between the logit of the film and that of a blank film of its mean
    grey, up to the error of ``steps`` points of Gauss-Legendre quadrature.
    """
    from captum.attr import IntegratedGradients

    grey = to_grey(images)
    method, at_once = IntegratedGradients(_of_grey(model, images)), max(batch_size, len(grey))
    given = {"baselines": blank(grey), "n_steps": steps, "internal_batch_size": at_once}
    return torch.cat([method.attribute(grey, target=row, **given) for row in rows], dim=1), None


def _smooth_grad(
    model: Module,
    images: Tensor,
    rows: Sequence[int],
    *,
    samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
    batch_size: int = 8,
) -> Made:
    """Return the absolute mean gradient over noisy copies of the grey film.

    Absolute, since the sign of a gradient says whether a pixel should be brighter, not whether what
    is there speaks for the finding. Noise is normal, of ``noise`` times the range from black to
    white. Films of one batch share no noise; a film's noise depends on its place in the batch.
    """
    from captum.attr import NoiseTunnel, Saliency

    grey = to_grey(images)
    method = NoiseTunnel(Saliency(_of_grey(model, images, noisy=True)))
    given = {"nt_samples": samples, "nt_samples_batch_size": max(1, batch_size // len(grey))}
    given |= {"stdevs": float(noise), "abs": False}
    maps = []
    for row in rows:
        # Captum draws from the global generator: the caller's stays as it was.
        with torch.random.fork_rng(devices=[grey.device] if grey.is_cuda else []):
            torch.manual_seed(seed)
            maps.append(method.attribute(grey, target=row, **given).abs())
    return torch.cat(maps, dim=1), None


@torch.no_grad()
def _occlusion(
    model: Module,
    images: Tensor,
    rows: Sequence[int],
    *,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
) -> Made:
    """Return what each logit loses when a square of the film is blank, mean over its squares.

    The square has a seventh of the film's side and moves by half of its own, unless said otherwise.
    All findings are read from the same passes.
    """
    from captum.attr import Occlusion

    grey = to_grey(images)
    side = max(1, min(grey.shape[2:]) // 7) if window is None else window
    step = max(1, side // 2) if stride is None else stride
    if side > min(grey.shape[2:]) or step > side:
        raise ValueError(
            f"Expected a window inside the film and a stride of at most the window, got a window "
            f"of {side} and a stride of {step} for {list(grey.shape[2:])} pixels."
        )
    of_grey = _of_grey(model, images)
    method = Occlusion(lambda film: of_grey(film)[:, rows])
    given = {"sliding_window_shapes": (1, side, side), "strides": (1, step, step)}
    given["perturbations_per_eval"] = batch_size
    # One film at a time: Captum then takes the logits for several outputs of that film.
    pairs = zip(grey.split(1), blank(grey).split(1), strict=True)
    maps = [method.attribute(film, baselines=ground, **given) for film, ground in pairs]
    return torch.stack(maps)[:, :, 0], None


METHODS: dict[str, Callable[..., Made]] = {
    "cam": _cam,
    "gradcam": _grad_cam,
    "layercam": _layer_cam,
    "fine": _fine,
    "integrated_gradients": _integrated_gradients,
    "smoothgrad": _smooth_grad,
    "occlusion": _occlusion,
    "copied": _copied,
}
"""Ways to make maps, by name.

Each is a function of model, images [B, C, H, W] and rows of the head [F], with the method's own
options, to maps [B, F, h, w] and their grid: None for maps in pixels, or where it is not known.
"""
