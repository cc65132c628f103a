"""The radiographic sign of each of the 14 findings."""

from __future__ import annotations

from chexlib.data.phantom.signs.base import Sign
from chexlib.data.phantom.signs.opacities import (
    Atelectasis,
    Consolidation,
    Edema,
    Fibrosis,
    Infiltration,
    Pneumonia,
)
from chexlib.data.phantom.signs.pleura import Effusion, PleuralThickening, Pneumothorax
from chexlib.data.phantom.signs.shapes import Cardiomegaly, Emphysema, Hernia, Mass, Nodule
from chexlib.findings import FINDINGS

__all__ = ["SIGNS", "Sign"]

_ALL = (
    Atelectasis,
    Cardiomegaly,
    Effusion,
    Infiltration,
    Mass,
    Nodule,
    Pneumonia,
    Pneumothorax,
    Consolidation,
    Edema,
    Emphysema,
    Fibrosis,
    PleuralThickening,
    Hernia,
)
SIGNS: dict[str, type[Sign]] = dict(zip(FINDINGS, _ALL, strict=True))
