"""Films that are damaged on purpose, from a seed, and a process with limits that reads them.

``python tests/data/film_forge.py 0 5000`` runs a campaign and prints what became of each kind.
"""

import io
import json
import random
import re
import resource
import select
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

SECONDS, BYTES = 10, 2**30
HEIGHT, WIDTH = 97, 86
DEEP = (
    np.add.outer(30 * np.arange(HEIGHT), 11 * np.arange(WIDTH))
    + np.random.default_rng(5).integers(0, 60, (HEIGHT, WIDTH))
).astype(np.uint16)  # 12 bits
FLAT = (DEEP >> 4).astype(np.uint8)
MAGIC = b"\x89PNG\r\n\x1a\n"

# What may become of a film: it must be read as it was; that, or refused; or anything but a fault.
SAME, SAFE, ANY = "same", "same or refused", "any"


class Case(NamedTuple):
    kind: str
    data: bytes
    expected: str
    original: str


def saved(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def chunks(data):
    """Return the chunks of a PNG as [kind, body]."""
    at, found = 8, []
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        found.append([data[at + 4 : at + 8], data[at + 8 : end - 4]])
        at = end
    return found


def dataset(values=DEEP, bits=12, **attributes):
    """Return a windowed chest film of these stored values."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.PatientName, header.PatientID = "Film^Forged", "1"
    header.Modality, header.BodyPartExamined, header.ViewPosition = "DX", "CHEST", "PA"
    header.PhotometricInterpretation, header.SamplesPerPixel = "MONOCHROME2", 1
    header.Rows, header.Columns = values.shape
    header.BitsAllocated = 8 * values.itemsize
    header.BitsStored, header.HighBit = bits, bits - 1
    header.PixelRepresentation = int(values.dtype.kind == "i")
    header.WindowWidth = 2**bits
    header.WindowCenter = 0 if header.PixelRepresentation else 2 ** (bits - 1)
    header.PixelSpacing = [0.2, 0.2]
    header.PixelData = values.tobytes()
    header["PixelData"].VR = "OW" if values.itemsize == 2 else "OB"
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return header


def packed(header, stream, syntax):
    header.PixelData = encapsulate([stream])
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    header.file_meta.TransferSyntaxUID = syntax
    return header


def written(header):
    out = io.BytesIO()
    dcmwrite(out, header, enforce_file_format=True)
    return out.getvalue()


def converted(syntax):
    header, out = dataset(), io.BytesIO()
    header.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        header.PixelData = DEEP.byteswap().tobytes()
    little, implicit = syntax.is_little_endian, syntax.is_implicit_VR
    dcmwrite(out, header, little_endian=little, implicit_vr=implicit, enforce_file_format=True)
    return out.getvalue()


def interlaced():
    raw = b""
    for left, top, across, down in [
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]:  # fmt: skip
        raw += b"".join(b"\0" + row.tobytes() for row in FLAT[top::down, left::across])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 1))
    return MAGIC + header + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


@cache
def originals():
    """Return good films by name; every way of storing one that can be written here."""
    grey, palette = Image.fromarray(FLAT), Image.fromarray(FLAT // 4)
    palette.putpalette(np.repeat(np.arange(64) * 4, 3).astype(np.uint8).tobytes())
    signed = DEEP.astype(np.int16) - 2048
    films = {
        "png grey": saved(grey),
        "png 16": saved(Image.fromarray(DEEP << 4)),
        "png rgb": saved(grey.convert("RGB")),
        "png rgba": saved(grey.convert("RGBA")),
        "png palette": saved(palette),
        "png 1 bit": saved(grey.convert("1")),
        "png interlaced": interlaced(),
        "jpeg grey": saved(grey, "JPEG", quality=90),
        "jpeg progressive": saved(grey, "JPEG", quality=90, progressive=True),
        "jpeg restarts": saved(grey, "JPEG", quality=90, restart_marker_rows=1),
        "jpeg rgb": saved(grey.convert("RGB"), "JPEG", quality=90),
        "dicom plain": written(dataset()),
        "dicom signed": written(dataset(signed)),
        "dicom 8": written(dataset(FLAT, 8)),
        "dicom implicit": converted(ImplicitVRLittleEndian),
        "dicom big": converted(ExplicitVRBigEndian),
        "dicom deflated": converted(DeflatedExplicitVRLittleEndian),
    }
    rle = dataset()
    rle.compress(RLELossless, encoding_plugin="pydicom")
    films["dicom rle"] = written(rle)
    lossless = {"lossless": True, "bitspersample": 12}
    raw = (signed.view(np.uint16) & 4095).astype(np.uint16)
    j2k = {"level": 0, "reversible": True, "codecformat": "j2k"}
    for name, stream, syntax, header in [
        ("baseline", imagecodecs.jpeg8_encode(FLAT, level=90), JPEGBaseline8Bit, dataset(FLAT, 8)),
        ("12", imagecodecs.jpeg8_encode(DEEP, level=95, bitspersample=12), JPEGExtended12Bit, None),
        ("ljpeg", imagecodecs.ljpeg_encode(DEEP, bitspersample=16), JPEGLosslessSV1, None),
        ("j2k", imagecodecs.jpeg2k_encode(DEEP, **j2k), JPEG2000Lossless, None),
        ("j2k lossy", imagecodecs.jpeg2k_encode(DEEP, level=60, codecformat="j2k"), JPEG2000, None),
        ("j2k signed", imagecodecs.jpeg2k_encode(signed, **j2k), JPEG2000Lossless, dataset(signed)),
        ("jls", imagecodecs.jpegls_encode(DEEP), JPEGLSLossless, None),
        ("jls near", imagecodecs.jpegls_encode(DEEP, level=2), JPEGLSNearLossless, None),
        ("jls signed", imagecodecs.jpegls_encode(raw), JPEGLSLossless, dataset(signed)),
        *(
            (f"lossless {k}", imagecodecs.jpeg8_encode(DEEP, predictor=k, **lossless), syntax, None)
            for k, syntax in [(1, JPEGLosslessSV1), *((k, JPEGLossless) for k in range(2, 8))]
        ),
        ("lossless signed", imagecodecs.jpeg8_encode(raw, **lossless), JPEGLossless,
         dataset(signed)),
    ]:  # fmt: skip
        films[f"dicom {name}"] = written(packed(header or dataset(), stream, syntax))
    return films


def flipped(rng, data, low=0):
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        out[rng.randrange(low, len(out))] = rng.randrange(256)
    return bytes(out)


def shortened(rng, data):
    return data[: rng.randrange(len(data))]


def spliced(rng, data):
    """Lose some bytes, or gain some."""
    at, size = rng.randrange(len(data)), rng.randint(1, 40)
    return data[:at] + (
        data[at + size :] if rng.random() < 0.5 else rng.randbytes(size) + data[at:]
    )


def in_stream(change):
    """Return a mutation of a code stream alone: of the file, or of what DICOM carries."""

    def mutate(rng, data):
        if data[128:132] != b"DICM":
            return change(rng, data)
        header = dcmread(io.BytesIO(data))
        (frame,) = generate_frames(header.PixelData, number_of_frames=1)
        return written(packed(header, change(rng, frame), header.file_meta.TransferSyntaxUID))

    return mutate


def closed(rng, stream):
    """Cut a code stream short, and end it with the mark that says it is whole."""
    return stream[: rng.randrange(len(stream) // 3, len(stream) - 8)] + b"\xff\xd9"


def resized(rng, stream):
    """Declare another size, number of channels or precision."""
    part, number = rng.choice("hwcp"), rng.choice([0, 1, 3, 60, 255, 4000, 65535])
    out = bytearray(stream)
    if stream[:4] == b"\xff\x4f\xff\x51":
        at, size = {"w": (8, 4), "h": (12, 4), "c": (40, 2), "p": (42, 1)}[part]
    else:
        start = re.search(rb"\xff[\xc0-\xc3\xf7]\0[\x0b\x11]", stream).start()
        at, size = {"p": (4, 1), "h": (5, 2), "w": (7, 2), "c": (9, 1)}[part]
        at += start
    number &= (1 << 8 * size) - 1
    if part == "p" and stream[:2] == b"\xff\xd8":
        number = rng.choice([3, 20, 0, 255])
    elif part == "p":
        number = rng.choice([25, 37])
    if int.from_bytes(out[at : at + size], "big") == number:
        number += 200 if size > 1 else 1
    out[at : at + size] = number.to_bytes(size, "big")
    return bytes(out)


def header_of_stream(rng, stream):
    out = bytearray(stream)
    for _ in range(rng.randint(1, 3)):
        out[rng.randrange(min(len(out), 200))] = rng.choice([0, 1, 127, 128, 254, 255])
    return bytes(out)


def without_restart(rng, stream):
    """Lose what lies between two restart marks."""
    marks = [k for k in range(len(stream) - 1) if stream[k] == 255 and 0xD0 <= stream[k + 1] < 0xD8]
    k = rng.randrange(len(marks) - 1)
    return stream[: marks[k]] + stream[marks[k + 1] :]


def in_chunks(rng, data):
    """Alter what a PNG's chunk says, or where it stands, with a checksum that is right again."""
    parts = chunks(data)
    part = rng.choice(parts)
    way = rng.randrange(5)
    if way == 0 and part[1]:
        part[1] = flipped(rng, part[1])
    elif way == 1 and part[1]:
        part[1] = shortened(rng, part[1])
    elif way == 2:
        parts.remove(part)
    elif way == 3:
        parts.insert(rng.randrange(len(parts)), part)
    else:
        rng.shuffle(parts)
    return MAGIC + b"".join(chunk(*part) for part in parts)


def wrong_sum(rng, data):
    """Give the pixels another Adler-32."""
    parts = chunks(data)
    for part in parts:
        if part[0] == b"IDAT":
            part[1] = part[1][:-4] + bytes(b ^ rng.randint(1, 255) for b in part[1][-4:])
    return MAGIC + b"".join(chunk(*part) for part in parts)


VALUES = [
    b"", b"1 ", b"-1", b"0 ", b"nan ", b"inf ", b"1e400 ", b"1\\2\\3 ", b"abc", b"L\\F ", b"\\",
    b" " * 6, b"\xff" * 8, b"\0" * 4, b"1\\" * 3000, b"\x05\0", b"\x01\0\x02\0",
    b"\xfe\xff\0\xe0\0\0\0\0",
]  # fmt: skip
VRS = [b"DS", b"US", b"SS", b"IS", b"CS", b"LO", b"FL", b"FD", b"AT", b"UN", b"OW", b"SQ", b"ZZ"]
# With a window in the file, none of these changes what is shown.
IDLE = ["PixelSpacing", "ImagerPixelSpacing", "PixelPaddingValue", "PatientName", "StudyDate"]
LIVE = [
    "WindowCenter", "WindowWidth", "VOILUTSequence", "VOILUTFunction", "ModalityLUTSequence",
    "RescaleSlope", "RescaleIntercept", "PatientOrientation", "PresentationLUTShape", "Modality",
    "NumberOfFrames", "BodyPartExamined", "ViewPosition", "SamplesPerPixel", "Rows", "Columns",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SpecificCharacterSet", "LUTDescriptor", "LUTData",
]  # fmt: skip


def element(keyword, kind, value):
    """Return an element in explicit little endian, whatever it says."""
    tag = Tag(keyword)
    start = struct.pack("<HH", tag.group, tag.element) + kind
    if kind in (b"OW", b"SQ", b"UN", b"OB"):
        return start + struct.pack("<HI", 0, len(value)) + value
    return start + struct.pack("<H", len(value)) + value


def with_element(keyword, kind, value, **attributes):
    """Return a film with an element that pydicom would not write."""
    header = dataset(**attributes)
    if keyword in header:
        delattr(header, keyword)
    data = written(header)
    at = data.rindex(b"\xe0\x7f\x10\0OW")
    return data[:at] + element(keyword, kind, value) + data[at:]


def tagged(keywords):
    def mutate(rng, _):
        value = rng.choice(VALUES) if rng.random() < 0.7 else rng.randbytes(rng.randint(1, 40))
        return with_element(rng.choice(keywords), rng.choice(VRS), value)

    return mutate


def in_table(rng, _):
    """Give a film a table that is incomplete or contradicts itself."""
    item = b"".join(
        element(keyword, rng.choice(VRS[1:3] + VRS[-4:-2]), rng.choice(VALUES) + rng.randbytes(k))
        for keyword, k in [("LUTDescriptor", rng.choice([0, 2, 6])), ("LUTData", 8)]
        if rng.random() < 0.7
    )
    body = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(item)) + item
    keyword = rng.choice(["VOILUTSequence", "ModalityLUTSequence"])
    return with_element(keyword, b"SQ", body if rng.random() < 0.9 else b"")


# kind: (mutation, what may become of the film, which originals)
WAYS = {
    "unharmed": (lambda rng, data: data, SAME, ""),
    "png flipped": (flipped, SAFE, "png"),
    "png cut": (shortened, SAFE, "png"),
    "png spliced": (spliced, SAFE, "png"),
    "png chunks": (in_chunks, ANY, "png"),
    "png sum": (wrong_sum, SAFE, "png"),
    "jpeg flipped": (flipped, ANY, "jpeg"),
    "jpeg cut": (shortened, SAFE, "jpeg"),
    "jpeg closed": (closed, SAFE, "jpeg"),
    "jpeg spliced": (spliced, ANY, "jpeg"),
    "jpeg resized": (resized, SAFE, "jpeg"),
    "jpeg header": (header_of_stream, ANY, "jpeg"),
    "jpeg without a part": (without_restart, SAFE, "jpeg restarts"),
    "dicom flipped": (flipped, ANY, "dicom"),
    "dicom header flipped": (lambda rng, data: flipped(rng, data[:900]) + data[900:], ANY, "dicom"),
    "dicom cut": (shortened, SAFE, "dicom"),
    "dicom spliced": (spliced, ANY, "dicom"),
    "dicom idle tag": (tagged(IDLE), SAME, "dicom plain"),
    "dicom live tag": (tagged(LIVE), ANY, "dicom plain"),
    "dicom table": (in_table, ANY, "dicom plain"),
    "stream flipped": (in_stream(flipped), ANY, "compressed"),
    "stream closed": (in_stream(closed), SAFE, "compressed"),
    "stream spliced": (in_stream(spliced), ANY, "compressed"),
    "stream resized": (in_stream(resized), SAFE, "compressed"),
    "stream header": (in_stream(header_of_stream), ANY, "compressed"),
}
UNPACKED = ("plain", "signed", "8", "implicit", "big", "deflated", "rle")


def family(which):
    if which == "compressed":
        plain = {f"dicom {name}" for name in UNPACKED}
        return [n for n in originals() if n.startswith("dicom") and n not in plain]
    return [name for name in originals() if name.startswith(which)]


def forge(seed):
    """Return one film; every 25 seeds every kind is met once."""
    kind = list(WAYS)[seed % len(WAYS)]
    mutate, expected, which = WAYS[kind]
    rng = random.Random(seed)
    names = family(which)
    original = names[seed // len(WAYS) % len(names)]
    return Case(kind, mutate(rng, originals()[original]), expected, original)


def verdict(case, known):
    """Read a film, and say what became of it."""
    from chexlib.data.radiographs import RadiographError, open_radiograph

    started = time.process_time()  # other processes do not count
    try:
        pixels = open_radiograph(case.data, name="ward/film").pixels
    except RadiographError as error:
        message, seconds = str(error), time.process_time() - started
        good = message.isprintable() and len(message) < 400 and message.endswith(".")
        good = good and message.startswith("ward/film: expected ") and case.expected != SAME
        return ("refused" if good else f"WRONG: {message!r}"), seconds
    seconds = time.process_time() - started
    if np.array_equal(pixels, known):
        return "right", seconds
    return ("changed" if case.expected == ANY else "WRONG: other pixels"), seconds


def peak_memory():
    """Return the most bytes this process has held; getrusage counts its parent's before it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def child(seeds):
    """Read films and print what became of each, under limits."""
    from chexlib.data import open_radiograph

    known = {name: open_radiograph(data, name=name).pixels for name, data in originals().items()}
    base = peak_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + 2 * BYTES, mapped + 2 * BYTES))
    for seed in seeds:
        print(json.dumps([seed]), flush=True)
        case = forge(seed)
        result, seconds = verdict(case, known[case.original])
        peak = peak_memory() - base
        if seconds > SECONDS or peak > BYTES:
            result = f"WRONG: {seconds:.1f} s, {peak >> 20} MB"
        print(json.dumps([seed, result]), flush=True)
        if peak > BYTES // 2:
            sys.exit()  # the next film is measured afresh


def campaign(seeds):
    """Read films in a process of their own; yield (seed, kind, what became of it)."""
    left = list(seeds)
    while left:
        run = subprocess.Popen(
            [sys.executable, __file__, "child", json.dumps(left)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        current, buffer, patience = left[0], b"", 60  # it makes the good films first
        while True:
            ready = select.select([run.stdout], [], [], patience)[0]
            part = ready and run.stdout.read1()
            if not part:
                break
            patience = 3 * SECONDS
            *lines, buffer = (buffer + part).split(b"\n")
            for line in lines:
                current, *result = json.loads(line)
                if result:
                    yield current, forge(current).kind, result[0]
                    left.remove(current)
        run.kill()
        if run.wait() and patience == 60:
            raise RuntimeError(run.stderr.read().decode(errors="replace"))
        if current in left:
            reason = run.stderr.read().decode(errors="replace")[-500:]
            yield current, forge(current).kind, f"WRONG: ended with {run.returncode} {reason}"
            left.remove(current)
        run.stdout.close()
        run.stderr.close()


def main(first, last):
    table = {}
    for seed, kind, result in campaign(range(first, last)):
        table.setdefault(kind, Counter())[result.partition(":")[0]] += 1
        if result.startswith("WRONG"):
            print(seed, kind, forge(seed).original, result[:300], flush=True)
    for kind in WAYS:
        print(f"{kind:24}", dict(table.get(kind, {})))
    print("all", dict(sum(table.values(), Counter())))


if __name__ == "__main__":
    if sys.argv[1] == "child":
        child(json.loads(sys.argv[2]))
    else:
        main(int(sys.argv[1]), int(sys.argv[2]))
