"""What chapter 13 says of its maps, of the phantom and the network as they are."""

import json

import numpy as np
import pandas as pd
import pytest
from tables_cam import LARGER, SIZE, verdicts

from chexlib.data import Batcher, table
from chexlib.data.phantom import Film, render
from chexlib.findings import FINDINGS
from chexlib.interpret import HeatMap, find_cases, maps_of, score_cases
from chexlib.models import load_checkpoint, phantom_checkpoint


def test_of_missed_films_more_have_the_map_in_the_wrong_place():
    """The survey's first case."""
    frame = table("cam_verdicts").pivot(index="finding", columns="share", values="estimate")
    rows = table("cam_verdicts").query("share == 'elsewhere, missed less called'")
    less = frame["elsewhere, of missed"] - frame["elsewhere, of called"]
    np.testing.assert_allclose(rows.set_index("finding")["estimate"], less[rows["finding"]])
    assert rows.set_index("finding").loc["mean of findings", "low"] > 0


def test_nobody_beats_the_judge_who_knows_the_answer():
    frame = table("cam_methods").query("metric == 'hit'")
    hits = frame.pivot(index="finding", columns="source", values="estimate")
    for source in ("cam", "twin", "copied", "other film"):
        assert (hits[source] <= hits[f"best cell {SIZE}"] + 0.02).all(), source
    for size in LARGER:
        assert (hits[f"cam {size}"] <= hits[f"best cell {size}"] + 0.02).all(), size


def test_on_its_own_scale_every_map_is_hot():
    hot = table("cam_scales").set_index(["scale", "kind"])["estimate"]
    assert (hot["map"] == 1).all()
    for scale in ("shared", "ratio"):  # neither keeps all that is absent cold
        assert 0.3 < hot[scale, "absent, unlikely"] < hot[scale, "present, called"]
    assert hot["shared", "present, called"] < hot["ratio", "absent, unlikely"]


def test_verdicts_count_the_three_pictures():
    scores = pd.DataFrame({"hit": [1, 0, 0, 1.0], "iou_180": [0.4, 0.1, 0, 0.9]})
    said = verdicts(scores, [True, True, True, False])
    assert said.tolist() == ["on the lesion", "off-centre", "elsewhere", "missed"]
    with pytest.raises(ValueError, match="Expected a call"):
        verdicts(scores, [True])


@pytest.mark.parametrize("finding", ["Mass", "Nodule", "Effusion"])
def test_examples_are_what_their_rules_say(finding):
    rows = table("cam_examples").query("finding == @finding")
    model, column = load_checkpoint(phantom_checkpoint()), FINDINGS.index(finding)
    films = [Film(**json.loads(text)) for text in rows["film"]]
    images = np.stack([render(film, size=SIZE).image for film in films])
    maps, logits = maps_of(model, Batcher(images), range(len(images)))
    probability = 1 / (1 + np.exp(-logits[:, column].astype(float)))
    np.testing.assert_allclose(probability, rows["probability"], atol=2e-3)
    boxes = [render(film, size=256).boxes[finding] for film in films]
    boxes = pd.DataFrame(
        [(i, finding, *box) for i, of_film in enumerate(boxes) for box in of_film],
        columns=["image", "finding", "x", "y", "width", "height"],
    )
    cases = find_cases(boxes, range(len(films)), [film.patient for film in films])
    scores = score_cases(HeatMap(maps[:, column], SIZE), cases, size=128, cuts=(180,))
    found = verdicts(scores, probability >= rows["threshold"].to_numpy() - 1e-9)
    expected = {"right and off-centre": "off-centre", "right and on the lesion": "on the lesion"}
    assert list(found) == [expected.get(rule, "missed") for rule in rows["rule"]]
    first = list(rows["rule"]).index("wrong and elsewhere")
    assert verdicts(scores, np.ones(len(scores), bool))[first] == "elsewhere"
