"""Where radiographs come from: folders, archives that are still packed, a list of paths.

A source names its films and yields them; an image cache is built from one
(:class:`chexlib.data.ImageCache`). :func:`find_radiographs` finds out which kind a path is.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import pandas as pd

from chexlib.data.radiographs import (
    MAX_BYTES,
    Radiograph,
    RadiographError,
    open_radiograph,
    read_file,
)

__all__ = ["Archives", "Files", "Item", "Source", "Task", "batched", "find_radiographs"]

T = TypeVar("T")

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
ARCHIVES = (".tar", ".tar.gz", ".tgz")
NIH_NAME = re.compile(r"(\d{8})_\d{3}\.png")
CHUNK = 32  # films a task: a few hundred milliseconds of decoding


@dataclass(frozen=True)
class Item:
    """One film of a source: a radiograph, or why there is none.

    Attributes
    ----------
    position : int
        Its place in ``source.names``.
    radiograph : Radiograph or RadiographError
    sha256 : str
        Of the file's bytes (of the pixels where there is no file); empty if it could not be read.
    """

    position: int
    radiograph: Radiograph | RadiographError
    sha256: str


class Source(Protocol):
    """What an image cache is built from. It is sent to worker processes, so it can be pickled."""

    @property
    def names(self) -> Sequence[str]:
        """A unique name for each film, such as ``00000001_000.png``."""

    @property
    def origins(self) -> Sequence[str]:
        """Where each film is found, for people."""

    @property
    def patients(self) -> Sequence[int | None]:
        """The patient of each film, where known."""

    def tasks(self, positions: Sequence[int]) -> Iterator[Task]:
        """Yield the work of reading these films, in pieces of a few hundred milliseconds."""


class Task(Protocol):
    """The reading of a few films; it can be pickled, and runs in any process."""

    @property
    def positions(self) -> Sequence[int]:
        """Which films."""

    def __call__(self) -> Iterator[Item]:
        """Yield the films. A bad one is an item, never an exception."""


def batched(items: Iterable[T], *, of: int = CHUNK) -> Iterator[tuple[T, ...]]:
    """Cut what is iterated into tuples of at most ``of``."""
    items = iter(items)
    while part := tuple(itertools.islice(items, of)):
        yield part


def _patients(names: Iterable[str]) -> list[int | None]:
    matches = (NIH_NAME.fullmatch(name) for name in names)
    return [int(match[1]) if match else None for match in matches]


def _read(position: int, data: bytes, name: str) -> Item:
    digest = hashlib.sha256(data).hexdigest()
    try:
        return Item(position, open_radiograph(data, name=name), digest)
    except RadiographError as error:
        return Item(position, error, digest)


@dataclass(frozen=True)
class Files:
    """Films that are files of their own.

    Parameters
    ----------
    paths : tuple of str
    names : tuple of str
        Unique.
    patients : tuple of int or None
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    patients: tuple[int | None, ...]

    @property
    def origins(self) -> tuple[str, ...]:
        """Return the paths."""
        return self.paths

    def tasks(self, positions: Sequence[int]) -> Iterator[ReadFiles]:
        """Yield the work of reading these films."""
        for part in batched(positions):
            yield ReadFiles(part, tuple(self.paths[i] for i in part))


@dataclass(frozen=True)
class ReadFiles:
    """The reading of some files."""

    positions: tuple[int, ...]
    paths: tuple[str, ...]

    def __call__(self) -> Iterator[Item]:
        """Yield the films."""
        for position, path in zip(self.positions, self.paths, strict=True):
            try:
                data = read_file(path)
            except RadiographError as error:
                yield Item(position, error, "")
            else:
                yield _read(position, data, path)


@dataclass(frozen=True)
class Archives:
    """Films inside tar archives, read from front to back and never unpacked.

    Parameters
    ----------
    archives : tuple of str
        Paths.
    members : tuple of (int, str)
        For each film the archive it is in, and its name there.
    """

    archives: tuple[str, ...]
    members: tuple[tuple[int, str], ...]

    @property
    def names(self) -> list[str]:
        """Return the file names, without folders."""
        return [member.rpartition("/")[2] for _, member in self.members]

    @property
    def origins(self) -> list[str]:
        """Return ``archive::member`` for each film."""
        return [f"{self.archives[archive]}::{member}" for archive, member in self.members]

    @property
    def patients(self) -> list[int | None]:
        """Return the patients that NIH's file names say."""
        return _patients(self.names)

    def tasks(self, positions: Sequence[int]) -> Iterator[ReadMembers]:
        """Yield the work of reading these films, whose bytes are taken from the archives here.

        A compressed archive can only be read from its start, so one process inflates it, at some
        hundreds of films a second, and the others decode.
        """
        for number, path in enumerate(self.archives):
            wanted = {self.members[i][1]: i for i in positions if self.members[i][0] == number}
            if wanted:
                for part in batched(self._members(path, wanted)):
                    places, names, contents = zip(*part, strict=True)
                    yield ReadMembers(places, names, contents)

    @staticmethod
    def _members(path: str, wanted: dict[str, int]) -> Iterator[tuple[int, str, bytes | None]]:
        with tarfile.open(path) as packed:
            for member in packed:
                if member.isfile() and member.name in wanted:
                    small = member.size <= MAX_BYTES
                    data = packed.extractfile(member).read() if small else None
                    yield wanted.pop(member.name), f"{path}::{member.name}", data
                if not wanted:
                    return


@dataclass(frozen=True)
class ReadMembers:
    """The decoding of some files whose bytes are known; None for one that is too large."""

    positions: tuple[int, ...]
    names: tuple[str, ...]
    contents: tuple[bytes | None, ...]

    def __call__(self) -> Iterator[Item]:
        """Yield the films."""
        for position, name, data in zip(self.positions, self.names, self.contents, strict=True):
            if data is None:
                limit = f"at most {MAX_BYTES:,} bytes"
                error = RadiographError(name, limit, "more", "It is no radiograph.")
                yield Item(position, error, "")
            else:
                yield _read(position, data, name)


def find_radiographs(path: str | os.PathLike[str]) -> Files | Archives:
    """Find the films under a path, as people have them.

    Parameters
    ----------
    path : path
        A folder, searched with all below it: NIH's ``images_001/images/*.png`` to ``images_012``,
        all in one folder, Kaggle's copy, one's own PNG, JPEG and DICOM files (a DICOM file needs
        ``.dcm`` or ``.dicom``); a folder of NIH's ``images_001.tar.gz`` to ``images_012.tar.gz``,
        or one such archive, read without being unpacked; or a CSV file with a column ``path``
        (relative to the file), and if wanted ``image`` (a unique name) and ``patient``.

    Returns
    -------
    Files or Archives
        Ordered by name.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ValueError
        If there is no film, or two films have one name; or an archive is damaged: its list of
        members is read first.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"Expected radiographs at {path}, found nothing. Check the path.")
    if path.is_dir():
        files = list(_walk(path))
        films = [file for file in files if file.lower().endswith(SUFFIXES)]
        packed = [file for file in files if file.lower().endswith(ARCHIVES)]
        if films:
            return _files(films)
        if packed:
            return _archives(packed)
        raise ValueError(
            f"Expected films ({', '.join(SUFFIXES)}) or archives ({', '.join(ARCHIVES)}) in {path} "
            f"or below, found none among {len(files)} files. Give the folder that holds them."
        )
    if path.suffix.lower() == ".csv":
        return _listed(path)
    if path.name.lower().endswith(ARCHIVES):
        return _archives([str(path)])
    return _files([str(path)])


def _walk(folder: Path) -> Iterator[str]:
    """Yield the files below a folder, through links, but no folder twice."""
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (os.path.join(root, file) for file in files if not file.startswith("."))  # noqa: PTH118 - 112,120 of them


def _unique(names: Sequence[str], origins: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name, origin in zip(names, origins, strict=True):
        if name in first:
            raise ValueError(
                f"Expected each film once, found {name} twice: {first[name]} and {origin}. "
                "Give the folder that holds one of them, or a CSV with a column `image`."
            )
        first[name] = origin


def _files(paths: list[str]) -> Files:
    named = sorted((path.replace(os.sep, "/").rpartition("/")[2], path) for path in paths)
    names = tuple(name for name, _ in named)
    paths = tuple(path for _, path in named)
    _unique(names, paths)
    return Files(paths, names, tuple(_patients(names)))


def _archives(paths: list[str]) -> Archives:
    paths = sorted(paths)
    members = []
    for number, path in enumerate(paths):
        try:
            with tarfile.open(path) as packed:
                found = [m.name for m in packed if m.isfile() and m.name.lower().endswith(SUFFIXES)]
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ValueError(
                f"Expected a complete archive at {path}, found a damaged one ({error}). "
                "Download it again: chexlib fetch images"
            ) from None
        members += [(number, name) for name in found]
    source = Archives(tuple(paths), tuple(sorted(members, key=lambda m: m[1].rpartition("/")[2])))
    if not members:
        raise ValueError(f"Expected films in {', '.join(paths)}, found none.")
    _unique(source.names, source.origins)
    return source


def _listed(path: Path) -> Files:
    try:
        frame = pd.read_csv(path, dtype={"path": str, "image": str})
    except ValueError as error:
        raise ValueError(f"Expected a CSV table in {path}, found another file ({error}).") from None
    if "path" not in frame.columns or not len(frame):
        raise ValueError(
            f"Expected a column `path` and at least one row in {path}, found the columns "
            f"{list(frame.columns)} and {len(frame)} rows."
        )
    if frame["path"].isna().any():
        row = int(frame["path"].isna().argmax()) + 2
        raise ValueError(f"Expected a path in every row of {path}, found none in row {row}.")
    paths = tuple(str(path.parent / name) for name in frame["path"])
    names = tuple(frame["image"]) if "image" in frame else tuple(Path(p).name for p in paths)
    _unique(names, paths)
    if "patient" not in frame:
        return Files(paths, names, tuple(_patients(names)))
    try:
        patients = frame["patient"].astype("Int64")
    except (TypeError, ValueError):
        raise ValueError(f"Expected whole numbers in the column `patient` of {path}.") from None
    return Files(paths, names, tuple(None if pd.isna(p) else int(p) for p in patients))
