"""Wilson's interval against published ones; the bootstrap against scikit-learn and coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from scored_films import clustered, films
from sklearn.metrics import average_precision_score, roc_auc_score

from chexlib.metrics import (
    Bootstrap,
    Estimate,
    OneClassWarning,
    Resamples,
    UndefinedWarning,
    assess,
    auroc,
    average_precision,
    brier,
    compare_scores,
    delong,
    holm,
    reliability,
    resampled,
    wilson,
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
            few = min(len(set(patients[(labels == k) & (weight > 0)])) for k in (True, False)) < 2
            no_value = not (times @ labels) or (metric is auroc and not times @ ~labels)
            if few or no_value:
                assert np.isnan(value)
            else:
                expected = theirs(labels[kept], scores[kept], sample_weight=times[kept])
                assert value == pytest.approx(expected, abs=1e-12)


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
    both = resampled(auroc, np.c_[labels, ~labels], scores, draws)
    assert both.replicates.sum(axis=1) == pytest.approx(1)


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
    with pytest.warns(OneClassWarning):
        nothing = resampled(auroc, np.c_[labels, labels] & False, scores, draws).mean()
    assert np.isnan([nothing.estimate, *nothing.interval()]).all()
    with pytest.raises(ValueError, match="same draws"):
        one - resampled(auroc, labels, noisy, Resamples(patients, resamples=400))


def test_p_value_of_a_difference_is_what_the_resamples_can_tell():
    labels, scores, patients = clustered(300, shift=3)
    draws = Resamples(patients, resamples=100)
    gap = resampled(auroc, labels, scores, draws) - resampled(auroc, labels, -scores, draws)
    assert gap.p_value() == 2 / 101
    assert np.isnan((gap - gap).p_value())


def drawn(replicates):
    """Make a bootstrap of given replicates; who was drawn does not matter here."""
    return Bootstrap(np.mean(replicates, axis=0), replicates, Resamples([0, 1], resamples=1))


@given(
    st.integers(1, 400),
    st.integers(0, 400),
    st.integers(0, 40),
    st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]),
)
def test_p_is_below_alpha_exactly_where_the_interval_leaves_out_0(above, below, zeros, level):
    values = np.concatenate([np.arange(1, above + 1), -np.arange(1, below + 1), np.zeros(zeros)])
    if len(values) + 1 <= 2 / (1 - level):
        return  # too few resamples for this level
    for found in (drawn(values), drawn(-values)):
        low, high = found.interval(level=level)
        if low < high:
            assert (found.p_value() < 1 - level) == bool(low > 0 or high < 0)


def test_skewed_replicates_have_the_p_of_their_own_tail():
    values = 3.2 - np.random.default_rng(0).exponential(size=2000)  # 0 lies in the long tail
    found = drawn(values)
    assert 2 * norm.sf(values.mean() / values.std()) < 0.05  # what a normal p would say
    assert found.interval()[0] < 0
    assert found.p_value() == pytest.approx(2 * np.mean(values <= 0), rel=0.01)
    assert found.p_value() > 0.05


def test_adjusted_p_is_step_down_and_never_below_the_p_alone():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2000, 6)) + [0, 1, 2, 2.5, 3, 8]
    values[:, 2] = np.exp(values[:, 2]) - 2  # skewed
    found = drawn(values)
    p, adjusted = found.p_value(), found.p_adjusted()
    assert (adjusted >= p).all()
    assert (adjusted <= holm(p) + 0.02).all()
    order = np.argsort(p)
    assert (np.diff(adjusted[order]) >= 0).all()
    # Tested alone, the last is itself; differences without a value are not counted.
    assert drawn(values[:, :1]).p_adjusted() == p[0]
    values[:, 1:3], values[:, 3:] = np.nan, 1
    alone = drawn(values).p_adjusted()
    assert alone[0] == p[0]
    assert np.isnan(alone[1:]).all()
    assert np.isnan(drawn(values[:, 1:]).p_adjusted()).all()


def test_what_varies_together_costs_no_adjustment():
    values = np.random.default_rng(2).normal(size=(2000, 1)) + 2.3
    twenty = drawn(values + 1e-9 * np.arange(20))
    assert twenty.p_adjusted() == pytest.approx(twenty.p_value(), abs=0.006)
    assert holm(twenty.p_value()).min() > 0.3


def test_many_clear_differences_are_not_lost_for_want_of_resamples():
    found = drawn(np.random.default_rng(3).normal(size=(999, 100)) + 9)
    assert (found.p_adjusted() == 2 / 1000).all()
    assert holm(found.p_value()).max() == pytest.approx(0.2)


def test_false_claims_among_correlated_differences_are_held_at_5_percent():
    rng, claims = np.random.default_rng(5), 0
    for _ in range(200):
        truth = rng.normal(size=(1, 1)) * 0.7 + rng.normal(size=(1, 8)) * 0.7
        common = rng.normal(size=(400, 1)) * 0.7
        claims += drawn(truth + common + rng.normal(size=(400, 8)) * 0.7).p_adjusted().min() < 0.05
    assert claims / 200 < 0.1


def test_what_no_resample_moves_has_no_interval_unless_it_is_known():
    found = resampled(auroc, [0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3, 4])
    with pytest.warns(UndefinedWarning, match="all resamples give one value"):
        assert np.isnan(found.interval()).all()
    assert found.interval(fixed=True) == (1, 1)
    several = resampled(auroc, [0, 0, 1, 1], [[1, 1], [2, 4], [3, 3], [4, 5]], [1, 2, 3, 4])
    with pytest.warns(UndefinedWarning, match="of 1 of 2 figures"):
        low, _high = several.interval()
    assert np.isnan(low).tolist() == [True, False]


def test_films_without_weight_are_not_there():
    labels, scores, patients = clustered(60)
    kept = np.random.default_rng(2).random(len(scores)) < 0.5
    weight = np.where(kept, 2.0, 0.0)
    for metric in (auroc, brier):
        score = scores if metric is auroc else 1 / (1 + np.exp(-scores))
        draws = Resamples(patients[kept], resamples=20)
        found = resampled(metric, labels, score, patients[: len(labels)], sample_weight=weight)
        alone = resampled(
            metric, labels[kept], score[kept], Resamples(patients[kept]), sample_weight=weight[kept]
        )
        assert (found.estimate, len(found.draws.drawn)) == (alone.estimate, len(draws.drawn))
        assert found.replicates == pytest.approx(alone.replicates)
    # One patient with the finding beside others of no weight is one patient.
    alone = resampled(auroc, [1, 1, 0, 0], [4, 3, 2, 1], [1, 2, 3, 4], sample_weight=[1, 0, 1, 1])
    assert np.isnan(alone.replicates).all()


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


MISSING = {
    "float": [1.0, np.nan],
    "None": ["a", None],
    "text beside NaN": ["a", np.nan],
    "NA": pd.array([1, pd.NA], dtype="Int64"),
    "text NA": pd.Series(["a", pd.NA], dtype="string"),
    "NaT": pd.to_datetime(["2020-01-01", None]),
    "category": pd.Categorical(["a", None]),
}


def test_sums_have_the_mean_and_variance_of_the_multinomial():
    counts = np.random.default_rng(1).integers(0, 5, size=(60, 3)).astype(float)
    totals = Resamples(np.arange(60), resamples=20_000, seed=3).sums(counts)
    assert totals.mean(axis=0) == pytest.approx(counts.sum(axis=0), rel=0.01)
    assert np.cov(totals.T) == pytest.approx(60 * np.cov(counts.T, bias=True), rel=0.1, abs=4)


@pytest.mark.parametrize(
    "ask",
    [
        Resamples,
        lambda who: delong([0, 1], [1, 2], patient=who),
        lambda who: assess([0, 1], [0, 1], patient=who),
        lambda who: compare_scores([0, 1], [1, 2], [2, 1], patient=who),
        lambda who: reliability([0, 1], [0.1, 0.2], patient=who),
    ],
)
@pytest.mark.parametrize("patient", MISSING.values(), ids=MISSING)
def test_films_of_nobody_are_refused(ask, patient):
    with pytest.raises(ValueError, match="Expected a patient for each film, got a missing one"):
        ask(patient)


@pytest.mark.parametrize(
    ("patients", "options", "message"),
    [
        ([[1, 2]], {}, "shape"),
        ([], {}, "shape"),
        ([1, 2, 3], {}, "each of 2 films"),
        ([1, 2], {"resamples": 0}, "at least one resample"),
    ],
)
def test_what_cannot_be_drawn_is_refused(patients, options, message):
    with pytest.raises(ValueError, match=message):
        resampled(auroc, [0, 1], [1, 2], Resamples(patients, **options))


def test_patients_are_told_apart_and_in_numpys_order():
    assert len(Resamples([1, "1", 2, "b"], resamples=1).drawn) == 4
    for who in ([3, 1, 2, 1], ["b", "a", "c", "a"], np.array([2.5, -1, 7, -1])):
        code = Resamples(who, resamples=1).code
        assert (code == np.unique(who, return_inverse=True)[1]).all()


counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
levels = st.floats(0.5, 0.999)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_that_of_newcombes_table(k, n, low, high):
    """Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3."""
    found = wilson(k, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(counts, levels)
def test_wilson_stays_inside_mirrors_and_narrows_with_more_films(count, level):
    k, n = count
    found, mirrored = wilson(k, n, level=level), wilson(n - k, n, level=level)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.low < found.high
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)
    for other in (wilson(10 * k, 10 * n, level=level), wilson(k, n, level=0.49)):
        assert other.high - other.low < found.high - found.low


def test_wilson_of_nothing_is_undefined():
    with pytest.warns(UndefinedWarning, match="no trials"):
        found = wilson(0, 0)
    assert math.isnan(found.estimate)
    assert math.isnan(found.low)


BAD_COUNTS = [(-1, 3), (4, 3), (0.5, 3), (math.nan, 10), (1, math.nan)]


@pytest.mark.parametrize(
    ("k", "n", "level", "message"),
    [(*pair, 0.95, "0 <= k <= n") for pair in BAD_COUNTS]
    + [(1, 2, level, r"Use 0\.95") for level in (0, 1, 95)],
)
def test_wilson_refuses_what_is_no_count_or_level(k, n, level, message):
    with pytest.raises(ValueError, match=message):
        wilson(k, n, level=level)


def test_estimate_reads_as_text():
    found = Estimate(1, 2, 0.5, 0.25, 0.75, "test")
    assert str(found) == "0.50 (0.25 to 0.75)"
    assert f"{found:.0%}" == "50% (25% to 75%)"
