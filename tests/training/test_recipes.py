"""Recipes: what the sources say, and every value within reach of a command line."""

import json
import subprocess
import sys
from dataclasses import fields

import pytest
import torch

from chexlib.models import CheXNet
from chexlib.training import RECIPES, Recipe, open_run
from chexlib.training.recipes import data_options


def test_chexnet_as_the_paper_has_it():
    """arXiv:1711.05225 v3, sections 2 and 5."""
    recipe = RECIPES["chexnet-paper"]
    assert (recipe.arch, recipe.growth_rate, recipe.weights) == ("densenet121", None, "imagenet")
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adam", 1e-3, 0)
    assert (recipe.batch_size, recipe.size) == (16, 224)
    assert (recipe.schedule, recipe.keep) == ("plateau", "lowest loss")
    assert recipe.loss == "bce"  # unweighted, for the 14 findings
    assert recipe.augment == "chexnet"  # a horizontal flip
    assert not recipe.ten_crop
    assert recipe.dataset == "chest-xray14"


def test_zoogzog_as_its_code_has_it():
    """zoogzog/chexnet, Main.py and ChexnetTrainer.py."""
    recipe = RECIPES["zoogzog"]
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adam", 1e-4, 1e-5)
    assert (recipe.batch_size, recipe.epochs, recipe.size, recipe.cache_size) == (16, 100, 224, 256)
    assert (recipe.schedule, recipe.plateau_patience) == ("plateau", 5)
    assert recipe.augment == "inception"
    assert recipe.augment_validation  # its validation films are cropped at random, too
    assert recipe.ten_crop
    assert recipe.keep == "lowest loss"
    assert recipe.patience is None


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_goes_through_json_and_has_a_network(recipe):
    assert RECIPES[recipe.name] is recipe
    assert Recipe(**json.loads(json.dumps(recipe.to_dict()))) == recipe
    with torch.device("meta"):
        network = CheXNet(arch=recipe.arch, growth_rate=recipe.growth_rate)
    assert sum(p.numel() for p in network.parameters()) > 1e6
    assert recipe.about
    assert hash(json.dumps(recipe.to_dict(), sort_keys=True))


def test_values_are_read_as_json_and_as_text_where_that_fails():
    recipe = RECIPES["phantom-cpu"].with_values(
        [
            "epochs=3",
            "learning_rate=1e-4",
            "loss=focal",
            "loss_options.gamma=1.5",
            "loss_options.alpha=0.25",
            "growth_rate=null",
            "augment_validation=true",
            'data_options={"n_patients": 7}',
            'data_options.noise={"kind": "measured"}',
            "name=a=b",
        ],
        seed=4,
    )
    assert recipe.epochs == 3
    assert recipe.learning_rate == 1e-4
    assert recipe.loss_options == {"gamma": 1.5, "alpha": 0.25}
    assert recipe.growth_rate is None
    assert recipe.augment_validation is True
    assert recipe.data_options == {"n_patients": 7, "noise": {"kind": "measured"}}
    assert (recipe.name, recipe.seed) == ("a=b", 4)
    assert RECIPES["phantom-cpu"].loss_options == {}  # the others are as they were


def test_every_value_can_be_given():
    for field in fields(Recipe):
        value = getattr(RECIPES["zoogzog"], field.name)
        text = value if isinstance(value, str) else json.dumps(value)
        plain = RECIPES["phantom-cpu"].with_values(growth_rate=None)  # as ImageNet weights need it
        found = plain.with_values([f"{field.name}={text}"])
        assert getattr(found, field.name) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("epochs", "NAME=VALUE with a name among"),
        ("epoch=3", "NAME=VALUE with a name among"),
        ("epochs.first=3", "NAME=VALUE with a name among"),
        ("epochs=0", "epochs as a whole number from 1 up, got 0"),
        ("epochs=2.5", "epochs as a whole number"),
        ("batch_size=true", "batch_size as a whole number"),
        ("loss=hinge", "loss among"),
        ("learning_rate=0", "learning_rate above 0"),
        ("weight_decay=-1", "weight_decay from 0 up"),
        ("body_rate=0", "body_rate above 0"),
        ("momentum=1", "momentum from 0 to below 1"),
        ("momentum=0.5", "momentum 0.9 with one-cycle"),
        ("accumulate=0", "accumulate as a whole number from 1 up"),
        ("optimizer=lion", "optimizer among"),
        ("freeze=true", "freeze with weights to start from"),
        ("freeze=1", "freeze true or false"),
        ("fit=pad", "fit=squash of films that are squares"),
        ("fit=crop", "fit among"),
        ("learning_rate=fast", "learning_rate as a number"),
        ("seed=-1", "seed as a whole number from 0 up"),
        ("cache_size=100000", "cache_size as a whole number from 1 to 2048, got 100000"),
        ("size=2049", "size as a whole number from 1 to 2048, got 2049"),
        ("patience=0", "patience as a whole number from 1 up"),
        ("growth_rate=0", "growth_rate as a whole number from 1 up"),
        ("loss_options=3", "loss_options as a dict"),
        ("ten_crop=maybe", "ten_crop true or false"),
        ("weights=3", "weights as imagenet, the folder of a run, a file, or null"),
        ("weights=imagenet", "growth_rate null with ImageNet's weights"),
        ("name=3", "name as text"),
    ],
)
def test_what_does_not_fit_is_refused(value, message):
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        RECIPES["phantom-cpu"].with_values([value])


def test_a_frozen_body_has_no_rate_of_its_own():
    frozen = {"weights": "imagenet", "growth_rate": None, "freeze": True}
    assert RECIPES["phantom-cpu"].with_values(**frozen).freeze
    with pytest.raises(ValueError, match="Expected body_rate 1 with freeze, got body_rate=0.1"):
        RECIPES["phantom-cpu"].with_values(**frozen, body_rate=0.1)


@pytest.mark.parametrize(
    "config",
    [
        json.dumps({"name": "x", "cache_size": 100_000}),
        json.dumps({"name": "x", "size": "9" * 100_000}),
        json.dumps({"name": "x", "command": "rm"}),
        json.dumps({}),
        '{"name": "x", "seed": ' + "9" * 5000 + "}",
        "[" * 100_000,
        "[]",
        "null",
        "no JSON",
    ],
    ids=range(9),
)
def test_a_run_whose_recipe_is_none_is_refused(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(
        ValueError, match=r"Expected a recipe in .*config\.json, got this"
    ) as caught:
        open_run(tmp_path, finished=False)
    assert len(str(caught.value)) < 1000


def test_names_from_python_are_checked_too():
    with pytest.raises(ValueError, match="Expected names among .*'lr'"):
        RECIPES["phantom-cpu"].with_values(lr=1)


def test_options_of_the_data():
    recipe = RECIPES["phantom-cpu"].with_values(
        data_options={
            "n_patients": 5,
            "shortcut": {
                "finding": "Nodule",
                "cue": "marker",
                "with_finding": 0.9,
                "without": 0.1,
            },
        }
    )
    options = data_options(recipe)
    assert options["size"] == 112
    assert options["shortcut"].cue == "marker"
    assert data_options(RECIPES["zoogzog"]) == {"size": 256}


@pytest.mark.parametrize(
    "code",
    [
        "import chexlib.training.loop, chexlib.training.run; "
        "from chexlib.training import fit, predict; assert callable(fit) and callable(predict)",
        "import chexlib.training; chexlib.training.RECIPES; assert 'torch' not in sys.modules",
    ],
)
def test_names_of_the_package(code):
    """The functions are found whatever was imported first; reading a recipe loads no torch."""
    subprocess.run([sys.executable, "-c", f"import sys; {code}"], check=True)
