"""Class activation maps: the identity that defines them, for every network there is or refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from chexlib.data import Batcher
from chexlib.interpret import (
    METHODS,
    attribute,
    class_activation_maps,
    maps_and_logits,
    maps_of,
)
from chexlib.models import CheXNet

NETWORKS = {
    "densenet121": {},
    "densenet169": {"arch": "densenet169"},
    "densenet201": {"arch": "densenet201"},
    "growth 12": {"growth_rate": 12},
    "one channel": {"growth_rate": 12, "window": (-1024, 1024)},
}


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_mean_of_the_map_and_bias_are_the_logit(options, images, lived_in):
    model = lived_in(CheXNet(**options), size=64)
    with torch.no_grad():
        logits = model(images)
    maps = class_activation_maps(model, images)
    assert maps.shape == (3, 14, 3, 3)
    assert maps.dtype == torch.float32
    assert logits.std() > 0.01
    torch.testing.assert_close(maps.mean((2, 3)) + model.classifier.bias, logits, atol=1e-5, rtol=0)


def test_the_map_is_the_head_at_each_position(small, images):
    maps = class_activation_maps(small, images)
    with torch.no_grad():
        features = small.features(images)
        at = small.classifier(features[:, :, 1, 2]) - small.classifier.bias
    assert (features >= 0).all()  # after the ReLU
    torch.testing.assert_close(maps[:, :, 1, 2], at, atol=1e-5, rtol=1e-5)


def test_a_network_in_training_is_used_as_for_testing_and_left_alone(small, images):
    expected = class_activation_maps(small, images)
    before = {key: value.clone() for key, value in small.state_dict().items()}
    small.train()
    small.network.features.norm0.eval()  # parts that are frozen stay so
    try:
        torch.testing.assert_close(class_activation_maps(small, images), expected)
        assert small.training
        assert not small.network.features.norm0.training
        assert all(p.requires_grad for p in small.parameters())
    finally:
        small.eval()
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())


def test_the_identity_holds_under_mixed_precision(small, images):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps, logits = maps_and_logits(small, images)
    assert maps.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(maps.mean((2, 3)) + small.classifier.bias, logits)


def test_larger_images_give_more_cells_and_other_channels_are_refused(small):
    assert class_activation_maps(small, torch.zeros(1, 3, 224, 160)).shape == (1, 14, 7, 5)
    assert class_activation_maps(small, torch.zeros(1, 3, 112, 112)).shape == (1, 14, 3, 3)
    with pytest.raises(ValueError, match=r"Expected images \[B, 1 or 3, H, W\]"):
        class_activation_maps(small, torch.zeros(1, 2, 64, 64))


def test_many_films_in_batches(small):
    films = np.random.default_rng(0).integers(0, 256, (7, 64, 64), dtype=np.uint8)
    batcher, seen = Batcher(films), []
    maps, logits = maps_of(
        small, batcher, [4, 0, 6, 2, 4], batch_size=2, progress=lambda *n: seen.append(n)
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]
    once = maps_and_logits(small, batcher([4, 0, 6, 2, 4]))
    for found, expected in zip((maps, logits), once, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    for rows, size in (([], 2), ([1], 0)):
        with pytest.raises(ValueError, match="Expected at least one film"):
            maps_of(small, batcher, rows, batch_size=size)


@pytest.fixture(scope="module")
def theirs(lived_in):
    torch.manual_seed(1)
    blocks = (6, 12, 24, 16)
    return lived_in(torchvision.models.DenseNet(8, blocks, 16, num_classes=3))


def test_torchvisions_densenet_with_three_outputs(theirs, images):
    maps, logits = maps_and_logits(theirs, images)
    assert maps.shape == (3, 3, 3, 3)
    assert logits.std() > 0.1
    means = maps.mean((2, 3)) + theirs.classifier.bias
    torch.testing.assert_close(means, logits, atol=1e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(logits, theirs(images), atol=0, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_by_position(theirs, images, method, quick):
    options = quick.get(method, {})
    all_three = attribute(theirs, images, method=method, **options).values
    assert all_three.shape[:2] == (3, 3)
    assert torch.isfinite(all_three).all()
    one = attribute(theirs, images, 2, method=method, **options).values
    two = attribute(theirs, images, [2, 0], method=method, **options).values
    torch.testing.assert_close(one[:, 0], all_three[:, 2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(two[:, 1], all_three[:, 0], atol=1e-5, rtol=1e-4)
    for wrong in (3, -1, "Mass"):
        with pytest.raises(ValueError, match="Expected a position from 0 to 2"):
            attribute(theirs, images, wrong, method=method, **options)


THEIRS = """
import json, sys
import torch
import torchxrayvision as xrv
from chexlib.interpret import attribute, maps_and_logits
torch.set_num_threads(1)
torch.manual_seed(0)
images = 500 * torch.randn(2, 1, 96, 96)
points = torch.rand(18)
points[3] = torch.nan
said = {}
for name, options in {
    "plain": {}, "three": {"num_classes": 3}, "sigmoid": {"apply_sigmoid": True},
    "operating points": {"op_threshs": points},
}.items():
    model = xrv.models.DenseNet(growth_rate=8, num_init_features=16, **options).eval()
    with torch.no_grad():
        model.classifier.bias.normal_()
        model.features.norm5.bias.fill_(-0.1)
        logits = model.classifier(model.features2(images))
        maps, own = maps_and_logits(model, images)
        means = maps.mean((2, 3)) + model.classifier.bias
    scale = max(1.0, float(logits.abs().max()))
    said[name] = [list(maps.shape), float((means - logits).abs().max()) / scale,
                  float((own - logits).abs().max()), float(logits.std())]
    if name == "plain":
        one = attribute(model, images, ["pleural thickening", "Lung Opacity"], method="fine")
        both = attribute(model, images, [9, 16], method="fine")
        said["names"] = bool(torch.equal(one.values, both.values))
        for method in ("fine", "gradcam"):
            said[method] = list(attribute(model, images, 2, method=method).values.shape)
json.dump(said, sys.stdout)
"""


def test_torchxrayvisions_densenets():
    """In a process of its own: importing it silences all warnings."""
    command = [sys.executable, "-c", THEIRS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("names")
    assert said.pop("fine") == [2, 1, 6, 6]
    assert said.pop("gradcam") == [2, 1, 3, 3]
    for name, (shape, apart, own, spread) in said.items():
        assert shape == [2, 3 if name == "three" else 18, 3, 3]
        assert apart < 1e-4, name
        assert own == 0, name
        assert spread > 0.1, name


def test_a_resnet_and_a_head_with_a_sigmoid(images):
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=5).eval()
    maps, logits = maps_and_logits(model, images)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(images), atol=0, rtol=0)
    torch.testing.assert_close(maps.mean((2, 3)) + model.fc.bias, logits, atol=1e-4, rtol=0)
    before = class_activation_maps(model, images)
    model.fc = nn.Sequential(model.fc, nn.Sigmoid())  # as zoogzog's and arnoweng's
    torch.testing.assert_close(class_activation_maps(model, images), before)
    with pytest.raises(ValueError, match="Expected a DenseNet .* got ResNet"):
        attribute(model, images, 0, method="fine")
    assert attribute(model, images, 0).grid == (0.5, 32)


class Pooled(nn.Module):
    """A network that does with its last map, and after its head, what it is told to."""

    def __init__(self, pool, after=lambda logits: logits):
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 3, stride=16), nn.Linear(8, 4)
        self.pool, self.after = pool, after

    def forward(self, images):
        return self.after(self.fc(self.pool(self.stem(images))))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Pooled(lambda x: x.amax((2, 3))), "no mean of a map"),
        (Pooled(lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1).relu()), "differ by"),
        (Pooled(lambda x: x.flatten(2).mean(-1)), "no mean of a map"),
        (Pooled(lambda x: x.mean((2, 3)), lambda z: 2 * z), "neither the result"),
        (Pooled(lambda x: x.mean((2, 3)), lambda z: (z,)), "neither the result"),
        (torchvision.models.squeezenet1_1(num_classes=3), "a linear head, got SqueezeNet"),
        (torchvision.models.vgg11(num_classes=3, init_weights=False), "no mean of a map"),
        (Pooled(lambda x: functional.layer_norm(x.mean((2, 3)), (8,)).relu()), "differ by"),
    ],
    ids=["maximum", "relu", "unseen", "doubled", "tuple", "squeezenet", "vgg", "normalised"],
)
def test_what_has_no_such_maps_is_refused_with_the_reason(model, reason, images):
    for call in (lambda: attribute(model.eval(), images), lambda: maps_and_logits(model, images)):
        with pytest.raises(ValueError, match=f"Expected a network .*({reason}|no linear layer)"):
            call()


def test_a_mean_of_one_position(images):
    small = images[:, :, :32, :32].contiguous()
    for model in (CheXNet(growth_rate=4).eval(), torchvision.models.resnet18(num_classes=2).eval()):
        maps, logits = maps_and_logits(model, small)
        assert maps.shape[2:] == (1, 1)
        with torch.no_grad():
            torch.testing.assert_close(logits, model(small), atol=1e-5, rtol=0)


def test_a_chexnet_is_held_to_the_identity_too(images):
    model = CheXNet(growth_rate=4).eval()
    model.forward = lambda images: model.classifier(1 + model.features(images).mean((2, 3)))
    with pytest.raises(ValueError, match="differ by up to"):
        class_activation_maps(model, images)
