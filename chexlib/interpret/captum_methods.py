"""Captum's methods on CheXNet, for :func:`chexlib.interpret.attribute`.

Captum hooks modules and clones what passes them. A DenseNet applies its last ReLU in place and to
no module's output, so Grad-CAM gets a module to hook: an identity between features and head.
Methods of pixels get one channel, the grey film in [0, 1], whatever the network takes, so that
their noise and their blank squares are grey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import linear

from chexlib.interpret.inside import last_map
from chexlib.models.chexnet import CheXNet, check_films

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["grad_cam", "integrated_gradients", "occlusion", "smooth_grad", "to_grey"]


def to_grey(images: torch.Tensor) -> torch.Tensor:
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


class _Parts(nn.Module):
    """A network with a module between features and head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.between = model, nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = last_map(self.model, images)
        return linear(self.between(found.features).mean((2, 3)), found.weight, found.bias)


class _OfGrey(nn.Module):
    """A network as a function of one grey channel; others than CheXNet get as many as they had."""

    def __init__(self, model: nn.Module, images: torch.Tensor, *, noisy: bool = False) -> None:
        super().__init__()
        self.model, self.channels = model, images.shape[1]
        self.noisy = noisy and isinstance(model, CheXNet)  # noise leaves [0, 1]

    def forward(self, grey: torch.Tensor) -> torch.Tensor:
        if self.noisy:
            return self.model.densenet(self.model.normalised(grey))
        return self.model(grey.expand(-1, self.channels, -1, -1))


def grad_cam(
    model: CheXNet, images: torch.Tensor, rows: Sequence[int], *, relu: bool = True
) -> torch.Tensor:
    r"""Return Grad-CAM at the last feature map, after its ReLU.

    The gradient of a logit there is :math:`w_{fc} / hw` at every position, so this is the class
    activation map, cut at 0 and divided by its number of cells; a test holds it to that.
    """
    from captum.attr import LayerGradCam

    parts = _Parts(model)
    method = LayerGradCam(parts, parts.between)
    maps = [method.attribute(images, target=row, relu_attributions=relu) for row in rows]
    return torch.cat(maps, dim=1)


def integrated_gradients(
    model: CheXNet,
    images: torch.Tensor,
    rows: Sequence[int],
    *,
    steps: int = 32,
    baseline: float | None = None,
    batch_size: int = 8,
) -> torch.Tensor:
    """Return integrated gradients of the grey film.

    A map sums to the difference between the logit of the film and that of the baseline, up to the
    error of ``steps`` points of Gauss-Legendre quadrature. The baseline is a film of one grey
    value, by default the mean of the film itself.
    """
    from captum.attr import IntegratedGradients

    _from_one_up(steps=steps)
    grey = to_grey(images)
    method = IntegratedGradients(_OfGrey(model, images))
    blank = _blank(grey, baseline)
    maps = [
        method.attribute(
            grey,
            baselines=blank,
            target=row,
            n_steps=steps,
            internal_batch_size=max(batch_size, len(grey)),
        )
        for row in rows
    ]
    return torch.cat(maps, dim=1)


def smooth_grad(
    model: CheXNet,
    images: torch.Tensor,
    rows: Sequence[int],
    *,
    samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
    batch_size: int = 8,
) -> torch.Tensor:
    """Return the absolute mean gradient over noisy copies of the grey film.

    Absolute, since the sign of a gradient says whether a pixel should be brighter, not whether what
    is there speaks for the finding. Noise is normal, of ``noise`` times the range from black to
    white. Films of one batch share no noise; a film's noise depends on its place in the batch.
    """
    from captum.attr import NoiseTunnel, Saliency

    _from_one_up(samples=samples)
    if not noise > 0:
        raise ValueError(f"Expected noise above 0, got {noise}.")
    grey = to_grey(images)
    method = NoiseTunnel(Saliency(_OfGrey(model, images, noisy=True)))
    maps = []
    for row in rows:
        # Captum draws from the global generator: the caller's stays as it was.
        with torch.random.fork_rng(devices=[grey.device] if grey.is_cuda else []):
            torch.manual_seed(seed)
            found = method.attribute(
                grey,
                nt_samples=samples,
                nt_samples_batch_size=max(1, batch_size // len(grey)),
                stdevs=float(noise),
                target=row,
                abs=False,
            )
        maps.append(found.abs())
    return torch.cat(maps, dim=1)


@torch.no_grad()
def occlusion(
    model: CheXNet,
    images: torch.Tensor,
    rows: Sequence[int],
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: float | None = None,
    batch_size: int = 8,
) -> torch.Tensor:
    """Return what each logit loses when a square of the film is blank, mean over its squares.

    The square has a seventh of the film's side and moves by half of its own, unless said otherwise.
    All findings are read from the same passes.
    """
    from captum.attr import Occlusion

    grey = to_grey(images)
    side = max(1, min(grey.shape[2:]) // 7) if window is None else window
    step = max(1, side // 2) if stride is None else stride
    _from_one_up(window=side, stride=step)
    if side > min(grey.shape[2:]) or step > side:
        raise ValueError(
            f"Expected a window inside the film and a stride of at most the window, got a window "
            f"of {side} and a stride of {step} for {list(grey.shape[2:])} pixels."
        )
    chosen = list(rows)
    model_of_grey = _OfGrey(model, images)
    method = Occlusion(lambda film: model_of_grey(film)[:, chosen])
    maps = []
    for film, blank in zip(grey.split(1), _blank(grey, baseline).split(1), strict=True):
        # One film at a time: Captum then takes the logits for several outputs of that film.
        maps.append(
            method.attribute(
                film,
                sliding_window_shapes=(1, side, side),
                strides=(1, step, step),
                baselines=blank,
                perturbations_per_eval=batch_size,
            )
        )
    return torch.stack(maps)[:, :, 0]


def _blank(grey: torch.Tensor, value: float | None) -> torch.Tensor:
    """Return films of one grey value: the one given, or each film's mean."""
    if value is None:
        return grey.mean((1, 2, 3), keepdim=True).expand_as(grey)
    if not 0 <= value <= 1:
        raise ValueError(f"Expected a baseline from 0 (black) to 1 (white), got {value}.")
    return torch.full_like(grey, value)


def _from_one_up(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"Expected {name} from 1 up, got {value}.")
