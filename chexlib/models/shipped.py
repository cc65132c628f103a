"""The weights that come with the book: trained on simulated films, for teaching."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chexlib.data.tables import table_folder

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["phantom_checkpoint"]


def phantom_checkpoint() -> Path:
    """Return the path of the book's own weights, for :func:`chexlib.models.load_checkpoint`.

    A narrow DenseNet-121 trained on simulated films of 112 px by ``data/train_runs.py``; what it
    reaches on simulated test patients is in its metadata, and a test holds it to that. Not for
    clinical use: no film of a patient was seen.
    """
    return table_folder() / "phantom_chexnet.safetensors"
