"""Files: where they are, and written so that they are there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import logging
import multiprocessing
import os
import re
import secrets
import stat
import sys
import threading
import zlib
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    import pandas as pd

log = logging.getLogger(__name__)
DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_MARK = "draft-"
# What a spreadsheet takes for a formula (OWASP, CSV injection), the marks put before it included.
_ACTS = re.compile(r"'*[=+\-@\s\uff1d\uff0b\uff0d\uff20]")


def data_home() -> Path:
    """Return the folder of fetched files: ``CHEXLIB_DATA``, or a folder of the user's cache.

    The folder need not exist. ``chexlib fetch`` lays files out below it.
    """
    return _named("CHEXLIB_DATA")


def cache_home() -> Path:
    """Return the folder of what can be made again: ``CHEXLIB_CACHE``, or the user's cache.

    Image caches and simulated films are kept there, apart from fetched files, which may lie on a
    disk that is only read. The folder need not exist.
    """
    return _named("CHEXLIB_CACHE", "made")


def _named(variable: str, *default: str) -> Path:
    if named := os.environ.get(variable):
        return Path(named).expanduser()
    import pooch  # only here: it takes a quarter of a second to import

    return Path(pooch.os_cache("chexlib"), *default)


def package_file(package: str, *parts: str) -> Path:
    """Return the path of a file inside an installed package, without importing the package.

    ``torchxrayvision`` carries the label tables, and importing it would load torch and silence
    every warning of the process.

    Raises
    ------
    FileNotFoundError
        If the package or the file is not there.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"Expected the package {package!r}, which carries {'/'.join(parts)}, and did not find "
            f"it. Install it: pip install {package}"
        )
    path = Path(spec.submodule_search_locations[0], *parts)
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the file {'/'.join(parts)} inside the package {package!r}, found none at "
            f"{path}. Install the release that requirements.lock names."
        )
    return path


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, flush it to the disk, then put it there in one step.

    Its permissions are what ``open`` would give: those of the file that it replaces, or what the
    umask leaves of read and write for all. Until it is whole, its owner alone can read it.

    Parameters
    ----------
    path : path
        In a folder that is there. A link is replaced, not followed.
    write : callable
        Called with the path of the draft, an empty file.

    Raises
    ------
    OSError
        If it cannot be written, such as on a full disk, or is a folder, a pipe or a device; an
        earlier file is as it was.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        said = "Expected a file or nothing yet, found a folder, a pipe or a device. Name a file"
        raise OSError(errno.EINVAL, said, str(path))
    draft = draft_of(path)
    with disk_errors(path):
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            like = path.stat() if path.exists() else os.fstat(handle)
            os.close(handle)
            draft.chmod(0o600)
            write(draft)
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            draft.chmod(stat.S_IMODE(like.st_mode))
            put_in_place(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def draft_of(path: Path) -> Path:
    """Return a new name beside a path, such as ``.name.draft-0f3a91c2``."""
    return path.with_name(f".{path.name}.{_MARK}{secrets.token_hex(4)}")


def put_in_place(draft: Path, path: Path) -> None:
    """Rename a file whose content is on the disk, so that the rename lasts through a power cut."""
    draft.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def open_own(path: Path, flags: int) -> int:
    """Open a file that is gone on with, never through a link to a file that is somebody else's.

    Parameters
    ----------
    path : Path
    flags : int
        As for :func:`os.open`; a file that is made is readable and writable by all that the umask
        admits.

    Returns
    -------
    int
        A file descriptor.

    Raises
    ------
    OSError
        If it is a link, a pipe or a device, has another name as well, or cannot be opened.
    """
    said = "Expected a file or nothing yet, found a link, a pipe or a device. Remove it"
    more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags | more, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a pipe that nobody reads
            raise OSError(errno.EINVAL, said, str(path)) from error
        raise
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(handle)
        raise OSError(errno.EINVAL, said, str(path))
    return handle


def remove_drafts(folder: Path) -> None:
    """Remove the drafts that a killed process left in a folder; one of weights may be large."""
    for draft in folder.glob(f".*.{_MARK}*"):
        draft.unlink(missing_ok=True)


class Journal:
    """What of a long job is done, in a file that a stop at any moment leaves readable.

    Its first line is the job's mark, each other one a task as JSON behind its checksum. A line that
    was cut, changed or is not sound does not count, and its task is done again. As a context it is
    removed where the job ends, or where it fails before a task is done.

    Parameters
    ----------
    path : Path
        In a folder that is there.
    mark : str
        A line that is another for another job: a hash of all that its results depend on.
    sound : callable
        Whether a task that is read back is of this job; TypeError, ValueError and LookupError are
        a no.

    Attributes
    ----------
    path : Path
    tasks : list
        Those that are done.

    Raises
    ------
    ValueError
        If the file is there and of another job.
    OSError
        If it cannot be written.
    """

    def __init__(self, path: Path, mark: str, *, sound: Callable[[Any], bool]) -> None:
        self.path, self.tasks, kept = path, [], [f"{mark}\n"]
        if path.is_file():
            # The end may be cut anywhere, in the middle of a letter too.
            lines = path.read_bytes().decode(errors="replace").splitlines(keepends=True)
            if lines[:1] != kept:
                raise ValueError(
                    f"Expected {path} to be of these films and this network, found it of others, "
                    "or of films that changed since. Remove it, or write to another file."
                )
            for line in lines[1:]:
                try:
                    task = json.loads(line[9:])
                    if line == _checked(task) and sound(task):
                        kept.append(line)
                        self.tasks.append(task)
                except (TypeError, ValueError, LookupError, RecursionError):
                    continue
        write_atomically(path, lambda draft: draft.write_text("".join(kept), encoding="utf-8"))

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not self.tasks:
            self.path.unlink(missing_ok=True)

    def add(self, task: Any) -> None:
        """Note that a task is done; it is on the disk when this returns."""
        handle = open_own(self.path, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(handle, "a", encoding="utf-8") as file:
            file.write(_checked(task))
            file.flush()
            os.fsync(file.fileno())
        self.tasks.append(task)


def _checked(task: Any) -> str:
    """Return the line of a task, which is counted only if it is whole and as it was written."""
    text = json.dumps(task)
    return f"{zlib.crc32(text.encode()):08x} {text}\n"


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock, and say so where another process holds it first.

    The system releases it when the process ends, however it ends.
    """
    import filelock

    lock = filelock.FileLock(path)
    try:
        held = lock.acquire(timeout=0)
    except filelock.Timeout:
        log.warning(waiting)
        held = lock.acquire()
    with held:
        yield


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say what a full disk means, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise OSError(
            errno.ENOSPC,
            f"Expected room for {path.name} in {path.parent}, found the disk full. Free some space "
            "and repeat: what was finished before is kept",
            str(path),
        ) from error


def inert(text: str) -> str:
    """Return a text as it stands in a CSV: with a ``'`` before what a spreadsheet would compute.

    These are texts that begin with ``=``, ``+``, ``-``, ``@`` or white space, such as names of
    films; :func:`original` gives them back.

    Examples
    --------
    >>> inert("=1+1.png"), inert("film.png"), original("'=1+1.png")
    ("'=1+1.png", 'film.png', '=1+1.png')
    """
    return f"'{text}" if _ACTS.match(text) else text


def original(text: str) -> str:
    """Return a text that :func:`inert` wrote."""
    return text[1:] if text.startswith("'") and _ACTS.match(text) else text


def write_csv(path: str | Path, table: pd.DataFrame, **options: object) -> None:
    """Write a table atomically, its texts :func:`inert`; options are those of ``to_csv``."""
    texts = table.select_dtypes(exclude="number").astype(object)
    safe = table.assign(
        **texts.map(lambda value: inert(value) if isinstance(value, str) else value)
    )
    write_atomically(path, lambda draft: safe.to_csv(draft, index=False, **options))


def write_json(path: Path, values: object, *, strict: bool = False) -> None:
    """Write values atomically as JSON; where ``strict``, as JSON that every reader takes.

    NaN and infinity, which JSON has not, then become texts, and so does what is no plain value.
    """
    if strict:
        values = json.loads(json.dumps(values, default=str), parse_constant=str)
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of a folder's list of files, as 64 hexadecimal digits.

    A folder's is that of ``find . -type f | LC_ALL=C sort | xargs sha256sum``, run inside it.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or the folder holds none.
    """
    path = Path(path)
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = files_below(path)
    if not names:
        raise FileNotFoundError(f"Expected files in {path}, found none. Fetch them first.")
    lines = "".join(f"{sha256(path / name)}  ./{name}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def files_below(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, as seen from it, sorted."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def brief(value: object) -> str:
    """Return how a value is quoted in an error: its ``repr``, of at most some 300 characters."""
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:240]} … {text[-40:]} ({len(text):,} characters)"


def legible(text: str) -> str:
    r"""Return a name with what cannot be printed, or is no UTF-8, as an escape such as ``\xe9``.

    >>> legible(os.fsdecode(b"caf\xe9.png"))
    'caf\\udce9.png'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


GUARD = (
    'Expected a script that does its work under `if __name__ == "__main__":`, got one that does it '
    "when it is imported, as every process that helps it does first. Put the work into a function "
    '`main()`, and end the script with\n\n    if __name__ == "__main__":\n        main()\n'
)


def refuse_unguarded() -> None:
    """Raise in a child that runs its parent's script again on its way up.

    It would do what the parent does, and wait for the parent, which waits for it.

    Raises
    ------
    RuntimeError
        Naming the guard that the script lacks.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(GUARD)


def processes(count: int) -> ProcessPoolExecutor:
    """Return a pool whose workers use one core each and end with this process.

    Raises
    ------
    RuntimeError
        If they end before they have begun, as they do where a script is without a guard.
    """
    refuse_unguarded()
    # Forking would copy the locks of threads, such as torch's, in whatever state they are.
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        pool.shutdown(wait=False)
        script = getattr(sys.modules["__main__"], "__file__", None)
        raise RuntimeError(
            f"Expected processes that help this one, got ones that ended as they began; they run "
            f"{script} first. {GUARD}"
        ) from None
    return pool


def _begin() -> None:
    """Use one core, and end with the parent: after a kill a worker would wait for ever."""
    import cv2

    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
