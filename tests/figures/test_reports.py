"""The figures of chapter 2 draw the rules that they are asked for, in their order."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from figures.reports import PHRASES, phrase_reports, rule_path, rules_by_phrase

ROWS = pd.DataFrame(
    {
        "rule": ["negation", "word", "history"],
        "precision": [0.5, 0.1, 0.9],
        "precision_low": [0.4, 0.05, 0.7],
        "precision_high": [0.6, 0.2, 0.95],
        "recall": [0.9, 1.0, 0.7],
        "recall_low": [0.8, 0.95, 0.6],
        "recall_high": [0.95, 1.0, 0.8],
    }
)


def test_path_is_in_the_order_of_the_rules():
    _, ax = plt.subplots()
    rule_path(ax, ROWS, rules={"word": "the word", "negation": "denied"})
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1.0, 0.1], [0.9, 0.5]])
    assert ax.get_legend_handles_labels()[1] == ["the word", "denied"]
    across, along = (
        [bars.lines[2][way].get_segments()[0] for bars in ax.containers] for way in (0, 1)
    )
    np.testing.assert_allclose([ends[:, 0] for ends in across], [[0.95, 1.0], [0.8, 0.95]])
    np.testing.assert_allclose([ends[:, 1] for ends in along], [[0.05, 0.2], [0.4, 0.6]])
    plt.close("all")


def test_unknown_rule():
    with pytest.raises(KeyError, match="hedges"):
        rule_path(None, ROWS, rules={"hedges": ""})


def test_a_disc_stands_where_a_rule_gives_a_label():
    _, ax = plt.subplots()
    kept = pd.DataFrame({"word": [True, True], "negation": [False, True]}, index=["No x.", "An x."])
    rules_by_phrase(ax, kept)
    large = [line.get_xydata()[0].tolist() for line in ax.lines if line.get_markersize() > 5]
    assert large == [[0, 0], [0, -1], [1, -1]]
    assert [text.get_text() for text in ax.texts] == ["No x.", "An x."]


def test_each_phrase_is_a_report_of_its_own():
    reports = phrase_reports()
    assert len(reports) == len(PHRASES)
    for (section, text), row in zip(PHRASES, reports.to_dict("records"), strict=True):
        assert row[section] == text
