"""DeLong and paired comparisons: against formulas, brute force, and a bootstrap of patients."""

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import norm
from scored_films import clustered, films
from sklearn.metrics import roc_auc_score

from chexlib.metrics import (
    OneClassWarning,
    Resamples,
    UndefinedWarning,
    auroc,
    average_precision,
    compare_labels,
    compare_scores,
    compare_with_reader,
    delong,
    holm,
    roc,
)


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


@pytest.mark.parametrize("seed", range(12))
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


def test_holm_is_its_worked_example():
    assert holm([0.01, 0.04, np.nan, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True
    )
    assert np.isnan(holm([np.nan])).all()


def kernel(labels, scores):
    one, other = scores[labels][:, None], scores[~labels]
    return (one > other) + 0.5 * (one == other)


def obuchowski(labels, scores, patients):
    """Equations of the 1997 paper, patient by patient."""
    wins = kernel(labels, scores)
    theta, (m, n) = wins.mean(), wins.shape
    names = np.unique(patients)
    v10, v01 = wins.mean(axis=1), wins.mean(axis=0)
    a = np.array([(v10[patients[labels] == c] - theta).sum() for c in names])
    b = np.array([(v01[patients[~labels] == c] - theta).sum() for c in names])
    i10 = sum((patients[labels] == c).any() for c in names)
    i01 = sum((patients[~labels] == c).any() for c in names)
    if min(i10, i01) < 2:
        return np.nan
    s10, s01 = i10 / ((i10 - 1) * m) * (a @ a), i01 / ((i01 - 1) * n) * (b @ b)
    s11 = len(names) / (len(names) - 1) * (a @ b)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@given(films())
def test_variance_is_delongs_and_obuchowskis(drawn):
    labels, scores, _, patients = drawn
    found = delong(labels, scores)
    assert found.auroc[0] == pytest.approx(auroc(labels, scores))
    wins = kernel(labels, scores)
    if min(wins.shape) > 1:
        expected = wins.mean(1).var(ddof=1) / len(wins) + wins.mean(0).var(ddof=1) / wins.shape[1]
        assert found.covariance[0, 0] == pytest.approx(expected, abs=1e-15)
    else:
        assert np.isnan(found.covariance[0, 0])
    clustered_ = delong(labels, scores, patient=patients).covariance[0, 0]
    assert clustered_ == pytest.approx(obuchowski(labels, scores, patients), nan_ok=True, abs=1e-15)


def test_covariance_of_two_scores_is_delongs():
    rng = np.random.default_rng(0)
    labels = rng.random(120) < 0.4
    scores = labels[:, None] + rng.normal(size=(120, 1)) + rng.normal(size=(120, 2)).round(1)
    wins = [kernel(labels, s) for s in scores.T]
    expected = (
        np.cov([w.mean(1) for w in wins]) / labels.sum()
        + np.cov([w.mean(0) for w in wins]) / (~labels).sum()
    )
    found = delong(labels, scores)
    assert found.covariance == pytest.approx(expected)
    gap = found.contrast([1, -1])
    se = np.sqrt(expected[0, 0] + expected[1, 1] - 2 * expected[0, 1])
    assert gap.standard_error == pytest.approx(se)
    assert gap.p_value == pytest.approx(2 * norm.sf(abs(gap.estimate) / se))
    assert (gap.low, gap.high) == pytest.approx(norm.interval(0.95, gap.estimate, se))
    pair = compare_scores(labels, *scores.T)
    assert (pair.difference, pair.low, pair.high, pair.p_value) == pytest.approx(
        (gap.estimate, gap.low, gap.high, gap.p_value)
    )
    assert str(pair) == f"{pair.difference:+.3f} ({pair.low:+.3f} to {pair.high:+.3f})"


def test_duplicated_films_of_a_patient_do_not_shrink_the_variance():
    labels, scores, patients = clustered(80)
    once = delong(labels, scores, patient=patients)
    copies = [np.tile(x, 3) for x in (labels, scores, patients)]
    thrice = delong(*copies[:2], patient=copies[2])
    assert thrice.standard_error == pytest.approx(once.standard_error)
    assert delong(*copies[:2]).standard_error < 0.7 * delong(labels, scores).standard_error


def test_perfect_order_has_newcombes_interval():
    found = delong([0, 0, 1, 1], [1, 2, 3, 4])
    one, turned = found.estimates()[0], delong([1, 1, 0, 0], [1, 2, 3, 4]).estimates()[0]
    assert (found.auroc[0], one.high) == (1, 1)
    assert (turned.low, turned.high) == pytest.approx((0, 1 - one.low))
    assert one.method == "Newcombe, 2 and 2 as trials"
    # Newcombe 2006, method 5: (A - a)^2 = z^2 a (1 - a) (1 + n (1-a)/(2-a) + n a/(1+a)) / (m k).
    for m, k in ((2, 2), (5, 40), (30, 200)):
        labels = np.repeat([0, 1], [k, m])
        a = delong(labels, np.arange(m + k)).estimates()[0].low
        n = (m + k) / 2 - 1
        variance = a * (1 - a) * (1 + n * (1 - a) / (2 - a) + n * a / (1 + a)) / (m * k)
        assert (1 - a) ** 2 == pytest.approx(1.959964**2 * variance, rel=1e-6)
    by_patient = delong(labels, np.arange(m + k), patient=np.arange(m + k) // 5).estimates()[0]
    assert by_patient.low < a
    assert by_patient.method == "Newcombe, 6 and 40 as trials"


def test_newcombes_interval_of_a_perfect_order_covers_the_truth():
    # Where the truth is an AUROC of 0.9, ten films a kind are rarely in perfect order, but where
    # they are the interval must reach down to 0.9.
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 10)
    shift = np.sqrt(2) * norm.ppf(0.9)
    scores = shift * labels[:, None] + rng.normal(size=(20, 4000))
    perfect = scores[10:].min(axis=0) > scores[:10].max(axis=0)
    assert perfect.any()
    assert delong(labels, scores[:, perfect.argmax()]).estimates()[0].low < 0.9


def test_a_score_against_itself_does_not_differ():
    labels, scores, patients = clustered(50)
    gap = delong(labels, np.c_[scores, scores * 2], patient=patients).contrast([1, -1])
    assert (gap.estimate, gap.standard_error, gap.p_value) == (0, 0, 1)


def bootstrap(metric, labels, scores, patients, *, weight=1.0):
    """Return the metric on 500 draws of patients, each made film by film."""
    n, rng = patients.max() + 1, np.random.default_rng(0)
    for _ in range(500):
        times = np.bincount(rng.integers(0, n, n), minlength=n)[patients]
        yield metric(labels, scores, sample_weight=weight * times)


def test_label_sets_on_one_score_vary_together_as_in_a_bootstrap():
    labels, scores, patients = clustered(200, seed=4)
    flipped = np.where(np.random.default_rng(0).random(len(labels)) < 0.15, ~labels, labels)
    both = np.c_[labels, flipped]
    drawn = np.transpose(list(bootstrap(auroc, both, scores, patients)))
    covariance = delong(both, scores, patient=patients).covariance
    assert covariance == pytest.approx(np.cov(drawn), rel=0.2)
    found = compare_labels(labels, flipped, scores, patient=patients)
    assert (found.first, found.second) == pytest.approx(
        (roc_auc_score(labels, scores), roc_auc_score(flipped, scores))
    )
    assert found.high - found.low == pytest.approx(3.92 * np.std(drawn[0] - drawn[1]), rel=0.12)
    assert 0 < found.low < found.difference < found.high
    assert found.method == "DeLong by patient (Obuchowski)"


def test_weights_are_sampling_weights():
    labels, scores, patients = clustered(150, seed=5)
    plain = delong(labels, scores, patient=patients)
    assert 1.15 * delong(labels, scores).standard_error < plain.standard_error
    same = delong(labels, scores, patient=patients, sample_weight=np.full(len(labels), 7.0))
    assert same.covariance == pytest.approx(plain.covariance)
    weight = np.where(np.arange(len(labels)) % 3, 1.0, 4.0)
    found = delong(labels, scores, patient=patients, sample_weight=weight)
    assert found.auroc[0] == pytest.approx(auroc(labels, scores, sample_weight=weight))
    values = list(bootstrap(roc_auc_score, labels, scores, patients, weight=weight))
    assert found.standard_error[0] == pytest.approx(np.std(values), rel=0.12)
    kept = scores > 0
    dropped = delong(labels[kept], scores[kept])
    found = delong(labels, scores, sample_weight=kept.astype(float))
    assert found.auroc == pytest.approx(dropped.auroc)
    assert found.covariance == pytest.approx(dropped.covariance)
    assert (found.n_films, found.n_positive) == (dropped.n_films, dropped.n_positive)


def test_intervals_stay_inside_and_widen_with_confidence():
    labels, scores, patients = clustered(60, shift=3)
    found = delong(labels, scores, patient=patients)
    wide, one, narrow = (found.estimates(level=level)[0] for level in (0.99, 0.95, 0.5))
    assert 0 < wide.low < one.low < narrow.low < one.estimate < one.high < wide.high < 1
    assert (one.k, one.n) == (labels.sum(), len(labels))


def test_a_finding_without_a_value_has_no_contrast():
    rng = np.random.default_rng(0)
    labels, scores = rng.random((200, 3)) < [0.3, 0, 0.3], rng.random((200, 3))
    with pytest.warns(OneClassWarning, match="column 1"):
        found = delong(labels, scores)
    mean = found.contrast([0.5, 0, 0.5])
    assert mean.estimate == pytest.approx(np.nanmean(found.auroc))
    block = found.covariance[np.ix_([0, 2], [0, 2])]
    assert mean.standard_error == pytest.approx(np.sqrt(block.sum()) / 2)
    assert np.isnan(found.contrast([1, -1, 0]).p_value)


@pytest.mark.parametrize(
    ("second", "metric", "difference"),
    [([5, 6, 7, 8], auroc, 0), ([5, 6, 7, 8], average_precision, 0), ([4, 3, 2, 1], auroc, 1)],
)
def test_four_films_in_perfect_order_show_no_spread(second, metric, difference):
    with pytest.warns(UndefinedWarning, match="interval is undefined"):
        found = compare_scores([0, 0, 1, 1], [1, 2, 3, 4], second, metric=metric)
    assert found.difference == difference
    assert np.isnan([found.low, found.high, found.p_value]).all()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: compare_scores(np.eye(4)[:, :2], np.ones((4, 2)), np.ones((4, 2))), "one finding"),
        (lambda: compare_scores(np.eye(4), np.ones(4), np.ones(4)), "one finding"),
        (lambda: compare_with_reader([1, 1], [1, 2], [0, 1]), "both classes"),
        (lambda: compare_with_reader([0, 1], [1, 2], [0, 1], patient=[1, 2, 3]), "each of 2"),
        (lambda: compare_with_reader(np.eye(2), [1, 2], [0, 1]), "one"),
        (lambda: delong([0, 1], [1, 2], patient=[1]), "each of 2 films"),
        (lambda: delong([0, 1, 0, 1], [1, 2, 3, 4]).contrast([1, -1]), "1 coefficients"),
        (lambda: holm([0.1, 1.2]), "p-values"),
    ],
)
def test_bad_input_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
