"""Probabilities as a DICOM structured report: a measurement report (PS3.16, TID 1500) of one film.

It is built by highdicom, with the algorithm, a group for each finding, and the film referred to.
"""

from __future__ import annotations

import io
from importlib.metadata import version
from typing import TYPE_CHECKING

from chexlib.findings import describe

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEME = "99CHEXLIB"  # of findings: DICOM has no code for what anybody may name
NOTICE = "NOT FOR CLINICAL USE"


def structured_report(
    capture: bytes, probabilities: Mapping[str, float], *, film: bytes, network: str
) -> bytes | None:
    """Return a Comprehensive SR of the film that a secondary capture was made from.

    Parameters
    ----------
    capture : bytes
        Of :func:`chexlib.interpret.secondary_capture`. Patient and study are those it carries, so
        that the report says no more of them.
    probabilities : mapping of str to float
        Of findings.
    film : bytes
        Of the DICOM file. The UID of its series is taken, which a reference needs.
    network : str
        What tells the weights, such as their file and its SHA-256.

    Returns
    -------
    bytes or None
        Explicit VR little endian, unverified and partial. None where the film has no UIDs to refer
        to.
    """
    import pydicom
    from highdicom import sr
    from pydicom.sr.codedict import codes
    from pydicom.uid import UID, generate_uid

    evidence = pydicom.dcmread(io.BytesIO(capture), stop_before_pixels=True)
    header = pydicom.dcmread(io.BytesIO(film), specific_tags=["SeriesInstanceUID"])
    series = UID(str(header.get("SeriesInstanceUID", "")))
    if "SourceImageSequence" not in evidence or not series.is_valid:
        return None
    of, evidence.SeriesInstanceUID = evidence.SourceImageSequence[0], series
    evidence.SOPClassUID = of.ReferencedSOPClassUID
    evidence.SOPInstanceUID = of.ReferencedSOPInstanceUID
    said = {"name": "chexlib", "version": version("chexlib")}
    algorithm = sr.AlgorithmIdentification(**said, parameters=[network, NOTICE])
    probability = codes.DCM.Probability
    image = sr.SourceImageForMeasurementGroup(evidence.SOPClassUID, evidence.SOPInstanceUID)
    groups = [
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(identifier=name, uid=generate_uid()),
            finding_type=sr.CodedConcept(name, SCHEME, describe(name).english[:64]),
            algorithm_id=algorithm,
            measurements=[sr.Measurement(probability, round(value, 6), codes.UCUM.NoUnits)],
            source_images=[image],
        )
        for name, value in probabilities.items()
    ]
    device = sr.DeviceObserverIdentifyingAttributes(generate_uid(), name="chexlib")
    observer = sr.ObserverContext(codes.DCM.Device, device)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=sr.CodedConcept("399208008", "SCT", "Plain chest X-ray"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    uids = {"series_instance_uid": generate_uid(), "sop_instance_uid": generate_uid()}
    place = {"series_number": 9002, "instance_number": 1, "manufacturer": "chexlib"}
    report = sr.ComprehensiveSR([evidence], content, **uids, **place)
    report.SeriesDescription = f"Probabilities of a network, {NOTICE}"
    file = io.BytesIO()
    pydicom.dcmwrite(file, report, enforce_file_format=True)
    return file.getvalue()
