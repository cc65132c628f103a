"""The AUROC error expected from two counts: against simulation and the rank-sum statistic."""

import numpy as np
import pytest

from chexlib.metrics.intervals import auroc_standard_error


def test_standard_error_is_what_simulation_gives_for_exponential_scores():
    # Exponential scores are the case in which the formula is exact.
    rng = np.random.default_rng(0)
    auroc, n_positive, n_negative = 0.8, 15, 60
    estimates = []
    for _ in range(4000):
        positive = rng.exponential(auroc / (1 - auroc), n_positive)
        negative = rng.exponential(1.0, n_negative)
        estimates.append((positive[:, None] > negative).mean())
    assert np.mean(estimates) == pytest.approx(auroc, abs=0.004)
    expected = auroc_standard_error(auroc, n_positive=n_positive, n_negative=n_negative)
    assert np.std(estimates) == pytest.approx(expected, rel=0.04)


def test_standard_error_at_one_half_is_that_of_the_rank_sum_statistic():
    n, m = 12, 30
    expected = np.sqrt((n + m + 1) / (12 * n * m))  # null variance of Mann-Whitney U / (n m)
    assert auroc_standard_error(0.5, n_positive=n, n_negative=m) == pytest.approx(expected)


def test_standard_error_broadcasts_and_falls_with_positives():
    errors = auroc_standard_error(0.8, n_positive=[10, 100, 1000], n_negative=10_000)
    assert errors.shape == (3,)
    assert (np.diff(errors) < 0).all()


@pytest.mark.parametrize("auroc", [0.0, 1.0, np.nan, [0.5, 1.2]])
def test_standard_error_refuses_impossible_auroc(auroc):
    with pytest.raises(ValueError, match="AUROC strictly between"):
        auroc_standard_error(auroc, n_positive=10, n_negative=10)


def test_standard_error_refuses_no_positive():
    with pytest.raises(ValueError, match="at least 1"):
        auroc_standard_error(0.8, n_positive=0, n_negative=10)
