"""CheXNet: torchvision's DenseNet with a linear head of 14 logits.

References
----------
Rajpurkar et al., CheXNet, arXiv:1711.05225 (2017). Huang et al., Densely connected convolutional
networks, CVPR 2017, Table 1 (the architectures).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, relu
from torchvision.models import DenseNet

from chexlib.data.batches import IMAGENET_MEAN, IMAGENET_STD
from chexlib.findings import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ARCHITECTURES", "CheXNet", "evaluating"]

# Layers of each dense block, growth rate, channels of the first convolution.
ARCHITECTURES: dict[str, tuple[tuple[int, int, int, int], int, int]] = {
    "densenet121": ((6, 12, 24, 16), 32, 64),
    "densenet169": ((6, 12, 32, 32), 32, 64),
    "densenet201": ((6, 12, 48, 32), 32, 64),
}

SMALLEST = 29  # px a side


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Use a network as for testing, with constant parameters; afterwards it is as it was.

    Batch normalisation then uses the statistics of training and does not change them, and a
    gradient with respect to an image does not pay for those of seven million parameters.
    """
    modes = [(module, module.training) for module in model.modules()]
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in learns:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learns:
            parameter.requires_grad_(True)
        for module, training in modes:  # each had its own: a part may be frozen
            module.training = training


class CheXNet(nn.Module):
    """A DenseNet that gives a logit for each of the 14 findings.

    Parameters
    ----------
    arch : {"densenet121", "densenet169", "densenet201"}
    growth_rate : int, optional
        Channels that each layer adds; by default the architecture's own, 32. The first convolution
        has twice as many. With 12, DenseNet-121 has 1.0 million parameters and trains on a CPU.
    weights : "imagenet" or path, optional
        Start from torchvision's ImageNet weights, fetched by torchvision or from a file of them;
        the head starts at random. Random by default. For a trained CheXNet, see
        :func:`chexlib.models.load_checkpoint`.
    window : (float, float), optional
        For a network that was trained on one grey channel: the values it expects of black and of
        white, such as (-1024, 1024). Images are given to it all the same as to any other, as
        three normalised channels, and are converted.

    Attributes
    ----------
    findings : tuple of str
        The order of the logits: :data:`chexlib.findings.FINDINGS`.
    densenet : torchvision.models.DenseNet
        The network itself.
    provenance : dict
        Where the weights are from; filled by ``load_checkpoint``.

    Raises
    ------
    ValueError
        If an option is unknown or does not fit.
    RuntimeError
        If ImageNet weights cannot be fetched; it says where to put the file by hand.

    Notes
    -----
    The logits are ``classifier(mean over positions of features)``: the head is linear and comes
    after the mean, so that it can be applied at every position instead (class activation maps).

    Examples
    --------
    >>> model = CheXNet(growth_rate=12).eval()
    >>> model(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 14])
    >>> model.features(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 384, 2, 2])
    """

    findings = FINDINGS

    def __init__(
        self,
        *,
        arch: str = "densenet121",
        growth_rate: int | None = None,
        weights: str | Path | None = None,
        window: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        if arch not in ARCHITECTURES:
            raise ValueError(f"Expected an architecture among {list(ARCHITECTURES)}, got {arch!r}.")
        blocks, growth, first = ARCHITECTURES[arch]
        if growth_rate is not None:
            if growth_rate < 1:
                raise ValueError(f"Expected a growth rate from 1 up, got {growth_rate}.")
            growth, first = growth_rate, 2 * growth_rate
        if weights is not None and (growth_rate not in (None, 32) or window is not None):
            raise ValueError(
                "Expected ImageNet weights with three channels and the architecture's own growth "
                f"rate, got growth_rate={growth_rate} and window={window}."
            )
        self.arch, self.growth_rate, self.window = arch, growth, window
        self.provenance: dict = {"format": "random initialisation"}
        self.densenet = DenseNet(growth, blocks, first, num_classes=len(FINDINGS))
        if window is not None:
            self.densenet.features.conv0 = nn.Conv2d(1, first, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.densenet.features.conv0.weight)
        if weights is not None:
            from chexlib.models.imagenet import load_imagenet

            self.provenance = load_imagenet(self.densenet, arch, weights)

    @property
    def classifier(self) -> nn.Linear:
        """The head: weight [14, C], bias [14]."""
        return self.densenet.classifier

    @property
    def options(self) -> dict:
        """The arguments that make a network of this shape."""
        window = None if self.window is None else list(self.window)
        return {"arch": self.arch, "growth_rate": self.growth_rate, "window": window}

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the last feature map, after batch normalisation and ReLU.

        Parameters
        ----------
        images : Tensor float32 [B, 3, H, W]
            Grey films as three channels, normalised with ImageNet's mean and standard deviation, as
            :class:`chexlib.data.Batcher` gives them. H and W are at least 29.

        Returns
        -------
        Tensor float32 [B, C, h, w]
            From 0 up; h is ``(H + 3) // 32`` and w is ``(W + 3) // 32``: 7 for 224.

        Raises
        ------
        ValueError
            If the shape is another one.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"Expected images [B, 3, H, W], normalised, got {list(images.shape)}. "
                "chexlib.data.Batcher makes them of grey films."
            )
        if min(images.shape[2:]) < SMALLEST:
            raise ValueError(
                f"Expected images of at least {SMALLEST} px a side, got {list(images.shape)}. "
                "Make larger ones: five halvings leave nothing of these."
            )
        if self.window is not None:
            # Here and not in the weights: zeros around an image mean the value 0 of this scale.
            black, white = self.window
            grey = images[:, :1] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
            images = black + (white - black) * grey
        return relu(self.densenet.features(images), inplace=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, 14] of images [B, 3, H, W]; see :meth:`features`."""
        pooled = adaptive_avg_pool2d(self.features(images), 1)
        return self.densenet.classifier(pooled.flatten(1))

    @torch.no_grad()
    def predict_proba(self, images: torch.Tensor) -> torch.Tensor:
        """Return probabilities [B, 14] of images [B, 3, H, W], with the network as for testing.

        Batch normalisation uses the statistics of training, whatever mode the network is in; the
        mode of every layer is as it was afterwards.
        """
        with evaluating(self):
            return self(images).sigmoid()

    def __repr__(self) -> str:
        """Name the architecture and its size, not its 430 parts; ``densenet`` shows them."""
        n = sum(p.numel() for p in self.parameters())
        return f"CheXNet({self.arch}, growth rate {self.growth_rate}, {n:,} parameters)"
