"""Checkpoints: open the weights that people have, and save ours so that no label order is lost."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from chexlib.findings import FINDINGS
from chexlib.models.chexnet import CheXNet
from chexlib.models.contract import describe, hold_to, told_by, window_of
from chexlib.models.files import CheckpointError, Contents, read_weights, write_safetensors
from chexlib.models.formats import (
    XRV_FINDINGS,
    XRV_WINDOW,
    Translated,
    account_for,
    shape_options,
    take_rows,
    translate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CheckpointError", "describe", "load_checkpoint", "save_checkpoint"]

logger = logging.getLogger(__name__)

IMAGENET_OUTPUTS = 1000


def load_checkpoint(path: str | Path) -> CheXNet:
    """Open a trained CheXNet, whoever saved it.

    Read are: this project's safetensors and Lightning checkpoints; ``torch.save`` files, old and
    new, of zoogzog's, arnoweng's and similar networks, with any prefix and DenseNet's first names;
    state dicts of torchvision's DenseNet-121, 169 and 201 with 14 outputs, of any growth rate; and
    state dicts of torchxrayvision's DenseNets. Whatever the source, the network takes images as
    every :class:`~chexlib.models.CheXNet` does and gives logits, before any sigmoid or
    remapping, in the order of :data:`chexlib.findings.FINDINGS`.

    Parameters
    ----------
    path : path
        The file; its name does not matter. Or the folder of a finished run.

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
        missing or unexpected. It is a ``ValueError``.

    Notes
    -----
    torchxrayvision's networks take one channel from -1024 to 1024, so that the zeros around an
    image in the first convolution are mid grey to them. Images are therefore converted before that
    convolution; its weights are not rescaled. Of 18 outputs the 14 of ChestX-ray14 are kept; its
    remapping of probabilities by operating points (``op_threshs``) is left out.

    Files other than this project's do not name their outputs. The order is then assumed to be
    CheXNet's, as it is in zoogzog's and arnoweng's, and ``notes`` say so.

    Examples
    --------
    >>> model = load_checkpoint("model.pth.tar")  # doctest: +SKIP
    >>> model.provenance["format"]  # doctest: +SKIP
    'zoogzog, arnoweng'
    """
    path = Path(path)
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
    found = translate(contents.tensors, path)
    options, channels = shape_options(found.state, path)
    if found.outputs == IMAGENET_OUTPUTS:
        raise CheckpointError(
            f"Expected a network trained on radiographs in {path}, got one of ImageNet's 1000 "
            "classes. To train from it: CheXNet(weights=path)."
        )
    told = told_by(contents, path)
    if channels == 1 and found.outputs == len(XRV_FINDINGS):
        name, options["window"] = "torchxrayvision", XRV_WINDOW
        notes, warnings = _keep_our_rows(found)
    else:
        notes, warnings = [], []
        if found.outputs not in (None, len(FINDINGS)):
            raise CheckpointError(
                f"Expected {len(FINDINGS)} outputs in {path}, or torchxrayvision's "
                f"{len(XRV_FINDINGS)} with one input channel, got {found.outputs} with {channels}. "
                "Keep the rows of the head that are the 14 findings, in their order."
            )
        name = _format(contents, found)
        options["window"] = window_of(told, channels, path)
        if told is None:
            note = "its outputs have no names: assumed to be in CheXNet's order"
            (notes if found.wrapped_head else warnings).append(note)
        else:
            notes += hold_to(told, found, options, path)
    if contents.kind == "lightning":  # the constants of a loss are no part of the network
        losses = [key for key in found.outside if key.startswith("loss.")]
        for key in losses:
            del found.outside[key]
        notes += [f"left out {losses}"] if losses else []
    with torch.device("meta"):  # neither computed nor drawn: every value comes from the file
        model = CheXNet(**options)
    state, filled = account_for(found, model.densenet.state_dict(), path)
    model.densenet.load_state_dict(state, assign=True)
    for level, lines in ((logging.INFO, notes + filled), (logging.WARNING, warnings)):
        for line in lines:
            logger.log(level, "%s (%s): %s.", path.name, name, line)
    model.provenance = {
        "format": name,
        "file": path.name,
        "sha256": contents.sha256,
        "metadata": contents.metadata,
        "notes": [*warnings, *notes, *filled],
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
        Normalisation stays float32, and so is what is loaded.

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
    extra = metadata or {}
    if taken := sorted(set(said) & set(extra)):
        raise ValueError(f"Expected other names in metadata, got {taken}, which the model gives.")
    said |= {key: v if isinstance(v, str) else _json(key, v) for key, v in extra.items()}
    tensors = {}
    for key, tensor in model.densenet.state_dict().items():
        value = tensor.detach().cpu()
        tensors[key] = value.half() if half and value.ndim > 1 else value
        if not bool(torch.isfinite(tensors[key]).all()):
            raise ValueError(
                f"Expected finite weights, got NaN or infinity in {key}. Save an earlier state."
            )
    write_safetensors(tensors, path, metadata=said)


def _json(key: str, value: object) -> str:
    try:  # NumPy's and torch's numbers know how to become Python's
        return json.dumps(value, ensure_ascii=False, default=lambda v: v.tolist())
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"Expected a text or what JSON can hold as metadata {key!r}, got "
            f"{type(value).__name__}. Convert it: {error}."
        ) from error


def _keep_our_rows(found: Translated) -> tuple[list[str], list[str]]:
    """Make torchxrayvision's head ours; return notes and warnings."""
    rows = [XRV_FINDINGS.index(finding) for finding in FINDINGS]
    others = [finding for finding in XRV_FINDINGS if finding not in FINDINGS]
    take_rows(found, rows, of=len(XRV_FINDINGS))
    low, high = XRV_WINDOW
    notes = [
        f"one input channel from {low:g} to {high:g}: images are converted to it",
        f"outputs put into our order, left out {', '.join(others)}",
    ]
    points = found.state.pop("op_threshs", None)
    if points is None:
        return notes, []
    notes.append("left out op_threshs, which remap probabilities")
    untrained = []
    if points.shape == (len(XRV_FINDINGS),):
        untrained = [f for f, row in zip(FINDINGS, rows, strict=True) if torch.isnan(points[row])]
    return notes, [f"not trained on {', '.join(untrained)}"] if untrained else []


def _format(contents: Contents, found: Translated) -> str:
    if contents.kind == "lightning":
        return "PyTorch Lightning"
    if contents.kind == "safetensors":
        return "chexlib safetensors" if "chexlib" in contents.metadata else "safetensors"
    if found.wrapped_head:
        return "zoogzog, arnoweng"
    return "torchvision" if not found.prefix else f"torchvision, under {found.prefix}"
