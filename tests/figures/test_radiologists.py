"""Figures of chapter 11: a panel for each finding that is judged, every reader in it."""

import matplotlib.pyplot as plt
import pytest

from chexlib.data import table
from figures.radiologists import power_lines, reader_points


def test_every_judged_finding_has_its_readers_and_its_curves():
    rows = table("reader_comparison")
    rows = rows[rows["against"] == "three of the other four"]
    where = ["finding", "rater"]
    points = rows.pivot(index=where, columns="statistic", values="estimate").reset_index()
    points = points[points["rater"].str.startswith("reader ")]
    curves = table("reader_curves")
    figure = reader_points(curves, points)
    assert len(figure.axes) == curves["finding"].nunique()
    labels = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert labels == [f"reader {k}" for k in "ABCDE"]
    assert {len(ax.lines) for ax in figure.axes} == {5 + 1 + 5}
    with pytest.raises(ValueError, match="none for Mass"):
        reader_points(curves, points[points["finding"] != "Mass"])


def test_power_has_a_line_for_each_number_of_readers():
    trial = table("reader_trial").query("finding == 'typical' and margin == 0.1")
    _, ax = plt.subplots()
    power_lines(ax, trial)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [f"{n} readers" for n in (3, 5, 10, 20)]
