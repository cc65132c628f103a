"""Bring the files of ``registry.toml``, verified, and put them in place all at once or not at all.

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
import difflib
import functools
import gzip
import json
import pickle
import re
import shutil
import tarfile
import tomllib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pooch

from chexlib.data.download import FetchError, download
from chexlib.files import DISK_FULL, data_home, locked, put_in_place, write_atomically

#: Called with a label, the bytes done and the bytes in all (None where unknown).
Progress = Callable[[str, int, int | None], None]

hash_matches = pooch.hashes.hash_matches

_HASH = r"(sha256:)?[0-9a-f]{64}|md5:[0-9a-f]{32}|sha512:[0-9a-f]{128}"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file to download.

    Attributes
    ----------
    path : str
        Where it stands in the end, relative to the data folder. For an archive, where a copy that
        the user downloaded by other means is looked for.
    url : str
        Its address.
    hash : str or None
        ``"sha256:…"`` of what is downloaded, or ``"md5:…"`` where only that is published.
    size : int or None
        Bytes of what is downloaded, where known.
    most : int
        Bytes beyond which it is not taken, where the size is not known.
    convert : str, optional
        Which of :data:`CONVERSIONS` writes the finished file.
    converted_hash : str, optional
        Hash of the finished file, where it is converted.
    unpack_to : str, optional
        For an archive: the folder, relative to the data folder, that its files go to.
    """

    path: str
    url: str
    hash: str | None = None
    size: int | None = None
    most: int = 1 << 30
    convert: str | None = None
    converted_hash: str | None = None
    unpack_to: str | None = None

    @property
    def finished_hash(self) -> str | None:
        """Hash of the file that stands at ``path`` in the end."""
        return self.converted_hash if self.convert else self.hash


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What ``chexlib fetch NAME`` brings: one or more files of one source."""

    name: str
    title: str
    files: tuple[RemoteFile, ...]
    licence: str
    citation: str
    homepage: str
    note: str = ""
    about_bytes: int | None = None

    @property
    def size(self) -> int | None:
        """Bytes to download in all, or None where a part of it is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(sizes)


_TABLES = tomllib.loads(Path(__file__).with_name("registry.toml").read_text(encoding="utf-8"))

# An unknown or a missing key is a TypeError that names it.
REGISTRY: dict[str, Entry] = {
    name: Entry(name=name, **row | {"files": tuple(RemoteFile(**file) for file in row["files"])})
    for name, row in _TABLES.items()
}


def entry(name: str) -> Entry:
    """Return the entry of that name.

    Raises
    ------
    ValueError
        For an unknown name, with the nearest one.

    Examples
    --------
    >>> entry("split").size
    1906038
    """
    if name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(name.lower(), REGISTRY, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"Expected one of {', '.join(REGISTRY)}, got {name!r}.{hint}")


def is_present(file: RemoteFile, home: Path) -> bool:
    """Whether a file is finished: its hash is right, or all that it was unpacked to is there.

    A file without a known hash counts as present where it exists.
    """
    if file.unpack_to is None:
        target = home / file.path
        return target.is_file() and hash_matches(target, file.finished_hash)
    try:
        sizes = json.loads(_record(file, home).read_text(encoding="utf-8"))
        return all(
            (home / file.unpack_to / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError, AttributeError):
        return False


def _record(file: RemoteFile, home: Path) -> Path:
    """Return where it is noted what an archive was unpacked to: names and sizes."""
    return home / file.unpack_to / f".{Path(file.path).name}.json"


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
        Name in :data:`REGISTRY`, or an entry of your own.
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
    return (replace(item.files[0], hash=known),)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the data folder's lock: two fetches would write to the same part.

    The system releases it when the process ends, however it ends. An error of the file system
    becomes a FetchError that says what to do.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / ".fetch.lock", f"Another fetch is at work in {home}: waiting for it."):
            yield
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
        download(file, part, progress=functools.partial(progress, target.name), **options)
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
    """Unpack the files of a tar archive flat into a folder, all of them or none.

    Files of other archives stay there.
    """
    folder, name = home / file.unpack_to, Path(file.path).name
    # A folder beside the files, so that moving them is a rename; its fixed name lets the next
    # try clear what a killed one left.
    staging = folder / f".{name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
            for member in tar:
                if not (member.isreg() or member.isdir()):  # even a link that stays inside
                    raise tarfile.SpecialFileError(member)
                tar.extract(member, staging, filter="data")
                progress(f"{name}: unpacking", raw.tell(), archive.stat().st_size)
        # Moved only now, when the whole archive has been read without a complaint.
        found = sorted(path for path in staging.rglob("*") if path.is_file())
        sizes = {path.name: path.stat().st_size for path in found}
        if len(sizes) < len(found):
            raise tarfile.TarError("two files of one name")  # noqa: TRY301 - as unsound as others
        for path in found:
            path.replace(folder / path.name)
        # Last: without the record, the archive counts as not unpacked.
        content = json.dumps(sizes)
        write_atomically(_record(file, home), lambda draft: draft.write_text(content, "utf-8"))
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FetchError(
            f"Expected only files that stay in their folder in {name}, got {error} "
            f"({type(error).__name__}). Nothing of it was unpacked. Do not unpack it by other "
            "means; report it."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where it is empty: nothing came of it


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
