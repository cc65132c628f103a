"""Readers against one another: by statsmodels, scikit-learn, brute force and simulation."""

import math
from itertools import combinations

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import t as student
from sklearn.metrics import cohen_kappa_score, f1_score
from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa

from chexlib.metrics import Bootstrap, Resamples, compare_with_reader
from chexlib.metrics.readers import (
    against_others,
    beside_readers,
    dawid_skene,
    equal_skill,
    expected_f1,
    f1_between,
    krippendorff_alpha,
    majority_of_others,
    over_readers,
    panel_agreement,
    reader_agreement,
    simulate_reads,
)

READS = simulate_reads(300, [0.1, 0.2, 0.2, 0.3, 0.4], 0.8, repeats=1, seed=3)[0]


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


def test_agreement_is_statsmodels():
    found = reader_agreement(READS, resamples=50)
    votes = READS.sum(axis=1)
    assert found["fleiss_kappa"].estimate == pytest.approx(
        fleiss_kappa(np.column_stack([5 - votes, votes]))
    )
    pairs = [(READS[:, i], READS[:, j]) for i, j in combinations(range(5), 2)]
    tables = [
        [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]] for a, b in pairs
    ]
    kappas = [cohens_kappa(table).kappa for table in tables]
    assert found["pairwise_kappa"].estimate == pytest.approx(np.mean(kappas))
    for name, cell in (("positive_agreement", lambda a: a), ("negative_agreement", lambda a: ~a)):
        both = sum((cell(a) & cell(b)).sum() for a, b in pairs)
        said = sum(cell(a).sum() + cell(b).sum() for a, b in pairs)
        assert found[name].estimate == pytest.approx(2 * both / said)
    assert (found["fleiss_kappa"].k, found["fleiss_kappa"].n) == (np.isin(votes, [0, 5]).sum(), 300)


def test_intervals_are_by_patient():
    one = reader_agreement(READS, np.arange(300))["fleiss_kappa"]
    thrice = reader_agreement(np.repeat(READS, 3, axis=0), np.repeat(np.arange(300), 3))
    assert thrice["fleiss_kappa"].estimate == pytest.approx(one.estimate)
    assert (thrice["fleiss_kappa"].low, thrice["fleiss_kappa"].high) == pytest.approx(
        (one.low, one.high)
    )
    alone = reader_agreement(np.repeat(READS, 3, axis=0))["fleiss_kappa"]
    assert alone.high - alone.low < 0.7 * (one.high - one.low)
    draws = Resamples(np.arange(300))
    assert reader_agreement(READS, draws)["fleiss_kappa"] == one


def test_the_interval_of_kappa_covers_as_often_as_it_says():
    rate, skill = [0.2, 0.3, 0.4], 0.7
    large = simulate_reads(200_000, rate, skill, repeats=1, seed=0)[0]
    truth = reader_agreement(large, resamples=1)["pairwise_kappa"].estimate
    studies = simulate_reads(150, rate, skill, repeats=200, seed=1)
    found = [reader_agreement(reads, resamples=200)["pairwise_kappa"] for reads in studies]
    assert 0.90 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.99


def test_readers_who_call_nothing_have_no_agreement():
    nothing = np.zeros((5, 3), bool)
    found = reader_agreement(nothing, resamples=20)
    assert np.isnan(found["fleiss_kappa"].estimate)
    assert np.isnan(found["pairwise_kappa"].estimate)
    assert found["negative_agreement"].estimate == 1
    assert found["negative_agreement"].method == "no interval: resamples do not move it"
    one_calls = nothing | [[True, False, False]] * 5
    assert reader_agreement(one_calls, resamples=20)["pairwise_kappa"].estimate == 0


@pytest.mark.parametrize("size", [1, 3, 5])
def test_panels_are_what_all_of_them_give_one_by_one(size):
    found = panel_agreement(READS, size, resamples=20)
    whole, panels = READS.sum(axis=1) > 2, list(combinations(range(5), size))
    said = np.array([READS[:, panel].sum(axis=1) > size / 2 for panel in panels])
    assert found["sensitivity"].estimate == pytest.approx(
        (said & whole).sum() / (whole * said.shape[0]).sum()
    )
    assert found["ppv"].estimate == pytest.approx((said & whole).sum() / said.sum())
    outside = [
        (one, READS[:, other])
        for one, panel in zip(said, panels, strict=True)
        for other in set(range(5)) - set(panel)
    ]
    if size == 5:
        assert set(found) == {"sensitivity", "ppv"}
        return
    panel, other = (np.concatenate(side) for side in zip(*outside, strict=True))
    assert found["positive_agreement"].estimate == pytest.approx(f1_score(panel, other))
    assert found["kappa"].estimate == pytest.approx(cohen_kappa_score(panel, other))


def test_alpha_is_the_packages_and_nearly_fleiss():
    votes = READS.sum(axis=1)
    counts = np.column_stack([5 - votes, votes])
    found = krippendorff_alpha(counts, resamples=100)
    expected = krippendorff.alpha(READS.T.astype(int), level_of_measurement="nominal")
    assert found.estimate == pytest.approx(expected)
    fleiss = reader_agreement(READS, resamples=100)["fleiss_kappa"]
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (fleiss.estimate, fleiss.low, fleiss.high), abs=1e-3
    )


def test_alpha_of_three_values_and_other_numbers_of_reads():
    reads = np.array([[0, 1, 2, 2], [0, 1, 1, np.nan], [2, np.nan, 1, 2]])
    counts = (reads.T[:, :, None] == np.arange(3)).sum(axis=1)
    for scale in ("nominal", "ordinal"):
        found = krippendorff_alpha(np.vstack([counts, [1, 0, 0]]), scale=scale, resamples=20)
        assert found.estimate == pytest.approx(
            krippendorff.alpha(reads, level_of_measurement=scale)
        )
        assert (found.k, found.n) == (2, 4)
    assert np.isnan(krippendorff_alpha([[3, 0], [2, 0]], resamples=5).estimate)


def test_dawid_skene_finds_the_rates_that_were_simulated():
    rng = np.random.default_rng(0)
    truth = rng.random(20_000) < 0.3
    sensitivity, specificity = (
        np.array([0.9, 0.7, 0.6, 0.8, 0.5]),
        np.array([0.8, 0.95, 0.99, 0.9, 0.97]),
    )
    chance = np.where(truth[:, None], sensitivity, 1 - specificity)
    reads = rng.random(chance.shape) < chance
    found = dawid_skene(reads)
    assert found.prevalence == pytest.approx(0.3, abs=0.015)
    np.testing.assert_allclose(found.sensitivity, sensitivity, atol=0.025)
    np.testing.assert_allclose(found.specificity, specificity, atol=0.015)
    majority = reads.sum(axis=1) > 2
    assert ((found.truth > 0.5) == truth).mean() > (majority == truth).mean()
    # Calibrated: of films said to have it at some 80%, some 80% have it.
    likely = (found.truth > 0.6) & (found.truth < 0.95)
    assert truth[likely].mean() == pytest.approx(found.truth[likely].mean(), abs=0.05)


def test_dawid_skene_flatters_readers_who_cannot_see_what_is_there():
    rng = np.random.default_rng(0)
    truth = rng.random(20_000) < 0.3
    shown = truth & (rng.random(20_000) < 0.6)  # the film shows six in ten
    reads = rng.random((20_000, 5)) < np.where(shown, 0.9, 0.05)[:, None]
    found = dawid_skene(reads)
    assert reads[truth].mean() == pytest.approx(0.56, abs=0.01)
    np.testing.assert_allclose(found.sensitivity, 0.9, atol=0.02)
    assert found.prevalence == pytest.approx(0.18, abs=0.01)


def test_dawid_skene_on_resamples_is_dawid_skene_on_the_films_drawn():
    weight = np.stack([np.ones(300), np.arange(300) % 3], axis=1)
    found = dawid_skene(READS, weight=weight)
    assert found.truth.shape == (2, 300)
    np.testing.assert_allclose(found.sensitivity[0], dawid_skene(READS).sensitivity, atol=1e-6)
    drawn = dawid_skene(np.repeat(READS, np.arange(300) % 3, axis=0))
    np.testing.assert_allclose(found.specificity[1], drawn.specificity, atol=1e-6)
    assert found.prevalence[1] == pytest.approx(float(drawn.prevalence), abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reader_agreement([[0, 2], [0, 1]]), "0 or 1"),
        (lambda: reader_agreement([[1], [0]]), "by 2 readers or more"),
        (lambda: reader_agreement(np.zeros((0, 3), bool)), "at least one film"),
        (lambda: reader_agreement(READS, np.arange(5)), "a patient for each of 300 films"),
        (lambda: panel_agreement(READS, 2), "an odd size from 1 to 5"),
        (lambda: panel_agreement(READS, 7), "an odd size from 1 to 5"),
        (lambda: krippendorff_alpha([[0.5, 1]]), "whole counts"),
        (lambda: krippendorff_alpha([1, 2]), "whole counts"),
        (lambda: dawid_skene(READS[:, :2]), "by 3 readers or more"),
    ],
)
def test_reads_that_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_majority_of_others_leaves_the_reader_out():
    reads = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, np.nan, 0, np.nan, np.nan]])
    strict, ties = (majority_of_others(reads, ties=ties) for ties in (False, True))
    np.testing.assert_array_equal(strict[0], [0, 0, 0, 1, 1])  # two of four are no majority
    np.testing.assert_array_equal(ties[0], [1, 1, 1, 1, 1])
    np.testing.assert_array_equal(ties[1], [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(strict[2], [0, np.nan, 1, np.nan, np.nan])
    with pytest.raises(ValueError, match="0, 1 and NaN"):
        majority_of_others([[2, 0]])


def test_a_score_stands_beside_each_reader_as_in_a_single_comparison():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=300)
    reads = (seen[:, None] + rng.normal(size=(300, 4)) > 1).astype(float)
    reads[:50, 3] = np.nan
    patient = np.arange(300) // 2
    draws = Resamples(patient, resamples=100, seed=0)
    found = beside_readers(reads, seen, draws)
    truth = majority_of_others(reads)[50:, 3]
    own = compare_with_reader(
        truth, seen[50:], reads[50:, 3], patient=draws.select(np.arange(300) >= 50)
    )
    gap = found[3, 0] - found[3, 1]
    assert found.estimate[3] == pytest.approx([own.first, own.second])
    assert np.array(gap.interval()) == pytest.approx([own.low, own.high])


def test_intervals_over_readers_cover_the_mean_of_all_readers():
    """Simulated: a reader is right on a share of films of his own, and films are hard for all."""
    rng = np.random.default_rng(3)
    hit, narrow, n = 0, 0, 300
    truth = np.clip(0.8 + rng.normal(0, np.hypot(0.06, 0.3), 1_000_000), 0, 1).mean()
    for seed in range(n):
        skill = rng.normal(0.8, 0.06, 5)
        hard = rng.normal(0, 0.3, (150, 1))  # what readers share on a patient
        right = rng.random((150, 5)) < np.clip(skill + hard, 0, 1)
        draws = Resamples(np.arange(150), resamples=200, seed=seed)
        found = Bootstrap(right.mean(axis=0), draws.sums(right) / 150, draws)
        whole = over_readers(found)
        low, high = found.mean().interval()
        hit += whole.low < truth < whole.high
        narrow += low < truth < high
    assert 0.92 <= hit / n <= 0.99
    assert narrow / n < 0.9  # these readers alone: too narrow for other readers
    assert math.isnan(over_readers(found[:1]).low)


def test_over_readers_matches_the_published_arithmetic():
    """Worked by hand: S2 = 0.01, C = 0.002, five readers."""
    d = np.array([-0.1, -0.1, 0.0, 0.1, 0.1])  # variance 0.01
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(2000, 6))
    basis = np.linalg.qr(drawn - drawn.mean(axis=0))[0] * np.sqrt(1999)  # uncorrelated, variance 1
    common, own = basis[:, :1], basis[:, 1:]
    draws = Resamples(np.arange(4), resamples=2000)
    found = over_readers(Bootstrap(d, np.sqrt(0.002) * common + 0.05 * own, draws))
    half = student.ppf(0.975, 4 * 2**2) * np.sqrt(0.02 / 5)
    assert (found.low, found.high) == pytest.approx((-half, half))
