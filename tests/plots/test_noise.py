"""The figures of chapter 5 put each labeller and each share where it belongs."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from chexlib.plots.noise import dumbbells, labellers

matplotlib.use("Agg")


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_a_labeller_is_a_point_of_the_roc_plane(ax):
    labellers(ax, {"careful": ([0.9, 0.8], [0.95, 0.9]), "worse": ([0.1], [0.7])})
    diagonal, careful, worse = (line.get_xydata() for line in ax.lines)
    np.testing.assert_allclose(diagonal, [[0, 0], [1, 1]])
    np.testing.assert_allclose(careful, [[0.05, 0.9], [0.1, 0.8]])
    np.testing.assert_allclose(worse, [[0.3, 0.1]])
    assert careful[0, 1] > careful[0, 0]
    assert worse[0, 1] < worse[0, 0]  # below the diagonal
    names = ax.get_legend_handles_labels()[1]
    assert names == ["careful", "worse"]
    assert ax.lines[1].get_marker() != ax.lines[2].get_marker()
    right = ax.get_xlim()[1]
    assert 0.3 < right <= 1


def test_rates_outside_0_to_1_are_refused(ax):
    with pytest.raises(ValueError, match="Expected rates from 0 to 1 of 'odd', got"):
        labellers(ax, {"odd": ([1.1], [0.9])})


def test_dumbbells_join_the_figures_of_a_line(ax):
    values = pd.DataFrame({"seen": [0.1, 0.4], "true": [0.3, 0.2]}, index=["A", "Pleural_X"])
    dumbbells(ax, values)
    (bars,) = ax.collections
    ends = [segment[:, 0].tolist() for segment in bars.get_segments()]
    assert ends == [[0.1, 0.3], [0.2, 0.4]]
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0.1, 0], [0.4, 1]])
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[0.3, 0], [0.2, 1]])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["A", "Pleural X"]
    bottom, top = ax.get_ylim()
    assert bottom > top  # the first line is on top
