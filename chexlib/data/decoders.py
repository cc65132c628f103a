"""PNG and JPEG's code streams to arrays, strictly: what is damaged is refused, never filled in.

The decoders were chosen by measurement: on good films all give the same values, bit for bit.
kornia-rs is the fastest on NIH's PNGs (``benchmarks/bench_images.py``), and its libjpeg-turbo takes
a warning for an error; imagecodecs reads every JPEG that DICOM allows, seven times as fast as GDCM
where it is lossless, and none of its decoders ended the process on damaged streams, as GDCM did;
Pillow has the rarer PNGs. Whatever a header declares is compared and bounded before a decoder
sees it.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from chexlib.files import legible

# A 43 cm detector at 0.1 mm has 18 million pixels. JPEG 2000 of 40 million takes eight seconds.
MAX_PIXELS = 40_000_000
MAX_BYTES = 128 * 2**20  # 40 million pixels of 16 bits, and a third more
MIN_SIDE = 32
MAX_CHUNKS = 50_000  # of a PNG; libpng writes 8,192 bytes in each
MAX_SCANS = 50  # of a progressive JPEG; ten are usual, and each costs a pass over the film
MAX_SEGMENTS = 10_000  # of a JPEG's header
MAX_MESSAGE = 390

PNG = b"\x89PNG\r\n\x1a\n"
# Where a file's first bytes are that tell what it is, and what they are.
MAGIC = {"PNG": (0, PNG), "JPEG": (0, b"\xff\xd8\xff"), "DICOM": (128, b"DICM")}
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types of a PNG
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8)}
WHOLE = ((0, 0, 1, 1),)
ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip
EXIF = b"Exif\0\0"
ORIENTATION = 0x0112
START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
WITHOUT_BLOCKS = {0xC3, 0xC7, 0xCB, 0xCF, 0xF7}  # lossless ones, and JPEG-LS
JPEG_LS, START_OF_SCAN, END, SCAN = 0xF7, 0xDA, 0xD9, 0


class RadiographError(ValueError):
    """A file that is no readable frontal radiograph; the message says which, why, what to do.

    It is one line below 400 characters, whatever the file and its name contain.
    """

    def __init__(self, name: str, expected: str, found: str, do: str) -> None:
        self.name = name
        shown = legible(name)
        if len(shown) > 160:
            shown = f"…{shown[-159:]}"
        expected, found, do = (legible(text) for text in (expected, found, do))
        room = max(40, MAX_MESSAGE - len(shown) - len(expected) - len(do))
        found = found if len(found) <= room else f"{found[: room - 1]}…"
        super().__init__(f"{shown}: expected {expected}, found {found}. {do}"[:399])
        self._said = (name, expected, found, do)

    def __reduce__(self) -> tuple:  # workers send it from one process to another
        return RadiographError, self._said


def require(name: str, good: object, expected: str, found: str, do: str) -> None:
    """Refuse a film unless something about it is good."""
    if not good:
        raise RadiographError(name, expected, found, do)


def size_checked(width: int, height: int, name: str) -> None:
    """Refuse before anything is allocated: a small file can declare a huge image."""
    most, least = f"at most {MAX_PIXELS:,} pixels", f"at least {MIN_SIDE} pixels a side"
    found, do = f"{width} x {height} pixels", "Scale it down, or find the film it is of."
    require(name, width * height <= MAX_PIXELS, most, found, do)
    require(name, min(width, height) >= MIN_SIDE, least, found, "Find the original.")


def decode_picture(data: bytes, kind: str, name: str) -> np.ndarray:
    """Return the values of a PNG or JPEG file, [H, W] or [H, W, channels], the right way up.

    Of a PNG every checksum is verified, and what is unpacked must be as long as the image, to the
    byte. A JPEG is refused where a decoder would as much as warn of it.

    Parameters
    ----------
    data : bytes
    kind : {"PNG", "JPEG"}
    name : str
        What errors call it.

    Returns
    -------
    uint8 array; int32 for a PNG of 16 bits
        With up to four channels, the last of two or four being alpha.

    Raises
    ------
    RadiographError
        If it is animated, or too large or small.
    BaseException
        Of any kind, if it is damaged: a decoder written in Rust panics, which is no Exception.
    """
    return {"PNG": _png, "JPEG": _jpeg}[kind](data, name)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and body of a PNG's chunks, their checksums verified."""
    from imagecodecs import deflate_crc32

    view, at = memoryview(data), len(PNG)
    for _ in range(MAX_CHUNKS):
        end = at + 12 + int.from_bytes(view[at : at + 4], "big")
        if end > len(data) or at + 12 > len(data):
            raise ValueError("it is cut short")
        if deflate_crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ValueError("a chunk whose checksum is wrong")
        kind = bytes(view[at + 4 : at + 8])
        if kind == b"IEND":
            return
        yield kind, view[at + 8 : end - 4]
        at = end
    raise ValueError(f"more than {MAX_CHUNKS:,} chunks")


def _chunk(kind: bytes, *body: bytes) -> Iterator[bytes]:
    """Yield a chunk in pieces: joined once, with all others, it is copied once."""
    from imagecodecs import deflate_crc32

    crc = deflate_crc32(kind)
    yield struct.pack(">I", sum(map(len, body))) + kind
    for part in body:
        crc = deflate_crc32(part, crc)
        yield part
    yield struct.pack(">I", crc)


def _png(data: bytes, name: str) -> np.ndarray:
    from imagecodecs import deflate_decode

    chunks = _chunks(data)
    kind, header = next(chunks, (b"", b""))
    if kind != b"IHDR" or len(header) != 13:
        raise ValueError("no complete header")
    width, height, depth, colour, packing, filtering, interlaced = struct.unpack(">IIBBBBB", header)
    size_checked(width, height, name)
    if depth not in DEPTHS.get(colour, (8, 16)) or colour not in CHANNELS:
        raise ValueError(f"a depth of {depth} bits in colour type {colour}")
    if packing or filtering or interlaced > 1:
        raise ValueError("a header that no PNG has")
    packed: list[memoryview] = []
    extra: dict[bytes, memoryview] = {}
    for kind, body in chunks:
        if kind == b"IDAT":
            packed.append(body)
        elif kind == b"acTL":
            raise RadiographError(name, "one image", "an animation", "Export its one frame as PNG.")
        elif kind not in (b"PLTE", b"tRNS") or not packed:
            extra[kind] = body
    if colour == PALETTE and b"PLTE" not in extra:
        raise ValueError("colours without a palette")
    # The length is known, so a bomb is stopped; libdeflate verifies the sum of what it unpacks.
    bits, length = depth * CHANNELS[colour], 0
    for left, top, across, down in ADAM7 if interlaced else WHOLE:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        length += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    stream = b"".join(packed)
    raw = deflate_decode(stream, out=length)
    if len(raw) != length:
        raise ValueError(f"{len(raw):,} bytes of pixels instead of {length:,}")
    begin, end = (PNG, *_chunk(b"IHDR", header)), _chunk(b"IEND")
    modes = {GREY: "mono", RGB: "rgb", RGBA: "rgba"}
    if depth == 8 and colour in modes and not interlaced and b"tRNS" not in extra:
        from kornia_rs import io as decoders

        # kornia's own unpacking is left out: it is slower than libdeflate's, and verifies no sum.
        file = b"".join([*begin, *_chunk(b"IDAT", *_stored(raw)), *end])
        pixels = decoders.decode_image_png_u8(file, (height, width), modes[colour])
    else:
        del raw
        rare = [_chunk(kind, extra[kind]) for kind in (b"PLTE", b"tRNS") if kind in extra]
        file = b"".join(itertools.chain(begin, *rare, _chunk(b"IDAT", stream), end))
        pixels = _pillow(file, len(extra.get(b"PLTE", b"")) // 3)
    return _turned(pixels, extra.get(b"eXIf"))


def _stored(raw: bytes) -> Iterator[bytes]:
    """Yield bytes as zlib keeps what it cannot pack; kornia does not read the sum at the end."""
    view, most = memoryview(raw), 65535
    yield b"\x78\x01"
    for at in range(0, len(raw), most):
        block = view[at : at + most]
        yield struct.pack("<BHH", at + most >= len(raw), len(block), most - len(block))
        yield block
    yield bytes(4)


def _pillow(png: bytes, colours: int) -> np.ndarray:
    """Return the values of a PNG that is rare: palettes, 1 to 4 or 16 bits, interlacing."""
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(png), formats=["PNG"])
    image.load()
    if image.mode == "P":
        used = int(np.asarray(image).max())
        if used >= colours:
            raise ValueError(f"colour number {used} of a palette of {colours}")
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return np.array(image.convert("L") if image.mode == "1" else image)


def _turned(pixels: np.ndarray, exif: bytes | memoryview | None) -> np.ndarray:
    """Return an image as its EXIF orientation asks for; a broken one asks for nothing."""
    if not exif:
        return pixels
    from PIL import Image

    found, orientation = Image.Exif(), 1
    with suppress(Exception):
        found.load(bytes(exif))
        orientation = found.get(ORIENTATION)
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


class Stream(NamedTuple):
    """What the header of a code stream declares."""

    width: int
    height: int
    components: int
    precision: int  # bits
    kind: int  # the marker that starts a JPEG's frame; 0 for JPEG 2000
    start: int = 0  # where the code stream begins
    end: int = 0  # where its end marker is
    exif: bytes = b""


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield marker, content and place of a JPEG's segments; what lies behind a scan's as SCAN."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        if data[at : at + 1] != b"\xff" or at + 2 > len(data):
            raise ValueError("no marker where one must be")
        marker, end = data[at + 1], at + 1
        if marker not in (0xFF, END):
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : end], at
        if marker == END:
            return
        at = end
        if marker == START_OF_SCAN:
            behind = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]").search(data, at)
            if not behind:
                raise ValueError("no end")
            yield SCAN, data[at : behind.start()], at
            at = behind.start()
    raise ValueError("a header without end")


def _jpeg_stream(data: bytes) -> Stream:
    """Read what a JPEG or JPEG-LS declares, up to its end, and see that nothing is left out."""
    found, exif, scans, at = None, b"", 0, 0
    unsent: set[tuple[int, int]] = set()  # coefficients of components, to their last bit
    for marker, body, at in _segments(data):  # noqa: B007 - the last place is the end's
        if marker in START_OF_FRAME:
            if found or len(body) < 6:
                raise ValueError("two headers, or half a one")
            precision, height, width, components = struct.unpack(">BHHB", body[:6])
            found = Stream(width, height, components, precision, marker)
            if marker not in WITHOUT_BLOCKS:
                unsent = {(component, k) for component in body[6::3] for k in range(64)}
        elif marker == START_OF_SCAN:
            scans += 1
            first, last, bits = body[-3:]
            if bits & 15 == 0:
                unsent -= {(name, k) for name in body[1:-3:2] for k in range(first, last + 1)}
        elif marker == SCAN:
            restarts = re.findall(rb"\xff([\xd0-\xd7])", body)
            if any(restart[0] != 0xD0 + k % 8 for k, restart in enumerate(restarts)):
                raise ValueError("a part of the image is lost")
        elif marker == 0xE1 and body.startswith(EXIF):
            exif = exif or body
    if not found or not 0 < scans <= MAX_SCANS or unsent:
        raise ValueError(f"{scans} scans, which are not the whole of an image")
    return found._replace(end=at, exif=exif)


def _jpeg2000_stream(data: bytes) -> Stream:
    start = data.find(b"\xff\x4f\xff\x51", 0, 1 << 16)
    if start < 0 or len(data) < start + 43:
        raise ValueError("no code stream that is known")
    numbers = struct.unpack(">HHIIIIIIIIHB", data[start + 4 : start + 43])
    right, bottom, left, top, across, down, tile_left, tile_top, components, bits = numbers[2:]
    width, height = right - left, bottom - top
    tiles = -(-(right - tile_left) // max(across, 1)) * -(-(bottom - tile_top) // max(down, 1))
    if tiles > 65_535:
        raise ValueError(f"{tiles} tiles")
    return Stream(width, height, components, (bits & 127) + 1, 0, start)


def _jpeg(data: bytes, name: str) -> np.ndarray:
    stream = _jpeg_stream(data)
    size_checked(stream.width, stream.height, name)
    good = stream.components in (1, 3) and stream.precision == 8
    found = f"{stream.components} channels of {stream.precision} bits"
    expected, do = "a JPEG with 1 or 3 channels of 8 bits", "Export it as 8-bit grey."
    require(name, good, expected, found, do)
    return _turned(_turbo(data, "mono" if stream.components == 1 else "rgb"), stream.exif)


def _turbo(data: bytes, mode: str) -> np.ndarray:
    from kornia_rs import io as decoders

    try:
        image = decoders.decode_image_jpegturbo(data, mode)
    except Exception:  # it says that something went wrong
        raise ValueError("its code stream breaks off or contradicts itself") from None
    return image[..., 0] if mode == "mono" else image


def decode_stream(data: bytes, shape: tuple[int, int], bits: int) -> tuple[np.ndarray, int]:
    """Return the values [H, W] of a code stream inside DICOM, and their precision.

    JPEG (with losses or without, of up to 16 bits), JPEG-LS or JPEG 2000, as its first bytes say.

    Parameters
    ----------
    data : bytes
    shape : (int, int)
        Rows and columns, as the data set has them.
    bits : int
        Allocated to a pixel, as the data set says.

    Raises
    ------
    ValueError
        If the stream is damaged, or is another image than the data set describes.
    """
    import imagecodecs

    is_jpeg = data.startswith(b"\xff\xd8")
    stream = _jpeg_stream(data) if is_jpeg else _jpeg2000_stream(data)
    for found, good, said in (
        (f"{stream.width} x {stream.height} pixels", (stream.height, stream.width) == shape,
         f"says {shape[1]} x {shape[0]}"),
        (f"{stream.components} channels", stream.components == 1, "says 1"),
        (f"{stream.precision} bits", stream.precision <= bits, f"allocates {bits}"),
    ):  # fmt: skip
        if not good:
            raise ValueError(f"{found} where the data set {said}")
    if not is_jpeg:
        image = imagecodecs.jpeg2k_decode(data[stream.start :])
    elif stream.kind == JPEG_LS:
        image = imagecodecs.jpegls_decode(data)
    elif stream.precision == 8:
        image = _turbo(data, "mono")
    else:
        image = _whole(imagecodecs.jpeg8_decode, data, stream.end)
    if image.shape != shape:
        raise ValueError(f"an image of shape {image.shape}")
    return image, stream.precision


def _whole(decode: Callable[[bytes], np.ndarray], data: bytes, end: int) -> np.ndarray:
    """Return a JPEG's image, if its scan ends where the image does.

    libjpeg fills what is missing, skips what is too much, and gives a warning that imagecodecs does
    not pass on. But then bytes that follow are drawn in, or the last ones are not needed.
    """
    scan, mark, filler = data[:end].rstrip(b"\xff"), data[end:], bytes.fromhex("5a3c96a5") * 16
    image = decode(data)
    if not np.array_equal(image, decode(scan + filler + mark)):
        raise ValueError("its code stream breaks off")
    if np.array_equal(image, decode(scan[:-3].rstrip(b"\xff") + filler + mark)):
        raise ValueError("its code stream goes on after the image")
    return image
