"""Plotly figures: what slider and menu change, what is stored, and that numbers are rounded."""

import numpy as np
import pandas as pd
import pytest

from chexlib.metrics import from_counts, threshold_sweep
from figures.interactive import lines_with_choice, threshold_explorer

CUTS = (0.1, 0.5, 0.9)
NAMES = ("Mass", "Pleural_Thickening")


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    grid, scores = [], []
    for name in NAMES:
        score = np.linspace(0.05, 0.85, 40)
        positive, negative = rng.binomial(20, score), rng.binomial(20, 1 - score)
        columns = {"score": score, "n_positive": positive, "n_negative": negative}
        scores.append(pd.DataFrame({"finding": name} | columns))
        labels, values = from_counts(score, positive=positive, negative=negative)
        sweep = threshold_sweep(labels, values, CUTS, resamples=50)
        grid.append(sweep.assign(finding=name, prevalence=labels.mean()))
    return pd.concat(grid, ignore_index=True), pd.concat(scores, ignore_index=True)


def test_menu_shows_one_finding_and_slider_moves_all(tables):
    figure = threshold_explorer(*tables, first="Pleural_Thickening", start=0.5)
    each = len(figure.data) // 2
    assert [trace.visible for trace in figure.data] == [False] * each + [True] * each
    menu, slider = figure.layout.updatemenus[0], figure.layout.sliders[0]
    assert [button.label for button in menu.buttons] == ["Mass", "Pleural Thickening"]
    assert menu.active == 1
    assert menu.buttons[0].args[0]["visible"] == [True] * each + [False] * each
    assert [step.label for step in slider.steps] == ["0.1", "0.5", "0.9"]
    assert slider.active == 1
    selections = slider.steps[2].args[0]["selectedpoints"]
    assert len(selections) == each
    assert selections == [None, None, [2], [2], [2, 5, 8, 11], [2, 5, 8]]


def test_points_and_cells_are_those_of_the_grid(tables):
    grid, scores = tables
    figure = threshold_explorer(grid, scores)
    rows = grid[grid["finding"] == "Mass"]
    roc, pr, cells, words = figure.data[2:6]
    assert np.asarray(roc.y) == pytest.approx(rows["sensitivity"].to_numpy(), abs=1e-3)
    assert np.asarray(roc.x) == pytest.approx(1 - rows["specificity"].to_numpy(), abs=1e-3)
    ppv = rows["ppv"].to_numpy()
    assert np.isnan(ppv[2])
    assert np.asarray(pr.y)[:2] == pytest.approx(ppv[:2], abs=1e-3)
    four = np.asarray(cells.customdata).reshape(4, 3)
    assert four.sum(axis=0) == pytest.approx(1000, abs=0.3)
    n = rows[["tp", "fp", "fn", "tn"]].sum(axis=1)
    assert four[0] == pytest.approx((1000 * rows["tp"] / n).to_numpy(), abs=0.1)
    assert words.text[8] == "no film<br>is called"


def test_curves_start_and_end_where_they_must(tables):
    roc = threshold_explorer(*tables).data[0]
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert (np.diff(roc.x) >= 0).all()
    assert (np.diff(roc.y) >= 0).all()


@pytest.mark.parametrize("change", [{"first": "Hernia"}, {"start": 0.3}])
def test_an_unknown_finding_or_threshold_is_refused(tables, change):
    with pytest.raises(ValueError, match="Expected the same thresholds"):
        threshold_explorer(*tables, **change)


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
def test_an_unknown_choice_or_too_many_lines_are_refused(change):
    frame = FRAME.assign(estimates=range(8))
    with pytest.raises(ValueError, match="Expected `first`"):
        lines_with_choice(frame, **(OPTIONS | change))
