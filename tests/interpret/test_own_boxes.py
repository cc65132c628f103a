"""``chexlib localize`` on films, boxes and findings of one's own."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from chexlib.cli import app
from chexlib.data import open_dataset, read_boxes
from chexlib.interpret import open_boxed
from chexlib.interpret.heatmap import truth_mask
from chexlib.models import CheXNet, save_checkpoint

BOX = {"x": 30, "y": 60, "width": 24, "height": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four phantom films, 100 x 150, with a white plate where the box is; names repeat."""
    path = tmp_path_factory.mktemp("pacs")
    data = open_dataset("phantom", "test", size=150, n_patients=4)
    for k in range(4):
        film = np.asarray(data.cache.images[data.rows[k]])[:, 25:125] // 2
        x, y, w, h = BOX.values()
        film[y : y + h, x : x + w] = 255
        (path / f"p{k}").mkdir()
        cv2.imwrite(str(path / f"p{k}" / "IM0001.png"), film)
    return path


@pytest.fixture
def boxes(tmp_path):
    """A box a film by its path; two patients; of three findings the network knows two."""
    table = pd.DataFrame(
        {
            "Path": [f"export\\p{k}\\IM0001.png" for k in range(4)],
            "Patient ID": ["007", "007", "008", "008"],
            "Finding": ["Plate", "Plate", "Rib fracture", "Ghost"],
            **{name: f"{value},0" for name, value in BOX.items()},
        }
    )
    table.to_csv(tmp_path / "boxes.csv", index=False, sep=";")
    return tmp_path / "boxes.csv"


@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_a_box_is_where_the_network_sees_it(folder, boxes, fit):
    films = open_boxed(folder, boxes=boxes, size=64, cache_size=128, fit=fit)
    assert films.cases["image"].tolist() == [f"p{k}/IM0001.png" for k in range(4)]
    assert films.cases["patient"].tolist() == ["007", "007", "008", "008"]
    for case in films.cases.itertuples():
        seen = films.batcher(np.array([case.film])).numpy()[0, 0] > 0.75
        truth = truth_mask(case.truth, 64)
        assert (seen & truth).sum() / (seen | truth).sum() > 0.75
    (truth,) = films.cases["truth"].iloc[0]
    side, left = (100, 0) if fit == "squash" else (150, 25)
    np.testing.assert_allclose(truth, [(30 + left) / side, 60 / 150, 24 / side, 40 / 150])


def test_films_without_a_patient_are_their_own(folder, boxes):
    table = pd.read_csv(boxes, sep=";").drop(columns="Patient ID")
    table.to_csv(boxes, index=False)
    films = open_boxed(folder, boxes=boxes, size=64)
    assert films.cases["patient"].nunique() == 4


def test_the_command_scores_a_network_of_other_findings(folder, boxes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = CheXNet(growth_rate=4, findings=("Rib fracture", "Plate", "Never drawn"))
    recipe = {"cache_size": 96, "size": 64, "ten_crop": False, "fit": "pad"}
    save_checkpoint(model, tmp_path / "m.safetensors", metadata={"recipe": json.dumps(recipe)})

    def call(*words):
        options = ["--checkpoint", "m.safetensors", "--resamples", "100"]
        return CliRunner().invoke(app, ["localize", *map(str, words), *options])

    done = call(folder, "--boxes", boxes, "--out", "out")
    assert done.exit_code == 0, done.output
    said = "boxes.csv: 3 of 3 films with boxes, 3 cases; left out, unknown to the network: Ghost"
    assert said in done.output
    table = pd.read_csv(tmp_path / "out" / "localization.csv")
    assert table["group"].unique().tolist() == ["Plate", "Rib fracture", "mean of findings"]
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    assert (about["fit"], about["films"]) == ("pad", said)

    for words, message in (
        (("phantom",), "Expected boxes of a finding that the network knows"),
        (("phantom", "--boxes", boxes), "Expected --boxes with films of your own only"),
        ((boxes.parent / "none", "--boxes", boxes), "found nothing"),
    ):
        refused = call(*words, "--out", "other")
        assert refused.exit_code == 1
        assert message in refused.output
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.assign(width="0"), r"a number above 0 in .*, row 2, column 'width'; got '0'"),
        (lambda t: t.assign(x="left"), r"a number of at least 0 in .*column 'x'; got 'left'"),
        (lambda t: t.assign(Finding=" "), r"a name in .*column 'Finding'"),
        (lambda t: t.rename(columns={"height": "to"}), r"found no height among \['Path', "),
        (lambda t: t.drop(columns=["Path", "x"]), r"found no image and no x among"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(boxes, spoil, message):
    spoil(pd.read_csv(boxes, sep=";", dtype=str)).to_csv(boxes, index=False)
    with pytest.raises(ValueError, match=message):
        read_boxes(boxes)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"width": "80,0"}, r"inside p0/IM0001.png, 100 x 150 pixels, got one at"),
        ({"Path": [f"q{k}.png" for k in range(4)]}, r"such as 'q0.png', found none"),
    ],
)
def test_boxes_of_other_films_are_refused(folder, boxes, columns, message):
    pd.read_csv(boxes, sep=";", dtype=str).assign(**columns).to_csv(boxes, index=False)
    with pytest.raises(ValueError, match=message):
        open_boxed(folder, boxes=boxes, size=64)
