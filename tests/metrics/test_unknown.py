"""A label that nobody knows, NaN: the film is left out of that finding, and of no other."""

import numpy as np
import pandas as pd
import pytest
from scored_films import clustered

from chexlib import metrics
from chexlib.pitfalls import cross_auroc, pitfalls


@pytest.fixture(scope="module")
def films():
    labels, scores, patients = clustered(150)
    rng = np.random.default_rng(2)
    truth = pd.DataFrame({"Mass": labels.astype(float), "Sign": labels[::-1].astype(float)})
    truth = truth.mask(rng.random(truth.shape) < 0.3)
    score = pd.DataFrame({"Mass": scores, "Sign": scores[::-1]})
    known = truth.notna().to_numpy()
    return truth, score, patients, known


@pytest.mark.parametrize("metric", [metrics.auroc, metrics.average_precision])
def test_areas_and_their_resamples_are_those_of_the_films_that_are_known(films, metric):
    truth, score, patients, known = films
    draws = metrics.Resamples(patients, resamples=50)
    found = metrics.resampled(metric, truth, score, draws)
    for k, name in enumerate(truth):
        rows = known[:, k]
        alone = metrics.resampled(
            metric, truth[name][rows] == 1, score[name][rows], draws.select(rows)
        )
        assert found.estimate[k] == pytest.approx(metric(truth[name][rows] == 1, score[name][rows]))
        np.testing.assert_allclose(found.replicates[:, k], alone.replicates)


def test_thresholds_points_and_groups_are_so_too(films):
    truth, score, patients, known = films
    chosen = metrics.choose(truth, score, metrics.youden)
    points = metrics.operating_points(truth, score, chosen, patient=patients, resamples=50)
    group = np.where(patients % 2, "a", "b")
    options = {"patient": patients, "resamples": 50}
    groups = metrics.by_subgroup(truth, score, {"g": group}, **options).set_index("finding")
    for k, name in enumerate(truth):
        rows = known[:, k]
        y, s = truth[name][rows] == 1, score[name][rows]
        assert chosen[k] == metrics.choose(y, s, metrics.youden)
        point = metrics.operating_point(y, s, chosen[k], patient=patients[rows], resamples=50)
        row = points.iloc[k]
        assert (row["tp"], row["fp"]) == (point.table.tp, point.table.fp)
        assert row[["tp", "fp", "fn", "tn"]].sum() == rows.sum()
        assert row["specificity"] == pytest.approx(point.specificity.estimate)
        inside = rows & (group == "a")
        first = groups.loc[name].iloc[0]
        assert (first["n_films"], first["n_positive"]) == (
            inside.sum(),
            (truth[name] == 1)[inside].sum(),
        )
        assert first["n_patients"] == len(np.unique(patients[inside]))
        expected = metrics.auroc(truth[name][inside] == 1, score[name][inside])
        assert first["estimate"] == pytest.approx(expected)


def test_columns_are_crossed_and_checked_on_what_is_known(films):
    truth, score, patients, known = films
    area = cross_auroc(truth, score)
    for k, name in enumerate(truth):
        rows = known[:, k]
        expected = [metrics.auroc(truth[name][rows] == 1, score[c][rows]) for c in score]
        np.testing.assert_allclose(area[:, k], expected)
    found = pitfalls(truth, 1 - score, patients)
    assert found["check"].tolist() == ["reversed", "reversed"]
    none = pitfalls(truth.assign(Sign=truth["Sign"].where(truth["Sign"] == 0)), score, patients)
    seen = none.set_index("check")["seen"]["no positives"]
    assert seen == f"0 of {(truth['Sign'] == 0).sum()} films have the finding"


def test_a_finding_of_no_known_film_has_no_figure(films):
    truth, score, _, _ = films
    with pytest.warns(metrics.OneClassWarning, match="Sign"):
        area = metrics.auroc(truth.assign(Sign=np.nan), score)
    assert np.isnan(area[1])
    assert np.isfinite(area[0])
    group = np.where(truth["Sign"].isna(), "unread", "read")
    table = metrics.by_subgroup(truth, score, {"g": group}, resamples=20)
    unread = table[(table["group"] == "unread") & (table["finding"] == "Sign")].iloc[0]
    assert (unread["n_films"], unread["n_patients"]) == (0, 0)
    assert np.isnan(unread["estimate"])


@pytest.mark.parametrize("metric", [metrics.brier, metrics.delong, metrics.fit_platt])
def test_what_does_not_leave_them_out_refuses_them(films, metric):
    truth, score, _, _ = films
    with pytest.raises(ValueError, match="0 or 1, got nan"):
        metric(truth["Mass"].to_numpy(), 1 / (1 + np.exp(-score["Mass"].to_numpy())))


def test_no_groups_make_an_empty_table(films):
    truth, score, patients, _ = films
    for groups in ({}, {"sex": [None] * len(truth)}):
        table = metrics.by_subgroup(truth, score, groups, patient=patients)
        assert len(table) == 0
        assert {"attribute", "difference", "p_adjusted", "comparisons"} <= set(table)
