"""Figures of chapter 7: a panel for each finding, and what is drawn in it."""

import matplotlib.pyplot as plt
import pytest

from chexlib.data import table
from chexlib.plots.thresholds import (
    decision_panels,
    expected_forest,
    name_points,
    reliability_panels,
)

SOME = ["Effusion", "Pneumothorax", "Hernia"]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_reliability_has_a_panel_a_finding():
    rows = table("reliability")
    rows = rows[rows["finding"].isin(SOME) & rows["method"].isin(["as published", "Platt"])]
    figure = reliability_panels(rows)
    assert [ax.get_title() for ax in figure.axes] == ["Pleural effusion", "Pneumothorax", "Hernia"]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["as published", "Platt"]
    bins = rows[(rows["finding"] == "Effusion") & (rows["method"] == "Platt")]
    assert len(figure.axes[0].lines[-1].get_xdata()) == len(bins)


def test_decision_curves_name_their_rivals():
    rows = table("decision_curves")
    figure = decision_panels(rows[rows["finding"].isin(SOME[:2])])
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["as published", "Platt", "act on all"]
    assert len(figure.axes) == 2


def test_an_odd_number_of_findings_leaves_a_panel_empty():
    rows = table("decision_curves")
    figure = decision_panels(rows[rows["finding"].isin(SOME)])
    assert not figure.axes[3].axison


def test_forest_marks_what_was_expected():
    _, ax = plt.subplots()
    expected_forest(ax, table("prior_shift"), SOME)
    assert ax.get_legend_handles_labels()[1] == ["PA, observed", "AP, observed", "expected"]


def test_points_get_the_names_asked_for():
    _, ax = plt.subplots()
    rows = table("calibration").query("method == 'Platt'").set_index("finding")
    name_points(ax, rows["ece"], rows["brier"], ["Pleural_Thickening"])
    assert [text.get_text() for text in ax.texts] == ["Pleural Thickening"]
