"""Plotly figures: what a choice shows, and that numbers are rounded."""

import pandas as pd
import pytest

from chexlib.plots.interactive import lines_with_choice

FRAME = pd.DataFrame(
    {
        "finding": ["Mass"] * 4 + ["Pleural_Thickening"] * 4,
        "view": ["PA", "AP"] * 4,
        "age": ["young", "young", "old", "old"] * 2,
        "estimate": 1.23456,
        "low": 1.0,
        "high": 2.0,
    }
)
OPTIONS = {
    "choose": "finding",
    "x": "age",
    "lines": "view",
    "values": ("estimate", "low", "high"),
    "x_title": "Age",
    "y_title": "Films (%)",
}


def test_each_choice_shows_its_own_lines():
    figure = lines_with_choice(FRAME, **OPTIONS, first="Pleural_Thickening")
    assert [line.visible for line in figure.data] == [False, False, True, True]
    menu = figure.layout.updatemenus[0]
    assert [button.label for button in menu.buttons] == ["Mass", "Pleural Thickening"]
    assert menu.active == 1
    assert menu.buttons[0].args[0]["visible"] == [True, True, False, False]
    assert {line.marker.symbol for line in figure.data} == {"circle", "square"}


def test_numbers_are_rounded():
    line = lines_with_choice(FRAME, **OPTIONS, decimals=1).data[0]
    assert line.y.tolist() == [1.2, 1.2]
    assert line.error_y.array.tolist() == [0.8, 0.8]
    assert line.customdata.tolist() == [[1.0, 2.0]] * 2
    assert ":.1f" in line.hovertemplate


@pytest.mark.parametrize("change", [{"first": "Hernia"}, {"lines": "estimates"}])
def test_refuses(change):
    frame = FRAME.assign(estimates=range(8))
    with pytest.raises(ValueError, match="Expected `first`"):
        lines_with_choice(frame, **(OPTIONS | change))
