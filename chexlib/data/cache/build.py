"""Building an image cache: who reads what, and in which order it is written."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from chexlib.data.cache.index import OK, PENDING, REJECTED, Film, Index, write_at
from chexlib.data.cache.workers import read_all
from chexlib.data.sources import write_rejected
from chexlib.files import open_own

if TYPE_CHECKING:
    from chexlib.data.cache.workers import Result
    from chexlib.data.sources import Source

__all__ = ["Builder", "Progress"]

Progress = Callable[[int, int, int], None]


class Builder:
    """One build: workers read and shrink, this process writes pixels and, after them, the index."""

    def __init__(self, source: Source, folder: Path, size: int) -> None:
        self.source, self.folder, self.size = source, folder, size
        self.pixels = size**2  # bytes of a film
        self.origins = source.origins
        try:
            self.index = Index.read(folder)
        except FileNotFoundError:
            self.index = Index.new(folder, size)
        if self.index.size != size:
            raise ValueError(
                f"Expected films of {self.index.size} px, as the cache in {folder} has them, got "
                f"size={size}. Build into another folder."
            )

    def run(self, workers: int, progress: Progress) -> None:
        """Read what is not there yet, and write it."""
        names, films = self.source.names, self.index.films
        rows = {film.image: row for row, film in enumerate(films)}
        new = [i for i, name in enumerate(names) if name not in rows]
        path = self.folder / "images.u8"
        with os.fdopen(open_own(path, os.O_RDWR | os.O_CREAT), "r+b") as opened:
            file = opened.fileno()
            # Before anything is promised: where there is no room, a cache stays as it was.
            reserve(file, (len(films) + len(new)) * self.pixels)
            self._forget_damaged(file)
            again = self._changed(rows)
            done, bad = len(names) - len(again) - len(new), 0
            progress(done, len(names), bad)
            # New films are planned after those: another film of a known name ends the build, and
            # then it must not leave a finished cache that waits for films.
            for plan in (lambda: again, lambda: self._add(new)):
                todo = plan()
                for results in read_all(self.source, sorted(todo), size=self.size, workers=workers):
                    self._write(file, results, todo)
                    done += len(results)
                    bad += sum(result.reason is not None for result in results)
                    progress(done, len(names), bad)
        self.index.write()
        self._report()

    def _forget_damaged(self, file: int) -> None:
        """No longer promise what the file does not hold."""
        lost = {
            row: film._replace(status=PENDING)
            for row, film in enumerate(self.index.films)
            if film.status == OK
            and zlib.crc32(os.pread(file, self.pixels, row * self.pixels)) != film.crc32
        }
        self.index.set(lost)

    def _changed(self, rows: dict[str, int]) -> dict[int, int]:
        """Return position -> row of known films that are not there, or whose files are others."""
        films, stamps = self.index.films, self.source.stamps
        return {
            i: rows[name]
            for i, name in enumerate(self.source.names)
            if name in rows
            and (films[rows[name]].status != OK or films[rows[name]].stamp != stamps[i])
        }

    def _add(self, new: list[int]) -> dict[int, int]:
        """Give new films their rows; return position -> row."""
        source, first = self.source, len(self.index.films)
        names, patients = source.names, source.patients
        origins, stamps = self.origins, source.stamps
        added = {
            first + k: Film(names[i], patients[i], origins[i], stamps[i]) for k, i in enumerate(new)
        }
        self.index.set(added)
        return dict(zip(new, added, strict=True))

    def _write(self, file: int, results: list[Result], todo: dict[int, int]) -> None:
        """Write pixels, then, once they are on disk, what the index says of them."""
        found = {todo[r.position]: self._film(r, todo[r.position]) for r in results}
        films = self.index.films
        same = {
            row
            for row, film in found.items()
            if films[row].status == OK and films[row].sha256 == film.sha256
        }
        # From here on, and until their pixels are there, these are not promised.
        self.index.set(
            {
                row: films[row]._replace(status=PENDING)
                for row in found.keys() - same
                if films[row].status == OK
            }
        )
        for result in results:
            if (row := todo[result.position]) not in same:
                write_at(file, result.pixels or bytes(self.pixels), row * self.pixels)
        os.fsync(file)
        self.index.set(found)

    def _film(self, result: Result, row: int) -> Film:
        """Return what the index shall say of a film that was read.

        Raises
        ------
        ValueError
            If the cache has another film of that name, from elsewhere.
        """
        origin, before = self.origins[result.position], self.index.films[row]
        if before.status == OK and before.source != origin and before.sha256 != result.sha256:
            raise ValueError(
                f"Expected {before.image} to be the film that the cache in {self.folder} has from "
                f"{before.source}, found another of that name: {origin}. Build into another "
                "folder, or give it another name by a CSV with a column `image`."
            )
        height, width = result.shape or (None, None)
        spacing_y, spacing_x = result.spacing or (None, None)
        film = Film(before.image, before.patient, origin, self.source.stamps[result.position])
        return film._replace(
            source_height=height,
            source_width=width,
            spacing_x=spacing_x,
            spacing_y=spacing_y,
            view=result.view,
            sha256=result.sha256,
            crc32=None if result.reason else zlib.crc32(result.pixels),
            status=REJECTED if result.reason else OK,
            reason=result.reason,
        )

    def _report(self) -> None:
        rejected = [
            (film.image, film.source, film.reason)
            for film in self.index.films
            if film.status == REJECTED
        ]
        write_rejected(self.folder / "rejected.csv", rejected)


def reserve(file: int, n_bytes: int) -> None:
    """Take the space now, so that a disk that is too small is noticed at once."""
    there = os.fstat(file).st_size
    if n_bytes <= there:
        return
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, there, n_bytes - there)
    else:
        os.ftruncate(file, n_bytes)
