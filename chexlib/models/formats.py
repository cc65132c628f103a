"""Whose checkpoint is it? Keys, shapes and heads of the DenseNets that people saved.

Every key of a file ends in the network or is named in an error: a head that is left at random
scores about 0.5 and looks like a result (arnoweng/CheXNet, issue 34).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from chexlib.findings import FINDINGS
from chexlib.models.chexnet import ARCHITECTURES
from chexlib.models.files import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "XRV_FINDINGS",
    "XRV_WINDOW",
    "Translated",
    "account_for",
    "rows_by_name",
    "shape_options",
    "take_rows",
    "translate",
]

# The outputs of torchxrayvision's DenseNets (torchxrayvision.datasets.default_pathologies) and the
# values it gives black and white (torchxrayvision.utils.normalize).
XRV_FINDINGS = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema",
    "Fibrosis", "Effusion", "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass",
    "Hernia", "Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum",
)  # fmt: skip
XRV_WINDOW = (-1024.0, 1024.0)

STEM = "features.conv0.weight"
COUNTER = ".num_batches_tracked"
# DenseNet's first release had dots in module names, which PyTorch has forbidden since.
LEGACY = re.compile(r"\b(denselayer\d+\.(?:norm|conv))\.([12])\.")
LAYER = re.compile(r"features\.denseblock([1-4])\.denselayer([0-9]{1,3})\.")


@dataclass
class Translated:
    """A state dict under torchvision's names.

    Attributes
    ----------
    state : dict of str to Tensor
        What lies where the DenseNet is.
    keys : dict of str to str
        The file's key for each name of ``state``.
    outside : dict of str to Tensor
        What lies elsewhere, under the file's keys.
    prefix : str
        Where the DenseNet is, such as ``module.densenet121.``.
    wrapped_head : bool
        Whether the head is a ``Sequential``, as zoogzog's and arnoweng's are, with a sigmoid.
    """

    prefix: str
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    outside: dict[str, torch.Tensor] = field(default_factory=dict)
    wrapped_head: bool = False

    @property
    def outputs(self) -> int | None:
        """Rows of the head; None without a head."""
        head = self.state.get("classifier.weight")
        return None if head is None or head.ndim != 2 else len(head)


def translate(tensors: Mapping[str, torch.Tensor], where: object) -> Translated:
    """Name the tensors of a DenseNet as torchvision does.

    Parameters
    ----------
    tensors : mapping of str to Tensor
    where : path
        For errors.

    Raises
    ------
    CheckpointError
        If there is no DenseNet or more than one, or two keys mean the same tensor.
    """
    places = [key.removesuffix(STEM) for key in tensors if f".{key}".endswith(f".{STEM}")]
    if len(places) != 1:
        raise CheckpointError(
            f"Expected one DenseNet in {where}, got {places or 'none'}: a key ends in {STEM} for "
            f"each. Its first keys are {list(tensors)[:5]}. Save the state dict of one DenseNet."
        )
    found = Translated(places[0])
    for key, value in tensors.items():
        if not key.startswith(found.prefix):
            found.outside[key] = value
            continue
        name = LEGACY.sub(r"\1\2.", key.removeprefix(found.prefix))
        if name in ("classifier.0.weight", "classifier.0.bias"):
            name, found.wrapped_head = name.replace(".0.", "."), True
        if name in found.state:
            raise CheckpointError(
                f"Expected one key for {name} in {where}, got {found.keys[name]} and {key}. "
                "Leave out one of them."
            )
        found.state[name], found.keys[name] = value, key
    return found


def shape_options(state: Mapping[str, torch.Tensor], where: object) -> tuple[dict, int]:
    """Tell a network's architecture by its tensors.

    Parameters
    ----------
    state : mapping of str to Tensor
        Under torchvision's names.
    where : path
        For errors.

    Returns
    -------
    dict
        ``arch`` and ``growth_rate`` for :class:`~chexlib.models.CheXNet`.
    int
        Input channels: 1 or 3.

    Raises
    ------
    CheckpointError
        If it is no architecture that is known here.
    """
    stem = state[STEM]
    layers = [(int(m[1]), int(m[2])) for name in state if (m := LAYER.match(name))]
    blocks = tuple(max((n for b, n in layers if b == block), default=0) for block in range(1, 5))
    arch = next((name for name, known in ARCHITECTURES.items() if known[0] == blocks), None)
    known = {name: known[0] for name, known in ARCHITECTURES.items()}
    if arch is None or stem.ndim != 4 or stem.shape[1] not in (1, 3) or len(stem) < 2:
        raise CheckpointError(
            f"Expected blocks of layers as in {known} and 1 or 3 input channels in {where}, got "
            f"blocks {blocks} and a first convolution {list(stem.shape)}. Train that network with "
            "the code it is from."
        )
    return {"arch": arch, "growth_rate": len(stem) // 2}, stem.shape[1]


def rows_by_name(names: Sequence[str], where: object) -> list[int]:
    """Return, for each finding in the project's order, its row among the names.

    Raises
    ------
    CheckpointError
        If the names are not the 14 findings, each once.
    """
    unknown = [name for name in names if name not in FINDINGS]
    missing = [name for name in FINDINGS if name not in names]
    if unknown or missing or len(names) != len(FINDINGS):
        raise CheckpointError(
            f"Expected the 14 findings in {where}, each once, got {list(names)}: unknown "
            f"{unknown}, missing {missing}. Save it again with names of chexlib.findings.FINDINGS."
        )
    return [list(names).index(name) for name in FINDINGS]


def take_rows(found: Translated, rows: Sequence[int], *, of: int) -> None:
    """Keep these rows of a head of so many, in this order; another head is left to be refused."""
    for name in ("classifier.weight", "classifier.bias"):
        head = found.state.get(name)
        if head is not None and head.ndim and len(head) == of:
            found.state[name] = head[rows]


def account_for(
    found: Translated, reference: Mapping[str, torch.Tensor], where: object
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return exactly the tensors that a network has, as float32, or fail with all that differs.

    Parameters
    ----------
    found : Translated
        What is in the file; ``outside`` counts as unexpected.
    reference : mapping of str to Tensor
        The network's state dict; only names, shapes and kinds of numbers matter.
    where : path
        For errors.

    Returns
    -------
    dict of str to Tensor
        Own copies, ready for ``load_state_dict``.
    list of str
        What was filled in or converted.

    Raises
    ------
    CheckpointError
        With the lists of missing keys, unexpected keys and other shapes.
    """
    missing = [name for name in reference if name not in found.state]
    unexpected = [found.keys[name] for name in found.state if name not in reference]
    unexpected += list(found.outside)
    both = [name for name in reference if name in found.state]
    shapes = [
        f"{found.keys[name]} {list(found.state[name].shape)} for {list(reference[name].shape)}"
        for name in both
        if found.state[name].shape != reference[name].shape
        or found.state[name].is_floating_point() != reference[name].is_floating_point()
    ]
    counters = [name for name in reference if name.endswith(COUNTER)]
    filled = set(counters) <= set(missing)  # all or none: a file of old PyTorch has none
    if filled:
        missing = [name for name in missing if not name.endswith(COUNTER)]
    if missing or unexpected or shapes:
        raise CheckpointError(
            f"Expected every tensor of the network and no other in {where}, got {len(missing)} "
            f"missing {_listed(missing)}, {len(unexpected)} unexpected {_listed(unexpected)} and "
            f"{len(shapes)} of another shape or type {_listed(shapes)}. Load it into the network "
            "it is from, and save that one's state dict."
        )
    negative = [
        found.keys[n] for n in both if n.endswith("_var") and bool((found.state[n] < 0).any())
    ]
    if negative:
        raise CheckpointError(
            f"Expected variances from 0 up in {where}, got negative ones in {_listed(negative)}. "
            "Fetch or save it again."
        )
    notes = []
    if filled:
        # They matter to a BatchNorm without momentum only, and DenseNet's has one.
        notes.append(
            f"{len(counters)} counters num_batches_tracked, unknown to old PyTorch, set to 0"
        )
    others = {found.state[n].dtype for n in both if reference[n].is_floating_point()}
    if others - {torch.float32}:
        notes.append(
            f"stored as {', '.join(sorted(str(t) for t in others))}, computed as torch.float32"
        )
    state = {name: found.state[name].to(reference[name].dtype, copy=True) for name in both}
    state |= {name: torch.zeros((), dtype=torch.long) for name in (counters if filled else ())}
    return state, notes


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{list(names[:12])}{more}"
