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
    [
        ([1, 1], None, "both classes"),
        ([0, 1], [1, 2, 3], "each of 2"),
        (np.eye(2), None, "one"),
    ],
)
def test_reader_needs_a_reference_of_both_classes(labels, patient, message):
    with pytest.raises(ValueError, match=message):
        compare_with_reader(labels, [1, 2], [0, 1], patient=patient)


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


def test_holm_is_its_worked_example():
    assert holm([0.01, 0.04, np.nan, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True
    )
    assert np.isnan(holm([np.nan])).all()
    with pytest.raises(ValueError, match="p-values"):
        holm([0.1, 1.2])


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


def test_duplicated_films_of_a_patient_do_not_shrink_the_variance():
    labels, scores, patients = clustered(80)
    once = delong(labels, scores, patient=patients)
    copies = [np.tile(x, 3) for x in (labels, scores, patients)]
    thrice = delong(*copies[:2], patient=copies[2])
    assert thrice.standard_error == pytest.approx(once.standard_error)
    assert delong(*copies[:2]).standard_error < 0.7 * delong(labels, scores).standard_error


def test_label_sets_on_one_score_vary_together_as_in_a_bootstrap():
    labels, scores, patients = clustered(200, seed=4)
    rng = np.random.default_rng(0)
    other = np.where(rng.random(len(labels)) < 0.15, ~labels, labels)
    found = delong(np.c_[labels, other], scores, patient=patients)
    rows = [np.flatnonzero(patients == c) for c in range(200)]
    pairs = []
    for _ in range(500):
        chosen = np.concatenate([rows[c] for c in rng.integers(0, 200, 200)])
        pairs.append(auroc(np.c_[labels, other][chosen], scores[chosen]))
    assert found.covariance == pytest.approx(np.cov(np.transpose(pairs)), rel=0.2)
    gap = found.contrast([1, -1]).standard_error
    assert gap == pytest.approx(np.subtract(*np.transpose(pairs)).std(ddof=1), rel=0.12)


def test_weights_are_sampling_weights():
    labels, scores, patients = clustered(150, seed=5)
    same = delong(labels, scores, patient=patients, sample_weight=np.full(len(labels), 7.0))
    plain = delong(labels, scores, patient=patients)
    assert same.covariance == pytest.approx(plain.covariance)
    weight = np.where(np.arange(len(labels)) % 3, 1.0, 4.0)
    found = delong(labels, scores, patient=patients, sample_weight=weight)
    assert found.auroc[0] == pytest.approx(auroc(labels, scores, sample_weight=weight))
    rng = np.random.default_rng(0)
    values = []
    for _ in range(500):
        times = np.bincount(rng.integers(0, 150, 150), minlength=150)[patients]
        values.append(auroc(labels, scores, sample_weight=weight * times))
    assert found.standard_error[0] == pytest.approx(np.std(values), rel=0.12)
    zero = np.where(scores > 0, 1.0, 0.0)
    kept = zero > 0
    dropped = delong(labels[kept], scores[kept])
    found = delong(labels, scores, sample_weight=zero)
    assert found.auroc == pytest.approx(dropped.auroc)
    assert found.covariance == pytest.approx(dropped.covariance)
    assert (found.n_films, found.n_positive) == (dropped.n_films, dropped.n_positive)


def test_intervals_stay_inside_and_the_linear_one_is_symmetric():
    labels, scores, patients = clustered(60, shift=3)
    found = delong(labels, scores, patient=patients)
    one, other = found.estimates()[0], found.estimates(scale="linear")[0]
    assert 0 < one.low < one.estimate < one.high < 1
    se = found.standard_error[0]
    assert other.low == pytest.approx(other.estimate - 1.959964 * se)
    assert (one.k, one.n, one.method) == (
        labels.sum(),
        len(labels),
        "DeLong by patient (Obuchowski)",
    )
    wide, narrow = (found.estimates(level=level)[0] for level in (0.99, 0.5))
    assert wide.low < one.low < narrow.low


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


def test_the_mean_of_nothing_is_nothing():
    with pytest.warns(OneClassWarning):
        mean = delong(np.zeros((4, 2)), np.arange(8).reshape(4, 2)).mean()
    assert np.isnan([mean.estimate, mean.low, mean.high, mean.p_value]).all()


def test_mean_over_findings_leaves_out_what_has_no_value():
    rng = np.random.default_rng(0)
    labels, scores = rng.random((200, 3)) < 0.3, rng.random((200, 3))
    labels[:, 1] = False
    with pytest.warns(OneClassWarning, match="column 1"):
        found = delong(labels, scores)
    assert np.isnan(found.auroc[1])
    assert found.mean().estimate == pytest.approx(np.nanmean(found.auroc))
    block = found.covariance[np.ix_([0, 2], [0, 2])]
    assert found.mean().standard_error == pytest.approx(np.sqrt(block.sum()) / 2)
    assert np.isnan(found.contrast([1, -1, 0]).p_value)


def test_a_score_against_itself_does_not_differ():
    labels, scores, patients = clustered(50)
    gap = delong(labels, np.c_[scores, scores * 2], patient=patients).contrast([1, -1])
    assert (gap.estimate, gap.standard_error, gap.p_value) == (0, 0, 1)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="each of 2 films"):
        delong([0, 1], [1, 2], patient=[1])
    found = delong([0, 1, 0, 1], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="1 coefficients"):
        found.contrast([1, -1])
    with pytest.raises(ValueError, match="scale"):
        found.estimates(scale="arcsine")


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
    error = delong(positive, score, patient=cluster).standard_error[0]
    assert error == pytest.approx(np.std(estimates), rel=0.12)
    naive = delong(positive, score).standard_error[0]
    assert error > 1.15 * naive
