"""Class activation maps: the identity that defines them, for every network there is."""

import numpy as np
import pytest
import torch

from chexlib.data import Batcher
from chexlib.interpret import class_activation_maps, maps_and_logits, maps_of
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


def test_logits_of_the_same_pass(small, images):
    maps, logits = maps_and_logits(small, images)
    with torch.no_grad():
        torch.testing.assert_close(logits, small(images), atol=1e-5, rtol=0)
    torch.testing.assert_close(maps, class_activation_maps(small, images), atol=0, rtol=0)
    assert not maps.requires_grad


def test_a_network_in_training_is_used_as_for_testing_and_left_alone(small, images):
    expected = class_activation_maps(small, images)
    before = {key: value.clone() for key, value in small.state_dict().items()}
    small.train()
    try:
        torch.testing.assert_close(class_activation_maps(small, images), expected)
        assert small.training
        assert all(p.requires_grad for p in small.parameters())
    finally:
        small.eval()
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())


def test_the_identity_holds_under_mixed_precision(small, images):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps, logits = maps_and_logits(small, images)
    assert maps.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(maps.mean((2, 3)) + small.classifier.bias, logits)


def test_larger_images_give_more_cells(small):
    assert class_activation_maps(small, torch.zeros(1, 3, 224, 160)).shape == (1, 14, 7, 5)
    assert class_activation_maps(small, torch.zeros(1, 3, 112, 112)).shape == (1, 14, 3, 3)


def test_many_films_in_batches(small):
    films = np.random.default_rng(0).integers(0, 256, (7, 64, 64), dtype=np.uint8)
    batcher, seen = Batcher(films), []
    maps, logits = maps_of(
        small, batcher, [4, 0, 6, 2, 4], batch_size=2, progress=lambda *n: seen.append(n)
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]
    once = maps_and_logits(small, batcher([4, 0, 6, 2, 4]))
    np.testing.assert_allclose(maps, once.maps, atol=1e-5)
    np.testing.assert_allclose(logits, once.logits, atol=1e-5)
    np.testing.assert_array_equal(maps[0].shape, (14, 2, 2))
    for rows, size in (([], 2), ([1], 0)):
        with pytest.raises(ValueError, match="Expected at least one film"):
            maps_of(small, batcher, rows, batch_size=size)


def test_a_wrong_shape_is_refused(small):
    with pytest.raises(ValueError, match=r"Expected images \[B, 1 or 3, H, W\]"):
        class_activation_maps(small, torch.zeros(1, 2, 64, 64))
