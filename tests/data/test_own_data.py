"""Films of one's own: a folder and a table of labels become three data sets."""

import logging
import tarfile

import numpy as np
import pandas as pd
import pytest
from film_forge import written
from PIL import Image
from test_radiographs import chest

from chexlib.data import ImageCache, cache_home, find_radiographs, load_boxes, own_data
from chexlib.data.dataset import own_folder
from chexlib.data.splits import assert_no_patient_overlap
from chexlib.training.run import data_hash

SIZE = 32
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CHEXLIB_CACHE", str(tmp_path / "home"))


def film(path, kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "DICOM":
        path.write_bytes(written(chest(RNG.integers(0, 60_000, (40, 50)).astype(np.uint16))))
    else:
        Image.fromarray(RNG.integers(0, 255, (40, 50), dtype=np.uint8)).save(path, kind)


@pytest.fixture
def hospital(tmp_path):
    """Two films of each of 20 patients, each called IM0 or IM1; PNG, JPEG and DICOM."""
    rows = []
    for p in range(20):
        for k in range(2):
            film(tmp_path / "pacs" / f"p{p}" / "s1" / f"IM{k}", ("PNG", "JPEG", "DICOM")[p % 3])
            rows.append(
                (f"p{p}/s1/IM{k}", f"{p:03d}", "AB"[p % 2], p % 2, p % 3 == 0 if k else None)
            )
    table = pd.DataFrame(rows, columns=["path", "patient", "site", "rib fracture", "mass"])
    return tmp_path / "pacs", tmp_path / "labels.csv", table


def opened(images, path, table, **options):
    """Open own data with a cache that is built in this process."""
    table.to_csv(path, index=False)
    source = find_radiographs(images)
    fit = {"fit": options.get("fit", "squash")}
    folder = options.get("folder") or own_folder(images, source, size=SIZE, **fit)
    ImageCache.build(source, folder, size=SIZE, workers=1, **fit)
    return own_data(path, images, size=SIZE, **options)


def test_a_folder_and_a_table_become_three_parts(hospital, caplog):
    images, path, table = hospital
    data = opened(images, path, table)
    assert list(data) == ["train", "val", "test"]
    assert sum(map(len, data.values())) == 40
    assert_no_patient_overlap(**{split: part.films for split, part in data.items()})
    for part in data.values():
        assert (part.name, part.findings) == ("own", ("rib fracture", "Mass"))
        assert part.labels.dtype == np.float32
        assert part.labels.shape == (len(part), 2)
        np.testing.assert_array_equal(part.labels, part.films[list(part.findings)].to_numpy(float))
        assert np.isnan(part.labels[:, 1]).any()
        assert part.films.index.tolist() == list(range(len(part)))
        names = part.cache.index["image"].to_numpy()[part.rows]
        assert names.tolist() == part.films["image"].tolist()  # paths, since names are shared
        assert set(part.films["site"]) <= {"A", "B"}
        assert part.patients.tolist() == part.films["patient"].tolist()
        assert part.boxes.columns.tolist() == load_boxes().columns.tolist()
        assert not len(part.boxes)
    assert len(data_hash(data["train"])) == 64
    assert "val and test cut from train by patient, at random (seed 0)" in caplog.text
    assert "Few patients of train, val or test have: rib fracture [" in caplog.text
    again, other = opened(images, path, table), opened(images, path, table, seed=1)
    assert again["test"].films.equals(data["test"].films)
    assert data_hash(again["train"]) == data_hash(data["train"])
    assert not other["test"].films.equals(data["test"].films)
    whole = opened(images, path, table, findings=["rib fracture"])["train"]
    assert (whole.labels.dtype, whole.labels.shape[1]) == (bool, 1)


def test_what_is_not_in_both_is_left_out_and_counted(hospital, caplog):
    images, path, table = hospital
    (images / "p3/s1/IM0").write_bytes(b"\x89PNG cut")
    film(images / "more" / "new.png")
    table.loc[4, ["rib fracture", "mass"]] = None
    table.loc[len(table)] = ["p99/s1/IM0", "099", "A", 1, 1]
    table.to_csv(path, index=False)
    data = own_data(path, images, size=SIZE)  # by processes, as it does where nothing is there yet
    kept = set(pd.concat([part.films["image"] for part in data.values()]))
    assert kept == set(table["path"]) - {"p3/s1/IM0", "p99/s1/IM0", "p2/s1/IM0"}
    for text in (
        f"1 films in {images} have no labels and are left out, such as more/new.png",
        "1 films with labels are not there and are left out, such as p99/s1/IM0",
        "1 films have no finding that is known and are left out, such as p2/s1/IM0",
        "rejected.csv and are left out, such as p3/s1/IM0",
    ):
        assert text in caplog.text
    cache = data["train"].cache
    assert "new.png" not in set(cache.index["image"])
    assert cache.folder.parent == cache_home()
    # Films that come later are added to the same cache.
    film(images / "p3/s1/IM0")
    film(images / "p99/s1/IM0")
    later = opened(images, path, table)
    assert later["train"].cache.folder == cache.folder
    assert sum(map(len, later.values())) == 40


def test_a_split_of_the_file_is_kept_to(hospital, caplog):
    images, path, table = hospital
    number = table["patient"].astype(int)
    table["Split"] = np.select([number < 3, number < 8], ["VALID", "test"], "Train")
    data = opened(images, path, table)
    assert [len(part) for part in data.values()] == [24, 6, 10]
    assert "at random" not in caplog.text
    # A part that the file has not is cut from train.
    table["Split"] = table["Split"].replace("test", "training")
    data = opened(images, path, table)
    assert set(data["val"].patients) == {"000", "001", "002"}
    assert len(data["test"]) > 0
    assert "test cut from train by patient" in caplog.text
    table.loc[0, "Split"] = "train"
    with pytest.raises(ValueError, match="no patient in two parts.*'000'|such as 000"):
        opened(images, path, table)
    table.loc[0, "Split"] = "other"
    with pytest.raises(ValueError, match=r"train, val or test .*got 'other' for 'p0/s1/IM0'"):
        opened(images, path, table)


def test_too_little_is_refused(hospital, tmp_path):
    images, path, table = hospital
    with pytest.raises(ValueError, match="at least 3 patients, got 2"):
        opened(images, path, table.head(4))
    away = table.assign(path="q" + table["path"])
    with pytest.raises(ValueError, match="Expected films among 40, .*got 'qp0/s1/IM0' and 40 that"):
        opened(images, path, away)
    with pytest.raises(ValueError, match="one film for 'IM0', found 20"):
        opened(images, path, table.assign(path=[f"IM{i}" for i in range(40)]))
    with pytest.raises(ValueError, match="fractions of"):
        own_data(path, images, fractions={"train": 0.5, "test": 0.5})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="Expected films"):
        own_data(path, tmp_path / "empty")


def test_a_list_an_archive_and_padding(hospital, tmp_path, caplog):
    images, path, table = hospital
    caplog.set_level(logging.ERROR)
    listed = table[["path"]].assign(
        path="pacs/" + table["path"], image=[f"f{i}" for i in range(40)]
    )
    listed.to_csv(tmp_path / "films.csv", index=False)
    names = table.assign(path=listed["image"])
    data = opened(tmp_path / "films.csv", path, names, fit="pad")
    assert data["train"].cache.fit == "pad"
    assert data["train"].cache.folder.name.endswith(f"-{SIZE}-pad")
    assert sum(map(len, data.values())) == 40
    with tarfile.open(tmp_path / "films.tar.gz", "w:gz") as packed:
        packed.add(images, "pacs")
    data = opened(tmp_path / "films.tar.gz", path, table, folder=tmp_path / "mine")
    assert sum(map(len, data.values())) == 40
    assert data["val"].cache.folder == tmp_path / "mine"


def test_some_of_nihs_films_with_some_of_its_findings(tmp_path, caplog):
    from chexlib.data import load_labels, package_file

    few = load_labels().groupby("patient").head(1).head(12)
    for name in few["image"]:
        film(tmp_path / "images" / name)
    labels = package_file("torchxrayvision", "data", "Data_Entry_2017_v2020.csv.gz")
    source = find_radiographs(tmp_path / "images")
    folder = own_folder(tmp_path / "images", source, size=SIZE)
    assert folder == cache_home() / f"chest-xray14-{SIZE}"
    ImageCache.build(source, folder, size=SIZE, workers=1)
    options = {"size": SIZE, "findings": ["Effusion", "Cardiomegaly"]}
    data = own_data(labels, tmp_path / "images", **options)
    films = pd.concat([part.films for part in data.values()]).set_index("image").loc[few["image"]]
    assert films["Cardiomegaly"].tolist() == few["Cardiomegaly"].tolist()
    assert data["train"].findings == ("Effusion", "Cardiomegaly")
    assert data["train"].labels.dtype == bool
    assert "112,108 films with labels are not there" in caplog.text
