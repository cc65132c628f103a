"""DICOM files of one projection radiograph, as the person who reads films would see them."""

from __future__ import annotations

import io
import warnings
import zlib
from typing import TYPE_CHECKING

import numpy as np

from chexlib.data.decoders import MAX_PIXELS, RadiographError, decode_stream, size_checked

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read_dicom"]

PROJECTION = {"CR", "DX", "RG", "DR", "XC", "OT", "RF"}
CHEST = ("CHEST", "THORAX", "LUNG", "RIB", "TORAX", "PORT")
LATERAL = {"LL", "RL", "LATERAL", "LAT", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO"}
KEYWORDS = [
    "Modality", "BodyPartExamined", "ViewPosition", "PatientOrientation", "PixelSpacing",
    "ImagerPixelSpacing", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept",
    "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth", "PresentationLUTShape",
    "EncapsulatedDocument", "PixelData",
]  # fmt: skip
MAX_READS = 100_000  # a film's header has some hundred elements, read in two or three pieces each
MAX_VALUE, MAX_TABLES = 2**12, 2**22  # bytes of a number or a text; of look-up tables
DEFLATED, PLAIN = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1\0\0\0"
VALUES = 2**16  # of a pixel of at most 16 bits: what is shown for each is computed once


def read_dicom(data: bytes, name: str) -> tuple[np.ndarray, tuple[float, float] | None, str | None]:
    """Read a DICOM radiograph from the bytes of its file.

    Stored values pass the modality LUT or rescale, then the VOI LUT or the first window; where
    neither is given, the range between the 0.5th and the 99.5th percentile is shown, since
    detectors leave a few extreme values. MONOCHROME1 and an INVERSE presentation shape are turned,
    so that dense is bright. The image is mirrored or turned where Patient Orientation says that it
    does not lie as a frontal film is read, the patient's left to the right (DICOM PS3.3 C.7.6.1).

    A broken attribute is treated as a careful viewer treats it. What the picture hangs on is
    refused: the description of the pixels, rescaling and its table, a window without positive
    width, a VOI table that contradicts its descriptor. What only adds to it counts as absent:
    spacing, padding, orientation, view, body part, and a VOI table without descriptor or data.

    Returns
    -------
    uint8 array, shape (height, width)
    (float, float) or None
        Spacing, millimetres from row to row and from column to column.
    {"PA", "AP", None}

    Raises
    ------
    RadiographError
        If it is no frontal chest radiograph of one frame, or cannot be decoded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are checked here, one by one
        try:
            header = _header(data)
            shape = _refuse_others(header, name)
            cells = _cells(header, shape, name)
        except RadiographError:
            raise
        except Exception as error:
            detail = " ".join(str(error).split())[:160] or type(error).__name__
            raise RadiographError(
                name,
                "a DICOM file that can be decoded",
                f"one that cannot ({detail})",
                "Copy it again; if it is whole, export it uncompressed.",
            ) from None
        grey = _oriented(header, _displayed(header, cells, name), name)
    view = _text(header, "ViewPosition")
    return grey, _spacing(header), view if view in ("PA", "AP") else None


class _DeflatedError(Exception):
    """The rest of the file is one deflated stream."""


class _Bounded(io.BytesIO):
    """Bytes that pydicom reads, element by element, and not for ever."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:  # pydicom does so to unpack a whole file at once
            raise _DeflatedError
        self.reads += 1
        if self.reads > MAX_READS:
            raise ValueError("a header without end")
        return super().read(size)


def _header(data: bytes) -> Dataset:
    """Return the attributes that are used here, none of them converted yet."""
    import pydicom

    file = _Bounded(data)
    try:
        return pydicom.dcmread(file, specific_tags=KEYWORDS)
    except _DeflatedError:
        start, limit = file.tell(), 4 * MAX_PIXELS
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        body = inflater.decompress(data[start:], limit)
        if not inflater.eof:
            raise ValueError(f"data that do not unpack within {limit:,} bytes") from None
        plain = data[:start].replace(DEFLATED, PLAIN) + body
    return pydicom.dcmread(_Bounded(plain), specific_tags=KEYWORDS)


def _value(header: Dataset, keyword: str) -> object:
    """Return the value of an attribute; None if it is absent, empty, huge or not to be converted.

    pydicom converts a value when it is asked for, and raises whatever the value provokes.
    """
    try:
        raw = header.get_item(keyword).value
        limit = MAX_TABLES if keyword.endswith(("Sequence", "LUTData")) else MAX_VALUE
        if keyword != "PixelData" and isinstance(raw, bytes) and len(raw) > limit:
            return None
        value = header[keyword].value
        return None if hasattr(value, "__len__") and not len(value) else value
    except Exception:
        return None


def _absent(header: Dataset, keyword: str) -> bool:
    """Say whether an attribute is missing or empty, as opposed to broken."""
    raw = header.get_item(keyword).value if keyword in header else None
    raw = raw.strip(b" ") if isinstance(raw, bytes) else raw
    return raw is None or (hasattr(raw, "__len__") and not len(raw))


def _text(header: Dataset, keyword: str) -> str:
    value = _value(header, keyword)
    return str(value if value is not None else "").strip().upper()


def _numbers(header: Dataset, keyword: str) -> list[float]:
    """Return the finite numbers of an attribute; none if anything else is among them."""
    value = _value(header, keyword)
    try:
        several = hasattr(value, "__iter__") and not isinstance(value, (str, bytes))
        numbers = [float(part) for part in (value if several else [value])]
    except (TypeError, ValueError):
        return []
    return numbers if np.isfinite(numbers).all() else []


def _number(
    header: Dataset, keyword: str, name: str, default: float | None = None, *, whole: bool = False
) -> float:
    """Return an attribute that is one number (the first of several windows), or refuse the film."""
    numbers = _numbers(header, keyword)
    if numbers and (not whole or (len(numbers) == 1 and numbers[0].is_integer())):
        return int(numbers[0]) if whole else numbers[0]
    if default is not None and _absent(header, keyword):
        return default
    expected = f"a {keyword} that is a {'whole ' if whole else ''}number"
    found = f"{_value(header, keyword)!r}"[:80]
    raise RadiographError(name, expected, found, "Repair it, or export it again.")


def _refuse_others(header: Dataset, name: str) -> tuple[int, int]:
    """Refuse what is no single frontal chest radiograph, before its pixels are decoded."""
    if "PixelData" not in header:
        found = "a file without pixel data"
        if "EncapsulatedDocument" in header:
            found = "an encapsulated document"
        raise RadiographError(name, "an image", found, "Export the image, not its report.")
    modality = _text(header, "Modality")
    if modality and modality not in PROJECTION:
        expected = "a projection radiograph (CR, DX)"
        raise RadiographError(name, expected, f"modality {modality}", "Choose the chest film.")
    frames = _number(header, "NumberOfFrames", name, 1, whole=True)
    if frames != 1:
        raise RadiographError(name, "one frame", f"{frames} frames", "Export the one to read.")
    part = _text(header, "BodyPartExamined")
    if part and not any(word in part for word in CHEST):
        raise RadiographError(name, "a chest", f"body part {part}", "Choose the chest film.")
    view = _text(header, "ViewPosition")
    if view in LATERAL:
        found = f"view position {view}"
        raise RadiographError(name, "a frontal view (PA or AP)", found, "Choose the frontal film.")
    shape = _text(header, "PhotometricInterpretation")
    samples = _number(header, "SamplesPerPixel", name, 1, whole=True)
    if shape not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
        found = f"photometric interpretation {shape or 'missing'}, {samples} samples a pixel"
        do = "It is a screenshot or photograph: export the film itself."
        raise RadiographError(name, "MONOCHROME1 or MONOCHROME2", found, do)
    rows, columns = (_number(header, key, name, whole=True) for key in ("Rows", "Columns"))
    size_checked(columns, rows, name)
    return rows, columns


def _cells(header: Dataset, shape: tuple[int, int], name: str) -> np.ndarray:
    """Return the stored values [H, W], uint16 or int16, without the bits that do not belong."""
    allocated = _number(header, "BitsAllocated", name, whole=True)
    stored = _number(header, "BitsStored", name, allocated, whole=True)
    high = _number(header, "HighBit", name, stored - 1, whole=True)
    signed = _number(header, "PixelRepresentation", name, 0, whole=True)
    if not (allocated in (8, 16) and 1 <= stored <= high + 1 <= allocated and signed in (0, 1)):
        found = f"{stored} of {allocated} bits up to bit {high}, representation {signed}"
        do = "Export it with 8 or 16 bits a pixel."
        raise RadiographError(name, "8 or 16 bits a pixel, with or without sign", found, do)
    values, precision = _decoded(header, shape, allocated)
    if precision <= 8 < stored:
        raise ValueError(f"{precision} bits where the data set says {stored}")
    if precision <= stored:  # a code stream has no spare bits
        stored = precision
        high = precision - 1
    cells = values.astype(np.uint16, copy=False) << np.uint16(15 - high)
    cells = cells.view(np.int16 if signed else np.uint16)
    return np.right_shift(cells, 16 - stored, out=cells)


def _decoded(header: Dataset, shape: tuple[int, int], allocated: int) -> tuple[np.ndarray, int]:
    """Return what is stored for each pixel [H, W], all bits of it, and how many they are."""
    from pydicom import encaps
    from pydicom.uid import RLELossless

    syntax, length = header.file_meta.TransferSyntaxUID, shape[0] * shape[1] * allocated // 8
    element = header["PixelData"]
    data = element.value or b""
    if syntax.is_encapsulated != element.is_undefined_length:
        raise ValueError(f"pixel data that are not stored as {syntax.name} is")
    kind = np.dtype(f"{_order(header)}u{allocated // 8}")
    if syntax.is_encapsulated:
        frames = list(encaps.generate_frames(data, number_of_frames=1))
        if len(frames) != 1:
            raise ValueError(f"{len(frames)} frames")
        if syntax != RLELossless:
            return decode_stream(frames[0], shape, allocated)
        from imagecodecs import dicomrle_decode

        data = dicomrle_decode(frames[0], kind, out=length)
    elif kind.itemsize == 1 and not syntax.is_little_endian and element.VR == "OW":
        data = np.frombuffer(data[: len(data) // 2 * 2], np.uint16).byteswap().tobytes()
    # A row more than is said: the size is in doubt. A few bytes more: somebody has padded it.
    if not length <= len(data) < length + shape[1] * kind.itemsize:
        raise ValueError(f"{len(data):,} bytes of pixels where its size asks for {length:,}")
    values = np.frombuffer(data, kind, shape[0] * shape[1])
    return values.reshape(shape), allocated


def _displayed(header: Dataset, cells: np.ndarray, name: str) -> np.ndarray:
    """Return stored values as 8-bit grey, dense bright."""
    stored = np.arange(VALUES, dtype=np.uint16).view(cells.dtype)
    shown = _rescaled(header, stored.astype(np.float64), name)
    if not np.isfinite(shown).all():
        found, do = "NaN or infinity after rescaling", "Repair slope and intercept."
        raise RadiographError(name, "finite grey values", found, do)
    grey = _windowed(header, shown, name)
    if grey is None:
        inside = cells.ravel()[:: max(1, cells.size // 1_000_000)]
        # Padding outside the collimated field must not stretch the range.
        padding = _numbers(header, "PixelPaddingValue")
        kept = inside != padding[0] if len(padding) == 1 else np.ones(len(inside), bool)
        inside = inside[kept] if kept.any() else inside
        low, high = np.percentile(shown[inside.view(np.uint16)], [0.5, 99.5])
        grey = np.clip((shown - low) / max(high - low, 1e-12), 0, 1)
    inverse = _text(header, "PresentationLUTShape") == "INVERSE"
    if (_text(header, "PhotometricInterpretation") == "MONOCHROME1") or inverse:
        grey = 1 - grey
    table, pixels = np.round(255 * grey).astype(np.uint8), np.empty(cells.shape, np.uint8)
    for row, into in zip(cells.view(np.uint16), pixels, strict=True):  # by rows: it saves memory
        np.take(table, row, out=into)
    return pixels


def _rescaled(header: Dataset, values: np.ndarray, name: str) -> np.ndarray:
    """Return the output of the modality LUT, or of rescaling (DICOM PS3.3 C.11.1)."""
    if not _absent(header, "ModalityLUTSequence"):
        items = _value(header, "ModalityLUTSequence")
        return _looked_up(items and items[0], values, _order(header), name)[0]
    slope = _number(header, "RescaleSlope", name, 1)
    return values * slope + _number(header, "RescaleIntercept", name, 0)


def _windowed(header: Dataset, values: np.ndarray, name: str) -> np.ndarray | None:
    """Return the output of the VOI LUT or window in [0, 1], None without (PS3.3 C.11.2)."""
    from pydicom import Dataset
    from pydicom.pixels import apply_windowing

    item = (_value(header, "VOILUTSequence") or [None])[0]
    if None not in (_value(item, "LUTDescriptor"), _value(item, "LUTData")):
        shown, bits = _looked_up(item, values, _order(header), name)
        return np.clip(shown / (2.0**bits - 1), 0, 1)
    keywords = ("WindowCenter", "WindowWidth")
    if all(_absent(header, keyword) for keyword in keywords):
        return None
    # pydicom takes the range of its output from the pixels', upside down where the slope is
    # negative: it is told of neither.
    window = Dataset()
    window.PhotometricInterpretation, window.PixelRepresentation = "MONOCHROME2", 0
    window.BitsStored = 16
    window.VOILUTFunction = _text(header, "VOILUTFunction") or "LINEAR"
    window.WindowCenter, window.WindowWidth = (_number(header, key, name) for key in keywords)
    try:
        return apply_windowing(values, window) / (VALUES - 1)
    except ValueError as error:
        found = f"one that cannot be applied ({error})"
        raise RadiographError(name, "a usable window", found, "Remove or repair it.") from None


def _order(header: Dataset) -> str:
    return "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"


def _looked_up(item: Dataset, values: np.ndarray, order: str, name: str) -> tuple[np.ndarray, int]:
    """Return what a look-up table makes of values, and how many bits its output has.

    Our own: pydicom's table of 8 bits wraps at 256 values, and it knows no packed one.
    """
    descriptor, data = _numbers(item, "LUTDescriptor"), _value(item, "LUTData")
    entries, first, bits = (int(part) for part in descriptor) if len(descriptor) == 3 else (0, 0, 0)
    entries = entries % VALUES or VALUES  # 65,536 are written as 0
    if isinstance(data, bytes):
        packed = bits == 8 and len(data) in (entries, entries + 1)  # one byte an entry, not two
        data = (
            np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
            if not packed
            else np.frombuffer(data, np.uint8)[:entries]
        )
    table = np.atleast_1d(np.asarray(data, dtype=np.float64))
    if len(table) != entries or not 8 <= bits <= 16:
        found = f"one of {len(table)} entries whose descriptor is {descriptor}"
        raise RadiographError(name, "a usable look-up table", found, "Remove or repair it.")
    return table[np.clip(np.floor(values) - first, 0, entries - 1).astype(np.intp)], bits


def _oriented(header: Dataset, grey: np.ndarray, name: str) -> np.ndarray:
    """Turn the image so that its rows run to the patient's left and its columns to the feet."""
    value = _value(header, "PatientOrientation")
    parts = [] if value is None or isinstance(value, (str, int, float)) else [str(p) for p in value]
    if len(parts) != 2 or not all(parts):
        return grey  # as it was stored: nothing says otherwise
    row, column = (part.upper()[0] for part in parts)
    if row in "AP" or column in "AP":
        found = f"patient orientation {parts[0]}\\{parts[1]}, a lateral one"
        raise RadiographError(name, "a frontal film", found, "Choose the frontal film.")
    if row in "HF" and column in "LR":
        grey, row, column = grey.T, column, row
    if row not in "LR" or column not in "HF":
        found = f"patient orientation {parts[0]}\\{parts[1]}"
        raise RadiographError(name, "an orientation such as L\\F", found, "Repair it.")
    if row == "R":
        grey = grey[:, ::-1]
    return grey[::-1] if column == "H" else grey


def _spacing(header: Dataset) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        numbers = _numbers(header, keyword)
        if len(numbers) == 2 and min(numbers) > 0:
            return numbers[0], numbers[1]
    return None  # absent, or zero, as in some files that were made anonymous
