"""Labels of one's own: what hospitals and other data sets write is read, or named."""

import gzip

import numpy as np
import pandas as pd
import pytest

from chexlib.data import load_labels, read_labels
from chexlib.findings import FINDINGS

CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Fracture\n"
    "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,0.0,\n"
    "CheXpert-v1.0/train/patient00002/study2/view1_frontal.jpg,Male,87,Frontal,AP,,-1.0,1.0\n"
    "CheXpert-v1.0/train/patient00002/study1/view2_lateral.jpg,Unknown,0,Lateral,,,,0.0\n"
)
PADCHEST = (
    ",ImageID,ImageDir,StudyID,PatientID,PatientSex_DICOM,Projection,PixelRepresentation_DICOM,"
    "Labels\n"
    "0,a.png,0,5,0012,F,PA,0,\"['pleural effusion', 'loc basal', 'mass ']\"\n"
    "1,b.png,1,5,0013,M,L,0,['normal']\n"
    "2,c.png,1,6,0013,M,PA,0,\"['mass', '']\"\n"
)


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("separator", "encoding"),
    [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16"), (";", "utf-16-le")],
)
def test_separators_and_encodings_of_any_country_are_read(tmp_path, separator, encoding):
    decimal = "57,5" if separator != "," else '"57,5"'
    rows = [
        ["Dateiname", "filename", "PatientID", "Age", "Gender", "site", "Rib fracture", "mass"],
        ["x", "Müller/001.png", "007", decimal, "female", "Köln", "1", "0.0"],
        ["y", "Müller/002.png", "1e5", "", "M", "Bonn", "", "1,0" if separator != "," else "1"],
        ["z", "'=3.png", "NA", "063Y", "", "Bonn", "False", "TRUE"],
        [""] * 8,
    ]
    text = "\r\n".join(separator.join(row) for row in rows) + "\r\n"
    labels, names = read_labels(written(tmp_path, text, encoding))
    assert names == ("Rib fracture", "Mass")
    assert labels["image"].tolist() == ["Müller/001.png", "Müller/002.png", "=3.png"]
    assert labels["patient"].tolist() == ["007", "1e5", "film =3.png"]
    np.testing.assert_array_equal(labels["age"], [57.5, np.nan, 63])
    assert labels["sex"].tolist() == ["F", "M", ""]
    assert labels["site"].tolist() == ["Köln", "Bonn", "Bonn"]
    np.testing.assert_array_equal(labels["Rib fracture"], [1, np.nan, 0])
    assert labels["Mass"].dtype == bool
    assert labels["Mass"].tolist() == [False, True, True]
    packed = tmp_path / "labels.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "labels.csv").read_bytes()))
    pd.testing.assert_frame_equal(read_labels(packed)[0], labels)


def test_the_published_table_is_one_case(tmp_path):
    nih = load_labels().head(300)
    from chexlib.data import package_file

    path = package_file("torchxrayvision", "data", "Data_Entry_2017_v2020.csv.gz")
    text = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)[:301]
    labels, names = read_labels(written(tmp_path, "".join(text)))
    assert names == FINDINGS
    assert set(labels.columns) == set(nih.columns)
    for column in nih.columns:
        wanted = nih[column].astype(str) if column == "patient" else nih[column]
        assert labels[column].tolist() == wanted.tolist()
    some, names = read_labels(written(tmp_path, "".join(text)), findings=["effusion", "Rare"])
    assert names == ("Effusion", "Rare")
    assert some["Effusion"].tolist() == nih["Effusion"].tolist()
    assert not some["Rare"].any()
    # Ages that are not known and lateral views are data.
    odd = text[1].split(",")
    odd[4], odd[6] = "", "LATERAL"
    labels, _ = read_labels(written(tmp_path, text[0] + ",".join(odd)))
    assert np.isnan(labels["age"][0])
    assert labels["view"][0] == "LATERAL"


def test_chexpert_is_read_once_it_is_said_what_uncertain_means(tmp_path):
    path = written(tmp_path, CHEXPERT)
    with pytest.raises(ValueError, match=r"uncertain=.*row 3, column 'Edema'; got '-1.0'"):
        read_labels(path)
    for uncertain, value in (("positive", 1), ("negative", 0), ("missing", np.nan)):
        labels, names = read_labels(path, uncertain=uncertain)
        assert names == ("Edema", "Fracture")
        np.testing.assert_array_equal(labels["Edema"], [0, value, np.nan])
    assert labels["patient"].tolist() == ["patient00001", "patient00002", "patient00002"]
    assert labels["sex"].tolist() == ["F", "M", "Unknown"]
    assert labels["view"].tolist() == ["AP", "AP", ""]
    assert labels["Frontal/Lateral"].tolist() == ["Frontal", "Frontal", "Lateral"]
    assert read_labels(path, findings=["Fracture"])[1] == ("Fracture",)
    with pytest.raises(ValueError, match="Expected uncertain of"):
        read_labels(path, uncertain="maybe")


def test_padchest_is_read(tmp_path):
    path = written(tmp_path, PADCHEST)
    labels, names = read_labels(path)
    assert names == ("Effusion", "Mass", "loc basal", "normal")
    assert labels["Effusion"].tolist() == [True, False, False]
    assert labels["Mass"].tolist() == [True, False, True]
    assert labels["patient"].tolist() == ["0012", "0013", "0013"]
    assert labels["view"].tolist() == ["PA", "L", "PA"]
    assert labels["ImageDir"].tolist() == ["0", "1", "1"]
    labels, names = read_labels(path, findings=["mass", "pleural effusion"])
    assert names == ("Mass", "Effusion")
    kept = ["ImageDir", "StudyID", "PixelRepresentation_DICOM"]
    assert list(labels.columns[4:]) == ["Mass", "Effusion", "no_finding", *kept]


def test_names_in_one_column(tmp_path):
    text = "image,findings,reader\na.png,rib + mass,K\nb.png,no finding,K\nc.png,,L\nd.png,mass,L\n"
    labels, names = read_labels(written(tmp_path, text), separator="+")
    assert names == ("Mass", "rib")
    np.testing.assert_array_equal(labels["rib"], [1, 0, np.nan, 0])
    assert labels["no_finding"].tolist() == [False, True, False, False]
    with pytest.raises(ValueError, match="has to stand alone.*row 2, column 'label'"):
        read_labels(written(tmp_path, "image,label\na,mass|No Finding\n"))
    many = "".join(f"{i}.png,a report of film {i}\n" for i in range(1200))
    with pytest.raises(ValueError, match=r"at most 1,000 findings.*separator="):
        read_labels(written(tmp_path, "image,findings\n" + many))
    # A column of 0 and 1 is a finding, whatever its title.
    assert read_labels(written(tmp_path, "image,label\na,1\nb,0\n"))[1] == ("label",)
    # Columns that are named win over a column of names.
    both = "image,label,mass,rib\na,mass,1,0\nb,rib,0,1\n"
    labels, names = read_labels(written(tmp_path, both), findings=["rib"])
    assert names == ("rib",)
    assert labels["rib"].tolist() == [False, True]


def test_what_else_a_file_may_have(tmp_path):
    text = (
        "image,path,split,weight,view,x,half\n"
        "one,/old/00000013_005.png,Train,0.5,LATERAL,1,0.5\n"
        "two,b\\c.dcm,valid,2,,0,0.25\n"
    )
    labels, names = read_labels(written(tmp_path, text))
    assert names == ("x",)
    assert list(labels.columns) == ["image", "patient", "view", "split", "weight", "x", "half"]
    assert labels["image"].tolist() == ["/old/00000013_005.png", "b\\c.dcm"]
    assert labels["patient"].tolist() == ["00000013", "film b\\c.dcm"]
    assert labels["weight"].tolist() == [0.5, 2]
    assert labels["half"].tolist() == ["0.5", "0.25"]


MOSTLY = "".join(f"{i},1\n" for i in range(20))


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("image,x\na,1\na,0\n", {}, "no image twice in .*row 3, column 'image'; got 'a'"),
        ("image,x\n,1\n", {}, "a film's name or path.*row 2"),
        ("image,x,x\na,1,0\n", {}, "each column once.*'x' and 'x'"),
        ("image,Effusion,pleural effusion\na,1,0\n", {}, "'Effusion' and 'pleural effusion'"),
        ("x,y\n1,0\n", {}, r"Expected a column of films in .*found \['x', 'y'\]"),
        ("image,x\na,\nb,\n", {}, "Expected findings in .*some 0 or 1"),
        ("image,x\na,\n", {"findings": ["x"]}, r"Expected findings \['x'\]"),
        ("image,x\na,word\n", {}, "Expected findings in"),
        ("image,x\na,1\n", {"findings": ["y"]}, r"Expected findings \['y'\].*found \['x'\]"),
        ("image,x\na,0.5\n", {"findings": ["x"]}, "0, 1 or nothing.*row 2, column 'x'; got '0.5'"),
        (f"image,x\n{MOSTLY}z,l\n", {}, "row 22, column 'x'; got 'l'"),
        ("image,age,x\na,old,1\n", {}, "age in years.*row 2, column 'age'; got 'old'"),
        ("image,age,x\na,-3,1\n", {}, "age in years.*got '-3'"),
        ("image,weight,x\na,,1\n", {}, "a weight.*row 2, column 'weight'; got ''"),
        ("image,x\na,0,5\n", {}, "2 values between ',' in .*row 2, got 3.*decimal comma"),
        ("image,x\n", {}, "header alone"),
        ("", {}, "Expected a CSV of labels"),
        (b"image,x\nM\xfcller,1\n", {}, 'in UTF-8 or UTF-16 .*Save the table as "CSV UTF-8"'),
        (b"PK\x03\x04\x14\0\x06\xff\xfe", {}, "Expected a CSV of labels"),
        (b"\x1f\x8b\x08cut", {}, "Expected a CSV of labels"),
        ("image," + ",".join(map(str, range(1_000_000))) + "\na\n", {}, "Expected a CSV of labels"),
    ],
)  # fmt: skip
def test_faults_are_named_with_their_place(tmp_path, text, options, says):
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=says) as caught:
        read_labels(path, **options)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected a file of labels"):
        read_labels(tmp_path / "none.csv")
