"""What wrong labels are worth, how their probabilities are undone, and how flags are counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef, precision_score, recall_score

from chexlib.metrics import Resamples, auroc
from chexlib.metrics.label_issues import (
    find_issues,
    label_worth,
    precision_and_recall,
    undo_noise,
)

rate = st.floats(0.02, 0.98)


def noisy(truth, sensitivity, specificity, rng):
    wrong = np.where(truth, 1 - sensitivity, 1 - specificity)
    return truth ^ (rng.random(truth.shape) < wrong)


@given(rate, rate, rate)
def test_worth_is_the_squared_correlation_of_label_and_truth(sensitivity, specificity, prevalence):
    found = label_worth(sensitivity, specificity, prevalence)
    cells = [prevalence * sensitivity, prevalence * (1 - sensitivity)]
    cells += [(1 - prevalence) * (1 - specificity), (1 - prevalence) * specificity]
    phi = matthews_corrcoef([1, 1, 0, 0], [1, 0, 1, 0], sample_weight=cells)
    assert found["worth"] == pytest.approx(phi**2, abs=1e-12)
    called = cells[0] + cells[2]
    shrink = cells[0] / called + cells[3] / (1 - called) - 1
    assert found["shrink"] == pytest.approx(shrink, abs=1e-12)
    assert np.sign(found["slope"]) == np.sign(found["shrink"])


def test_auroc_shrinks_as_the_labels_say():
    rng = np.random.default_rng(0)
    truth = rng.random(200_000) < 0.2
    score = truth + rng.normal(size=len(truth))
    for sensitivity, specificity in ((0.5, 0.95), (0.85, 0.85), (0.1, 0.8)):
        label = noisy(truth, sensitivity, specificity, rng)
        shrink = label_worth(sensitivity, specificity, 0.2)["shrink"]
        expected = 0.5 + shrink * (auroc(truth, score) - 0.5)
        assert auroc(label, score) == pytest.approx(expected, abs=0.01)


def test_worth_is_how_many_films_a_label_counts_for():
    # The slope of a weak effect scatters as it would with so many fewer films.
    rng = np.random.default_rng(1)
    x = rng.choice([-0.5, 0.5], (2000, 1000))
    truth = rng.random(x.shape) < 0.25 + 0.03 * x
    label = noisy(truth, 0.5, 0.95, rng)

    def signal(y):
        slope = (x * y).mean(axis=1)
        return (slope.mean() / slope.std()) ** 2

    worth = label_worth(0.5, 0.95, 0.25)["worth"]
    assert signal(label) / signal(truth) == pytest.approx(worth, rel=0.25)


@given(rate, rate, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_what_noise_did_to_a_probability_is_undone(sensitivity, specificity, probabilities):
    p = np.array(probabilities)
    seen = sensitivity * p + (1 - specificity) * (1 - p)
    rates = {"sensitivity": sensitivity, "specificity": specificity}
    if sensitivity + specificity <= 1.01:
        return
    np.testing.assert_allclose(undo_noise(seen, **rates), p, atol=1e-9)
    back = undo_noise(np.sort(np.random.default_rng(0).random(50)), **rates)
    assert (np.diff(back) >= 0).all()
    assert ((back >= 0) & (back <= 1)).all()


def test_each_finding_has_its_own_rates():
    found = undo_noise([[0.1, 0.1]], sensitivity=[1.0, 0.5], specificity=[1.0, 1.0])
    np.testing.assert_allclose(found, [[0.1, 0.2]])


def test_useless_labels_cannot_be_undone():
    with pytest.raises(ValueError, match="Expected sensitivity \\+ specificity above 1"):
        undo_noise([0.5], sensitivity=0.1, specificity=0.9)
    with pytest.raises(ValueError, match="Expected a sensitivity from 0 to 1"):
        undo_noise([0.5], sensitivity=1.1, specificity=0.9)
    with pytest.raises(ValueError, match="Expected prevalences between 0 and 1"):
        label_worth(0.9, 0.9, 0.0)


def test_flags_are_counted_as_scikit_learn_counts_them():
    rng = np.random.default_rng(2)
    wrong, flagged, of = rng.random((3, 400, 3)) < 0.4
    wrong, flagged = wrong & of, flagged & of
    draws = Resamples(np.arange(400) // 2, resamples=300)
    found = precision_and_recall(wrong, flagged, draws, of=of)
    for k in range(4):
        pick = (slice(None), slice(None) if k == 3 else k)
        pair = wrong[pick].ravel(), flagged[pick].ravel()
        assert found["precision"][k] == pytest.approx(precision_score(*pair))
        assert found["recall"][k] == pytest.approx(recall_score(*pair))
        assert found["share_wrong"][k] == pytest.approx(wrong[pick].sum() / of[pick].sum())
    assert (found["precision_low"] < found["precision"]).all()
    assert (found["precision"] < found["precision_high"]).all()
    with pytest.raises(ValueError, match="Expected two arrays"):
        precision_and_recall(wrong, flagged[:, :2], draws)


def test_nothing_flagged_has_no_precision():
    wrong = np.array([[True], [False], [True]])
    found = precision_and_recall(wrong, np.zeros_like(wrong), Resamples([0, 1, 2], resamples=50))
    assert np.isnan(found["precision"]).all()
    assert (found["recall"] == 0).all()


def test_cleanlab_finds_labels_that_a_sure_model_contradicts():
    rng = np.random.default_rng(3)
    truth = rng.random(1000) < 0.4
    probability = np.where(truth, 0.95, 0.05)
    labels = truth.copy()
    labels[:40] ^= True
    flagged = find_issues(labels, probability)
    np.testing.assert_array_equal(np.flatnonzero(flagged), np.arange(40))
    with pytest.raises(ValueError, match="Expected labels of one finding, of both classes"):
        find_issues(np.ones(4), np.full(4, 0.5))
