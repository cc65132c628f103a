"""The index of an image cache: a text file that grows by a line for each thing that is known.

The first line has the format, the films' size, and how many films were there when it was written;
each other line is a film as it stands from then on. A line ends with the CRC-32 of all lines up to
it, its own text included: one that was lost, doubled, moved or changed is noticed. A line counts
when it is whole, so what a kill cuts off at the end is dropped. A finished build writes the file
anew, with one line a film.

A checksum is no signature: who writes an index on purpose can promise anything.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from chexlib.files import open_own, write_atomically

__all__ = ["OK", "PENDING", "REJECTED", "Film", "Index", "write_at"]

NAME = "index.txt"
FORMAT = 2
PENDING, OK, REJECTED = "pending", "ok", "rejected"


class Film(NamedTuple):
    """What the index says of a film; see :class:`chexlib.data.ImageCache`."""

    image: str
    patient: int | None
    source: str
    stamp: str
    source_height: int | None = None
    source_width: int | None = None
    spacing_x: float | None = None
    spacing_y: float | None = None
    view: str | None = None
    sha256: str | None = None
    crc32: int | None = None
    status: str = PENDING
    reason: str | None = None


class Index:
    """The films of a cache in the order of their rows, and the file that says so.

    Attributes
    ----------
    path : Path
    size : int
        Pixels a side.
    films : list of Film
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size, self.films = path, size, []
        self._crc = self._end = 0

    @classmethod
    def new(cls, folder: Path, size: int) -> Index:
        """Write the index of no films yet."""
        index = cls(folder / NAME, size)
        index.write()
        return index

    @classmethod
    def read(cls, folder: Path) -> Index:
        """Read the index in a folder.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it is of another format, or damaged: which line.
        """
        path = folder / NAME
        # What follows the last line's end was cut off by a kill.
        lines = path.read_bytes().split(b"\n")[:-1]
        index, form, least, number = cls(path, 0), FORMAT, 0, 0
        try:
            for number, line in enumerate(lines, 1):
                said = index._next(line)
                if number > 1:
                    index._put(said[0], Film(*said[1:]))
                    continue
                form, index.size, least = said["format"], int(said["size"]), int(said["films"])
                if form != FORMAT:
                    break
        except (ValueError, TypeError, KeyError, IndexError):
            raise _untrusted(path, f"line {number} is damaged") from None
        if form != FORMAT:
            raise ValueError(
                f"Expected an image cache of format {FORMAT} in {folder}, found {form}. Remove the "
                "folder and build it again."
            )
        if len(index.films) < least or not lines:
            raise _untrusted(path, f"its end is missing, after {len(index.films):,} films")
        return index

    def _next(self, line: bytes) -> Any:
        """Return what a line says, if it is the one that was written behind those before it."""
        text, _, said = line.rpartition(b"\t")
        crc = zlib.crc32(text, self._crc)
        if said != b"%08x" % crc:
            raise ValueError("Another checksum.")
        self._crc = crc
        self._end += len(line) + 1
        return json.loads(text)

    def _line(self, said: object) -> bytes:
        text = json.dumps(said).encode()  # ASCII: a name that is no UTF-8 survives
        self._crc = zlib.crc32(text, self._crc)
        return b"%b\t%08x\n" % (text, self._crc)

    def set(self, films: dict[int, Film]) -> None:
        """Say what films are from now on, by row; on the disk when this returns.

        Where there is no room, the file is left as it was.
        """
        if not films:
            return
        before = self._crc
        content = b"".join(self._line([row, *film]) for row, film in films.items())
        file = open_own(self.path, os.O_RDWR)
        try:
            os.ftruncate(file, self._end)  # what a kill cut off
            write_at(file, content, self._end)
            os.fsync(file)
        except BaseException:
            os.ftruncate(file, self._end)
            self._crc = before
            raise
        finally:
            os.close(file)
        self._end += len(content)
        for row, film in films.items():
            self._put(row, film)

    def _put(self, row: int, film: Film) -> None:
        if not 0 <= row <= len(self.films):
            raise IndexError(row)
        self.films[row : row + 1] = [film]

    def write(self) -> None:
        """Write the file anew, whole or not at all, with a line a film."""
        self._crc = 0
        head = {"format": FORMAT, "size": self.size, "films": len(self.films)}
        lines = [self._line(head), *(self._line([i, *film]) for i, film in enumerate(self.films))]
        content = b"".join(lines)
        write_atomically(self.path, lambda draft: draft.write_bytes(content))
        self._end = len(content)

    def table(self) -> pd.DataFrame:
        """Return the films as a table, a row each."""
        frame = pd.DataFrame(self.films, columns=list(Film._fields))
        return frame.astype({"patient": "Int64", "crc32": "Int64"})


def write_at(file: int, data: bytes, offset: int) -> None:
    """Write all of it: a disk that fills up may take a part."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _untrusted(path: Path, why: str) -> ValueError:
    return ValueError(
        f"Expected the index of an image cache in {path}, found one that cannot be trusted "
        f"({why}). Copy it again, or remove the folder and build it again."
    )
