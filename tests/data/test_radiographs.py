"""Reading radiographs: the same grey values as the reference decoders, the right way round."""

import pickle

import imagecodecs
import numpy as np
import pydicom
import pytest
from film_forge import saved, written
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from chexlib.data import data_home, open_radiograph, package_file, read_radiograph
from chexlib.data.radiographs import RadiographError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (60, 48), dtype=np.uint8)


def grey_of(data):
    return open_radiograph(data, name="film").pixels


def turns(image):
    """Return an image as each EXIF orientation asks for."""
    half = image[::-1, ::-1]
    return {
        1: image, 2: image[:, ::-1], 3: half, 4: image[::-1],
        5: image.T, 6: np.rot90(image, -1), 7: half.T, 8: np.rot90(image),
    }  # fmt: skip


def rg(name):
    return package_file("data_store", "data", f"RG1_{name}.dcm")


def chest(values, **attributes):
    """Return a DICOM file of a chest with these stored values, uint16 [H, W]."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.Modality, header.BodyPartExamined = "DX", "CHEST"
    header.PhotometricInterpretation = "MONOCHROME2"
    header.SamplesPerPixel, header.PixelRepresentation = 1, 0
    header.Rows, header.Columns = values.shape
    header.BitsAllocated = 16
    header.BitsStored = attributes.pop("BitsStored", 16)
    header.HighBit = header.BitsStored - 1
    header.PixelData = values.astype("<u2").tobytes()
    header["PixelData"].VR = "OW"
    for name, value in attributes.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    return header


RAMP = np.linspace(0, 60_000, 64 * 50).reshape(64, 50).astype(np.uint16)


class TestPicturesOfNoise:
    def test_grey_with_an_opaque_alpha(self):
        np.testing.assert_array_equal(grey_of(saved(Image.fromarray(GREY).convert("LA"))), GREY)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_applied(self, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        smooth = np.add.outer(np.arange(60), 2 * np.arange(48)).astype(np.uint8)
        data = saved(Image.fromarray(smooth), "JPEG", quality=100, exif=exif)
        turned = turns(smooth)[orientation]
        found = grey_of(data)
        assert found.shape == turned.shape
        assert np.abs(found.astype(int) - turned).max() <= 3

    def test_the_result_is_complete_and_read_only(self, tmp_path):
        path = tmp_path / "no_suffix"
        path.write_bytes(saved(Image.fromarray(GREY)))
        film = open_radiograph(path)
        assert (film.format, film.view, film.spacing) == ("PNG", None, None)
        assert film.pixels.flags.c_contiguous
        assert not film.pixels.flags.writeable
        np.testing.assert_array_equal(read_radiograph(str(path)), GREY)


class TestDicom:
    def test_dense_is_bright_whichever_way_it_is_stored(self):
        bright = grey_of(written(chest(RAMP)))
        assert bright[0, 0] < 5 < 250 < bright[-1, -1]
        dark = grey_of(written(chest(RAMP, PhotometricInterpretation="MONOCHROME1")))
        assert np.abs(bright.astype(int) + dark - 255).max() <= 1
        shape = grey_of(written(chest(RAMP, PresentationLUTShape="INVERSE")))
        np.testing.assert_array_equal(shape, dark)

    def test_window_after_rescaling(self):
        header = chest(
            RAMP, RescaleSlope=0.5, RescaleIntercept=-1000, WindowCenter=9000, WindowWidth=4000
        )
        values = RAMP * 0.5 - 1000
        # DICOM PS3.3 C.11.2.1.2.1, the linear function.
        expected = np.clip((values - 8999.5) / 3999 + 0.5, 0, 1) * 255
        assert np.abs(grey_of(written(header)) - expected).max() <= 1

    def test_the_first_of_several_windows_counts(self):
        one = chest(RAMP, WindowCenter=20_000, WindowWidth=10_000)
        two = chest(RAMP, WindowCenter=[20_000, 5], WindowWidth=[10_000, 9])
        np.testing.assert_array_equal(grey_of(written(one)), grey_of(written(two)))

    def test_voi_table(self):
        table = Dataset()
        table.LUTDescriptor = [256, 0, 12]
        table.LUTData = (4095 - 16 * np.arange(256)).astype("<u2").tobytes()
        table["LUTData"].VR = "OW"
        values = RNG.integers(0, 100, (64, 50)).astype(np.uint16)
        found = grey_of(written(chest(values, VOILUTSequence=Sequence([table]))))
        expected = (4095.0 - 16 * values) / 4095 * 255
        assert np.abs(found - expected).max() <= 0.5

    def test_a_wide_window_leaves_a_film_as_flat_as_it_asks_for(self):
        found = grey_of(written(chest(RAMP // 4, WindowCenter=32_768, WindowWidth=65_536)))
        assert 50 < found.max() < 65

    def test_without_a_window_extremes_and_padding_do_not_flatten_it(self):
        values = np.clip(RAMP // 30, 200, 1900)
        values[0, :4] = 65_535
        values[:, -5:] = 0
        found = grey_of(written(chest(values, PixelPaddingValue=0)))
        inside = found[1:, :-5]
        assert np.percentile(inside, 99) > 240
        assert np.percentile(inside, 1) < 15

    @pytest.mark.parametrize(
        ("orientation", "turn"),
        [
            (["L", "F"], lambda film: film),
            (["R", "F"], lambda film: film[:, ::-1]),
            (["L", "H"], lambda film: film[::-1]),
            (["R", "H"], lambda film: film[::-1, ::-1]),
            (["F", "L"], lambda film: film.T),
            (["F", "R"], lambda film: film.T[:, ::-1]),
            (["H", "L"], lambda film: film.T[::-1]),
            (["H", "R"], lambda film: film.T[::-1, ::-1]),
            (["LF", "FR"], lambda film: film),
            (None, lambda film: film),
        ],
    )
    def test_the_patients_left_is_on_the_right(self, orientation, turn):
        values = RNG.integers(0, 60_000, (64, 50)).astype(np.uint16)
        plain = grey_of(written(chest(values)))
        header = chest(values)
        if orientation:
            header.PatientOrientation = orientation
        header.PixelSpacing = [0.2, 0.3]
        found = open_radiograph(written(header))
        np.testing.assert_array_equal(found.pixels, turn(plain))
        upright = turn(plain).shape == plain.shape
        assert found.spacing == ((0.2, 0.3) if upright else (0.3, 0.2))

    def test_spacing_and_view(self):
        film = open_radiograph(written(chest(RAMP, PixelSpacing=[0.2, 0.3], ViewPosition="PA")))
        assert (film.spacing, film.view, film.format) == ((0.2, 0.3), "PA", "DICOM")
        film = open_radiograph(
            written(chest(RAMP, PixelSpacing=[0, 0], ImagerPixelSpacing=[0.1, 0.1]))
        )
        assert (film.spacing, film.view) == ((0.1, 0.1), None)
        assert open_radiograph(written(chest(RAMP, PixelSpacing=[0, 0]))).spacing is None

    @pytest.mark.parametrize("syntax", ["JPEG lossless", "JPEG 2000", "RLE"])
    def test_lossless_compression_changes_nothing(self, syntax):
        values = (RAMP // 2).astype(np.uint16)
        header = chest(values, BitsStored=15, WindowCenter=15_000, WindowWidth=30_000)
        plain = grey_of(written(header))
        if syntax == "RLE":
            header.compress(RLELossless)
        else:
            encode = {
                "JPEG lossless": lambda: imagecodecs.ljpeg_encode(values, bitspersample=16),
                "JPEG 2000": lambda: imagecodecs.jpeg2k_encode(
                    values, level=0, reversible=True, codecformat="j2k"
                ),
            }[syntax]
            header.PixelData = encapsulate([encode()])
            header["PixelData"].VR = "OB"
            header.file_meta.TransferSyntaxUID = {
                "JPEG lossless": JPEGLosslessSV1,
                "JPEG 2000": JPEG2000Lossless,
            }[syntax]
        np.testing.assert_array_equal(grey_of(written(header)), plain)

    def test_the_real_film_is_the_right_way_up_and_round(self):
        film = read_radiograph(rg("UNCR"))
        assert film.shape == (1955, 1841)
        spine = film[800:1100, 870:970].mean()
        lungs = film[700:900, 370:460].mean(), film[700:900, 1200:1290].mean()
        assert max(lungs) + 50 < spine  # dense is bright
        assert film[1500:1700].mean() > film[500:900].mean() + 20  # the belly is below
        # The liver lifts the right half of the diaphragm, which is on the image's left.
        assert film[1100:1250, 280:640].mean() > film[1100:1250, 1200:1560].mean() + 5

    def test_the_real_film_in_its_compressed_forms(self):
        plain = read_radiograph(rg("UNCR"))
        np.testing.assert_array_equal(read_radiograph(rg("J2KR")), plain)  # reversible
        lossy = read_radiograph(rg("J2KI")).astype(int)
        assert np.abs(lossy - plain).mean() < 1

    def test_the_real_film_as_jpeg_lossless(self):
        header = pydicom.dcmread(rg("UNCR"))
        values = header.pixel_array
        header.PixelData = encapsulate([imagecodecs.ljpeg_encode(values, bitspersample=16)])
        header["PixelData"].VR = "OB"
        header.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        np.testing.assert_array_equal(grey_of(written(header)), read_radiograph(rg("UNCR")))


def test_an_error_survives_the_way_between_processes():
    error = RadiographError("a.png", "this", "that", "Do it.")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.name) == (RadiographError, str(error), "a.png")


@pytest.mark.real_data("nih_sample/images")
def test_all_sample_films_are_as_pillow_reads_them():
    films = sorted((data_home() / "nih_sample" / "images").glob("*.png"))
    assert len(films) >= 61
    for path in films:
        with Image.open(path) as image:
            expected = np.asarray(image.convert("L"))
        np.testing.assert_array_equal(read_radiograph(path), expected)
