"""Interpretation: where a network looks, and whether that is the right place.

Maps are class activation maps of all 14 findings from one forward pass, or any of Captum's methods
behind the same call. They become boxes, and are scored against those a radiologist drew, beside
controls that know less. A heat map shows what a network uses; it is no diagnosis.

>>> import torch
>>> from chexlib.interpret import class_activation_maps
>>> from chexlib.models import CheXNet
>>> class_activation_maps(CheXNet(growth_rate=12), torch.zeros(1, 1, 224, 224)).shape
torch.Size([1, 14, 7, 7])
"""

from chexlib.interpret.attribution import METHODS, attribute, case_maps, heat_of, to_pixels
from chexlib.interpret.boxes import CUTS, heat_boxes, iobb, iou, to_levels, truth_mask
from chexlib.interpret.cam import Maps, class_activation_maps, maps_and_logits, maps_of
from chexlib.interpret.controls import CONTROLS, controls
from chexlib.interpret.copied_bug import as_drawn, copied_heat_maps
from chexlib.interpret.film import Explanation, explain_film
from chexlib.interpret.fine import FINE_STRIDE, fine_maps, layer_maps
from chexlib.interpret.geometry import STRIDE, cell_centres, upsample
from chexlib.interpret.localization import Cases, Heat, find_cases, score_cases
from chexlib.interpret.maps import normalise, positive
from chexlib.interpret.perturbation import PerturbationCurves, perturbation_curves
from chexlib.interpret.pipeline import BoxedFilms, Localization, localize, open_boxed
from chexlib.interpret.published import published_localization
from chexlib.interpret.sanity import (
    STAGES,
    cascade,
    compare_models,
    randomised,
    shift_equivariance,
)
from chexlib.interpret.secondary_capture import secondary_capture
from chexlib.interpret.similarity import similarity
from chexlib.interpret.table import METRICS, localization_table, verdicts

__all__ = [
    "CONTROLS",
    "CUTS",
    "FINE_STRIDE",
    "METHODS",
    "METRICS",
    "STAGES",
    "STRIDE",
    "BoxedFilms",
    "Cases",
    "Explanation",
    "Heat",
    "Localization",
    "Maps",
    "PerturbationCurves",
    "as_drawn",
    "attribute",
    "cascade",
    "case_maps",
    "cell_centres",
    "class_activation_maps",
    "compare_models",
    "controls",
    "copied_heat_maps",
    "explain_film",
    "find_cases",
    "fine_maps",
    "heat_boxes",
    "heat_of",
    "iobb",
    "iou",
    "layer_maps",
    "localization_table",
    "localize",
    "maps_and_logits",
    "maps_of",
    "normalise",
    "open_boxed",
    "perturbation_curves",
    "positive",
    "published_localization",
    "randomised",
    "score_cases",
    "secondary_capture",
    "shift_equivariance",
    "similarity",
    "to_levels",
    "to_pixels",
    "truth_mask",
    "upsample",
    "verdicts",
]
