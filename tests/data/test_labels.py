"""NIH's tables: what was published is read whole, anything else is refused by row and column."""

import gzip
import os
import subprocess
import sys

import pandas as pd
import pytest

from chexlib.data import load_boxes, load_labels
from chexlib.findings import FINDINGS

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = (
    "00000001_000.png,Cardiomegaly|Mass,0,1,57,M,PA,2682,2749,0.143,0.143",
    "00000001_001.png,No Finding,1,1,58,M,PA,2894,2729,0.143,0.143",
    "00000002_000.png,Pleural_Thickening,0,2,80,F,AP,2500,2048,0.168,0.168",
)


@pytest.fixture(scope="module")
def labels():
    return load_labels()


def write(tmp_path, *rows, header=HEADER):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def test_published_table_in_full(labels):
    assert len(labels) == 112_120
    assert labels["patient"].nunique() == 30_805
    described = "image patient follow_up age sex view width height spacing_x spacing_y".split()
    assert list(labels.columns) == [*described, *FINDINGS, "no_finding"]
    assert labels["age"].max() == 95
    assert not labels.isna().any().any()
    # The survey's counts.
    counts = "11559 2776 13317 19894 5782 6331 1431 5302 4667 2303 2516 1686 3385 227 60361"
    assert labels[[*FINDINGS, "no_finding"]].sum().tolist() == [int(n) for n in counts.split()]
    assert (labels["no_finding"] == ~labels[list(FINDINGS)].any(axis=1)).all()
    assert (labels.dtypes[[*FINDINGS, "no_finding"]] == bool).all()
    assert list(labels["sex"].cat.categories) == ["M", "F"]
    assert list(labels["view"].cat.categories) == ["PA", "AP"]
    assert (labels.dtypes[["patient", "follow_up", "age", "width", "height"]] == "int64").all()


def test_another_file_of_the_format(tmp_path):
    labels = load_labels(write(tmp_path, *ROWS))
    assert labels["image"].tolist() == ["00000001_000.png", "00000001_001.png", "00000002_000.png"]
    assert labels.loc[0, list(FINDINGS)].to_numpy().nonzero()[0].tolist() == [1, 4]
    assert labels["no_finding"].tolist() == [False, True, False]


def test_films_of_ones_own_have_names_of_their_own(tmp_path):
    names = ["P4000001_000.png", "17", "chest/anna.dcm"]
    rows = [",".join([name, row.split(",", 1)[1]]) for name, row in zip(names, ROWS, strict=True)]
    assert load_labels(write(tmp_path, *rows))["image"].tolist() == names
    numbers = [",".join([str(k), row.split(",", 1)[1]]) for k, row in enumerate(ROWS)]
    assert load_labels(write(tmp_path, *numbers))["image"].tolist() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        (ROWS[2].replace("00000002_000.png", ""), "Image Index", "a value"),
        (ROWS[0], "Image Index", "no row twice"),
        (ROWS[2].replace("Pleural_Thickening", "Broken rib"), "Finding Labels", "a known label"),
        (ROWS[2].replace("Pleural_Thickening", "Mass|Mass"), "Finding Labels", "no label twice"),
        (ROWS[2].replace("Pleural_Thickening", "Mass|No Finding"), "Finding Labels", "stand alone"),
        (ROWS[2].replace("Pleural_Thickening", ""), "Finding Labels", "a value"),
        (ROWS[2].replace(",80,", ",eighty,"), "Patient Age", "a whole number"),
        (ROWS[2].replace(",80,", ",-1,"), "Patient Age", "a whole number"),
        (ROWS[2].replace(",80,", ",80.5,"), "Patient Age", "a whole number"),
        (ROWS[2].replace(",F,", ",female,"), "Patient Gender", "one of"),
        (ROWS[2].replace(",AP,", ",LL,"), "View Position", "one of"),
        (ROWS[2].replace("0.168,0.168", "0.168,0"), "y]", "a number above 0"),
        (ROWS[2].replace("0.168,0.168", "0.168,inf"), "y]", "a number above 0"),
        (ROWS[2].replace(",2500,", ",0,"), "OriginalImage[Width", "a whole number"),
        (ROWS[2].rsplit(",", 3)[0], "Height]", "a value"),
    ],
)
def test_damage_is_named_by_file_row_and_column(tmp_path, row, column, message):
    path = write(tmp_path, *ROWS[:2], row)
    with pytest.raises(ValueError, match=message) as error:
        load_labels(path)
    text = str(error.value)
    assert str(path) in text
    assert "row 4" in text
    assert repr(column) in text


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("other.csv", b"Path,Sex,Age\na,F,3\n", r"Expected column 'Image Index' in .*other\.csv"),
        ("empty.csv.gz", b"", "Expected a readable CSV"),
        ("none.csv.gz", b"\xff\xfe\x00\x01", "Expected a readable CSV"),
        ("cut.csv.gz", gzip.compress(b"a,b\n", mtime=0)[:-9], "Expected a readable CSV"),
    ],
)
def test_another_file_or_none_is_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says):
        load_labels(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="Expected a label file at"):
        load_labels(tmp_path / "none.csv")


def test_published_table_cut_short_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path, *ROWS)
    monkeypatch.setattr("chexlib.data.labels.package_file", lambda *_: path)
    with pytest.raises(ValueError, match="Expected 112,120 rows"):
        load_labels()


def test_import_and_labels_are_quick_and_light():
    """Processor time of a fresh process, best of three: a loaded machine is not what is tested."""
    code = (
        "import sys; from chexlib.data import load_labels; load_labels(); "
        "heavy = {'torch', 'torchxrayvision', 'matplotlib', 'sklearn', 'PIL'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True)
        after = os.times()
        seconds.append(sum(after[2:4]) - sum(before[2:4]))  # of child processes: user and system
    assert min(seconds) < 1.5


def test_boxes(labels):
    boxes = load_boxes()
    assert (len(boxes), boxes["image"].nunique()) == (984, 880)
    counts = boxes["finding"].value_counts().to_dict()
    assert counts == {
        "Atelectasis": 180, "Effusion": 153, "Cardiomegaly": 146, "Infiltration": 123,
        "Pneumonia": 120, "Pneumothorax": 98, "Mass": 85, "Nodule": 79,
    }  # fmt: skip
    assert (boxes[["x", "y"]] >= 0).all().all()
    assert (boxes["x"] + boxes["width"]).max() < 1025
    # Every box is in the labels: their file took the boxes in before 2018.
    positive = labels.set_index("image")[list(FINDINGS)].stack()
    pairs = pd.MultiIndex.from_frame(boxes[["image", "finding"]])
    assert positive.loc[pairs].all()


BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
BOX = "00013118_008.png,Infiltrate,225.08,547.02,86.78,79.19"


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        (BOX.replace("Infiltrate", "Heart"), "Finding Label", "a known label"),
        (BOX.replace("225.08", "-3"), "x", "at least 0"),
        (BOX.replace("86.78", "0"), "w", "above 0"),
        (BOX.replace("86.78", "900"), "w", "inside 1024 x 1024"),
        (BOX.replace(",79.19", ","), "h", "a value"),
    ],
)
def test_damaged_boxes(tmp_path, row, column, message):
    path = tmp_path / "boxes.csv"
    path.write_text(f"{BOX_HEADER}\n{BOX.replace('008', '009')},,,\n{row},,,\n")
    with pytest.raises(ValueError, match=message) as error:
        load_boxes(path)
    assert "row 3" in str(error.value)
    assert repr(column) in str(error.value)
    path.write_text(f"{BOX_HEADER}\n{BOX},,,\n")
    assert load_boxes(path)["finding"].tolist() == ["Infiltration"]
