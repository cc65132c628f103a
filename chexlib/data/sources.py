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
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import pandas as pd

from chexlib.data.radiographs import (
    MAX_BYTES,
    Radiograph,
    RadiographError,
    _what,
    open_radiograph,
    read_file,
)
from chexlib.files import brief, legible, write_csv

__all__ = ["Archives", "Files", "Item", "Source", "Task", "batched", "find_radiographs"]

T = TypeVar("T")

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
ARCHIVES = (".tar", ".tar.gz", ".tgz")
NIH_NAME = re.compile(r"(\d{8})_\d{3}\.png")
CHUNK = 32  # films a task: a few hundred milliseconds of decoding
TASK_BYTES = 32 * 2**20  # after which a task of an archive is closed, however few its films
HEAD = 512  # bytes that tell what a file is
# Pictures: what is read, and what was meant as a film and is refused with a reason.
PICTURE = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8|II[*+]\0|MM\0[*+]|BM.{4}\0{4}|RIFF.{4}WEBP|"
    rb"\0\0\0\x0cjP|\xff\x4f\xff\x51",
    re.DOTALL,
)
DIRECTORY = b"1.2.840.10008.1.3.10"  # SOP class of a DICOMDIR: an index of a disc, no film


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
    def stamps(self) -> Sequence[str]:
        """What changes when a film does, known without reading it: its file's size and time."""

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


def _stamp(path: str) -> str:
    try:
        there = os.stat(path)  # noqa: PTH116 - 112,120 files; no Path for each
    except OSError:
        return "not there"
    return f"{there.st_size} bytes, {there.st_mtime_ns} ns"


def _patients(names: Iterable[str]) -> list[int | None]:
    matches = (NIH_NAME.fullmatch(name) for name in names)
    return [int(match[1]) if match else None for match in matches]


def _read(position: int, data: bytes, name: str) -> Item:
    digest = hashlib.sha256(data).hexdigest()
    try:
        return Item(position, open_radiograph(data, name=name), digest)
    except RadiographError as error:
        return Item(position, error, digest)
    except Exception as error:  # whatever a film raises costs that film alone
        found = f"one whose reading fails ({type(error).__name__}: {legible(str(error))[:120]})"
        do = "Copy or download it again."
        return Item(position, RadiographError(name, "a radiograph", found, do), digest)


@dataclass(frozen=True)
class Files:
    """Films that are files of their own.

    Parameters
    ----------
    paths : tuple of str
    names : tuple of str
        Unique.
    patients : tuple of int or None
    ignored : tuple of (str, str)
        Files beside them that are no films, and why.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    patients: tuple[int | None, ...]
    ignored: tuple[tuple[str, str], ...] = ()

    @property
    def origins(self) -> tuple[str, ...]:
        """Return the paths, for people."""
        return tuple(legible(path) for path in self.paths)

    @cached_property
    def stamps(self) -> tuple[str, ...]:
        """Return size and time of each file."""
        return tuple(_stamp(path) for path in self.paths)

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
            name = legible(path)
            try:
                data = read_file(path, name)
            except RadiographError as error:
                yield Item(position, error, "")
            else:
                yield _read(position, data, name)


@dataclass(frozen=True)
class Archives:
    """Films inside tar archives, read from front to back and never unpacked.

    Parameters
    ----------
    archives : tuple of str
        Paths.
    members : tuple of (int, str)
        For each film the archive it is in, and its name there.
    names : list of str
        Unique.
    ignored : tuple of (str, str)
        What is no film, and why.
    """

    archives: tuple[str, ...]
    members: tuple[tuple[int, str], ...]
    names: list[str]
    ignored: tuple[tuple[str, str], ...] = ()

    @property
    def origins(self) -> list[str]:
        """Return ``archive::member`` for each film."""
        return [legible(f"{self.archives[archive]}::{member}") for archive, member in self.members]

    @cached_property
    def stamps(self) -> list[str]:
        """Return size and time of the archive that each film is in."""
        stamps = [_stamp(path) for path in self.archives]
        return [stamps[archive] for archive, _ in self.members]

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
            part: list[tuple[int, str, bytes | None]] = []
            for film in self._members(path, wanted) if wanted else ():
                part.append(film)
                # What closes a task is within it: those of a job that goes on are the same.
                if len(part) == CHUNK or sum(len(f[2] or b"") for f in part) >= TASK_BYTES:
                    yield ReadMembers(*zip(*part, strict=True))
                    part = []
                del film  # it may be large, and another is read next
            if part:
                yield ReadMembers(*zip(*part, strict=True))

    @staticmethod
    def _members(path: str, wanted: dict[str, int]) -> Iterator[tuple[int, str, bytes | None]]:
        with _whole_archive(path), tarfile.open(path) as packed:
            for member in packed:
                if member.isfile() and member.name in wanted:
                    small = member.size <= MAX_BYTES
                    data = packed.extractfile(member).read() if small else None
                    yield wanted.pop(member.name), legible(f"{path}::{member.name}"), data
                    del data
                if not wanted:
                    return


@dataclass(frozen=True)
class ReadMembers:
    """The decoding of some files whose bytes are known; None for one that is too large."""

    positions: tuple[int, ...]
    names: tuple[str, ...]
    contents: tuple[bytes | None, ...]

    @property
    def n_bytes(self) -> int:
        """The memory they take."""
        return sum(len(data or b"") for data in self.contents)

    def __call__(self) -> Iterator[Item]:
        """Yield the films."""
        for position, name, data in zip(self.positions, self.names, self.contents, strict=True):
            if data is None:
                limit = f"at most {MAX_BYTES:,} bytes"
                error = RadiographError(name, limit, "more", "It is no radiograph.")
                yield Item(position, error, "")
            else:
                yield _read(position, data, name)


def write_rejected(path: Path, rejected: Sequence[Sequence[str]]) -> None:
    """List films that could not be read, each with name, origin and reason; no list of none."""
    if rejected:
        write_csv(path, pd.DataFrame(rejected, columns=["image", "source", "reason"]))
    else:
        path.unlink(missing_ok=True)


def find_radiographs(path: str | os.PathLike[str]) -> Files | Archives:
    """Find the films under a path, as people have them.

    Parameters
    ----------
    path : path
        A folder, searched with all below it: NIH's ``images_001/images/*.png`` to ``images_012``,
        all in one folder, Kaggle's copy, one's own PNG, JPEG and DICOM files, with any name or none
        (``IM0001``); a folder of NIH's ``images_001.tar.gz`` to ``images_012.tar.gz``, or one such
        archive, read without being unpacked; or a CSV file with a column ``path`` (relative to the
        file), and if wanted ``image`` (a unique name) and ``patient``.

    Returns
    -------
    Files or Archives
        Ordered by name: the file's own, or its path below the folder where several share one. What
        is no film by its first bytes (text, a DICOMDIR, a hidden file) is in ``ignored``, with the
        reason. A picture of another format (TIFF) is a film that its reader will refuse; so is
        what is called ``.png``, ``.jpg`` or ``.dcm`` and is something else.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ValueError
        If there is no film, or one of NIH's names is there twice; or an archive is damaged: its
        list of members is read first.
    """
    path = Path(path)
    if not path.exists():
        found = legible(str(path))
        raise FileNotFoundError(f"Expected radiographs at {found}, found nothing. Check the path.")
    path = path.absolute()  # a cache says where its films are from, wherever it is asked
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() == ".csv":
        return _listed(path)
    if path.name.lower().endswith(ARCHIVES):
        return _archives([str(path)])
    return _files([str(path)], path.parent)


def _folder(path: Path) -> Files | Archives:
    films, packed, ignored = [], [], []
    for file, reason in _walk(path):
        if not reason and file.lower().endswith(ARCHIVES):
            packed.append(file)
        elif reason := reason or _no_film(file, lambda file=file: _head(file)):
            ignored.append((legible(file), reason))
        else:
            films.append(file)
    if films:
        ignored += [(legible(file), "an archive beside films") for file in packed]
        return _files(films, path, ignored)
    if packed:
        return _archives(packed, ignored)
    why = ", ".join(f"{n:,} {reason}" for reason, n in Counter(r for _, r in ignored).items())
    raise ValueError(
        f"Expected films (PNG, JPEG, DICOM) or archives ({', '.join(ARCHIVES)}) in "
        f"{legible(str(path))} or below, found none among {len(ignored)} files"
        f"{f' ({why})' if why else ''}. Give the folder that holds them."
    )


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what is below a folder, through links, but no folder twice; and why it is left aside.

    ``os.walk`` calls itself, and ends at a thousand folders within each other.
    """
    seen, left = set(), [str(folder)]
    while left:
        root = left.pop()
        try:
            there = os.stat(root)  # noqa: PTH116 - 112,120 files; no Path for each
            if (there.st_dev, there.st_ino) in seen:
                continue
            seen.add((there.st_dev, there.st_ino))
            entries = sorted(os.scandir(root), key=lambda entry: entry.name)
        except OSError:
            yield root, "a folder that cannot be read"
            continue
        for entry in entries:
            if entry.name.startswith("."):
                yield entry.path, "hidden"
            elif entry.is_dir():
                left.append(entry.path)
            elif entry.is_file() or not os.path.exists(entry.path):  # noqa: PTH110
                yield entry.path, ""  # a link that leads nowhere is refused where it is read
            else:
                yield entry.path, "a device, pipe or socket"


def _head(path: str) -> bytes:
    """Return the first bytes of a file; where they cannot be read, those of a film.

    The reader says why.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(HEAD)
    except OSError:
        return b"\x89PNG"


def _no_film(name: str, head: Callable[[], bytes]) -> str:
    """Return why a file is no film, or nothing; its first bytes decide, unless its name does."""
    if name.lower().endswith(SUFFIXES):  # NIH's 112,120 need not be opened for it
        return ""
    start = head()
    if PICTURE.match(start):
        return ""
    if start[128:132] == b"DICM":
        return "a DICOMDIR" if DIRECTORY in start else ""
    found = _what(start).partition(" that begins")[0] if start else "empty"
    return "neither PNG, JPEG nor DICOM" if found == "a file" else found


def _named(paths: Sequence[str], *, below: Path | None = None) -> list[str]:
    """Return a unique name for each film: its file's, or its path where several share that.

    Folders of a PACS hold an ``IM0001`` each. A name of NIH's says which film it is; there it
    cannot be two.
    """
    names = [path.rpartition("/")[2] for path in paths]
    count = Counter(names)
    for i, name in enumerate(names):
        if count[name] > 1 and not NIH_NAME.fullmatch(name):
            names[i] = os.path.relpath(paths[i], below) if below else paths[i]
    return [legible(name) for name in names]


def _unique(names: Sequence[str], origins: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name, origin in zip(names, origins, strict=True):
        if name in first:
            raise ValueError(
                f"Expected each film once, found {name} twice: {first[name]} and {origin}. "
                "Give the folder that holds one of them, or a CSV with a column `image`."
            )
        first[name] = origin


def _files(paths: list[str], folder: Path, ignored: Sequence[tuple[str, str]] = ()) -> Files:
    names = _named([path.replace(os.sep, "/") for path in paths], below=folder)
    order = sorted(range(len(paths)), key=lambda i: (names[i], paths[i]))
    names, paths = tuple(names[i] for i in order), tuple(paths[i] for i in order)
    source = Files(paths, names, tuple(_patients(names)), tuple(ignored))
    _unique(names, source.origins)
    return source


@contextmanager
def _whole_archive(path: str) -> Iterator[None]:
    """Say which archive is damaged."""
    try:
        yield
    except (tarfile.TarError, EOFError, OSError, zlib.error, RecursionError) as error:
        raise ValueError(
            f"Expected a complete archive at {legible(path)}, found a damaged one "
            f"({legible(str(error))[:120]}). Download it again: chexlib fetch images"
        ) from None


def _archives(paths: list[str], ignored: Sequence[tuple[str, str]] = ()) -> Archives:
    paths, members, ignored = sorted(paths), [], list(ignored)
    for number, path in enumerate(paths):
        with _whole_archive(path), tarfile.open(path) as packed:
            for member in packed:
                if member.isdir():
                    continue
                if reason := _no_member(packed, member):
                    ignored.append((legible(f"{path}::{member.name}"), reason))
                else:
                    members.append((number, member.name))
    listed = ", ".join(map(legible, paths))
    if not members:
        raise ValueError(f"Expected films in {listed}, found none.")
    names = _named([name for _, name in members])
    order = sorted(range(len(names)), key=lambda i: names[i])
    source = Archives(
        tuple(paths),
        tuple(members[i] for i in order),
        [names[i] for i in order],
        tuple(ignored),
    )
    _unique(source.names, source.origins)
    return source


def _no_member(packed: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    """Return why a member of an archive is no film, or nothing."""
    if any(part.startswith(".") and part.strip(".") for part in member.name.split("/")):
        return "hidden"
    if member.issym() or member.islnk():
        return "a link"
    if not member.isfile():
        return "a device, pipe or socket"
    return _no_film(member.name, lambda: packed.extractfile(member).read(HEAD))


def _listed(path: Path) -> Files:
    try:
        frame = pd.read_csv(path, dtype={"path": str, "image": str})
    except ValueError as error:
        raise ValueError(f"Expected a CSV table in {path}, found another file ({error}).") from None
    if "path" not in frame.columns or not len(frame):
        raise ValueError(
            f"Expected a column `path` and at least one row in {path}, found the columns "
            f"{brief(list(frame.columns))} and {len(frame)} rows."
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
