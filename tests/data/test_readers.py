"""Radiologists' reads and labels: read whole, joined to NIH's films, refused when damaged."""

import json
import zipfile

import pandas as pd
import pytest

from chexlib.data import (
    data_home,
    load_adjudicated,
    load_chestx_det,
    load_labels,
    load_readers,
    load_rsna,
    load_vinbigdata,
    package_file,
)
from chexlib.findings import FINDINGS

HEADER = "Image Index,Patient ID,Fracture,Pneumothorax,Airspace opacity,Nodule or mass,Set Id"
ROW = "00000013_008.png,13,NO,NO,YES,NO,test"


def test_adjudicated_counts_are_the_surveys():
    reads = load_adjudicated()
    conditions = ["fracture", "pneumothorax", "airspace_opacity", "nodule_or_mass"]
    counts = reads.groupby("subset", observed=True)[conditions].sum()
    assert counts.loc["val"].tolist() == [114, 43, 1031, 310]
    assert counts.loc["test"].tolist() == [72, 195, 1135, 295]
    assert reads["subset"].value_counts().to_dict() == {"val": 2414, "test": 1962}


def test_adjudicated_films_are_nihs():
    films = load_labels().set_index("image")["patient"]
    reads = load_adjudicated().set_index("image")["patient"]
    assert (films.loc[reads.index] == reads).all()


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        (ROW.replace("YES", "MAYBE"), "Airspace opacity", "one of"),
        (ROW.replace("test", "train"), "Set Id", "one of"),
        (ROW.replace(",13,", ",,"), "Patient ID", "a value"),
    ],
)
def test_damaged_reads(tmp_path, row, column, message):
    path = tmp_path / "reads.csv"
    path.write_text(f"{HEADER}\n{ROW.replace('008', '009')}\n{row}\n")
    with pytest.raises(ValueError, match=message) as error:
        load_adjudicated(path)
    assert "row 3" in str(error.value)
    assert repr(column) in str(error.value)


@pytest.fixture
def no_fetched_files(tmp_path, monkeypatch):
    monkeypatch.setenv("CHEXLIB_DATA", str(tmp_path))


@pytest.mark.usefixtures("no_fetched_files")
def test_rsna_without_the_matching():
    films = load_rsna()
    assert len(films) == 26_684
    assert list(films.columns) == ["rsna_id", "target", "view", "sex", "age", "boxes"]
    assert films["target"].sum() == 6_012
    assert films["boxes"].map(len).sum() == 9_555
    assert (films["boxes"].map(bool) == films["target"]).all()


@pytest.mark.real_data
def test_rsna_with_the_matching():
    if not (data_home() / "rsna" / "rsna_to_nih.csv").is_file():
        pytest.skip("no matching file: run `chexlib fetch rsna`")
    films = load_rsna()
    assert len(films) == 26_684
    assert (films["pixel_mse"] > 50).sum() == 98
    assert films["image"].duplicated().sum() == 21
    nih = load_labels().set_index("image")
    matched = nih.loc[films["image"]]
    assert (matched["sex"].to_numpy() == films["sex"].to_numpy()).all()
    assert (matched["view"].to_numpy() == films["view"].to_numpy()).all()


@pytest.fixture(scope="module")
def matching():
    """A matching of every film, made here: the published one is not needed to test its checks."""
    headers = pd.read_csv(
        package_file("torchxrayvision", "data", "kaggle_stage_2_train_images_dicom_headers.csv.gz")
    )
    targets = pd.read_csv(
        package_file("torchxrayvision", "data", "kaggle_stage_2_train_labels.csv.zip")
    )
    positive = set(targets.loc[targets["Target"] == 1, "patientId"])
    ids = headers["PatientID"]
    return pd.DataFrame(
        {
            "rsna_patient_id": ids,
            "rsna_class": ["Lung Opacity" if film in positive else "Normal" for film in ids],
            "nih_image_index": [f"{number:08d}_000.png" for number in range(len(ids))],
            "pixel_mse": 1.0,
        }
    )


def test_matching_is_joined(tmp_path, matching):
    path = tmp_path / "m.csv"
    matching.sample(frac=1, random_state=0).to_csv(path, index=False)
    films = load_rsna(matching=path)
    assert (films["image"] == matching["nih_image_index"]).all()
    assert films["rsna_class"].value_counts()["Lung Opacity"] == 6_012


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("rsna_patient_id", "nobody", "a film of RSNA's labels"),
        ("rsna_class", "Opaque", "one of"),
        ("nih_image_index", "x.png", "an image name"),
        ("pixel_mse", -1, "at least 0"),
    ],
)
def test_damaged_matching(tmp_path, matching, column, value, message):
    path = tmp_path / "m.csv"
    damaged = matching.copy()
    damaged.loc[5, column] = value
    damaged.to_csv(path, index=False)
    with pytest.raises(ValueError, match=message) as error:
        load_rsna(matching=path)
    assert "row 7" in str(error.value)
    assert repr(column) in str(error.value)


def test_matching_that_contradicts_the_target(tmp_path, matching):
    path = tmp_path / "m.csv"
    flipped = matching.assign(rsna_class="Normal")
    flipped.to_csv(path, index=False)
    with pytest.raises(ValueError, match="exactly where RSNA's Target is 1"):
        load_rsna(matching=path)


def test_named_matching_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected a label file"):
        load_rsna(matching=tmp_path / "none.csv")


def test_rsna_files_that_disagree(tmp_path, monkeypatch):
    real = package_file("torchxrayvision", "data", "kaggle_stage_2_train_labels.csv.zip")
    labels = pd.read_csv(real)
    labels.loc[0, "patientId"] = "somebody-else"
    changed = tmp_path / "labels.csv.zip"
    with zipfile.ZipFile(changed, "w") as archive:
        archive.writestr("labels.csv", labels.to_csv(index=False))
    pick = {"kaggle_stage_2_train_labels.csv.zip": changed}
    monkeypatch.setattr(
        "chexlib.data.readers.package_file",
        lambda *parts: pick.get(parts[-1], package_file(*parts)),
    )
    with pytest.raises(ValueError, match="name the same films"):
        load_rsna()


@pytest.mark.real_data("google_readers/all_findings_individual_readers.csv")
def test_five_readers():
    reads = load_readers("all")
    assert (len(reads), reads["image"].nunique(), reads["reader"].nunique()) == (4_050, 810, 5)
    assert reads["patient"].nunique() == 532
    assert (reads.dtypes[["abnormal", *FINDINGS, "other"]] == bool).all()
    votes = reads.groupby("image")[list(FINDINGS)].sum()
    assert votes["Pneumonia"].value_counts().to_dict() == {0: 745, 1: 57, 2: 8}
    published = pd.read_csv(data_home() / "google_readers" / "all_findings_test_labels.csv")
    three = reads[reads["reader"].isin([4343882785, 4343883593, 4343883996])]
    majority = three.groupby("image")["Pleural_Thickening"].sum() >= 2
    given = published.set_index("Image ID")["Pleural Thickening"].eq("YES")
    assert (majority == given[majority.index]).all()
    films = load_labels().set_index("image").loc[votes.index]
    assert (films["view"] == "PA").all()


@pytest.mark.real_data("google_readers/four_findings_individual_readers.csv")
def test_reads_before_adjudication():
    reads = load_readers("four")
    assert (len(reads), reads["image"].nunique(), reads["reader"].nunique()) == (13_081, 4_376, 22)
    assert reads.duplicated(["image", "reader"]).sum() == 4
    assert reads["pneumothorax"].value_counts().to_dict() == {"NO": 12208, "YES": 708, "HEDGE": 165}
    assert reads[["fracture", "airspace_opacity"]].sum().tolist() == [351, 5815]
    final = load_adjudicated().set_index("image")
    assert set(reads["image"]) == set(final.index)
    assert (reads["subset"].astype(str) == reads["image"].map(final["subset"].astype(str))).all()


def five(**more):
    row = {"Image ID": "00000003_001.png", "Patient ID": 3, "Reader ID": 7, "Abnormal": 1}
    row |= dict.fromkeys([name.replace("_", " ") for name in FINDINGS], "NO") | {"Other": "YES"}
    return pd.DataFrame([row | {"Reader ID": 6}, row | more])


def four(**more):
    row = {"Patient ID": 3, "Image ID": "00000003_001.png", "Reader ID": 7, "Fracture": "NO"}
    row |= {"Pneumothorax": "HEDGE", "Airspace opacity": "YES", "Nodule/mass": "NO"}
    return pd.DataFrame([row | {"Set ID": "val"}, row | {"Set ID": "val"} | more])


@pytest.mark.parametrize(
    ("which", "column", "value", "message"),
    [
        ("all", "Image ID", "3.png", "an image name"),
        ("all", "Patient ID", 4, "the patient that 'Image ID' begins with"),
        ("all", "Reader ID", 6, "no row twice"),
        ("all", "Abnormal", 2, "one of"),
        ("all", "Abnormal", 0, "1 exactly where a finding is YES"),
        ("all", "Pleural Thickening", "HEDGE", "one of"),
        ("all", "Edema", None, "a value"),
        ("four", "Set ID", "train", "one of"),
        ("four", "Nodule/mass", "MAYBE", "one of"),
        ("four", "Airspace opacity", "HEDGE", "one of"),
    ],
)
def test_damaged_single_reads(tmp_path, which, column, value, message):
    path, forge = tmp_path / "reads.csv", {"all": five, "four": four}[which]
    forge().to_csv(path, index=False)
    read = load_readers(which, path=path)
    assert read.iloc[1, -1 if which == "all" else -3] in (True, "HEDGE")
    forge(**{column: value}).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message) as error:
        load_readers(which, path=path)
    assert "row 3" in str(error.value)
    assert repr(column) in str(error.value)


def test_only_all_and_four_are_read():
    with pytest.raises(ValueError, match="Expected 'all' or 'four' findings, got 'five'"):
        load_readers("five")


@pytest.mark.usefixtures("no_fetched_files")
@pytest.mark.parametrize(
    ("load", "name"), [(lambda: load_readers("all"), "readers"), (load_chestx_det, "chestx-det")]
)
def test_files_that_were_not_fetched(load, name):
    with pytest.raises(FileNotFoundError, match=f"found none. Run `chexlib fetch {name}`"):
        load()


def test_vinbigdata_is_read_whole():
    reads = load_vinbigdata()
    assert reads.groupby("image")["reader"].nunique().eq(3).all()
    assert reads["finding"].value_counts()[["No Finding", "Effusion"]].tolist() == [31_818, 2_476]
    assert (reads["width"].notna() == (reads["finding"] != "No Finding")).all()
    assert reads["width"].min() > 0
    called = reads[reads["finding"] != "No Finding"]
    films = called.groupby("image")["reader"].agg(lambda film: ",".join(sorted(set(film))))
    assert films.str.count(",").eq(2).all()  # all three find something, or none does
    assert films.value_counts()["R10,R8,R9"] == 4_146
    assert films[films != "R10,R8,R9"].str.contains("R[1-7](?:,|$)").sum() == 1


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("rad_id", "R18", "one of"),
        ("class_name", "Lump", "one of"),
        ("class_name", "No finding", "a box exactly where"),
        ("x_min", None, "a box exactly where"),
        ("y_min", -1, "a number of at least 0"),
        ("x_max", 10, "a number above 'x_min'"),
        ("image_id", None, "a value"),
    ],
)
def test_damaged_vinbigdata(tmp_path, column, value, message):
    path, box = tmp_path / "v.csv", {"x_min": 10, "y_min": 20, "x_max": 30, "y_max": 50}
    row = {"image_id": "a", "class_name": "Pleural effusion", "rad_id": "R8"}
    rows = [row | {"class_name": "No finding", "rad_id": "R9"}, row | box]
    pd.DataFrame(rows).to_csv(path, index=False)
    assert load_vinbigdata(path).iloc[1].tolist() == ["a", "R8", "Effusion", 10, 20, 20, 30]
    rows[1] |= {column: value}
    pd.DataFrame(rows).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message) as error:
        load_vinbigdata(path)
    assert "row 3" in str(error.value)


@pytest.mark.real_data("chestx_det/ChestX_Det_train.json")
def test_chestx_det():
    films = load_chestx_det()
    assert (len(films), films["patient"].nunique()) == (3_543, 1_677)
    labels = load_labels().set_index("image").loc[films["image"]]
    assert not labels["no_finding"].any()
    both = labels["Effusion"].to_numpy() & films["Effusion"]
    assert both.sum() / labels["Effusion"].sum() == pytest.approx(0.77, abs=0.005)
    assert [len(film) for film in films["boxes"]] == [len(film) for film in films["polygons"]]
    for boxes, polygons in zip(films["boxes"], films["polygons"], strict=True):
        for (_, x, y, width, height), points in zip(boxes, polygons, strict=True):
            assert all(
                x - 1 <= a <= x + width + 1 and y - 1 <= b <= y + height + 1 for a, b in points
            )


@pytest.fixture
def drawn(tmp_path):
    """Two films as ChestX-Det's files have them; returns a function that changes one record."""
    marks = {"syms": ["Nodule"], "boxes": [[10, 20, 30, 50]]}
    outline = {"polygons": [[[10, 20], [30, 50], [10, 50]]]}

    def write(name="", **change):
        for part, film in (("train", "1"), ("test", "2")):
            for file, image, more in (
                ("det10_{}", f"0000000{film}_000.png", {}),
                ("det10_{}_renamed", f"{film}.png", {}),
                ("ChestX_Det_{}", f"{film}.png", outline),
            ):
                record = {"file_name": image, **marks, **more}
                record |= change if name == file.format(part) else {}
                other = {"file_name": f"99{film}.png", "syms": [], "boxes": [], "polygons": []}
                records = [record, other] if "ChestX" in file else [record]
                path = tmp_path / f"{file.format(part)}.json"
                path.write_text(json.dumps(records))
        return tmp_path

    return write


def test_chestx_det_names_what_can_be_named(drawn):
    films = load_chestx_det(drawn())
    assert films["image"].tolist() == ["00000001_000.png", "00000002_000.png"]
    assert films["boxes"][0] == [("Nodule", 10, 20, 20, 30)]
    assert films["Nodule"].all()
    assert not films["Pleural_Thickening"].any()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ChestX_Det_train", {"syms": ["Lump"]}, "'syms'; got"),
        ("ChestX_Det_train", {"syms": [["Nodule"]]}, "'syms'; got"),
        ("ChestX_Det_test", {"boxes": [[10, 20, 10, 50]]}, "'boxes'; got"),
        ("ChestX_Det_test", {"boxes": [[10, 20, 30, [50]]]}, "'boxes'; got"),
        ("ChestX_Det_test", {"boxes": [[10, 20, 30, 5000]]}, "within 1024"),
        ("ChestX_Det_test", {"boxes": []}, "as many marks as there are in 'syms'"),
        ("ChestX_Det_test", {"polygons": [[[1, 2], [3]]]}, "'polygons'; got"),
        ("det10_train", {"file_name": "x.png"}, "an image name"),
    ],
)
def test_damaged_chestx_det(drawn, name, change, message):
    with pytest.raises(ValueError, match=message) as error:
        load_chestx_det(drawn(name, **change))
    assert f"{name}.json, row 1, column" in str(error.value)


def test_chestx_det_that_lost_its_bridge(drawn):
    with pytest.raises(ValueError, match="the same marks in the same order"):
        load_chestx_det(drawn("det10_test_renamed", boxes=[[10, 20, 30, 51]]))


@pytest.mark.parametrize("text", ["[{", "[1, 2]", '{"file_name": 1}'])
def test_chestx_det_that_is_no_list_of_films(drawn, text):
    folder = drawn()
    (folder / "det10_train.json").write_text(text)
    with pytest.raises(ValueError, match=r"Expected .*det10_train\.json"):
        load_chestx_det(folder)
