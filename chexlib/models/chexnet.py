"""CheXNet: torchvision's DenseNet with a linear head of 14 logits, and what an image costs it.

References
----------
Rajpurkar et al., CheXNet, arXiv:1711.05225 (2017). Huang et al., Densely connected convolutional
networks, CVPR 2017, Table 1 (the architectures).
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, relu
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import DenseNet, get_model_weights

from chexlib.findings import FINDINGS
from chexlib.models.weights import CheckpointError, Named, read_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

# Layers of each dense block, growth rate, channels of the first convolution.
ARCHITECTURES: dict[str, tuple[tuple[int, int, int, int], int, int]] = {
    "densenet121": ((6, 12, 24, 16), 32, 64),
    "densenet169": ((6, 12, 32, 32), 32, 64),
    "densenet201": ((6, 12, 48, 32), 32, 64),
}

SMALLEST = 29  # px a side
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
ROUNDING = 1e-3  # so far outside [0, 1] may a value be that was computed


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


def check_films(images: torch.Tensor, *, values: bool = True) -> None:
    """Refuse what is no batch of grey films [B, 1 or 3, H, W] in [0, 1].

    Raises
    ------
    ValueError
        If the shape is another one, or, with ``values``, one is not finite or not in [0, 1].
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"Expected images [B, 1 or 3, H, W] in [0, 1], got {list(images.shape)}. "
            "chexlib.data.Batcher makes them of grey films."
        )
    if not values or images.is_meta or not images.numel():
        return
    low, high = torch.aminmax(images.detach())
    if not bool((low >= -ROUNDING) & (high <= 1 + ROUNDING)):  # nor is NaN
        raise ValueError(
            f"Expected images from 0 (black) to 1 (white), got values from {float(low):.4g} to "
            f"{float(high):.4g}. Normalised input is no longer wanted: the network normalises by "
            "itself. Give films as chexlib.data.Batcher makes them, or grey values divided by "
            "their maximum."
        )


class CheXNet(nn.Module):
    """A DenseNet that gives a logit for each of the 14 findings, of grey films in [0, 1].

    Films are normalised here, with ImageNet's mean and standard deviation, and nowhere else.

    Parameters
    ----------
    arch : {"densenet121", "densenet169", "densenet201"}
    growth_rate : int, optional
        Channels that each layer adds; by default the architecture's own, 32. The first convolution
        has twice as many. With 12, DenseNet-121 has 1.0 million parameters and trains on a CPU.
    window : (float, float), optional
        For a network that was trained on one grey channel: the values it expects of black and of
        white, such as (-1024, 1024). Images are given to it all the same as to any other, in
        [0, 1], and are converted.

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

    Notes
    -----
    Weights are random. For a trained CheXNet see :func:`chexlib.models.load_checkpoint`; to train
    from ImageNet's weights, :meth:`from_imagenet`.

    The logits are ``classifier(mean over positions of features)``: the head is linear and comes
    after the mean, so that it can be applied at every position instead (class activation maps).

    Each batch is looked at for values outside [0, 1], but for two kinds of passes, where to look
    would cost speed: those of a compiled network, and those of training on a GPU.

    Examples
    --------
    >>> model = CheXNet(growth_rate=12).eval()
    >>> model(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 14])
    >>> model.features(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 384, 2, 2])
    """

    findings = FINDINGS

    def __init__(
        self,
        *,
        arch: str = "densenet121",
        growth_rate: int | None = None,
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
        self.arch, self.growth_rate, self.window = arch, growth, window
        self.provenance: dict = {"format": "random initialisation"}
        self.densenet = DenseNet(growth, blocks, first, num_classes=len(FINDINGS))
        # No part of checkpoints. On the CPU also where a network is built without values.
        mean, std = (torch.tensor(v, device="cpu") for v in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("_scale", (1 / std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_shift", (-mean / std).view(1, 3, 1, 1), persistent=False)
        if window is not None:
            self.densenet.features.conv0 = nn.Conv2d(1, first, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.densenet.features.conv0.weight)

    @classmethod
    def from_imagenet(
        cls, weights: str | Path = "imagenet", *, arch: str = "densenet121"
    ) -> CheXNet:
        """Return a network with ImageNet's weights in all but its head, which is random.

        Parameters
        ----------
        weights : "imagenet" or path
            torchvision's, from torch's own cache folder or fetched to it; or a file of them, under
            today's names or those of DenseNet's first release.
        arch : {"densenet121", "densenet169", "densenet201"}

        Raises
        ------
        RuntimeError
            If they cannot be fetched; it says where to put the file by hand.
        FileNotFoundError
            If the file is not there.
        ValueError
            If the architecture is unknown, the file is damaged or holds another network, or a file
            of torchvision's name has not torchvision's hash.
        """
        model = cls(arch=arch)
        url = get_model_weights(arch).IMAGENET1K_V1.url
        name = url.rsplit("/", 1)[1]
        # torchvision's names end in the first digits of the SHA-256.
        digits = re.fullmatch(r".+-([0-9a-f]{8,})\.pth", name)[1]
        path = Path(weights)
        if weights == "imagenet":
            path = Path(torch.hub.get_dir()) / "checkpoints" / name
            if not path.is_file():
                _fetch(url, path, digits)
        contents = read_weights(path)
        if path.name == name and not contents.sha256.startswith(digits):
            raise CheckpointError(
                f"Expected a file whose SHA-256 begins with {digits} at {path}, got "
                f"{contents.sha256}. Remove it and fetch {url} again."
            )
        found = Named(contents.tensors, f"{path} for {arch}")
        if found.outputs == len(FINDINGS):
            raise CheckpointError(
                f"Expected a network trained on ImageNet in {path}, got one with {len(FINDINGS)} "
                "outputs. For a trained CheXNet: chexlib.models.load_checkpoint(path)."
            )
        head = {f"classifier.{key}": v for key, v in model.classifier.state_dict().items()}
        found.state = {key: v for key, v in found.state.items() if key not in head}
        whole = model.densenet.state_dict()
        state, _ = found.account_for({key: v for key, v in whole.items() if key not in head})
        model.densenet.load_state_dict(state | head)
        model.provenance = {
            "format": "ImageNet, torchvision",
            "file": path.name,
            "sha256": contents.sha256,
        }
        return model

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
        images : Tensor float32 [B, 1 or 3, H, W]
            Grey films in [0, 1], as :class:`chexlib.data.Batcher` gives them. H and W are at least
            29.

        Returns
        -------
        Tensor float32 [B, C, h, w]
            From 0 up; h is ``(H + 3) // 32`` and w is ``(W + 3) // 32``: 7 for 224.

        Raises
        ------
        ValueError
            If the shape is another one, or values are not in [0, 1].
        """
        # A look at values is a wait for a GPU, and cannot be compiled.
        fast = torch.compiler.is_compiling() or (self.training and images.is_cuda)
        check_films(images, values=not fast)
        if min(images.shape[2:]) < SMALLEST:
            raise ValueError(
                f"Expected images of at least {SMALLEST} px a side, got {list(images.shape)}. "
                "Make larger ones: five halvings leave nothing of these."
            )
        return relu(self.densenet.features(self.normalised(images)), inplace=True)

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Return what ``densenet`` is given of images [B, 1 or 3, H, W], whatever their values."""
        if self.window is not None:
            # Here and not in the weights: zeros around an image mean the value 0 of this scale.
            black, white = self.window
            return black + (white - black) * images[:, :1]
        return torch.addcmul(self._shift, images, self._scale)  # one channel becomes three

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, 14] of images [B, 1 or 3, H, W] in [0, 1]; see :meth:`features`."""
        pooled = adaptive_avg_pool2d(self.features(images), 1)
        return self.densenet.classifier(pooled.flatten(1))

    @torch.no_grad()
    def predict_proba(self, images: torch.Tensor) -> torch.Tensor:
        """Return probabilities [B, 14] of images as for :meth:`features`, in testing mode.

        Batch normalisation uses the statistics of training, whatever mode the network is in; the
        mode of every layer is as it was afterwards.
        """
        with evaluating(self):
            return self(images).sigmoid()

    def __repr__(self) -> str:
        """Name the architecture and its size, not its 430 parts; ``densenet`` shows them."""
        n = sum(p.numel() for p in self.parameters())
        return f"CheXNet({self.arch}, growth rate {self.growth_rate}, {n:,} parameters)"


def _fetch(url: str, path: Path, digits: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digits, progress=False)
    # The network's failures, the disk's, a broken transfer, and torch's word for a wrong hash.
    except (OSError, HTTPException, RuntimeError) as error:
        raise RuntimeError(
            f"Expected to fetch ImageNet weights from {url}, got: {error}. Bring that file by "
            f"other means and pass weights='…/{path.name}', or put it at {path}; or train from "
            "random weights with weights=None."
        ) from error


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
