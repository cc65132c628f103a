"""Summaries of label tables: against pandas, statsmodels, scikit-learn, the bootstrap, coverage."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.contingency_tables import Table2x2
from statsmodels.stats.proportion import proportion_confint

from chexlib.data import load_labels
from chexlib.data.prevalence import (
    clustered_mean,
    odds_ratios,
    prevalence,
    prevalence_ratio,
)

COLUMNS = ["Mass", "Nodule", "Edema"]


def simulate(n_patients=400, seed=0):
    """Films of patients who tend to show the same findings, and to be taken in one view."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), rng.geometric(0.4, n_patients))
    tendency = rng.normal(size=(n_patients, 4))[patient] + rng.normal(size=(len(patient), 4))
    tendency += rng.normal(size=n_patients)[patient, None]
    positive = tendency > np.array([1.0, 1.5, 2.0, 0.5])
    frame = pd.DataFrame(positive, columns=[*COLUMNS, "ap"])
    return frame.assign(patient=patient, view=np.where(positive[:, 3], "AP", "PA"))


@pytest.fixture(scope="module")
def films():
    return simulate()


def resampled(films, statistic, n=400, seed=1):
    """Standard deviation of ``statistic`` over bootstrap samples of patients."""
    rng = np.random.default_rng(seed)
    rows = films.groupby("patient").indices
    names = list(rows)
    draws = []
    for _ in range(n):
        chosen = rng.choice(len(names), len(names))
        draws.append(statistic(films.iloc[np.concatenate([rows[names[c]] for c in chosen])]))
    return np.std(draws, axis=0)


def cluster_robust(films, outcome, exposure, family):
    """Coefficients and errors of a generalised linear model, clustered by patient."""
    design = np.ones((len(films), 1)) if exposure is None else sm.add_constant(exposure)
    model = sm.GLM(films[outcome].astype(float), design, family=family)
    groups = pd.factorize(films["patient"])[0]
    # No small-sample factor here; ours is K / (K - 1).
    fit = model.fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}, tol=1e-12
    )
    k = groups.max() + 1
    return np.asarray(fit.params)[-1], np.asarray(fit.bse)[-1] * np.sqrt(k / (k - 1))


def test_mean_and_error_are_those_of_clustered_least_squares(films):
    mean, error = clustered_mean(films[COLUMNS], films["patient"])
    for column, m, e in zip(COLUMNS, mean, error, strict=True):
        coefficient, expected = cluster_robust(films, column, None, sm.families.Gaussian())
        assert m == pytest.approx(coefficient)
        assert e == pytest.approx(expected)
    # And of a bootstrap of patients.
    expected = resampled(films, lambda sample: sample[COLUMNS].mean())
    assert error == pytest.approx(expected, rel=0.15)


def test_single_films_give_the_textbook_error():
    values = np.array([[1.0], [0], [0], [1], [0]])
    mean, error = clustered_mean(values, np.arange(5))
    assert error[0] == pytest.approx(values.std(ddof=1) / np.sqrt(5))
    assert mean[0] == pytest.approx(0.4)
    assert np.isnan(clustered_mean([[1], [0]], [7, 7])[1]).all()  # of one patient there is none


@pytest.mark.parametrize("values", [np.zeros((0, 1)), np.zeros(3), np.zeros((2, 1))])
def test_mean_refuses_shapes(values):
    with pytest.raises(ValueError, match="values \\[n, k\\]"):
        clustered_mean(values, np.zeros(3 if values.ndim else 0))


def test_prevalence_counts_are_those_of_pandas(films):
    got = prevalence(films, COLUMNS, by="view").set_index(["finding", "view"])
    for column in COLUMNS:
        table = pd.crosstab(films["view"], films[column])
        for view in ("AP", "PA"):
            row = got.loc[(column, view)]
            assert row["n_positive"] == table.loc[view, True]
            assert row["n_images"] == table.loc[view].sum()
            chosen = films[(films["view"] == view) & films[column]]
            assert row["n_positive_patients"] == chosen["patient"].nunique()
    got = prevalence(films, COLUMNS, by=["view", "ap"])
    assert list(got.columns[:3]) == ["view", "ap", "finding"]
    assert len(got) == 2 * len(COLUMNS)  # AP films without `ap` do not occur


def test_interval_is_wilsons_with_the_effective_number(films):
    for row in prevalence(films, COLUMNS, level=0.9).itertuples():
        effective = row.n_images / row.design_effect
        expected = proportion_confint(
            row.estimate * effective, effective, alpha=0.1, method="wilson"
        )
        assert (row.low, row.high) == pytest.approx(expected)
        assert row.design_effect > 1.3


def test_single_films_have_wilsons_own_interval():
    films = pd.DataFrame({"patient": range(200), "Mass": np.arange(200) < 13})
    row = prevalence(films, ["Mass"]).iloc[0]
    assert row["design_effect"] == pytest.approx(1, abs=0.01)
    expected = proportion_confint(13, 200, method="wilson")
    assert (row["low"], row["high"]) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("value", [False, True])
def test_none_or_all_positive_rests_on_patients(value):
    films = pd.DataFrame({"patient": [1] * 50 + [2] * 50, "Mass": value})
    row = prevalence(films, ["Mass"]).iloc[0]
    expected = proportion_confint(2 * value, 2, method="wilson")
    assert (row["low"], row["high"]) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(row["design_effect"])


def test_interval_covers_about_as_often_as_it_says():
    whole = simulate(20_000, seed=5)
    truth = whole["Nodule"].mean()
    covered, naive = [], []
    for start in range(0, 20_000, 100):
        part = whole[whole["patient"].between(start, start + 99)]
        row = prevalence(part, ["Nodule"]).iloc[0]
        covered.append(row["low"] <= truth <= row["high"])
        low, high = proportion_confint(row["n_positive"], row["n_images"], method="wilson")
        naive.append(low <= truth <= high)
    assert np.mean(covered) > 0.91
    assert np.mean(naive) < np.mean(covered) - 0.05


def test_ratio_is_that_of_a_clustered_log_linear_model(films):
    got = prevalence_ratio(films, COLUMNS, where=films["ap"])
    for row in got.itertuples():
        # A Poisson model of a yes/no outcome has the ratio of shares as its coefficient.
        coefficient, error = cluster_robust(
            films, row.finding, films["ap"].astype(float), sm.families.Poisson()
        )
        assert row.estimate == pytest.approx(np.exp(coefficient), rel=1e-5)
        expected = np.exp(coefficient + error * 1.959964 * np.array([-1, 1]))
        assert (row.low, row.high) == pytest.approx(expected, rel=1e-5)
        assert row.n_inside + row.n_outside == films[row.finding].sum()


def test_ratio_turned_over_is_its_inverse(films):
    one = prevalence_ratio(films, COLUMNS, where=films["ap"])
    other = prevalence_ratio(films, COLUMNS, where=~films["ap"])
    assert one["estimate"].to_numpy() == pytest.approx(1 / other["estimate"])
    assert one["low"].to_numpy() == pytest.approx(1 / other["high"])
    # Without a positive film on a side there is no interval.
    films = pd.DataFrame({"patient": range(4), "Mass": [True, False, False, False]})
    row = prevalence_ratio(films, ["Mass"], where=[False, False, True, True]).iloc[0]
    assert row["estimate"] == 0
    assert np.isnan(row["high"])


@pytest.mark.parametrize("where", [[True] * 3, [False] * 3, [True, False]])
def test_ratio_refuses_one_side(where):
    films = pd.DataFrame({"patient": range(3), "Mass": [True, False, False]})
    with pytest.raises(ValueError, match="both sides"):
        prevalence_ratio(films, ["Mass"], where=where)


def test_odds_ratios_are_those_of_a_clustered_logistic_model(films):
    got = odds_ratios(films, COLUMNS)
    assert len(got) == 3
    for row in got.itertuples():
        coefficient, error = cluster_robust(
            films, row.second, films[row.first].astype(float), sm.families.Binomial()
        )
        assert row.estimate == pytest.approx(np.exp(coefficient), rel=1e-5)
        expected = np.exp(coefficient + error * 1.959964 * np.array([-1, 1]))
        assert (row.low, row.high) == pytest.approx(expected, rel=1e-5)
        assert row.n_both == (films[row.first] & films[row.second]).sum()
        table = pd.crosstab(films[row.first], films[row.second])
        assert row.n_expected == pytest.approx(Table2x2(table.to_numpy()).fittedvalues[1, 1])


def test_odds_ratios_of_single_films_are_woolfs():
    films = simulate(600, seed=3).drop_duplicates("patient")
    row = odds_ratios(films, ["Mass", "Nodule"]).iloc[0]
    table = Table2x2(pd.crosstab(films["Mass"], films["Nodule"]).to_numpy())
    assert row["estimate"] == pytest.approx(table.oddsratio)
    assert (row["low"], row["high"]) == pytest.approx(table.oddsratio_confint(), rel=0.002)
    # With an empty cell there is no interval.
    films = pd.DataFrame(
        {"patient": range(3), "Mass": [True, False, False], "Edema": [False, True, False]}
    )
    row = odds_ratios(films, ["Mass", "Edema"]).iloc[0]
    assert row["estimate"] == 0
    assert np.isnan([row["low"], row["high"]]).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda films: prevalence(films, ["Hernia"]),
        lambda films: prevalence(films, COLUMNS, by="weekday"),
        lambda films: prevalence_ratio(films, ["Hernia"], where=films["ap"]),
        lambda films: odds_ratios(films, ["Mass", "Hernia"]),
        lambda films: prevalence(films[:0], COLUMNS),
    ],
)
def test_missing_columns_and_rows_are_named(films, call):
    with pytest.raises(ValueError, match="rows"):
        call(films)


def test_real_labels_by_patient_are_wider_than_by_film():
    labels = load_labels()
    got = prevalence(labels).set_index("finding")
    assert got.loc["Infiltration", "n_positive"] == 19_894
    assert (got["design_effect"] > 1).all()
    assert got.loc["Hernia", "n_positive_patients"] < 227
