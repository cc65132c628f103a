"""Figures of chapters 8 to 10: a panel for each finding, and what is drawn in it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from chexlib.data import table
from chexlib.findings import FINDINGS
from chexlib.metrics import precision_recall, roc, threshold_sweep
from figures.scores import (
    band,
    curve_panels,
    decision_panels,
    expected_forest,
    name_points,
    operating_panel,
    reader_panels,
    reliability_panels,
)

SOME = ["Effusion", "Pneumothorax", "Hernia"]


def test_reliability_has_a_panel_a_finding():
    rows = table("reliability")
    rows = rows[rows["finding"].isin(SOME) & rows["method"].isin(["as published", "Platt"])]
    figure = reliability_panels(rows)
    assert [ax.get_title() for ax in figure.axes] == ["Pleural effusion", "Pneumothorax", "Hernia"]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["as published", "Platt"]
    bins = rows[(rows["finding"] == "Effusion") & (rows["method"] == "Platt")]
    assert len(figure.axes[0].lines[-1].get_xdata()) == len(bins)


@pytest.mark.parametrize("n", [2, 3])
def test_decision_curves_name_their_rivals_and_no_panel_is_empty(n):
    rows = table("decision_curves")
    figure = decision_panels(rows[rows["finding"].isin(SOME[:n])])
    assert len(figure.axes) == n
    labels = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert labels == ["as published", "Platt", "act on all"]


def test_forest_marks_what_was_expected_and_points_get_the_names_asked_for():
    _, ax = plt.subplots()
    expected_forest(ax, table("prior_shift"), SOME)
    assert ax.get_legend_handles_labels()[1] == ["PA, observed", "AP, observed", "expected"]
    _, ax = plt.subplots()
    rows = table("calibration").query("method == 'Platt'").set_index("finding")
    name_points(ax, rows["ece"], rows["brier"], ["Pleural_Thickening"])
    assert [text.get_text() for text in ax.texts] == ["Pleural thickening"]


@pytest.fixture
def bands():
    x = np.linspace(0, 1, 5)
    parts = [
        pd.DataFrame(
            {"finding": name, "curve": curve, "x": x, "estimate": x, "low": x / 2, "high": x}
        )
        for name in FINDINGS
        for curve in ("roc", "pr")
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(
    ("curve", "chance", "second"), [("roc", None, [0, 1]), ("pr", 0.1, [0.1, 0.1])]
)
def test_a_band_has_the_line_of_a_useless_score(bands, curve, chance, second):
    _, ax = plt.subplots()
    rows = bands[(bands["finding"] == "Mass") & (bands["curve"] == curve)]
    band(ax, rows, chance=chance)
    assert list(ax.lines[0].get_ydata()) == second
    np.testing.assert_allclose(ax.lines[1].get_ydata(), rows["estimate"])


def test_panels_name_every_finding_with_its_note(bands):
    figure = curve_panels(bands, curve="roc", notes={name: f"note {name}" for name in FINDINGS})
    titles = [ax.get_title("left") for ax in figure.axes]
    assert len(titles) == len(FINDINGS)
    assert all(f"note {name}" in title for name, title in zip(FINDINGS, titles, strict=True))


def test_panels_carry_curves_and_the_readers_point():
    curves, pairs = table("clean_curves"), table("clean_labels").query("main")
    readers = pairs[pairs["comparison"] == "sensitivity"].set_index("finding")
    figure = reader_panels(curves, readers)
    assert [ax.get_title() for ax in figure.axes] == list(readers.index)
    for ax in figure.axes:
        x, y = ax.lines[-1].get_data()
        row = readers.loc[ax.get_title()]
        assert (x[0], y[0]) == (row["false_positive_rate"], row["second"])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda rows: band(None, rows), "one finding and one curve, got 28"),
        (lambda rows: curve_panels(rows, curve="det", notes={}), "got 'det'"),
        (lambda rows: reader_panels(rows, pd.DataFrame()), "a reader for each finding, got none"),
    ],
)
def test_refuses(bands, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(bands)


def test_an_operating_point_lies_on_its_curves():
    label, score = np.arange(200) % 2 == 1, np.arange(200) ** 2 % 211 / 211
    point = threshold_sweep(label, score, [0.5], resamples=50)
    _, (left, right) = plt.subplots(1, 2)
    operating_panel(left, roc(label, score), point)
    operating_panel(right, precision_recall(label, score), point)
    row = point.iloc[0]
    for ax, x, y in ((left, "specificity", "sensitivity"), (right, "sensitivity", "ppv")):
        ends = [segment for bars in ax.containers[0].lines[2] for segment in bars.get_segments()]
        across, up = (np.sort(end, axis=0) for end in ends)
        low, high = row[f"{x}_low"], row[f"{x}_high"]
        wanted = [1 - high, 1 - low] if x == "specificity" else [low, high]
        assert across[:, 0] == pytest.approx(wanted)
        assert up[:, 1] == pytest.approx([row[f"{y}_low"], row[f"{y}_high"]])
