"""A small network whose normalisation and head are as after training: none of them the identity."""

import pytest
import torch

from chexlib.models import CheXNet


def _lived_in(model, seed=0, size=96):
    """Give a network statistics, scales and biases that a mistake would show in."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.3, 0.3, generator=generator)
                module.momentum = None
        model.classifier.bias.uniform_(-3, 1, generator=generator)
        films = torch.rand(4, 1, size, size, generator=generator)
        model.train()(films.expand(-1, 3, -1, -1))  # as other people's networks take them, too
    return model.eval()


@pytest.fixture(scope="session")
def small():
    torch.manual_seed(0)
    return _lived_in(CheXNet(growth_rate=12))


@pytest.fixture(scope="session")
def lived_in():
    return _lived_in


@pytest.fixture(scope="session")
def images():
    """Three films of 96 px in three equal channels: smooth with some texture, not saturated.

    Where pixels are alike, a maximum has several places, and rounding says which one's gradient.
    """
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(3, 1, 9, 9, generator=generator)
    grey = torch.nn.functional.interpolate(coarse, (96, 96), mode="bilinear")
    texture = torch.rand(3, 1, 96, 96, generator=generator)
    return (0.1 + 0.7 * grey + 0.1 * texture).expand(-1, 3, -1, -1).contiguous()


@pytest.fixture(scope="session")
def quick():
    """Options of methods that would be slow without."""
    steps, samples, squares = {"steps": 4}, {"samples": 4}, {"window": 48, "stride": 48}
    return {"integrated_gradients": steps, "smoothgrad": samples, "occlusion": squares}
