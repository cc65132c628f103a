"""The house style draws what it is given, and refuses what cannot be drawn."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from chexlib import plots
from chexlib.metrics import likelihood_ratio


@pytest.fixture(autouse=True)
def _style():
    with mpl.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def contrast(one: str, other: str) -> float:
    """WCAG 2.1 contrast ratio."""

    def luminance(colour):
        channel = np.asarray(mpl.colors.to_rgb(colour))
        linear = np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_text_is_legible_on_the_panel():
    assert contrast(plots.INK, plots.PANEL) > 7


def test_figures_are_small_and_opaque():
    assert mpl.rcParams["figure.dpi"] <= 100
    assert mpl.rcParams["figure.facecolor"] == plots.PANEL


def test_forest_draws_every_interval_once_a_series():
    _, ax = plt.subplots()
    for series in range(2):
        plots.forest(ax, ["Mass", "Pleural_Thickening"], [1, 2], [0, 1], [2, 3], label=str(series),
                     series=series, n_series=2)  # fmt: skip
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Mass", "Pleural Thickening"]
    assert len(ax.collections) == 2
    markers = {line.get_marker() for line in ax.lines}
    assert len(markers) == 2  # never colour alone
    assert ax.yaxis_inverted()


def test_forest_leaves_a_gap_for_nan():
    _, ax = plt.subplots()
    plots.forest(ax, ["a", "b"], [np.nan, 1], [np.nan, 0], [np.nan, 2])
    assert np.isnan(ax.lines[0].get_xdata()[0])


@pytest.mark.parametrize(
    ("estimate", "low", "message"), [([1], [0], "as many names"), ([0, 3], [1, 2], "on each line")]
)
def test_forest_refuses(estimate, low, message):
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=message):
        plots.forest(ax, ["a", "b"], estimate, low, [4] * len(low))


def test_squares_draws_a_hundred_marks():
    _, ax = plt.subplots()
    plots.squares(ax, {"ill": 1 / 3, "odd": 1 / 3, "well": 1 / 3}, title="100 films")
    marks = [collection.get_offsets() for collection in ax.collections]
    assert [len(one) for one in marks] == [34, 33, 33]
    assert len({tuple(place) for one in marks for place in one}) == 100
    assert ax.get_legend().get_texts()[0].get_text() == "34 ill"
    with pytest.raises(ValueError, match="sum to 1"):
        plots.squares(ax, {"ill": 0.5})


def test_forest_table_splits_rows_into_series():
    _, ax = plt.subplots()
    rows = pd.DataFrame(
        {
            "finding": ["Mass", "Hernia"] * 2,
            "subset": ["val", "val", "test", "test"],
            **{"estimate": 0.5, "low": 0.4, "high": 0.6},
        }
    )
    plots.forest_table(ax, rows, names="finding", series="subset")
    assert [line.get_label() for line in ax.lines] == ["val", "test"]
    plots.forest_table(ax, rows[:2], names="finding")
    assert len(ax.lines) == 3


def test_shares_stacks_to_the_whole():
    _, ax = plt.subplots()
    table = pd.DataFrame(
        {"yes": [0.95, 0.4], "no": [0.05, 0.6]}, index=["Mass", "Pleural_Thickening"]
    )
    plots.shares(ax, table)
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
    assert max(ends) == pytest.approx(1)
    assert {bar.get_hatch() for bar in ax.patches} == {"", "///"}  # never colour alone
    assert [text.get_text() for text in ax.texts] == ["95%", "40%", "60%"]


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(False, ["0.001", "0.5", "2,000"]), (True, ["0.1%", "50%", "200000%"])],
)
def test_log_ticks_are_plain_numbers_and_no_others(percent, expected):
    _, ax = plt.subplots()
    ax.plot([0.001, 3000], [0, 1])
    plots.log_ticks(ax, [0.001, 0.5, 2000], percent=percent)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == expected
    assert ax.get_xscale() == "log"
    assert len(ax.get_xticks(minor=True)) == 0


def test_ppv_curve_passes_through_bayes():
    _, ax = plt.subplots()
    label, truth = np.repeat([[1, 0, 1, 0], [1, 1, 0, 0]], [50, 50, 5, 95], axis=1)
    found = likelihood_ratio(label, truth, resamples=50)
    for series in range(2):
        plots.ppv_curve(ax, found, label=str(series), series=series, prevalence=(0.01, 0.5))
    curve = ax.lines[0]
    assert curve.get_ydata()[-1] == pytest.approx(0.5 / (0.5 + 0.05))
    assert len({line.get_linestyle() for line in ax.lines}) == 2  # never colour alone


def test_lines_keep_names_apart():
    _, ax = plt.subplots()
    rows = pd.DataFrame({"name": ["a", "a", "b", "b"], "x": [1, 2, 1, 2], "estimate": 0.5})
    plots.lines(ax, rows.assign(low=0.4, high=0.6), x="x", names="name")
    drawn = [container[0] for container in ax.containers]
    assert [container.get_label() for container in ax.containers] == ["a", "b"]
    assert len({line.get_marker() for line in drawn}) == 2  # never colour alone
    assert drawn[0].get_xdata()[0] < drawn[1].get_xdata()[0]
