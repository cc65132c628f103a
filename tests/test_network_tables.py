"""What chapter 12 says of eighty networks, and some of its rows computed by other means."""

import numpy as np
import pytest
import tables_networks
from sklearn.metrics import roc_auc_score

from chexlib.data import load_adjudicated, load_labels, load_networks, table
from chexlib.findings import FINDINGS
from chexlib.metrics import Resamples, delong, resampled
from chexlib.metrics.ranking import auroc

ALIKE = "view, age and other findings"
SCORES = "networks/predictions.npz"


@pytest.fixture(scope="module")
def gaps():
    return table("for_whom_differences").set_index(["women_percent", "sex", "finding"])


def test_a_sex_that_is_missing_in_training_pays(gaps):
    for contrast, sex in (("50 less 0", "F"), ("50 less 100", "M")):
        row = gaps.loc[(contrast, sex, "mean")]
        assert row["low"] > 0.01
        assert row["n_folds_above"] == 20
    for contrast, sex in (("50 less 0", "M"), ("50 less 100", "F")):
        assert abs(gaps.loc[(contrast, sex, "mean"), "estimate"]) < 0.01


def test_most_of_the_gap_at_equal_shares_goes_with_films_made_alike(gaps):
    made = table("for_whom_matched").set_index(["women_percent", "matched", "sex", "finding"])
    found = made.loc[50].xs(("F less M", "mean"), level=("sex", "finding"))
    for step in ("nothing", "view", "view and age"):
        assert found.loc[step, "high"] < -0.01
    assert found.loc[ALIKE, "low"] < 0 < found.loc[ALIKE, "high"]
    assert abs(found.loc[ALIKE, "estimate"]) < 0.3 * abs(found.loc["nothing", "estimate"])
    raw = gaps.loc[("50", "F less M", "mean"), "estimate"]
    assert found.loc["nothing", "estimate"] == pytest.approx(raw)


def test_films_with_one_finding_are_rare_among_mens_tested_films_only():
    films = table("for_whom_films").set_index(["finding", "sex", "subset"])
    alone = films["estimate"].xs("any")
    assert abs(alone["F", "all"] - alone["M", "all"]) < 0.02
    assert alone["F", "tested"] - alone["M", "tested"] > 0.2
    assert films.loc[("Emphysema", "M", "tested"), "k"] == 2
    labels = load_labels()
    men = labels[labels["Emphysema"] & (labels["sex"] == "M")]
    one = men[list(FINDINGS)].sum(axis=1) == 1
    assert films.loc[("Emphysema", "M", "all"), ["k", "n"]].tolist() == [one.sum(), len(men)]


@pytest.mark.parametrize("name", ["for_whom", "for_whom_differences", "for_whom_matched"])
def test_a_mean_is_that_of_the_14_findings(name):
    frame = table(name)
    keys = [c for c in ("women_percent", "matched", "sex") if c in frame]
    for _, part in frame.groupby(keys):
        values = part.set_index("finding")["estimate"]
        assert values["mean"] == pytest.approx(values[list(FINDINGS)].mean())


def test_the_label_is_held_against_readers_as_by_hand():
    films = load_adjudicated().query("subset == 'test'").merge(load_labels(), on="image")
    women = films[films["sex"] == "F"]
    found = table("for_whom_labels").set_index(["source", "finding", "sex", "statistic"])
    row = found.loc[("google_test", "Pneumothorax", "F", "sensitivity")]
    assert row["estimate"] == pytest.approx(women.loc[women["pneumothorax"], "Pneumothorax"].mean())
    assert row["n_positive"] == women["pneumothorax"].sum()


def test_influences_are_those_of_delong_and_move_an_auroc_as_resampling_does():
    rng = np.random.default_rng(0)
    patient = np.arange(1200) // 3
    label = rng.random(1200) < 0.2
    score = np.round(label + rng.normal(size=1200) + rng.normal(size=400)[patient], 1)
    weight = rng.choice([1.0, 2.0], 1200)
    area, moved = tables_networks.influence(label, score, weight)
    assert area == pytest.approx(roc_auc_score(label, score, sample_weight=weight))
    by_patient = np.bincount(patient, moved)
    error = delong(label, score, patient=patient, sample_weight=weight).standard_error[0]
    assert np.sqrt((by_patient**2).sum()) == pytest.approx(error, rel=0.02)
    draws = Resamples(patient, resamples=500)
    exact = resampled(auroc, label, score, draws, sample_weight=weight)
    linear = area + draws.sums(moved[:, None])[:, 0] - moved.sum()
    assert np.corrcoef(exact.replicates, linear)[0, 1] > 0.99


@pytest.mark.real_data(SCORES)
def test_scores_give_the_rows_of_the_table():
    committed = table("for_whom").set_index(["women_percent", "sex", "finding"])
    labels = load_labels().set_index("image")
    scores = load_networks(women_percent=100)
    films = labels.loc[scores["image"].astype(str)]
    for sex, name in (("F", "Hernia"), ("M", "Effusion")):
        own = (films["sex"] == sex).to_numpy()
        areas = [
            roc_auc_score(films[name].to_numpy()[own & fold], scores[name].to_numpy()[own & fold])
            for fold in (scores["fold"].to_numpy() == k for k in range(20))
        ]
        row = committed.loc[(100, sex, name)]
        assert row["estimate"] == pytest.approx(np.mean(areas))
        assert row["fold_sd"] == pytest.approx(np.std(areas, ddof=1))
        assert row["n_films"] == films[own].index.nunique()


@pytest.mark.real_data(SCORES)
def test_matching_leaves_both_sexes_the_same_films_of_each_kind():
    films, _ = tables_networks.tested()
    weight = tables_networks.matched(films, tables_networks.MATCHES[ALIKE])
    k = FINDINGS.index("Emphysema")
    others = np.minimum(films[list(FINDINGS)].sum(axis=1) - films["Emphysema"], 2)
    mass = weight[:, k] * tables_networks.how_often()
    kinds = [films["Emphysema"], films["view"], films["age"] // 10, others]
    sums = films.assign(mass=mass).groupby([*kinds, "sex"], observed=True)["mass"].sum()
    both = sums.unstack("sex", fill_value=0)
    np.testing.assert_allclose(both["F"], both["M"])
    assert 0 < weight.min(initial=1, where=weight > 0) <= weight.max() <= 1
