"""A network as an ONNX file: what other programs run without this package, and with no Python.

Normalisation and the sigmoid are inside; what is outside, how a film becomes the square that goes
in, is in the metadata, beside findings, thresholds and provenance.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch

import chexlib
from chexlib.data.sources import read_squares
from chexlib.files import write_atomically
from chexlib.inference import Preparation
from chexlib.models.chexnet import evaluating

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from chexlib.data.sources import Films
    from chexlib.models import CheXNet

TOLERANCE = 1e-5  # of a probability, and of a logit as a share of it where it is beyond 1
MOST = 16  # films that a file is checked on
INPUT = "grey film [B, 1, H, W] from 0 (black) to 1 (white), of `size` pixels a side"


class _Both(torch.nn.Module):
    """A network that gives probabilities and logits."""

    def __init__(self, model: CheXNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, film: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logit = self.model(film)
        return logit.sigmoid(), logit


def export_onnx(
    model: CheXNet,
    path: Path,
    *,
    films: Films | None = None,
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
) -> tuple[int, float]:
    """Write a network as ONNX, once onnxruntime gives what PyTorch gives.

    Parameters
    ----------
    model : CheXNet
        On the CPU.
    path : Path
        Put there whole, or not at all; replaced if it is there.
    films : Films, optional
        From :func:`chexlib.data.find_radiographs`; the first 16 are compared. By default four
        simulated ones.
    thresholds : mapping of str to mapping of str to float, optional
        Of each rule, of each finding.

    Returns
    -------
    int, float
        Films compared, and the largest difference of a probability.

    Raises
    ------
    ValueError
        If the two differ by more than 1e-5, or no film can be read; then nothing is written.
    RuntimeError
        If onnx, onnxscript or onnxruntime is not installed.

    Notes
    -----
    The file takes ``film`` float32 [B, 1, size, size] and gives ``probability`` and ``logit``
    float32 [B, F]. Its metadata are texts, most of them JSON: ``notice``, ``findings``,
    ``thresholds``, ``preparation``, ``input``, ``licence``, ``provenance`` and ``chexlib``. Where
    ``preparation`` says ten crops, probabilities of ``chexlib predict`` are means over such views;
    the file takes one view at a time.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch asks for it, and for onnx
    except ImportError as error:
        raise RuntimeError(
            f"Expected onnx, onnxscript and onnxruntime, found no {error.name}. Install them: "
            "pip install 'chexlib[export]'"
        ) from None
    preparation = Preparation.of(model)
    batcher = preparation.batcher(_squares(films, preparation))
    images = batcher(np.arange(len(batcher)))
    names = {"input_names": ["film"], "output_names": ["probability", "logit"]}
    with evaluating(model), torch.no_grad():
        expected = [part.numpy() for part in _Both(model)(images)]
        program = torch.onnx.export(
            _Both(model).eval(),
            (images[:1].repeat(2, 1, 1, 1),),  # of one, the number of films would be a constant
            **names,
            dynamic_shapes={"film": {0: torch.export.Dim("films")}},
            dynamo=True,
            verbose=False,
        )
    program.model.metadata_props.update(_metadata(model, preparation, thresholds or {}))
    differences = []

    def write(draft: Path) -> None:
        program.save(draft)
        session = onnxruntime.InferenceSession(draft, providers=["CPUExecutionProvider"])
        found = session.run(names["output_names"], {"film": images.numpy()})
        differences.extend(
            float((abs(a - b) / np.maximum(1, abs(b))).max())
            for a, b in zip(found, expected, strict=True)
        )
        if not max(differences) <= TOLERANCE:
            raise ValueError(
                f"Expected onnxruntime to give what PyTorch gives to {TOLERANCE:g}, got a "
                f"difference of {max(differences):.3g} on {len(images)} films. Nothing was "
                f"written: try other releases than torch {torch.__version__} and onnxruntime "
                f"{onnxruntime.__version__}."
            )

    write_atomically(path, write)
    return len(images), differences[0]


def _squares(films: Films | None, preparation: Preparation) -> NDArray[np.uint8]:
    """Return films as they are in a cache, [N, cache_size, cache_size]."""
    if films is None:
        from chexlib.data.phantom import films_of, population, render

        made = [render(film, size=512).image for film in films_of(population(4, max_films=1))]
        return np.stack([preparation.shrunk(image) for image in made])
    some = range(min(MOST, len(films.names)))
    good, _ = read_squares(films, some, size=preparation.cache_size, fit=preparation.fit)
    return np.stack([film.pixels for film in good])


def _metadata(
    model: CheXNet, preparation: Preparation, thresholds: Mapping[str, Mapping[str, float]]
) -> dict[str, str]:
    said = model.provenance.get("metadata", {})
    plain = {
        rule: {name: t if math.isfinite(t) else str(t) for name, t in chosen.items()}
        for rule, chosen in thresholds.items()
    }
    return {
        "notice": "Not for clinical use.",
        "findings": json.dumps(model.findings),
        "thresholds": json.dumps(plain),
        "preparation": json.dumps(asdict(preparation)),
        "input": INPUT,
        "licence": str(said.get("licence", "that of the weights, which their file does not state")),
        "provenance": json.dumps(model.provenance, default=str),
        "chexlib": chexlib.__version__,
    }
