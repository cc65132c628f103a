"""The tables of chapter 9: what they say of each other, of the score tables, and of the films."""

import numpy as np
import pytest

from chexlib.data import table
from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics import (
    calibration_slope,
    counts_by_threshold,
    fit_platt,
    from_counts,
    youden,
)


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


def test_figures_follow_from_the_counts(points):
    tp, fp, fn, tn = (points[c] for c in ("tp", "fp", "fn", "tn"))
    assert points["sensitivity"].to_numpy() == pytest.approx((tp / (tp + fn)).to_numpy(), abs=1e-5)
    assert points["specificity"].to_numpy() == pytest.approx((tn / (tn + fp)).to_numpy(), abs=1e-5)
    called = tp + fp > 0
    assert points["ppv"].isna().equals(~called)
    assert points["f1"].to_numpy() == pytest.approx(
        (2 * tp / (2 * tp + fp + fn)).to_numpy(), abs=1e-5
    )
    halves = points.groupby("half")[["tp", "fp", "fn", "tn"]].agg("sum").sum(axis=1)
    films_of = points.assign(n=tp + fp + fn + tn).groupby("half")["n"].unique()
    assert films_of.map(len).eq(1).all()
    assert films_of.map(sum).sum() == 22_433
    assert set(halves.index) == {"choose", "report"}


def test_rules_do_what_they_promise_where_they_chose(points):
    chosen = points[points["half"] == "choose"].set_index(["rule", "finding"])
    assert (chosen.loc["sensitivity 0.90", "sensitivity"] >= 0.9 - 1e-5).all()
    assert (chosen.loc["specificity 0.95", "specificity"] >= 0.95 - 1e-5).all()
    youden_index = chosen["sensitivity"] + chosen["specificity"]
    for rule in chosen.index.levels[0]:
        names = chosen.loc[rule].index
        assert (youden_index["Youden"][names] >= youden_index[rule] - 2e-5).all()
        assert (chosen.loc["highest F1", "f1"][names] >= chosen.loc[rule, "f1"] - 2e-5).all()


def test_thresholds_agree_with_the_score_tables(points, shared):
    for row in points[points["rule"].isin(["0.5", "Youden", "highest F1"])].itertuples():
        labels, scores = films(shared, row.finding, row.half)
        call = scores >= row.threshold
        few = max(0.012, 1.5 / labels.sum())  # a film at the edge of a bin
        assert labels[call].sum() / labels.sum() == pytest.approx(row.sensitivity, abs=few)
        assert (~labels[~call]).sum() / (~labels).sum() == pytest.approx(row.specificity, abs=0.012)


def test_youden_of_the_score_tables_is_as_good(points, shared):
    rows = points[(points["rule"] == "Youden") & (points["half"] == "choose")].set_index("finding")
    for name in (*FINDINGS, NO_FINDING):
        best = youden(counts_by_threshold(*films(shared, name, "choose"))).max()
        figures = rows.loc[name, ["sensitivity", "specificity"]].sum() - 1
        assert best == pytest.approx(figures, abs=0.01)


def test_grid_agrees_with_the_score_tables(shared):
    grid = table("threshold_grid")
    assert list(grid["finding"].unique()) == [*FINDINGS, NO_FINDING]
    for name, rows in grid.groupby("finding"):
        labels, scores = films(shared, name)
        call = scores[:, None] >= rows["threshold"].to_numpy()
        assert rows["prevalence"].iloc[0] == pytest.approx(labels.mean(), abs=1e-6)
        assert (call & labels[:, None]).sum(axis=0) == pytest.approx(
            rows["tp"].to_numpy(), abs=max(1.5, 0.012 * labels.sum())
        )
        assert (call & ~labels[:, None]).sum(axis=0) == pytest.approx(
            rows["fp"].to_numpy(), abs=0.012 * (~labels).sum()
        )


def test_means_at_one_half_follow_from_the_grid():
    grid = table("threshold_grid")
    half = grid[(grid["threshold"] == 0.5) & grid["finding"].isin(FINDINGS)]
    means = table("mean_precision_recall").set_index(["convention", "figure"])["estimate"]
    assert half["ppv"].isna().sum() == 2
    for name, value in (("left out", np.nan), ("as 0", 0.0), ("as 1", 1.0)):
        ppv = half["ppv"] if np.isnan(value) else half["ppv"].fillna(value)
        assert means[f"mean, undefined {name}", "precision"] == pytest.approx(ppv.mean(), abs=1e-4)
    recall = means["mean, undefined as 0", "recall"]
    assert recall == pytest.approx(half["sensitivity"].mean(), abs=1e-4)
    pooled = half["tp"].sum() / (half["tp"] + half["fp"]).sum()
    assert means["all calls pooled", "precision"] == pytest.approx(pooled, abs=1e-5)


def test_platt_of_the_score_tables_is_the_same_line(shared):
    rows = table("calibration")
    rows = rows[rows["method"] == "Platt"].set_index("finding")
    for name in FINDINGS:
        line = fit_platt(*films(shared, name, "choose"))
        assert line.slope == pytest.approx(rows.loc[name, "fitted_slope"], abs=0.02)
        assert line.intercept == pytest.approx(rows.loc[name, "fitted_intercept"], abs=0.1)


def test_slopes_left_to_mend_are_those_of_the_score_tables(shared):
    rows = table("calibration").set_index(["method", "finding"])
    for name in FINDINGS:
        slope, intercept = calibration_slope(*films(shared, name, "report"))
        assert slope == pytest.approx(rows.loc[("as published", name), "slope"], abs=0.03)
        assert intercept == pytest.approx(rows.loc[("as published", name), "intercept"], abs=0.03)
        # A line on the logits divides what slope is left by its own.
        mended = rows.loc[("as published", name), "slope"] / rows.loc[("Platt", name), "slope"]
        assert mended == pytest.approx(rows.loc[("Platt", name), "fitted_slope"], abs=1e-4)


def test_brier_parts_add_up():
    rows = table("calibration")
    total = rows["reliability"] - rows["resolution"] + rows["uncertainty"] + rows["within"]
    assert total.to_numpy() == pytest.approx(rows["brier"].to_numpy(), abs=3e-6)
    published = rows[rows["method"] == "as published"].set_index("finding")["brier"]
    gain = rows["finding"].map(published) - rows["brier"]
    assert rows["brier_gain"].to_numpy() == pytest.approx(gain.to_numpy(), abs=2e-6)


def test_costs_follow_from_the_operating_points(points):
    costs = table("miss_costs").set_index(["finding", "way"])["cost"]
    rule = points[(points["rule"] == "a miss costs 10 alarms") & (points["half"] == "report")]
    for row in rule.itertuples():
        n = row.tp + row.fp + row.fn + row.tn
        assert costs[row.finding, "searched"] == pytest.approx(
            1000 * (10 * row.fn + row.fp) / n, abs=1e-3
        )
        assert costs[row.finding, "no call"] == pytest.approx(
            10_000 * (row.tp + row.fn) / n, abs=1e-3
        )
    assert costs["all 14", "searched"] == pytest.approx(
        costs.xs("searched", level=1)[:-1].sum(), abs=0.02
    )


def test_calls_per_film_follow_from_the_operating_points(points):
    rows = points[(points["half"] == "report") & points["finding"].isin(FINDINGS)]
    sums = rows.groupby("rule")[["tp", "fp", "fn"]].sum()
    calls = table("calls_per_film").set_index("rule")
    n = rows[["tp", "fp", "fn", "tn"]].iloc[0].sum()
    sums = sums.loc[calls.index]
    assert calls["false_calls"].to_numpy() == pytest.approx((sums["fp"] / n).to_numpy(), abs=1e-5)
    found = sums["tp"] / (sums["tp"] + sums["fn"])
    assert calls["found"].to_numpy() == pytest.approx(found.to_numpy(), abs=1e-5)


def test_expected_precision_is_bayes_rule():
    rows = table("prior_shift")
    whole = rows[rows["view"] == "all"].set_index("finding")
    assert whole["ppv"].to_numpy() == pytest.approx(whole["ppv_expected"].to_numpy(), abs=1e-5)
    for row in rows.itertuples():
        found = row.prevalence * whole.loc[row.finding, "sensitivity"]
        false = (1 - row.prevalence) * (1 - whole.loc[row.finding, "specificity"])
        assert row.ppv_expected == pytest.approx(found / (found + false), abs=2e-4)
