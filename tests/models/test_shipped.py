"""The weights that come with the book are what they say."""

import json

import numpy as np
import pytest

from chexlib.data import open_dataset
from chexlib.models import load_checkpoint, phantom_checkpoint
from chexlib.training import RECIPES, predict
from chexlib.training.run import auroc_with_intervals


@pytest.fixture(scope="module")
def model():
    return load_checkpoint(phantom_checkpoint())


def test_small_enough_to_ship():
    assert phantom_checkpoint().stat().st_size <= 4_000_000


def test_says_how_it_was_made(model):
    known = model.provenance["metadata"]
    recipe = json.loads(known["recipe"])
    assert recipe["dataset"] == "phantom"
    assert recipe["name"] in RECIPES
    assert known["command"].startswith("chexlib train --recipe phantom-cpu")
    assert set(json.loads(known["data"])) == {"train", "val", "test"}
    assert "Not for clinical use" in known["about"]


def test_reaches_what_it_states(model):
    """On all test films; to 0.002, since another processor rounds otherwise."""
    known = model.provenance["metadata"]
    stated, recipe = json.loads(known["metrics"]), json.loads(known["recipe"])
    films = open_dataset("phantom", "test", size=recipe["cache_size"])
    scores = predict(model, films, size=recipe["size"])
    found = auroc_with_intervals(films.truth, scores, films.patients)
    assert len(films) == stated["films"]
    for end in ("estimate", "low", "high"):
        assert np.isclose(found["mean_auroc"][end], stated["mean_auroc"][end], atol=2e-3)
    for name, value in stated["auroc"].items():
        assert value["positives"] == found["auroc"][name]["positives"] >= 100
        assert np.isclose(found["auroc"][name]["estimate"], value["estimate"], atol=5e-3), name
    assert stated["mean_auroc"]["low"] >= 0.85


def test_says_with_what_it_began(model):
    first = json.loads(model.provenance["metadata"]["began_with"])
    assert first["size"] < json.loads(model.provenance["metadata"]["recipe"])["size"]
    assert first["epochs"] > 0
