"""Paired comparisons: against statsmodels, brute force and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import norm
from scored_films import clustered, films
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from chexlib.metrics import (
    Resamples,
    UndefinedWarning,
    auroc,
    average_precision,
    compare_labels,
    compare_scores,
    compare_with_reader,
    holm,
    roc,
)


def test_two_scores_differ_as_delong_says():
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.3
    first = labels + rng.normal(size=300)
    second = first + rng.normal(size=300)
    found = compare_scores(labels, first, second)
    wins = [(s[labels][:, None] > s[~labels]).astype(float) for s in (first, second)]
    gap = wins[0] - wins[1]
    variance = gap.mean(1).var(ddof=1) / labels.sum() + gap.mean(0).var(ddof=1) / (~labels).sum()
    assert found.difference == pytest.approx(gap.mean())
    assert (found.low, found.high) == pytest.approx(
        norm.interval(0.95, gap.mean(), np.sqrt(variance))
    )
    assert found.p_value == pytest.approx(2 * norm.sf(abs(gap.mean()) / np.sqrt(variance)))
    assert str(found) == f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def test_two_label_sets_on_one_score():
    labels, scores, patients = clustered(200)
    flipped = np.where(np.random.default_rng(1).random(len(labels)) < 0.2, ~labels, labels)
    found = compare_labels(labels, flipped, scores, patient=patients)
    assert (found.first, found.second) == pytest.approx(
        (roc_auc_score(labels, scores), roc_auc_score(flipped, scores))
    )
    assert 0 < found.low < found.difference < found.high
    assert "patient" in found.method


def test_other_metrics_are_resampled_and_agree_with_the_closed_form():
    labels, scores, patients = clustered(300, seed=2)
    noisy = scores + np.random.default_rng(1).normal(size=len(scores))

    def slow(labels, scores, *, sample_weight=None):
        return auroc(labels, scores, sample_weight=sample_weight)

    options = {"patient": patients, "resamples": 400}
    one = compare_scores(labels, scores, noisy, **options)
    other = compare_scores(labels, scores, noisy, metric=slow, **options)
    assert other.difference == pytest.approx(one.difference)
    assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=0.012)
    assert other.method == "bootstrap by patient, 400 resamples"
    found = compare_scores(labels, scores, noisy, metric=average_precision, resamples=50)
    assert found.method == "bootstrap by film, 50 resamples"


def test_several_findings_are_refused():
    with pytest.raises(ValueError, match="one finding"):
        compare_scores(np.eye(4)[:, :2], np.ones((4, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="one finding"):
        compare_scores(np.eye(4), np.ones(4), np.ones(4))


@settings(max_examples=40)
@given(films())
def test_reader_and_score_at_the_readers_rate_film_by_film(drawn):
    labels, scores, weights, patients = drawn
    reader = scores + np.arange(len(scores)) % 3 > 1
    draws = Resamples(patients, resamples=5)
    found = compare_with_reader(labels, scores, reader, patient=draws, sample_weight=weights)
    assert found.second == pytest.approx(np.average(reader[labels], weights=weights[labels]))
    rate = np.average(reader[~labels], weights=weights[~labels])
    curve = roc(labels, scores, sample_weight=weights)
    assert found.first == pytest.approx(float(curve.at_false_positive_rate(rate)))
    assert found.difference == pytest.approx(found.first - found.second)
    gaps = []
    for b in range(5):  # the same resamples, one by one
        times = weights * draws.weight(b)
        if times @ labels and times @ ~labels:
            rate = np.average(reader[~labels], weights=times[~labels])
            sensitivity = roc(labels, scores, sample_weight=times).at_false_positive_rate(rate)
            gaps.append(sensitivity - np.average(reader[labels], weights=times[labels]))
    if len(set(gaps)) > 1:
        assert found.low == pytest.approx(min(gaps))
        assert found.high == pytest.approx(max(gaps))


def test_a_reader_who_is_the_score_at_a_threshold_does_not_differ():
    labels, scores, patients = clustered(2000)
    found = compare_with_reader(labels, scores, scores > 0.2, patient=patients, resamples=200)
    assert (found.difference, found.low, found.high) == pytest.approx((0, 0, 0), abs=0.004)
    assert found.low >= 0  # the upper end of a vertical step is the score's
    assert compare_with_reader(labels, scores, labels, resamples=20).difference < 0


def test_reader_interval_covers_the_truth():
    # Normal scores: the reader has sensitivity 0.6 at a false-positive rate of 0.2, the score more.
    truth = norm.sf(norm.isf(0.2) - 1.5) - 0.6
    hits = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        labels = rng.random(400) < 0.4
        scores = 1.5 * labels + rng.normal(size=400)
        reader = rng.random(400) < np.where(labels, 0.6, 0.2)
        found = compare_with_reader(labels, scores, reader, resamples=200)
        hits += found.low <= truth <= found.high
    assert 0.87 <= hits / 80 <= 1


@pytest.mark.parametrize(
    ("labels", "patient", "message"),
    [([1, 1], None, "both classes"), ([0, 1], [1, 2, 3], "each of 2"), (np.eye(2), None, "one")],
)
def test_reader_needs_a_reference_of_both_classes(labels, patient, message):
    with pytest.raises(ValueError, match=message):
        compare_with_reader(labels, [1, 2], [0, 1], patient=patient)


def test_holm_is_statsmodels():
    p = np.random.default_rng(0).random(20) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    with_gap = np.insert(p, 4, np.nan)
    assert np.delete(holm(with_gap), 4) == pytest.approx(holm(p))
    assert np.isnan(holm(with_gap)[4])
    with pytest.raises(ValueError, match="p-values"):
        holm([0.1, 1.2])


@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_four_films_parted_perfectly_show_no_difference(metric):
    with pytest.warns(UndefinedWarning, match="interval is undefined"):
        found = compare_scores([0, 0, 1, 1], [1, 2, 3, 4], [5, 6, 7, 8], metric=metric)
    assert found.difference == 0
    assert np.isnan([found.low, found.high, found.p_value]).all()


def test_auroc_of_1_less_auroc_of_0_has_no_p_of_0():
    with pytest.warns(UndefinedWarning, match="show no variance"):
        found = compare_scores([0, 0, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1])
    assert found.difference == 1
    assert np.isnan([found.low, found.high, found.p_value]).all()


@pytest.mark.parametrize("seed", range(30))
def test_p_and_interval_say_the_same(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random(80) < 0.4
    scores = labels + rng.normal(size=(3, 80)) * [[1], [1.5], [4]]
    reader = rng.random(80) < np.where(labels, 0.7, 0.2)
    for level in (0.8, 0.9, 0.95, 0.99):
        options = {"level": level, "resamples": 333, "patient": np.arange(80) // 2}
        for found in (
            compare_scores(labels, *scores[:2], **options),
            compare_scores(labels, *scores[1:], metric=average_precision, **options),
            compare_labels(labels, reader, scores[0], metric=average_precision, **options),
            compare_with_reader(labels, scores[0], reader, **options),
        ):
            outside = found.low > 0 or found.high < 0
            assert (found.p_value < 1 - level) == outside, (level, found)


def test_films_without_weight_change_no_comparison():
    labels, scores, patients = clustered(60)
    other = scores + np.random.default_rng(1).normal(size=len(scores))
    kept = np.random.default_rng(2).random(len(scores)) < 0.6
    weight = np.where(kept, 2.0, 0.0)
    one = {"patient": patients, "sample_weight": weight, "resamples": 50}
    few = {"patient": patients[kept], "sample_weight": weight[kept], "resamples": 50}
    for metric in (auroc, average_precision):
        found = compare_scores(labels, scores, other, metric=metric, **one)
        assert found == compare_scores(
            labels[kept], scores[kept], other[kept], metric=metric, **few
        )
    reads = other > 1
    assert compare_with_reader(labels, scores, reads, **one) == compare_with_reader(
        labels[kept], scores[kept], reads[kept], **few
    )
