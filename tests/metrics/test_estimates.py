"""Wilson's interval against published ones, and its properties."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexlib.metrics import Estimate, UndefinedWarning, wilson
from chexlib.metrics.estimates import wilson_interval

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
levels = st.floats(0.5, 0.999)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_that_of_newcombes_table(k, n, low, high):
    """Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3."""
    found = wilson(k, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(k / n, n) == pytest.approx((found.low, found.high))


@given(counts, levels)
def test_wilson_stays_inside_mirrors_and_narrows_with_more_films(count, level):
    k, n = count
    found, mirrored = wilson(k, n, level=level), wilson(n - k, n, level=level)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.low < found.high
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)
    for other in (wilson(10 * k, 10 * n, level=level), wilson(k, n, level=0.49)):
        assert other.high - other.low < found.high - found.low


def test_wilson_of_nothing_is_undefined():
    with pytest.warns(UndefinedWarning, match="no trials"):
        found = wilson(0, 0)
    assert math.isnan(found.estimate)
    assert math.isnan(found.low)


BAD_COUNTS = [(-1, 3), (4, 3), (0.5, 3), (math.nan, 10), (1, math.nan)]


@pytest.mark.parametrize(
    ("k", "n", "level", "message"),
    [(*pair, 0.95, "0 <= k <= n") for pair in BAD_COUNTS]
    + [(1, 2, level, r"Use 0\.95") for level in (0, 1, 95)],
)
def test_wilson_refuses_what_is_no_count_or_level(k, n, level, message):
    with pytest.raises(ValueError, match=message):
        wilson(k, n, level=level)


def test_estimate_reads_as_text():
    found = Estimate(1, 2, 0.5, 0.25, 0.75, "test")
    assert str(found) == "0.50 (0.25 to 0.75)"
    assert f"{found:.0%}" == "50% (25% to 75%)"
