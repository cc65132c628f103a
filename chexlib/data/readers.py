"""Labels by radiologists on films of ChestX-ray14: Google's adjudication and RSNA's reads.

Both ship inside the package ``torchxrayvision`` and are read and checked as NIH's own labels are,
see :mod:`chexlib.data.labels`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from chexlib.data.checks import ANY, IMAGE, CheckedTable, number, one_of
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
    reads = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
    raw = CheckedTable(
        path or package_file("torchxrayvision", "data", "google2019_nih-chest-xray-labels.csv.gz"),
        {
            "Image Index": IMAGE,
            "Patient ID": number(0, whole=True),
            "Set Id": one_of(("test", "val")),
            **dict.fromkeys(reads, one_of(("YES", "NO"))),
        },
        unique="Image Index",
        rows=4_376 if published else None,
    ).frame
    out = pd.DataFrame({"image": raw["Image Index"], "patient": raw["Patient ID"]})
    out["subset"] = pd.Categorical(raw["Set Id"], categories=("val", "test"))
    return out.join(
        (raw[list(reads)] == "YES").rename(columns=lambda c: c.lower().replace(" ", "_"))
    )


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
    box = ["x", "y", "width", "height"]
    labels = CheckedTable(
        package_file("torchxrayvision", "data", "kaggle_stage_2_train_labels.csv.zip"),
        {"patientId": ANY, **dict.fromkeys(box), "Target": one_of((0, 1))},
        rows=30_227,
    )
    drawn = labels.frame["Target"] == 1
    labels.refuse(
        labels.frame[box].isna().any(axis=1) == drawn, "x", "a box exactly where Target is 1"
    )
    films = CheckedTable(
        package_file("torchxrayvision", "data", "kaggle_stage_2_train_images_dicom_headers.csv.gz"),
        {
            "PatientID": ANY,
            "PatientSex": one_of(SEXES),
            "ViewPosition": one_of(VIEWS),
            "PatientAge": number(0, whole=True),
        },
        unique="PatientID",
        rows=26_684,
    )
    unknown = set(labels.frame["patientId"]) ^ set(films.frame["PatientID"])
    if unknown:
        raise ValueError(
            f"Expected {labels.path} and {films.path} to name the same films, found "
            f"{len(unknown)} in one only, such as {min(unknown)}. Reinstall torchxrayvision."
        )
    boxes: dict[str, list[tuple[float, ...]]] = {film: [] for film in films.frame["PatientID"]}
    for film, *corners in labels.frame.loc[drawn, ["patientId", *box]].itertuples(index=False):
        boxes[film].append(tuple(corners))
    out = pd.DataFrame(
        {
            "rsna_id": films.frame["PatientID"],
            "target": [bool(drawn) for drawn in boxes.values()],
            "view": pd.Categorical(films.frame["ViewPosition"], categories=VIEWS),
            "sex": pd.Categorical(films.frame["PatientSex"], categories=SEXES),
            "age": films.frame["PatientAge"],
            "boxes": list(boxes.values()),
        }
    )
    if matching is None and not (matching := data_home() / RSNA_MATCHING).is_file():
        return out
    return out.merge(_read_matching(matching, out), on="rsna_id", validate="one_to_one")


def _read_matching(path: str | Path, films: pd.DataFrame) -> pd.DataFrame:
    columns = {
        "rsna_patient_id": "rsna_id",
        "nih_image_index": "image",
        "rsna_class": "rsna_class",
        "pixel_mse": "pixel_mse",
    }
    rules = (ANY, IMAGE, one_of(RSNA_CLASSES), number(0))
    read = CheckedTable(
        path, dict(zip(columns, rules, strict=True)), unique="rsna_patient_id", rows=len(films)
    )
    target = read.frame["rsna_patient_id"].map(films.set_index("rsna_id")["target"])
    read.refuse(target.isna(), "rsna_patient_id", "a film of RSNA's labels")
    read.refuse(
        (read.frame["rsna_class"] == "Lung Opacity") != target,
        "rsna_class",
        "'Lung Opacity' exactly where RSNA's Target is 1",
    )
    out = read.frame[list(columns)].rename(columns=columns)
    out["rsna_class"] = pd.Categorical(out["rsna_class"], categories=RSNA_CLASSES)
    return out
