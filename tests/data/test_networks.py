"""Scores of eighty networks, joined with names by their labels, and relabelled films."""

import bz2
import json
import re
import sys

import convert_networks
import numpy as np
import pandas as pd
import pytest

from chexlib.data import load_labels, load_networks, load_relabelled
from chexlib.findings import FINDINGS

MEN, WOMEN, FULL = 9, 7, 4  # films in a made list of each sex, and in a full batch


@pytest.fixture
def published(tmp_path):
    """Two checkouts as published: lists with names, and scores in the generator's order without."""
    random, truth = np.random.default_rng(3), {}
    for fold in (0, 1):
        named = {}
        for first, (sex, value, n) in ((1, ("males", 1, MEN)), (500, ("female", 0, WOMEN))):
            path = tmp_path / "lists" / convert_networks.LIST.format(fold=fold, sex=sex)
            path.parent.mkdir(parents=True, exist_ok=True)
            films = pd.DataFrame(random.integers(0, 2, (n, 14)), columns=list(FINDINGS))
            films.insert(
                0, "Image Index", [f"{fold * 1000 + first + i:08d}_000.png" for i in range(n)]
            )
            films.to_csv(path, index=False)
            named[value] = films.sample(frac=1, random_state=1).head(n // FULL * FULL)
        rows = pd.concat(named.values())
        for women in convert_networks.WOMEN_PERCENT:
            score = random.uniform(0, 1, (len(rows), 14)).astype(np.float32)
            truth[fold, women] = pd.DataFrame(score, rows["Image Index"], FINDINGS)
            for j, name in enumerate(FINDINGS):
                path = (
                    tmp_path
                    / "scores"
                    / convert_networks.SCORE.format(women=women, finding=name, fold=fold)
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                man = np.repeat(list(named), [len(part) for part in named.values()])
                pd.DataFrame({"y": rows[name].to_numpy(), "y_prob": score[:, j], "a": man}).to_csv(
                    path
                )
    return tmp_path / "lists", tmp_path / "scores", truth


@pytest.fixture
def made(tmp_path, published):
    lists, scores, truth = published
    path = tmp_path / "predictions.npz"
    np.savez_compressed(path, **convert_networks.convert(lists, scores, folds=2))
    return path, truth


def test_names_come_back_to_their_scores(made):
    path, truth = made
    rows = load_networks(path)
    assert len(rows) == 2 * 4 * 12  # of 9 men 8 are in full batches, of 7 women 4
    for (fold, women), expected in truth.items():
        alone = load_networks(path, women_percent=women)
        got = alone[alone["fold"] == fold].set_index("image")[list(FINDINGS)]
        assert (got.dtypes == np.float32).all()
        np.testing.assert_allclose(got.loc[expected.index], expected, atol=7e-5)


def test_labels_that_do_not_agree_are_no_join(published, tmp_path, monkeypatch):
    lists, scores, _ = published
    path = scores / convert_networks.SCORE.format(women=25, finding="Mass", fold=1)
    file = pd.read_csv(path, index_col=0)
    file.loc[3, "y"] = 1 - file.loc[3, "y"]
    file.to_csv(path)
    out = tmp_path / "out.npz"
    monkeypatch.setattr(sys, "argv", ["convert", str(lists), str(scores), str(out)])
    with pytest.raises(SystemExit, match="the scores of fold 1, 25% women, sex 1, got others"):
        convert_networks.main()
    assert not out.exists()


def test_a_missing_table_is_named(published):
    lists, scores, _ = published
    with pytest.raises(SystemExit, match=r"Fold_2/test_males.csv, found none"):
        convert_networks.convert(lists, scores, folds=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logit": None}, "Expected arrays image, fold, women_percent, logit, names in"),
        ({"logit": np.zeros((96, 13), np.uint16)}, r"Expected logit of shape \(96, 14\)"),
        ({"logit": np.zeros((96, 14), np.float32)}, r"got shape \(96, 14\) and kind 'f'"),
        ({"image": np.full(96, 24, np.uint16)}, "Expected indices below 24"),
        ({"women_percent": np.full(96, 75, np.uint8)}, "row 1, column 'women_percent'; got 75"),
        ({"names": np.array([b"film.png"] * 24)}, "Expected an image name such as"),
        ({"names": np.array([{}] * 24)}, "pickled data|allow_pickle"),
    ],
)
def test_a_damaged_file_is_refused(made, change, message):
    path, _ = made
    with np.load(path) as file:
        arrays = {name: value for name, value in (dict(file) | change).items() if value is not None}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message):
        load_networks(path)


def test_what_is_no_archive_or_not_there_is_refused(tmp_path):
    path = tmp_path / "predictions.npz"
    with pytest.raises(FileNotFoundError, match=r"convert_networks\.py"):
        load_networks(path)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="Expected arrays"):
        load_networks(path)
    with pytest.raises(ValueError, match="Expected women_percent of"):
        load_networks(path, women_percent=75)


FILM = ["images/00000001_000.png", ["car", "her"], 57, "M"]


def lists(tmp_path, **parts):
    path = tmp_path / "default.json.bz2"
    path.write_bytes(bz2.compress(json.dumps(parts).encode()))
    return path


def test_relabelled_lists_are_read(tmp_path):
    other = ["images/00000002_000.png", [], 80, "F"]
    films = load_relabelled(lists(tmp_path, train=[FILM], validation=[], test=[other]))
    assert films["part"].tolist() == ["train", "test"]
    assert films.loc[0, list(FINDINGS)].sum() == 2
    assert films.loc[0, ["Cardiomegaly", "Hernia"]].all()
    assert films.loc[1, ["image", "age", "sex"]].tolist() == ["00000002_000.png", 80, "F"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": [FILM]}, "Expected lists train, validation, test of"),
        ({"train": [FILM[:3]], "validation": [], "test": []}, "Expected lists train"),
        (
            {"train": [FILM], "validation": [[*FILM[:3], "X"]], "test": []},
            "row 2, column 'sex'; got 'X'",
        ),
        ({"train": [FILM, FILM], "validation": [], "test": []}, "Expected no row twice"),
        (
            {"train": [[FILM[0], ["xyz"], 57, "M"]], "validation": [], "test": []},
            "row 1, column 'codes'; got ['xyz']",
        ),
    ],
)
def test_a_damaged_list_is_refused(tmp_path, parts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_relabelled(lists(tmp_path, **parts))


@pytest.mark.real_data("networks/predictions.npz")
def test_the_real_scores():
    rows = load_networks(women_percent=50)
    assert rows.groupby("fold").size().size == 20
    assert rows["image"].nunique() <= rows["image"].cat.categories.size == 52_011
    labels = load_labels().set_index("image").loc[rows["image"]]
    for sex, published in (("F", 0.797), ("M", 0.823)):  # means over findings and folds
        from chexlib.metrics import auroc

        here = (labels["sex"] == sex).to_numpy()
        found = [
            auroc(
                labels[list(FINDINGS)].to_numpy()[part], rows[list(FINDINGS)].to_numpy()[part]
            ).mean()
            for fold in range(20)
            if (part := here & (rows["fold"] == fold).to_numpy()).any()
        ]
        assert np.mean(found) == pytest.approx(published, abs=5e-4)


@pytest.mark.real_data("chexnext/default.json.bz2")
def test_the_real_lists():
    films = load_relabelled()
    assert films["part"].value_counts().to_dict() == {
        "train": 98_637,
        "test": 7_133,
        "validation": 6_350,
    }
    labels = load_labels().set_index("image").loc[films["image"], list(FINDINGS)].to_numpy()
    test = (films["part"] == "test").to_numpy()
    assert (films[list(FINDINGS)].to_numpy()[test] == labels[test]).all()
    assert films.loc[~test, "Hernia"].sum() == 5_349
