"""Films with maps of their own, and cells where the network has them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from chexlib.interpret import cell_centres, class_activation_maps
from chexlib.models import CheXNet
from chexlib.plots.cam import Picture, cells, method_heats, pictures

IMAGE = np.full((224, 224), 90, np.uint8)
HEAT = np.linspace(-1, 1, 224 * 224).reshape(224, 224)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_every_film_has_its_own_map_and_its_own_title():
    figure = pictures(
        {"alone": Picture(IMAGE), "map": Picture(IMAGE, HEAT, [(10, 20, 30, 40)])}, columns=2
    )
    alone, mapped = figure.axes
    assert [ax.get_title() for ax in (alone, mapped)] == ["alone", "map"]
    opacity = [ax.get_images()[1].get_array()[..., 3].max() for ax in (alone, mapped)]
    assert opacity[0] == 0 < opacity[1]
    (box,) = mapped.patches
    assert (box.get_x(), box.get_y()) == (9.5, 19.5)
    assert (box.get_width(), box.get_height()) == (30, 40)


def test_limits_are_shared_and_a_bar_says_what_they_are():
    figure = pictures(
        {"weak": Picture(IMAGE, HEAT / 4), "strong": Picture(IMAGE, HEAT)},
        limits=(0, 1),
        label="added to the logit",
    )
    weak, strong, bar = figure.axes
    opacity = [ax.get_images()[1].get_array()[..., 3].max() for ax in (weak, strong)]
    assert opacity[0] == pytest.approx(opacity[1] / 4)
    assert bar.get_ylabel() == "added to the logit"


def test_no_picture_is_refused():
    with pytest.raises(ValueError, match="at least one picture"):
        pictures({})


def test_cells_are_where_the_network_has_them():
    _, ax = plt.subplots()
    values = np.arange(9).reshape(3, 3) - 4.0
    cells(ax, IMAGE, values, input_size=112, truth=[(0, 0, 10, 10)])
    centres = 2 * cell_centres(3)  # a film of 224 px, a network of 112
    written = {(text.get_text(), text.get_position()) for text in ax.texts}
    assert ("\N{MINUS SIGN}4.0", (centres[0], centres[0])) in written
    assert ("+4.0", (centres[2], centres[2])) in written
    assert len(ax.patches) == 9 + 1
    # What the cells do not reach stays in the picture.
    assert ax.get_xlim() == (-0.5, 223.5)
    assert ax.get_ylim() == (223.5, -0.5)


def test_methods_are_enlarged_and_cut_at_0():
    torch.manual_seed(0)
    model, images = CheXNet(growth_rate=12), torch.randn(1, 3, 64, 64)
    heats = method_heats(model, images, "Mass", {"one": "cam", "same": "gradcam"}, size=128)
    cam = class_activation_maps(model, images)[0, 4].clamp_min(0)
    assert list(heats) == ["one", "same"]
    assert heats["one"].shape == (128, 128)
    assert heats["one"].max() == pytest.approx(float(cam.max()), rel=1e-5)
    np.testing.assert_allclose(heats["same"] * cam.numel(), heats["one"], atol=1e-4)
