"""Costs, against a count by hooks on every convolution and the head of a network that runs."""

import pytest
import torch

from chexlib.models import CheXNet, cost


def counted_by_hooks(model, size):
    """Return operations of one image: of all layers, and of the first convolution."""
    counts = {}

    def hook(module, _, output):
        if isinstance(module, torch.nn.Conv2d):
            counts[module] = 2 * module.weight.numel() * output.shape[2] * output.shape[3]
        else:
            counts[module] = 2 * module.weight.numel()

    kinds = torch.nn.Conv2d | torch.nn.Linear
    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, kinds)]
    model.eval()(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    return sum(counts.values()), counts[model.densenet.features.conv0]


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"growth_rate": 12}, 64),
        ({"growth_rate": 12}, 100),
        ({"growth_rate": 5, "window": (0.0, 1.0)}, 32),
        ({"arch": "densenet169", "growth_rate": 8}, 64),
    ],
)
def test_counts_are_those_of_a_network_that_runs(options, size):
    model = CheXNet(**options)
    forward, first = counted_by_hooks(model, size)
    counted = cost(model, size=size)
    assert counted.forward == forward
    # Backward: gradients of weights and of inputs; nobody needs that of the image.
    assert counted.training == 3 * forward - first
    assert counted.parameters == sum(p.numel() for p in model.parameters())


def test_counting_leaves_the_network_and_chance_alone():
    model = CheXNet(growth_rate=4)
    modes, chance = [m.training for m in model.modules()], torch.get_rng_state()
    cost(model, size=64)
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), chance)


def test_small_images_are_refused():
    with pytest.raises(ValueError, match="at least 29 px"):
        cost(CheXNet(growth_rate=4), size=28)
