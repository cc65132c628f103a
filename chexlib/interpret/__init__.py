"""Interpretation: where a network looks, and whether that is the right place.

Maps are class activation maps of all findings from one forward pass, or any of Captum's methods
behind the same call. They become boxes, and are scored against those a radiologist drew, beside
controls that know less. A heat map shows what a network uses; it is no diagnosis.

>>> import torch
>>> from chexlib.interpret import class_activation_maps
>>> from chexlib.models import CheXNet
>>> class_activation_maps(CheXNet(growth_rate=12), torch.zeros(1, 1, 224, 224)).shape
torch.Size([1, 14, 7, 7])
"""

from chexlib.interpret.attribution import METHODS, attribute, case_maps
from chexlib.interpret.cam import class_activation_maps, maps_and_logits, maps_of
from chexlib.interpret.explain import Explanation, explain_film, secondary_capture
from chexlib.interpret.heatmap import (
    CUTS,
    Grid,
    HeatMap,
    cell_centres,
    heat_boxes,
    iobb,
    iou,
    normalise,
    to_levels,
    truth_mask,
)
from chexlib.interpret.localization import (
    CONTROLS,
    METRICS,
    BoxedFilms,
    controls,
    find_cases,
    localization_table,
    localize,
    open_boxed,
    score_cases,
)
from chexlib.interpret.sanity import (
    cascade,
    compare_models,
    perturbation_curves,
    randomised,
    similarity,
)
