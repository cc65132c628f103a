"""Curves and areas: against scikit-learn and torchmetrics, on ties, weights and rare positives."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored_films import films
from sklearn import metrics as sk

from chexlib.data import data_home, load_labels, match_labels, read_predictions
from chexlib.findings import FINDINGS
from chexlib.metrics import (
    OneClassWarning,
    UndefinedWarning,
    auroc,
    average_precision,
    counts_by_threshold,
    from_counts,
    precision_recall,
    roc,
)
from chexlib.metrics.ranking import auroc_standard_error


@given(films(), st.booleans())
def test_curves_and_areas_are_scikit_learns(drawn, weighted):
    labels, scores, weights, _ = drawn
    weight = weights if weighted else None
    curve = roc(labels, scores, sample_weight=weight)
    x, y, cut = sk.roc_curve(labels, scores, sample_weight=weight, drop_intermediate=False)
    assert curve.false_positive_rate == pytest.approx(x)
    assert curve.sensitivity == pytest.approx(y)
    assert curve.threshold == pytest.approx(cut)
    area = sk.roc_auc_score(labels, scores, sample_weight=weight)
    assert auroc(labels, scores, sample_weight=weight) == pytest.approx(area, abs=1e-13)
    assert curve.auroc == pytest.approx(area, abs=1e-13)

    curve = precision_recall(labels, scores, sample_weight=weight)
    kept = slice(None) if weight is None else weight > 0
    y, x, cut = sk.precision_recall_curve(
        labels[kept], scores[kept], sample_weight=None if weight is None else weight[kept]
    )
    assert curve.precision[::-1] == pytest.approx(y[:-1])
    assert curve.recall[::-1] == pytest.approx(x[:-1])
    assert curve.threshold[::-1] == pytest.approx(cut)
    area = sk.average_precision_score(labels, scores, sample_weight=weight)
    assert average_precision(labels, scores, sample_weight=weight) == pytest.approx(area, abs=1e-13)
    assert curve.average_precision == pytest.approx(area, abs=1e-13)


@given(films())
def test_a_weight_is_a_count_of_films(drawn):
    labels, scores, weights, _ = drawn
    times = weights.astype(int)
    many = np.repeat(labels, times), np.repeat(scores, times)
    for metric in (auroc, average_precision):
        assert metric(labels, scores, sample_weight=times) == pytest.approx(metric(*many))
    one, other = (
        counts_by_threshold(labels, scores, sample_weight=times),
        counts_by_threshold(*many),
    )
    assert one.tp.tolist() == other.tp.tolist()
    assert one.fp.tolist() == other.fp.tolist()
    assert one.threshold.tolist() == other.threshold.tolist()


@given(films())
def test_counts_make_films_again(drawn):
    labels, scores, weights, _ = drawn
    table = (
        pd.DataFrame({"s": scores, "p": labels * weights, "n": ~labels * weights})
        .groupby("s")
        .sum()
        .reset_index()
    )
    again = from_counts(table["s"], positive=table["p"], negative=table["n"])
    assert len(again[0]) == weights.sum()
    assert auroc(*again) == pytest.approx(auroc(labels, scores, sample_weight=weights))


@given(films())
def test_counts_are_the_two_by_two_table_at_each_threshold(drawn):
    labels, scores, weights, _ = drawn
    counts = counts_by_threshold(labels, scores, sample_weight=weights)
    for k, cut in enumerate(counts.threshold):
        called = scores >= cut
        table = [weights @ (called & labels), weights @ (called & ~labels)]
        table += [weights @ (~called & labels), weights @ (~called & ~labels)]
        assert [counts.tp[k], counts.fp[k], counts.fn[k], counts.tn[k]] == table
        if called @ weights:
            assert counts.f1[k] == 2 * table[0] / (2 * table[0] + table[1] + table[2])
            assert counts.precision[k] == table[0] / (table[0] + table[1])
    assert np.isnan(counts.precision[0])


def test_several_findings_at_once_are_one_by_one():
    rng = np.random.default_rng(0)
    labels, scores = rng.random((300, 3)) < [0.5, 0.1, 0.02], rng.random((300, 3)).round(2)
    for metric in (auroc, average_precision):
        together = metric(labels, scores)
        assert together.tolist() == [metric(labels[:, k], scores[:, k]) for k in range(3)]
    assert [c.auroc for c in roc(labels, scores)] == pytest.approx(auroc(labels, scores))
    assert len(precision_recall(labels, scores)) == 3
    one_score = auroc(labels, scores[:, 0])
    assert one_score[1] == auroc(labels[:, 1], scores[:, 0])


def test_torchmetrics_agrees():
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.classification import (
        binary_auroc,
        multilabel_auroc,
        multilabel_average_precision,
    )

    rng = np.random.default_rng(1)
    labels, scores = rng.random((500, 14)) < 0.1, rng.random((500, 14)).round(2)
    y, p = torch.tensor(labels.astype(int)), torch.tensor(scores)
    ours = auroc(labels, scores)
    assert ours == pytest.approx(multilabel_auroc(p, y, 14, average=None).numpy(), abs=1e-6)
    assert ours[3] == pytest.approx(float(binary_auroc(p[:, 3], y[:, 3])), abs=1e-6)
    theirs = multilabel_average_precision(p, y, 14, average=None).numpy()
    assert average_precision(labels, scores) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("labels", [np.zeros((6, 2)), np.ones((6, 2))])
def test_one_class_is_nan_and_says_which(labels):
    labels[0, 1] = 1 - labels[0, 1]
    truth = pd.DataFrame(labels, columns=["Mass", "Hernia"])
    scores = np.arange(12.0).reshape(6, 2)
    with pytest.warns(OneClassWarning, match="for Mass: every film"):
        values = auroc(truth, scores)
    assert np.isnan(values).tolist() == [True, False]
    with pytest.warns(OneClassWarning):
        curve = roc(labels[:, 0], scores[:, 0])
    assert np.isnan(curve.false_positive_rate if labels[1, 0] else curve.sensitivity).all()
    assert issubclass(OneClassWarning, UndefinedWarning)


def test_average_precision_needs_positives_only():
    with pytest.warns(OneClassWarning):
        assert np.isnan(average_precision([0, 0], [1, 2]))
    with pytest.warns(OneClassWarning):
        assert np.isnan(precision_recall([0, 0], [1, 2]).recall).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert average_precision([1, 1], [1, 2]) == 1


@given(films())
def test_interpolated_roc_is_between_its_neighbours(drawn):
    labels, scores, _, _ = drawn
    curve = roc(labels, scores)
    x, y = curve.false_positive_rate, curve.sensitivity
    at_points = curve.at_false_positive_rate(x)
    assert at_points == pytest.approx([y[x == value].max() for value in x])
    middle = curve.at_false_positive_rate((x[1:] + x[:-1]) / 2)
    moved = np.diff(x) > 0
    assert middle[moved] == pytest.approx(
        ((y[1:] + np.array([y[x == v].max() for v in x[:-1]])) / 2)[moved]
    )


TABLE = pd.DataFrame(np.eye(2), columns=["Mass", "Nodule"], index=["a.png", "b.png"])


def test_labels_of_a_mixed_table_are_read():
    assert auroc(np.array([True, False], dtype=object), [2, 1]) == 1


@pytest.mark.real_data("reference_predictions/preds.csv", "reference_predictions/aucs.csv")
def test_published_aurocs_are_reproduced():
    folder = data_home() / "reference_predictions"
    scores = read_predictions(folder / "preds.csv")
    labels = match_labels(scores, load_labels())
    assert (len(scores), labels["patient"].nunique()) == (22433, 6187)
    found = auroc(labels[list(FINDINGS)], scores[list(FINDINGS)])
    published = pd.read_csv(folder / "aucs.csv").set_index("label")["auc"]
    assert np.abs(found - published[list(FINDINGS)].to_numpy()).max() < 1e-9


def test_standard_error_is_what_simulation_gives_for_exponential_scores():
    # Exponential scores are the case in which the formula is exact.
    rng = np.random.default_rng(0)
    auroc, n_positive, n_negative = 0.8, 15, 60
    estimates = []
    for _ in range(4000):
        positive = rng.exponential(auroc / (1 - auroc), n_positive)
        negative = rng.exponential(1.0, n_negative)
        estimates.append((positive[:, None] > negative).mean())
    assert np.mean(estimates) == pytest.approx(auroc, abs=0.004)
    expected = auroc_standard_error(auroc, n_positive=n_positive, n_negative=n_negative)
    assert np.std(estimates) == pytest.approx(expected, rel=0.04)


def test_standard_error_at_one_half_is_that_of_the_rank_sum_statistic():
    n, m = 12, np.array([30, 300, 3000])
    expected = np.sqrt((n + m + 1) / (12 * n * m))  # null variance of Mann-Whitney U / (n m)
    assert auroc_standard_error(0.5, n_positive=n, n_negative=m) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "scores", "weight", "message"),
    [
        ([0, 1], [1, 2, 3], None, "2 labels, 3 scores"),
        ([], [], None, "at least one film"),
        ([0.2, 1], [1, 2], None, "0 or 1, got 0.2.*labels, then scores"),
        (["a", "b"], [1, 2], None, "0 or 1"),
        (np.array(["a", 1], dtype=object), [1, 2], None, "labels to be numbers"),
        ([0, 1], ["x", "y"], None, "scores to be numbers"),
        ([0, 1], [1, np.nan], None, "nan in row 1, column 0"),
        ([0, 1], [np.inf, 0], None, "inf in row 0"),
        (np.zeros((2, 2, 2)), [1, 2], None, "shape"),
        (np.zeros((2, 0)), [1, 2], None, "shape"),
        (np.eye(2), np.ones((2, 3)), None, "2 and 3"),
        ([0, 1], [1, 2], [1], "weight for each of 2"),
        ([0, 1], [1, 2], [1, -1], "at least 0"),
        ([0, 1], [1, 2], [0, 0], "at least 0"),
        ([0, 1], [1, 2], [1, np.nan], "finite"),
        (TABLE, TABLE[["Nodule", "Mass"]], None, "'Mass' against 'Nodule' in column 0"),
        (TABLE, TABLE.iloc[::-1], None, "'a.png' against 'b.png' in row 0"),
        (TABLE["Mass"], TABLE["Mass"].iloc[::-1], None, "one order"),
    ],
)
def test_bad_input_is_refused_with_the_place(labels, scores, weight, message):
    with pytest.raises(ValueError, match=message):
        auroc(labels, scores, sample_weight=weight)


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (from_counts, {"positive": [1], "negative": [1, 2]}, "one length"),
        (from_counts, {"positive": [1, -1], "negative": [0, 0]}, "whole counts"),
        (from_counts, {"positive": [1, 0.5], "negative": [0, 0]}, "whole counts"),
        (auroc_standard_error, {"n_positive": 9, "n_negative": 9}, "AUROC strictly between"),
    ],
)
@pytest.mark.parametrize("first", [[0.0, 0.5], [0.5, 1.0], [0.5, np.nan], [0.5, 1.2]])
def test_impossible_counts_and_areas_are_refused(call, first, options, message):
    with pytest.raises(ValueError, match=message):
        call(first, **options)
    with pytest.raises(ValueError, match="at least 1"):
        auroc_standard_error(0.8, n_positive=0, n_negative=10)
