"""Reading a CSV and refusing it, with file, row and column, when something is wrong."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from chexlib.files import brief

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DAMAGED = "The file is damaged or is another file."


class Rule(NamedTuple):
    """What each value of a column has to be, in words and as a function of the column."""

    expected: str
    good: Callable[[pd.Series], pd.Series]


ANY = Rule("a value", pd.Series.notna)
IMAGE = Rule(
    "an image name such as 00000001_000.png",
    lambda column: column.astype("str").str.fullmatch(r"\d{8}_\d{3}\.png"),
)


def one_of(values: Iterable[object]) -> Rule:
    """Admit certain values only."""
    admitted = tuple(values)
    return Rule(f"one of {admitted}", lambda column: column.isin(admitted))


def number(low: float, *, above: bool = False, whole: bool = False) -> Rule:
    """Admit finite, or whole, numbers of at least ``low``, or above it."""

    def good(column: pd.Series) -> pd.Series:
        found = pd.to_numeric(column, errors="coerce")
        fits = (found > low) if above else (found >= low)
        return fits & ((found % 1 == 0) if whole else np.isfinite(found))

    kind = "whole number" if whole else "number"
    return Rule(f"a {kind} {'above' if above else 'of at least'} {low}", good)


class CheckedTable:
    """A file's table; each error names file, row (a CSV's header is row 1) and column.

    Parameters
    ----------
    path : path
        A CSV, plain or compressed.
    rules : mapping of column to Rule or None
        Columns that must be there; None admits an empty value and anything else.
    unique : str or list of str, optional
        Columns that together stand in no two rows.
    rows : int, optional
        How many rows there are.
    frame : DataFrame, optional
        The file as it was read already.
    header : int
        How many rows stand before the first: none in a list of records.
    advice : str
        What an error about a value says at its end.
    """

    def __init__(
        self,
        path: str | Path,
        rules: Mapping[str, Rule | None],
        *,
        unique: str | list[str] = (),
        rows: int | None = None,
        frame: pd.DataFrame | None = None,
        header: int = 1,
        advice: str = DAMAGED,
    ) -> None:
        self.path, self.advice, self._header = Path(path), advice, header
        self.frame = self.read(self.path) if frame is None else frame
        for column in rules:
            if column not in self.frame:
                raise ValueError(
                    f"Expected column {column!r} in {path}, found columns "
                    f"{brief(list(self.frame.columns))}. This is another file, or its header was "
                    "changed."
                )
        for column, rule in rules.items():
            if rule is not None:
                self.refuse(self.frame[column].isna(), column, ANY.expected)
                self.refuse(~rule.good(self.frame[column]), column, rule.expected)
        if unique:
            columns = [unique] if isinstance(unique, str) else unique
            self.refuse(self.frame.duplicated(columns), columns[-1], "no row twice")
        if rows is not None and len(self.frame) != rows:
            raise ValueError(
                f"Expected {rows:,} rows in {path}, got {len(self.frame):,}. The file is cut off "
                "or is another release."
            )

    @staticmethod
    def read(path: Path, **options: object) -> pd.DataFrame:
        """Read a CSV, with options of pandas; whatever is wrong with it becomes one ValueError."""
        try:
            return pd.read_csv(path, **options)
        except FileNotFoundError:
            raise FileNotFoundError(f"Expected a label file at {path}, found none.") from None
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"Expected a readable CSV at {path}, got: {error}. {DAMAGED[:-1]}; write, "
                "fetch or install it again."
            ) from error

    def titles(self, name: Callable[[str], str]) -> dict[str, str]:
        """Return the title of each column by what a function calls it, no two the same."""
        titles: dict[str, str] = {}
        for title in self.frame.columns:
            if (called := name(title)) in titles:
                raise ValueError(
                    f"Expected each column once in {self.path}, got {brief(titles[called])} and "
                    f"{brief(title)}."
                )
            titles[called] = title
        return titles

    def refuse(self, bad: pd.Series | np.ndarray, column: str, expected: str) -> None:
        """Raise with the first row that is bad."""
        if np.any(bad):
            row = int(np.argmax(bad))
            found = self.frame[column].iloc[[row]].tolist()[0]  # as Python's own type
            raise ValueError(
                f"Expected {expected} in {self.path}, row {row + 1 + self._header}, column "
                f"{brief(column)}; got {brief(found)}. {self.advice}"
            )

    def converted(self, column: str, function: Callable[[str], object]) -> np.ndarray:
        """Map a column through a function that raises ValueError on unknown values."""
        codes, values = pd.factorize(self.frame[column])
        results = []
        for code, value in enumerate(values):
            try:
                results.append(function(str(value)))
            except ValueError as error:
                self.refuse(codes == code, column, f"a known label ({error})")
        return np.array(results)[codes]


def own_table(
    path: str | Path, what: str, advice: str, *, columns: Iterable[str] = ()
) -> CheckedTable:
    """Read a CSV of one's own as text, as programs and spreadsheets of any country write it.

    Values are separated by commas, semicolons or tabs, whichever makes most columns of the header;
    the text is UTF-8, or UTF-16 that says so at its start; it may be compressed by gzip.

    Parameters
    ----------
    path : path
    what : str
        What is in it, for errors, such as "labels".
    advice : str
        What an error about a value says at its end.
    columns : iterable of str
        That have to be there.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such text, has no rows, too many columns, or rows of other lengths.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of {what} at {path}, found none.")
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        boms = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
        wide = data.startswith(boms) or b"\0" in data[:2]
        text = data.decode("utf-16" if wide else "utf-8-sig")
        head = text.partition("\n")[0]
        separator = max(",;\t", key=lambda mark: len(next(csv.reader([head], delimiter=mark), ())))
        header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    except (ValueError, OSError, EOFError, zlib.error, csv.Error) as error:
        raise ValueError(
            f"Expected a CSV of {what} in UTF-8 or UTF-16 at {path}, got: {error}. Save the table "
            'as "CSV UTF-8".'
        ) from error
    while rows and not any(rows[-1]):  # a spreadsheet may add such rows
        rows.pop()
    if not rows:
        raise ValueError(f"Expected at least one film in {path}, got the header alone.")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(
                f"Expected {len(header)} values between {separator!r} in {path}, row {number}, got "
                f"{len(row)}. A value that holds this mark, such as a decimal comma, needs quotes."
            )
    raw = pd.DataFrame(rows, columns=[title.strip() for title in header], dtype="str")
    raw = raw.loc[:, raw.columns != ""]
    return CheckedTable(path, dict.fromkeys(columns), frame=raw, advice=advice)


def numbers(column: pd.Series) -> pd.Series:
    """Return the numbers in texts, with a decimal point or comma; NaN where there is none."""
    codes, texts = pd.factorize(column)  # few texts stand in many rows
    found = pd.to_numeric(pd.Series(texts, dtype="str").str.replace(",", "."), errors="coerce")
    return pd.Series(
        np.append(found.to_numpy(float), np.nan)[codes], column.index, name=column.name
    )
