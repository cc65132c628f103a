"""Bring the files of the registry, verified, and put them in place all at once or not at all.

A download grows in ``NAME.part`` beside its target. It takes the target's place only when its hash
is right, by a rename on the same file system, so that a reader never sees half a file. What can go
wrong (no network, an error of the server, a broken connection, a wrong file, a full disk, an
unsound archive) ends in one :class:`FetchError` and leaves every finished file as it was. A part
is kept where the next try can continue it and dropped where its content is wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pooch

from chexlib.data import convert
from chexlib.data.download import FetchError, download, hash_matches
from chexlib.data.home import data_home
from chexlib.data.registry import Entry, RemoteFile, entry
from chexlib.files import DISK_FULL, put_in_place, write_atomically

__all__ = ["FetchError", "Progress", "fetch", "is_present"]

logger = logging.getLogger(__name__)

#: Called with a label, the bytes done and the bytes in all (None where unknown).
Progress = Callable[[str, int, int | None], None]

_DIGITS = {"md5": 32, "sha256": 64, "sha512": 128}


def is_present(file: RemoteFile, home: Path) -> bool:
    """Whether a file is finished: its hash is right, or all that it was unpacked to is there.

    A file without a known hash counts as present where it exists.
    """
    if file.unpack_to is not None:
        return convert.unpacked(Path(file.path).name, home / file.unpack_to)
    target = home / file.path
    return target.is_file() and hash_matches(target, file.finished_hash)


def fetch(
    name: str | Entry,
    *,
    home: Path | str | None = None,
    force: bool = False,
    known_hash: str | None = None,
    progress: Progress | None = None,
    retries: int = 3,
    timeout: float = 30.0,
    backoff: float = 0.5,
) -> list[Path]:
    """Fetch an entry of the registry; without any network where it is there and sound already.

    Parameters
    ----------
    name : str or Entry
        Name in :data:`chexlib.data.registry.REGISTRY`, or an entry of your own.
    home : Path, optional
        The data folder (default: :func:`chexlib.data.data_home`).
    force : bool
        Download even what is present, and replace a file that is damaged or was changed. The old
        file stays until the new one is verified.
    known_hash : str, optional
        ``"sha256:…"``, ``"md5:…"`` or bare SHA-256, for an entry whose file has no known hash.
    progress : callable, optional
        Called with a label, the bytes done and the bytes in all (None where unknown).
    retries, timeout, backoff
        See :func:`chexlib.data.download.download`.

    Returns
    -------
    list of Path
        The finished files, or the folder where archives were unpacked.

    Raises
    ------
    ValueError
        For an unknown name, or a hash given for an entry that has its own.
    FetchError
        For everything that can go wrong on the way.
    """
    item = entry(name) if isinstance(name, str) else name
    home = data_home() if home is None else Path(home).expanduser()
    files = _with_hash(item, known_hash)
    missing = [file for file in files if force or not is_present(file, home)]
    for file in missing:
        if file.hash is None:
            raise FetchError(
                f"Expected a published hash for {file.path}, found none, so nothing was downloaded "
                f"from {file.url}. Give one that you trust: "
                f"chexlib fetch {item.name} --hash sha256:…"
            )
        if not force and not file.unpack_to and (home / file.path).exists():
            raise FetchError(
                f"Expected the published file or none at {home / file.path}, found another: it was "
                f"changed, or is damaged. Move it away, or replace it: "
                f"chexlib fetch {item.name} --force"
            )
    if missing:
        bring = functools.partial(
            _bring,
            progress=progress or (lambda *_: None),
            download=functools.partial(download, retries=retries, timeout=timeout, backoff=backoff),
        )
        with _explained(home), _alone(home):
            for file in missing:
                # Looked at again: another fetch may have brought it while this one waited.
                if force or not is_present(file, home):
                    bring(file, home)
    return list(dict.fromkeys(home / (file.unpack_to or file.path) for file in files))


def _with_hash(item: Entry, known_hash: str | None) -> list[RemoteFile]:
    """Give an entry's files, the one without a hash with the hash of the caller."""
    if known_hash is None:
        return list(item.files)
    if len(item.files) != 1 or item.files[0].hash is not None:
        raise ValueError(
            f"Expected a hash only for an entry that has none, got one for {item.name!r}. "
            "Leave it out."
        )
    algorithm = pooch.hashes.hash_algorithm(known_hash)
    digest = known_hash.rpartition(":")[2].lower()
    if _DIGITS.get(algorithm) != len(digest) or not set(digest) <= set("0123456789abcdef"):
        raise ValueError(f"Expected sha256: and 64 hexadecimal digits, got {known_hash!r}.")
    return [dataclasses.replace(item.files[0], hash=f"{algorithm}:{digest}")]


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the data folder's lock: two fetches would write to the same part.

    The system releases it when the process ends, however it ends.
    """
    home.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(home / ".fetch.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logger.warning("Another fetch is at work in %s: waiting for it.", home)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Turn an error of the file system into a FetchError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise FetchError(
                f"Expected room in {home}, found the disk full ({error.strerror}). No finished "
                "file was changed. Free some space and repeat the command, or name another folder "
                "with --dest or CHEXLIB_DATA."
            ) from error
        raise FetchError(
            f"Expected to read and write in {home}, got {error.strerror or error} "
            f"({error.filename or home}). Check its permissions, or name another folder with "
            "--dest or CHEXLIB_DATA."
        ) from error


def _bring(
    file: RemoteFile, home: Path, *, progress: Progress, download: Callable[..., None]
) -> None:
    """Download one file, then put it in place, convert or unpack it."""
    target = home / file.path
    if file.unpack_to and target.is_file() and hash_matches(target, file.hash):
        _unpack(file, target, home, progress)  # the user's own archive: used, and kept
        return
    created = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        download(
            file.url,
            part,
            known_hash=file.hash,
            size=file.size,
            most=file.most,
            label=target.name,
            progress=functools.partial(progress, target.name),
        )
        if file.unpack_to:
            _unpack(file, part, home, progress)
            part.unlink()
        elif file.convert:
            _convert(file, part, target)
            part.unlink()
        else:
            put_in_place(part, target)
    finally:
        with contextlib.suppress(OSError):
            if not part.stat().st_size:
                part.unlink()
        for folder in created:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where it stayed empty


def _convert(file: RemoteFile, part: Path, target: Path) -> None:
    """Write the finished file from the downloaded one, verify it, and put it in place."""

    def write(draft: Path) -> None:
        file.convert(part, draft)
        _check_converted(draft, target.name, file.converted_hash)

    try:
        write_atomically(target, write)
    except ValueError as error:
        part.unlink()
        raise FetchError(f"{error} Nothing else was changed.") from error


def _check_converted(draft: Path, name: str, known_hash: str) -> None:
    if not hash_matches(draft, known_hash):
        raise ValueError(
            f"Expected {name} with {known_hash} once converted, got "
            f"sha256:{pooch.file_hash(draft)}. The conversion does not fit the file: report it."
        )


def _unpack(file: RemoteFile, archive: Path, home: Path, progress: Progress) -> None:
    """Unpack an archive; an unsound download is dropped, so that it is not tried again."""
    name = Path(file.path).name
    try:
        convert.unpack_archive(
            archive,
            home / file.unpack_to,
            name=name,
            progress=functools.partial(progress, f"{name}: unpacking"),
        )
    except tarfile.TarError as error:
        if archive.suffix == ".part":
            archive.unlink()
        raise FetchError(
            f"Expected only files that stay in their folder in {name}, got {error} "
            f"({type(error).__name__}). Nothing of it was unpacked. Do not unpack it by other "
            "means; report it."
        ) from error
