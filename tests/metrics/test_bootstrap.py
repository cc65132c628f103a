"""The bootstrap by patient against closed forms and a plain loop."""

import numpy as np
import pandas as pd
import pytest

from chexlib.metrics import Resamples, assess, compare_scores, delong, reliability
from chexlib.metrics.bootstrap import interval_by_patient, patient_counts, resampled_counts
from chexlib.metrics.inputs import check_patients


def test_counts_add_up_over_patients_of_any_type():
    columns = np.arange(8.0).reshape(4, 2)
    expected = columns[:2].sum(axis=0), columns[2:].sum(axis=0)
    assert (patient_counts([3, 3, 5, 5], columns) == expected).all()
    assert (patient_counts(["a", "a", "b", "b"], columns) == expected).all()


def test_resamples_have_the_mean_and_variance_of_the_multinomial():
    counts = np.random.default_rng(1).integers(0, 5, size=(60, 3)).astype(float)
    totals = resampled_counts(counts, resamples=20_000, seed=3)
    expected = len(counts) * np.cov(counts.T, bias=True)
    assert totals.mean(axis=0) == pytest.approx(counts.sum(axis=0), rel=0.01)
    assert np.cov(totals.T) == pytest.approx(expected, rel=0.1, abs=4)


def test_resamples_equal_a_loop_over_the_same_draws():
    counts = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 5.0]])
    picks = np.random.default_rng(7).integers(3, size=(50, 3), dtype=np.int32)
    expected = [counts[row].sum(axis=0) for row in picks]
    assert (resampled_counts(counts, resamples=50, seed=7) == expected).all()


def test_a_seed_repeats_and_another_differs():
    counts = np.eye(6)
    again = resampled_counts(counts, seed=1)
    assert (resampled_counts(counts, seed=1) == again).all()
    assert (resampled_counts(counts, seed=2) != again).any()


def test_interval_leaves_out_resamples_without_a_value():
    counts = np.array([[1.0, 1.0], [0.0, 0.0]])
    low, high = interval_by_patient(counts, lambda totals: totals[:, 0] / totals[:, 1])
    assert (low, high) == (1, 1)
    low, high = interval_by_patient(0 * counts, lambda totals: totals[:, 0] / totals[:, 1])
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize("columns", [np.zeros((3, 2)), np.zeros(2)])
def test_lengths_must_agree(columns):
    with pytest.raises(ValueError, match="each of 3 films|counts of shape"):
        patient_counts([1, 2], columns)


MISSING = {
    "float": [1.0, np.nan],
    "None": ["a", None],
    "text beside NaN": ["a", np.nan],
    "NA": pd.array([1, pd.NA], dtype="Int64"),
    "text NA": pd.Series(["a", pd.NA], dtype="string"),
    "NaT": pd.to_datetime(["2020-01-01", None]),
    "category": pd.Categorical(["a", None]),
}


@pytest.mark.parametrize("patient", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize(
    "ask",
    [
        lambda who: patient_counts(who, np.zeros((2, 1))),
        Resamples,
        lambda who: delong([0, 1], [1, 2], patient=who),
        lambda who: assess([0, 1], [0, 1], patient=who),
        lambda who: compare_scores([0, 1], [1, 2], [2, 1], patient=who),
        lambda who: reliability([0, 1], [0.1, 0.2], patient=who),
    ],
)
def test_films_of_nobody_are_refused(ask, patient):
    with pytest.raises(ValueError, match="Expected a patient for each film, got a missing one"):
        ask(patient)


def test_patients_of_mixed_type_are_told_apart():
    assert len(Resamples([1, "1", 2, "b"], resamples=1).drawn) == 4


def test_the_order_of_patients_is_numpys():
    for who in ([3, 1, 2, 1], ["b", "a", "c", "a"], np.array([2.5, -1, 7, -1])):
        assert (check_patients(who) == np.unique(who, return_inverse=True)[1]).all()


def test_there_must_be_a_resample():
    with pytest.raises(ValueError, match="at least one resample"):
        resampled_counts(np.eye(2), resamples=0)
