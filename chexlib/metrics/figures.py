"""Figures laid out for reading: one of them, a table of them, and what they say of each label.

Rows are those of ``data/label_quality.csv`` (:data:`chexlib.metrics.label_quality.COLUMNS`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.findings import FINDINGS, INFO
from chexlib.metrics.estimates import Estimate
from chexlib.metrics.label_quality import GOOGLE_READS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["known_quality", "layout", "pick"]


def layout(
    rows: pd.DataFrame, *, index: str | Sequence[str], columns: str, decimals: int = 2
) -> pd.DataFrame:
    """Lay figures out for reading: ``estimate (low–high)``, one cell a figure.

    Parameters
    ----------
    rows : DataFrame
        Rows of :data:`COLUMNS`, one for each cell.
    index, columns : str
        Columns of ``rows`` that name the lines and the columns, in order of appearance.
    decimals : int
        As many as the intervals justify.

    Returns
    -------
    DataFrame of str
        Findings by their English names; spaces inside a cell do not break.
    """
    text = [
        _unbroken(Estimate(0, 0, row.estimate, row.low, row.high, ""), decimals)
        for row in rows.itertuples()
    ]
    index = [index] if isinstance(index, str) else list(index)
    wide = rows.assign(text=text).set_index([*index, columns])["text"].unstack(columns, sort=False)
    names = {"ppv": "PPV", "npv": "NPV"} | {name: INFO[name].english for name in FINDINGS}
    return wide.rename(index=names, columns=names).rename_axis(columns=None)


def pick(rows: pd.DataFrame, **where: str) -> Estimate:
    """Return the one figure that ``where`` names.

    Parameters
    ----------
    rows : DataFrame
        Rows of :data:`COLUMNS`.
    **where
        Values of columns, such as ``finding="Pneumothorax", statistic="ppv"``.

    Raises
    ------
    ValueError
        If no row or several fit.
    """
    fits = np.logical_and.reduce([rows[name] == value for name, value in where.items()])
    if fits.sum() != 1:
        raise ValueError(f"Expected one row with {where}, got {fits.sum()}. Name more columns.")
    row = rows[fits].iloc[0]
    k, n = (0 if pd.isna(count) else int(count) for count in (row["k"], row["n"]))
    return Estimate(k, n, row["estimate"], row["low"], row["high"], row["method"])


def known_quality(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what is known of each finding's label, and who it is known from.

    Parameters
    ----------
    rows : DataFrame
        All rows of ``data/label_quality.csv``.

    Returns
    -------
    DataFrame, one line a finding
        Its course; the share of its films in Google's test set that have the read of
        :data:`~chexlib.metrics.label_quality.GOOGLE_READS` (a dash where Google did not look for
        it); the share that RSNA's radiologists call normal, weighted; the share of next films that
        have it too.
    """
    out = []
    for name in FINDINGS:
        seen = {"finding": name, "label": name}
        normal = {"reference": "RSNA radiologists: Normal", "statistic": "share_weighted"}
        again = {"reference": "next film", "statistic": "persistence"}
        read = next((one for one, (_, tried) in GOOGLE_READS.items() if name in tried), None)
        held = {"finding": read, "label": name, "subset": "google_test", "statistic": "ppv"}
        out.append(
            {
                "finding": INFO[name].english,
                "course": "chronic" if INFO[name].chronic else "acute",
                "Google confirms": "–" if read is None else _unbroken(pick(rows, **held)),
                "RSNA calls normal": _unbroken(pick(rows, **seen, **normal)),
                "next film agrees": _unbroken(pick(rows, **seen, **again)),
            }
        )
    return pd.DataFrame(out).set_index("finding")


def _unbroken(found: Estimate, decimals: int = 2) -> str:
    return f"{found:.{decimals}f}".replace(" to ", "–").replace(" ", "\N{NO-BREAK SPACE}")
