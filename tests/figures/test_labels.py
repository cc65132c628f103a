"""The figures of chapters 1, 3 and 7 put each labeller and each share where it belongs."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from chexlib.data import load_labels
from chexlib.data.prevalence import odds_ratios
from chexlib.metrics import likelihood_ratio
from figures.labels import (
    age_reversals,
    dumbbells,
    labellers,
    lorenz,
    ppv_curve,
    shares,
    square,
    squares,
    top_share,
)


@pytest.fixture
def ax():
    return plt.subplots()[1]


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


def test_squares_draws_a_hundred_marks(ax):
    squares(ax, {"ill": 1 / 3, "odd": 1 / 3, "well": 1 / 3}, title="100 films")
    marks = [collection.get_offsets() for collection in ax.collections]
    assert [len(one) for one in marks] == [34, 33, 33]
    assert len({tuple(place) for one in marks for place in one}) == 100
    assert ax.get_legend().get_texts()[0].get_text() == "34 ill"


@pytest.mark.parametrize(
    ("draw", "values", "message"),
    [
        (squares, {"ill": 0.5}, "sum to 1, got 0.500"),
        (labellers, {"odd": ([1.1], [0.9])}, "Expected rates from 0 to 1 of 'odd', got"),
    ],
)
def test_what_is_no_share_is_refused(ax, draw, values, message):
    with pytest.raises(ValueError, match=message):
        draw(ax, values)


def test_shares_stacks_to_the_whole(ax):
    table = pd.DataFrame(
        {"yes": [0.95, 0.4], "no": [0.05, 0.6]}, index=["Mass", "Pleural_Thickening"]
    )
    shares(ax, table)
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
    assert max(ends) == pytest.approx(1)
    assert {bar.get_hatch() for bar in ax.patches} == {"", "///"}  # never colour alone
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["95%", "40%", "60%"]


def test_ppv_curve_passes_through_bayes(ax):
    label, truth = np.repeat([[1, 0, 1, 0], [1, 1, 0, 0]], [50, 50, 5, 95], axis=1)
    found = likelihood_ratio(label, truth, resamples=50)
    for series in range(2):
        ppv_curve(ax, found, label=str(series), series=series, prevalence=(0.01, 0.5))
    curve = ax.lines[0]
    assert curve.get_ydata()[-1] == pytest.approx(0.5 / (0.5 + 0.05))
    assert len({line.get_linestyle() for line in ax.lines}) == 2  # never colour alone


def test_lorenz_rises_ever_more_slowly_and_of_equal_counts_is_the_diagonal():
    patients, share = lorenz([3, 3, 3, 3])
    assert share == pytest.approx(patients)
    assert top_share([3, 3, 3, 3], 0.25) == pytest.approx(0.25)
    counts = np.random.default_rng(0).integers(1, 50, 100)
    _, share = lorenz(counts)
    assert share[0] == 0
    assert share[-1] == pytest.approx(1)
    assert (np.diff(share, 2) <= 1e-12).all()
    assert top_share(counts, 0.1) == pytest.approx(np.sort(counts)[-10:].sum() / counts.sum())


@pytest.mark.parametrize("counts", [[], [0, 0], [-1, 2]])
def test_lorenz_refuses(counts):
    with pytest.raises(ValueError, match="sum above 0"):
        lorenz(counts)


def test_in_order_of_follow_up_nobody_grows_younger_whatever_the_order_of_rows():
    films = load_labels()
    suffix = films["image"].str[9:12].astype(int)
    assert age_reversals(films, films["follow_up"]) == 0
    shuffled = films.sample(frac=1, random_state=1)
    assert age_reversals(films, suffix) == age_reversals(shuffled, suffix[shuffled.index]) > 2000


def test_odds_ratios_as_a_square_are_symmetric():
    names, films = ["Mass", "Nodule", "Edema"], load_labels().head(3000)
    matrix = square(odds_ratios(films, names), "n_both")
    assert list(matrix.index) == names
    off = ~np.eye(3, dtype=bool)
    assert np.array_equal(matrix.to_numpy()[off], matrix.T.to_numpy()[off])
    assert matrix.loc["Mass", "Edema"] == (films["Mass"] & films["Edema"]).sum()
    assert np.isnan(np.diag(matrix)).all()
