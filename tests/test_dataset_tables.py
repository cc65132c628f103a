"""The tables of chapter 1 agree with the labels, with themselves, and with a rebuild."""

from pathlib import Path

import pytest

from chexlib.data import load_boxes, load_labels, table
from chexlib.data.prevalence import prevalence, prevalence_ratio
from chexlib.findings import FINDINGS
from chexlib.text import interval_text

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def labels():
    return load_labels()


def test_the_survey_counts_what_the_labels_hold(labels):
    survey = table("survey_labels").set_index("finding")
    counts = labels[[*FINDINGS, "no_finding"]].sum()
    assert survey["count"].to_dict() == counts.to_dict()
    assert (100 * counts / len(labels)).round(2).to_dict() == survey["percent"].to_dict()


def test_labels_that_were_added_fit_the_file_and_its_boxes(labels):
    changes = table("label_changes").set_index("what")["count"]
    gained = changes["labels gained, Pneumonia"]
    assert changes["Pneumonia in the list of 2017"] + gained == labels["Pneumonia"].sum()
    boxed = load_boxes()
    assert gained <= (boxed["finding"] == "Pneumonia").sum()
    assert changes["images that gained labels"] <= changes["labels gained, all in the box file"]
    assert changes["labels gained, all in the box file"] <= len(boxed)


def test_the_data_card_quotes_what_the_labels_give(labels):
    card = " ".join((ROOT / "book" / "data_card.md").read_text(encoding="utf-8").split())
    edema = prevalence_ratio(labels, ["Edema"], where=labels["view"] == "AP")
    times, interval = interval_text(edema)[0].rstrip(")").split(" (")
    assert f"{times} times as often on AP as on PA films ({interval}".replace("\xa0", " ") in card
    split = table("official_split")
    test = split[(split["subset"] == "all") & (split["part"] == "test")].iloc[0]
    share = [test["n_patients"] / labels["patient"].nunique(), test["n_images"] / len(labels)]
    assert "{:.0%} of the patients and {:.0%} of the films".format(*share) in card


def test_parts_of_the_official_split_and_of_the_lists_hold_all_films(labels):
    split = table("official_split")
    shares = split[(split["statistic"] == "share") & (split["subset"] == "all")]
    assert shares.groupby("part")["n_images"].unique().explode().to_dict() == {
        "test": 25_596,
        "train_val": 86_524,
    }
    sums = shares[shares["kind"] == "finding"].groupby("name")["n_positive"].sum()
    assert sums.to_dict() == labels[[*FINDINGS, "no_finding"]].sum().to_dict()
    azure = table("azure_exclusions").query("name == 'all'").set_index("list")
    assert (azure["n_images"] == 112_120).all()
    assert azure.loc[["any", "lower quality"], "n_excluded"].tolist() == [1168, 1094]


def test_missing_lists_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("CHEXLIB_DATA", str(tmp_path))
    from make_tables import BUILDERS

    with pytest.raises(FileNotFoundError, match="chexlib fetch split"):
        BUILDERS["official_split"]()


def test_films_of_a_part_are_those_that_were_counted(labels):
    first = prevalence(labels[labels["follow_up"] == 0], ["Mass"]).iloc[0]
    split = table("official_split")
    rows = split[(split["subset"] == "first film") & (split["name"] == "Mass")]
    assert rows["n_images"].sum() == first["n_images"] == 30_805
    assert rows["n_positive"].sum() == first["n_positive"]
