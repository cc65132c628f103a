"""Thresholds of a run: chosen on its validation films, written beside its weights, read back."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from chexlib.files import brief
from chexlib.findings import FINDINGS, normalise
from chexlib.metrics import OneClassWarning, at_sensitivity, choose, max_f1, youden

__all__ = ["RULES", "choose_thresholds", "read_thresholds"]

RULES = {"youden": youden, "max_f1": max_f1, "sensitivity_0.90": at_sensitivity(0.9)}
"""How thresholds are chosen, under the names that ``chexlib evaluate`` gives the rules as well."""

COLUMNS = ("rule", "finding", "threshold")


def choose_thresholds(labels: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Return the threshold that each rule chooses for each finding.

    Parameters
    ----------
    labels : bool array [N, 14]
    scores : array [N, 14]
        Probabilities of films that were not trained on, and on which nothing is reported.

    Returns
    -------
    DataFrame
        ``rule``, ``finding``, ``threshold``: one of the scores; ``inf`` where it is best to call no
        film, NaN where no film, or every film, has the finding.
    """
    parts = []
    for name, rule in RULES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OneClassWarning)  # the table says NaN
            chosen = np.atleast_1d(choose(labels, scores, rule))
        parts.append(pd.DataFrame({"rule": name, "finding": FINDINGS, "threshold": chosen}))
    return pd.concat(parts, ignore_index=True)


def read_thresholds(path: str | Path, *, rule: str = "youden") -> np.ndarray:
    """Return the thresholds of a table.

    Parameters
    ----------
    path : path
        CSV: ``finding`` and ``threshold``, and ``rule`` where there are several, such as a run's
        ``thresholds.csv`` or ``operating_points.csv`` of ``chexlib evaluate``. Rows of other
        names than the findings, such as ``No_Finding``, are left out.
    rule : str
        Which rows, where the table has rules.

    Returns
    -------
    float array [14]
        In the order of the findings; NaN where the table has none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, no row is of the rule, a finding is there twice, or a threshold is
        no number or below 0.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a table of thresholds at {path}, found none.")
    try:
        table = pd.read_csv(path)
    except ValueError as error:
        raise ValueError(f"Expected a CSV of thresholds at {path}, got: {error}.") from None
    missing = [name for name in COLUMNS[1:] if name not in table]
    if missing:
        raise ValueError(
            f"Expected the columns {', '.join(COLUMNS)} in {path}, got "
            f"{brief(list(table.columns))}."
        )
    if "rule" in table:
        known = list(dict.fromkeys(table["rule"]))
        table = table[table["rule"] == rule]
        if not len(table):
            raise ValueError(f"Expected a rule among {brief(known)} of {path}, got {rule!r}.")
    chosen: dict[str, float] = {}
    values = pd.to_numeric(table["threshold"], errors="coerce")
    for row, finding in table["finding"].items():
        try:
            name = normalise(str(finding))
        except ValueError:
            continue
        raw, value = table["threshold"][row], values[row]
        if name in chosen or value < 0 or (np.isnan(value) and not pd.isna(raw)):
            raise ValueError(
                f"Expected one threshold from 0 up for {name} in {path}, got "
                f"{'a second' if name in chosen else brief(raw)} in row {row + 2}."
            )
        chosen[name] = float(value)
    if not chosen:
        raise ValueError(f"Expected findings in the column `finding` of {path}, found none.")
    return np.array([chosen.get(name, np.nan) for name in FINDINGS])
