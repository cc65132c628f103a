"""Google's and RSNA's labels: read whole, joined to NIH's films, refused when damaged."""

import zipfile

import pandas as pd
import pytest

from chexlib.data import data_home, load_adjudicated, load_labels, load_rsna, package_file

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
