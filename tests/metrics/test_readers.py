"""Readers against one another: F1 by scikit-learn, expectations by simulation, properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from chexlib.metrics.readers import (
    against_others,
    equal_skill,
    expected_f1,
    f1_between,
    simulate_reads,
)


@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(2, 5))))
def test_f1_is_scikit_learns_and_symmetric(reads):
    found = f1_between(reads)
    np.testing.assert_array_equal(found, found.T)
    for i, one in enumerate(reads.T):
        for j, other in enumerate(reads.T):
            if one.any() or other.any():
                assert found[i, j] == pytest.approx(f1_score(one, other))
            else:
                assert np.isnan(found[i, j])


def test_several_studies_at_once_are_the_studies_one_by_one():
    reads = simulate_reads(50, [0.2, 0.4, 0.5], 0.7, repeats=6, seed=0)
    together = against_others(f1_between(reads))
    assert together.shape == (6, 3)
    for study, scored in zip(reads, together, strict=True):
        np.testing.assert_allclose(against_others(f1_between(study)), scored)


def test_nobody_is_scored_against_himself():
    f1 = np.array([[1, 0.2, 0.4], [0.2, 1, 0.6], [0.4, 0.6, 1]])
    np.testing.assert_allclose(against_others(f1), [0.3, 0.4, 0.5])
    np.testing.assert_allclose(against_others(f1, slice(2)), [0.2, 0.2, 0.5])


@pytest.mark.parametrize("skill", [0.0, 0.6, [0.3, 0.9, 0.7]])
def test_expectation_is_what_many_simulated_films_give(skill):
    rate = [0.1, 0.3, 0.5]
    reads = simulate_reads(400_000, rate, skill, repeats=1, seed=1)[0]
    np.testing.assert_allclose(reads.mean(axis=0), rate, atol=0.003)
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(f1_between(reads)[off], expected_f1(rate, skill)[off], atol=0.006)


def test_readers_without_skill_agree_by_chance():
    rate = np.array([0.1, 0.4])
    chance = 2 * np.multiply.outer(rate, rate) / np.add.outer(rate, rate)
    np.testing.assert_allclose(expected_f1(rate, 0.0), chance)


@given(
    st.lists(st.floats(0.05, 0.5), min_size=2, max_size=5),
    st.floats(0.1, 0.95),
)
def test_equal_skill_inverts_the_expectation(rate, skill):
    mean = against_others(expected_f1(rate, skill)).mean()
    assert equal_skill(mean, rate) == pytest.approx(skill, abs=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="mean F1 between 0.400"):
        equal_skill(0.3, [0.4, 0.4])
    with pytest.raises(ValueError, match="at least two readers"):
        equal_skill(0.3, [0.4])
    with pytest.raises(ValueError, match="0 and 1"):
        f1_between([[0.5, 1.0]])
    with pytest.raises(ValueError, match="call rates strictly between"):
        expected_f1([0.0, 0.2], 0.5)
    with pytest.raises(ValueError, match="one skill or 2"):
        expected_f1([0.1, 0.2], [0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="at least one film"):
        simulate_reads(0, [0.1], 0.5, repeats=1, seed=0)
