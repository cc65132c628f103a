"""The image cache: every film decoded once, then a row of one memory-mapped file.

A folder with ``images.u8`` (uint8 [N, S, S], nothing else) and ``index.txt`` (what each row is, and
checksums). A film counts once the index says so, and that is written after its pixels are on disk:
whatever stops a build, what the index promises is there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.data.cache.build import Builder, Progress
from chexlib.data.cache.index import OK, PENDING, Index
from chexlib.data.cache.workers import LARGEST, cores, refuse_unguarded
from chexlib.files import disk_errors

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from chexlib.data.sources import Source

__all__ = ["ImageCache"]

SAMPLE = 32  # films whose pixels are compared with their checksums whenever a cache is opened
log = logging.getLogger(__name__)


class ImageCache:
    """Films of one size in one file, made by :meth:`build` and opened by :meth:`open`.

    Attributes
    ----------
    folder : Path
    size : int
        Pixels a side.
    images : uint8 memmap, shape (N, size, size)
        Read-only; a rejected film is black. Films that are not square were squashed to squares, as
        NIH's own were: ``index`` has the shape they had.
    index : DataFrame
        One row a film, in the order of ``images``: ``image`` (name), ``patient`` (Int64),
        ``source``, ``stamp`` (size and time of the file), ``source_height``, ``source_width``,
        ``spacing_x``, ``spacing_y`` (mm per pixel of the source), ``view``, ``sha256`` (of the
        source file), ``crc32`` (of the row), ``status`` (``ok`` or ``rejected``) and ``reason``.
    """

    def __init__(self, folder: Path, *, size: int, index: pd.DataFrame) -> None:
        self.folder, self.size, self.index = folder, size, index

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
        size, index = promised.size, promised.table()
        waiting = int((index["status"] == PENDING).sum())
        if waiting:
            raise ValueError(
                f"Expected a finished cache in {folder}, found one that still waits for "
                f"{waiting:,} of {len(index):,} films. Repeat the command that builds it: it goes "
                "on where it stopped."
            )
        present = (folder / "images.u8").stat().st_size
        if present < len(index) * size**2:
            raise ValueError(
                f"Expected {len(index) * size**2:,} bytes in {folder / 'images.u8'}, found "
                f"{present:,}. Copy it again, or build it again."
            )
        cache = cls(folder, size=size, index=index)
        sample = np.linspace(0, len(index) - 1, min(len(index), SAMPLE)).astype(int)
        cache._refuse([index["image"][row] for row in sample if not cache._holds(row)])
        return cache

    @classmethod
    def build(
        cls,
        source: Source,
        folder: str | os.PathLike[str],
        *,
        size: int = 256,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> ImageCache:
        """Build a cache, go on with one that was stopped, or add films to one.

        Films that are there are not read again, unless size or time of their files changed since;
        rejected ones are, since they may have been repaired. Films that cannot be read are rejected
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
        workers : int, optional
            Processes; by default a core each, and two at least. With 1, films are read in this
            process, which a decoder's crash would end.
        progress : callable, optional
            Called with the numbers of films done, of all, and of rejected ones.

        Raises
        ------
        ValueError
            If an option is outside its range, the cache has another size, its index is damaged, or
            it has another film of the same name from elsewhere.
        RuntimeError
            In a process that imports a script without the guard ``if __name__ == "__main__":``.
        OSError
            If the disk is full: what is done stays, and the same call goes on.
        """
        from filelock import FileLock

        refuse_unguarded()
        if not 16 <= size <= LARGEST:
            raise ValueError(f"Expected a size from 16 to {LARGEST} pixels, got {size}.")
        workers = max(2, cores()) if workers is None else workers
        if workers < 1:
            raise ValueError(f"Expected at least one worker, got {workers}.")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except TimeoutError:
            log.warning("Waiting for another build in %s", folder)
            lock.acquire()
        try:
            with disk_errors(folder / "images.u8"):
                Builder(source, folder, size).run(workers, progress or (lambda *_: None))
        finally:
            lock.release()
        return cls.open(folder)

    @cached_property
    def images(self) -> np.memmap:
        """The films, mapped when they are first asked for."""
        return np.memmap(
            self.folder / "images.u8", np.uint8, "r", shape=(len(self), self.size, self.size)
        )

    @cached_property
    def content_hash(self) -> str:
        """A hash of names, sources and pixels, for the record of a training run."""
        columns = self.index[["image", "sha256", "crc32"]].to_csv(index=False)
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

    def _holds(self, row: int) -> bool:
        """Return whether a row's pixels are those that the index promises."""
        film = self.index.iloc[row]
        return film["status"] != OK or zlib.crc32(self.images[row]) == film["crc32"]

    def _refuse(self, wrong: list[str]) -> None:
        if wrong:
            raise ValueError(
                f"Expected the checksums of the index in {self.folder / 'images.u8'}, found "
                f"{len(wrong)} films with others: {', '.join(wrong[:5])}. Build again: only they "
                "are read again."
            )

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
        wrong = []
        for row, film in enumerate(self.index["image"]):
            if not self._holds(row):
                wrong.append(film)
            if progress:
                progress(row + 1, len(self), len(wrong))
        self._refuse(wrong)
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
