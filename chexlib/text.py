"""An estimate as text, for everything that is read by people: its interval, its sign, its p.

And sentences that carry such texts: :class:`Prose`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.findings import FINDINGS, INFO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

_SPACE = "\N{NO-BREAK SPACE}"


def estimate_text(
    estimate: float, low: float, high: float, *, decimals: int = 2, signed: bool = False
) -> str:
    """Return an estimate with its interval as text.

    Parameters
    ----------
    estimate, low, high : float
        Without the parenthesis where an end of the interval is NaN.
    decimals : int
        As many as the interval justifies.
    signed : bool
        Whether a plus is shown, and a minus by its own character. What rounds to zero has no sign.

    Examples
    --------
    >>> estimate_text(0.86, 0.738, 0.93), estimate_text(-0.001, -0.05, 0.04, signed=True)
    ('0.86 (0.74 to 0.93)', '0.00 (−0.05 to +0.04)')
    """

    def number(value: float) -> str:
        if not signed:
            return f"{value:.{decimals}f}"
        text = f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")
        return text if text.strip("+\N{MINUS SIGN}0.") else text[1:]

    interval = "" if np.isnan([low, high]).any() else f" ({number(low)} to {number(high)})"
    return number(estimate) + interval


def _each(frame: pd.DataFrame, **options: object) -> pd.Series:
    """Return each row, of an estimate and the ends of its interval, as text."""
    text = [estimate_text(*row, **options) for row in frame.itertuples(index=False)]
    return pd.Series(text, index=frame.index, dtype="str")


def interval_text(
    frame: pd.DataFrame,
    columns: Sequence[str] = ("estimate", "low", "high"),
    *,
    scale: float = 1.0,
    decimals: int = 1,
) -> list[str]:
    r"""Return each row's estimate and interval as text, for a table that is read by people.

    Spaces within the interval are no-break spaces, so that a narrow page does not tear it.

    Parameters
    ----------
    frame : DataFrame
    columns : sequence of 3 str
        Estimate, low end, high end.
    scale : float
        Factor, such as 100 for percent.
    decimals : int
        Decimals shown: as many as the width of the intervals justifies.

    Examples
    --------
    >>> frame = pd.DataFrame({"estimate": [0.1284], "low": [0.1201], "high": [0.1372]})
    >>> interval_text(frame, scale=100)
    ['12.8 (12.0\xa0to\xa013.7)']
    """
    text = _each(frame[list(columns)].astype(float) * scale, decimals=decimals)
    return list(text.str.replace(" to ", f"{_SPACE}to{_SPACE}"))


def difference_text(
    rows: pd.DataFrame, columns: Sequence[str] = ("estimate", "low", "high"), *, decimals: int = 2
) -> pd.Series:
    r"""Return differences as text: ``+0.12 (−0.03 to +0.27)``, without spaces that break.

    Parameters
    ----------
    rows : DataFrame
    columns : sequence of 3 str
        The difference and the ends of its interval.
    decimals : int
        As many as the intervals justify. What rounds to zero has no sign.

    Returns
    -------
    Series of str
        Indexed as ``rows``; without the parenthesis where there is no interval.

    Examples
    --------
    >>> rows = pd.DataFrame({"estimate": [-0.001], "low": [-0.05], "high": [0.04]})
    >>> difference_text(rows)[0].replace("\xa0", " ")
    '0.00 (−0.05 to +0.04)'
    """
    values = rows[list(columns)].astype(float).round(decimals)
    return _each(values, decimals=decimals, signed=True).str.replace(" ", _SPACE)


def layout(
    rows: pd.DataFrame, *, index: str | Sequence[str], columns: str, decimals: int = 2
) -> pd.DataFrame:
    """Lay figures out for reading: ``estimate (low–high)``, one cell a figure.

    Parameters
    ----------
    rows : DataFrame
        ``estimate``, ``low`` and ``high``, one row for each cell.
    index, columns : str
        Columns of ``rows`` that name the lines and the columns, in order of appearance.
    decimals : int
        As many as the intervals justify.

    Returns
    -------
    DataFrame of str
        Findings by their English names; spaces inside a cell do not break.
    """
    text = _each(rows[["estimate", "low", "high"]], decimals=decimals)
    text = text.str.replace(" to ", "–").str.replace(" ", _SPACE)
    index = [index] if isinstance(index, str) else list(index)
    wide = rows.assign(text=text).set_index([*index, columns])["text"].unstack(columns, sort=False)
    names = {"ppv": "PPV", "npv": "NPV"} | {name: INFO[name].english for name in FINDINGS}
    return wide.rename(index=names, columns=names).rename_axis(columns=None)


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


class Prose(dict[str, object]):
    """Computed numbers by name, and the sentences that quote them.

    A notebook keeps a number as ``say["films"] = f"{n:,}"`` and calls ``say("{{films}} films.")``:
    what comes back is shown as Markdown, in JupyterLab as on the page of a book.

    Examples
    --------
    >>> say = Prose(films="112,120")
    >>> say["patients"] = "30,805"
    >>> print(say("{{films}} films of {{patients}} patients {cite}`wang2017`.")._repr_markdown_())
    112,120 films of 30,805 patients {cite}`wang2017`.
    """

    def __call__(self, text: str) -> Sentences:
        """Return a text in Markdown with the number of each name in double braces.

        Raises
        ------
        ValueError
            If there is no number of such a name.
        """
        names = re.findall(r"\{\{(.+?)\}\}", text)
        if unknown := [name for name in names if name not in self]:
            raise ValueError(f"Expected a number for each name, got none for {unknown}.")
        return Sentences(re.sub(r"\{\{(.+?)\}\}", lambda name: str(self[name[1]]), text).strip())


class Sentences(str):
    """Markdown that a notebook shows as what it says."""

    def _repr_markdown_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        """Return how many words there are: the text itself is shown as Markdown."""
        return f"<{len(self.split())} words>"
