"""Radiograph files to grey values: PNG, JPEG or DICOM in, uint8 with bone bright out.

PNG and JPEG are decoded by :mod:`chexlib.data.decoders`, DICOM is read by
:mod:`chexlib.data.dicom`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chexlib.data.decoders import (
    MAGIC,
    MAX_BYTES,
    RadiographError,
    decode_picture,
    size_checked,
)

__all__ = ["Radiograph", "RadiographError", "open_radiograph", "read_radiograph"]

MAX_ELONGATION = 4.0
COLOUR_TOLERANCE = 8  # a grey film stored by JPEG as colour is off by a few grey values


@dataclass(frozen=True)
class Radiograph:
    """A radiograph as read.

    Attributes
    ----------
    pixels : uint8 array, shape (height, width)
        Dense is bright.
    spacing : (float, float) or None
        Millimetres from row to row and from column to column, where the file says so.
    view : {"PA", "AP", None}
    format : str
        ``"PNG"``, ``"JPEG"`` or ``"DICOM"``.
    """

    pixels: np.ndarray
    spacing: tuple[float, float] | None = None
    view: str | None = None
    format: str = ""


def read_radiograph(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the grey values of a frontal radiograph, uint8 [H, W], dense bright, in full size.

    PNG and JPEG of 8 or 16 bits, grey, palette, or colour that is grey in fact; DICOM of one frame,
    compressed or not, windowed as it asks for. A lateral film is refused where a DICOM header names
    it; in a PNG nothing does, and :func:`chexlib.data.quality_table` only estimates it.

    Raises
    ------
    RadiographError
        (a ``ValueError``) If it is not such a file: what was expected, what was found, what to do.

    Examples
    --------
    >>> from chexlib.data import package_file
    >>> read_radiograph(package_file("data_store", "data", "RG1_UNCR.dcm")).shape
    (1955, 1841)
    """
    return open_radiograph(path).pixels


def open_radiograph(
    source: str | os.PathLike[str] | bytes, *, name: str | None = None
) -> Radiograph:
    """Read a radiograph with what its header says, from a path or from bytes.

    Parameters
    ----------
    source : path or bytes
        Bytes are those of the file: a member of an archive is read without being extracted.
    name : str, optional
        What errors call it. Default: the path.

    Raises
    ------
    RadiographError
        As :func:`read_radiograph`.
    """
    name = name or ("bytes" if isinstance(source, bytes) else str(source) or "''")
    try:
        return _opened(source, name)
    except (RadiographError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # What no check foresaw, memory that ran out included, costs this film and no other.
        detail = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        found = f"one that its reader cannot take ({detail})"
        raise RadiographError(name, "a radiograph", found, "Export it again.") from error


def _opened(source: str | os.PathLike[str] | bytes, name: str) -> Radiograph:
    data = source if isinstance(source, bytes) else read_file(source, name)
    if not data:
        raise RadiographError(name, "a radiograph", "an empty file", "Copy or download it again.")
    if len(data) > MAX_BYTES:
        found = f"{len(data):,} bytes"
        raise RadiographError(name, f"at most {MAX_BYTES:,} bytes", found, "It is no radiograph.")
    kind = next((kind for kind, magic in MAGIC.items() if data.startswith(magic)), "")
    if kind:
        film = Radiograph(_to_grey(decode_picture(data, kind, name), name), format=kind)
    elif data[128:132] == b"DICM":
        from chexlib.data.dicom import read_dicom

        film = Radiograph(*read_dicom(data, name), format="DICOM")
    else:
        raise RadiographError(
            name,
            "a PNG, a JPEG or a DICOM file",
            _what(data),
            "Check where the file comes from; its name does not matter, its content does.",
        )
    return _checked(film, name)


def read_file(source: str | os.PathLike[str], name: str | None = None) -> bytes:
    """Return the bytes of a file; a folder, a pipe, a huge or unreadable one is refused."""
    name = name or (str(source) or "''")
    path = Path(source)
    do = "Give the path of a radiograph."
    if not os.fspath(source):
        raise RadiographError(name, "a path", "an empty one", do)
    try:
        # Asked before it is opened: opening a pipe would wait for its writer.
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise RadiographError(name, "a file", "a folder", "Give one file of it.")
        if not stat.S_ISREG(mode):
            raise RadiographError(name, "a file", "a device, pipe or socket", do)
        if path.stat().st_size > MAX_BYTES:
            found = f"{path.stat().st_size:,} bytes"
            raise RadiographError(name, f"at most {MAX_BYTES:,} bytes", found, do)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, RadiographError):
            raise
        if os.path.islink(path):  # noqa: PTH114 - which raises nothing
            found, do = "a link that leads nowhere", "Repair or remove the link."
        elif isinstance(error, PermissionError):
            found, do = "a file that may not be read", "Change its permissions."
        elif isinstance(error, FileNotFoundError):
            found, do = "none", "Check the path."
        else:
            detail = (
                getattr(error, "strerror", None) or error
            )  # without the path, said once already
            found, do = f"an error of the file system ({detail})", "Check the path and the disk."
        raise RadiographError(name, "a readable file", found, do) from None


def _what(data: bytes) -> str:
    """Say what a file is that is no radiograph."""
    known = {
        b"GIF8": "a GIF",
        b"BM": "a BMP",
        b"II*\0": "a TIFF",
        b"MM\0*": "a TIFF",
        b"PK\x03\x04": "a zip archive",
        b"\x1f\x8b": "a gzip archive",
        b"%PDF": "a PDF",
        b"\x93NUMPY": "a NumPy array",
        b"\x0aversion https://git-lfs": "a Git LFS pointer",
        b"version https://git-lfs": "a Git LFS pointer, not the file it stands for",
        b"RIFF": "a RIFF file (WebP or sound)",
        b"\0\0\0\x0cjP": "a bare JPEG 2000",
        b"\xff\x4f\xff\x51": "a bare JPEG 2000",
    }
    for magic, name in known.items():
        if data.startswith(magic):
            return name
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page, often a sign-in or error page saved in its place"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head) and head:
        return f"text that begins {head[:24].decode('ascii')!r}"
    return f"a file that begins {data[:8].hex(' ')}"


def _checked(film: Radiograph, name: str) -> Radiograph:
    height, width = film.pixels.shape
    size_checked(width, height, name)
    if max(height, width) > MAX_ELONGATION * min(height, width):
        found = f"{width} x {height} pixels"
        raise RadiographError(name, "a film about as high as wide", found, "It is no chest film.")
    if not np.ptp(film.pixels[::16, ::16]) and not np.ptp(film.pixels):  # a part mostly tells
        found = f"grey value {film.pixels[0, 0]} in every pixel"
        do = "Look at the original; a window or slope may be wrong."
        raise RadiographError(name, "a picture", found, do)
    film = replace(film, pixels=np.ascontiguousarray(film.pixels))
    film.pixels.flags.writeable = False
    return film


def _to_grey(image: np.ndarray, name: str) -> np.ndarray:
    """Return the one grey channel, 8 bits [H, W], of an image [H, W, C] whose colours agree."""
    if image.dtype != np.uint8:
        # 16 bits span 0 to 65,535, whatever part of it the film uses: 257 makes that 0 to 255.
        grey = np.empty(image.shape, np.uint8)
        for row, into in zip(image, grey, strict=True):  # by rows: it saves memory
            into[:] = (row.astype(np.uint32) + 128) // 257
        return grey
    if image.ndim == 2:
        return image
    colours = list(np.moveaxis(image, 2, 0))
    if len(colours) in (2, 4) and (colours.pop() != 255).any():
        found = "one that is transparent in places"
        raise RadiographError(name, "an opaque image", found, "Export it without transparency.")
    if all(np.array_equal(colours[0], other) for other in colours[1:]):
        return colours[0]
    high, low = np.maximum.reduce(colours), np.minimum.reduce(colours)
    share = np.mean(high - low > COLOUR_TOLERANCE)
    if share > 0.001:
        found = f"a coloured one ({share:.1%} of pixels)"
        do = "Use the film itself, not a picture of it."
        raise RadiographError(name, "a grey image", found, do)
    from PIL import Image

    return np.asarray(Image.fromarray(np.dstack(colours)).convert("L"))
