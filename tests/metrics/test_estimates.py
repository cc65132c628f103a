"""Wilson's interval against statsmodels, and its properties."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from chexlib.metrics import Estimate, UndefinedWarning, wilson
from chexlib.metrics.estimates import wilson_interval

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
levels = st.floats(0.5, 0.999)


@given(counts, levels)
def test_wilson_is_that_of_statsmodels(count, level):
    k, n = count
    found = wilson(k, n, level=level)
    low, high = proportion_confint(k, n, alpha=1 - level, method="wilson")
    assert found.estimate == k / n
    assert found.low == pytest.approx(low, abs=1e-12)
    assert found.high == pytest.approx(high, abs=1e-12)


@given(counts, levels)
def test_wilson_stays_inside_and_mirrors(count, level):
    k, n = count
    found, mirrored = wilson(k, n, level=level), wilson(n - k, n, level=level)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.low < found.high
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)


@given(counts)
def test_wilson_narrows_with_more_films_and_less_confidence(count):
    k, n = count
    width = wilson(k, n).high - wilson(k, n).low
    assert wilson(10 * k, 10 * n).high - wilson(10 * k, 10 * n).low < width
    assert wilson(k, n, level=0.8).high - wilson(k, n, level=0.8).low < width


def test_wilson_of_nothing_is_undefined():
    with pytest.warns(UndefinedWarning, match="no trials"):
        found = wilson(0, 0)
    assert math.isnan(found.estimate)
    assert math.isnan(found.low)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0.5, 3), (math.nan, 10), (1, math.nan)])
def test_wilson_refuses_what_is_no_count(k, n):
    with pytest.raises(ValueError, match="0 <= k <= n"):
        wilson(k, n)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_level_is_a_probability(level):
    with pytest.raises(ValueError, match=r"Use 0\.95"):
        wilson(1, 2, level=level)


def test_wilson_interval_takes_any_share():
    assert wilson_interval(0.25, 8) == pytest.approx(proportion_confint(2, 8, method="wilson"))


def test_estimate_reads_as_text():
    found = Estimate(1, 2, 0.5, 0.25, 0.75, "test")
    assert str(found) == "0.50 (0.25 to 0.75)"
    assert f"{found:.0%}" == "50% (25% to 75%)"
