"""Figures of chapters 13 and 14: what is drawn where, and what is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from chexlib.interpret import (
    HeatMap,
    cell_centres,
    class_activation_maps,
)
from chexlib.models import CheXNet
from figures import maps as draw


def film_rows():
    row = {
        **{"patient": 5, "follow_up": 0, "view": "PA", "sex": "F", "age": 50, "severity": 0.8},
        **{"devices": "marker tube", "x": 0.2, "y": 0.3, "width": 0.1, "height": 0.1},
        **{f"m{r}{c}": r + c for r in range(3) for c in range(3)},
    }
    return pd.DataFrame(
        [
            {**row, "run": run, "marker": "with", "logit": logit}
            for run, logit in (("book", 0.0), ("clue", 9.0))
        ]
    )


def test_a_row_of_the_table_is_the_film_it_describes():
    row = film_rows().iloc[0]
    film = draw.film_of(row, marker=True)
    assert film.devices == {"marker", "tube"}
    assert dict(film.severity) == {"Nodule": 0.8}
    more = draw.film_of({**row, "others": "Mass 0.318 Effusion 0.207"}, marker=True)
    assert dict(more.severity) == {"Nodule": 0.8, "Mass": 0.318, "Effusion": 0.207}
    assert draw.film_of(row, marker=False).devices == {"tube"}
    assert draw.film_of({**row, "devices": np.nan}, marker=False).devices == frozenset()


def test_networks_stand_below_one_another_with_their_answers():
    figure = draw.shortcut_sheet(film_rows())
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["book: 50%", "clue: 100%"]


def test_a_method_without_a_value_at_a_stage_has_a_gap():
    rows = pd.DataFrame(
        {
            "method": ["cam", "cam", "ig"],
            "stage": ["trained", "head", "head"],
            "estimate": [1.0, 0.2, 0.5],
            "low": [1.0, 0.1, 0.4],
            "high": [1.0, 0.3, 0.6],
        }
    )
    _, ax = plt.subplots()
    draw.stage_lines(ax, rows, names={"cam": "CAM", "ig": "gradients"})
    assert [t.get_text() for t in ax.get_xticklabels()] == ["trained", "head"]
    lines = [c.lines[0].get_ydata().astype(float) for c in ax.containers]
    np.testing.assert_array_equal(lines[0], [1.0, 0.2])
    np.testing.assert_array_equal(lines[1], [np.nan, 0.5])


def test_curves_stand_in_the_panel_of_their_kind():
    table = pd.DataFrame(
        [
            ("curve", kind, "cam", share, value)
            for kind, ends in (("deletion", (0.9, 0.1)), ("insertion", (0.1, 0.9)))
            for share, value in zip((0, 1), ends, strict=True)
        ],
        columns=["what", "kind", "source", "share", "estimate"],
    )
    figure = draw.perturbation_panels(table, names={"cam": "CAM"})
    for ax, ends in zip(figure.axes, ((0.9, 0.1), (0.1, 0.9)), strict=True):
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), ends)


def test_points_carry_names_unless_none_are_wanted():
    ends = {"auroc_low": 0.7, "auroc_high": 0.9, "low": 0.1, "high": 0.3}
    rows = pd.DataFrame({"name": ["Mass", "Edema"], "auroc": 0.8, "estimate": 0.2, **ends})
    _, ax = plt.subplots()
    draw.auroc_scatter(ax, rows)
    assert [t.get_text() for t in ax.texts] == ["Mass", "Edema"]
    _, ax = plt.subplots()
    draw.auroc_scatter(ax, rows, labels={})
    assert not ax.texts


def test_cells_are_where_the_network_has_them():
    _, ax = plt.subplots()
    values = np.arange(9).reshape(3, 3) - 4.0
    image = np.full((224, 224), 90, np.uint8)
    draw.cells(ax, image, HeatMap(values, 112), truth=[(0, 0, 10, 10)])
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
    model, images = CheXNet(growth_rate=12), torch.rand(1, 1, 64, 64)
    heats = draw.method_heats(model, images, "Mass", {"one": "cam", "same": "gradcam"}, size=128)
    cam = class_activation_maps(model, images)[0, 4].clamp_min(0)
    assert list(heats) == ["one", "same"]
    assert heats["one"].shape == (128, 128)
    assert heats["one"].max() == pytest.approx(float(cam.max()), rel=1e-5)
    np.testing.assert_allclose(heats["same"] * cam.numel(), heats["one"], atol=1e-4)
