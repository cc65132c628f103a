"""The figures of chapter 4 put votes and readers where they belong."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from chexlib.data import table
from figures.readers import call_rates, votes


@pytest.fixture
def ax():
    return plt.subplots()[1]


def test_bars_of_votes_are_as_long_as_the_films_with_a_vote(ax):
    counts = table("reader_votes")
    votes(ax, counts, ["Pneumothorax", "Pleural_Thickening"])
    ends = {round(bar.get_y() + 0.4): bar.get_x() + bar.get_width() for bar in ax.patches}
    called = counts[counts["votes"] > 0].groupby("finding")["n"].sum()
    assert ends == {0: called["Pneumothorax"], 1: called["Pleural_Thickening"]}
    assert [text.get_text() for text in ax.texts] == ["125 of 204", "39 of 295"]
    assert [text.get_text() for text in ax.get_yticklabels()][1] == "Pleural Thickening"


def test_each_reader_has_a_mark_on_each_line(ax):
    rates = pd.DataFrame(
        {
            "finding": ["A", "A", "B_b", "B_b"],
            "reader": list("XYXY"),
            "estimate": [0.1, 0.2, 0.3, 0.05],
        }
    )
    call_rates(ax, rates, ["B_b", "A"])
    x, y = (line.get_xydata() for line in ax.lines)
    np.testing.assert_allclose(x, [[0.3, 0], [0.1, 1]])
    np.testing.assert_allclose(y, [[0.05, 0], [0.2, 1]])
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_yticklabels()] == ["B b", "A"]
