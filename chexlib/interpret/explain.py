"""One film, explained: probabilities, maps, boxes; and the picture as a DICOM Secondary Capture.

DICOM PS3.3 A.8.1: Secondary Capture Image, of derived pixels. Patient and study are those of the
source; series and image are new. What a viewer shows first, the series description, says that it is
not for clinical use.
"""

from __future__ import annotations

import datetime
import io
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from chexlib.inference import Preparation
from chexlib.interpret.attribution import attribute
from chexlib.interpret.cam import maps_and_logits, rows_of
from chexlib.interpret.heatmap import heat_boxes
from chexlib.models.chexnet import CheXNet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pydicom
    from numpy.typing import NDArray

    from chexlib.interpret.heatmap import HeatMap

_BOX_SIDE = 512  # boxes are drawn on a map of this size: a film of 9 megapixels has no finer ones
NOTICE = "NOT FOR CLINICAL USE"
# What is copied of a film. The first nine the standard asks of every object (PS3.3 C.7.1.1 and
# C.7.2.1), and an archive files by them; the others say whose number the patient's is, and whether
# the names above are real. The referring physician, whom the standard asks for as well, stays
# empty, as it may: a third person's name that filing does not need. Nothing else is copied.
_STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber")
_REQUIRED = (*_STUDY, "PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_COPIED = (*_REQUIRED, "IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod")


@dataclass(frozen=True)
class Explanation:
    """What a network makes of a film, and where.

    Attributes
    ----------
    findings : tuple of str
        F of them.
    probabilities, logits : dict of str to float
        Of all findings of the network, as ``chexlib predict`` gives them; see
        :mod:`chexlib.inference` for what the logit of ten crops is.
    map_logits : dict of str to float
        Of all findings: the network's logits of what the maps are of, the whole film in one
        view. Other ones than ``logits`` only where those are of ten crops.
    maps : HeatMap
        Of arrays [F, h, w], as the method gives them, of the whole film in one view.
    heat : float32 array [F, H, W]
        At the size of the film.
    boxes : dict of str to float64 array [K, 4]
        x, y, width, height in pixels of the film, the hottest first; of what speaks for the
        finding, so that there is none where nothing does.
    peaks : dict of str to (float, float)
        x and y of the hottest place, in pixels of the film.
    method, cut : str or int
    preparation : Preparation
        How the film came to the network.
    """

    findings: tuple[str, ...]
    probabilities: dict[str, float]
    logits: dict[str, float]
    map_logits: dict[str, float]
    maps: HeatMap
    heat: NDArray[np.float32]
    boxes: dict[str, NDArray[np.float64]]
    peaks: dict[str, tuple[float, float]]
    method: str
    cut: str | int
    preparation: Preparation


def explain_film(
    model: CheXNet,
    pixels: NDArray[np.uint8],
    findings: str | Sequence[str] | int = 3,
    *,
    method: str = "cam",
    size: int | None = None,
    cut: str | int = 180,
    **options: object,
) -> Explanation:
    """Explain a film of any size.

    The film is brought to the network as in its training, and the map is enlarged to the film.

    Parameters
    ----------
    model : CheXNet
    pixels : uint8 array [H, W]
        As :func:`chexlib.data.read_radiograph` gives them.
    findings : str, sequence of str, or int
        Which; or so many that the network finds most probable, all where it has fewer.
    method, **options
        As for :func:`chexlib.interpret.attribute`.
    size : int, optional
        Pixels a side for the network, as for :meth:`chexlib.inference.Preparation.of`. By default
        those it was trained on, as far as its checkpoint says, or 224.
    cut : {"wang", 60, 180, "otsu"} or int
        As for :func:`chexlib.interpret.heat_boxes`, of the map without its negative values. A box
        is drawn around what is hottest, however small the probability is.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError
        If the film is not uint8 [H, W], the network no CheXNet, or an option does not fit.
    """
    if not isinstance(model, CheXNet):
        raise ValueError(
            f"Expected a CheXNet, got {type(model).__name__}. load_checkpoint makes one of the "
            "weights that people have; for maps of any network: class_activation_maps."
        )
    preparation = Preparation.of(model, size=size)
    device = next(model.parameters()).device
    batcher = preparation.batcher(preparation.shrunk(pixels)[None], device=device)
    images = batcher([0])
    seen = maps_and_logits(model, images)[1]
    logits = preparation.logits(model, batcher, [0]) if preparation.ten_crop else seen
    logits, seen = logits[0].double(), seen[0].double()
    if isinstance(findings, int):
        if findings < 1:
            raise ValueError(f"Expected a number of findings from 1 up, got {findings}.")
        rows = logits.argsort(descending=True)[:findings].tolist()
    else:
        rows = rows_of(findings, model)
    names = tuple(model.findings[row] for row in rows)
    found = attribute(model, images, rows, method=method, **options)
    maps = replace(found, values=found.values[0].cpu().numpy())
    # A film that was padded lies in the middle of a square: the bars beside it are no part of it.
    film = np.array(pixels.shape)
    whole = np.full(2, film.max()) if preparation.fit == "pad" else film
    start = (whole - film) // 2
    side = np.minimum(whole, _BOX_SIDE)
    scale = whole / side
    points = [(np.arange(n) + 0.5) * s for n, s in zip(side, scale, strict=True)]
    drawn = np.where(_within(points, start, film), maps.pixels(tuple(side.tolist())), 0).clip(0)
    boxes = [heat_boxes(d, cut=cut) * np.tile(scale[::-1], 2) for d in drawn]
    # Between cells a map is interpolated: it is hottest in the middle of a cell.
    places = maps.places(tuple(whole.tolist()))
    seen_cells = np.where(_within(places, start, film), maps.values, -np.inf)
    cells = [np.unravel_index(one.argmax(), one.shape) for one in seen_cells]
    peaks = [[p[c] for p, c in zip(places, cell, strict=True)] - start for cell in cells]
    (top, left), (height, width) = start, film
    return Explanation(
        findings=names,
        probabilities=dict(zip(model.findings, logits.sigmoid().tolist(), strict=True)),
        logits=dict(zip(model.findings, logits.tolist(), strict=True)),
        map_logits=dict(zip(model.findings, seen.tolist(), strict=True)),
        maps=maps,
        heat=maps.pixels(tuple(whole.tolist()))[:, top : top + height, left : left + width],
        boxes={n: b - [left, top, 0, 0] for n, b in zip(names, boxes, strict=True)},
        peaks={n: (float(x), float(y)) for n, (y, x) in zip(names, peaks, strict=True)},
        method=method,
        cut=cut,
        preparation=preparation,
    )


def _within(
    points: Sequence[NDArray[np.float64]], start: NDArray[np.int64], film: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which places [m, n], of points down and across, lie on a film within a square."""
    sides = zip(points, start, film, strict=True)
    return np.logical_and.outer(*((first <= p) & (p < first + n) for p, first, n in sides))


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
    from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    picture = np.ascontiguousarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"Expected a picture as uint8 [H, W, 3], got {picture.dtype} {list(picture.shape)}."
        )
    now = datetime.datetime.now(datetime.UTC).astimezone()
    out = Dataset()
    out.file_meta = FileMetaDataset()
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out.file_meta.MediaStorageSOPClassUID = out.SOPClassUID = SecondaryCaptureImageStorage
    out.file_meta.MediaStorageSOPInstanceUID = out.SOPInstanceUID = generate_uid()
    out.SpecificCharacterSet = "ISO_IR 192"
    out.ReferringPhysicianName = ""
    for keyword in _COPIED:
        text = _text(source, keyword)
        if text or keyword in _REQUIRED:
            setattr(out, keyword, text)
    out.SeriesInstanceUID = series_uid or generate_uid()
    if not UID(out.StudyInstanceUID).is_valid:
        out.StudyInstanceUID = generate_uid(entropy_srcs=[out.SeriesInstanceUID])
    out.SeriesNumber, out.InstanceNumber = 9001, number
    out.Modality, out.ConversionType = "OT", "WSD"
    out.SeriesDescription = f"{title[: 64 - len(NOTICE) - 2]}, {NOTICE}"
    out.ImageComments = f"{NOTICE}. {title}"
    out.Manufacturer = out.ManufacturerModelName = "chexlib"
    out.SoftwareVersions = version("chexlib")
    out.ContentDate = out.DateOfSecondaryCapture = now.strftime("%Y%m%d")
    out.ContentTime = out.TimeOfSecondaryCapture = now.strftime("%H%M%S")
    out.ImageType = ["DERIVED", "SECONDARY"]
    out.DerivationDescription = derivation[:1024]
    # Whether the film's own pixels name the patient is known from its header alone. Where that does
    # not say, "YES" sends the picture to those who check.
    burned = str(getattr(source, "BurnedInAnnotation", "") or "").upper()
    out.BurnedInAnnotation = burned if burned in ("YES", "NO") else "YES"
    # Once lossy, always lossy.
    lossy = str(getattr(source, "LossyImageCompression", "")) == "01"
    out.LossyImageCompression = "01" if lossy else "00"
    uids = _text(source, "SOPClassUID"), _text(source, "SOPInstanceUID")
    if all(UID(uid).is_valid for uid in uids):
        film = Dataset()
        film.ReferencedSOPClassUID, film.ReferencedSOPInstanceUID = uids
        out.SourceImageSequence = [film]
    # read_radiograph lays a film so, where its header says how it lies.
    out.PatientOrientation = ["L", "F"] if getattr(source, "PatientOrientation", None) else ""
    out.set_pixel_data(picture, "RGB", 8, generate_instance_uid=False)
    file = io.BytesIO()
    pydicom.dcmwrite(file, out, enforce_file_format=True)
    return file.getvalue()


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
