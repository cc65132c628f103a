"""The tables of chapter 13 are of the phantom and the network as they are, and agree with both."""

import json

import numpy as np
import pandas as pd
import pytest

from chexlib.data import Batcher, table
from chexlib.data.phantom import Film, render
from chexlib.findings import FINDINGS
from chexlib.interpret import HeatMap, find_cases, maps_of, score_cases
from chexlib.models import load_checkpoint, phantom_checkpoint

MEAN = "mean of findings"
PLACES = ("on the lesion", "off-centre", "elsewhere")


def test_every_case_has_one_verdict():
    frame = table("cam_verdicts").pivot(index="finding", columns="share", values="estimate")
    assert set(frame.index) == {*FINDINGS, MEAN}
    called = frame[[f"called, {place}" for place in PLACES]].sum(axis=1)
    missed = frame[[f"missed, {place}" for place in PLACES]].sum(axis=1)
    np.testing.assert_allclose(called, frame["called"])
    np.testing.assert_allclose(called + missed, 1)
    of_called = frame[[f"{place}, of called" for place in PLACES]]
    np.testing.assert_allclose(of_called.sum(axis=1), 1)
    one = frame.loc["Mass"]
    assert one["called, elsewhere"] == pytest.approx(one["called"] * one["elsewhere, of called"])


def test_another_films_map_is_counted_on_the_same_cases():
    frame = table("cam_verdicts").pivot(index="finding", columns="share", values="estimate")
    for answer in ("called", "missed"):
        shares = frame[[f"{place}, other film's map, of {answer}" for place in PLACES]]
        np.testing.assert_allclose(shares.sum(axis=1).dropna(), 1)
    # The survey's first case: of missed films more have the map in the wrong place.
    rows = table("cam_verdicts").query("share == 'elsewhere, missed less called'")
    less = frame["elsewhere, of missed"] - frame["elsewhere, of called"]
    np.testing.assert_allclose(rows.set_index("finding")["estimate"], less[rows["finding"]])
    assert rows.set_index("finding").loc[MEAN, "low"] > 0


def test_wide_is_about_half_of_all_maps():
    frame = table("cam_verdicts").pivot(index="finding", columns="share", values="estimate")
    frame = frame.loc[list(FINDINGS)]
    wide = frame["called"] * frame["wide, of called"]
    wide += (1 - frame["called"]) * frame["wide, of missed"].fillna(0)
    assert wide.between(0.4, 0.5 + 1e-9).all()  # ties with the median are not wide


def test_nobody_beats_the_judge_who_knows_the_answer():
    frame = table("cam_methods").query("metric == 'hit'")
    hits = frame.pivot(index="finding", columns="source", values="estimate")
    for source in ("cam", "twin", "copied", "other film"):
        assert (hits[source] <= hits["best cell 112"] + 0.02).all(), source
    assert (hits["cam 224"] <= hits["best cell 224"] + 0.02).all()


def test_on_its_own_scale_every_map_is_hot():
    hot = table("cam_scales").set_index(["scale", "kind"])["hot"]
    assert (hot["map"] == 1).all()
    assert hot["ratio", "absent, unlikely"] < hot["shared", "absent, unlikely"] + 0.5
    assert hot["ratio", "absent, unlikely"] < hot["ratio", "present, called"]


@pytest.fixture
def verdicts():
    from tables_cam import verdicts

    return verdicts


def test_verdicts_count_the_three_pictures(verdicts):
    scores = pd.DataFrame({"hit": [1, 0, 0, 1.0], "iou_180": [0.4, 0.1, 0, 0.9]})
    said = verdicts(scores, [True, True, True, False])
    assert said.tolist() == ["on the lesion", "off-centre", "elsewhere", "missed"]
    with pytest.raises(ValueError, match="Expected a call"):
        verdicts(scores, [True])


@pytest.mark.parametrize("finding", ["Mass", "Nodule", "Effusion"])
def test_examples_are_what_their_rules_say(finding, verdicts):
    rows = table("cam_examples").query("finding == @finding")
    model, column = load_checkpoint(phantom_checkpoint()), FINDINGS.index(finding)
    films = [Film(**json.loads(text)) for text in rows["film"]]
    drawn = [render(film, size=112) for film in films]
    images = np.stack([one.image for one in drawn])
    maps, logits = maps_of(model, Batcher(images), range(len(images)))
    probability = 1 / (1 + np.exp(-logits[:, column].astype(float)))
    np.testing.assert_allclose(probability, rows["probability"], atol=2e-3)
    boxes = pd.DataFrame(
        [(i, finding, *box) for i, film in enumerate(films) for box in _boxes(film, finding)],
        columns=["image", "finding", "x", "y", "width", "height"],
    )
    cases = find_cases(boxes, range(len(films)), [film.patient for film in films])
    scores = score_cases(HeatMap(maps[:, column], 112), cases, size=128, cuts=(180,))
    called = probability >= rows["threshold"].to_numpy() - 1e-9
    found = verdicts(scores, called)
    expected = {"right and off-centre": "off-centre", "right and on the lesion": "on the lesion"}
    assert list(found) == [expected.get(rule, "missed") for rule in rows["rule"]]
    first = list(rows["rule"]).index("wrong and elsewhere")
    assert verdicts(scores, np.ones(len(scores), bool))[first] == "elsewhere"


def _boxes(film, finding):
    return render(film, size=256).boxes[finding]
