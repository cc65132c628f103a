"""A picture as a DICOM Secondary Capture, filed with the study that it was made from.

DICOM PS3.3 A.8.1: Secondary Capture Image, of derived pixels. Patient and study are those of the
source; series and image are new. What a viewer shows first, the series description, says that it is
not for clinical use.
"""

from __future__ import annotations

import datetime
import io
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pydicom
    from numpy.typing import NDArray

__all__ = ["secondary_capture"]

NOTICE = "NOT FOR CLINICAL USE"
# What is copied of a film. The first nine the standard asks of every object (PS3.3 C.7.1.1 and
# C.7.2.1), and an archive files by them; the others say whose number the patient's is, and whether
# the names above are real. The referring physician, whom the standard asks for as well, stays
# empty, as it may: a third person's name that filing does not need. Nothing else is copied.
_COPIED = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "IssuerOfPatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
)


def secondary_capture(
    picture: NDArray[np.uint8],
    *,
    title: str,
    derivation: str,
    source: pydicom.Dataset | None = None,
    series_uid: str | None = None,
    number: int = 1,
) -> bytes:
    """Return a DICOM file of a picture.

    Parameters
    ----------
    picture : uint8 array [H, W, 3]
        Red, green, blue.
    title : str
        What it shows; the series description is this, shortened to fit, and "NOT FOR CLINICAL USE".
    derivation : str
        How it was made, at most 1,024 characters.
    source : pydicom.Dataset, optional
        The film it was made from, referred to by its UIDs. Of it are copied, as text, and nothing
        that is nested or of another type than the standard's: the study's UID, date, time, ID and
        accession number; the patient's name, ID with its issuer, birth date and sex; and whether
        and how identity was removed. Not copied are the referring physician and all else.
        Without a film, or where its study's UID is no UID, the study is new.
    series_uid : str, optional
        For several pictures of one series, and of one study.
    number : int
        Of the picture in the series.

    Returns
    -------
    bytes
        Explicit VR little endian, uncompressed.

    Raises
    ------
    ValueError
        If the picture is not uint8 [H, W, 3].
    """
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    picture = np.ascontiguousarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"Expected a picture as uint8 [H, W, 3], got {picture.dtype} {list(picture.shape)}."
        )
    now = datetime.datetime.now(datetime.UTC).astimezone()
    out = Dataset()
    out.file_meta = FileMetaDataset()
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    out.SOPClassUID = SecondaryCaptureImageStorage
    out.SOPInstanceUID = out.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    out.SpecificCharacterSet = "ISO_IR 192"
    out.ReferringPhysicianName = ""
    required = _COPIED[: _COPIED.index("IssuerOfPatientID")]
    for keyword in _COPIED:
        text = _text(source, keyword)
        if text or keyword in required:
            setattr(out, keyword, text)
    out.SeriesInstanceUID = series_uid or generate_uid()
    if not _is_uid(out.StudyInstanceUID):
        out.StudyInstanceUID = generate_uid(entropy_srcs=[out.SeriesInstanceUID])
    out.SeriesNumber, out.InstanceNumber = 9001, number
    out.Modality, out.ConversionType = "OT", "WSD"
    room = 64 - len(NOTICE) - 2
    out.SeriesDescription = f"{title[:room]}, {NOTICE}"
    out.ImageComments = f"{NOTICE}. {title}"
    out.Manufacturer, out.ManufacturerModelName = "chexlib", "chexlib"
    out.SoftwareVersions = version("chexlib")
    out.ContentDate, out.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    out.DateOfSecondaryCapture, out.TimeOfSecondaryCapture = out.ContentDate, out.ContentTime
    out.ImageType = ["DERIVED", "SECONDARY"]
    out.DerivationDescription = derivation[:1024]
    # Whether the film's own pixels name the patient is known from its header alone. Where that does
    # not say, "YES" sends the picture to those who check.
    burned = str(getattr(source, "BurnedInAnnotation", "") or "").upper()
    out.BurnedInAnnotation = burned if burned in ("YES", "NO") else "YES"
    out.LossyImageCompression = "00"
    if source is not None:
        _refer(out, source)
    # read_radiograph lays a film so, where its header says how it lies.
    known = source is not None and bool(getattr(source, "PatientOrientation", None))
    out.PatientOrientation = ["L", "F"] if known else ""
    out.SamplesPerPixel, out.PhotometricInterpretation, out.PlanarConfiguration = 3, "RGB", 0
    out.Rows, out.Columns = picture.shape[:2]
    out.BitsAllocated, out.BitsStored, out.HighBit, out.PixelRepresentation = 8, 8, 7, 0
    data = picture.tobytes()
    out.PixelData = data + b"\0" * (len(data) % 2)
    out["PixelData"].VR = "OB"
    file = io.BytesIO()
    pydicom.dcmwrite(file, out, enforce_file_format=True)
    return file.getvalue()


def _refer(out: pydicom.Dataset, source: pydicom.Dataset) -> None:
    """Name the film that the picture was made from, and repeat its lossy compression."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    if str(getattr(source, "LossyImageCompression", "")) == "01":
        out.LossyImageCompression = "01"  # once lossy, always lossy
    uids = _text(source, "SOPClassUID"), _text(source, "SOPInstanceUID")
    if all(map(_is_uid, uids)):
        film = Dataset()
        film.ReferencedSOPClassUID, film.ReferencedSOPInstanceUID = uids
        out.SourceImageSequence = Sequence([film])


def _text(source: pydicom.Dataset | None, keyword: str) -> str:
    """Return a value as text, empty where there is none or it is not of the dictionary's type."""
    from pydicom.datadict import dictionary_VR
    from pydicom.multival import MultiValue

    if source is None or keyword not in source or dictionary_VR(keyword) != source[keyword].VR:
        return ""
    value = source[keyword].value
    if isinstance(value, MultiValue):
        return "\\".join(map(str, value))
    return "" if value is None else str(value)


def _is_uid(text: str) -> bool:
    from pydicom.uid import UID

    return UID(text).is_valid
