"""The panels of chapter 8: one a finding, with the reader's point where it belongs."""

import matplotlib
import matplotlib.pyplot as plt
import pytest

from chexlib.data import table
from chexlib.plots.readers import reader_panels

matplotlib.use("Agg")


def test_panels_carry_curves_and_the_readers_point():
    curves, pairs = table("clean_curves"), table("clean_labels").query("main")
    readers = pairs[pairs["comparison"] == "sensitivity"].set_index("finding")
    figure = reader_panels(curves, readers)
    assert [ax.get_title() for ax in figure.axes] == list(readers.index)
    for ax in figure.axes:
        x, y = ax.lines[-1].get_data()
        row = readers.loc[ax.get_title()]
        assert (x[0], y[0]) == (row["false_positive_rate"], row["second"])
    plt.close(figure)
    with pytest.raises(ValueError, match="Expected a reader for each finding, got none for"):
        reader_panels(curves, readers.drop("Pneumothorax"))
