"""Predictions: what is accepted, and where an error says the fault is."""

import time

import numpy as np
import pandas as pd
import pytest

from chexlib.data import load_labels, match_films, match_labels, read_predictions, read_readers
from chexlib.findings import FINDINGS


@pytest.fixture
def frame():
    values = np.random.default_rng(0).random((4, 14))
    table = pd.DataFrame(values, columns=list(FINDINGS))
    table.insert(0, "Image Index", load_labels()["image"].head(4))
    return table


def write(frame, path):
    frame.to_csv(path, index=False)
    return path


def test_names_prefixes_and_order_do_not_matter(frame, tmp_path):
    plain = read_predictions(write(frame, tmp_path / "plain.csv"))
    assert list(plain.columns) == ["image", *FINDINGS]
    assert (plain[list(FINDINGS)] == frame[list(FINDINGS)]).all(axis=None)
    other = frame[["Hernia", "Image Index", *FINDINGS[:13]]].rename(
        columns={"Hernia": "prob_Hernia", "Pleural_Thickening": "pleural thickening"}
    )
    path = tmp_path / "other.csv"
    path.write_text("\ufeff" + other.to_csv(index=False) + "\n\n", encoding="utf-8")
    pd.testing.assert_frame_equal(read_predictions(path), plain)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="Mass"), "missing: Mass"),
        (lambda t: t.drop(columns="Image Index"), "missing: Image Index"),
        (lambda t: t.assign(Fracture=0.1), r"of no finding: \['Fracture'\]. Remove the column"),
        (lambda t: t.assign(prob_Mass=0.1), "each column once.*'Mass' and 'prob_Mass'"),
        (lambda t: t.assign(Mass=[0.1, 500, 0, 0]), "row 3, column 'Mass'; got '500.0'"),
        (lambda t: t.assign(Mass=[1, 95, 0, 0]), "divide by 100.*row 3, column 'Mass'; got '95'"),
        (lambda t: t.assign(Mass=[0.1, 0.2, -3, 0]), "sigmoid.*row 4, column 'Mass'; got '-3.0'"),
        (lambda t: t.assign(Mass=[0.1, None, 0, 0]), "a number.*row 3, column 'Mass'; got ''"),
        (lambda t: t.assign(Mass=["x", 1, 0, 0]), "a number.*row 2, column 'Mass'; got 'x'"),
        (lambda t: pd.concat([t, t.head(1)]), "no image twice.*row 6"),
        (lambda t: t.assign(**{"Image Index": ["a", " ", "b", "c"]}), "image name.*row 3"),
        (lambda t: t.head(0), "header alone"),
    ],
)
def test_faults_are_named_with_their_place(frame, tmp_path, spoil, message):
    path = write(spoil(frame), tmp_path / "spoilt.csv")
    with pytest.raises(ValueError, match=message) as caught:
        read_predictions(path)
    assert "spoilt.csv" in str(caught.value)


def test_broken_files(frame, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_predictions(tmp_path / "none.csv")
    path = tmp_path / "broken.csv"
    path.write_text("")
    with pytest.raises(ValueError, match="CSV of predictions"):
        read_predictions(path)
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match="CSV of predictions"):
        read_predictions(path)
    lines = frame.to_csv(index=False).splitlines()
    path.write_text("\n".join([*lines[:2], lines[2] + ",0.5", *lines[3:]]))
    with pytest.raises(ValueError, match="15 values.*row 3, got 16"):
        read_predictions(path)


def test_findings_of_other_networks(frame, tmp_path):
    """Another list, or whatever the file has; what says which film it is is no finding."""
    path = tmp_path / "own.csv"
    path.write_text(
        "Image Index;Path;SOPInstanceUID;PatientID;rib;prob_mass;site\n"
        "'=IM1;p1/=IM1;1.2;0007;0,25;1;A\nIM2;p2/IM2;1.3;0008;0;0,5;B\n",
        encoding="utf-16",
    )
    found = read_predictions(path, findings=None)
    assert list(found.columns) == ["image", "path", "rib", "Mass"]
    assert found["image"].tolist() == ["=IM1", "IM2"]
    assert found["rib"].tolist() == [0.25, 0]
    assert found.attrs["unused"] == ["site"]
    found = read_predictions(path, findings=["Mass"])
    assert list(found.columns) == ["image", "path", "Mass"]
    assert found.attrs["unused"] == ["rib", "site"]
    with pytest.raises(ValueError, match="missing: nodule|missing: Nodule"):
        read_predictions(path, findings=["nodule"])
    path.write_text("Image Index,site\na,b\n")
    with pytest.raises(ValueError, match="some findings as columns"):
        read_predictions(path, findings=None)
    identified = frame.assign(Path="x", SOPInstanceUID="1.2", StudyInstanceUID="1", PatientID="2")
    strict = read_predictions(write(identified, tmp_path / "identified.csv"))
    assert list(strict.columns) == ["image", "path", *FINDINGS]


PATHS = ["set/p1/a.png", "set/p2/a.png", "b.dcm", "c/d.PNG"]


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        (["b.dcm", "set/p1/a.png", "b.dcm"], [2, 0, 2]),
        (["p2/a.png", "/old/disk/set/p1/a.png"], [1, 0]),
        (["p2\\a.png", "D:\\set\\p1\\a.png"], [1, 0]),
        (["b", "d", "x/c/d.jpg"], None),
        (["b", "d"], [2, 3]),
        (["b.png", "d.dcm"], [2, 3]),
    ],
)
def test_films_are_found_by_name_or_path(wanted, place):
    if place is None:
        with pytest.raises(ValueError, match="films apart, got 'd' and 'x/c/d.jpg'"):
            match_films(wanted, PATHS)
    else:
        assert match_films(wanted, PATHS).tolist() == place


def test_films_that_are_not_clear_are_refused():
    with pytest.raises(ValueError, match=r"one film for 'a.png', found 2, such as 'set/p1/a.png'"):
        match_films(["a.png"], PATHS)
    # Folders contradict: another patient's film of the same name is not taken for it.
    found = match_films(["q/p1/a.png", "y/d.png", "b"], PATHS, strict=False)
    assert found.tolist() == [-1, -1, 2]
    with pytest.raises(ValueError, match="such as 'set/p1/a.png', got 'set/p3/a.png' and 1 that"):
        match_films(["set/p3/a.png", "b.dcm"], PATHS)
    with pytest.raises(ValueError, match="Expected films among 0"):
        match_films(["a"], [])
    assert match_films([], PATHS).tolist() == []


def test_many_films_of_one_name_are_matched_in_no_time():
    paths = [f"p{i}/s/IM0001" for i in range(40_000)]
    began = time.process_time()
    place = match_films([f"root/{path}" for path in paths[::-1]], paths)
    assert place.tolist() == list(range(len(paths)))[::-1]
    assert time.process_time() - began < 20


def test_labels_are_found_by_path_where_names_do_not_tell():
    labels = pd.DataFrame({"image": ["p1/IM1", "p2/IM1", "x.png"], "n": [1, 2, 3]})
    found = pd.DataFrame({"image": ["IM1", "x.png"], "path": ["all/p2/IM1", "all/p9/x.png"]})
    assert match_labels(found, labels)["n"].tolist() == [2, 3]
    assert match_labels(found[["image"]].tail(1), labels)["n"].tolist() == [3]
    with pytest.raises(ValueError, match="one film for 'IM1', found 2"):
        match_labels(found[["image"]], labels)


def test_labels_follow_the_predictions():
    labels = load_labels()
    chosen = labels.sample(50, random_state=0)
    matched = match_labels(chosen[["image"]], labels)
    assert matched["image"].tolist() == chosen["image"].tolist()
    assert matched["Mass"].tolist() == chosen["Mass"].tolist()
    assert matched.index.tolist() == list(range(50))
    strange = pd.DataFrame({"image": [labels["image"][0], "mine.png"]})
    with pytest.raises(ValueError, match=r"'mine.png' in my.csv, row 3, and 1 without"):
        match_labels(strange, labels, source="my.csv")
    with pytest.raises(ValueError, match="once in the labels"):
        match_labels(strange, pd.concat([labels.head(1)] * 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,reader\na,x\n", "at least one finding"),
        ("image,Mass\na,1\n", "'image', 'reader'"),
        ("image,reader,Mass,mass\na,x,1,0\n", "each column once"),
        ("image,reader,Mass\na,x,1\na,y,2\n", "row 3, column 'Mass'; got '2'"),
        ("image,reader,Mass\na,x,1\na,x,0\n", "by one reader.*row 3"),
        ("image,reader,Mass\na,x,1\nb,x,0\n", "at least two readers.*'x' alone"),
        ("image,reader,Mass\na,,1\nb,x,0\n", "a name.*row 2, column 'reader'"),
    ],
)
def test_reads_that_are_none_are_refused(tmp_path, text, message):
    path = tmp_path / "reads.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_readers(path)
