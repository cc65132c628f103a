"""What a checkpoint says of its network: no order of labels and no input can be mistaken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import chexlib
from chexlib.models.chexnet import IMAGENET_MEAN, IMAGENET_STD
from chexlib.models.files import CheckpointError
from chexlib.models.formats import rows_by_name, take_rows

if TYPE_CHECKING:
    from chexlib.models.chexnet import CheXNet
    from chexlib.models.files import Contents
    from chexlib.models.formats import Translated

__all__ = ["describe", "hold_to", "told_by", "window_of"]

INPUT = {
    "channels": 3,
    "range": "grey from 0 (black) to 1 (white), copied to the channels, minus mean, divided by std",
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
}


def describe(model: CheXNet) -> dict[str, str]:
    """Return what a checkpoint must say of a network, as texts; most are JSON.

    A Lightning module puts it into its checkpoints under the key ``chexlib``, where
    :func:`load_checkpoint` looks for it.

    Examples
    --------
    >>> from chexlib.models import CheXNet
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


def told_by(contents: Contents, where: object) -> dict[str, Any] | None:
    """Return what :func:`describe` wrote into a file, decoded; None if it did not write it.

    Raises
    ------
    CheckpointError
        If it is incomplete, or says another input than this version gives.
    """
    said = contents.metadata
    if contents.kind != "safetensors":
        said = said.get("chexlib")
    if not isinstance(said, dict) or "chexlib" not in said:
        return None
    try:
        told = {key: json.loads(said[key]) for key in ("findings", "input", "options")}
        differ = {
            key: told["input"][key]
            for key in ("channels", "mean", "std")
            if told["input"][key] != INPUT[key]
        }
        window = told["options"]["window"]
        if window is not None:
            black, white = map(float, window)
            told["options"]["window"] = (black, white)
        names = [str(name) for name in told["findings"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"Expected findings, input and options as JSON in the metadata of {where}, got "
            f"{type(error).__name__}: {error}. Save it again with save_checkpoint."
        ) from error
    if differ:
        raise CheckpointError(
            f"Expected a network for images normalised as {INPUT} in {where}, got one for "
            f"{differ}. Use the version of chexlib that wrote it: {said['chexlib']}."
        )
    return told | {"findings": names}


def hold_to(
    told: dict[str, Any], found: Translated, options: dict[str, Any], where: object
) -> list[str]:
    """Compare a file's options with its tensors, and put the head's rows into our order.

    Returns
    -------
    list of str
        What was reordered.

    Raises
    ------
    CheckpointError
        If the options are other ones, or the names are not the 14 findings.
    """
    said = {key: told["options"].get(key) for key in ("arch", "growth_rate")}
    if said != {key: options[key] for key in said}:
        raise CheckpointError(
            f"Expected tensors of {said} in {where}, as it says, got those of {options}. Save it "
            "again with save_checkpoint."
        )
    rows = rows_by_name(told["findings"], where)
    if rows == sorted(rows):
        return []
    take_rows(found, rows, of=len(rows))
    return [f"outputs reordered from {', '.join(told['findings'])}"]


def window_of(
    told: dict[str, Any] | None, channels: int, where: object
) -> tuple[float, float] | None:
    """Return the ``window`` of a network with this many input channels.

    Raises
    ------
    CheckpointError
        If one channel is without the values of black and white, or three have them.
    """
    window = None if told is None else told["options"]["window"]
    if (window is None) != (channels == 3):
        raise CheckpointError(
            "Expected three input channels, or one with the values of black and white, in "
            f"{where}, got {channels} and window {window}. Build CheXNet(window=(black, white)), "
            "load the state dict into its .densenet and save it with save_checkpoint."
        )
    return window
