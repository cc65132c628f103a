"""One film has one probability: whichever command asks, however the network was trained."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms import TenCrop
from torchvision.transforms.functional import resize
from typer.testing import CliRunner

from chexlib.cli import app
from chexlib.data import ImageCache, find_radiographs, load_boxes, package_file, read_radiograph
from chexlib.data.dataset import Dataset
from chexlib.findings import FINDINGS
from chexlib.inference import Preparation
from chexlib.interpret import explain_film, find_cases, score_cases
from chexlib.models import CheXNet, load_checkpoint, save_checkpoint
from chexlib.training import RECIPES, predict

WAYS = {
    **{name: Preparation(r.cache_size, r.size, r.ten_crop) for name, r in RECIPES.items()},
    "sizes that do not divide": Preparation(150, 97),
    "ten crops of these": Preparation(131, 97, ten_crop=True),
    "enlarged": Preparation(64, 96),
}
FILM = package_file("data_store", "data", "RG1_UNCR.dcm")
BOXED = load_boxes().iloc[0]["image"]


def call(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def no_constant(name):
    raise ValueError(f"{name} is no JSON")


@pytest.fixture(scope="module")
def network():
    """A network for which a pixel more or less matters."""
    torch.manual_seed(0)
    model = CheXNet(growth_rate=4)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        model.classifier.weight.normal_(0, 0.2)
        model.classifier.bias.uniform_(-2, 1)
        model.train()(torch.rand(4, 1, 96, 96))
    return model.eval()


@pytest.fixture(scope="module")
def pixels():
    return read_radiograph(FILM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pixels):
    """The same film under the name of one that radiologists drew boxes on."""
    path = tmp_path_factory.mktemp("films")
    cv2.imwrite(str(path / BOXED), pixels)
    return path


def by_hand(model, pixels, way):
    """Return logits of a film, with torchvision's own transforms."""
    film = cv2.resize(pixels, (way.cache_size,) * 2, interpolation=cv2.INTER_AREA)
    film = torch.from_numpy(film)[None].float() / 255
    side = round(way.size * 8 / 7) if way.ten_crop else way.size
    film = resize(film, [side, side])
    views = torch.stack(TenCrop(way.size)(film)) if way.ten_crop else film[None]
    with torch.no_grad():
        probability = model(views).double().sigmoid().mean(0)
    return probability.logit().numpy()


@pytest.mark.parametrize("name", WAYS)
def test_every_command_says_the_same(name, network, pixels, folder, tmp_path):
    way = WAYS[name]
    recipe = RECIPES.get(name, RECIPES["phantom-cpu"]).with_values(
        cache_size=way.cache_size, size=way.size, ten_crop=way.ten_crop
    )
    weights = tmp_path / "weights.safetensors"
    save_checkpoint(network, weights, metadata={"recipe": json.dumps(recipe.to_dict())})
    same = {"atol": 1e-6, "rtol": 0}

    call("predict", FILM, "--checkpoint", weights, "--out", tmp_path / "one.csv")
    probability = pd.read_csv(tmp_path / "one.csv")[list(FINDINGS)].to_numpy()[0]
    expected = by_hand(network, pixels, way)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-expected)), atol=1e-5)
    assert 0.1 < probability.std() < 0.49

    call("explain", FILM, "--checkpoint", weights, "--out", tmp_path / "explained")
    text = (tmp_path / "explained" / "RG1_UNCR.json").read_text()
    said = json.loads(text, parse_constant=no_constant)
    assert Preparation(**said["preparation"]) == way
    np.testing.assert_allclose([said["probabilities"][n] for n in FINDINGS], probability, **same)
    explained = explain_film(load_checkpoint(weights), pixels, FINDINGS)
    for finding, entry in said["findings"].items():
        row = FINDINGS.index(finding)
        assert entry["logit"] == pytest.approx(expected[row], abs=1e-4)
        assert entry["map"]["of"] == "the whole film in one view"
        bias = network.classifier.bias[row].item()
        assert entry["map"]["logit"] == pytest.approx(entry["map"]["mean"] + bias, abs=1e-4)
        if not way.ten_crop:
            assert entry["map"]["logit"] == entry["logit"]
    if way.ten_crop:
        apart = [abs(explained.logits[n] - explained.map_logits[n]) for n in FINDINGS]
        assert max(apart) > 0.01
        assert "ten crops" in said["units"]

    options = ["--resamples", 100, "--out", tmp_path / "localized"]
    call("localize", folder, "--checkpoint", weights, *options)
    cases = pd.read_csv(tmp_path / "localized" / "cases.csv").query("source == 'cam'")
    truth = find_cases(load_boxes(), [BOXED], [1])
    scores = score_cases(explained.maps[[*map(FINDINGS.index, truth["finding"])]], truth)
    for column in ("energy", "overlap", "iou_best"):
        np.testing.assert_allclose(cases[column], scores[column], atol=1e-3)
    about = json.loads((tmp_path / "localized" / "about.json").read_text())
    assert (about["cache_size"], about["size"]) == (way.cache_size, way.size)

    source = find_radiographs(folder)
    cache = ImageCache.build(source, tmp_path / "cache", size=way.cache_size, workers=1)
    frame, none = pd.DataFrame({"image": [BOXED]}), np.zeros((1, 14), bool)
    films = Dataset("made", "test", frame, cache, np.arange(1), none, None)
    trained = predict(network, films, size=way.size, ten_crop=way.ten_crop)
    np.testing.assert_allclose(trained[0], probability, **same)


def test_a_film_of_a_folder_is_as_one_alone(network, folder, tmp_path):
    weights = tmp_path / "weights.safetensors"
    recipe = {"cache_size": 131, "size": 97, "ten_crop": True}
    save_checkpoint(network, weights, metadata={"recipe": recipe})
    call("predict", FILM, "--checkpoint", weights, "--out", tmp_path / "one.csv")
    call("predict", folder, "--checkpoint", weights, "--out", tmp_path / "folder.csv")
    one, among = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("one", "folder"))
    np.testing.assert_allclose(among.iloc[:, 1:], one.iloc[:, 1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("ten_crop", [False, True])
def test_a_logit_that_float32_cannot_turn_back(ten_crop, network, pixels, tmp_path):
    """The sigmoid of 40 is 1 in float32, and its log odds are infinite."""
    sure = CheXNet(growth_rate=4).eval()
    sure.load_state_dict(network.state_dict())
    with torch.no_grad():
        sure.classifier.weight[:2] = 0
        sure.classifier.bias[:2] = torch.tensor([40.0, -120.0])
    weights = tmp_path / "w.safetensors"
    recipe = {"cache_size": 64, "size": 64, "ten_crop": ten_crop}
    save_checkpoint(sure, weights, metadata={"recipe": recipe})
    cv2.imwrite(str(tmp_path / "film.png"), pixels)
    words = ["--finding", "Atelectasis", "--finding", "Cardiomegaly", "--out", tmp_path / "out"]
    call("explain", tmp_path / "film.png", "--checkpoint", weights, *words)
    text = (tmp_path / "out" / "film.json").read_text()
    said = json.loads(text, parse_constant=no_constant)["findings"]
    assert said["Atelectasis"]["logit"] == pytest.approx(40, abs=1e-4)
    assert said["Cardiomegaly"]["logit"] == pytest.approx(-120, abs=1e-4)
    assert said["Atelectasis"]["probability"] == 1


def test_the_json_is_json_whatever_the_weights_say_of_themselves(network, pixels, tmp_path):
    state = {"state_dict": network.network.state_dict(), "best_loss": float("inf")}
    torch.save(state, tmp_path / "m.pth.tar")
    cv2.imwrite(str(tmp_path / "film.png"), pixels)
    options = ["--checkpoint", tmp_path / "m.pth.tar", "--out", tmp_path / "out", "--size", 64]
    call("explain", tmp_path / "film.png", *options)
    said = json.loads((tmp_path / "out" / "film.json").read_text(), parse_constant=no_constant)
    assert said["checkpoint"]["metadata"]["best_loss"] == "Infinity"
    assert said["preparation"] == {"cache_size": 64, "size": 64, "ten_crop": False, "fit": "squash"}


class TestPreparation:
    def of(self, metadata, **options):
        return Preparation.of(SimpleNamespace(provenance={"metadata": metadata}), **options)

    def test_what_a_checkpoint_says(self):
        assert self.of({}) == Preparation(256, 224)
        assert self.of({"recipe": "a pinch of salt"}) == Preparation(256, 224)
        assert self.of({"recipe": "[1]"}) == Preparation(256, 224)
        assert self.of({"recipe": 3, "chexlib": "0.1"}) == Preparation(256, 224)
        assert self.of({"recipe": '{"size": 112, "epochs": 4}'}) == Preparation(256, 112)
        lightning = {"chexlib": {"recipe": '{"cache_size": 96, "size": 64, "ten_crop": true}'}}
        assert self.of(lightning) == Preparation(96, 64, ten_crop=True)
        assert self.of(lightning, size=64) == Preparation(96, 64, ten_crop=True)
        assert self.of(lightning, size=128) == Preparation(128, 128)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ((0, 224), "cache_size in pixels from 1 to 2048, got 0"),
            ((256, 28), "size in pixels from 29 to 2048, got 28"),
            ((256, 224.0), "size in pixels from 29 to 2048, got 224.0"),
            ((True, 224), "cache_size in pixels from 1 to 2048, got True"),
            ((100_000, 224), "cache_size in pixels from 1 to 2048, got 100000"),
            ((256, "9" * 5000), "size in pixels from 29 to 2048, got 9{80}"),
            ((256, 224, 1), "ten_crop true or false, got 1"),
            ((256, 224, False, "crop"), "fit of .'squash', 'pad'., got crop"),
        ],
    )
    def test_refused(self, values, message):
        with pytest.raises(ValueError, match=f"Expected {message}"):
            Preparation(*values)

    def test_no_film(self):
        for film in (np.zeros((4, 4)), np.zeros((1, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)):
            with pytest.raises(ValueError, match="Expected a film as uint8"):
                Preparation().shrunk(film)
