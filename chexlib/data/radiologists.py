"""Labels by radiologists on films of ChestX-ray14: Google's adjudication and RSNA's reads.

Both ship inside the package ``torchxrayvision`` and are read and checked as NIH's own labels are,
see :mod:`chexlib.data.labels`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from chexlib.data.checks import Checker, read_csv
from chexlib.data.home import data_home, package_file
from chexlib.data.labels import SEXES, VIEWS

__all__ = ["RSNA_CLASSES", "load_adjudicated", "load_rsna"]

RSNA_CLASSES = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")
RSNA_MATCHING = Path("rsna", "rsna_to_nih.csv")


def load_adjudicated(path: str | Path | None = None) -> pd.DataFrame:
    """Return Google's adjudicated labels: 4,376 films of ChestX-ray14 read by radiologists.

    Each film was read by three radiologists independently and disagreements were adjudicated
    (Majkowska et al., Radiology 2020). How the films were chosen is not documented.

    Parameters
    ----------
    path : path, optional
        Another file in the format of the published one; by default the published one.

    Returns
    -------
    DataFrame
        ``image``, ``patient``, ``subset`` (``test`` or ``val``), and bool ``fracture``,
        ``pneumothorax``, ``airspace_opacity``, ``nodule_or_mass``.

    Raises
    ------
    ValueError
        If the file is damaged or is another file.

    Examples
    --------
    >>> load_adjudicated()["subset"].value_counts().to_dict()
    {'val': 2414, 'test': 1962}
    """
    published = path is None
    path = Path(
        path or package_file("torchxrayvision", "data", "google2019_nih-chest-xray-labels.csv.gz")
    )
    raw = read_csv(path)
    reads = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
    check = Checker(path, raw, ("Image Index", "Patient ID", *reads, "Set Id"))
    check.image_names("Image Index")
    check.unique("Image Index")
    check.whole_numbers("Patient ID", low=0)
    check.one_of("Set Id", ("test", "val"))
    for column in reads:
        check.one_of(column, ("YES", "NO"))
    if published:
        check.rows(4_376)
    out = pd.DataFrame({"image": raw["Image Index"], "patient": raw["Patient ID"]})
    out["subset"] = pd.Categorical(raw["Set Id"], categories=("val", "test"))
    for column in reads:
        out[column.lower().replace(" ", "_")] = raw[column] == "YES"
    return out


def load_rsna(*, matching: str | Path | None = None) -> pd.DataFrame:
    """Return RSNA's 2018 pneumonia labels: one row a film, 26,684 rows.

    RSNA's radiologists marked opacities suspicious for pneumonia on films of ChestX-ray14 (Shih et
    al., Radiology: AI 2019), under names of their own. Which NIH film each one is was found later
    by comparing pixels; ``chexlib fetch rsna`` brings that matching.

    Parameters
    ----------
    matching : path, optional
        The matching file. By default ``rsna/rsna_to_nih.csv`` under
        :func:`chexlib.data.data_home`, where it is present.

    Returns
    -------
    DataFrame
        ``rsna_id``, ``target`` (bool: an opacity was marked), ``view``, ``sex``, ``age``, ``boxes``
        (list of ``(x, y, width, height)`` in pixels), and with the matching ``image``,
        ``rsna_class`` (one of :data:`RSNA_CLASSES`) and ``pixel_mse`` (the publisher's figure for
        how far the two images differ; its script squares 8-bit differences, which wrap at 256).
        Nothing is left out: 21 NIH films are matched twice and 98 pairs have ``pixel_mse`` above
        50, which a caller will want to drop and say so.

    Raises
    ------
    ValueError
        If a file is damaged or is another file, or the files do not name the same films.
    FileNotFoundError
        If ``matching`` is given and is not there.
    """
    label_path = package_file("torchxrayvision", "data", "kaggle_stage_2_train_labels.csv.zip")
    header_path = package_file(
        "torchxrayvision", "data", "kaggle_stage_2_train_images_dicom_headers.csv.gz"
    )
    raw = read_csv(label_path)
    check = Checker(label_path, raw, ("patientId", "x", "y", "width", "height", "Target"))
    check.one_of("Target", (0, 1))
    check.refuse(
        raw[["x", "y", "width", "height"]].isna().any(axis=1) == (raw["Target"] == 1),
        "x",
        "a box exactly where Target is 1",
    )
    check.rows(30_227)
    films = read_csv(header_path)
    check = Checker(header_path, films, ("PatientID", "PatientSex", "PatientAge", "ViewPosition"))
    check.unique("PatientID")
    check.one_of("PatientSex", SEXES)
    check.one_of("ViewPosition", VIEWS)
    check.whole_numbers("PatientAge", low=0)
    check.rows(26_684)
    unknown = set(raw["patientId"]) ^ set(films["PatientID"])
    if unknown:
        raise ValueError(
            f"Expected {label_path} and {header_path} to name the same films, found "
            f"{len(unknown)} in one only, such as {min(unknown)}. Reinstall torchxrayvision."
        )

    boxes: dict[str, list[tuple[float, ...]]] = {film: [] for film in films["PatientID"]}
    for film, *box in raw.loc[
        raw["Target"] == 1, ["patientId", "x", "y", "width", "height"]
    ].itertuples(index=False):
        boxes[film].append(tuple(box))
    out = pd.DataFrame(
        {
            "rsna_id": films["PatientID"],
            "target": [bool(boxes[film]) for film in films["PatientID"]],
            "view": pd.Categorical(films["ViewPosition"], categories=VIEWS),
            "sex": pd.Categorical(films["PatientSex"], categories=SEXES),
            "age": films["PatientAge"],
            "boxes": [boxes[film] for film in films["PatientID"]],
        }
    )
    if matching is None:
        matching = data_home() / RSNA_MATCHING
        if not matching.is_file():
            return out
    return out.merge(_read_matching(Path(matching), out), on="rsna_id", validate="one_to_one")


def _read_matching(path: Path, films: pd.DataFrame) -> pd.DataFrame:
    raw = read_csv(path)
    columns = {
        "rsna_patient_id": "rsna_id",
        "nih_image_index": "image",
        "rsna_class": "rsna_class",
        "pixel_mse": "pixel_mse",
    }
    check = Checker(path, raw, tuple(columns))
    check.unique("rsna_patient_id")
    check.image_names("nih_image_index")
    check.one_of("rsna_class", RSNA_CLASSES)
    check.numbers("pixel_mse", low=0)
    check.rows(len(films))
    known = films.set_index("rsna_id")["target"]
    check.refuse(
        ~raw["rsna_patient_id"].isin(known.index), "rsna_patient_id", "a film of RSNA's labels"
    )
    check.refuse(
        (raw["rsna_class"] == "Lung Opacity") != raw["rsna_patient_id"].map(known),
        "rsna_class",
        "'Lung Opacity' exactly where RSNA's Target is 1",
    )
    out = raw[list(columns)].rename(columns=columns)
    out["rsna_class"] = pd.Categorical(out["rsna_class"], categories=RSNA_CLASSES)
    return out
