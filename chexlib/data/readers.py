"""What radiologists said of films: single reads, adjudicated labels, boxes and outlines.

Google's, RSNA's and ChestX-Det's readers read films of ChestX-ray14, VinBigData's another
hospital's. Each file is read and checked as NIH's own labels are (:mod:`chexlib.data.labels`).
Adjudicated labels, RSNA's reads and VinBigData's ship inside the package ``torchxrayvision``; the
others are fetched, and no row of them is part of this project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from chexlib.data.checks import ANY, DAMAGED, IMAGE, CheckedTable, Rule, number, one_of
from chexlib.data.labels import SEXES, VIEWS
from chexlib.files import data_home, package_file
from chexlib.findings import FINDINGS, NO_FINDING

if TYPE_CHECKING:
    from collections.abc import Callable

RSNA_CLASSES = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")
RSNA_MATCHING = Path("rsna", "rsna_to_nih.csv")
_CHESTX_DET = ("Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "Diffuse Nodule")
_CHESTX_DET += ("Effusion", "Emphysema", "Fibrosis", "Fracture", "Mass", "Nodule")
_CHESTX_DET += ("Pleural Thickening", "Pneumothorax")
_VINBIGDATA = ("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly")
_VINBIGDATA += ("Consolidation", "ILD", "Infiltration", "Lung Opacity", "Nodule/Mass")
_VINBIGDATA += ("Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax")
_VINBIGDATA += ("Pulmonary fibrosis", "No finding")
_OURS = {  # as in chexlib.findings, where the publisher spells it otherwise
    "No finding": NO_FINDING,
    "Pleural Thickening": "Pleural_Thickening",
    "Pleural effusion": "Effusion",
    "Pleural thickening": "Pleural_Thickening",
    "Pulmonary fibrosis": "Fibrosis",
}


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


def load_readers(which: str, *, path: str | Path | None = None) -> pd.DataFrame:
    """Return single reads of Google's radiologists: one row a film and reader.

    ``"all"``: five board-certified radiologists read the 810 PA films of the adjudicated test set
    for all 14 findings, which were asked only where a reader called the film abnormal. ``"four"``:
    what three readers, or so, wrote on each of 4,376 films before disagreements were adjudicated.
    Google releases both for research and education; ``chexlib fetch readers`` brings them.

    Parameters
    ----------
    which : {"all", "four"}
    path : path, optional
        Another file in the format of the published one. By default the published one, under
        :func:`chexlib.data.data_home`, whose row count is checked too.

    Returns
    -------
    DataFrame
        ``image``, ``patient`` and ``reader`` (int), then for ``"all"`` bool ``abnormal``, the 14
        findings of :data:`chexlib.findings.FINDINGS`, and ``other``: 4,050 rows. For ``"four"``
        ``subset`` (``val`` or ``test``), bool ``fracture`` and ``airspace_opacity``, and
        ``pneumothorax`` and ``nodule_or_mass``, each ``NO``, ``HEDGE`` or ``YES``: 13,081 rows, of
        which four repeat a film and a reader, as published.

    Raises
    ------
    FileNotFoundError
        If the file was not fetched.
    ValueError
        If ``which`` is neither, or the file is damaged or is another file.

    References
    ----------
    ``"all"``: Nabulsi et al., Sci Rep 11 (2021) 15523. ``"four"``: Majkowska et al., Radiology 294
    (2020) 421-431.
    """
    if which not in ("all", "four"):
        raise ValueError(f"Expected 'all' or 'four' findings, got {which!r}.")
    everything = which == "all"
    yes_no, hedged = one_of(("NO", "YES")), one_of(("NO", "HEDGE", "YES"))
    if everything:
        calls = {name.replace("_", " "): yes_no for name in (*FINDINGS, "Other")}
        extra, names = {"Abnormal": one_of((0, 1))}, [*FINDINGS, "other"]
    else:
        calls = {"Fracture": yes_no, "Pneumothorax": hedged}
        calls |= {"Airspace opacity": yes_no, "Nodule/mass": hedged}
        extra = {"Set ID": one_of(("val", "test"))}
        names = ["fracture", "pneumothorax", "airspace_opacity", "nodule_or_mass"]
    who = {"Image ID": IMAGE, "Patient ID": number(0, whole=True), "Reader ID": ANY}
    read = CheckedTable(
        path
        or _fetched("readers", Path("google_readers", f"{which}_findings_individual_readers.csv")),
        who | extra | calls,
        unique=["Image ID", "Reader ID"] if everything else (),
        rows=None if path else 4_050 if everything else 13_081,
    )
    raw, said = read.frame, read.frame[list(calls)].set_axis(names, axis=1)
    own = raw["Image ID"].str[:8].astype(int) == raw["Patient ID"]
    read.refuse(~own, "Patient ID", "the patient that 'Image ID' begins with")
    for name, rule in zip(names, calls.values(), strict=True):
        if rule is yes_no:
            said[name] = said[name] == "YES"
    out = raw[list(who)].set_axis(["image", "patient", "reader"], axis=1)
    if everything:
        out["abnormal"] = raw["Abnormal"] == 1
        wrong = out["abnormal"] != said.any(axis=1)
        read.refuse(wrong, "Abnormal", "1 exactly where a finding is YES")
    else:
        out["subset"] = pd.Categorical(raw["Set ID"], categories=("val", "test"))
    return out.join(said)


def load_vinbigdata(path: str | Path | None = None) -> pd.DataFrame:
    """Return VinBigData's reads of 15,000 films, each by 3 of 17 radiologists: one row a box.

    The films are PA films of adults in two hospitals of Hanoi, not NIH's. They are selected: on
    every film all three readers find something, or none does. Who read which is not random either:
    R8, R9 and R10 read 4,146 of the 4,394 films with findings, R1 to R7 together a single one.

    Parameters
    ----------
    path : path, optional
        Another file in the format of the published one; by default the published one, which ships
        inside torchxrayvision.

    Returns
    -------
    DataFrame
        ``image``, ``reader`` (``R1`` to ``R17``), ``finding`` (named as in
        :data:`chexlib.findings.FINDINGS` where it is one of them, else as published), and ``x``,
        ``y``, ``width``, ``height`` (pixels of the original film): 67,914 rows. A reader who sees
        nothing has one row, ``No Finding`` without a box.

    Raises
    ------
    ValueError
        If the file is damaged or is another file.

    References
    ----------
    Nguyen et al., VinDr-CXR, Scientific Data 9 (2022) 429.

    Examples
    --------
    >>> reads = load_vinbigdata()
    >>> len(reads), reads["image"].nunique(), reads["reader"].nunique()
    (67914, 15000, 17)
    """
    ends = ["x_min", "y_min", "x_max", "y_max"]
    rules = {"image_id": ANY, "rad_id": one_of(f"R{reader}" for reader in range(1, 18))}
    read = CheckedTable(
        path or package_file("torchxrayvision", "data", "vinbigdata-train.csv.gz"),
        rules | {"class_name": one_of(_VINBIGDATA)} | dict.fromkeys(ends),
        rows=None if path else 67_914,
    )
    raw, drawn = read.frame, read.frame["class_name"] != "No finding"
    for end in ends:
        read.refuse(raw[end].notna() != drawn, end, "a box exactly where there is a finding")
        read.refuse(drawn & ~number(0).good(raw[end]), end, number(0).expected)
    for low, high in (ends[::2], ends[1::2]):
        read.refuse(raw[high] <= raw[low], high, f"a number above {low!r}")
    out = raw[["image_id", "rad_id"]].set_axis(["image", "reader"], axis=1)
    corner, far = raw[ends[:2]].to_numpy(float), raw[ends[2:]].to_numpy(float)
    out["finding"] = raw["class_name"].replace(_OURS)
    out[["x", "y"]], out[["width", "height"]] = corner, far - corner
    return out


def load_chestx_det(folder: str | Path | None = None) -> pd.DataFrame:
    """Return what three radiologists drew on 3,543 films of ChestX-ray14: one row a film.

    ChestX-Det (Apache-2.0) has 3,578 films under names of its own. Its predecessor ChestX-Det10 (no
    licence stated) was first uploaded with NIH's names; its authors removed them later, probably
    because a challenge was running, and kept the order of the records. So 3,543 films can be named.
    Use that to join and to count, and pass no row on. The films are selected: on none of them is
    NIH's label "No Finding". ``chexlib fetch chestx-det`` brings the six files.

    Parameters
    ----------
    folder : path, optional
        By default ``chestx_det`` under :func:`chexlib.data.data_home`.

    Returns
    -------
    DataFrame
        ``image`` and ``patient`` (NIH's); 13 bool columns, named as in
        :data:`chexlib.findings.FINDINGS` where it has them, and ``Calcification``, ``Diffuse
        Nodule``, ``Fracture``; ``boxes``, a list of ``(finding, x, y, width, height)`` in pixels
        of the 1024 x 1024 PNG; ``polygons``, a list of lists of ``[x, y]`` in the same order.

    Raises
    ------
    FileNotFoundError
        If a file was not fetched.
    ValueError
        If a file is damaged or is another file, or the two lists of names do not belong together.

    References
    ----------
    Lian et al., IEEE TMI 40 (2021) 2042-2052 (arXiv 2104.10326); ChestX-Det10: Liu, Lian and Yu,
    arXiv 2006.10550.
    """
    folder = Path(folder).absolute() if folder else Path("chestx_det")
    names, parts = {}, []
    for part in ("train", "test"):
        found = [
            _drawn(_fetched("chestx-det", folder / f"{name}_{part}{later}.json"))
            for name, later in (("det10", ""), ("det10", "_renamed"), ("ChestX_Det", ""))
        ]
        nih, renamed, films = found
        nih.refuse(~IMAGE.good(nih.frame["file_name"]), "file_name", IMAGE.expected)
        marks = ["syms", "boxes"]
        if not nih.frame[marks].equals(renamed.frame[marks]):
            raise ValueError(
                f"Expected {nih.path} and {renamed.path} to hold the same marks in the same order, "
                "found others, so no film can be named. Run `chexlib fetch chestx-det --force`."
            )
        names |= dict(zip(renamed.frame["file_name"], nih.frame["file_name"], strict=True))
        parts.append(films.frame)
    films = pd.concat(parts).assign(image=lambda films: films["file_name"].map(names))
    films = films.dropna(subset="image").reset_index(drop=True)
    signs = films["syms"].map(lambda film: [_OURS.get(name, name) for name in film])
    out = films[["image"]].assign(patient=films["image"].str[:8].astype(int))
    for name in (_OURS.get(name, name) for name in _CHESTX_DET):
        out[name] = [name in film for film in signs]
    out["boxes"] = [
        [(name, x, y, right - x, low - y) for name, (x, y, right, low) in zip(*film, strict=True)]
        for film in zip(signs, films["boxes"], strict=True)
    ]
    return out.assign(polygons=films["polygons"])


def _fetched(entry: str, path: Path) -> Path:
    found = data_home() / path  # the path itself, where it is absolute
    if not found.is_file():
        raise FileNotFoundError(f"Expected {found}, found none. Run `chexlib fetch {entry}`.")
    return found


def _drawn(path: Path) -> CheckedTable:
    """Read one of ChestX-Det's files: a JSON list of films, each with its signs and marks."""
    try:
        frame = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"Expected a JSON list of films in {path}, got: {error}. {DAMAGED}"
        ) from error

    def lists(expected: str, good: Callable[[object], bool]) -> Rule:
        def each(value: object) -> bool:
            return isinstance(value, list) and all(map(good, value))

        return Rule(f"a list of {expected}", lambda column: column.map(each).astype(bool))

    def pixels(value: object, count: int) -> bool:
        right = isinstance(value, list) and len(value) == count
        return right and all(isinstance(one, int) and 0 <= one <= 1024 for one in value)

    def is_box(mark: object) -> bool:
        return pixels(mark, 4) and mark[0] < mark[2] and mark[1] < mark[3]

    def is_outline(mark: object) -> bool:
        return isinstance(mark, list) and all(pixels(point, 2) for point in mark)

    rules = {
        "file_name": ANY,
        "syms": lists(f"{_CHESTX_DET}", _CHESTX_DET.__contains__),
        "boxes": lists("boxes [left, top, right, bottom] within 1024 x 1024 pixels", is_box),
    }
    if not path.name.startswith("det10"):
        rules["polygons"] = lists("outlines, each of points [x, y]", is_outline)
    read = CheckedTable(path, rules, unique="file_name", frame=frame, header=0)
    for column in list(rules)[2:]:
        other = frame[column].map(len) != frame["syms"].map(len)
        read.refuse(other, column, "as many marks as there are in 'syms'")
    return read
