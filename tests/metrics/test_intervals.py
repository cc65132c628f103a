"""AUROC intervals: against the paper, simulation, scikit-learn, brute force and the bootstrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from chexlib.metrics.intervals import auroc_standard_error, clustered_auroc


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


@st.composite
def scored_films(draw):
    n = draw(st.integers(4, 40))
    positive = draw(
        st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda v: 0 < sum(v) < n)
    )
    score = draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))
    cluster = draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))
    return np.array(score), np.array(positive), np.array(cluster)


@given(scored_films())
def test_auroc_is_scikit_learns(films):
    score, positive, cluster = films
    result = clustered_auroc(score, positive, cluster=cluster)
    assert result.auroc == pytest.approx(roc_auc_score(positive, score))
    if np.isfinite(result.low):
        assert 0 <= result.low <= result.auroc <= result.high <= 1


@given(scored_films())
def test_turning_scores_round_mirrors_the_interval(films):
    score, positive, cluster = films
    one = clustered_auroc(score, positive, cluster=cluster)
    other = clustered_auroc(-score, positive, cluster=cluster)
    assert other.auroc == pytest.approx(1 - one.auroc)
    assert [other.low, other.high] == pytest.approx([1 - one.high, 1 - one.low], nan_ok=True)


def test_single_films_give_delongs_variance():
    rng = np.random.default_rng(1)
    positive = np.arange(200) < 60
    score = rng.normal(size=200) + positive
    wins = (score[positive][:, None] > score[~positive]).astype(float)
    delong = wins.mean(1).var(ddof=1) / 60 + wins.mean(0).var(ddof=1) / 140
    result = clustered_auroc(score, positive, cluster=np.arange(200))
    assert result.standard_error == pytest.approx(np.sqrt(delong), rel=0.01)


def test_doubled_films_of_a_patient_count_once():
    rng = np.random.default_rng(2)
    positive = np.arange(150) < 40
    score = rng.normal(size=150) + positive
    once = clustered_auroc(score, positive, cluster=np.arange(150))
    twice = clustered_auroc(
        np.tile(score, 2), np.tile(positive, 2), cluster=np.tile(np.arange(150), 2)
    )
    assert twice == pytest.approx(once)


def test_standard_error_is_that_of_a_bootstrap_of_patients():
    rng = np.random.default_rng(3)
    cluster = np.repeat(np.arange(150), rng.integers(1, 6, 150))
    patient = rng.normal(size=150)
    positive = rng.normal(size=len(cluster)) + 1.5 * patient[cluster] > 0.8
    score = positive + patient[cluster] + rng.normal(size=len(cluster))
    films = [np.flatnonzero(cluster == c) for c in range(150)]
    estimates = []
    for _ in range(600):
        rows = np.concatenate([films[c] for c in rng.integers(0, 150, 150)])
        estimates.append(roc_auc_score(positive[rows], score[rows]))
    result = clustered_auroc(score, positive, cluster=cluster)
    assert result.standard_error == pytest.approx(np.std(estimates), rel=0.12)
    naive = clustered_auroc(score, positive, cluster=np.arange(len(cluster)))
    assert result.standard_error > 1.15 * naive.standard_error


def test_perfect_separation_has_no_interval():
    result = clustered_auroc([0, 1], [False, True], cluster=[1, 2])
    assert result.auroc == 1
    assert np.isnan(result.low)


@pytest.mark.parametrize(
    ("score", "positive", "message"),
    [
        ([1, 2], [True, True], "both classes"),
        ([1, np.nan], [True, False], "NaN"),
        ([1, 2, 3], [True, False], "one length"),
    ],
)
def test_bad_input_is_refused(score, positive, message):
    with pytest.raises(ValueError, match=message):
        clustered_auroc(score, positive, cluster=[1, 2])
