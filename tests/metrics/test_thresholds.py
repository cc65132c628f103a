"""Thresholds against trying every one; operating points against ``assess``; sweeps."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scored_films import clustered, films

from chexlib.metrics import (
    OneClassWarning,
    UndefinedWarning,
    any_of,
    assess,
    at_sensitivity,
    at_specificity,
    auroc,
    choose,
    counts_by_threshold,
    decision_curve,
    expected_films,
    max_f1,
    min_cost,
    net_benefit,
    no_finding,
    operating_point,
    operating_points,
    per_films,
    threshold_sweep,
    youden,
)


def rates(labels, scores, weights, cut):
    called = scores >= cut
    sensitivity = weights @ (called & labels) / (weights @ labels)
    return sensitivity, weights @ (~called & ~labels) / (weights @ ~labels)


def f1(labels, scores, weights, cut):
    called = scores >= cut
    tp = weights @ (called & labels)
    return 2 * tp / (2 * tp + weights @ (called ^ labels))


@given(films(), st.sampled_from([0.0, 0.5, 0.8, 0.9, 1.0]))
def test_no_threshold_does_better_by_the_rule(drawn, value):
    labels, scores, weights, _ = drawn
    every = [math.inf, *np.unique(scores[weights > 0])[::-1]]
    found = {cut: rates(labels, scores, weights, cut) for cut in every}

    def chosen(rule):
        return choose(labels, scores, rule, sample_weight=weights)

    def is_best(cut, worth):
        best = max(worth(other) for other in every)
        assert worth(cut) == pytest.approx(best)
        assert not any(worth(other) > best - 1e-13 for other in every if other > cut)

    is_best(chosen(youden), lambda cut: sum(found[cut]))
    is_best(chosen(max_f1), lambda cut: f1(labels, scores, weights, cut))
    low = chosen(at_sensitivity(value))
    assert found[low][0] >= value - 1e-12
    assert all(found[cut][0] < value for cut in every if cut > low)
    high = chosen(at_specificity(value))
    assert found[high][1] >= value - 1e-12
    assert all(found[c][0] <= found[high][0] for c in every if found[c][1] >= value)
    share = weights @ labels / weights.sum()

    def benefit(cut):
        return -(5 * share * (1 - found[cut][0]) + 2 * (1 - share) * (1 - found[cut][1])) / 7

    is_best(chosen(min_cost(miss=5, false_alarm=2)), benefit)


def test_several_findings_and_one_class():
    labels = pd.DataFrame({"Mass": [0, 1, 1, 0], "Hernia": [0, 0, 0, 0]})
    scores = pd.DataFrame({"Mass": [0.1, 0.8, 0.7, 0.2], "Hernia": [0.1, 0.2, 0.3, 0.4]})
    with pytest.warns(OneClassWarning, match="threshold is undefined for Hernia"):
        cuts = choose(labels, scores, youden)
    assert cuts[0] == 0.7
    table = operating_points(labels, scores, cuts)
    assert table.loc[0, ["tp", "fp", "fn", "tn"]].tolist() == [2, 0, 0, 2]
    assert np.isnan(table.loc[1, "sensitivity"])


@pytest.mark.filterwarnings("ignore::chexlib.metrics.UndefinedWarning")
@given(films(), st.booleans())
def test_operating_points_are_those_of_agreement(drawn, by_patient):
    labels, scores, weights, patients = drawn
    options = {"patient": patients if by_patient else None, "resamples": 60}
    if weights.all():
        options["sample_weight"] = weights
    point = operating_point(labels, scores, 0.5, **options)
    expected = assess(scores >= 0.5, labels, **options)
    for name in ("sensitivity", "specificity", "ppv", "npv"):
        one, other = getattr(point, name), expected[name]
        assert (one.k, one.n) == (other.k, other.n)
        assert one.estimate == pytest.approx(other.estimate, nan_ok=True)
        if "bootstrap" not in one.method:  # draws differ, rules do not
            assert repr(one) == repr(other)  # NaN too
    tp = point.table.tp
    if point.table.n > point.table.tn:
        total = 2 * tp + point.table.fp + point.table.fn
        assert point.f1.estimate == pytest.approx(2 * tp / total)
        assert point.f1.low <= point.f1.high


def test_f1_interval_of_independent_films_covers_the_truth():
    rng = np.random.default_rng(0)
    truth, hits = 2 * 0.06 / (2 * 0.06 + 0.08 + 0.04), 0
    for _ in range(300):
        labels = rng.random(400) < 0.1
        called = rng.random(400) < np.where(labels, 0.6, 0.08 / 0.9)
        found = operating_point(labels, called, 1, resamples=1).f1
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / 300 <= 0.99


def test_gain_has_a_paired_interval():
    labels, scores, patients = clustered(300, shift=2)
    p = 1 / (1 + np.exp(-(2 * scores - 2)))
    curve = decision_curve(labels, p, [0.2, 0.4], patient=patients, resamples=300)
    assert ((curve["gain_low"] <= curve["gain"]) & (curve["gain"] <= curve["gain_high"])).all()
    assert curve["estimate"].between(curve["low"], curve["high"]).all()
    assert (curve["gain_low"] > 0).all()


def test_no_finding_of_independent_findings_is_calibrated():
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 8, (50_000, 14))
    none = ~(rng.random(p.shape) < p).any(axis=1)
    assert no_finding(p).mean() == pytest.approx(none.mean(), abs=0.01)
    assert (no_finding(p, how="max") >= no_finding(p)).all()
    assert auroc(none, no_finding(p)) > auroc(none, no_finding(p, how="max")) > 0.5


def test_unions_keep_small_probabilities():
    found = any_of([[1e-18, 2e-18], [1.0, 0.5], [0.0, 0.0]])
    assert found[0] == pytest.approx(3e-18, rel=1e-9, abs=0)
    assert found[1:].tolist() == [1, 0]
    assert not np.signbit(found).any()
    assert no_finding([[1 - 1e-9, 1 - 1e-9]])[0] == pytest.approx(1e-18, rel=1e-6, abs=0)


RNG = np.random.default_rng(0)
PATIENT = np.arange(300) // 3
LABELS = RNG.random(300) < 0.2
SCORES = np.round(np.clip(0.3 * LABELS + RNG.random(300) * 0.7, 0, 1), 2)
CUTS = (0.0, 0.2, 0.5, 0.8, np.inf)


@pytest.mark.filterwarnings("ignore:npv is undefined")
@pytest.mark.parametrize("patient", [None, PATIENT])
def test_agrees_with_one_threshold_at_a_time(patient):
    sweep = threshold_sweep(LABELS, SCORES, CUTS[:-1], patient=patient, resamples=200)
    for row in sweep.itertuples():
        one = operating_point(LABELS, SCORES, row.threshold, patient=patient, resamples=200)
        assert (row.tp, row.fp, row.fn, row.tn) == tuple(one.table.__dict__.values())
        for name in ("sensitivity", "specificity", "ppv", "f1"):
            ends = [getattr(row, name + end) for end in ("", "_low", "_high")]
            estimate = getattr(one, name)
            assert ends == pytest.approx([estimate.estimate, estimate.low, estimate.high])


def test_no_call_has_no_precision():
    with pytest.warns(UndefinedWarning, match="ppv"):
        assert operating_point(LABELS, SCORES, np.inf).f1.estimate == 0
    row = threshold_sweep(LABELS, SCORES, np.inf, resamples=50).iloc[-1]
    assert row["tp"] == row["fp"] == row["sensitivity"] == 0
    assert np.isnan(row[["ppv", "ppv_low", "ppv_high"]].to_numpy(dtype=float)).all()
    assert row["sensitivity_high"] > 0


def test_weights_are_counts():
    copies = RNG.integers(1, 4, 300)
    weighted = threshold_sweep(LABELS, SCORES, CUTS, sample_weight=copies, resamples=20)
    repeated = threshold_sweep(
        np.repeat(LABELS, copies), np.repeat(SCORES, copies), CUTS, resamples=20
    )
    columns = ["tp", "fp", "fn", "tn", "sensitivity", "specificity", "ppv", "f1"]
    pd.testing.assert_frame_equal(weighted[columns], repeated[columns])


def test_per_films_scales_and_counts_the_work():
    points = pd.DataFrame({"tp": [8, 0, 0], "fp": [32, 5, 0], "fn": [2, 5, 5], "tn": [158, 90, 95]})
    found = per_films(points, films=1000)
    assert found["found"].tolist() == [40, 0, 0]
    assert found["false alarms"].tolist() == [160, 50, 0]
    assert found["calls per hit"].tolist()[:2] == [5, np.inf]
    assert np.isnan(found["calls per hit"].iloc[2])


@given(films())
def test_net_benefit_is_its_definition(drawn):
    labels, p, weights, patients = drawn
    cuts = np.array([0.1, 0.3, 0.7])
    options = {"sample_weight": weights, "patient": patients, "resamples": 20}
    curve = decision_curve(labels, p, cuts, **options)
    assert len(decision_curve(labels, p, 0.3, **options)) == 1
    share = weights @ labels / weights.sum()
    for cut, row in zip(cuts, curve.itertuples(), strict=True):
        sens, spec = rates(labels, p, weights, cut)
        model = net_benefit(sens, spec, prevalence=share, threshold=cut)
        assert model == pytest.approx(share * sens - (1 - share) * (1 - spec) * cut / (1 - cut))
        everyone = net_benefit(1, 0, prevalence=share, threshold=cut)
        assert (row.estimate, row.all) == pytest.approx((model, everyone))
        assert row.gain == pytest.approx(model - max(everyone, 0))


probabilities = arrays(float, st.integers(2, 40), elements=st.floats(0.01, 0.99))


@given(probabilities)
def test_thresholds_of_expected_films_are_where_theory_puts_them(p):
    labels, scores, weight = expected_films(p)
    best = np.nanmax(counts_by_threshold(labels, scores, sample_weight=weight).f1)
    nine = min_cost(miss=9, false_alarm=1)
    for rule, expected in ((youden, p.mean()), (max_f1, best / 2), (nine, 0.1)):
        threshold = choose(labels, scores, rule, sample_weight=weight)
        if rule is not youden or np.ptp(p) > 1e-9:
            assert not (p[p < threshold] > expected + 1e-9).any()
            assert not (p[p >= threshold] < expected - 1e-9).any()


def test_expected_films_keep_their_weight():
    labels, scores, weight = expected_films([0.2, 0.5], sample_weight=[10, 4])
    assert labels.tolist() == [True, True, False, False]
    assert scores.tolist() == [0.2, 0.5, 0.2, 0.5]
    assert weight == pytest.approx([2, 2, 8, 2])


def test_logits_have_thresholds_of_any_size():
    assert (
        operating_point(LABELS, 9 * SCORES, 4.5).table == operating_point(LABELS, SCORES, 0.5).table
    )


def test_films_without_weight_are_no_trials():
    weight = np.where(np.arange(300) < 40, 1.0, 0.0)
    found = operating_point(LABELS, SCORES, 0.99, patient=PATIENT, sample_weight=weight)
    alone = operating_point(
        LABELS[:40], SCORES[:40], 0.99, patient=PATIENT[:40], sample_weight=np.ones(40)
    )
    assert found == alone
    assert found.specificity.method == "Wilson, 14 patients as trials"


TWO = ([0, 1], [0.1, 0.2])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: at_sensitivity(1.2), "sensitivity between"),
        (lambda: at_specificity(-1), "specificity between"),
        (lambda: min_cost(miss=0, false_alarm=0), "costs"),
        (lambda: net_benefit(1, 1, prevalence=0.5, threshold=1), "strictly between"),
        (lambda: net_benefit(1.2, 0.5, prevalence=0.1, threshold=0.1), "sensitivity between"),
        (lambda: net_benefit(0.5, -0.1, prevalence=0.1, threshold=0.1), "specificity between"),
        (lambda: net_benefit(0.5, 0.5, prevalence=2, threshold=0.1), "prevalence between"),
        (lambda: decision_curve(*TWO, ["0.1"]), "to be numbers"),
        (lambda: decision_curve(*TWO, [1]), "strictly between 0 and 1"),
        (lambda: decision_curve([1, 1], [0.1, 0.2], [0.5]), "both classes"),
        (lambda: decision_curve(np.eye(2), np.eye(2), [0.5]), "one finding"),
        (lambda: decision_curve([0, 1], [0.1, 2], [0.5]), "between 0 and 1, got 2"),
        (lambda: decision_curve(*TWO, [0.5], patient=[1]), "each of 2"),
        (lambda: any_of([0.5]), "shape"),
        (lambda: any_of([[1.5]]), "between 0 and 1"),
        (lambda: any_of([[0.5]], how="sum"), "how"),
        (lambda: expected_films(np.full((4, 2), 0.5)), "Expected one finding"),
        (lambda: threshold_sweep(np.ones((4, 2)), np.ones((4, 2)), CUTS), "Expected one finding"),
        (lambda: threshold_sweep(LABELS, SCORES, [0.5, 50]), "at most 1 .* got 50.0"),
        (lambda: threshold_sweep(LABELS, SCORES, [np.nan]), "got NaN"),
        (lambda: threshold_sweep(LABELS, SCORES, ["0.5"]), "to be numbers"),
        (lambda: threshold_sweep(LABELS, SCORES.astype(str), [0.5]), "numbers, got text"),
        (lambda: threshold_sweep(LABELS, SCORES.astype(str).astype(object), [0.5]), "got text"),
        (lambda: operating_point(*TWO, 0.5, patient=[1]), "each of 2 films"),
        (lambda: operating_point(*TWO, math.nan), "NaN"),
        (lambda: operating_point(np.eye(2), np.eye(2), 0.5), "one finding"),
        (lambda: operating_point(LABELS, SCORES, 50), "at most 1"),
        (lambda: operating_point(LABELS, SCORES, [0.5]), "one threshold"),
        (lambda: operating_point(LABELS, SCORES, "0.5"), "to be numbers"),
        (lambda: operating_points(np.eye(2), np.eye(2), [0.5]), "each of 2 findings"),
    ],
)
def test_bad_input_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
