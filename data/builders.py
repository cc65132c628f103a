"""What the builders of tables share: their register, their inputs, and how a table says its origin.

A builder returns a whole table and its provenance: the keywords of
:func:`chexlib.data.tables.write_table`, and ``suffix`` where a long table is to be compressed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from chexlib.data import data_home, package_file
from chexlib.data.phantom import VERSION, Film
from chexlib.data.tables import table_folder
from chexlib.findings import FINDINGS
from chexlib.metrics import Bootstrap, Resamples

if TYPE_CHECKING:
    from pathlib import Path

Built = tuple[pd.DataFrame, dict[str, Any]]
BUILDERS: dict[str, Callable[[], Built]] = {}
"""The builder of each table, by the table's name."""


def builds(name: str) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Register a function as the builder of the table ``data/<name>.csv``."""

    def register(build: Callable[[], Built]) -> Callable[[], Built]:
        BUILDERS[name] = build
        return build

    return register


def carried(name: str) -> Path:
    """Return a file of labels that torchxrayvision carries."""
    return package_file("torchxrayvision", "data", name)


def fetched(*parts: str) -> Path:
    """Return where a file that `chexlib fetch` brings lies, or would."""
    return data_home().joinpath(*parts)


LABELS = carried("Data_Entry_2017_v2020.csv.gz")
BOXES = carried("BBox_List_2017.csv.gz")
GOOGLE = carried("google2019_nih-chest-xray-labels.csv.gz")
RSNA = carried("kaggle_stage_2_train_labels.csv.zip")
LUNGS = table_folder() / "phantom_lungs.csv"  # what the phantom's anatomy is drawn from


FILM = ("patient", "follow_up", "view", "sex", "age", "seed")


def quoted(source: str, **more: str) -> dict[str, Any]:
    """Return the provenance of figures that others published."""
    return {"source": source, "licence": "figures quoted", "inputs": [], **more}


def simulated(source: str, inputs: list[Path], note: str) -> dict[str, Any]:
    """Return the provenance of figures on simulated films; the note begins with the phantom's."""
    licence = "figures CC BY 4.0; label rows of NIH, free use with attribution"
    note = f"phantom {VERSION}{note}" if note.startswith(",") else f"phantom {VERSION}; {note}"
    return {"source": source, "licence": licence, "inputs": inputs, "note": note}


def described(film: Film) -> dict[str, Any]:
    """Return the arguments of a simulated film, as JSON can hold them."""
    kept = {name: getattr(film, name) for name in FILM}
    return kept | {"severity": dict(film.severity), "devices": sorted(film.devices)}


def named(name: str, estimate: float, low: float, high: float) -> dict[str, float]:
    """Return an estimate and its interval as columns ``name``, ``name_low`` and ``name_high``."""
    return {name: estimate, f"{name}_low": low, f"{name}_high": high}


def by_finding(found: Bootstrap, mean: str) -> pd.DataFrame:
    """Return the rows of the 14 findings and of their mean: ``finding estimate low high``."""
    rows = np.column_stack([found.estimate, *found.interval()])
    whole = found.mean()
    rows = np.vstack([rows, [whole.estimate, *whole.interval()]])
    frame = pd.DataFrame(rows, columns=["estimate", "low", "high"])
    frame.insert(0, "finding", (*FINDINGS, mean))
    return frame


def ratio(top: np.ndarray, base: np.ndarray, draws: Resamples) -> Bootstrap:
    """Return a sum over films, or one of each column, over another, with its resamples."""
    top, base = (np.asarray(one, float).reshape(len(one), -1) for one in (top, base))
    sums = draws.sums(np.hstack([top, base]))
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = sums[:, : top.shape[1]] / sums[:, top.shape[1] :]
        estimate = top.sum(axis=0) / base.sum(axis=0)
    if top.shape[1] == 1:
        estimate, replicates = estimate[0], replicates[:, 0]
    return Bootstrap(estimate, replicates, draws)


def listed(found: list, name: str = "estimate") -> pd.DataFrame:
    """Return estimates with their intervals and methods as rows: ``estimate low high method``."""
    rows = [(one.estimate, one.low, one.high, one.method) for one in found]
    return pd.DataFrame(rows, columns=[name, "low", "high", "method"])
