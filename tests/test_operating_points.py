"""What chapter 9 says of thresholds and probabilities: again from the counts by score."""

import numpy as np
import pytest

from chexlib.data import table
from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics import calibration_slope, fit_platt, from_counts


@pytest.fixture(scope="module")
def points():
    return table("operating_points")


@pytest.fixture(scope="module")
def shared():
    rows = table("score_tables")
    return rows[(rows["subset"] == "shared_test") & (rows["label_source"] == "nih_text")]


def films(shared, name, half=None):
    rows = shared[(shared["finding"] == name) & ((shared["half"] == half) | (half is None))]
    return from_counts(rows["score"], positive=rows["n_positive"], negative=rows["n_negative"])


def test_every_row_counts_all_films_of_its_half(points):
    n = points[["tp", "fp", "fn", "tn"]].sum(axis=1).groupby(points["half"]).unique()
    assert n["choose"].size == n["report"].size == 1
    assert n["choose"] + n["report"] == 22_433


def test_rules_do_what_they_promise_where_they_chose(points):
    chosen = points[points["half"] == "choose"].set_index(["rule", "finding"])
    assert (chosen.loc["sensitivity 0.90", "sensitivity"] >= 0.9 - 1e-5).all()
    assert (chosen.loc["specificity 0.95", "specificity"] >= 0.95 - 1e-5).all()
    aimed = {"Youden": chosen["sensitivity"] + chosen["specificity"], "highest F1": chosen["f1"]}
    for rule, figure in aimed.items():
        wide = figure.unstack("rule")
        assert (wide.max(axis=1) <= wide[rule] + 2e-5).all()


def test_thresholds_agree_with_the_score_tables(points, shared):
    for row in points[points["rule"].isin(["0.5", "Youden", "highest F1"])].itertuples():
        labels, scores = films(shared, row.finding, row.half)
        call = scores >= row.threshold
        few = max(0.012, 1.5 / labels.sum())  # a film at the edge of a bin
        assert call[labels].mean() == pytest.approx(row.sensitivity, abs=few)
        assert (~call[~labels]).mean() == pytest.approx(row.specificity, abs=0.012)


def test_grid_agrees_with_the_score_tables(shared):
    grid = table("threshold_grid")
    assert list(grid["finding"].unique()) == [*FINDINGS, NO_FINDING]
    for name, rows in grid.groupby("finding"):
        labels, scores = films(shared, name)
        call = scores[:, None] >= rows["threshold"].to_numpy()
        assert rows["prevalence"].iloc[0] == pytest.approx(labels.mean(), abs=1e-6)
        for column, among in (("tp", labels), ("fp", ~labels)):
            near = max(1.5, 0.012 * among.sum())
            counts = (call & among[:, None]).sum(axis=0)
            assert counts == pytest.approx(rows[column].to_numpy(), abs=near)


def test_means_at_one_half_follow_from_the_grid():
    grid = table("threshold_grid")
    half = grid[(grid["threshold"] == 0.5) & grid["finding"].isin(FINDINGS)]
    means = table("mean_precision_recall").set_index(["convention", "figure"])["estimate"]
    assert half["ppv"].isna().sum() == 2
    for name, value in (("left out", half["ppv"].mean()), ("as 0", 0.0), ("as 1", 1.0)):
        precision = half["ppv"].fillna(value).mean()
        assert means[f"mean, undefined {name}", "precision"] == pytest.approx(precision, abs=1e-4)
    recall = means["mean, undefined as 0", "recall"]
    assert recall == pytest.approx(half["sensitivity"].mean(), abs=1e-4)
    pooled = half["tp"].sum() / (half["tp"] + half["fp"]).sum()
    assert means["all calls pooled", "precision"] == pytest.approx(pooled, abs=1e-5)


def test_lines_that_mend_are_those_of_the_score_tables(shared):
    rows = table("calibration").set_index(["finding", "method"])
    for name in FINDINGS:
        line, platt = fit_platt(*films(shared, name, "choose")), rows.loc[name, "Platt"]
        assert line.slope == pytest.approx(platt["fitted_slope"], abs=0.02)
        assert line.intercept == pytest.approx(platt["fitted_intercept"], abs=0.1)
        left, published = calibration_slope(*films(shared, name, "report")), rows.loc[name].iloc[0]
        assert left == pytest.approx(published[["slope", "intercept"]].to_numpy(float), abs=0.03)
        # A line on the logits divides what slope is left by its own.
        mended = published["slope"] / platt["slope"]
        assert mended == pytest.approx(platt["fitted_slope"], abs=1e-4)


def test_costs_and_calls_follow_from_the_operating_points(points):
    part = points[(points["half"] == "report") & points["finding"].isin(FINDINGS)]
    n = part[["tp", "fp", "fn", "tn"]].iloc[0].sum()
    rule = part[part["rule"] == "a miss costs 10 alarms"].set_index("finding")
    costs = (
        table("miss_costs").pivot(index="finding", columns="way", values="estimate").drop("all 14")
    )
    expected = {"searched": 10 * rule["fn"] + rule["fp"], "no call": 10 * (rule["tp"] + rule["fn"])}
    for way, cost in expected.items():
        np.testing.assert_allclose(costs[way], 1000 * cost[costs.index] / n, atol=1e-3)
    calls = table("calls_per_film").set_index("rule")
    sums = part.groupby("rule")[["tp", "fp", "fn"]].sum().loc[calls.index]
    np.testing.assert_allclose(calls["false_calls"], sums["fp"] / n, atol=1e-5)
    np.testing.assert_allclose(calls["found"], sums["tp"] / (sums["tp"] + sums["fn"]), atol=1e-5)


def test_expected_precision_is_bayes_rule():
    rows = table("prior_shift")
    whole = rows[rows["view"] == "all"].set_index("finding").loc[rows["finding"]].reset_index()
    found = rows["prevalence"] * whole["sensitivity"]
    false = (1 - rows["prevalence"]) * (1 - whole["specificity"])
    np.testing.assert_allclose(rows["ppv_expected"], found / (found + false), atol=2e-4)
