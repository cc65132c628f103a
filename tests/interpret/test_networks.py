"""Maps of torchvision's families: their identity, and the place of each cell in the image."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.ops import SqueezeExcitation, StochasticDepth

from chexlib.interpret import (
    attribute,
    cascade,
    cell_centres,
    class_activation_maps,
    explain_film,
    maps_and_logits,
)
from chexlib.models import CheXNet

OWN = ("Rib fracture", "Mass", "Device")
GRIDS = {  # first and stride of the cells, by hand
    "densenet121": (14.5, 32),  # 7, 3 with margins: 0; means of 2: 2 + 4 + 8
    "resnet18": (0.5, 32),
    "efficientnet_b0": (0.5, 32),
    "convnext_tiny": (16, 32),  # squares of 4 and 2 without margins
}


@pytest.fixture(scope="module", params=GRIDS)
def arch(request):
    return request.param


@pytest.fixture(scope="module")
def network(arch, lived_in):
    torch.manual_seed(0)
    model = CheXNet(arch=arch, findings=OWN)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("layer_scale"):
                value.fill_(0.3)  # as trained: at the start ConvNeXt's blocks do nothing
            elif name.endswith("classifier.0.weight"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("classifier.0.bias"):
                value.normal_()
    return lived_in(model, size=64)


def test_mean_of_the_map_and_bias_are_the_logit(network, images):
    maps, logits = maps_and_logits(network, images)
    assert maps.shape == (3, 3, 3, 3)
    assert logits.std() > 0.1
    with torch.no_grad():
        torch.testing.assert_close(logits, network(images), atol=0, rtol=0)
    means = maps.mean((2, 3)) + network.classifier.bias
    torch.testing.assert_close(means, logits, atol=1e-4, rtol=1e-5)
    assert maps.std((2, 3)).min() > 0.01  # not the same everywhere


def test_somebody_elses_module_has_the_same_maps(network, arch, images):
    theirs = get_model(arch, weights=None, num_classes=3).eval()
    theirs.load_state_dict(network.network.state_dict())
    with torch.no_grad():
        taken = network.normalised(images)
    found = attribute(theirs, taken, [2, 0])
    torch.testing.assert_close(
        found.values, class_activation_maps(network, images)[:, [2, 0]], atol=1e-4, rtol=1e-4
    )
    assert (found.input_size, found.grid) == ((96, 96), GRIDS[arch])


def test_a_film_is_explained_by_the_networks_own_findings(network, arch):
    film = np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)
    found = explain_film(network, film, 14, size=96)
    assert set(found.findings) == {*OWN}
    assert found.maps.grid == GRIDS[arch]
    (x, y), heat = found.peaks["Mass"], found.maps.values[found.findings.index("Mass")]
    down, across = np.unravel_index(heat.argmax(), heat.shape)
    first, stride = GRIDS[arch]
    assert (y, x) == pytest.approx(
        ((first + stride * down) * 120 / 96, (first + stride * across) * 160 / 96)
    )
    mean = found.maps.values.mean((1, 2)) + [
        float(network.classifier.bias[OWN.index(name)].detach()) for name in found.findings
    ]
    np.testing.assert_allclose(mean, [found.logits[n] for n in found.findings], atol=1e-3)
    assert explain_film(network, film, ["Device"], size=96).findings == ("Device",)


def test_layers_are_drawn_anew_from_the_head_down(network, arch, images):
    table = cascade(network, images[:1], "Mass")
    stages = table["stage"].cat.categories.tolist()
    blocks = {"efficientnet_b0": 8, "convnext_tiny": 7}.get(arch, 4)
    expected = [f"block {k}" for k in range(blocks, 0, -1)]
    assert stages == ["trained", "head", *expected, "stem"]
    assert table["spearman"].iloc[0] == pytest.approx(1)
    assert table["spearman"].iloc[1:].max() < 0.999


def of_means(model):
    """Return a network in which every step is a mean, whose middle can be read from a gradient.

    What sees the same margin on both sides sees its middle alone, so that all of what a cell sees
    lies within a small image.
    """
    dull = (nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.SiLU, nn.GELU, SqueezeExcitation)
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, (*dull, StochasticDepth)):
                setattr(parent, name, nn.Identity())
            elif isinstance(part, nn.MaxPool2d):  # a maximum has no middle
                setattr(parent, name, nn.AvgPool2d(part.kernel_size, part.stride, part.padding))
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                weight = part.weight
                weight.fill_(1 / weight[0].numel())
                if isinstance(part, nn.Conv2d) and part.stride == (1, 1):
                    weight.zero_()[..., weight.shape[2] // 2, weight.shape[3] // 2] = 1
                    weight /= weight.shape[1]
                if part.bias is not None:
                    part.bias.zero_()
    return model.double().eval()


def test_cells_are_the_middle_of_what_they_see(arch):
    model = of_means(CheXNet(arch=arch, findings=OWN))
    image = torch.full((1, 1, 256, 320), 0.5, dtype=torch.float64, requires_grad=True)
    grid = attribute(model, image.detach(), 0).grid
    assert grid == GRIDS[arch]
    features = model.features(image)
    row, column = 4, 5
    features[0, :, row, column].sum().backward()
    for axis, cell in ((0, row), (1, column)):
        weight = image.grad[0, 0].sum(1 - axis).numpy()
        seen = (weight * (np.arange(len(weight)) + 0.5)).sum() / weight.sum()
        assert seen == pytest.approx(cell_centres(cell + 1, grid)[cell], abs=1e-6)


def test_the_hottest_cell_follows_a_bright_spot(arch):
    # Black is 0, as the margins are, so that nothing but the spot is seen.
    model = of_means(CheXNet(arch=arch, findings=OWN, window=(0.0, 1.0)))
    first, stride = GRIDS[arch]
    for row, column in ((3, 4), (5, 2)):
        film = torch.zeros(1, 1, 256, 256, dtype=torch.float64)
        side = 14 + (first % 1 > 0)  # of pixels whose middle is that of the cell
        top, left = (int(first + stride * cell - side / 2) for cell in (row, column))
        film[..., top : top + side, left : left + side] = 1
        found = attribute(model, film, 0)
        heat = found.values[0, 0]
        assert divmod(int(heat.argmax()), heat.shape[1]) == (row, column)
        places = [float(p[c]) for p, c in zip(found.places(256), (row, column), strict=True)]
        assert places == [top + side / 2, left + side / 2]
        for step in (-1, 1):  # as warm on either side
            assert heat[row, column + step] == pytest.approx(float(heat[row, column - step]))
            assert heat[row + step, column] == pytest.approx(float(heat[row - step, column]))


class Padded(nn.Module):
    """A network that moves its maps by other means than windows."""

    def __init__(self):
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 3, stride=16), nn.Linear(8, 4)

    def forward(self, images):
        return self.fc(self.stem(nn.functional.pad(images, (9, 0, 9, 0))).mean((2, 3)))


def test_where_cells_lie_is_not_guessed(images):
    assert attribute(Padded(), images, 0).input_size is None


def test_windows_as_people_write_them(images):
    class Functional(nn.Module):
        def forward(self, images):
            maps = nn.functional.conv2d(images, torch.ones(4, 3, 5, 5), stride=2, padding="valid")
            maps = nn.functional.max_pool2d(maps, 2)
            maps = nn.functional.conv2d(maps, torch.ones(4, 4, 3, 3), padding="same", dilation=2)
            maps = torch.cat([maps, nn.functional.avg_pool2d(maps, 3, stride=1, padding=1)], 1)
            return nn.functional.linear(maps.mean((2, 3)), torch.ones(2, 8))

    model = Functional()
    model.fc = nn.Linear(8, 2)  # to be counted by
    assert attribute(model, images, 0).grid == (3.5, 4)  # 0.5 + 2, + 2 * 0.5
    oblong = nn.Sequential(nn.Conv2d(3, 4, 3, stride=(2, 4)), nn.AdaptiveAvgPool2d(1),
                           nn.Flatten(), nn.Linear(4, 2))  # fmt: skip
    assert attribute(oblong, images, 0).input_size is None
