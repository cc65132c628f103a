"""Building an image cache: who reads what, and in which order it is written."""

from __future__ import annotations

import errno
import math
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from chexlib.data.cache.index import OK, PENDING, REJECTED, connect, create, size_of
from chexlib.data.cache.workers import read_all
from chexlib.files import DISK_FULL, open_own, write_csv

if TYPE_CHECKING:
    from chexlib.data.cache.workers import Result
    from chexlib.data.sources import Source

__all__ = ["Builder", "Progress", "disk_errors"]

Progress = Callable[[int, int, int], None]


class Builder:
    """One build: the plan in SQLite, workers that read and shrink, this process that writes."""

    def __init__(self, source: Source, folder: Path, size: int) -> None:
        self.source, self.folder, self.size = source, folder, size

    def run(self, workers: int, progress: Progress) -> None:
        """Read what is not there yet, and write it."""
        path, names = self.folder / "images.u8", self.source.names
        with (
            closing(connect(self.folder)) as db,
            os.fdopen(open_own(path, os.O_RDWR | os.O_CREAT), "r+b") as file,
        ):
            todo = self._plan(db, file.fileno())
            self._forget_damaged(db, file.fileno(), todo)
            done, bad = len(names) - len(todo), 0
            progress(done, len(names), bad)
            for results in read_all(self.source, sorted(todo), size=self.size, workers=workers):
                self._write(db, file.fileno(), results, todo)
                done += len(results)
                bad += sum(result.reason is not None for result in results)
                progress(done, len(names), bad)
            self._report(db)

    def _plan(self, db: sqlite3.Connection, file: int) -> dict[int, int]:
        """Give every film of the source a row; return position -> row of those to read."""
        names, origins, patients = self.source.names, self.source.origins, self.source.patients
        with db:
            db.execute("BEGIN IMMEDIATE")
            create(db, self.size)
            there = size_of(db, self.folder)
            if there != self.size:
                raise ValueError(
                    f"Expected films of {there} px, as the cache in {self.folder} has them, got "
                    f"size={self.size}. Build into another folder."
                )
            rows = dict(db.execute("SELECT image, row FROM films"))
            new = [i for i, name in enumerate(names) if name not in rows]
            db.executemany(
                "INSERT INTO films (row, image, patient, source, status) VALUES (?, ?, ?, ?, ?)",
                [
                    (len(rows) + k, names[i], patients[i], origins[i], PENDING)
                    for k, i in enumerate(new)
                ],
            )
            # Before the plan holds: where there is no room, a finished cache stays as it was.
            reserve(file, (len(rows) + len(new)) * self.size**2)
        waiting = dict(db.execute("SELECT image, row FROM films WHERE status != ?", (OK,)))
        return {i: waiting[name] for i, name in enumerate(names) if name in waiting}

    def _forget_damaged(self, db: sqlite3.Connection, file: int, todo: dict[int, int]) -> None:
        """Read again what is in the index and not, or no longer, in the file."""
        place = {name: i for i, name in enumerate(self.source.names)}
        n_bytes, lost = self.size**2, []
        for name, row, crc in db.execute(
            "SELECT image, row, crc32 FROM films WHERE status = ?", (OK,)
        ):
            if zlib.crc32(os.pread(file, n_bytes, row * n_bytes)) != crc:
                lost.append((PENDING, row))
                if name in place:
                    todo[place[name]] = row
        with db:
            db.executemany("UPDATE films SET status = ? WHERE row = ?", lost)

    def _write(
        self, db: sqlite3.Connection, file: int, results: list[Result], todo: dict[int, int]
    ) -> None:
        """Write pixels, then, once they are on disk, what the index says of them."""
        n_bytes, facts = self.size**2, []
        for result in results:
            row = todo[result.position]
            pixels = result.pixels or bytes(n_bytes)
            _write_at(file, pixels, row * n_bytes)
            height, width = result.shape or (None, None)
            spacing_y, spacing_x = result.spacing or (None, None)
            crc = None if result.reason else zlib.crc32(pixels)
            status = REJECTED if result.reason else OK
            facts.append((height, width, spacing_x, spacing_y, result.view, result.sha256, crc,
                          status, result.reason, row))  # fmt: skip
        os.fsync(file)
        with db:
            db.executemany(
                "UPDATE films SET source_height=?, source_width=?, spacing_x=?, spacing_y=?, "
                "view=?, sha256=?, crc32=?, status=?, reason=? WHERE row=?",
                facts,
            )

    def _report(self, db: sqlite3.Connection) -> None:
        path = self.folder / "rejected.csv"
        rejected = pd.read_sql_query(
            "SELECT image, source, reason FROM films WHERE status = 'rejected' ORDER BY row", db
        )
        if len(rejected):
            write_csv(path, rejected)
        else:
            path.unlink(missing_ok=True)


def reserve(file: int, n_bytes: int) -> None:
    """Take the space now, so that a disk that is too small is noticed at once."""
    there = os.fstat(file).st_size
    if n_bytes <= there:
        return
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, there, n_bytes - there)
    else:
        os.ftruncate(file, n_bytes)


def _write_at(file: int, data: bytes, offset: int) -> None:
    """Write all of it: a disk that fills up may take a part."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def disk_errors(folder: Path, n_bytes: int) -> Iterator[None]:
    """Say what a full disk means and what to do."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        disk = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
        if disk or (isinstance(error, OSError) and error.errno in DISK_FULL):
            raise OSError(
                errno.ENOSPC,
                f"Expected room for {math.ceil(n_bytes / 1e6):,} MB of films in {folder}, found "
                "the disk full. Free some space and repeat: what is done is kept.",
            ) from None
        raise
