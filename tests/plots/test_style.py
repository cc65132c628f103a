"""The house style draws what it is given, and refuses what cannot be drawn."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from chexlib import plots


@pytest.fixture(autouse=True)
def _style():
    with mpl.rc_context():
        plots.use_style()
        yield


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


@pytest.mark.parametrize("n_series", [2, 3, 4])
def test_series_of_a_line_stand_closer_together_than_lines_do(n_series):
    _, ax = plt.subplots()
    for series in range(n_series):
        ends = ([1, 1], [0, 0], [2, 2])
        plots.forest(ax, ["a", "b"], *ends, series=series, n_series=n_series)
    first, second = np.array([line.get_ydata() for line in ax.lines]).T
    assert first.mean() == pytest.approx(0)
    assert second[0] - first[-1] > 1.2 * np.diff(first).max() > 0


def test_a_second_series_alone_stands_on_its_line():
    _, ax = plt.subplots()
    plots.forest(ax, ["a"], [1], [0], [2], series=1)
    assert ax.lines[0].get_ydata() == [0]


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


def test_forest_table_puts_a_row_on_the_line_of_its_name():
    """A series that lacks lines, or has them in another order, is not drawn on those of others."""
    _, ax = plt.subplots()
    rows = pd.DataFrame(
        {
            "finding": ["Mass", "Hernia", "Nodule", "Nodule", "Mass"],
            "subset": ["val"] * 3 + ["test"] * 2,
            "estimate": [0.1, 0.2, 0.3, 0.35, 0.15],
        }
    )
    rows = rows.assign(low=rows["estimate"] - 0.05, high=rows["estimate"] + 0.05)
    plots.forest_table(ax, rows, names="finding", series="subset")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Mass", "Hernia", "Nodule"]
    (val, test), ticks = ax.lines[:2], ax.get_yticks()
    at = {round(x, 2): y for line in (val, test) for x, y in line.get_xydata() if x == x}
    for estimate, tick in {0.1: 0, 0.15: 0, 0.2: 1, 0.3: 2, 0.35: 2}.items():
        assert abs(at[estimate] - ticks[tick]) < 0.5
    with pytest.raises(ValueError, match="duplicate"):
        plots.forest_table(ax, pd.concat([rows, rows]), names="finding", series="subset")


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


def test_lines_keep_names_apart():
    _, ax = plt.subplots()
    rows = pd.DataFrame({"name": ["a", "a", "b", "b"], "x": [1, 2, 1, 2], "estimate": 0.5})
    plots.lines(ax, rows.assign(low=0.4, high=0.6), x="x", names="name")
    drawn = [container[0] for container in ax.containers]
    assert [container.get_label() for container in ax.containers] == ["a", "b"]
    assert len({line.get_marker() for line in drawn}) == 2  # never colour alone
    assert drawn[0].get_xdata()[0] < drawn[1].get_xdata()[0]


def test_panels_leave_no_frame_empty():
    figure, axes = plots.panels(5, columns=3, width=6, height=2, sharex=True)
    assert figure.axes == axes
    assert len(axes) == 5
    assert list(figure.get_size_inches()) == [6, 4]
