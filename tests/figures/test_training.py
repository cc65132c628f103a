"""Figures of chapter 6: they count what the network has, and draw what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from chexlib.models import CheXNet, cost
from figures import training as draw


@pytest.mark.parametrize(("arch", "layers"), [("densenet121", 121), ("densenet169", 169)])
def test_stages_add_up_to_the_network(arch, layers):
    network = CheXNet(arch=arch)
    parts, counted = draw.stages(network), cost(network)
    assert parts["layers"].sum() == layers
    assert parts["parameters"].sum() == counted.parameters
    assert parts["flops"].sum() == counted.forward
    assert list(parts["side"]) == [56, 56, 28, 28, 14, 14, 7, 7, 1]


def test_channels_held_are_those_of_the_tensors_themselves():
    network = CheXNet(growth_rate=4).eval()
    seen = {}
    for name, module in network.network.features.named_children():
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.shape}))
    network(torch.zeros(1, 3, 64, 64))
    parts = draw.stages(network, size=64)
    for block in range(1, 5):
        shape = seen[f"denseblock{block}"]
        assert (parts.loc[f"block {block}", ["channels", "side"]] == [shape[1], shape[3]]).all()


def test_field_is_what_a_cell_depends_on():
    # Equal weights, and means in place of maxima: no gradient vanishes by chance.
    network = CheXNet(growth_rate=1).double().eval()
    features = network.network.features
    features.pool0 = torch.nn.AvgPool2d(3, stride=2, padding=1)
    for module in features.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 0.1)
    image = torch.full((1, 3, 400, 400), 0.5, dtype=torch.float64, requires_grad=True)
    out = image
    for name, layer in features.named_children():
        out = layer(out)
        if name == "denseblock2":
            break
    middle = out.shape[-1] // 2
    out[..., middle, middle].sum().backward()
    touched = image.grad.abs().sum(dim=(0, 1)) > 0
    width = int(touched.any(0).sum())
    assert width == draw.stages(network).loc["block 2", "field"]
    # The first channels have passed by every dense layer: the shortest path.
    image.grad = None
    out = image
    for name, layer in features.named_children():
        out = layer(out)
        if name == "denseblock1":
            break
    out[:, 0, 50, 50].sum().backward()
    width = int((image.grad.abs().sum(dim=(0, 1)) > 0).any(0).sum())
    assert width == draw.stages(network).loc["block 1", "shortest"]


def test_bars_of_a_block_are_what_its_layers_read():
    rows = draw.anatomy(CheXNet())
    _, ax = plt.subplots()
    draw.block_inputs(ax, rows)
    ends = {}
    for bar in ax.patches:
        place = round(bar.get_y() + bar.get_height() / 2)
        ends[place] = max(ends.get(place, 0), bar.get_x() + bar.get_width())
    assert [ends[place] for place in range(7)] == [64, 96, 128, 160, 192, 224, 256]


def test_profile_shows_every_convolution_and_all_shares():
    figure = draw.profile(CheXNet(growth_rate=4), size=64)
    above, below = figure.axes
    assert len(above.lines[0].get_xdata()) == 120
    heights = np.array([bar.get_height() for bar in below.patches]).reshape(2, -1)
    np.testing.assert_allclose(heights.sum(axis=1), 1)


def test_learning_curves_count_epochs_from_one():
    history = pd.DataFrame(
        {
            "epoch": [0, 1],
            "train_loss": [0.3, 0.2],
            "val_loss": [0.4, 0.3],
            "val_auroc": [0.6, 0.7],
        }
    )
    figure = draw.learning_curves(history)
    left, right = figure.axes
    assert list(left.lines[0].get_xdata()) == [1, 2]
    assert list(right.lines[0].get_ydata()) == [0.6, 0.7]


def test_promised_and_found_has_a_mark_for_each_row():
    rows = pd.DataFrame(
        {
            "positives": [0.03, 0.2, 0.03, 0.2],
            "promised": [0.03, 0.2, 0.3, 0.5],
            "probabilities": ["plain", "plain", "weighted", "weighted"],
        }
    )
    _, ax = plt.subplots()
    draw.promised_and_found(ax, rows)
    drawn = [line.get_ydata().tolist() for line in ax.lines[:2]]
    assert drawn == [[0.03, 0.2], [0.3, 0.5]]
    low, high = ax.get_ylim()
    assert low < 0.03
    assert high > 0.5


def test_deviations_are_from_the_mean_of_their_own_line():
    _, ax = plt.subplots()
    lines = {"seeds": [0.85, 0.86], "papers": [0.1, 0.2, 0.6]}
    draw.deviations(ax, lines, halves={"seeds": 0.01}, labels={"papers": ["a", "b", "c"]})
    seeds, papers = (line.get_xdata() for line in ax.lines[:2])
    np.testing.assert_allclose(seeds, [-0.005, 0.005])
    np.testing.assert_allclose(papers, [-0.2, -0.1, 0.3])
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c"]
    assert len(ax.patches) == 1
