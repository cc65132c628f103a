"""Many thresholds at once say what each says alone; expected films obey their probabilities."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chexlib.metrics import (
    choose,
    counts_by_threshold,
    expected_films,
    max_f1,
    operating_point,
    per_films,
    threshold_sweep,
    youden,
)

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
    row = threshold_sweep(LABELS, SCORES, CUTS, resamples=50).iloc[-1]
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


def test_refuses_several_findings():
    with pytest.raises(ValueError, match="Expected one finding"):
        threshold_sweep(np.ones((4, 2)), np.ones((4, 2)), CUTS)
    with pytest.raises(ValueError, match="Expected one finding"):
        expected_films(np.full((4, 2), 0.5))


def test_per_films_scales_and_counts_the_work():
    points = pd.DataFrame({"tp": [8, 0, 0], "fp": [32, 5, 0], "fn": [2, 5, 5], "tn": [158, 90, 95]})
    found = per_films(points, films=1000)
    assert found["found"].tolist() == [40, 0, 0]
    assert found["false alarms"].tolist() == [160, 50, 0]
    assert found["calls per hit"].tolist()[:2] == [5, np.inf]
    assert np.isnan(found["calls per hit"].iloc[2])


probabilities = arrays(float, st.integers(2, 40), elements=st.floats(0.01, 0.99))


@given(probabilities)
def test_youden_of_expected_films_is_the_prevalence(p):
    labels, scores, weight = expected_films(p)
    threshold = choose(labels, scores, youden, sample_weight=weight)
    mean = p.mean()
    # Films below the mean are left alone, films above it called.
    if np.ptp(p) > 1e-9:
        assert not (p[p < threshold] > mean + 1e-9).any()
        assert not (p[p >= threshold] < mean - 1e-9).any()


@given(probabilities)
def test_f1_threshold_of_expected_films_is_half_the_best(p):
    labels, scores, weight = expected_films(p)
    threshold = choose(labels, scores, max_f1, sample_weight=weight)
    best = np.nanmax(counts_by_threshold(labels, scores, sample_weight=weight).f1)
    assert not (p[p < threshold] > best / 2 + 1e-9).any()
    assert not (p[p >= threshold] < best / 2 - 1e-9).any()


def test_expected_films_keep_their_weight():
    labels, scores, weight = expected_films([0.2, 0.5], sample_weight=[10, 4])
    assert labels.tolist() == [True, True, False, False]
    assert scores.tolist() == [0.2, 0.5, 0.2, 0.5]
    assert weight == pytest.approx([2, 2, 8, 2])


def test_one_number_is_one_threshold():
    pd.testing.assert_frame_equal(
        threshold_sweep(LABELS, SCORES, 0.5, resamples=50),
        threshold_sweep(LABELS, SCORES, [0.5], resamples=50),
    )


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: threshold_sweep(LABELS, SCORES, [0.5, 50]), "at most 1 .* got 50.0"),
        (lambda: threshold_sweep(LABELS, SCORES, [np.nan]), "got NaN"),
        (lambda: threshold_sweep(LABELS, SCORES, ["0.5"]), "to be numbers"),
        (lambda: threshold_sweep(LABELS, SCORES.astype(str), [0.5]), "numbers, got text"),
        (lambda: threshold_sweep(LABELS, SCORES.astype(str).astype(object), [0.5]), "got text"),
        (lambda: operating_point(LABELS, SCORES, 50), "at most 1"),
        (lambda: operating_point(LABELS, SCORES, [0.5]), "one threshold"),
        (lambda: operating_point(LABELS, SCORES, "0.5"), "to be numbers"),
    ],
)
def test_thresholds_and_scores_that_are_none_are_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


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
