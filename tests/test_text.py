"""Estimates as text: signs, no-break spaces, missing intervals."""

import numpy as np
import pandas as pd
import pytest

from chexlib.data import table
from chexlib.text import Prose, difference_text, interval_text, layout, p_text


def test_signs_and_missing_intervals():
    rows = pd.DataFrame(
        {
            "estimate": [0.115, -0.2, -0.004],
            "low": [-0.001, -0.3, float("nan")],
            "high": [0.2, -0.1, float("nan")],
        },
        index=list("abc"),
    )
    text = difference_text(rows).str.replace("\N{NO-BREAK SPACE}", " ")
    minus = "\N{MINUS SIGN}"
    assert text["a"] == "+0.12 (0.00 to +0.20)"
    assert text["b"] == f"{minus}0.20 ({minus}0.30 to {minus}0.10)"
    assert text["c"] == "0.00"
    assert not difference_text(rows).str.contains(" ").any()


def test_p_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        p_text([1.2])


def test_interval_text_leaves_out_an_interval_that_is_not_there():
    frame = pd.DataFrame({"a": [0.5, 2.0], "low": [0.25, np.nan], "high": [0.75, 3.0]})
    text = interval_text(frame, ("a", "low", "high"), decimals=2)
    assert text == ["0.50 (0.25\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}0.75)", "2.00"]


def test_layout_writes_intervals():
    committed = table("label_quality")
    google = committed[committed["evidence"] == "google"]
    rows = google[(google["finding"] == "Pneumothorax") & (google["statistic"] == "ppv")]
    wide = layout(rows, index="finding", columns="subset")
    assert list(wide.columns) == ["google_val", "google_test", "google_all"]
    assert wide.iloc[0, 0] == "0.32\N{NO-BREAK SPACE}(0.17–0.47)"
    both = committed[committed["reference"] == "next film"].query("statistic == 'persistence'")
    assert "Pleural thickening" in layout(both, index="finding", columns="statistic").index


def test_sentences_carry_their_numbers():
    say = Prose(films="112,120")
    shown = say("\n{{films}} films {cite}`wang2017`, $\\frac{1}{n}$.\n")
    assert shown._repr_markdown_() == "112,120 films {cite}`wang2017`, $\\frac{1}{n}$."
    assert repr(shown) == "<4 words>"
    with pytest.raises(ValueError, match="none for \\['patients'\\]"):
        say("{{films}} films of {{patients}} patients")
