"""The house style draws what it is given, and refuses what cannot be drawn."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from chexlib import plots


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
