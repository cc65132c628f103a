"""Bad inputs of every kind: each gives one error that says which file, why, and what to do."""

import contextlib
import gzip
import io
import os
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from film_forge import chunk, saved, written
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import JPEG2000Lossless
from test_radiographs import RAMP, chest

from chexlib.data import open_radiograph, package_file, read_radiograph
from chexlib.data.radiographs import RadiographError

FILM = Image.fromarray(np.add.outer(np.arange(64), 2 * np.arange(60)).astype(np.uint8))
PNG, JPEG, DICOM = saved(FILM), saved(FILM, "JPEG"), written(chest(RAMP))


def png(width, height, *, body=b"", depth=8, colour=0):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    magic = b"\x89PNG\r\n\x1a\n"
    return magic + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg_of_size(width, height):
    """Return a JPEG whose header declares another size than its data has."""
    start = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:start] + struct.pack(">HH", height, width) + JPEG[start + 4 :]


def picture(mode, colour, size=(60, 64), kind="PNG"):
    return saved(Image.new(mode, size, colour), kind)


def animation():
    frames = [Image.new("L", (60, 64), k) for k in (0, 99)]
    return saved(frames[0], save_all=True, append_images=frames[1:])


def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("film.png", PNG)
    return out.getvalue()


def dicom(**attributes):
    return written(chest(RAMP, **attributes))


def without_pixels():
    header = chest(RAMP)
    del header.PixelData
    return written(header)


def encapsulated():
    header = chest(RAMP)
    del header.PixelData
    header.EncapsulatedDocument = b"%PDF-1.4"
    return written(header)


def undecodable():
    header = chest(RAMP)
    header.PixelData = pydicom.encaps.encapsulate([b"no code stream at all" * 5])
    header["PixelData"].VR = "OB"
    header.file_meta.TransferSyntaxUID = JPEG2000Lossless
    return written(header)


def coloured_dicom():
    header = chest(RAMP, PhotometricInterpretation="RGB", SamplesPerPixel=3, BitsAllocated=8)
    header.BitsStored, header.HighBit, header.PlanarConfiguration = 8, 7, 0
    header.PixelData = bytes(RAMP.size * 3)
    return written(header)


# name: (content, what the message must say it found)
CONTENTS = {
    "zero bytes": (b"", "an empty file"),
    "one byte": (b"\x89", "89"),
    "text renamed to PNG": (b"just some text\n", "text that begins"),
    "a table": (b"path,label\na.png,1\n", "text that begins"),
    "a web page": (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "zip": (zipped(), "a zip archive"),
    "gzip": (gzip.compress(PNG, mtime=0), "a gzip archive"),
    "PDF": (b"%PDF-1.7\n", "a PDF"),
    "GIF": (saved(FILM, "GIF"), "a GIF"),
    "BMP": (saved(FILM, "BMP"), "a BMP"),
    "TIFF": (saved(FILM, "TIFF"), "a TIFF"),
    "WebP": (saved(FILM, "WEBP"), "RIFF"),
    "bare JPEG 2000": (saved(FILM, "JPEG2000"), "a bare JPEG 2000"),
    "NumPy": (b"\x93NUMPY\x01\x00" + bytes(100), "a NumPy array"),
    "noise": (bytes(range(128, 256)) * 9, "a file that begins 80 81"),
    "wrong magic": (b"\x89PNG\n\r" + PNG[6:], "a file that begins"),
    "zeros": (bytes(4096), "a file that begins 00"),
    "PNG of its magic alone": (PNG[:8], "a damaged one"),
    "PNG without data": (PNG[:33], "a damaged one"),
    "PNG cut in its data": (PNG[: len(PNG) // 2], "a damaged one"),
    "PNG with a flipped header": (PNG[:17] + b"\x7f" + PNG[18:], "checksum is wrong"),
    "PNG with flipped data": (PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], "a damaged one"),
    "PNG with empty data": (png(64, 64), "a damaged one"),
    "PNG with too little data": (png(64, 64, body=zlib.compress(bytes(65 * 9))), "a damaged one"),
    "PNG of 0 x 0": (png(0, 0), "0 x 0 pixels"),
    "PNG of a strange depth": (png(64, 64, depth=7), "a damaged one"),
    "PNG of a strange colour type": (png(64, 64, colour=5), "a damaged one"),
    "PNG bomb": (png(2**31 - 1, 2**31 - 1, body=b"x"), "2147483647 x 2147483647 pixels"),
    "PNG bomb that is compressed well": (
        png(20_000, 20_000, body=zlib.compress(bytes(1000))),
        "20000 x 20000 pixels",
    ),
    "tiny": (picture("L", 7, (16, 16)), "16 x 16 pixels"),
    "a strip": (picture("L", 7, (600, 40)), "600 x 40 pixels"),
    "an animation": (animation(), "an animation"),
    "a photograph": (picture("RGB", (200, 30, 60)), "a coloured one (100.0% of pixels)"),
    "a coloured palette": (saved(Image.new("RGB", (60, 64), "red").quantize(4)), "a coloured one"),
    "transparent": (picture("RGBA", (9, 9, 9, 100)), "transparent"),
    "transparent grey": (picture("LA", (9, 100)), "transparent"),
    "JPEG of its magic alone": (JPEG[:3], "a damaged one"),
    "JPEG cut in its header": (JPEG[:100], "a damaged one"),
    "JPEG cut in its data": (JPEG[: len(JPEG) - 200], "a damaged one"),
    "JPEG bomb": (jpeg_of_size(65_000, 65_000), "65000 x 65000 pixels"),
    "JPEG of 0 columns": (jpeg_of_size(0, 64), "0"),
    "JPEG in colour": (picture("RGB", (0, 200, 0), kind="JPEG"), "a coloured one"),
    "JPEG in CMYK colour": (picture("CMYK", (0, 200, 0, 0), kind="JPEG"), "4 channels"),
    "DICOM of its magic alone": (bytes(128) + b"DICM", "without pixel data"),
    "DICOM cut in its header": (DICOM[:200], "without pixel data"),
    "DICOM cut in its pixels": (DICOM[:-3000], "one that cannot"),
    "DICOM without pixels": (without_pixels(), "without pixel data"),
    "DICOM with a report": (encapsulated(), "an encapsulated document"),
    "DICOM that cannot be decoded": (undecodable(), "one that cannot"),
    "DICOM with a window of width 0": (
        dicom(WindowCenter=5, WindowWidth=0),
        "Window Width must be",
    ),
    "DICOM with half a window": (dicom(WindowWidth=9), "None"),
    "DICOM of a lateral film": (dicom(ViewPosition="LL"), "view position LL"),
    "DICOM lying sideways": (dicom(PatientOrientation=["A", "F"]), "a lateral one"),
    "DICOM of a strange orientation": (dicom(PatientOrientation=["X", "Y"]), "X\\Y"),
    "DICOM of a knee": (dicom(BodyPartExamined="KNEE"), "body part KNEE"),
    "DICOM of a CT": (dicom(Modality="CT"), "modality CT"),
    "DICOM in colour": (coloured_dicom(), "photometric interpretation RGB"),
    "DICOM bomb": (dicom(Rows=60_000, Columns=60_000), "60000 x 60000 pixels"),
    "DICOM of 0 rows": (dicom(Rows=0), "50 x 0 pixels"),
}


def raw_number(keyword, text):
    """Return a DICOM file with a number that pydicom would not write."""
    header = chest(RAMP, RescaleIntercept=0, RescaleSlope=1, WindowCenter=11111, WindowWidth=22222)
    data = written(header)
    number = {"WindowWidth": b"\x51", "RescaleSlope": b"\x53"}[keyword]
    start = data.index(b"\x28\0" + number + b"\x10DS") + 8
    (length,) = struct.unpack("<H", data[start - 2 : start])
    text = text.ljust(len(text) + len(text) % 2).encode()
    return data[: start - 2] + struct.pack("<H", len(text)) + text + data[start + length :]


def several_frames():
    header = chest(np.vstack([RAMP] * 3), NumberOfFrames=3)
    header.Rows = RAMP.shape[0]
    return written(header)


CONTENTS["DICOM with a NaN window"] = (raw_number("WindowWidth", "nan"), "nan")
CONTENTS["DICOM with an infinite slope"] = (raw_number("RescaleSlope", "inf"), "'inf'")
CONTENTS["DICOM of several frames"] = (several_frames(), "3 frames")


@contextlib.contextmanager
def as_nobody():
    """Ask for files as a user without rights; root may read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def refusal(source, name):
    with pytest.raises(RadiographError) as caught:
        open_radiograph(source, name=name)
    message = str(caught.value)
    assert message.startswith(f"{name}: expected ")
    assert ", found " in message
    assert message.endswith(".")
    assert message.count(". ") >= 1  # what to do is a sentence of its own
    assert "\n" not in message
    assert len(message) < 400
    return message.partition(", found ")[2]


@pytest.mark.parametrize("kind", CONTENTS)
def test_bad_content_is_refused(kind):
    content, found = CONTENTS[kind]
    assert found in refusal(content, "ward/film.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "DICOM"])
def test_truncated_anywhere(kind):
    whole = {"PNG": PNG, "JPEG": JPEG, "DICOM": DICOM}[kind]
    expected = open_radiograph(whole).pixels
    for length in sorted({*range(0, 400, 7), *range(0, len(whole), max(1, len(whole) // 60))}):
        try:
            pixels = open_radiograph(whole[:length], name="cut").pixels
        except RadiographError:
            continue
        # Only what carries no pixels may be missing: the end marks of a PNG or a JPEG.
        assert len(whole) - length <= 32
        np.testing.assert_array_equal(pixels, expected)


@given(st.sampled_from([PNG, JPEG, DICOM]), st.data())
def test_flipped_bytes_give_a_film_or_an_error(whole, data):
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = open_radiograph(bytes(damaged), name="flipped").pixels
    except RadiographError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2


# what stands at a path: (how it is made, what the message must say it found)
PATHS = {
    "nothing": (lambda path: None, "none. Check the path."),
    "a folder": (Path.mkdir, "a folder"),
    "a broken link": (
        lambda path: path.symlink_to(path.with_name("gone")),
        "a link that leads nowhere",
    ),
    "a link to itself": (lambda path: path.symlink_to(path), "a link that leads nowhere"),
    "a pipe": (os.mkfifo, "a device, pipe or socket"),
    "a huge file": (
        lambda path: (path.touch(), os.truncate(path, 600 * 2**20)),
        "629,145,600 bytes",
    ),
}


class TestPaths:
    @pytest.mark.parametrize("kind", PATHS)
    def test_what_is_no_film_is_named_and_not_read(self, tmp_path, kind):
        make, found = PATHS[kind]
        make(tmp_path / "film.png")
        assert refusal(tmp_path / "film.png", str(tmp_path / "film.png")).startswith(found)

    def test_an_empty_path(self):
        assert "an empty one" in refusal("", "''")

    def test_a_socket(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s")
            assert "a device, pipe or socket" in refusal("s", "s")

    def test_no_permission(self):
        with tempfile.TemporaryDirectory() as folder:  # `tmp_path` lies where nobody may look
            path = Path(folder) / "film.png"
            path.write_bytes(PNG)
            path.chmod(0)
            Path(folder).chmod(0o755)
            with as_nobody():
                found = refusal(path, str(path))
            assert found.startswith("a file that may not be read. Change its permissions.")

    def test_a_name_that_no_file_system_takes(self):
        assert "an error of the file system" in refusal("x" * 5000, "long")
        assert "an error of the file system" in refusal("a\0b", "null")

    def test_a_film_that_changes_its_name_is_read(self, tmp_path):
        path = tmp_path / "film.dcm"
        path.write_bytes(PNG)
        assert read_radiograph(path).shape == (64, 60)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to ask it")
@pytest.mark.parametrize("kind", ["PNG bomb", "PNG bomb that is compressed well", "JPEG bomb"])
def test_bombs_do_not_fill_memory(kind, tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(CONTENTS[kind][0])
    program = (
        "import sys\n"
        # Of the process itself: what getrusage tells begins with what the parent had.
        "held = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "from chexlib.data.radiographs import RadiographError, open_radiograph\n"
        "import PIL.Image, kornia_rs\n"
        "used = held()\n"
        "try:\n    open_radiograph(sys.argv[1])\nexcept RadiographError:\n    pass\n"
        "print(held() - used)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 50_000  # kB


def test_other_body_parts_in_real_files():
    assert "body part" in refusal(package_file("data_store", "data", "RG3_UNCR.dcm"), "RG3")
