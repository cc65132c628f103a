"""DICOM files of one projection radiograph, as the person who reads films would see them."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from typing import TYPE_CHECKING

import numpy as np

from chexlib.data.decoders import MAX_PIXELS, RadiographError, decode_stream, require, size_checked

if TYPE_CHECKING:
    from pydicom import Dataset

# What the header may say of a film: keyword, what its text must match, what that is, what to do.
TEXTS = (
    ("Modality", "CR|DX|RG|DR|XC|OT|RF", "a projection radiograph (CR, DX)",
     "modality", "Choose the chest film."),
    ("BodyPartExamined", ".*(CHEST|THORAX|LUNG|RIB|TORAX|PORT).*", "a chest",
     "body part", "Choose the chest film."),
    ("ViewPosition", "(?!(LL|RL|LATERAL|LAT|LLD|RLD|LLO|RLO|LAO|RAO|LPO|RPO)$).*",
     "a frontal view (PA or AP)", "view position", "Choose the frontal film."),
)  # fmt: skip
KEYWORDS = [
    "Modality", "BodyPartExamined", "ViewPosition", "PatientOrientation", "PixelSpacing",
    "ImagerPixelSpacing", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept",
    "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth", "PresentationLUTShape",
    "EncapsulatedDocument", "PixelData", "SOPInstanceUID", "StudyInstanceUID", "PatientID",
]  # fmt: skip
MAX_READS = 100_000  # a film's header has some hundred elements, read in two or three pieces each
MAX_VALUE, MAX_TABLES = 2**12, 2**22  # bytes of a number or a text; of look-up tables
DEFLATED, PLAIN = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1\0\0\0"
VALUES = 2**16  # of a pixel of at most 16 bits: what is shown for each is computed once


def read_dicom(
    data: bytes, name: str
) -> tuple[np.ndarray, tuple[float, float] | None, str | None, tuple[str, str, str]]:
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
    (str, str, str)
        UIDs of SOP instance and study, and the patient's ID; empty where there is no such text.

    Raises
    ------
    RadiographError
        If it is no frontal chest radiograph of one frame.
    Exception
        Of any kind, if it cannot be decoded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are checked here, one by one
        film = _Attributes(_header(data), name)
        stored = _displayed(film, _cells(film, _refuse_others(film)))
        grey, spacing = _oriented(film, stored, _spacing(film))
        named = [film.value(keyword) for keyword in KEYWORDS[-3:]]
    view = film.text("ViewPosition")
    identity = tuple(str(text).strip() if isinstance(text, str) else "" for text in named)
    return grey, spacing, view if view in ("PA", "AP") else None, identity


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


class _Attributes:
    """The attributes of a film, or of an item of one of its sequences.

    pydicom converts a value when it is asked for, and raises whatever the value provokes.
    """

    def __init__(self, header: Dataset, name: str) -> None:
        self.header, self.name = header, name

    def value(self, keyword: str) -> object:
        """Return a value; None if it is absent, empty, huge or not to be converted."""
        try:
            raw = self.header.get_item(keyword).value
            limit = MAX_TABLES if keyword.endswith(("Sequence", "LUTData")) else MAX_VALUE
            if keyword != "PixelData" and isinstance(raw, bytes) and len(raw) > limit:
                return None
            value = self.header[keyword].value
            return None if hasattr(value, "__len__") and not len(value) else value
        except Exception:
            return None

    def absent(self, keyword: str) -> bool:
        """Say whether an attribute is missing or empty, as opposed to broken."""
        raw = self.header.get_item(keyword).value if keyword in self.header else None
        raw = raw.strip(b" ") if isinstance(raw, bytes) else raw
        return raw is None or (hasattr(raw, "__len__") and not len(raw))

    def text(self, keyword: str) -> str:
        value = self.value(keyword)
        return str("" if value is None else value).strip().upper()

    def numbers(self, keyword: str) -> list[float]:
        """Return the finite numbers of an attribute; none if anything else is among them."""
        value = self.value(keyword)
        several = hasattr(value, "__iter__") and not isinstance(value, (str, bytes))
        try:
            numbers = [float(part) for part in (value if several else [value])]
        except (TypeError, ValueError):
            return []
        return numbers if np.isfinite(numbers).all() else []

    def number(self, keyword: str, default: float | None = None, *, whole: bool = False) -> float:
        """Return an attribute that is one number (the first of several windows), or refuse it."""
        numbers = self.numbers(keyword)
        good = numbers and (not whole or (len(numbers) == 1 and numbers[0].is_integer()))
        if not good and default is not None and self.absent(keyword):
            return default
        expected = f"a {keyword} that is a {'whole ' if whole else ''}number"
        self.require(good, expected, f"{self.value(keyword)!r}"[:80])
        return int(numbers[0]) if whole else numbers[0]

    def whole(self, keyword: str, default: int | None = None) -> int:
        """Return an attribute that is one whole number."""
        return self.number(keyword, default, whole=True)

    def require(
        self, good: object, expected: str, found: str, do: str = "Repair it, or export it again."
    ) -> None:
        require(self.name, good, expected, found, do)

    @property
    def order(self) -> str:
        return "<" if self.header.file_meta.TransferSyntaxUID.is_little_endian else ">"


def _refuse_others(film: _Attributes) -> tuple[int, int]:
    """Refuse what is no single frontal chest radiograph, before its pixels are decoded."""
    report = "EncapsulatedDocument" in film.header
    found = "an encapsulated document" if report else "a file without pixel data"
    do = "Export the image, not its report."
    film.require("PixelData" in film.header, "an image", found, do)
    for keyword, pattern, expected, called, do in TEXTS:
        text = film.text(keyword)
        good = not text or re.fullmatch(pattern, text, re.DOTALL)
        film.require(good, expected, f"{called} {text}", do)
    frames = film.whole("NumberOfFrames", 1)
    film.require(frames == 1, "one frame", f"{frames} frames", "Export the one to read.")
    shape, samples = film.text("PhotometricInterpretation"), film.whole("SamplesPerPixel", 1)
    film.require(
        shape in ("MONOCHROME1", "MONOCHROME2") and samples == 1,
        "MONOCHROME1 or MONOCHROME2",
        f"photometric interpretation {shape or 'missing'}, {samples} samples a pixel",
        "It is a screenshot or photograph: export the film itself.",
    )
    rows, columns = film.whole("Rows"), film.whole("Columns")
    size_checked(columns, rows, film.name)
    return rows, columns


def _cells(film: _Attributes, shape: tuple[int, int]) -> np.ndarray:
    """Return the stored values [H, W], uint16 or int16, without the bits that do not belong."""
    allocated = film.whole("BitsAllocated")
    stored = film.whole("BitsStored", allocated)
    high = film.whole("HighBit", stored - 1)
    signed = film.whole("PixelRepresentation", 0)
    film.require(
        allocated in (8, 16) and 1 <= stored <= high + 1 <= allocated and signed in (0, 1),
        "8 or 16 bits a pixel, with or without sign",
        f"{stored} of {allocated} bits up to bit {high}, representation {signed}",
        "Export it with 8 or 16 bits a pixel.",
    )
    values, precision = _decoded(film, shape, allocated)
    if precision <= 8 < stored:
        raise ValueError(f"{precision} bits where the data set says {stored}")
    if precision <= stored:  # a code stream has no spare bits
        stored, high = precision, precision - 1
    cells = values.astype(np.uint16, copy=False) << np.uint16(15 - high)
    cells = cells.view(np.int16 if signed else np.uint16)
    return np.right_shift(cells, 16 - stored, out=cells)


def _decoded(film: _Attributes, shape: tuple[int, int], allocated: int) -> tuple[np.ndarray, int]:
    """Return what is stored for each pixel [H, W], all bits of it, and how many they are."""
    from pydicom import encaps
    from pydicom.uid import RLELossless

    syntax, length = film.header.file_meta.TransferSyntaxUID, shape[0] * shape[1] * allocated // 8
    element = film.header["PixelData"]
    data = element.value or b""
    if syntax.is_encapsulated != element.is_undefined_length:
        raise ValueError(f"pixel data that are not stored as {syntax.name} is")
    kind = np.dtype(f"{film.order}u{allocated // 8}")
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
    return np.frombuffer(data, kind, shape[0] * shape[1]).reshape(shape), allocated


def _displayed(film: _Attributes, cells: np.ndarray) -> np.ndarray:
    """Return stored values as 8-bit grey, dense bright."""
    stored = np.arange(VALUES, dtype=np.uint16).view(cells.dtype).astype(np.float64)
    # The modality LUT, or rescaling (DICOM PS3.3 C.11.1)
    if film.absent("ModalityLUTSequence"):
        slope, intercept = film.number("RescaleSlope", 1), film.number("RescaleIntercept", 0)
        shown = stored * slope + intercept
    else:
        shown = _looked_up(film, "ModalityLUTSequence", stored)[0]
    found, do = "NaN or infinity after rescaling", "Repair slope and intercept."
    film.require(np.isfinite(shown).all(), "finite grey values", found, do)
    grey = _windowed(film, shown)
    if grey is None:
        inside = cells.ravel()[:: max(1, cells.size // 1_000_000)]
        # Padding outside the collimated field must not stretch the range.
        padding = film.numbers("PixelPaddingValue")
        kept = inside != padding[0] if len(padding) == 1 else np.ones(len(inside), bool)
        inside = inside[kept] if kept.any() else inside
        low, high = np.percentile(shown[inside.view(np.uint16)], [0.5, 99.5])
        grey = np.clip((shown - low) / max(high - low, 1e-12), 0, 1)
    inverse = film.text("PresentationLUTShape") == "INVERSE"
    if film.text("PhotometricInterpretation") == "MONOCHROME1" or inverse:
        grey = 1 - grey
    table, pixels = np.round(255 * grey).astype(np.uint8), np.empty(cells.shape, np.uint8)
    for row, into in zip(cells.view(np.uint16), pixels, strict=True):  # by rows: it saves memory
        np.take(table, row, out=into)
    return pixels


def _windowed(film: _Attributes, values: np.ndarray) -> np.ndarray | None:
    """Return the output of the VOI LUT or window in [0, 1], None without (PS3.3 C.11.2)."""
    from pydicom import Dataset
    from pydicom.pixels import apply_windowing

    item = _Attributes((film.value("VOILUTSequence") or [None])[0], film.name)
    if None not in (item.value("LUTDescriptor"), item.value("LUTData")):
        shown, bits = _looked_up(film, "VOILUTSequence", values)
        return np.clip(shown / (2.0**bits - 1), 0, 1)
    if film.absent("WindowCenter") and film.absent("WindowWidth"):
        return None
    # pydicom takes the range of its output from the pixels', upside down where the slope is
    # negative: it is told of neither.
    window = Dataset()
    window.PhotometricInterpretation, window.PixelRepresentation = "MONOCHROME2", 0
    window.BitsStored = 16
    window.VOILUTFunction = film.text("VOILUTFunction") or "LINEAR"
    window.WindowCenter, window.WindowWidth = (
        film.number("WindowCenter"),
        film.number("WindowWidth"),
    )
    try:
        return apply_windowing(values, window) / (VALUES - 1)
    except ValueError as error:
        found = f"one that cannot be applied ({error})"
        raise RadiographError(film.name, "a usable window", found, "Remove or repair it.") from None


def _looked_up(film: _Attributes, keyword: str, values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return what a look-up table makes of values, and how many bits its output has.

    Our own: pydicom's table of 8 bits wraps at 256 values, and it knows no packed one.
    """
    item = _Attributes((film.value(keyword) or [None])[0], film.name)
    descriptor, data = item.numbers("LUTDescriptor"), item.value("LUTData")
    entries, first, bits = (int(part) for part in descriptor) if len(descriptor) == 3 else (0, 0, 0)
    entries = entries % VALUES or VALUES  # 65,536 are written as 0
    if isinstance(data, bytes):
        # One byte an entry, not two?
        packed = bits == 8 and len(data) in (entries, entries + 1)
        whole = data[:entries] if packed else data[: len(data) // 2 * 2]
        data = np.frombuffer(whole, np.uint8 if packed else f"{film.order}u2")
    table = np.atleast_1d(np.asarray(data, dtype=np.float64))
    found = f"one of {len(table)} entries whose descriptor is {descriptor}"
    good = len(table) == entries and 8 <= bits <= 16
    film.require(good, "a usable look-up table", found, "Remove or repair it.")
    return table[np.clip(np.floor(values) - first, 0, entries - 1).astype(np.intp)], bits


def _oriented(
    film: _Attributes, grey: np.ndarray, spacing: tuple[float, float] | None
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Turn the image so that its rows run to the patient's left and its columns to the feet."""
    value = film.value("PatientOrientation")
    parts = [] if value is None or isinstance(value, (str, int, float)) else [str(p) for p in value]
    if len(parts) != 2 or not all(parts):
        return grey, spacing  # as it was stored: nothing says otherwise
    row, column = (part.upper()[0] for part in parts)
    found = f"patient orientation {parts[0]}\\{parts[1]}"
    lateral, do = row in "AP" or column in "AP", "Choose the frontal film."
    film.require(not lateral, "a frontal film", f"{found}, a lateral one", do)
    if row in "HF" and column in "LR":
        grey, row, column = grey.T, column, row
        spacing = spacing and spacing[::-1]
    good = row in "LR" and column in "HF"
    film.require(good, "an orientation such as L\\F", found, "Repair it.")
    if row == "R":
        grey = grey[:, ::-1]
    return grey[::-1] if column == "H" else grey, spacing


def _spacing(film: _Attributes) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        numbers = film.numbers(keyword)
        if len(numbers) == 2 and min(numbers) > 0:
            return numbers[0], numbers[1]
    return None  # absent, or zero, as in some files that were made anonymous
