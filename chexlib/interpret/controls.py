"""Maps that know less than the network: what a score is worth without it.

``random``
    Noise in the cells of the map, enlarged in the same way. It knows nothing.
``centre``
    A normal hill in the middle of the film. It knows that films are centred.
``position``
    The mean of the boxes of other patients with the finding. It knows where a finding usually is,
    and has not seen the film.
``moved``
    The map itself, moved by a random distance, what leaves on one side returning on the other. At
    every threshold its region has the same area: only the place is wrong.
``other film``
    The map of another patient with the same finding. The network without this film.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chexlib.interpret.boxes import truth_mask
from chexlib.interpret.localization import SIZE, Heat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from chexlib.interpret.localization import Cases

__all__ = ["CONTROLS", "controls"]

CONTROLS = ("random", "centre", "position", "moved", "other film")
_GRID = 64  # cells a side of the position prior


def controls(
    heat: Heat,
    cases: Cases,
    *,
    names: Sequence[str] = CONTROLS,
    seed: int = 0,
    size: int = SIZE,
    prior: Cases | None = None,
) -> dict[str, Heat]:
    """Return a map of each control for each case.

    Parameters
    ----------
    heat : Heat
        The maps that are to be judged, [M, h, w].
    cases : Cases
        M of them.
    names : sequence of str
        Among :data:`CONTROLS`; see :mod:`chexlib.interpret.controls`.
    seed : int
        The same seed gives the same controls.
    size : int
        That :func:`chexlib.interpret.score_cases` will use.
    prior : Cases, optional
        Where "position" learns from, such as those of the validation part. By default the cases
        themselves, each without its own patient.

    Returns
    -------
    dict of str to Heat

    Raises
    ------
    ValueError
        If a name is unknown or there are not as many maps as cases.
    """
    unknown = set(names) - set(CONTROLS)
    if unknown or len(heat) != len(cases):
        raise ValueError(
            f"Expected controls among {CONTROLS} and a map for each of {len(cases)} cases, got "
            f"{sorted(unknown)} and {len(heat)} maps."
        )
    # A stream for each, so that leaving one out does not change the others.
    streams = np.random.default_rng(seed).spawn(len(CONTROLS))
    rng = dict(zip(CONTROLS, streams, strict=True))
    n, (height, width) = len(cases), heat.maps.shape[1:]
    made: dict[str, Heat] = {}
    for name in names:
        if name == "random":
            noise = rng[name].random((n, height, width), dtype=np.float32)
            made[name] = Heat(noise, input_size=heat.input_size, stride=heat.stride)
        elif name == "centre":
            made[name] = Heat(np.broadcast_to(_hill(), (n, _GRID, _GRID)))
        elif name == "position":
            made[name] = Heat(_usual_places(cases, prior))
        elif name == "moved":
            roll = rng[name].integers(0, size, (n, 2))
            made[name] = Heat(heat.maps, heat.input_size, heat.stride, roll)
        else:
            maps = heat.maps[_partners(cases, rng[name])]
            made[name] = Heat(maps, heat.input_size, heat.stride)
    return made


def _hill() -> NDArray[np.float32]:
    """Return a normal hill with a standard deviation of a quarter of the side."""
    place = (np.arange(_GRID) + 0.5) / _GRID - 0.5
    slope = np.exp(-0.5 * (place / 0.25) ** 2)
    return np.outer(slope, slope).astype(np.float32)


def _usual_places(cases: Cases, prior: Cases | None) -> NDArray[np.float32]:
    """Return for each case the mean of boxes of its finding, of other patients."""
    source = cases if prior is None else prior
    masks = [truth_mask(boxes, _GRID) for boxes in source.truth]
    total: dict[str, NDArray] = {}
    own: dict[tuple, NDArray] = {}
    for mask, finding, patient in zip(masks, source.finding, source.patient, strict=True):
        total[finding] = total.get(finding, 0) + mask.astype(np.float32)
        own[finding, patient] = own.get((finding, patient), 0) + mask.astype(np.float32)
    nothing = np.zeros((_GRID, _GRID), np.float32)
    maps = np.empty((len(cases), _GRID, _GRID), np.float32)
    for i, (finding, patient) in enumerate(zip(cases.finding, cases.patient, strict=True)):
        maps[i] = total.get(finding, nothing) - own.get((finding, patient), nothing)
    return maps


def _partners(cases: Cases, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return for each case another with the same finding, of another patient; else itself."""
    finding, patient = np.array(cases.finding), np.asarray(cases.patient)
    partner = np.arange(len(cases))
    for name in np.unique(finding):
        mine = np.flatnonzero(finding == name)
        for i in mine:
            others = mine[patient[mine] != patient[i]]
            if len(others):
                partner[i] = others[rng.integers(len(others))]
    return partner
