"""Differences laid out for reading: with their sign, their interval and a short p-value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["difference_text", "p_text"]

_SPACE = "\N{NO-BREAK SPACE}"
_MINUS = "\N{MINUS SIGN}"


def difference_text(
    rows: pd.DataFrame,
    columns: tuple[str, str, str] = ("difference", "low", "high"),
    *,
    decimals: int = 2,
) -> pd.Series:
    r"""Return differences as text: ``+0.12 (−0.03 to +0.27)``, without spaces that break.

    Parameters
    ----------
    rows : DataFrame
    columns : three str
        The difference and the ends of its interval.
    decimals : int
        As many as the intervals justify. What rounds to zero has no sign.

    Returns
    -------
    Series of str
        Indexed as ``rows``; without the parenthesis where there is no interval.

    Examples
    --------
    >>> rows = pd.DataFrame({"difference": [-0.001], "low": [-0.05], "high": [0.04]})
    >>> difference_text(rows)[0].replace("\xa0", " ")
    '0.00 (−0.05 to +0.04)'
    """
    values = rows[list(columns)].astype(float).round(decimals).to_numpy()
    text = []
    for value, low, high in values:
        interval = "" if np.isnan([low, high]).any() else f" ({_signed(low, decimals)} to "
        interval += f"{_signed(high, decimals)})" if interval else ""
        text.append((_signed(value, decimals) + interval).replace(" ", _SPACE))
    return pd.Series(text, index=rows.index)


def p_text(p_values: ArrayLike) -> list[str]:
    """Return p-values to two digits, small ones as "<0.001"; empty where there is none.

    Examples
    --------
    >>> p_text([0.0402, 1e-9, float("nan")])
    ['0.04', '<0.001', '']
    """
    p = np.asarray(p_values, dtype=float)
    if ((p < 0) | (p > 1)).any():
        raise ValueError("Expected p-values between 0 and 1, got one outside.")
    return ["" if np.isnan(x) else "<0.001" if x < 0.001 else f"{x:.2g}" for x in p]


def _signed(value: float, decimals: int) -> str:
    text = f"{value:+.{decimals}f}" if value else f"{0:.{decimals}f}"
    return text.replace("-", _MINUS)
