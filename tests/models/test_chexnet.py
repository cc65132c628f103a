"""CheXNet: its sizes, its features and what the head makes of them."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models import get_model_weights

from chexlib.findings import FINDINGS
from chexlib.models import ARCHITECTURES, CheXNet

SMALL = CheXNet(growth_rate=4).eval()


def size_of(network):
    return sum(p.numel() for p in network.parameters())


def test_sizes_are_exact():
    assert size_of(CheXNet()) == 6_968_206
    assert size_of(CheXNet(growth_rate=12)) == 1_005_086


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_sizes_are_torchvisions_but_for_the_head(arch):
    with torch.device("meta"):
        model = CheXNet(arch=arch)
    published = get_model_weights(arch).IMAGENET1K_V1.meta["num_params"]
    width = model.classifier.in_features
    assert size_of(model) == published - (width + 1) * 1000 + (width + 1) * 14


@pytest.mark.parametrize("growth_rate", [None, 12])
def test_layers_are_121(growth_rate):
    with torch.device("meta"):
        model = CheXNet(growth_rate=growth_rate)
    weighted = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == 121


def test_logits_are_torchvisions(images, seen, make):
    source, model = make(seed=3), CheXNet(growth_rate=4).eval()
    model.densenet.load_state_dict(source.state_dict())
    for films in (images, images.expand(-1, 3, -1, -1)):
        torch.testing.assert_close(model(films), source(seen), atol=1e-5, rtol=0)
    assert list(model.state_dict()) == [f"densenet.{key}" for key in source.state_dict()]
    assert model.findings == FINDINGS
    assert len(model(images)[0]) == len(FINDINGS)


def test_the_head_is_linear_in_the_mean_of_the_features(images):
    maps = SMALL.features(images)
    by_hand = maps.mean(dim=(2, 3)) @ SMALL.classifier.weight.T + SMALL.classifier.bias
    torch.testing.assert_close(by_hand, SMALL(images))
    at_each = torch.einsum("kc,bchw->bkhw", SMALL.classifier.weight, maps)
    means = at_each.mean(dim=(2, 3)) + SMALL.classifier.bias
    torch.testing.assert_close(means, SMALL(images), atol=1e-5, rtol=0)
    assert maps.min() >= 0


@settings(max_examples=15)
@given(st.integers(29, 130), st.integers(29, 130))
def test_the_map_has_the_documented_size(height, width):
    maps = SMALL.features(torch.zeros(1, 3, height, width))
    assert maps.shape[2:] == ((height + 3) // 32, (width + 3) // 32)


def test_probabilities_leave_every_mode_as_it_was(images):
    model = CheXNet(growth_rate=4)
    model.densenet.features.norm0.eval()  # somebody froze it
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    probabilities = model.predict_proba(images)
    assert [module.training for module in model.modules()] == modes
    assert not probabilities.requires_grad
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)
    torch.testing.assert_close(probabilities, model.eval()(images).sigmoid())


def test_a_window_gives_one_channel_its_own_black_and_white(make):
    source = make(channels=1)
    model = CheXNet(growth_rate=4, window=(-1024, 1024)).eval()
    model.densenet.load_state_dict(source.state_dict())
    grey = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(model(grey), source(2048 * grey - 1024), atol=1e-5, rtol=1e-5)


def test_options_make_the_same_shape():
    for options in ({}, {"arch": "densenet169"}, {"growth_rate": 12, "window": (0.0, 1.0)}):
        with torch.device("meta"):
            model = CheXNet(**options)
            twin = CheXNet(**model.options)
        assert repr(twin) == repr(model)
        assert twin.options == model.options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arch": "resnet50"}, "Expected an architecture among"),
        ({"growth_rate": 0}, "growth rate from 1 up, got 0"),
    ],
)
def test_options_are_checked(options, said):
    with pytest.raises(ValueError, match=said):
        CheXNet(**options)


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 2, 64, 64), (2, 64, 64, 3), (1, 3, 28, 64)])
def test_images_are_checked(shape):
    with pytest.raises(ValueError, match=r"Expected images .*got \["):
        SMALL(torch.zeros(shape))


@pytest.mark.parametrize("value", [-0.01, 1.01, torch.nan, torch.inf, -torch.inf])
def test_values_outside_0_to_1_are_refused(images, seen, value):
    SMALL(images.clamp(0, 1) * (1 + 1e-6))  # rounding is none of them
    SMALL(images[:0])
    odd = images.clone()
    odd[1, 0, 3, 5] = value
    for call in (SMALL, SMALL.features, SMALL.predict_proba):
        for films in (odd, seen):
            with pytest.raises(ValueError, match="Normalised input is no longer wanted"):
                call(films)


def test_a_compiled_network_is_one_graph(images):
    """A look at values would break it in two, and wait for a GPU."""
    found = torch.compile(SMALL, backend="eager", fullgraph=True)(images)
    torch.testing.assert_close(found, SMALL(images))


def test_the_package_alone_does_not_load_torch():
    program = "import sys, chexlib, chexlib.data; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
