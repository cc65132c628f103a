"""Checkpoints: open the weights that people have, and save ours so that no label order is lost."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import chexlib
from chexlib.data.tables import table_folder
from chexlib.findings import FINDINGS
from chexlib.models.architectures import ARCHITECTURES, DENSE
from chexlib.models.chexnet import IMAGENET_MEAN, IMAGENET_STD, CheXNet, names_of_findings
from chexlib.models.weights import (
    CheckpointError,
    Contents,
    ImageNetError,
    Named,
    read_weights,
    write_safetensors,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)

# What the tensors of a checkpoint take: CheXNet makes it of films in [0, 1].
INPUT = {
    "channels": 3,
    "range": "grey from 0 (black) to 1 (white), copied to the channels, minus mean, divided by std",
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
}
# The outputs of torchxrayvision's networks (torchxrayvision.datasets.default_pathologies) and the
# values it gives black and white (torchxrayvision.utils.normalize).
XRV_FINDINGS = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema",
    "Fibrosis", "Effusion", "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass",
    "Hernia", "Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum",
)  # fmt: skip
XRV_WINDOW = (-1024.0, 1024.0)


def phantom_checkpoint() -> Path:
    """Return the path of the book's own weights, for :func:`chexlib.models.load_checkpoint`.

    A narrow DenseNet-121 trained on simulated films of 224 px by ``data/train_runs.py``; what it
    reaches on simulated test patients is in its metadata, and a test holds it to that. Not for
    clinical use: no film of a patient was seen.
    """
    return table_folder() / "phantom_chexnet.safetensors"


def load_checkpoint(path: str | Path, *, findings: Sequence[str] | None = None) -> CheXNet:
    """Open a trained network, whoever saved it.

    Read are: this project's safetensors and resume points; checkpoints of Lightning;
    ``torch.save`` files, old and new, of zoogzog's, arnoweng's and similar networks, with any
    prefix and DenseNet's first names; state dicts of torchvision's DenseNets of any growth rate,
    ResNets, ConvNeXts and EfficientNets with any number of outputs; and state dicts of
    torchxrayvision's DenseNets and ResNet. Which network it is, is told by names and shapes.
    Whatever the source, the network takes films as every :class:`~chexlib.models.CheXNet` does and
    gives logits, before any sigmoid or remapping.

    Parameters
    ----------
    path : path
        The file; its name does not matter. Or the folder of a finished run, or ``phantom``: the
        book's own weights.
    findings : sequence of str, optional
        Names of the outputs, in order, for a file that does not name them. Of outputs that have
        names, which to keep. By default the outputs that a file names, in the order of
        :data:`chexlib.findings.FINDINGS` where it is these; and these.

    Returns
    -------
    CheXNet
        In eval mode, on the CPU, float32. Its ``provenance`` has ``format``, ``file`` (name),
        ``sha256`` (of the file), ``metadata`` (what the file says besides), and ``notes``: what was
        assumed, reordered, left out or filled in, which is logged as well.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or the folder is that of no finished run.
    CheckpointError
        If it is no checkpoint, is damaged, would run code, holds another network, or a key is
        missing or unexpected; or if its outputs have no names and are not 14, or ``findings`` are
        not as many. It is a ``ValueError``.

    Notes
    -----
    torchxrayvision's networks take one channel from -1024 to 1024, so that the zeros around an
    image in the first convolution are mid grey to them. Images are therefore converted before that
    convolution; its weights are not rescaled. Of 18 outputs the 14 of ChestX-ray14 are kept unless
    ``findings`` says otherwise; its remapping of probabilities by operating points
    (``op_threshs``) is left out.

    Files other than this project's do not name their outputs. The order of 14 is then assumed to be
    CheXNet's, as it is in zoogzog's and arnoweng's, and ``notes`` say so.

    Examples
    --------
    >>> model = load_checkpoint("model.pth.tar")  # doctest: +SKIP
    >>> model.provenance["format"]  # doctest: +SKIP
    'zoogzog, arnoweng'
    >>> load_checkpoint("resnet.pt", findings=["Rib fracture", "Device"])  # doctest: +SKIP
    CheXNet(resnet50, 2 findings, 23,512,130 parameters)
    """
    path = phantom_checkpoint() if str(path) == "phantom" else Path(path)
    if path.is_dir():
        names = ("best.safetensors", "metrics.json")  # the second is written last
        if missing := [name for name in names if not (path / name).is_file()]:
            raise FileNotFoundError(
                f"Expected the folder of a finished run of chexlib train, found no "
                f"{' and no '.join(missing)} in {path}. Repeat the command that began it, or name "
                "a file of weights."
            )
        path /= "best.safetensors"
    contents = read_weights(path)
    told = _told(contents, path)
    arch = told and told["options"].get("arch")
    found = Named(contents.tensors, path, arch=arch if arch in ARCHITECTURES else None)
    shape = _shape(found, told)
    if found.outputs == 1000:
        raise ImageNetError(
            f"Expected a network trained on radiographs in {path}, got one of ImageNet's 1000 "
            f"classes. To train from it: CheXNet.from_imagenet(path, arch={found.arch!r})."
        )
    wanted = None if findings is None else names_of_findings(findings)
    names, window, notes, warnings = _known(found, told, wanted)
    name = "torchxrayvision" if names == XRV_FINDINGS else _format(contents, found)
    if wanted is None:
        ours = set(names) == set(FINDINGS) or names == XRV_FINDINGS
        wanted = FINDINGS if ours else names
    if unknown := [finding for finding in wanted if finding not in names]:
        raise CheckpointError(
            f"Expected findings among the outputs of {path}, which are {', '.join(names)}, got "
            f"{unknown}. Leave findings out for all."
        )
    if names != wanted:
        found.take_rows([names.index(finding) for finding in wanted], of=len(names))
        notes.append(f"outputs reordered from {', '.join(names)}")
        if others := [finding for finding in names if finding not in wanted]:
            notes.append(f"left out {', '.join(others)}")
    if contents.kind == "lightning":  # the constants of a loss are no part of the network
        if losses := [key for key in found.outside if key.startswith("loss.")]:
            notes.append(f"left out {losses}")
        found.outside = {k: v for k, v in found.outside.items() if k not in losses}
    with torch.device("meta"):  # neither computed nor drawn: every value comes from the file
        model = CheXNet(**shape, window=window, findings=wanted)
    state, filled = found.account_for(model.network.state_dict())
    model.network.load_state_dict(state, assign=True)
    notes += filled
    for level, lines in ((logging.INFO, notes), (logging.WARNING, warnings)):
        for line in lines:
            logger.log(level, "%s (%s): %s.", path.name, name, line)
    model.provenance = {
        "format": name,
        "file": path.name,
        "sha256": contents.sha256,
        "metadata": contents.metadata,
        "notes": [*warnings, *notes],
    }
    return model.eval()


def save_checkpoint(
    model: CheXNet,
    path: str | Path,
    *,
    metadata: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Save a network as safetensors, with the order of its outputs and what it takes.

    The file is written whole or not at all; the same network and metadata give the same bytes. Its
    keys are torchvision's.

    Parameters
    ----------
    model : CheXNet
    path : path
        Ending in ``.safetensors``; replaced if it is there. Its folder is made if need be.
    metadata : mapping of str, optional
        What else is to be known of the weights: recipe, data hash, metrics, command. Texts are kept
        as they are, other values as JSON. That of :func:`describe` is always there.
    half : bool
        Keep convolutions and head as float16: half the size, logits that differ by about 0.1%.
        Normalisation and scales of layers stay float32, and so is what is loaded.

    Raises
    ------
    ValueError
        If the model is another one or has values that are not finite, a name of the metadata is
        taken, a value is not JSON, or the path ends otherwise.
    OSError
        If it cannot be written; an earlier file is as it was.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "small.safetensors"
    ...     save_checkpoint(CheXNet(growth_rate=12), path, metadata={"epochs": 3})
    ...     load_checkpoint(path).provenance["metadata"]["epochs"]
    '3'
    """
    path = Path(path)
    if not isinstance(model, CheXNet):
        raise ValueError(
            f"Expected a CheXNet, got {type(model).__name__}. Pass the network itself: .model of a "
            "training module, .module of a DistributedDataParallel."
        )
    if path.suffix != ".safetensors":
        raise ValueError(f"Expected a path ending in .safetensors, got {path}. Rename it.")
    said = describe(model)
    if taken := sorted(set(said) & set(metadata or {})):
        raise ValueError(f"Expected other names in metadata, got {taken}, which the model gives.")
    for key, value in (metadata or {}).items():
        try:  # NumPy's and torch's numbers know how to become Python's
            text = json.dumps(value, ensure_ascii=False, default=lambda v: v.tolist())
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f"Expected a text or what JSON can hold as metadata {key!r}, got "
                f"{type(value).__name__}. Convert it: {error}."
            ) from error
        said[key] = value if isinstance(value, str) else text
    tensors = {}
    for key, tensor in model.network.state_dict().items():
        value = tensor.detach().cpu()
        tensors[key] = value.half() if half and value.ndim in (2, 4) else value
        if not bool(torch.isfinite(tensors[key]).all()):
            raise ValueError(
                f"Expected finite weights, got NaN or infinity in {key}. Save an earlier state."
            )
    write_safetensors(tensors, path, metadata=said)


def describe(model: CheXNet) -> dict[str, str]:
    """Return what a checkpoint must say of a network, as texts; most are JSON.

    Training puts it into its checkpoints under the key ``chexlib``, where :func:`load_checkpoint`
    looks for it.

    Examples
    --------
    >>> said = describe(CheXNet(growth_rate=12))
    >>> said["options"]
    '{"arch": "densenet121", "growth_rate": 12, "window": null}'
    >>> list(said)
    ['format', 'chexlib', 'findings', 'input', 'options']
    """
    return {
        "format": "pt",  # by convention: tensors as PyTorch lays them out
        "chexlib": chexlib.__version__,
        "findings": json.dumps(list(model.findings)),
        "input": json.dumps(INPUT),
        "options": json.dumps(model.options),
    }


def _told(contents: Contents, where: Path) -> dict[str, Any] | None:
    """Return what :func:`describe` wrote into a file, decoded; None if it did not write it."""
    said = contents.metadata
    if contents.kind != "safetensors":
        said = said.get("chexlib")
    if not isinstance(said, dict) or "chexlib" not in said:
        return None
    try:
        told = {key: json.loads(said[key]) for key in ("findings", "input", "options")}
        taken = {key: told["input"][key] for key in ("channels", "mean", "std")}
        window = told["options"]["window"]
        if window is not None:
            black, white = map(float, window)
            told["options"]["window"] = (black, white)
        told["findings"] = names_of_findings(told["findings"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"Expected findings, input and options as JSON in the metadata of {where}, got "
            f"{type(error).__name__}: {error}. Save it again with save_checkpoint."
        ) from error
    if not taken.items() <= INPUT.items():
        raise CheckpointError(
            f"Expected a network for images normalised as {INPUT} in {where}, got one for "
            f"{taken}. Use the version of chexlib that wrote it: {said['chexlib']}."
        )
    return told


def _known(
    found: Named, told: dict[str, Any] | None, wanted: tuple[str, ...] | None
) -> tuple[tuple[str, ...], tuple[float, float] | None, list[str], list[str]]:
    """Return the order of a network's outputs, its window, notes and warnings."""
    where, outputs = found.where, found.outputs
    channels = found.state[found.stem].shape[1]
    window = told and told["options"]["window"]
    names, notes, warnings = told["findings"] if told else None, [], []
    if told is None and channels == 1 and (outputs == len(XRV_FINDINGS) or wanted):
        window, (low, high) = XRV_WINDOW, XRV_WINDOW
        notes = [f"one input channel from {low:g} to {high:g}: images are converted to it"]
        if outputs != len(XRV_FINDINGS):
            warnings, notes = [f"{notes[0]}, as torchxrayvision's networks have it"], []
        elif wanted is None or set(wanted) <= set(XRV_FINDINGS):
            names = XRV_FINDINGS
        key = "op_threshs"  # beside the network, or within the module that is the network
        points = found.state.pop(key, found.outside.pop(key, None))
        if points is not None:
            notes.append("left out op_threshs, which remap probabilities")
            if points.shape == (outputs,) and names:
                kept = FINDINGS if wanted is None else wanted
                untrained = [f for f in kept if points[names.index(f)].isnan()]
                warnings += [f"not trained on {', '.join(untrained)}"] if untrained else []
    if (window is None) != (channels == 3):
        raise CheckpointError(
            "Expected three input channels, or one with the values of black and white, in "
            f"{where}, got {channels} and window {window}. Build CheXNet(window=(black, white)), "
            "load the state dict into its .network and save it with save_checkpoint."
        )
    if names is None and wanted is None and outputs in (None, len(FINDINGS)):
        note = "its outputs have no names: assumed to be in CheXNet's order"
        (notes if found.wrapped_head else warnings).append(note)
        wanted = FINDINGS
    names = names or wanted or ()
    if not names or outputs not in (None, len(names)):
        raise CheckpointError(
            f"Expected a name for each of the {outputs} outputs of {where}, got {len(names)}: "
            f"{', '.join(names) or 'none'}. Give as many, in order: "
            "load_checkpoint(path, findings=[…])."
        )
    return names, window, notes, warnings


def _shape(found: Named, told: dict[str, Any] | None) -> dict[str, Any]:
    """Return arch and growth rate by a network's tensors, and hold what it says against them."""
    stem = found.state.get(found.stem)
    if stem is None or stem.ndim != 4 or stem.shape[1] not in (1, 3) or len(stem) < 2:
        raise CheckpointError(
            f"Expected a first convolution of 1 or 3 input channels, {found.stem}, in "
            f"{found.where}, got {'none' if stem is None else list(stem.shape)}. Train that "
            "network with the code it is from."
        )
    growth = len(stem) // 2 if found.arch in DENSE else None
    shape = {"arch": found.arch, "growth_rate": growth}
    said = shape if told is None else {key: told["options"].get(key) for key in shape}
    if said != shape:
        raise CheckpointError(
            f"Expected tensors of {said} in {found.where}, as it says, got those of {shape}. Save "
            "it again with save_checkpoint."
        )
    return shape


def _format(contents: Contents, found: Named) -> str:
    if contents.kind == "lightning":
        return "PyTorch Lightning"
    if isinstance(contents.metadata.get("chexlib"), dict):
        return "chexlib resume point"
    if contents.kind == "safetensors":
        return "chexlib safetensors" if "chexlib" in contents.metadata else "safetensors"
    if found.wrapped_head:
        return "zoogzog, arnoweng"
    return "torchvision" if not found.prefix else f"torchvision, under {found.prefix}"
