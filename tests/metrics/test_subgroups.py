"""Subgroups: each row against the metric on its films, and the count of comparisons."""

import numpy as np
import pandas as pd
import pytest
from scored_films import clustered

from chexlib.metrics import age_band, auroc, average_precision, by_subgroup, delong, holm


@pytest.fixture
def found():
    labels, scores, patients = clustered(400)
    rng = np.random.default_rng(1)
    groups = pd.DataFrame(
        {
            "sex": np.where(patients % 2, "M", "F"),
            "view": rng.choice(["PA", "AP"], len(labels)),
            "age": age_band(rng.integers(0, 95, 400)[patients]),
        }
    )
    table = by_subgroup(labels, scores, groups, patient=patients, resamples=400)
    return labels, scores, patients, groups, table


def test_rows_are_the_metric_on_their_films(found):
    labels, scores, patients, groups, table = found
    for row in table.itertuples():
        inside = (groups[row.attribute].astype(str) == row.group).to_numpy()
        assert row.estimate == pytest.approx(auroc(labels[inside], scores[inside]))
        assert (row.n_films, row.n_positive) == (inside.sum(), labels[inside].sum())
        assert row.n_patients == len(np.unique(patients[inside]))
        assert row.low < row.estimate < row.high
        if not np.isnan(row.difference):
            outside = auroc(labels[~inside], scores[~inside])
            assert row.difference == pytest.approx(row.estimate - outside)
            assert row.difference_low < row.difference < row.difference_high


def test_films_of_one_patient_in_two_groups_are_resampled_together(found):
    labels, scores, patients, groups, table = found
    row = table[(table["attribute"] == "view") & (table["group"] == "AP")].iloc[0]
    inside = (groups["view"] == "AP").to_numpy()
    # Closed form: placements of both groups summed within patients.
    ses = [
        delong(labels[k], scores[k], patient=patients[k]).standard_error[0]
        for k in (inside, ~inside)
    ]
    as_if_apart = np.hypot(*ses)
    width = (row["difference_high"] - row["difference_low"]) / (2 * 1.96)
    assert 0.5 * as_if_apart < width < 1.15 * as_if_apart


def test_comparisons_are_counted_once_and_adjusted(found):
    table = found[-1]
    assert table["p"].notna().sum() == 1 + 1 + 5
    assert (table["comparisons"] == 7).all()
    tested = table[table["p"].notna()]
    assert (tested["p_adjusted"] >= tested["p"]).all()
    assert (tested["p_adjusted"] <= holm(tested["p"]) + 0.02).all()
    outside = (tested["difference_low"] > 0) | (tested["difference_high"] < 0)
    assert ((tested["p"] < 0.05) == outside).all()


def test_small_groups_get_no_interval_and_are_not_compared():
    labels, scores, patients = clustered(200)
    group = np.where(np.arange(len(labels)) < 8, "few", "many")
    table = by_subgroup(labels, scores, {"g": group}, patient=patients, resamples=50)
    few, many = table.iloc[0], table.iloc[1]
    assert np.isnan(few["low"])
    assert np.isfinite(many["low"])
    assert table["comparisons"].tolist() == [0, 0]
    turned = by_subgroup(labels, scores, {"g": group == "few"}, patient=patients, resamples=50)
    assert turned["comparisons"].tolist() == [0, 0]  # the group is large, the rest is not
    options = {"patient": patients, "resamples": 50, "at_least": 1}
    assert np.isfinite(by_subgroup(labels, scores, {"g": group}, **options)["low"]).all()


def test_several_findings_other_metrics_missing_values_and_weights():
    labels, scores, _ = clustered(200)
    truth = pd.DataFrame({"Mass": labels, "Nodule": ~labels, "Hernia": False})
    score = pd.DataFrame(dict.fromkeys(truth, scores))
    view = pd.Series(np.where(np.arange(len(labels)) % 2, "PA", "AP")).where(
        np.arange(len(labels)) > 20
    )
    weight = np.where(scores > 0, 2.0, 1.0)
    options = {"sample_weight": weight, "resamples": 30}
    table = by_subgroup(truth, score, {"view": view}, metric=average_precision, **options)
    assert table["finding"].tolist() == [*truth, *truth]
    assert table["n_films"].sum() == 3 * (len(labels) - 21)
    inside = (view == "PA").to_numpy()
    expected = average_precision(labels[inside], scores[inside], sample_weight=weight[inside])
    assert table[table["group"] == "PA"]["estimate"].iloc[0] == pytest.approx(expected)
    assert table[table["finding"] == "Hernia"]["estimate"].isna().all()
    alone = by_subgroup(labels, scores, {"all": np.full(len(labels), "x")}, resamples=30)
    assert alone[["difference", "p_adjusted"]].isna().all(axis=None)
    assert alone["comparisons"].tolist() == [0]


def test_age_bands():
    assert list(age_band([0, 17, 18, 39, 40, 80, 120])) == [
        *("0-17", "0-17", "18-39", "18-39", "40-59", "80+", "80+")
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: age_band([-1]), "ages"),
        (lambda: age_band([np.nan, -2]), "got -2"),
        (lambda: by_subgroup([0, 1], [0, 1], {"sex": ["M"]}), "sex of 2 films"),
        (lambda: by_subgroup([0, 1], [0, 1], {"sex": ["M", "F"]}, patient=[1]), "each of 2"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
