"""Text of differences: signs, no-break spaces, missing intervals."""

import pandas as pd
import pytest

from chexlib.metrics.differences import difference_text, p_text


def test_signs_and_missing_intervals():
    rows = pd.DataFrame(
        {
            "difference": [0.115, -0.2, -0.004],
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
