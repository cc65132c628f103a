"""Radiograph files to grey values: PNG, JPEG or DICOM in, uint8 with bone bright out.

Decoders were chosen by measurement (``benchmarks/bench_images.py``): of those that are well kept,
kornia-rs is the fastest on NIH's PNGs; what is rare is left to Pillow. DICOM is read by
:mod:`chexlib.data.dicom`.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Radiograph", "RadiographError", "open_radiograph", "read_radiograph"]

MAX_PIXELS = 100_000_000  # a 43 cm detector at 0.1 mm has 18 million
MAX_BYTES = 512 * 2**20
MIN_SIDE = 32
MAX_ELONGATION = 4.0

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6  # colour types of a PNG
COLOUR_TOLERANCE = 8  # a grey film stored by JPEG as colour is off by a few grey values


class RadiographError(ValueError):
    """A file that is no readable frontal radiograph; the message says which, why, what to do."""

    def __init__(self, name: str, expected: str, found: str, do: str) -> None:
        self.name = name
        super().__init__(f"{name}: expected {expected}, found {found}. {do}")

    def __reduce__(self) -> tuple:  # workers send it from one process to another
        return _restore, (self.name, str(self))


def _restore(name: str, message: str) -> RadiographError:
    error = RadiographError.__new__(RadiographError)
    ValueError.__init__(error, message)
    error.name = name
    return error


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
    if isinstance(source, bytes):
        name, data = name or "bytes", source
    else:
        name = name or (str(source) or "''")
        data = read_file(source, name)
    if not data:
        raise RadiographError(name, "a radiograph", "an empty file", "Copy or download it again.")
    if data.startswith(PNG):
        pixels, kind = _png(data, name), "PNG"
    elif data.startswith(JPEG):
        pixels, kind = _pillow(data, name, "JPEG"), "JPEG"
    elif data[128:132] == b"DICM":
        from chexlib.data.dicom import read_dicom

        return _checked(read_dicom(data, name), name)
    else:
        raise RadiographError(
            name,
            "a PNG, a JPEG or a DICOM file",
            _what(data),
            "Check where the file comes from; its name does not matter, its content does.",
        )
    return _checked(Radiograph(pixels, format=kind), name)


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


def _size_checked(width: int, height: int, name: str) -> None:
    """Refuse before anything is allocated: a small file can declare a huge image."""
    found = f"{width} x {height} pixels"
    if width * height > MAX_PIXELS:
        limit = f"at most {MAX_PIXELS:,} pixels"
        raise RadiographError(name, limit, found, "It is no radiograph, or an attack.")
    if min(width, height) < MIN_SIDE:
        limit = f"at least {MIN_SIDE} pixels a side"
        raise RadiographError(name, limit, found, "Find the original.")


def _checked(radiograph: Radiograph, name: str) -> Radiograph:
    pixels = radiograph.pixels
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        found = f"{pixels.dtype} of shape {pixels.shape}"
        raise RadiographError(name, "one grey image", found, "Export it as 8-bit grey.")
    height, width = pixels.shape
    _size_checked(width, height, name)
    if max(height, width) > MAX_ELONGATION * min(height, width):
        found = f"{width} x {height} pixels"
        raise RadiographError(name, "a film about as high as wide", found, "It is no chest film.")
    pixels.flags.writeable = False
    return radiograph


def _png(data: bytes, name: str) -> np.ndarray:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise _damaged(name, "PNG", "no complete header")
    if zlib.crc32(data[12:29]) != int.from_bytes(data[29:33], "big"):
        raise _damaged(name, "PNG", "a header whose checksum is wrong")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    _size_checked(width, height, name)
    if b"acTL" in data[:1024]:
        raise RadiographError(name, "one image", "an animation", "Export its one frame as PNG.")
    modes = {GREY: "mono", RGB: "rgb", RGBA: "rgba"}
    if depth != 8 or interlaced or colour not in modes or b"tRNS" in data[:4096]:
        return _pillow(data, name, "PNG")
    from kornia_rs import io as decoders

    try:
        image = decoders.decode_image_png_u8(data, (height, width), modes[colour])
    except BaseException as error:
        # The decoder's own panics derive from BaseException; a user's interrupt goes on its way.
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise _damaged(name, "PNG", str(error)) from None
    return _to_grey(image, name)


def _damaged(name: str, kind: str, detail: str) -> RadiographError:
    found = f"a damaged one ({' '.join(detail.split())[:120]})"
    return RadiographError(name, f"a complete {kind}", found, "Copy or download it again.")


def _to_grey(image: np.ndarray, name: str) -> np.ndarray:
    """Return the one grey channel of an image [H, W, C] whose colours agree."""
    if image.ndim == 2 or image.shape[2] == 1:
        return np.ascontiguousarray(image.reshape(image.shape[:2]))
    if image.shape[2] == 4 and (image[..., 3] != 255).any():
        found = "one that is transparent in places"
        raise RadiographError(name, "an opaque image", found, "Export it without transparency.")
    red, green, blue = (image[..., k] for k in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return np.ascontiguousarray(red)
    low = np.minimum(np.minimum(red, green), blue)
    apart = np.maximum(np.maximum(red, green), blue) - low
    if np.mean(apart > COLOUR_TOLERANCE) > 0.001:
        share = np.mean(apart > COLOUR_TOLERANCE)
        found = f"a coloured one ({share:.1%} of pixels)"
        do = "Use the film itself, not a picture of it."
        raise RadiographError(name, "a grey image", found, do)
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(image[..., :3])).convert("L")).copy()


def _pillow(data: bytes, name: str, kind: str) -> np.ndarray:
    """Decode what is rare: palettes, 16 bits, interlacing, every JPEG with its orientation."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are checked here
            image = Image.open(io.BytesIO(data), formats=[kind])
            _size_checked(*image.size, name)
            image.load()
            image = ImageOps.exif_transpose(image)
    except RadiographError:
        raise
    except Exception as error:
        raise _damaged(name, kind, str(error)) from None
    if image.mode.startswith(("I", "F")):
        deep = np.asarray(image).astype(np.float64)
        # 16 bits span 0 to 65,535, whatever part of it the film uses: 257 makes that 0 to 255.
        return np.clip(np.round(deep / 257), 0, 255).astype(np.uint8)
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "La"):
        grey, alpha = (np.asarray(channel) for channel in image.split())
        return _to_grey(np.dstack([grey, grey, grey, alpha]), name)
    if image.mode == "1":
        image = image.convert("L")
    return _to_grey(np.array(image), name)
