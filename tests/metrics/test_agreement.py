"""Agreement against statsmodels, scikit-learn and closed forms; intervals by their properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, confusion_matrix, precision_score, recall_score

from chexlib.metrics import (
    UndefinedWarning,
    assess,
    kappa,
    likelihood_ratio,
    npv,
    ppv,
    ppv_at_prevalence,
    sensitivity,
    share,
    specificity,
    two_by_two,
    wilson,
)

PROPORTIONS = (ppv, npv, sensitivity, specificity)
FULL = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=bool)  # one film of each kind


@st.composite
def films(draw, *, most=80, weights=False):
    """Return label and reference with every denominator above 0, and perhaps weights."""
    n = draw(st.integers(0, most))
    pair = st.tuples(st.booleans(), st.booleans())
    rows = np.concatenate(
        [FULL, np.array(draw(st.lists(pair, min_size=n, max_size=n))).reshape(-1, 2)]
    )
    label, reference = rows.astype(bool).T
    if not weights:
        return label, reference
    weight = draw(st.lists(st.floats(0.1, 10), min_size=len(rows), max_size=len(rows)))
    return label, reference, np.array(weight)


@given(films(weights=True))
def test_two_by_two_is_the_confusion_matrix(drawn):
    label, reference, weight = drawn
    for sample_weight in (None, weight):
        table = two_by_two(label, reference, sample_weight=sample_weight)
        tn, fp, fn, tp = confusion_matrix(reference, label, sample_weight=sample_weight).ravel()
        assert (table.tp, table.fp, table.fn, table.tn) == pytest.approx((tp, fp, fn, tn))
        assert table.n == pytest.approx(tp + fp + fn + tn)


@given(films(weights=True))
@settings(max_examples=40, deadline=None)
def test_estimates_are_those_of_scikit_learn(drawn):
    label, reference, weight = drawn
    for sample_weight in (None, weight):
        found = assess(label, reference, sample_weight=sample_weight, resamples=10)
        same = {"sample_weight": sample_weight}
        expected = {
            "ppv": precision_score(reference, label, **same),
            "npv": precision_score(~reference, ~label, **same),
            "sensitivity": recall_score(reference, label, **same),
            "specificity": recall_score(~reference, ~label, **same),
            "kappa": cohen_kappa_score(reference, label, **same),
        }
        for name, value in expected.items():
            assert found[name].estimate == pytest.approx(value, abs=1e-12), name


@given(films())
def test_intervals_of_independent_films_are_wilsons_and_for_kappa_the_delta_method(drawn):
    label, reference = drawn
    found = assess(label, reference)
    rates = [found[name].estimate for name in ("sensitivity", "specificity")]
    assert ppv_at_prevalence(*rates, reference.mean()) == pytest.approx(found["ppv"].estimate)
    for name, counted, among in (
        ("ppv", label & reference, label),
        ("npv", ~label & ~reference, ~label),
        ("sensitivity", label & reference, reference),
        ("specificity", ~label & ~reference, ~reference),
    ):
        assert found[name] == wilson(counted.sum(), among.sum())
    # Fleiss, Cohen and Everitt's variance is that of kappa's gradient in the four shares.
    n, table = len(label), two_by_two(label, reference)
    shares = np.array([table.tp, table.fp, table.fn, table.tn]) / n

    def of(p):
        chance = (p[0] + p[1]) * (p[0] + p[2]) + (p[2] + p[3]) * (p[1] + p[3])
        return (p[0] + p[3] - chance) / (1 - chance)

    step = 1e-6 * np.eye(4)
    gradient = np.array([(of(shares + h) - of(shares - h)) / 2e-6 for h in step])
    error = np.sqrt((shares @ gradient**2 - (shares @ gradient) ** 2) / n)
    ends = np.clip(of(shares) + np.array([-1, 1]) * 1.959964 * error, -1, 1)
    assert (found["kappa"].low, found["kappa"].high) == pytest.approx(tuple(ends), abs=1e-5)


@given(films(), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_bounds_and_symmetry(drawn, seed):
    label, reference = drawn
    patient = np.random.default_rng(seed).integers(0, len(label) // 2, len(label))
    options = {"patient": patient, "resamples": 100, "seed": seed}
    found = assess(label, reference, **options)
    for name, one in found.items():
        assert -1 <= one.low <= one.high <= 1, name
        assert 0 <= one.k <= one.n
    swapped = assess(reference, label, **options)
    assert swapped["ppv"] == found["sensitivity"]
    assert swapped["npv"] == found["specificity"]
    assert swapped["kappa"] == found["kappa"]
    inverted = assess(~label, ~reference, **options)
    assert inverted["npv"] == found["ppv"]
    assert inverted["specificity"] == found["sensitivity"]
    for statistic in (*PROPORTIONS, kappa):
        assert statistic(label, reference, **options) == found[statistic.__name__]


@given(films(most=40), st.integers(2, 4))
@settings(max_examples=25, deadline=None)
def test_copies_of_a_film_within_its_patient_add_no_certainty(drawn, copies):
    label, reference = (np.repeat(values, copies) for values in drawn)
    patient = np.repeat(np.arange(len(drawn[0])), copies)
    repeated = assess(label, reference, patient=patient, resamples=200)
    films = np.arange(len(drawn[0]))
    weight = np.full(len(films), 4.0)  # constant weights change nothing
    once = assess(*drawn, patient=films, sample_weight=weight, resamples=200)
    for name, one in repeated.items():
        assert (one.estimate, one.low, one.high) == pytest.approx(
            (once[name].estimate, once[name].low, once[name].high), abs=1e-12
        ), name


def test_weights_undo_sampling_by_label():
    rng = np.random.default_rng(5)
    truth = rng.random(200_000) < 0.1
    label = np.where(truth, rng.random(len(truth)) < 0.6, rng.random(len(truth)) < 0.05)
    fraction = np.where(label, 0.5, 0.1)
    kept = rng.random(len(truth)) < fraction
    raw = sensitivity(label[kept], truth[kept]).estimate
    weighted = sensitivity(
        label[kept], truth[kept], sample_weight=1 / fraction[kept], resamples=20
    ).estimate
    assert raw > 0.8  # films with the label were kept five times as often
    assert weighted == pytest.approx(0.6, abs=0.03)


def test_the_interval_by_patient_covers_where_the_naive_one_does_not():
    rng = np.random.default_rng(11)
    hits = {"patient": 0, "film": 0}
    for seed in range(120):
        rate = rng.beta(0.5, 0.5, 150)  # patients differ much: mean 0.5
        patient = np.repeat(np.arange(150), 6)
        positive = rng.random(len(patient)) < rate[patient]
        by_patient = share(positive, patient=patient, resamples=400, seed=seed)
        by_film = share(positive)
        hits["patient"] += by_patient.low <= 0.5 <= by_patient.high
        hits["film"] += by_film.low <= 0.5 <= by_film.high
    assert hits["patient"] >= 0.88 * 120
    assert hits["film"] < 0.8 * 120


@pytest.mark.parametrize(
    ("statistic", "label", "reference", "reason"),
    [
        (ppv, [0, 0], [0, 1], "no film has the label"),
        (npv, [1, 1], [0, 1], "every film has the label"),
        (sensitivity, [0, 1], [0, 0], "no film is positive"),
        (specificity, [0, 1], [1, 1], "every film is positive"),
        (kappa, [1, 1], [1, 1], "constant"),
        (kappa, [1, 1], [0, 0], "constant"),
    ],
)
def test_an_empty_denominator_is_named(statistic, label, reference, reason):
    with pytest.warns(UndefinedWarning, match=reason):
        found = statistic(label, reference)
    assert math.isnan(found.estimate)
    assert found.method == "undefined"


@pytest.mark.parametrize("patient", [None, [1, 1, 2, 2]])
def test_kappa_of_a_constant_side_is_0_without_an_interval(patient):
    for label, reference in (([1, 1, 1, 1], [1, 0, 1, 0]), ([0, 1, 1, 0], [0, 0, 0, 0])):
        found = kappa(label, reference, patient=patient)
        assert found.estimate == 0
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert found.method == "no interval: label or reference is constant"


def test_likelihood_ratio_has_sensitivity_and_specificity_resampled_together():
    rng = np.random.default_rng(3)
    reference = rng.random(2000) < 0.05
    label = rng.random(2000) < np.where(reference, 0.4, 0.02)
    patient = np.arange(2000) // 4
    apart = assess(label, reference, patient=patient, statistics=["sensitivity", "specificity"])
    sens, spec = apart.values()
    found = likelihood_ratio(label, reference, patient=patient)
    assert found.estimate == pytest.approx(sens.estimate / (1 - spec.estimate))
    # Both at their lower, or both at their upper ends: rarer than one resample in twenty.
    assert sens.low / (1 - spec.low) < found.low < found.high < sens.high / (1 - spec.high)


def test_likelihood_ratio_that_resampling_cannot_move_has_no_interval():
    found = likelihood_ratio([1, 0, 0, 0], [1, 1, 0, 0])  # no false alarm
    assert found.estimate == np.inf
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.method.startswith("no interval")
    with pytest.warns(UndefinedWarning, match="no film has the label"):
        assert np.isnan(likelihood_ratio([0, 0], [1, 0]).estimate)
    assert np.isnan(ppv_at_prevalence(0, 1, 0.5))


@pytest.mark.parametrize(
    ("positive", "options", "expected", "method"),
    [
        ([1, 0, 0], {"patient": [5, 6, 7]}, wilson(1, 3), "Wilson"),
        ([1] * 9, {"patient": np.arange(9) // 3}, wilson(3, 3), "Wilson, 3 patients as trials"),
        # Films of weight 0 are no trials.
        (
            [1, 1, 1],
            {"patient": [1, 2, 3], "sample_weight": [1, 1, 0]},
            wilson(2, 2),
            "Wilson, 2 patients as trials",
        ),
        (
            [1, 0, 0, 1],
            {"sample_weight": [1, 2, 3, 4], "resamples": 9},
            None,
            "bootstrap by film, 9 resamples",
        ),
    ],
)
def test_a_share_says_how_its_interval_was_made(positive, options, expected, method):
    found = share(positive, **options)
    assert found.method == method
    if expected:
        ends = (expected.estimate, expected.low, expected.high)
        assert (found.estimate, found.low, found.high) == pytest.approx(ends)
    else:
        assert found.estimate == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: two_by_two([1, 0], [1]), "as many labels as reference"),
        (lambda: two_by_two([], []), "at least one film"),
        (lambda: two_by_two([[1, 0]], [[1, 0]]), "shape"),
        (lambda: two_by_two([1, 2], [1, 0]), "got 2"),
        (lambda: two_by_two([0.5, 1], [1, 0]), r"got 0\.5"),
        (lambda: two_by_two([1.0, np.nan], [1, 0]), "got nan"),
        (lambda: two_by_two(["YES", "NO"], [1, 0]), "got 'YES'"),
        (lambda: two_by_two([None, True], [1, 0]), "got None"),
        (lambda: share([1, 0], sample_weight=[1]), "weight"),
        (lambda: share([1, 0], sample_weight=[1, -1]), "weight"),
        (lambda: share([1, 0], sample_weight=[0, 0]), "weight"),
        (lambda: share([1, 0], sample_weight=[1, np.inf]), "weight"),
        (lambda: assess([1, 0], [1, 0], statistics=["auroc"]), "auroc"),
        (lambda: ppv([1, 0], [1, 0], level=95), "confidence level"),
        (lambda: ppv_at_prevalence(0.5, 0.5, 5), "prevalence"),
    ],
)
def test_bad_input_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
