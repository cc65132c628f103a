"""Reading a published CSV and refusing it, with file, row and column, when something is wrong."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.files import brief

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

__all__ = ["Checker", "read_csv"]

IMAGE_NAME = r"\d{8}_\d{3}\.png"


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV, plain or compressed; whatever is wrong with it becomes one ValueError."""
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"Expected a label file at {path}, found none.") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"Expected a readable CSV at {path}, got: {error}. The file is damaged or is another "
            "file; fetch or install it again."
        ) from error


class Checker:
    """Checks on one file's table; each error names file, row (header is row 1) and column."""

    def __init__(self, path: Path, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
        self.path, self.frame = path, frame
        missing = [column for column in columns if column not in frame.columns]
        if missing:
            raise ValueError(
                f"Expected column {missing[0]!r} in {path}, found columns "
                f"{brief(list(frame.columns))}. This is another file, or its header was changed."
            )
        for column in columns:
            if column not in ("x", "y", "width", "height"):  # empty where RSNA drew no box
                self.refuse(frame[column].isna(), column, "a value")

    def refuse(self, bad: pd.Series, column: str, expected: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad.to_numpy())[0])
            raise ValueError(
                f"Expected {expected} in {self.path}, row {row + 2}, column {column!r}; got "
                f"{brief(self.frame[column].iloc[row])}. The file is damaged or is another file."
            )

    def rows(self, expected: int) -> None:
        if len(self.frame) != expected:
            raise ValueError(
                f"Expected {expected:,} rows in {self.path}, got {len(self.frame):,}. The file is "
                "cut off or is another release."
            )

    def unique(self, *columns: str) -> None:
        self.refuse(self.frame.duplicated(list(columns)), columns[-1], "no row twice")

    def image_names(self, column: str) -> None:
        good = self.frame[column].astype("str").str.fullmatch(IMAGE_NAME)
        self.refuse(~good, column, "an image name such as 00000001_000.png")

    def one_of(self, column: str, values: Iterable[object]) -> None:
        self.refuse(~self.frame[column].isin(list(values)), column, f"one of {tuple(values)}")

    def numbers(self, column: str, *, low: float, above: bool = False) -> None:
        found = pd.to_numeric(self.frame[column], errors="coerce")
        in_range = (found > low) if above else (found >= low)
        expected = f"a number {'above' if above else 'of at least'} {low}"
        self.refuse(~(in_range & np.isfinite(found)), column, expected)

    def whole_numbers(self, column: str, *, low: int) -> None:
        found = pd.to_numeric(self.frame[column], errors="coerce")
        self.refuse(
            ~((found >= low) & (found % 1 == 0)), column, f"a whole number of at least {low}"
        )

    def converted(self, column: str, function: Callable[[str], str]) -> pd.Series:
        """Map a column through a function that raises ValueError on unknown values."""
        table = {}
        for value in self.frame[column].unique():
            try:
                table[value] = function(value)
            except ValueError as error:
                self.refuse(self.frame[column] == value, column, f"a known label ({error})")
        return self.frame[column].map(table)
