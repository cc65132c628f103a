"""Splits keep patients whole, keep findings balanced, and say what is wrong with a list."""

import numpy as np
import pandas as pd
import pytest

from chexlib.data import data_home, load_boxes, load_labels
from chexlib.data.splits import (
    assert_no_patient_overlap,
    identity_scores,
    official_split,
    patient_split,
)
from chexlib.findings import FINDINGS


@pytest.fixture(scope="module")
def labels():
    return load_labels()


@pytest.fixture(scope="module")
def split(labels):
    return patient_split(labels, seed=3)


def test_patients_are_whole_and_findings_balanced_over_them(labels, split):
    assert_no_patient_overlap(**{part: labels[split == part] for part in ("train", "val", "test")})
    assert split.notna().all()
    shares = split.groupby(labels["patient"]).first().value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.7, abs=0.005)
    assert shares["val"] == pytest.approx(0.1, abs=0.005)
    assert split.value_counts(normalize=True)["test"] == pytest.approx(0.2, abs=0.01)
    # Hernia has 134 patients: 13 of them make a tenth, so one more or less shows.
    patients = labels.groupby("patient")[list(FINDINGS)].any()
    part = split.groupby(labels["patient"]).first()
    share = patients.groupby(part, observed=True).mean() / patients.mean()
    assert np.abs(share - 1).max().max() < 0.05


def test_seed_fractions_and_index_are_ones_own(labels):
    some = labels[labels["patient"] < 1000].sample(frac=1, random_state=0)
    assert patient_split(some, seed=1).equals(patient_split(some, seed=1))
    assert not patient_split(some, seed=1).equals(patient_split(some, seed=2))
    split = patient_split(some, fractions={"choose": 0.5, "report": 0.5})
    assert split.index.equals(some.index)
    assert set(split) == {"choose", "report"}


@pytest.mark.parametrize(
    "fractions", [{"a": 1.0}, {"a": 0.5, "b": 0.6}, {"a": 1.5, "b": -0.5}, {"a": np.nan, "b": 1}]
)
def test_wrong_fractions_or_too_few_patients(labels, fractions):
    with pytest.raises(ValueError, match="sum to one"):
        patient_split(labels.head(50), fractions=fractions)
    with pytest.raises(ValueError, match="at least 3 patients, got 1"):
        patient_split(labels[labels["patient"] == 1])


def test_overlap_is_named():
    one, other = pd.DataFrame({"patient": [1, 2]}), pd.DataFrame({"patient": [2, 3]})
    with pytest.raises(ValueError, match="1 in both 'a' and 'b', such as 2"):
        assert_no_patient_overlap(a=one, b=other)
    with pytest.raises(ValueError, match="two or more parts, got 1"):
        assert_no_patient_overlap(a=one)


def lists(folder, train_val, test):
    (folder / "train_val_list.txt").write_text("\n".join(train_val) + "\n")
    (folder / "test_list.txt").write_text("\n".join(test) + "\n")
    return folder


FILMS = pd.DataFrame({"image": ["a.png", "b.png", "c.png"]}, index=[5, 6, 7])


def test_official_lists_are_followed_and_absent_ones_name_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="chexlib fetch split"):
        official_split(FILMS, folder=tmp_path)
    split = official_split(FILMS, folder=lists(tmp_path, ["c.png", "a.png"], ["b.png", "z.png"]))
    assert split.to_dict() == {5: "train_val", 6: "test", 7: "train_val"}


@pytest.mark.parametrize(
    ("train_val", "test", "message"),
    [
        (["a.png", "a.png"], ["b.png", "c.png"], "a.png twice: in train_val"),
        (["a.png", "b.png"], ["b.png", "c.png"], "b.png twice: in train_val and test"),
        (["a.png"], ["b.png"], "c.png in none"),
    ],
)
def test_damaged_lists(tmp_path, train_val, test, message):
    with pytest.raises(ValueError, match=message):
        official_split(FILMS, folder=lists(tmp_path, train_val, test))


@pytest.mark.real_data
def test_the_official_split(labels):
    if not (data_home() / "official_split").is_dir():
        pytest.skip("no official lists: run `chexlib fetch split`")
    split = official_split(labels)
    assert split.value_counts().to_dict() == {"train_val": 86_524, "test": 25_596}
    assert labels["patient"].groupby(split, observed=True).nunique().to_dict() == {
        "train_val": 28_008,
        "test": 2_797,
    }
    assert_no_patient_overlap(train=labels[split == "train_val"], test=labels[split == "test"])
    boxed = set(load_boxes()["image"])
    assert set(split[labels["image"].isin(boxed)]) == {"test"}


def test_identity_alone_scores_what_a_patients_other_films_say():
    train = pd.DataFrame(np.zeros((4, 14), bool), columns=list(FINDINGS)).assign(
        patient=[1, 1, 2, 3]
    )
    train.loc[[0, 2], "Mass"] = True
    scores = identity_scores(train, pd.DataFrame({"patient": [2, 1, 9]}))
    assert scores.shape == (3, 14)
    assert scores[:, FINDINGS.index("Mass")].tolist() == [1, 0.5, 0.5]  # 9 is nobody's number
    assert not scores[:, FINDINGS.index("Hernia")].any()
