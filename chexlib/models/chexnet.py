"""CheXNet: a network of torchvision with a logit for each finding, and what an image costs it.

References
----------
Rajpurkar et al., CheXNet, arXiv:1711.05225 (2017). Huang et al., Densely connected convolutional
networks, CVPR 2017, Table 1 (the architectures).
"""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import relu
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import DenseNet, get_model, get_model_weights

from chexlib.findings import FINDINGS, own_name
from chexlib.models.architectures import ARCHITECTURES, DENSE
from chexlib.models.weights import CheckpointError, Named, read_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


def names_of_findings(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a network's outputs, each as :func:`chexlib.findings.own_name` has it.

    Raises
    ------
    ValueError
        If there is none, one is empty, or two are the same.
    """
    found = () if isinstance(names, str) else tuple(own_name(name) for name in names)
    if not found or not all(found) or len(set(found)) < len(found):
        raise ValueError(
            f"Expected a sequence of names of findings, from one up, each once, got {names!r}."
        )
    return found


@cache
def _keep_memory() -> None:
    """Let layers use again what earlier ones freed, instead of asking the system for each anew.

    By default glibc maps large arrays one by one and trims its heap, so that every layer's output
    is faulted in page by page. Other C libraries have no such setting.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, bytes
        mallopt(option, 2**31 - 1)


class CheXNet(nn.Module):
    """A network of torchvision that gives a logit for each finding, of grey films in [0, 1].

    Films are normalised here, with ImageNet's mean and standard deviation, and nowhere else.

    Parameters
    ----------
    arch : str
        One of :data:`chexlib.models.ARCHITECTURES`: torchvision's DenseNets, ResNets, ConvNeXts and
        EfficientNets. CheXNet's own is ``densenet121``.
    findings : sequence of str
        F of them, the names of the logits in order; any names. By default CheXNet's 14.
    growth_rate : int, optional
        Of a DenseNet, the channels that each layer adds; by default the architecture's own, 32. The
        first convolution has twice as many. With 12, DenseNet-121 has 1.0 million parameters and
        trains on a CPU.
    window : (float, float), optional
        For a network that was trained on one grey channel: the values it expects of black and of
        white, such as (-1024, 1024). Images are given to it all the same as to any other, in
        [0, 1], and are converted.

    Attributes
    ----------
    findings : tuple of str
        As :func:`chexlib.findings.own_name` has them.
    network : Module
        torchvision's own.
    smallest : int
        Pixels a side that an image must have.
    provenance : dict
        Where the weights are from; filled by ``load_checkpoint``.

    Raises
    ------
    ValueError
        If an option is unknown or does not fit.

    Notes
    -----
    Weights are random. For a trained CheXNet see :func:`chexlib.models.load_checkpoint`; to train
    from ImageNet's weights, :meth:`from_imagenet`; for other findings, :meth:`from_network`.

    The logits are ``classifier(mean over positions of features)``: the head is linear and comes
    after the mean, so that it can be applied at every position instead (class activation maps).
    ConvNeXt normalises in between. While EfficientNet and ConvNeXt train, they leave out parts at
    random, by torch's own generator.

    On Linux the first network tells the C library to keep the memory that layers free
    (``mallopt(3)``), unless a ``MALLOC_*`` variable of the environment is set: on a CPU a large
    batch takes about half the time, and no more memory.

    Each batch is looked at for values outside [0, 1], but for two kinds of passes, where to look
    would cost speed: those of a compiled network, and those of training on a GPU.

    Examples
    --------
    >>> model = CheXNet(growth_rate=12).eval()
    >>> model(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 14])
    >>> model.features(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 384, 2, 2])
    >>> CheXNet(arch="resnet18", findings=["Rib fracture", "Mass"])
    CheXNet(resnet18, 2 findings, 11,177,538 parameters)
    """

    def __init__(
        self,
        *,
        arch: str = "densenet121",
        findings: Sequence[str] = FINDINGS,
        growth_rate: int | None = None,
        window: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        _keep_memory()
        if arch not in ARCHITECTURES:
            raise ValueError(f"Expected an architecture among {list(ARCHITECTURES)}, got {arch!r}.")
        if growth_rate is not None and (growth_rate < 1 or arch not in DENSE):
            raise ValueError(
                f"Expected a growth rate from 1 up, of a DenseNet, got {growth_rate} for {arch}."
            )
        self.findings = names_of_findings(findings)
        if arch in DENSE:
            blocks, own = DENSE[arch]
            growth_rate = own if growth_rate is None else growth_rate
            shape = (growth_rate, blocks, 2 * growth_rate)
            self.network = DenseNet(*shape, num_classes=len(self.findings))
        else:
            self.network = get_model(arch, weights=None, num_classes=len(self.findings))
        self.arch, self.growth_rate, self.window = arch, growth_rate, window
        self.smallest = max(get_model_weights(arch).IMAGENET1K_V1.meta["min_size"])
        self.provenance: dict = {"format": "random initialisation"}
        # No part of checkpoints. On the CPU also where a network is built without values.
        mean, std = (torch.tensor(v, device="cpu") for v in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("_scale", (1 / std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_shift", (-mean / std).view(1, 3, 1, 1), persistent=False)
        if window is not None:
            parts = self.network.named_modules()
            name, old = next(part for part in parts if isinstance(part[1], nn.Conv2d))
            shape = {"stride": old.stride, "padding": old.padding, "bias": old.bias is not None}
            stem = nn.Conv2d(1, old.out_channels, old.kernel_size, **shape)
            nn.init.kaiming_normal_(stem.weight)
            self.network.set_submodule(name, stem)

    @classmethod
    def from_imagenet(
        cls,
        weights: str | Path = "imagenet",
        *,
        arch: str = "densenet121",
        findings: Sequence[str] = FINDINGS,
    ) -> CheXNet:
        """Return a network with ImageNet's weights in all but its head, which is random.

        Parameters
        ----------
        weights : "imagenet" or path
            torchvision's first, from torch's own cache folder or fetched to it; or a file of them,
            under today's names or those of DenseNet's first release.
        arch, findings : str, sequence of str
            As for :class:`CheXNet`.

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
        model = cls(arch=arch, findings=findings)
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
        found = Named(contents.tensors, path, arch=arch)
        if found.outputs not in (None, 1000):
            raise CheckpointError(
                f"Expected a network trained on ImageNet in {path}, got one with {found.outputs} "
                "outputs. For a trained CheXNet: chexlib.models.load_checkpoint(path)."
            )
        head = {f"{model.head}.{key}": v for key, v in model.classifier.state_dict().items()}
        found.state = {key: v for key, v in found.state.items() if key not in head}
        whole = model.network.state_dict()
        state, _ = found.account_for({key: v for key, v in whole.items() if key not in head})
        model.network.load_state_dict(state | head)
        model.provenance = {
            "format": "ImageNet, torchvision",
            "file": path.name,
            "sha256": contents.sha256,
        }
        return model

    @classmethod
    def from_network(cls, other: CheXNet, *, findings: Sequence[str]) -> CheXNet:
        """Return a network with another's weights and a head for other findings.

        Parameters
        ----------
        other : CheXNet
            Left as it is.
        findings : sequence of str
            Rows of the head for findings that ``other`` has are its own; those of others are
            random.

        Returns
        -------
        CheXNet
            In training mode, on the CPU. Its ``provenance`` is the other's, with a note.

        Raises
        ------
        ValueError
            If the names do not do for findings.
        """
        model = cls(**other.options, findings=findings)
        kept = [finding for finding in model.findings if finding in other.findings]
        state = other.network.state_dict()
        for key, drawn in model.classifier.state_dict().items():
            old = state[f"{model.head}.{key}"]
            for finding in kept:
                drawn[model.findings.index(finding)] = old[other.findings.index(finding)]
            state[f"{model.head}.{key}"] = drawn
        model.network.load_state_dict(state)
        note = f"a head for {', '.join(model.findings)}, random but for {', '.join(kept) or 'none'}"
        notes = [*other.provenance.get("notes", []), note]
        model.provenance = {**other.provenance, "notes": notes}
        return model

    @property
    def head(self) -> str:
        """Where in ``network`` the classifier is, such as ``classifier`` or ``fc``."""
        parts = self.network.named_modules()
        return [name for name, part in parts if isinstance(part, nn.Linear)][-1]

    @property
    def classifier(self) -> nn.Linear:
        """The head: weight [F, C], bias [F]."""
        return self.network.get_submodule(self.head)

    @property
    def options(self) -> dict:
        """The arguments that, with ``findings``, make a network of this shape."""
        window = None if self.window is None else list(self.window)
        return {"arch": self.arch, "growth_rate": self.growth_rate, "window": window}

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the last feature map, of which the mean is taken; a DenseNet's after its ReLU.

        Parameters
        ----------
        images : Tensor float32 [B, 1 or 3, H, W]
            Grey films in [0, 1], as :class:`chexlib.data.Batcher` gives them. H and W are at least
            ``smallest``, 29 for a DenseNet.

        Returns
        -------
        Tensor float32 [B, C, h, w]
            h and w are H and W divided by 32: of a DenseNet ``(H + 3) // 32``, 7 for 224.

        Raises
        ------
        ValueError
            If the shape is another one, or values are not in [0, 1].
        """
        given = self._taken(images)
        for name, part in self.network.named_children():
            if name in ("avgpool", "classifier"):
                break
            given = part(given)
        return relu(given, inplace=True) if isinstance(self.network, DenseNet) else given

    def _taken(self, images: torch.Tensor) -> torch.Tensor:
        """Refuse what is no batch of films; return what ``network`` is given of them."""
        # A look at values is a wait for a GPU, and cannot be compiled.
        fast = torch.compiler.is_compiling() or (self.training and images.is_cuda)
        check_films(images, values=not fast)
        if min(images.shape[2:]) < self.smallest:
            raise ValueError(
                f"Expected images of at least {self.smallest} px a side for {self.arch}, got "
                f"{list(images.shape)}. Make larger ones: five halvings leave nothing of these."
            )
        return self.normalised(images)

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Return what ``network`` is given of images [B, 1 or 3, H, W], whatever their values."""
        if self.window is not None:
            # Here and not in the weights: zeros around an image mean the value 0 of this scale.
            black, white = self.window
            return black + (white - black) * images[:, :1]
        return torch.addcmul(self._shift, images, self._scale)  # one channel becomes three

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, F] of images [B, 1 or 3, H, W] in [0, 1]; see :meth:`features`."""
        return self.network(self._taken(images))

    @torch.no_grad()
    def predict_proba(self, images: torch.Tensor) -> torch.Tensor:
        """Return probabilities [B, F] of images as for :meth:`features`, in testing mode.

        Batch normalisation uses the statistics of training, whatever mode the network is in; the
        mode of every layer is as it was afterwards.
        """
        with evaluating(self):
            return self(images).sigmoid()

    def __repr__(self) -> str:
        """Name the architecture and its size, not its 430 parts; ``network`` shows them."""
        parts = [self.arch]
        if self.growth_rate is not None:
            parts.append(f"growth rate {self.growth_rate}")
        if self.findings != FINDINGS:
            parts.append(f"{len(self.findings)} findings")
        n = sum(p.numel() for p in self.parameters())
        return f"CheXNet({', '.join(parts)}, {n:,} parameters)"


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
        Pixels a side, from the network's smallest up.

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
        twin = type(model)(**model.options, findings=model.findings).to("meta")
        images = torch.empty(2, 1, size, size)  # of one, 32 px leave nothing to normalise
    with FlopCounterMode(display=False) as forward:
        twin.eval()(images)
    with FlopCounterMode(display=False) as training:
        twin(images).sum().backward()
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, forward.get_total_flops() // 2, training.get_total_flops() // 2)
