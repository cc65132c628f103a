"""Figures that can be touched on the site, as they stand in a notebook: `data/touch/NAME.json`."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy.special import expit

from chexlib.data.tables import read_text, table_folder
from chexlib.plots import PALETTE
from chexlib.plots.images import film

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["content", "decoded", "letter_lines", "places"]

LOOKS = (("called", "o", PALETTE[0]), ("missed", "s", PALETTE[1]))


def content(name: str) -> dict[str, Any]:
    """Return what a thing to touch knows."""
    return json.loads(read_text(table_folder() / "touch" / f"{name}.json"))


def decoded(picture: str) -> NDArray[np.uint8]:
    """Return a film of such a file, [H, W]."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("L"))


def places(ax: Axes, known: Mapping[str, Any], finding: str) -> None:
    """Show a healthy chest, and at each place of a lesion whether the network called it there.

    Parameters
    ----------
    ax : Axes
    known : mapping
        Of ``touch/lesion``.
    finding : str
        Nodule, Mass or Effusion.
    """
    chest, k = decoded(known["healthy"]["film"]), known["findings"].index(finding)
    film(ax, chest)
    given = expit([one["logits"][k] for one in known["films"][finding]])
    called = given >= known["thresholds"][k]
    at = len(chest) * np.array([one["at"] for one in known["films"][finding]])
    for chosen, (name, marker, colour) in zip((called, ~called), LOOKS, strict=True):
        ax.plot(*at[chosen].T, marker, color=colour, markersize=7, mec="white", label=name)
    ax.legend(loc="lower left", fontsize=8)


def letter_lines(axes: Sequence[Axes], known: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Draw what each network gives each film without the letter in its corner, and with it.

    Parameters
    ----------
    axes : sequence of Axes
        One a network.
    known : mapping
        Of ``touch/marker``.
    names : mapping of run to title
    """
    for ax, (run, title) in zip(axes, names.items(), strict=True):
        for one in known["films"]:
            ends = expit([one[state][run]["logit"] for state in ("without", "with")])
            ax.plot([0, 1], ends, "o-", color=PALETTE[0])
        ax.set_xticks([0, 1], ["no letter", "letter"])
        ax.set(xlim=(-0.3, 1.3), ylim=(0, 1), title=title)
    axes[0].set_ylabel("probability of a nodule")
