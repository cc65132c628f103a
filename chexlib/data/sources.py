"""Where radiographs come from: folders, archives that are still packed, a list of paths.

A source names its films and yields them; an image cache is built from one
(:class:`chexlib.data.ImageCache`). :func:`find_radiographs` makes one of whatever a path is.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from chexlib.data.checks import own_table
from chexlib.data.radiographs import (
    MAX_BYTES,
    RadiographError,
    open_radiograph,
    read_file,
    resized,
    what,
)
from chexlib.files import cores, legible, processes, write_csv

Progress = Callable[[int, int, int], None]  # numbers of films done, of all, of bad ones

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
ARCHIVES = (".tar", ".tar.gz", ".tgz")
NIH_NAME = re.compile(r"(\d{8})_\d{3}\.png")
CHUNK = 32  # films a task: a few hundred milliseconds of decoding
HELD = 32 * 2**20  # bytes of files that wait for each worker, beyond which none is added
TASK_BYTES = 32 * 2**20  # after which a task of an archive is closed, however few its films
HEAD = 512  # bytes that tell what a file is
# Pictures: what is read, and what was meant as a film and is refused with a reason.
PICTURE = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8|II[*+]\0|MM\0[*+]|BM.{4}\0{4}|RIFF.{4}WEBP|"
    rb"\0\0\0\x0cjP|\xff\x4f\xff\x51",
    re.DOTALL,
)
DIRECTORY = b"1.2.840.10008.1.3.10"  # SOP class of a DICOMDIR: an index of a disc, no film
log = logging.getLogger(__name__)


class Result(NamedTuple):
    """What became of one film: its pixels, or the reason why there are none.

    Attributes
    ----------
    position : int
        Its place in ``source.names``.
    sha256 : str
        Of the file's bytes (of the pixels where there is no file); empty if it could not be read.
    pixels : uint8 array [H, W] or None
        As they are in the source, or shrunk, as :func:`read_all` gives them.
    shape, spacing : (height, width) or (None, None)
        Of the source.
    view : str or None
    identity : (str, str, str) or ()
        As in :class:`chexlib.data.radiographs.Radiograph`.
    reason : str or None
    """

    position: int
    sha256: str
    pixels: np.ndarray | None = None
    shape: tuple[int | None, int | None] = (None, None)
    spacing: tuple[float | None, float | None] = (None, None)
    view: str | None = None
    identity: tuple[str, ...] = ()
    reason: str | None = None


class Source(Protocol):
    """What an image cache is built from.

    Attributes
    ----------
    names : sequence of str
        A unique name for each film, such as ``00000001_000.png``.
    origins : sequence of str
        Where each film is found, for people.
    stamps : sequence of str
        What changes when a film does, known without reading it: its file's size and time.
    patients : sequence of int, str or None
        The patient of each film, where known.
    """

    names: Sequence[str]
    origins: Sequence[str]
    stamps: Sequence[str]
    patients: Sequence[int | str | None]

    def tasks(self, positions: Sequence[int]) -> Iterator[Task]:
        """Yield the work of reading these films, in pieces of a few hundred milliseconds."""


class Task(Protocol):
    """The reading of the films at ``positions``; it can be pickled, and runs in any process."""

    positions: Sequence[int]

    def __call__(self) -> Iterator[Result]:
        """Yield the films. A bad one is a result with a reason, never an exception."""


def batched(items: Iterable, *, of: int = CHUNK) -> Iterator[tuple]:
    """Cut what is iterated into tuples of at most ``of``."""
    items = iter(items)
    while part := tuple(itertools.islice(items, of)):
        yield part


@dataclass(frozen=True)
class Films:
    """Films that are files of their own, or members of tar archives that are never unpacked.

    Attributes
    ----------
    names : list of str
        Unique.
    places : list of (str, str)
        Of each film its archive, or nothing, and its path: there, or in the file system.
    patients : list of int, str or None
        As NIH's file names say, or as text of a list.
    ignored : list of (str, str)
        What else was found and is no film, and why.
    below : str
        The folder, with a slash at its end, from which :attr:`paths` start.
    """

    names: list[str]
    places: list[tuple[str, str]]
    patients: list[int | str | None]
    ignored: list[tuple[str, str]] = field(default_factory=list)
    below: str = ""

    def __post_init__(self) -> None:
        first: dict[str, str] = {}
        for name, origin in zip(self.names, self.origins, strict=True):
            if name in first:
                raise ValueError(
                    f"Expected each film once, found {name} twice: {first[name]} and {origin}. "
                    "Give the folder that holds one of them, or a CSV with a column `image`."
                )
            first[name] = origin

    @cached_property
    def paths(self) -> list[str]:
        """The path of each film from the folder that was searched, or in its archive."""
        return [legible(_below(path, self.below)) for _, path in self.places]

    @cached_property
    def origins(self) -> list[str]:
        """The path of each film, or ``archive::member``."""
        return [_origin(*place) for place in self.places]

    @cached_property
    def stamps(self) -> list[str]:
        """Size and time of each film's file, or of the archive that it is in."""
        files = [archive or path for archive, path in self.places]
        stamps = {file: _stamp(file) for file in set(files)}
        return [stamps[file] for file in files]

    def some(self, positions: Iterable[int]) -> Films:
        """Return some of the films, in the order given."""
        kept = list(positions)
        names, places = [self.names[i] for i in kept], [self.places[i] for i in kept]
        return Films(names, places, [self.patients[i] for i in kept], below=self.below)

    def tasks(self, positions: Sequence[int]) -> Iterator[Read]:
        """Yield the work of reading these films.

        The bytes of a member of an archive are taken from it here. A compressed archive can only
        be read from its start, so one process inflates it, at some hundreds of films a second, and
        the others decode.
        """
        archives: dict[str, dict[str, int]] = {}
        for i in positions:
            archive, path = self.places[i]
            archives.setdefault(archive, {})[path] = i
        for part in batched(archives.pop("", {}).items()):
            yield Read([(i, self.origins[i], path) for path, i in part])
        for archive, wanted in archives.items():
            part, size = [], 0
            with _whole_archive(archive) as packed:
                for member in packed:
                    if member.isfile() and member.name in wanted:
                        i = wanted.pop(member.name)
                        content = packed.extractfile(member).read(MAX_BYTES + 1)
                        part.append((i, self.origins[i], content))
                        size += len(content)
                        del content  # it may be large, and another is read next
                    # What closes a task is within it: those of a job that goes on are the same.
                    if part and (not wanted or len(part) == CHUNK or size >= TASK_BYTES):
                        yield Read(part)
                        part, size = [], 0
                    if not wanted:
                        break
                if part:
                    yield Read(part)


@dataclass(frozen=True)
class Read:
    """The reading of some films.

    Attributes
    ----------
    films : list of (int, str, str or bytes)
        Position, what errors call it, and its path or content.
    """

    films: list[tuple[int, str, str | bytes]]

    @property
    def positions(self) -> list[int]:
        """Which films."""
        return [position for position, _, _ in self.films]

    @property
    def n_bytes(self) -> int:
        """The memory that contents take."""
        return sum(len(content) for *_, content in self.films if isinstance(content, bytes))

    def __call__(self) -> Iterator[Result]:
        """Yield the films."""
        for position, name, content in self.films:
            digest = ""
            try:
                data = content if isinstance(content, bytes) else read_file(content, name)
                digest = hashlib.sha256(data).hexdigest()
                film = open_radiograph(data, name=name)
            except RadiographError as error:
                yield Result(position, digest, reason=str(error))
            else:
                said = film.pixels.shape, film.spacing or (None, None), film.view, film.identity
                yield Result(position, digest, film.pixels, *said)


def read_all(
    source: Source, positions: Sequence[int], *, size: int, workers: int, fit: str = "squash"
) -> Iterator[list[Result]]:
    """Yield what became of the films of a task, one task after the other, in any order.

    ``size`` and ``fit`` are those of :func:`chexlib.data.radiographs.resized`.
    A film whose reading ends the process (a decoder's crash, or memory that ran out) is rejected
    like any other bad film; with one worker, films are read in this process, which it would end.
    """
    run = partial(_run, size=size, fit=fit)
    if workers == 1:
        yield from map(run, source.tasks(positions))
        return
    left = list(positions)
    while left:
        done, flying, tasks = set(), {}, source.tasks(left)
        with processes(workers) as pool:
            try:
                while True:
                    # Two tasks a worker keep it busy; more, or larger ones, would only pile up.
                    while (
                        len(flying) < 2 * workers
                        and sum(getattr(task, "n_bytes", 0) for task in flying.values())
                        < HELD * workers
                        and (task := next(tasks, None)) is not None
                    ):
                        flying[pool.submit(run, task)] = task
                        del task  # it may be large
                    if not flying:
                        return
                    for future in wait(flying, return_when=FIRST_COMPLETED).done:
                        results = future.result()
                        done.update(flying.pop(future).positions)
                        yield results
            except BrokenProcessPool:
                log.warning("A process that read films ended; its films are read one by one")
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        for task in flying.values():
            yield list(_one_by_one(source, task.positions, run))
            done.update(task.positions)
        left = [i for i in left if i not in done]


def read_squares(
    films: Films,
    positions: Sequence[int],
    *,
    size: int,
    fit: str,
    tell: Callable[[int, int], object] = lambda *_: None,
) -> tuple[list[Result], list[Result]]:
    """Return films that can be read, as squares in their order, and those that cannot.

    Raises
    ------
    ValueError
        If none can be read, with the reason of the first.
    """
    found: list[Result] = []
    for part in read_all(films, positions, size=size, fit=fit, workers=max(2, cores())):
        found += part
        tell(len(found), len(positions))
    found.sort(key=lambda film: film.position)
    good, bad = ([one for one in found if (one.reason is None) == fine] for fine in (True, False))
    if not good:
        raise ValueError(f"Expected a film that can be read, got {len(bad):,}: {bad[0].reason}")
    return good, bad


def _one_by_one(
    source: Source, positions: Sequence[int], run: Callable[[Task], list[Result]]
) -> Iterator[Result]:
    """Read films in one process, one at a time: if it ends, the film is to blame."""
    waiting = list(positions)
    while waiting:
        with processes(1) as pool, suppress(BrokenProcessPool):
            while waiting:
                (task,) = source.tasks(waiting[:1])
                yield from pool.submit(run, task).result()
                del waiting[0]
        if waiting:
            i, do = waiting.pop(0), "Copy or download it again."
            expected, found = "a file that can be decoded", "one that ends its reader"
            error = RadiographError(source.origins[i], expected, found, do)
            yield Result(i, "", reason=str(error))


def _run(task: Task, *, size: int, fit: str) -> list[Result]:
    return [
        film if film.reason else film._replace(pixels=resized(film.pixels, size, fit=fit))
        for film in task()
    ]


def write_rejected(path: Path, rejected: Sequence[Sequence[str]]) -> None:
    """List films that could not be read, each with name, origin and reason; no list of none."""
    if rejected:
        write_csv(path, pd.DataFrame(rejected, columns=["image", "source", "reason"]))
    else:
        path.unlink(missing_ok=True)


def find_radiographs(path: str | os.PathLike[str]) -> Films:
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
    Films
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
    shown = legible(str(path))
    if not path.exists():
        raise FileNotFoundError(f"Expected radiographs at {shown}, found nothing. Check the path.")
    path = path.absolute()  # a cache says where its films are from, wherever it is asked
    if path.suffix.lower() == ".csv" and not path.is_dir():
        return _listed(path)
    found, packed = [], []
    for file, left_out in _walk(path) if path.is_dir() else [(str(path), "")]:
        if not left_out and file.lower().endswith(ARCHIVES):
            packed.append(file)
        else:  # a file that was named is a film, whatever is in it
            why = left_out or (path.is_dir() and _no_film(file, partial(_head, file)))
            found.append((("", file), why))
    if not all(why for _, why in found):
        found += [(("", archive), "an archive beside films") for archive in packed]
        packed = []
    for archive in sorted(packed):
        with _whole_archive(archive) as members:
            listed = [m for m in members if not m.isdir()]
            found += [((archive, m.name), _no_member(members, m)) for m in listed]
    places = [place for place, why in found if not why]
    ignored = [(_origin(*place), why) for place, why in found if why]
    if not places:
        reasons = Counter(reason for _, reason in ignored).items()
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons)
        raise ValueError(
            f"Expected films (PNG, JPEG, DICOM) or archives ({', '.join(ARCHIVES)}) in {shown} or "
            f"below, found none among {len(ignored)} files{f' ({why})' if why else ''}. Give the "
            "folder that holds them."
        )
    below = str(path if path.is_dir() else path.parent).rstrip("/") + "/"
    names = _names(places, below)
    names, places = map(list, zip(*sorted(zip(names, places, strict=True)), strict=True))
    return Films(names, places, _patients(names), ignored, below)


def _below(path: str, below: str) -> str:
    return path.removeprefix(below).replace(os.sep, "/")


def _names(places: Sequence[tuple[str, str]], below: str) -> list[str]:
    """Return a unique name for each film: its file's, or its path where several share that.

    Folders of a PACS hold an ``IM0001`` each. A name of NIH's says which film it is; there it
    cannot be two.
    """
    paths = [_below(path, below) for _, path in places]
    names = [path.rpartition("/")[2] for path in paths]
    count = Counter(names)
    return [
        legible(path if count[name] > 1 and not NIH_NAME.fullmatch(name) else name)
        for name, path in zip(names, paths, strict=True)
    ]


def _patients(names: Iterable[str]) -> list[int | None]:
    return [int(match[1]) if (match := NIH_NAME.fullmatch(name)) else None for name in names]


def _origin(archive: str, path: str) -> str:
    return legible(f"{archive}::{path}" if archive else path)


def _stamp(path: str) -> str:
    try:
        there = os.stat(path)  # noqa: PTH116 - 112,120 files; no Path for each
    except OSError:
        return "not there"
    return f"{there.st_size} bytes, {there.st_mtime_ns} ns"


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
    found = what(start).partition(" that begins")[0] if start else "empty"
    return "neither PNG, JPEG nor DICOM" if found == "a file" else found


def _no_member(packed: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    """Return why a member of an archive is no film, or nothing."""
    if any(part.startswith(".") and part.strip(".") for part in member.name.split("/")):
        return "hidden"
    if member.issym() or member.islnk():
        return "a link"
    if not member.isfile():
        return "a device, pipe or socket"
    return _no_film(member.name, lambda: packed.extractfile(member).read(HEAD))


@contextmanager
def _whole_archive(path: str) -> Iterator[tarfile.TarFile]:
    """Open an archive, and say which one is damaged."""
    try:
        with tarfile.open(path) as packed:
            yield packed
    except (tarfile.TarError, EOFError, OSError, zlib.error, RecursionError) as error:
        raise ValueError(
            f"Expected a complete archive at {legible(path)}, found a damaged one "
            f"({legible(str(error))[:120]}). Download it again: chexlib fetch images"
        ) from None


def _listed(path: Path) -> Films:
    read = own_table(path, "films", "Correct the list.", columns=["path"])
    frame = read.frame
    for title in [title for title in ("path", "image") if title in frame]:
        read.refuse(frame[title].str.strip() == "", title, "a value")
    places, below = [("", str(path.parent / name)) for name in frame["path"]], f"{path.parent}/"
    names = list(frame["image"]) if "image" in frame else _names(places, below)
    patients = [name or None for name in frame.get("patient", [])] or _patients(names)
    return Films(names, places, patients, below=below)
