"""The image cache: every film decoded once, then a row of one memory-mapped file.

A folder with ``images.u8`` (uint8 [N, S, S], nothing else) and ``index.txt`` (what each row is, and
checksums). A film counts once the index says so, and that is written after its pixels are on disk:
whatever stops a build, what the index promises is there.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import zlib
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import pandas as pd

from chexlib.data.radiographs import FITS
from chexlib.data.sources import Progress, read_all, write_rejected
from chexlib.files import cores, disk_errors, locked, open_own, refuse_unguarded, write_atomically

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from chexlib.data.sources import Result, Source

LARGEST = 2048  # pixels a side of a film in a cache; a file that asks for 100,000 asks for 10 GB
SAMPLE = 32  # films whose pixels are compared with their checksums whenever a cache is opened
IMAGES, INDEX, FORMAT = "images.u8", "index.txt", 2
PENDING, OK, REJECTED = "pending", "ok", "rejected"


class Film(NamedTuple):
    """What the index says of a film; see :class:`ImageCache`."""

    image: str
    patient: int | str | None
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

    The file grows by a line for each thing that is known. The first line has the format, the films'
    size and, unless they were squashed, fit, and how many were there when it was written; each
    other line is a film as it stands from then on. A line ends with the CRC-32 of all lines up to
    it, its own text included: one that was lost, doubled, moved or changed is noticed. A line
    counts when it is whole, so what a kill cuts off at the end is dropped. A finished build writes
    the file anew, with one line a film.

    A checksum is no signature: who writes an index on purpose can promise anything.

    Attributes
    ----------
    path, pixels : Path
        The index, and the file of films.
    size : int
        Pixels a side.
    fit : {"squash", "pad"}
    films : list of Film
    """

    def __init__(self, folder: Path, size: int, fit: str = "squash") -> None:
        self.path, self.pixels = folder / INDEX, folder / IMAGES
        self.size, self.fit, self.films = size, fit, []
        self._crc = self._end = 0

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
        index, form, least, number = cls(folder, 0), FORMAT, -1, 1
        # What follows the last line's end was cut off by a kill.
        lines = index.path.read_bytes().split(b"\n")[:-1]
        with suppress(ValueError, TypeError, KeyError, IndexError):
            head = index._next(lines[0])
            form, index.size = head["format"], int(head["size"])
            index.fit = head.get("fit", index.fit)
            for line in lines[1:] if form == FORMAT else ():
                number += 1
                row, *film = index._next(line)
                index.films[row : row + 1] = [Film(*film)]
            number += 1
            least = int(head["films"])
        if form != FORMAT:
            raise ValueError(
                f"Expected an image cache of format {FORMAT} in {folder}, found {form}. Remove the "
                "folder and build it again."
            )
        if not 0 <= least <= len(index.films):
            raise ValueError(
                f"Expected the index of an image cache in {index.path}, found one that cannot be "
                f"trusted (line {number} is damaged or missing). Copy it again, or remove the "
                "folder and build it again."
            )
        return index

    def set(self, films: dict[int, Film]) -> None:
        """Say what films are from now on, by row; on the disk when this returns.

        Where there is no room, a part of it may stand there, which is true as well.
        """
        if not films:
            return
        content = b"".join(self._line([row, *film]) for row, film in films.items())
        with os.fdopen(open_own(self.path, os.O_RDWR), "r+b") as file:
            file.truncate(self._end)  # what a kill cut off
            file.seek(self._end)
            file.write(content)
            _flush(file)
        self._end += len(content)
        for row, film in films.items():
            self.films[row : row + 1] = [film]

    def write(self) -> None:
        """Write the file anew, whole or not at all, with a line a film."""
        self._crc = 0
        fit = {} if self.fit == "squash" else {"fit": self.fit}
        head = {"format": FORMAT, "size": self.size, **fit, "films": len(self.films)}
        lines = [self._line(head), *(self._line([i, *film]) for i, film in enumerate(self.films))]
        content = b"".join(lines)
        write_atomically(self.path, lambda draft: draft.write_bytes(content))
        self._end = len(content)

    def images(self) -> np.memmap:
        """Return the films' pixels, mapped: uint8 [N, size, size]."""
        return np.memmap(self.pixels, np.uint8, "r", shape=(len(self.films), self.size, self.size))

    def damaged(
        self, rows: Collection[int] | None = None, progress: Progress | None = None
    ) -> list[int]:
        """Return those of some rows, or of a sample, whose pixels are not what is promised."""
        if rows is None:
            last = len(self.films) - 1
            rows = np.linspace(0, last, min(last + 1, SAMPLE)).astype(int).tolist()
        damaged, images = [], self.images() if self.films else None
        for done, row in enumerate(rows, 1):
            film = self.films[row]
            if film.status == OK and zlib.crc32(images[row]) != film.crc32:
                damaged.append(row)
            if progress:
                progress(done, len(rows), len(damaged))
        return damaged

    def _next(self, line: bytes) -> Any:
        """Return what a line says, if it is the one that was written behind those before it."""
        text, _, said = line.rpartition(b"\t")
        self._crc = zlib.crc32(text, self._crc)
        if said != b"%08x" % self._crc:
            raise ValueError("Another checksum.")
        self._end += len(line) + 1
        return json.loads(text)

    def _line(self, said: object) -> bytes:
        text = json.dumps(said).encode()  # ASCII: a name that is no UTF-8 survives
        self._crc = zlib.crc32(text, self._crc)
        return b"%b\t%08x\n" % (text, self._crc)


def _flush(file: BinaryIO) -> None:
    """Bring what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


class _Build:
    """One build: workers read and shrink, this process writes pixels and, after them, the index."""

    def __init__(
        self, source: Source, folder: Path, size: int, fit: str, progress: Progress | None
    ) -> None:
        self.source, self.progress = source, progress or (lambda *_: None)
        self.names, self.origins, self.stamps = source.names, source.origins, source.stamps
        self.done = self.bad = 0
        try:
            self.index = Index.read(folder)
        except FileNotFoundError:
            self.index = Index(folder, size, fit)
            self.index.write()
        if (self.index.size, self.index.fit) != (size, fit):
            raise ValueError(
                f"Expected films of {self.index.size} px and fit={self.index.fit!r}, as the cache "
                f"in {folder} has them, got size={size} and fit={fit!r}. Build into another folder."
            )

    def run(self, workers: int) -> None:
        """Read what is not there yet, or whose file is another, and write it."""
        films, path, n_bytes = self.index.films, self.index.pixels, self.index.size**2
        rows = {film.image: row for row, film in enumerate(films)}
        new = [i for i, name in enumerate(self.names) if name not in rows]
        there = path.stat() if path.exists() else None
        changed = not there or there.st_size < len(films) * n_bytes
        changed = changed or there.st_mtime_ns > self.index.path.stat().st_mtime_ns
        with os.fdopen(open_own(path, os.O_RDWR | os.O_CREAT), "r+b") as file:
            # Before anything is promised: where there is no room, a cache stays as it was.
            _reserve(file.fileno(), (len(films) + len(new)) * n_bytes)
            # Pixels are on the disk before the index promises them. So every row is read only where
            # the file is too short or was written to after the index, or a sample is damaged.
            if changed or self.index.damaged():
                self._forget(self.index.damaged(range(len(films))))
            again = {
                i: rows[name]
                for i, (name, stamp) in enumerate(zip(self.names, self.stamps, strict=True))
                if name in rows
                and (films[rows[name]].status, films[rows[name]].stamp) != (OK, stamp)
            }
            self.done = len(self.names) - len(new) - len(again)
            self.progress(self.done, len(self.names), self.bad)
            self._read(file, again, workers)
            # Added after those: another film of a known name ends the build, and then it must not
            # leave a finished cache that waits for films.
            added = dict(zip(new, itertools.count(len(films)), strict=False))
            empty = zip(self.names, self.source.patients, self.origins, self.stamps, strict=True)
            pending = [Film(*said) for said in empty]
            self.index.set({row: pending[i] for i, row in added.items()})
            self._read(file, added, workers)
        self.index.write()
        rejected = [(f.image, f.source, f.reason) for f in films if f.status == REJECTED]
        write_rejected(path.with_name("rejected.csv"), rejected)

    def _forget(self, rows: Iterable[int]) -> None:
        """No longer promise some rows."""
        self.index.set({row: self.index.films[row]._replace(status=PENDING) for row in rows})

    def _read(self, file: BinaryIO, rows: dict[int, int], workers: int) -> None:
        """Read films at some positions and write their pixels, then what the index says of them."""
        films, size, fit = self.index.films, self.index.size, self.index.fit
        for results in read_all(self.source, sorted(rows), size=size, workers=workers, fit=fit):
            found = {rows[r.position]: self._film(r, films[rows[r.position]]) for r in results}
            ok = {row for row in found if films[row].status == OK}
            same = {row for row in ok if films[row].sha256 == found[row].sha256}
            # From here on, and until their pixels are there, these are not promised.
            self._forget(ok - same)
            for row, result in zip(found, results, strict=True):
                if row not in same:
                    file.seek(row * size**2)
                    file.write(bytes(size**2) if result.pixels is None else result.pixels)
            _flush(file)
            self.index.set(found)
            self.done += len(results)
            self.bad += sum(result.reason is not None for result in results)
            self.progress(self.done, len(self.names), self.bad)

    def _film(self, result: Result, before: Film) -> Film:
        """Return what the index shall say of a film that was read.

        Raises
        ------
        ValueError
            If the cache has another film of that name, from elsewhere.
        """
        origin, stamp = self.origins[result.position], self.stamps[result.position]
        if before.status == OK and before.source != origin and before.sha256 != result.sha256:
            raise ValueError(
                f"Expected {before.image} to be the film that the cache in "
                f"{self.index.path.parent} has from {before.source}, found another of that name: "
                f"{origin}. Build into another folder, or give it another name by a CSV with a "
                "column `image`."
            )
        found = [*result.shape, *result.spacing[::-1], result.view, result.sha256]
        found += [None, REJECTED] if result.reason else [zlib.crc32(result.pixels), OK]
        return Film(before.image, before.patient, origin, stamp, *found, result.reason)


def _reserve(file: int, n_bytes: int) -> None:
    """Take the space now, so that a disk that is too small is noticed at once."""
    there = os.fstat(file).st_size
    if n_bytes > there and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, there, n_bytes - there)
    elif n_bytes > there:
        os.ftruncate(file, n_bytes)


class ImageCache:
    """Films of one size in one file, made by :meth:`build` and opened by :meth:`open`.

    Attributes
    ----------
    folder : Path
    size : int
        Pixels a side.
    fit : {"squash", "pad"}
        What became of films that are no squares; ``index`` has the shape they had.
    images : uint8 memmap, shape (N, size, size)
        Read-only; a rejected film is black.
    index : DataFrame
        One row a film, in the order of ``images``: ``image`` (name), ``patient`` (Int64, or text),
        ``source``, ``stamp`` (size and time of the file), ``source_height``, ``source_width``,
        ``spacing_x``, ``spacing_y`` (mm per pixel of the source), ``view``, ``sha256`` (of the
        source file), ``crc32`` (of the row), ``status`` (``ok`` or ``rejected``) and ``reason``.
    """

    def __init__(self, promised: Index) -> None:
        self.folder, self._promised = promised.path.parent, promised
        self.size, self.fit = promised.size, promised.fit
        frame = pd.DataFrame(promised.films, columns=list(Film._fields))
        texts = any(isinstance(film.patient, str) for film in promised.films)
        self.index = frame.astype({"patient": object if texts else "Int64", "crc32": "Int64"})

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> ImageCache:
        """Open a finished cache.

        Raises
        ------
        FileNotFoundError
            If there is none in the folder.
        ValueError
            If its build has not ended, it is of another format, its index is damaged, its file of
            films is too short, or one of a sample of its films is not what the index says;
            :meth:`verify` checks all.
        """
        folder = Path(folder)
        try:
            promised = Index.read(folder)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"Expected an image cache in {folder}, found none. "
                "Build it: chexlib cache SOURCE FOLDER"
            ) from None
        waiting, count = sum(film.status == PENDING for film in promised.films), len(promised.films)
        if waiting:
            raise ValueError(
                f"Expected a finished cache in {folder}, found one that still waits for "
                f"{waiting:,} of {count:,} films. Repeat the command that builds it: it goes "
                "on where it stopped."
            )
        needed, present = count * promised.size**2, promised.pixels.stat().st_size
        if present < needed:
            raise ValueError(
                f"Expected {needed:,} bytes in {promised.pixels}, found {present:,}. Copy it "
                "again, or build it again."
            )
        cache = cls(promised)
        cache._refuse(promised.damaged())
        return cache

    @classmethod
    def build(
        cls,
        source: Source,
        folder: str | os.PathLike[str],
        *,
        size: int = 256,
        fit: str = "squash",
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> ImageCache:
        """Build a cache, go on with one that was stopped, or add films to one.

        Films that are there are not read again, unless size or time of their files changed since;
        rejected ones are, since they may have been repaired. What the index promises is trusted,
        unless the file of films was written to after it, or a sample is damaged: then every row
        is checked, and a damaged one read again. Films that cannot be read are rejected
        with a reason, listed in ``rejected.csv``, and the build goes on. A second build in the
        folder waits for the first.

        Parameters
        ----------
        source : Source
            From :func:`chexlib.data.find_radiographs`, or simulated.
        folder : path
            Made if it is not there. It will take ``len(source.names) * size**2`` bytes.
        size : int
            Pixels a side, 16 to 2048. Films are averaged over areas when they shrink, and
            interpolated linearly when they grow.
        fit : {"squash", "pad"}
            Films that are no squares are squashed to them, as NIH's own were, or keep their shape
            between black bars.
        workers : int, optional
            Processes; by default a core each, and two at least. With 1, films are read in this
            process, which a decoder's crash would end.
        progress : callable, optional
            Called with the numbers of films done, of all, and of rejected ones.

        Raises
        ------
        ValueError
            If an option is outside its range, the cache has another size or fit, its index is
            damaged, or it has another film of the same name from elsewhere.
        RuntimeError
            In a process that imports a script without the guard ``if __name__ == "__main__":``.
        OSError
            If the disk is full: what is done stays, and the same call goes on.
        """
        refuse_unguarded()
        if not 16 <= size <= LARGEST:
            raise ValueError(f"Expected a size from 16 to {LARGEST} pixels, got {size}.")
        if fit not in FITS:
            raise ValueError(f"Expected fit of {FITS}, got {fit!r}.")
        workers = max(2, cores()) if workers is None else workers
        if workers < 1:
            raise ValueError(f"Expected at least one worker, got {workers}.")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        waiting = f"Waiting for another build in {folder}"
        with locked(folder / ".lock", waiting), disk_errors(folder / IMAGES):
            _Build(source, folder, size, fit, progress).run(workers)
        return cls.open(folder)

    @cached_property
    def images(self) -> np.memmap:
        """The films, mapped when they are first asked for."""
        return self._promised.images()

    @cached_property
    def content_hash(self) -> str:
        """A hash of names, sources and pixels, for the record of a training run."""
        columns = self.index[["image", "sha256", "crc32"]].to_csv(index=False)
        columns += "" if self.fit == "squash" else self.fit
        return hashlib.sha256(columns.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        """Return the number of films, rejected ones included."""
        return len(self.index)

    def __repr__(self) -> str:
        """Name the folder, the number of films and their size."""
        return f"ImageCache({str(self.folder)!r}, {len(self):,} films of {self.size} px)"

    def __reduce__(self) -> tuple:
        """Pickle as a folder: a worker opens the cache again."""
        return ImageCache.open, (self.folder,)

    def rows(self, names: ArrayLike) -> np.ndarray:
        """Return the row of each image name, int64.

        Raises
        ------
        ValueError
            If a name is not in the cache.
        """
        rows = pd.Index(self.index["image"]).get_indexer(names)
        missing = np.asarray(names)[rows < 0]
        if len(missing):
            raise ValueError(
                f"Expected films of the cache in {self.folder}, got {len(missing):,} that are not "
                f"in it: {', '.join(map(str, missing[:5]))}. Add them: chexlib cache SOURCE FOLDER"
            )
        return rows.astype(np.int64)

    def verify(self, source: Source | None = None, *, progress: Progress | None = None) -> None:
        """Check every row against its checksum, and every source file where a source is given.

        Parameters
        ----------
        source : Source, optional
            The files the cache was built from; those that changed since are named.
        progress : callable, optional
            Called with the numbers of films checked, of all, and of wrong ones.

        Raises
        ------
        ValueError
            Naming the films whose pixels or files are not what the index says. Building again
            repairs the rows.
        """
        try:
            self._refuse(self._promised.damaged(range(len(self)), progress))
        except ValueError:
            with suppress(OSError):  # the next build shall see that it must look at every row
                self._promised.pixels.touch()
            raise
        if source is None:
            return
        known = dict(zip(self.index["image"], self.index["sha256"], strict=True))
        shared = [i for i, name in enumerate(source.names) if known.get(name)]
        changed = [
            source.names[item.position]
            for task in source.tasks(shared)
            for item in task()
            if item.sha256 != known[source.names[item.position]]
        ]
        if changed:
            raise ValueError(
                f"Expected the files that {self.folder} was built from, found {len(changed)} that "
                f"changed since: {', '.join(changed[:5])}. Build into a new folder."
            )

    def _refuse(self, damaged: list[int]) -> None:
        if damaged:
            raise ValueError(
                f"Expected the checksums of the index in {self.folder / IMAGES}, found "
                f"{len(damaged)} films with others: {', '.join(self.index['image'][damaged[:5]])}. "
                "Build again: only they are read again."
            )
