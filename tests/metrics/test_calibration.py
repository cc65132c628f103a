"""Calibration: against torchmetrics, scikit-learn, statsmodels, and honest probabilities."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import binomtest
from scored_films import clustered, films
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from chexlib.metrics import (
    OneClassWarning,
    Resamples,
    UndefinedWarning,
    assess,
    auroc,
    brier,
    brier_parts,
    calibration_error,
    calibration_slope,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    reliability,
    resampled,
    shift_prevalence,
    undo_class_weights,
)


def honest(n=20_000, *, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.beta(0.6, 5, n)
    return rng.random(n) < p, p


@pytest.mark.parametrize(("strategy", "theirs"), [("width", "uniform"), ("mass", "quantile")])
def test_bins_are_scikit_learns(strategy, theirs):
    labels, p = honest(3000)
    found = reliability(labels, p, bins=12, strategy=strategy)
    observed, predicted = calibration_curve(labels, p, n_bins=12, strategy=theirs)
    assert found["observed"].to_numpy() == pytest.approx(observed, abs=0.01)
    assert found["predicted"].to_numpy() == pytest.approx(predicted, abs=0.001)
    assert found["n"].sum() == 3000
    if strategy == "mass":
        assert found["n"].min() >= 249
    for row in found.itertuples():
        interval = binomtest(row.positive, row.n).proportion_ci(method="wilson")
        ends = row.observed_low, row.observed_high
        assert ends == pytest.approx((interval.low, interval.high))


def test_bins_by_patient_are_those_of_agreement_and_wider():
    labels, scores, patients = clustered(300)
    p = expit(scores)
    one, other = (reliability(labels, p, bins=4, patient=who) for who in (None, patients))
    widths = [(bins["observed_high"] - bins["observed_low"]).mean() for bins in (one, other)]
    assert widths[1] > 1.05 * widths[0]
    for row in other.itertuples():
        inside = (p >= row.lower) & (p <= row.upper)
        expected = assess(
            np.ones(inside.sum()), labels[inside], patient=patients[inside], statistics=["ppv"]
        )["ppv"]
        assert row.observed == pytest.approx(expected.estimate)
        ends = row.observed_low, row.observed_high
        assert ends == pytest.approx((expected.low, expected.high), abs=0.02)


def test_equal_probabilities_stay_together_and_bins_without_films_are_left_out():
    found = reliability([0, 1, 0, 1, 1], [0.5, 0.5, 0.5, 0.5, 0.9], bins=5)
    assert found["n"].tolist() == [4, 1]
    options = {"bins": 3, "strategy": "width", "sample_weight": [1, 1, 0]}
    assert reliability([0, 1, 1], [0.1, 0.2, 0.9], **options)["n"].tolist() == [2]
    p = np.arange(11) / 10  # one on an edge belongs to the bin below
    found = reliability(p > 0.5, p, bins=10, strategy="width")
    assert found["upper"].tolist() == p[1:].tolist()
    assert found["n"].tolist() == [2] + [1] * 9


def test_calibration_error_of_equal_width_is_torchmetrics():
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.classification import binary_calibration_error

    labels, p = honest(2000)
    theirs = binary_calibration_error(torch.tensor(p), torch.tensor(labels.astype(int)), n_bins=15)
    assert calibration_error(labels, p, strategy="width") == pytest.approx(float(theirs), abs=1e-6)


@given(films(both=False), st.integers(1, 8), st.sampled_from(["mass", "width"]))
def test_calibration_error_is_its_definition_and_counts_are_weights(drawn, bins, strategy):
    labels, p, weights, _ = drawn
    weights = weights + 1
    found = reliability(labels, p, bins=bins, strategy=strategy, resamples=1)
    gap = np.abs(found["observed"] - found["predicted"]) * found["n"] / len(p)
    options = {"bins": bins, "strategy": strategy}
    assert calibration_error(labels, p, **options) == pytest.approx(gap.sum())
    many = [np.repeat(x, weights.astype(int)) for x in (labels, p)]
    weighted = calibration_error(labels, p, sample_weight=weights, **options)
    assert weighted == pytest.approx(calibration_error(*many, **options))


@given(films(both=False), st.sampled_from([None, 1, 3, 7]))
def test_brier_and_its_parts(drawn, bins):
    labels, p, weights, _ = drawn
    weights = weights + 0.5
    expected = brier_score_loss(labels, p, sample_weight=weights, pos_label=True)
    assert brier(labels, p, sample_weight=weights) == pytest.approx(expected)
    both = brier(np.c_[labels, ~labels], np.c_[p, 1 - p], sample_weight=weights)
    assert both == pytest.approx([expected] * 2)
    parts = brier_parts(labels, p, bins=bins, sample_weight=weights)
    assert parts.brier == pytest.approx(expected)
    share = np.average(labels, weights=weights)
    assert parts.uncertainty == pytest.approx(share * (1 - share))
    assert min(parts.reliability, parts.resolution) >= 0
    if bins is None:  # Murphy's identity
        assert parts.within == pytest.approx(0, abs=1e-12)
    # Stephenson et al.: within = mean variance of p in bins - 2 mean covariance with the label.
    if bins == 1:
        centred = p - np.average(p, weights=weights)
        within = np.average(centred**2 - 2 * centred * (labels - share), weights=weights)
        assert parts.within == pytest.approx(within, abs=1e-12)


def test_platt_is_a_logistic_regression():
    labels, p = honest(4000)
    bent = expit(0.5 * logit(p) + 1)
    weight = np.random.default_rng(0).integers(1, 4, 4000)
    found = fit_platt(labels, bent, sample_weight=weight)
    positive, negative = weight @ labels, weight @ ~labels
    target = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))
    given_as = {"family": sm.families.Binomial(), "freq_weights": weight}
    model = sm.GLM(target, sm.add_constant(logit(bent)), **given_as).fit()
    assert (found.intercept, found.slope) == pytest.approx(tuple(model.params), abs=1e-6)
    assert (found.slope, found.intercept) == pytest.approx((2, -2), abs=0.25)
    assert auroc(labels, found(bent)) == pytest.approx(auroc(labels, bent))
    apart = fit_platt([0, 0, 1, 1], [0, 0.1, 0.9, 1])  # classes apart; probabilities of 0 and 1
    assert np.isfinite([apart.slope, apart.intercept]).all()
    assert ((apart([0, 0.5, 1]) >= 0) & (apart([0, 0.5, 1]) <= 1)).all()


def test_slope_and_intercept_of_calibration_are_those_of_statsmodels():
    labels, p = honest(3000)
    p = expit(1.7 * logit(p) - 0.4)
    weight = np.random.default_rng(0).integers(0, 4, len(p))
    given_as = {"family": sm.families.Binomial(), "freq_weights": weight}
    model = sm.GLM(labels, sm.add_constant(logit(p)), **given_as)
    large = sm.GLM(labels, np.ones(len(p)), offset=logit(p), **given_as)
    theirs = model.fit().params[1], large.fit().params[0]
    found = calibration_slope(labels, p, sample_weight=weight)
    assert found == pytest.approx(theirs, abs=1e-6)
    assert found[0] == pytest.approx(1 / 1.7, abs=0.1)


def test_interval_of_the_slope_by_patient_is_that_of_clustered_errors():
    labels, scores, patients = clustered(400)
    p = expit(2 * scores - 1)
    found = resampled(calibration_slope, labels, p, Resamples(patients, resamples=400))
    (low, _), (high, _) = found.interval()
    model = sm.GLM(labels, sm.add_constant(logit(p)), sm.families.Binomial())
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": patients})
    assert found.estimate[0] == pytest.approx(fitted.params[1], abs=1e-6)
    assert high - low == pytest.approx(np.ptp(fitted.conf_int()[1]), rel=0.2)


def test_slope_is_nan_where_there_is_none():
    with pytest.warns(OneClassWarning, match="one class"):
        assert np.isnan(calibration_slope([0, 0], [0.1, 0.2])).all()
    for p in ([0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1], [0.5] * 4):
        with pytest.warns(UndefinedWarning, match="part the classes, or are all equal"):
            slope, intercept = calibration_slope([0, 0, 1, 1], p)
        assert np.isnan(slope)
        assert intercept == pytest.approx(0, abs=1e-9)
    # Probabilities of 0 and 1 have large, but finite logits.
    assert np.isfinite(calibration_slope([0, 1, 0, 1], [0, 0, 1, 1])).all()


def test_temperature_finds_what_logits_were_multiplied_by_and_has_the_least_loss():
    labels, p = honest(20_000)
    sharp = expit(3 * logit(p))
    found = fit_temperature(labels, sharp)
    assert found.temperature == pytest.approx(3, rel=0.05)
    assert found.intercept == 0
    for other in (0.97, 1.03):
        bent = expit(found.slope * other * logit(sharp))
        assert log_loss(labels, found(sharp)) <= log_loss(labels, bent)
    both = fit_temperature(np.c_[labels, labels], np.c_[sharp, sharp])
    assert both.temperature == pytest.approx(found.temperature, rel=1e-6)
    weighted = fit_temperature(labels, sharp, sample_weight=np.full(len(labels), 3))
    assert weighted.temperature == pytest.approx(found.temperature, rel=1e-6)


def test_isotonic_pools_neighbours_that_fall():
    labels, p = honest(500)
    weight = np.random.default_rng(0).integers(1, 4, 500)
    found = fit_isotonic(labels, p**2, sample_weight=weight)
    new = np.linspace(0, 1, 101)
    # Neighbours that fall are pooled: 1 (weight 1) and 0 (weight 3) become 1/4.
    worked = fit_isotonic([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], sample_weight=[1, 1, 3, 1])
    assert worked([0, 0.1, 0.2, 0.3, 0.35, 1]) == pytest.approx([0, 0, 0.25, 0.25, 0.625, 1])
    assert (np.diff(found(new)) >= 0).all()
    assert calibration_error(labels, found(p**2)) < calibration_error(labels, p**2)


def test_prior_shift_is_bayes_and_can_be_undone():
    rng = np.random.default_rng(0)
    labels = rng.random(50_000) < 0.5
    x = rng.normal(size=len(labels)) + labels
    p = expit(x - 0.5)  # the posterior at prevalence one half
    rare = labels & (rng.random(len(labels)) < 0.1) | ~labels
    moved = shift_prevalence(p, trained=0.5, used=labels[rare].mean())
    assert calibration_error(labels[rare], moved[rare]) < 0.01
    assert calibration_error(labels[rare], p[rare]) > 0.1
    again = shift_prevalence(moved, trained=labels[rare].mean(), used=0.5)
    assert again == pytest.approx(p)
    many = shift_prevalence(np.c_[p, p], trained=[0.5, 0.5], used=[0.5, 0.1])
    assert many[:, 0] == pytest.approx(p)


def test_class_weights_can_be_undone():
    p = honest(30_000)[1]
    weighted = p * 7 / (p * 7 + 1 - p)  # what a loss with weight 7 on positives aims at
    assert undo_class_weights(weighted, positive=7) == pytest.approx(p)
    assert undo_class_weights([0.0, 1.0], positive=7).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reliability([0, 1], [0.1, 1.2]), "got 1.2 in row 1, column 0.*sigmoid"),
        (lambda: reliability([0, 1], [0.1, 0.2], bins=0), "at least one, got 0"),
        (lambda: reliability([0, 1], [0.1, 0.2], bins=2.5), "whole number of bins.*got 2.5"),
        (lambda: reliability([0, 1], [0.1, 0.2], strategy="log"), "strategy"),
        (lambda: reliability([0, 1], [0.1, 0.2], patient=[1]), "each of 2"),
        (lambda: calibration_error(np.eye(2), np.eye(2)), "one finding"),
        (lambda: fit_platt([0, 0], [0.1, 0.2]), "both classes"),
        (lambda: fit_platt(np.eye(2), np.eye(2)), "one finding"),
        (lambda: fit_isotonic([1, 1], [0.1, 0.2]), "both classes"),
        (lambda: fit_platt([0, 1], [0.1, 0.2])([2]), "between 0 and 1"),
        (lambda: shift_prevalence([0.1], trained=0, used=0.5), "trained prevalence"),
        (lambda: shift_prevalence([0.1], trained=0.5, used=1), "used prevalence"),
        (lambda: undo_class_weights([0.1], positive=0), "above 0"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("p", "why"), [([0.1, 0.2, 0.8, 0.9], "parts"), ([0.9, 0.8, 0.2, 0.1], "says nothing")]
)
def test_a_temperature_at_its_bound_is_said_to_be_none(p, why):
    with pytest.warns(UndefinedWarning, match=f"No temperature is best, the score {why}"):
        fit_temperature([0, 0, 1, 1], p)


def test_bins_do_not_count_films_without_weight():
    labels, p = [0, 0, 1, 1, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.9, 0.9]
    weight = [1, 1, 0, 1, 0, 0]
    kept = [0, 1, 3]
    found = reliability(labels, p, bins=2, sample_weight=weight)
    alone = reliability(np.array(labels)[kept], np.array(p)[kept], bins=2, sample_weight=np.ones(3))
    pd.testing.assert_frame_equal(found, alone)
