"""Somebody else's networks: their maps are right, or refused with the reason."""

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
    case_maps,
    class_activation_maps,
    maps_and_logits,
    maps_of,
    shift_equivariance,
)
from chexlib.models import CheXNet

QUICK = {
    "integrated_gradients": {"steps": 4},
    "smoothgrad": {"samples": 4},
    "occlusion": {"window": 48, "stride": 48},
}


@pytest.fixture
def images(images):
    """Return them as other people's networks take them, in three channels."""
    return images.expand(-1, 3, -1, -1).contiguous()


@pytest.fixture(scope="module")
def theirs(lived_in):
    torch.manual_seed(1)
    blocks = (6, 12, 24, 16)
    return lived_in(torchvision.models.DenseNet(8, blocks, 16, num_classes=3))


def test_torchvisions_densenet_with_three_outputs(theirs, images):
    with torch.no_grad():
        logits = theirs(images)
    maps = class_activation_maps(theirs, images)
    assert maps.shape == (3, 3, 3, 3)
    assert logits.std() > 0.1
    means = maps.mean((2, 3)) + theirs.classifier.bias
    torch.testing.assert_close(means, logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(maps_and_logits(theirs, images).logits, logits, atol=0, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_by_position(theirs, images, method):
    options = QUICK.get(method, {})
    all_three = attribute(theirs, images, method=method, **options)
    assert all_three.shape[:2] == (3, 3)
    assert torch.isfinite(all_three).all()
    one = attribute(theirs, images, 2, method=method, **options)
    two = attribute(theirs, images, [2, 0], method=method, **options)
    torch.testing.assert_close(one[:, 0], all_three[:, 2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(two[:, 1], all_three[:, 0], atol=1e-5, rtol=1e-4)
    for wrong in (3, -1, "Mass"):
        with pytest.raises(ValueError, match="Expected a position from 0 to 2"):
            attribute(theirs, images, wrong, method=method, **options)


def test_many_films_and_other_tools(theirs, images):
    films = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    batcher = Batcher(films, channels=3)
    maps, logits = maps_of(theirs, batcher, range(3), batch_size=2)
    assert maps.shape == (3, 3, 2, 2)
    with torch.no_grad():
        np.testing.assert_allclose(logits, theirs(batcher(range(3))), atol=1e-5)
    pairs = case_maps(theirs, batcher, [2, 0], [1, 2])
    np.testing.assert_allclose(pairs, maps[[2, 0], [1, 2]], atol=1e-5)
    table = shift_equivariance(theirs, images, 1, shifts=(8,))
    assert table["finding"].unique().tolist() == [1]


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
        said["names"] = bool(torch.equal(one, both))
        for method in ("fine", "gradcam"):
            said[method] = list(attribute(model, images, 2, method=method).shape)
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
        (torchvision.models.convnext_tiny(num_classes=3), "differ by up to"),
    ],
    ids=["maximum", "relu", "unseen", "doubled", "tuple", "squeezenet", "vgg", "convnext"],
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


def test_parts_that_are_frozen_stay_so(small, images):
    small.train()
    small.densenet.features.norm0.eval()
    try:
        class_activation_maps(small, images)
        assert small.training
        assert not small.densenet.features.norm0.training
    finally:
        small.eval()
