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
    require,
    size_checked,
)

MAX_ELONGATION = 4.0
COLOUR_TOLERANCE = 8  # a grey film stored by JPEG as colour is off by a few grey values
FITS = ("squash", "pad")


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
    identity : (str, str, str) or ()
        Of DICOM the UIDs of SOP instance and study and the patient's ID, each empty where it is not
        said.
    format : str
        ``"PNG"``, ``"JPEG"`` or ``"DICOM"``.
    """

    pixels: np.ndarray
    spacing: tuple[float, float] | None = None
    view: str | None = None
    identity: tuple[str, ...] = ()
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
    kind = ""
    try:
        data = source if isinstance(source, bytes) else read_file(source, name)
        require(name, data, "a radiograph", "an empty file", "Copy or download it again.")
        limit, do = f"at most {MAX_BYTES:,} bytes", "It is no radiograph."
        require(name, len(data) <= MAX_BYTES, limit, f"{len(data):,} bytes", do)
        kinds = (kind for kind, (at, magic) in MAGIC.items() if data.startswith(magic, at))
        kind = next(kinds, "")
        require(
            name,
            kind,
            "a PNG, a JPEG or a DICOM file",
            what(data),
            "Check where the file comes from; its name does not matter, its content does.",
        )
        if kind == "DICOM":
            from chexlib.data.dicom import read_dicom

            film = Radiograph(*read_dicom(data, name), format=kind)
        else:
            film = Radiograph(_to_grey(decode_picture(data, kind, name), name), format=kind)
        return _checked(film, name)
    except (RadiographError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # What no check foresaw, memory that ran out included, costs this film and no other.
        detail = " ".join(str(error).split())[:120]
        if not isinstance(error, ValueError) or not detail:
            detail = f"{type(error).__name__}: {detail}"
        expected, found = f"a complete {kind or 'file'}", "a damaged one"
        do = "Copy or download it again."
        if kind == "DICOM":
            expected, found = "a DICOM file that can be decoded", "one that cannot"
            do = "Copy it again; if it is whole, export it uncompressed."
        raise RadiographError(name, expected, f"{found} ({detail})", do) from error


def resized(pixels: np.ndarray, size: int, *, fit: str = "squash") -> np.ndarray:
    """Return a film [H, W] as [size, size]: averaged over areas, or interpolated where it grows.

    One that is no square is squashed to it, as NIH's films were, or, by ``fit="pad"``, keeps its
    shape between black bars.
    """
    import cv2

    if fit not in FITS:
        raise ValueError(f"Expected fit of {FITS}, got {fit!r}.")
    if fit == "pad":
        more = [max(pixels.shape) - side for side in pixels.shape]
        pixels = np.pad(pixels, [(missing // 2, missing - missing // 2) for missing in more])
    if pixels.shape == (size, size):
        return pixels
    shrinks = min(pixels.shape) >= size
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(pixels, (size, size), interpolation=way)


def read_file(source: str | os.PathLike[str], name: str) -> bytes:
    """Return the bytes of a file; a folder, a pipe, a huge or unreadable one is refused."""
    path, do, there = Path(source), "Give the path of a radiograph.", None
    require(name, os.fspath(source), "a path", "an empty one", do)
    try:
        # Asked before it is opened: opening a pipe would wait for its writer.
        there = path.stat()
        if stat.S_ISREG(there.st_mode) and there.st_size <= MAX_BYTES:
            return path.read_bytes()
    except (OSError, ValueError) as error:
        if os.path.islink(path):  # noqa: PTH114 - which raises nothing
            found, do = "a link that leads nowhere", "Repair or remove the link."
        elif isinstance(error, PermissionError):
            found, do = "a file that may not be read", "Change its permissions."
        elif isinstance(error, FileNotFoundError):
            found, do = "none", "Check the path."
        else:  # without the path, said once already
            detail = getattr(error, "strerror", None) or error
            found, do = f"an error of the file system ({detail})", "Check the path and the disk."
        raise RadiographError(name, "a readable file", found, do) from None
    found = "a folder" if stat.S_ISDIR(there.st_mode) else "a device, pipe or socket"
    require(name, stat.S_ISREG(there.st_mode), "a file", found, do)
    limit, found = f"at most {MAX_BYTES:,} bytes", f"{there.st_size:,} bytes"
    raise RadiographError(name, limit, found, do)


KNOWN = (
    (b"GIF8", "a GIF"), (b"BM", "a BMP"), (b"II*\0", "a TIFF"), (b"MM\0*", "a TIFF"),
    (b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b", "a gzip archive"), (b"%PDF", "a PDF"),
    (b"\x93NUMPY", "a NumPy array"), (b"\x0aversion https://git-lfs", "a Git LFS pointer"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for"),
    (b"RIFF", "a RIFF file (WebP or sound)"), (b"\0\0\0\x0cjP", "a bare JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a bare JPEG 2000"),
)  # fmt: skip


def what(data: bytes) -> str:
    """Say what a file is that is no radiograph."""
    for magic, name in KNOWN:
        if data.startswith(magic):
            return name
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page, often a sign-in or error page saved in its place"
    if head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return f"text that begins {head[:24].decode('ascii')!r}"
    return f"a file that begins {data[:8].hex(' ')}"


def _checked(film: Radiograph, name: str) -> Radiograph:
    height, width = film.pixels.shape
    size_checked(width, height, name)
    expected, found = "a film about as high as wide", f"{width} x {height} pixels"
    long = max(height, width) > MAX_ELONGATION * min(height, width)
    require(name, not long, expected, found, "It is no chest film.")
    varied = np.ptp(film.pixels[::16, ::16]) or np.ptp(film.pixels)  # a part mostly tells
    found = f"grey value {film.pixels[0, 0]} in every pixel"
    do = "Look at the original; a window or slope may be wrong."
    require(name, varied, "a picture", found, do)
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
    opaque = len(colours) not in (2, 4) or (colours.pop() == 255).all()
    found, do = "one that is transparent in places", "Export it without transparency."
    require(name, opaque, "an opaque image", found, do)
    if all(np.array_equal(colours[0], other) for other in colours[1:]):
        return colours[0]
    high, low = np.maximum.reduce(colours), np.minimum.reduce(colours)
    share = np.mean(high - low > COLOUR_TOLERANCE)
    found, do = (
        f"a coloured one ({share:.1%} of pixels)",
        "Use the film itself, not a picture of it.",
    )
    require(name, share <= 0.001, "a grey image", found, do)
    from PIL import Image

    return np.asarray(Image.fromarray(np.dstack(colours)).convert("L"))
