"""What is done to a file once it has arrived: a pickle becomes a CSV, an archive a folder.

Both are formats that can do harm to whoever opens them carelessly. The pickle is read with an
unpickler that can build numpy scalars and nothing else; the archive with tarfile's ``data``
filter, into a folder of its own, whose files are moved in place only when all of it was sound.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import pickle
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

__all__ = ["read_scalar_pickle", "rsna_matches_to_csv", "unpack_archive", "unpacked"]

# numpy's function that rebuilds a scalar, wherever this version of numpy keeps it.
_SCALAR = np.float64(0).__reduce__()[0]
_ADMITTED = {
    ("numpy.core.multiarray", "scalar"): _SCALAR,  # as numpy 1 wrote it
    ("numpy._core.multiarray", "scalar"): _SCALAR,  # as numpy 2 writes it
    ("numpy", "dtype"): np.dtype,
}


class _ScalarUnpickler(pickle.Unpickler):
    """Builds plain containers, strings, numbers and numpy scalars; refuses everything else."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None


def read_scalar_pickle(path: Path) -> object:
    """Read a pickle of plain containers, strings, numbers and numpy scalars; run nothing in it.

    Raises
    ------
    ValueError
        If it asks for any other function or class (which is refused before it is called), or is
        no pickle.
    """
    with Path(path).open("rb") as stream:
        try:
            # A restricted unpickler: what it may call is listed above.
            return _ScalarUnpickler(stream).load()
        except Exception as error:  # damaged pickles raise nearly anything
            raise ValueError(
                f"Expected a pickle of plain values and numpy scalars in {path}, got "
                f"{type(error).__name__}: {error}. Do not open this file by other means."
            ) from error


def rsna_matches_to_csv(source: Path, target: Path) -> None:
    """Write torchxrayvision's ``rsnamatches.pkl`` as CSV.

    The pickle is a dictionary from the RSNA patient id to ``info`` (RSNA's class, once for each
    box), ``cxr_match`` (the file name of the NIH image that is nearest) and ``mse``. The CSV has
    the columns ``rsna_patient_id, rsna_class, nih_image_index, pixel_mse`` (four decimals).

    Raises
    ------
    ValueError
        If the pickle is not of that form, naming the patient.
    """
    matches = read_scalar_pickle(source)
    if not isinstance(matches, dict):
        raise ValueError(
            f"Expected a dictionary of RSNA patients in {source}, got {type(matches).__name__}."
        )
    with Path(target).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["rsna_patient_id", "rsna_class", "nih_image_index", "pixel_mse"])
        for patient, match in matches.items():
            try:
                (rsna_class,) = set(match["info"])
                writer.writerow([patient, rsna_class, match["cxr_match"], f"{match['mse']:.4f}"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    "Expected one class, an image and an error for each patient, got "
                    f"{match!r} for {patient!r} in {source}."
                ) from error


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
    manifest = _manifest(archive_name, folder)
    try:
        sizes = json.loads(manifest.read_text(encoding="utf-8"))
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
    total = archive.stat().st_size
    sizes: dict[str, int] = {}
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
            for member in tar:
                tar.extract(member, staging, filter=_only_images)
                if progress:
                    progress(raw.tell(), total)
        # Moved only now, when the whole archive has been read without a complaint.
        for path in sorted(path for path in staging.rglob("*") if path.is_file()):
            if path.name in sizes:
                raise tarfile.TarError(f"two files named {path.name!r}")
            sizes[path.name] = path.stat().st_size
        for path in (path for path in staging.rglob("*") if path.is_file()):
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
