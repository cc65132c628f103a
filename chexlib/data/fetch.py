"""Bring the files of the registry, verified, and put them in place all at once or not at all.

A download grows in ``NAME.part`` beside its target. It takes the target's place only when its hash
is right, by a rename on the same file system, so that a reader never sees half a file. What can go
wrong (no network, an error of the server, a broken connection, a wrong file, a full disk, an
unsound archive) ends in one :class:`FetchError` and leaves every finished file as it was. A part
is kept where the next try can continue it and dropped where its content is wrong.

Once it has arrived, a pickle becomes a CSV and an archive a folder. Both are formats that can do
harm to whoever opens them carelessly. The pickle is read with an unpickler that can build numpy
scalars and nothing else; the archive with tarfile's ``data`` filter, into a folder of its own,
whose files are moved in place only when all of it was sound.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import json
import logging
import pickle
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pooch

from chexlib.data.download import FetchError, download
from chexlib.data.home import data_home
from chexlib.data.registry import Entry, RemoteFile, entry
from chexlib.files import DISK_FULL, put_in_place, write_atomically

__all__ = ["FetchError", "fetch", "is_present", "rsna_matches_to_csv", "unpack_archive", "unpacked"]

logger = logging.getLogger(__name__)

#: Called with a label, the bytes done and the bytes in all (None where unknown).
Progress = Callable[[str, int, int | None], None]

hash_matches = pooch.hashes.hash_matches

_HASH = r"(sha256:)?[0-9a-f]{64}|md5:[0-9a-f]{32}|sha512:[0-9a-f]{128}"


def is_present(file: RemoteFile, home: Path) -> bool:
    """Whether a file is finished: its hash is right, or all that it was unpacked to is there.

    A file without a known hash counts as present where it exists.
    """
    target = home / file.path
    if file.unpack_to is not None:
        return unpacked(target.name, home / file.unpack_to)
    return target.is_file() and hash_matches(target, file.finished_hash)


def fetch(
    name: str | Entry,
    *,
    home: Path | str | None = None,
    force: bool = False,
    known_hash: str | None = None,
    progress: Progress | None = None,
    **options: float,
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
    **options
        ``retries``, ``timeout`` and ``backoff`` of :func:`chexlib.data.download.download`.

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
        with _alone(home):
            for file in missing:
                # Looked at again: another fetch may have brought it while this one waited.
                if force or not is_present(file, home):
                    _bring(file, home, progress or (lambda *_: None), options)
    return list(dict.fromkeys(home / (file.unpack_to or file.path) for file in files))


def _with_hash(item: Entry, known_hash: str | None) -> tuple[RemoteFile, ...]:
    """Give an entry's files, the one without a hash with the hash of the caller."""
    if known_hash is None:
        return item.files
    if len(item.files) != 1 or item.files[0].hash is not None:
        raise ValueError(
            f"Expected a hash only for an entry that has none, got one for {item.name!r}. "
            "Leave it out."
        )
    known = known_hash.lower()
    if not re.fullmatch(_HASH, known):
        raise ValueError(f"Expected sha256: and 64 hexadecimal digits, got {known_hash!r}.")
    known = known if ":" in known else f"sha256:{known}"
    return (dataclasses.replace(item.files[0], hash=known),)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the data folder's lock: two fetches would write to the same part.

    The system releases it when the process ends, however it ends. An error of the file system
    becomes a FetchError that says what to do.
    """
    try:
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
    except OSError as error:
        found = "the disk full" if error.errno in DISK_FULL else "it could not be done"
        raise FetchError(
            f"Expected to read and write in {home}, found {found}: {error.strerror or error} "
            f"({error.filename or home}). No finished file was changed. Check its permissions and "
            "its free space, or name another folder with --dest or CHEXLIB_DATA, and repeat."
        ) from error


def _bring(file: RemoteFile, home: Path, progress: Progress, options: dict[str, float]) -> None:
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
            **options,
        )
        try:
            if file.unpack_to:
                _unpack(file, part, home, progress)
            elif file.convert:
                write_atomically(target, functools.partial(_convert, file, part))
            else:
                put_in_place(part, target)
        except FetchError:
            part.unlink()  # unsound: not to be tried again
            raise
        part.unlink(missing_ok=True)
    finally:
        with contextlib.suppress(OSError):
            if not part.stat().st_size:
                part.unlink()
        for folder in created:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where it stayed empty


def _convert(file: RemoteFile, part: Path, draft: Path) -> None:
    """Write the finished file from the downloaded one, and verify it."""
    try:
        CONVERSIONS[file.convert](part, draft)
    except ValueError as error:
        raise FetchError(f"{error} Nothing else was changed.") from error
    if not hash_matches(draft, file.converted_hash):
        raise FetchError(
            f"Expected {Path(file.path).name} with {file.converted_hash} once converted, got "
            f"sha256:{pooch.file_hash(draft)}. The conversion does not fit the file: report it. "
            "Nothing else was changed."
        )


def _unpack(file: RemoteFile, archive: Path, home: Path, progress: Progress) -> None:
    name = Path(file.path).name
    try:
        unpack_archive(
            archive,
            home / file.unpack_to,
            name=name,
            progress=functools.partial(progress, f"{name}: unpacking"),
        )
    except tarfile.TarError as error:
        raise FetchError(
            f"Expected only files that stay in their folder in {name}, got {error} "
            f"({type(error).__name__}). Nothing of it was unpacked. Do not unpack it by other "
            "means; report it."
        ) from error


class _ScalarUnpickler(pickle.Unpickler):
    """Builds plain containers, strings, numbers and numpy scalars; refuses everything else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        # As numpy 1 wrote it, and as numpy 2 does.
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "scalar":
            return np.float64(0).__reduce__()[0]
        raise pickle.UnpicklingError(f"{module}.{name}")


def rsna_matches_to_csv(source: Path, target: Path) -> None:
    """Write torchxrayvision's ``rsnamatches.pkl`` as CSV; run nothing that is in it.

    The pickle is a dictionary from the RSNA patient id to ``info`` (RSNA's class, once for each
    box), ``cxr_match`` (the file name of the NIH image that is nearest) and ``mse``. The CSV has
    the columns ``rsna_patient_id, rsna_class, nih_image_index, pixel_mse`` (four decimals).

    Raises
    ------
    ValueError
        If the pickle is not of that form, naming the patient; if it asks for any function or class
        beyond numpy scalars (which is refused before it is called), or is no pickle.
    """
    with Path(source).open("rb") as stream:
        try:
            matches = dict(_ScalarUnpickler(stream).load())
        except Exception as error:  # damaged pickles raise nearly anything
            raise ValueError(
                f"Expected a pickle of plain values and numpy scalars in {source}, a dictionary of "
                f"RSNA patients, got {type(error).__name__}: {error}. Do not open this file by "
                "other means."
            ) from error
    rows = []
    for patient, match in matches.items():
        try:
            (rsna_class,) = set(match["info"])
            rows.append((patient, rsna_class, match["cxr_match"], f"{match['mse']:.4f}"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "Expected one class, an image and an error for each patient, got "
                f"{match!r} for {patient!r} in {source}."
            ) from error
    columns = ["rsna_patient_id", "rsna_class", "nih_image_index", "pixel_mse"]
    pd.DataFrame(rows, columns=columns).to_csv(target, index=False, lineterminator="\r\n")


#: What makes a finished file, called with the downloaded one and the finished one.
CONVERSIONS = {"rsna_matches_to_csv": rsna_matches_to_csv}


def _only_images(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Apply tarfile's ``data`` filter, and admit regular files and folders only.

    The filter alone admits links that stay inside the folder; none is expected here.
    """
    if not (member.isreg() or member.isdir()):
        raise tarfile.SpecialFileError(member)
    return tarfile.data_filter(member, folder)


def _manifest(archive_name: str, folder: Path) -> Path:
    return folder / f".{archive_name}.json"


def unpacked(archive_name: str, folder: Path) -> bool:
    """Whether all files of an archive that was unpacked are still in place, by name and size."""
    try:
        sizes = json.loads(_manifest(archive_name, folder).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def unpack_archive(
    archive: Path,
    folder: Path,
    *,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Unpack the files of a tar archive flat into a folder, all of them or none.

    Parameters
    ----------
    archive : Path
        A tar file, compressed or not.
    folder : Path
        Where its files go, without the folders inside the archive. Files of other archives stay.
    name : str, optional
        What the archive is called in the record of what was unpacked (default: its file name).
    progress : callable, optional
        Called with the bytes of the archive read so far and the bytes in all.

    Returns
    -------
    int
        How many files were unpacked.

    Raises
    ------
    tarfile.TarError
        If a member would leave the folder, is a link or a device, or the archive is damaged.
    """
    name = name or archive.name
    # A folder beside the files, so that moving them is a rename; its fixed name lets the next
    # try clear what a killed one left.
    staging = folder / f".{name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
            for member in tar:
                tar.extract(member, staging, filter=_only_images)
                if progress:
                    progress(raw.tell(), archive.stat().st_size)
        # Moved only now, when the whole archive has been read without a complaint.
        found = sorted(path for path in staging.rglob("*") if path.is_file())
        sizes = {path.name: path.stat().st_size for path in found}
        if len(sizes) < len(found):
            raise tarfile.TarError("two files of one name")
        for path in found:
            path.replace(folder / path.name)
        # Last: without the record, the archive counts as not unpacked.
        record = staging / "record.json"
        record.write_text(json.dumps(sizes), encoding="utf-8")
        record.replace(_manifest(name, folder))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise tarfile.ReadError(f"damaged archive: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where it is empty: nothing came of it
    return len(sizes)
