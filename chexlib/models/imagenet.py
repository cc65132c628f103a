"""ImageNet weights: fetched from torchvision's server, or read from a file somebody brought."""

from __future__ import annotations

import re
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torchvision.models import get_model_weights

from chexlib.findings import FINDINGS
from chexlib.models.files import CheckpointError, read_weights
from chexlib.models.formats import account_for, translate

if TYPE_CHECKING:
    from torchvision.models import DenseNet

__all__ = ["load_imagenet"]


def load_imagenet(densenet: DenseNet, arch: str, weights: str | Path) -> dict:
    """Put ImageNet weights into all of a network but its head.

    Parameters
    ----------
    densenet : DenseNet
        With three input channels and the architecture's own growth rate.
    arch : str
        Which architecture it is.
    weights : "imagenet" or path
        torchvision's, from torch's own cache folder or fetched to it; or a file of them, under
        today's names or those of DenseNet's first release.

    Returns
    -------
    dict
        Where the weights are from.

    Raises
    ------
    RuntimeError
        If they cannot be fetched; it says where to put the file by hand.
    FileNotFoundError
        If the file is not there.
    ValueError
        If the file is damaged or holds another network, or a file of torchvision's name has not
        torchvision's hash.
    """
    entry = get_model_weights(arch).IMAGENET1K_V1
    name = entry.url.rsplit("/", 1)[1]
    # torchvision's names end in the first digits of the SHA-256.
    digits = re.fullmatch(r".+-([0-9a-f]{8,})\.pth", name)[1]
    if weights == "imagenet":
        path = Path(torch.hub.get_dir()) / "checkpoints" / name
        if not path.is_file():
            _fetch(entry.url, path, digits)
    else:
        path = Path(weights)
    contents = read_weights(path)
    if path.name == name and not contents.sha256.startswith(digits):
        raise CheckpointError(
            f"Expected a file whose SHA-256 begins with {digits} at {path}, got "
            f"{contents.sha256}. Remove it and fetch {entry.url} again."
        )
    found = translate(contents.tensors, path)
    if found.outputs == len(FINDINGS):
        raise CheckpointError(
            f"Expected a network trained on ImageNet in {path}, got one with {len(FINDINGS)} "
            "outputs. For a trained CheXNet: chexlib.models.load_checkpoint(path)."
        )
    found.state = {k: v for k, v in found.state.items() if not k.startswith("classifier.")}
    whole = densenet.state_dict()
    body = {k: v for k, v in whole.items() if not k.startswith("classifier.")}
    state, _ = account_for(found, body, f"{path} for {arch}")
    densenet.load_state_dict(state | {k: v for k, v in whole.items() if k not in body})
    return {"format": "ImageNet, torchvision", "file": path.name, "sha256": contents.sha256}


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
