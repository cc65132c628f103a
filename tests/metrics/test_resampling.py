"""The fast bootstrap: against scikit-learn on the same resamples, closed forms, and coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_films import clustered, films
from sklearn.metrics import average_precision_score, roc_auc_score

from chexlib.metrics import (
    Resamples,
    auroc,
    average_precision,
    brier,
    delong,
    resampled,
)


@settings(max_examples=40)
@given(films(), st.booleans())
def test_each_replicate_is_scikit_learns_on_the_same_resample(drawn, weighted):
    labels, scores, weights, patients = drawn
    weight = weights if weighted else np.ones(len(labels))
    draws = Resamples(patients, resamples=6, seed=1)
    for metric, theirs in ((auroc, roc_auc_score), (average_precision, average_precision_score)):
        found = resampled(metric, labels, scores, draws, sample_weight=weight)
        for b, value in enumerate(found.replicates):
            times = weight * draws.weight(b)
            kept = times > 0
            few = min(len(set(patients[labels == kind])) for kind in (True, False)) < 2
            no_value = not (times @ labels) or (metric is auroc and not times @ ~labels)
            if few or no_value:
                assert np.isnan(value)
            else:
                expected = theirs(labels[kept], scores[kept], sample_weight=times[kept])
                assert value == pytest.approx(expected, abs=1e-12)


def test_copied_films_give_the_same_as_weights():
    labels, scores, patients = clustered(40)
    draws = Resamples(patients, resamples=5)
    found = resampled(auroc, np.c_[labels, ~labels], scores, draws)
    for b in range(5):
        rows = np.repeat(np.arange(len(labels)), draws.weight(b))
        assert found.replicates[b, 0] == pytest.approx(auroc(labels[rows], scores[rows]), abs=1e-12)
        assert found.replicates[b].sum() == pytest.approx(1)


def test_any_metric_takes_the_general_way():
    labels, scores, patients = clustered(30)
    draws = Resamples(patients, resamples=8)

    def same(labels, scores, *, sample_weight=None):
        return auroc(labels, scores, sample_weight=sample_weight)

    slow, fast = (resampled(metric, labels, scores, draws) for metric in (same, auroc))
    assert slow.replicates == pytest.approx(fast.replicates)
    p = 1 / (1 + np.exp(-np.c_[scores, scores]))
    found = resampled(brier, np.c_[labels, labels], p, draws, sample_weight=np.full(len(labels), 2))
    assert found.replicates.shape == (8, 2)


def test_draws_keep_patients_whole_and_depend_on_the_seed_alone():
    patients = np.array(["b", "a", "b", "c"])
    draws = Resamples(patients, resamples=50, seed=3)
    assert len(draws) == 50
    assert (draws.drawn.sum(axis=0) == 3).all()
    assert all(w[0] == w[2] for w in map(draws.weight, range(50)))
    assert (draws.drawn == Resamples(patients, resamples=50, seed=3).drawn).all()
    assert (draws.drawn != Resamples(patients, resamples=50, seed=4).drawn).any()
    columns = np.arange(8.0).reshape(4, 2)
    assert draws.sums(columns)[7] == pytest.approx(draws.weight(7) @ columns)
    part = draws.select(np.array([True, False, False, True]))
    assert part.weight(5).tolist() == draws.weight(5)[[0, 3]].tolist()


def test_spread_is_that_of_the_closed_form_by_patient():
    labels, scores, patients = clustered(400)
    found = resampled(auroc, labels, scores, Resamples(patients, resamples=2000))
    closed = delong(labels, scores, patient=patients)
    assert found.replicates.std(ddof=1) == pytest.approx(closed.standard_error[0], rel=0.08)
    assert found.replicates.std() > 1.1 * delong(labels, scores).standard_error[0]


def test_duplicated_films_change_nothing():
    labels, scores, patients = clustered(100)
    once = resampled(auroc, labels, scores, Resamples(patients, resamples=200)).interval()
    twice = [np.tile(x, 2) for x in (labels, scores, patients)]
    again = resampled(auroc, *twice[:2], Resamples(twice[2], resamples=200)).interval()
    assert again == pytest.approx(once)


def test_differences_are_paired_and_means_are_means():
    labels, scores, patients = clustered(150)
    rng = np.random.default_rng(1)
    noisy = scores + 0.3 * rng.normal(size=len(scores))
    draws = Resamples(patients, resamples=400)
    one, other = (resampled(auroc, labels, s, draws) for s in (scores, noisy))
    gap = one - other
    assert gap.estimate == pytest.approx(one.estimate - other.estimate)
    assert gap.replicates.std() < 0.6 * one.replicates.std()
    assert 0 <= gap.p_value() <= 1
    low, high = gap.interval(level=0.9)
    assert low <= gap.estimate <= high
    many = resampled(auroc, labels, np.c_[scores, noisy], draws)
    assert many.mean().estimate == pytest.approx((one.estimate + other.estimate) / 2)
    assert many.mean().replicates == pytest.approx(many.replicates.mean(axis=1))
    assert one.mean() is one
    with pytest.raises(ValueError, match="same draws"):
        one - resampled(auroc, labels, noisy, Resamples(patients, resamples=400))


def test_p_value_of_a_difference_is_not_bounded_by_the_number_of_resamples():
    labels, scores, patients = clustered(300, shift=3)
    draws = Resamples(patients, resamples=100)
    gap = resampled(auroc, labels, scores, draws) - resampled(auroc, labels, -scores, draws)
    assert gap.p_value() < 1e-6
    assert np.isnan((gap - gap).p_value())


def test_one_patient_with_the_finding_gives_no_interval():
    labels = np.array([1, 1, 0, 0, 0, 0])
    found = resampled(auroc, labels, [6, 5, 4, 3, 2, 1], [7, 7, 8, 9, 10, 11])
    assert found.estimate == 1
    assert np.isnan(found.interval()).all()


@pytest.mark.parametrize(
    ("patients", "message"),
    [([1, np.nan], "NaN"), ([[1, 2]], "shape"), ([], "shape"), ([1, 2, 3], "each of 2 films")],
)
def test_bad_patients_are_refused(patients, message):
    with pytest.raises(ValueError, match=message):
        resampled(auroc, [0, 1], [1, 2], patients)


def test_no_resamples_are_refused():
    with pytest.raises(ValueError, match="at least one resample"):
        Resamples([1, 2], resamples=0)


def test_intervals_by_patient_cover_the_truth_and_those_by_film_do_not():
    labels, scores, _ = clustered(60_000, seed=9)
    truth = auroc(labels, scores)
    hits = np.zeros(3)
    for seed in range(120):
        labels, scores, patients = clustered(120, seed=seed)
        low, high = resampled(auroc, labels, scores, Resamples(patients, resamples=300)).interval()
        by_patient = delong(labels, scores, patient=patients).estimates()[0]
        by_film = delong(labels, scores).estimates()[0]
        hits += [low <= truth <= high] + [e.low <= truth <= e.high for e in (by_patient, by_film)]
    by_bootstrap, by_patient, by_film = hits / 120
    assert 0.88 <= by_bootstrap <= 0.99
    assert 0.88 <= by_patient <= 0.99
    assert by_film < by_patient - 0.03
