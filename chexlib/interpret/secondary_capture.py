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
_STUDY = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "SpecificCharacterSet",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
)
# Type 2 in the standard: to be there, if only empty.
_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
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
        The film it was made from: patient and study are copied, the film is referred to. Without
        one the study is new and the patient empty.
    series_uid : str, optional
        For several pictures of one series.
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
    for keyword in _EMPTY:
        setattr(out, keyword, "")
    out.StudyInstanceUID = generate_uid()
    if source is not None:
        for keyword in _STUDY:
            if keyword in source:
                out[keyword] = source[keyword]
    out.SeriesInstanceUID = series_uid or generate_uid()
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
    if "SOPClassUID" in source and "SOPInstanceUID" in source:
        film = Dataset()
        film.ReferencedSOPClassUID = source.SOPClassUID
        film.ReferencedSOPInstanceUID = source.SOPInstanceUID
        out.SourceImageSequence = Sequence([film])
