"""Good films read as references read them; damaged ones read right or refused, within limits."""

import io
import struct
import subprocess
import sys
import zlib

import film_forge as forge
import imagecodecs
import numpy as np
import pytest
from film_forge import DEEP, FLAT, chunk, chunks, dataset, originals, saved, with_element, written
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, RLELossless
from test_radiographs import turns

from chexlib.data import open_radiograph
from chexlib.data.radiographs import Radiograph, RadiographError

COUNT = 600


def grey(data, name="ward/film"):
    return open_radiograph(data, name=name).pixels


def refused(data, name="ward/film"):
    with pytest.raises(RadiographError) as caught:
        open_radiograph(data, name=name)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400
    return message


def test_forged_films_are_read_right_or_refused_and_harm_nothing():
    results = list(forge.campaign(range(COUNT)))
    assert len(results) == COUNT
    assert not [result for result in results if result[2].startswith("WRONG")]
    for kind, (_, expected, _) in forge.WAYS.items():
        seen = {result for _, found, result in results if found == kind}
        assert seen == {"right"} if expected == forge.SAME else seen & {"refused", "right"}


@pytest.mark.parametrize("error", [None, ValueError, RadiographError])
def test_the_forge_knows_a_wrong_result(error, monkeypatch):
    def reads(data, *, name):
        if error:
            raise error(name, "two\nlines", "", "") if error is RadiographError else error
        return Radiograph(FLAT[::-1])

    monkeypatch.setattr("chexlib.data.radiographs.open_radiograph", reads)
    case = forge.forge(1)
    assert case.expected == forge.SAFE
    if error is ValueError:
        with pytest.raises(ValueError):
            forge.verdict(case, FLAT)
    else:
        assert forge.verdict(case, FLAT)[0].startswith("WRONG")


class TestGoodFiles:
    """Every way of storing the same film gives the same picture."""

    @pytest.mark.parametrize("name", sorted(originals()))
    def test_as_the_reference_reads_it(self, name):
        data = originals()[name]
        if name == "png 1 bit":
            expected = np.asarray(Image.fromarray(FLAT).convert("1")) * np.uint8(255)
        elif name == "png 16":
            expected = np.round((DEEP << 4) / 257)
        elif name == "png palette":
            expected = FLAT // 4 * 4
        elif name.startswith("png"):
            expected = FLAT
        elif name.startswith("jpeg"):
            expected = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        else:
            header = dcmread(io.BytesIO(data))
            low, high = -2048 * header.PixelRepresentation, 2**header.BitsStored - 1
            values = (FLAT if header.BitsStored == 8 else DEEP).astype(np.int32) + low
            if "near" in name or name in ("dicom 12", "dicom baseline", "dicom j2k lossy"):
                (frame,) = generate_frames(header.PixelData, number_of_frames=1)
                decode = {
                    "dicom jls near": imagecodecs.jpegls_decode,
                    "dicom 12": imagecodecs.jpeg8_decode,
                }.get(name, lambda frame: np.asarray(Image.open(io.BytesIO(frame))))
                values, exact = decode(frame), values
                assert np.abs(values.astype(int) - exact).max() < 300
            shown = apply_voi_lut(apply_modality_lut(values, header), header)
            expected = np.round((shown - low) / high * 255)
        np.testing.assert_array_equal(grey(data), expected)

    @pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize("slope", [2.5, -1.0])
    def test_windows(self, function, slope):
        header = dataset(RescaleSlope=slope, RescaleIntercept=100, VOILUTFunction=function)
        centre, width = 2000 * slope, 1500 * abs(slope)
        header.WindowCenter, header.WindowWidth = centre, width
        x = DEEP * slope + 100
        # DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3
        y = {
            "LINEAR": (x - centre + 0.5) / (width - 1) + 0.5,
            "LINEAR_EXACT": (x - centre) / width + 0.5,
            "SIGMOID": 1 / (1 + np.exp(-4 * (x - centre) / width)),
        }[function]
        expected = np.round(255 * np.clip(y, 0, 1))
        assert np.abs(grey(written(header)) - expected).max() <= 1
        assert (grey(written(header)) == expected).mean() > 0.99

    @pytest.mark.parametrize("bits", [8, 12, 16])
    @pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
    def test_tables(self, keyword, bits):
        table, header = Dataset(), dataset()
        table.LUTDescriptor = [3000, 200, bits]
        entries = np.random.default_rng(0).integers(0, 2**bits, 3000)
        table.LUTData, table.ModalityLUTType = entries.astype("<u2").tobytes(), "US"
        table["LUTData"].VR = "OW"
        del header.WindowCenter, header.WindowWidth
        setattr(header, keyword, Sequence([table]))
        shown = entries[np.clip(DEEP.astype(int) - 200, 0, 2999)]
        low, high = (0, 2**bits - 1) if "VOI" in keyword else np.percentile(shown, [0.5, 99.5])
        expected = np.round(255 * np.clip((shown - low) / (high - low), 0, 1))
        np.testing.assert_array_equal(grey(written(header)), expected)

    def test_bits_that_are_not_at_the_bottom(self):
        plain = grey(written(dataset()))
        for shift in (1, 4):
            header = dataset(DEEP << shift | 1)  # what lies below belongs to something else
            header.BitsStored, header.HighBit = 12, 11 + shift
            header.WindowCenter, header.WindowWidth = 2048, 4096
            np.testing.assert_array_equal(grey(written(header)), plain)
        header = dataset(DEEP | 0xF000)  # an overlay above
        header.WindowCenter = 2048
        np.testing.assert_array_equal(grey(written(header)), plain)

    @pytest.mark.parametrize("deep", [False, True])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation_of_a_png_of_any_depth(self, orientation, deep):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(DEEP << 4 if deep else FLAT)
        upright = grey(saved(image))
        np.testing.assert_array_equal(grey(saved(image, exif=exif)), turns(upright)[orientation])

    def test_a_comment_about_animations_is_no_animation(self):
        parts = chunks(originals()["png grey"])
        parts.insert(1, [b"tEXt", b"Comment\0made without acTL and tRNS"])
        data = forge.MAGIC + b"".join(chunk(*part) for part in parts)
        np.testing.assert_array_equal(grey(data), FLAT)


def stream_film(stream, syntax, **attributes):
    return written(forge.packed(dataset(**attributes), stream, syntax))


def raw_png(body, *, colour=0, before=()):
    header = struct.pack(">IIBBBBB", 86, 97, 8, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *before, (b"IDAT", body), (b"IEND", b"")]
    return forge.MAGIC + b"".join(chunk(*part) for part in parts)


def late_animation():
    frames = [Image.fromarray(FLAT), Image.fromarray(255 - FLAT)]
    parts = chunks(saved(frames[0], save_all=True, append_images=frames[1:]))
    at = next(k for k, part in enumerate(parts) if part[0] == b"acTL")
    parts.insert(at, [b"tEXt", b"Comment\0" + b"x" * 4000])
    return forge.MAGIC + b"".join(chunk(*part) for part in parts)


def coloured():
    image = np.dstack([FLAT, np.roll(FLAT, 9), 255 - FLAT])
    return imagecodecs.jpeg8_encode(image, level=95)


def lossless(values=DEEP):
    return imagecodecs.jpeg8_encode(values, lossless=True, predictor=1, bitspersample=12)


def rle_bomb():
    head = struct.pack("<16I", 2, 64, 10_000_064, *[0] * 13)
    return stream_film(head + b"\x81\0" * 10_000_000, RLELossless)


ROWS = np.add.outer(np.arange(97), np.zeros(86)).astype(np.uint8)
# name: (film, what the message must say it found)
REFUSED = {
    "a constant picture": (lambda: saved(Image.new("L", (86, 97), 7)), "grey value 7 in every"),
    "a slope of zero": (
        lambda: written(dataset(RescaleSlope=0, RescaleIntercept=0)),
        "in every pixel",
    ),
    "a palette PNG without palette": (
        lambda: raw_png(zlib.compress(bytes(87 * 97)), colour=3),
        "without a palette",
    ),
    "a palette that is too short": (
        lambda: raw_png(
            zlib.compress(b"".join(b"\0" + row.tobytes() for row in ROWS)),
            colour=3,
            before=[(b"PLTE", bytes(range(90)))],
        ),
        "of a palette of 30",
    ),
    "a PNG that unpacks to more": (
        lambda: raw_png(zlib.compress(bytes(2**24))),
        "a damaged one",
    ),
    "a late animation": (late_animation, "an animation"),
    "colour inside MONOCHROME2": (
        lambda: stream_film(coloured(), JPEGLosslessSV1),
        "3 channels where the data set says 1",
    ),
    "another image inside": (
        lambda: stream_film(lossless(DEEP[:-9]), JPEGLosslessSV1),
        "86 x 88 pixels where the data set says 86 x 97",
    ),
    "16 bits inside 8": (
        lambda: stream_film(lossless(), JPEGLosslessSV1, BitsAllocated=8, BitsStored=8, HighBit=7),
        "12 bits where the data set allocates 8",
    ),
    "8 bits inside 12": (
        lambda: stream_film(imagecodecs.jpeg2k_encode(FLAT, codecformat="j2k"), JPEG2000Lossless),
        "8 bits where the data set says 12",
    ),
    "more rows than it says": (lambda: written(dataset(Rows=90)), "bytes of pixels where"),
    "columns that shear it": (lambda: written(dataset(Columns=80)), "bytes of pixels where"),
    "an RLE bomb": (rle_bomb, "one that cannot"),
    "a window that is a sequence": (
        lambda: with_element("WindowWidth", b"SQ", b"\xfe\xff\0\xe0\0\0\0\0"),
        "expected a WindowWidth that is a number",
    ),
    "rows of an unknown kind": (lambda: with_element("Rows", b"ZZ", b"97"), "expected a Rows"),
    "a broken modality table": (
        lambda: with_element("ModalityLUTSequence", b"SQ", b"\xfe\xff\0\xe0\0\0\0\0"),
        "a usable look-up table",
    ),
    "a VOI table that contradicts itself": (
        lambda: with_element(
            "VOILUTSequence",
            b"SQ",
            b"\xfe\xff\0\xe0" + struct.pack("<I", 8 + 6 + 12 + 4)
            + forge.element("LUTDescriptor", b"US", struct.pack("<HHH", 9, 0, 12))
            + forge.element("LUTData", b"OW", b"abcd"),
        ),
        "one of 2 entries whose descriptor is [9.0, 0.0, 12.0]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_shown_wrong_is_refused(name):
    film, found = REFUSED[name]
    assert found in refused(film())


# What counts as absent: a viewer shows the film, and so do we, as if the attribute were not there.
IGNORED = {
    "a spacing of three bytes": ("PixelSpacing", b"FL", b"abc"),
    "a spacing of an unknown kind": ("PixelSpacing", b"ZZ", b"0.2\\0.2 "),
    "a spacing without end": ("PixelSpacing", b"UN", b"1\\" * 10_000_000),
    "an orientation of one integer": ("PatientOrientation", b"US", b"\x05\0"),
    "several padding values": ("PixelPaddingValue", b"US", b"\x01\0\x02\0"),
    "padding of odd bytes": ("PixelPaddingValue", b"US", b"abc"),
    "no VOI table": ("VOILUTSequence", b"SQ", b""),
    "a VOI table of nothing": ("VOILUTSequence", b"SQ", b"\xfe\xff\0\xe0\0\0\0\0"),
    "a VOI table without bytes": (
        "VOILUTSequence",
        b"SQ",
        b"\xfe\xff\0\xe0\x0e\0\0\0" + forge.element("LUTDescriptor", b"US", b"\x09\0\0\0\x0c\0"),
    ),
    "a modality of an unknown kind": ("Modality", b"QQ", b"DX"),
    "a private element of an unknown kind": (0x00091001, b"QQ", b"12"),
    "an empty slope": ("RescaleSlope", b"DS", b""),
}


@pytest.mark.parametrize("windowed", [True, False])
@pytest.mark.parametrize("name", IGNORED)
def test_what_only_adds_to_a_film_counts_as_absent(name, windowed):
    plain, data = dataset(), with_element(*IGNORED[name])
    if not windowed:
        del plain.WindowCenter, plain.WindowWidth
        for mark in (b"\x28\0\x50\x10DS", b"\x28\0\x51\x10DS"):
            data = data.replace(mark, b"\x29\0" + mark[2:])
    np.testing.assert_array_equal(grey(data), grey(written(plain)))


def test_names_do_not_break_the_message():
    name = "ward\n\x1b[31m/\udcff" + "x" * 500 + "/film.png"
    with pytest.raises(RadiographError) as caught:
        open_radiograph(b"no film", name=name)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400
    assert "xx/film.png: expected a PNG, a JPEG or a DICOM file, found text that begins" in message
    assert caught.value.name == name
    assert "\\n\\x1b[31m/\\udcff: expected" in refused(b"no film", name="ward\n\x1b[31m/\udcff")


@pytest.mark.parametrize("error", [MemoryError, RecursionError, IndexError, BaseException])
def test_whatever_a_reader_raises_is_that_films_error(error, monkeypatch):
    def fails(*_):
        raise error("line one\nline two")

    monkeypatch.setattr("chexlib.data.radiographs.decode_picture", fails)
    assert f"({error.__name__}: line one line two)" in refused(originals()["png grey"])


def test_an_interrupt_is_not_a_films_error(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("chexlib.data.radiographs.decode_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_radiograph(originals()["png grey"])


def with_many(part, count):
    data = originals()["dicom plain"]
    at = data.rindex(b"\xe0\x7f\x10\0OW")
    return data[:at] + part[0] + part[1] * count + data[at:]


def deflated(megabytes):
    head, packer = originals()["dicom deflated"], zlib.compressobj(1, zlib.DEFLATED, -15)
    start = 144 + int.from_bytes(head[140:144], "little")
    parts = [packer.compress(bytes(2**20)) for _ in range(megabytes)]
    return b"".join([head[:start], *parts, packer.flush()])


def largest():
    """Return stored values of a film just below the largest that is read."""
    side = int(40_000_000**0.5)
    rows = np.arange(side, dtype=np.uint16) % 3000
    return np.add.outer(rows, rows // 4) + np.resize(DEEP // 64, (side, side))


ITEM = b"\xfe\xff\0\xe0\0\0\0\0"
# name: (film, whether it is read); PNG and JPEG 2000 of this size were measured by hand
COSTLY = {
    "600 MB deflated to 3 MB": (lambda: deflated(600), False),
    "zeros for ever, deflated": (lambda: deflated(150), False),
    "zeros after DICM": (lambda: bytes(128) + b"DICM" + bytes(100 * 2**20), False),
    "a million elements": (lambda: with_many((b"", b"\x28\0\x99\x99DS\0\0"), 10**6), False),
    "a million items": (
        lambda: with_many((b"\x28\0\x10\x30SQ\0\0\xff\xff\xff\xff", ITEM), 10**6),
        False,
    ),
    "ten million chunks": (
        lambda: originals()["png grey"][:33] + chunk(b"IDAT", b"") * 10**7,
        False,
    ),
    "thirty million segments": (lambda: b"\xff\xd8" + b"\xff\xe5\0\x02" * 30_000_000, False),
    "a large film": (lambda: written(dataset(largest())), True),
    "a large film, lossless": (lambda: stream_film_of(largest()), True),
    "a large PNG of 16 bits": (
        lambda: saved(Image.fromarray(largest() << 4), compress_level=1),
        True,
    ),
}


def stream_film_of(values):
    return written(forge.packed(dataset(values), lossless(values), JPEGLosslessSV1))


@pytest.mark.parametrize("name", COSTLY)
def test_no_film_takes_more_than_ten_seconds_and_a_gigabyte(name, tmp_path):
    film, read = COSTLY[name]
    path = tmp_path / "film"
    path.write_bytes(film())
    program = (
        "import sys, time, film_forge\n"
        "from chexlib.data.radiographs import RadiographError, open_radiograph\n"
        "for good in ('png 16', 'dicom lossless 1'):\n"
        "    open_radiograph(film_forge.originals()[good])\n"
        "base, start = film_forge.peak_memory(), time.process_time()\n"
        "try:\n    open_radiograph(sys.argv[1])\n    print('read')\n"
        "except RadiographError:\n    print('refused')\n"
        "print(time.process_time() - start, film_forge.peak_memory() - base)\n"
    )
    folder = forge.__file__.rpartition("/")[0]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r})\n{program}", path],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    result, seconds, size = run.stdout.split()
    assert result == ("read" if read else "refused")
    assert float(seconds) < forge.SECONDS
    assert int(size) < forge.BYTES
