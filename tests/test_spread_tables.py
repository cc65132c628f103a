"""What chapter 6 says of twenty trainings on real films, and its estimator where truth is known."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from tables_spread import disagreement, ensembles, spread, warning

from chexlib.data import load_labels, load_networks, table
from chexlib.metrics import Resamples

SCORES = "networks/predictions.npz"


@pytest.fixture(scope="module")
def found():
    return table("network_spread").set_index(["source", "finding"])


def simulated(rng, *, networks=10, patients=1200, sd=0.15):
    """Return labels, scores and patients of networks with known AUROCs, tested on half of them."""
    patient = np.repeat(np.arange(patients), 3)
    labels = rng.random((len(patient), 2)) < 0.15
    hard = rng.normal(size=labels.shape) + 0.7 * rng.normal(size=(patients, 2))[patient]
    skill = 1.2 + sd * rng.normal(size=(networks, 2))
    own = 0.8 * rng.normal(size=(len(patient), networks, 2))
    scores = skill * labels[:, None] + hard[:, None] + own
    scores[(rng.random((patients, networks)) < 0.5)[patient]] = np.nan
    truth = norm.cdf(skill / np.sqrt(2 * (1 + 0.7**2 + 0.8**2)))
    truth = np.column_stack([truth, truth.mean(axis=1)])
    return labels, scores, Resamples(patient, resamples=100), truth


@pytest.mark.parametrize("sd", [0.0, 0.15])
def test_films_and_trainings_are_told_apart_where_truth_is_known(sd):
    rng, seen, true, films, by_chance = np.random.default_rng(0), [], [], [], []
    for _ in range(12):
        labels, scores, draws, truth = simulated(rng, sd=sd)
        parts = spread(labels, scores, draws)
        seen.append(parts["training"].estimate ** 2)
        films.append(parts["films"].estimate[0] ** 2)
        true.append(truth.var(axis=0, ddof=1))
        for r in range(scores.shape[1]):
            own = ~np.isnan(scores[:, r, 0])
            area = roc_auc_score(labels[own, 0], scores[own, r, 0])
            by_chance.append((area - truth[r, 0]) ** 2)
    if sd:
        np.testing.assert_allclose(np.mean(seen, axis=0), np.mean(true, axis=0), rtol=0.15)
    else:  # a variance below 0 is given as 0, so that a little is left of nothing
        assert (np.mean(seen, axis=0) < 0.2 * np.mean(films)).all()
    assert np.mean(films) == pytest.approx(np.mean(by_chance), rel=0.35)


def test_disagreement_ensembles_and_warning_as_by_hand():
    rng = np.random.default_rng(1)
    labels, scores, draws, _ = simulated(rng)
    there, called = ~np.isnan(scores[..., 0]), scores > 1
    alone = both = 0
    for one in range(10):
        for other in set(range(10)) - {one}:
            shared = there[:, one] & there[:, other] & called[:, one, 0]
            both, alone = both + shared.sum(), alone + (shared & ~called[:, other, 0]).sum()
    assert disagreement(called, there, draws).estimate[0] == pytest.approx(alone / both)

    full = np.where(np.isnan(scores), rng.normal(size=scores.shape), scores)
    mean = full.mean(axis=1)
    whole = ensembles(labels, full, draws, (1, 10))[10].estimate[0]
    assert whole == pytest.approx(roc_auc_score(labels[:, 0], mean[:, 0]))

    # Errors depend on the mean alone, and so does doubt: pairs of neighbours show no warning.
    wrong = rng.random(mean.shape) < norm.cdf(mean)
    doubt = mean + 0.5 * rng.normal(size=mean.shape)
    assert warning(wrong, doubt, None, draws).estimate.min() > 1.5
    np.testing.assert_allclose(warning(wrong, doubt, mean, draws).estimate, 1, atol=0.15)
    told = wrong + rng.random(mean.shape)
    assert warning(wrong, told, mean, draws).estimate.min() > 2


def test_a_training_counts_as_much_as_films_and_averaging_gains(found):
    mean = found.xs("mean", level="finding")
    assert mean.loc["standard deviation, training", "low"] > 0.004
    assert mean.loc["standard deviation, films", "high"] < 0.005
    assert 0.4 < mean.loc["not called by another", "estimate"] < 0.45
    gains = [mean.loc[f"gain of {n}", "estimate"] for n in (2, 5, 10)]
    assert gains == sorted(gains)
    assert mean.loc["gain of 2", "low"] > 0.005
    assert mean.loc["gain of 10", "n_films"] == 19_885


def test_doubt_warns_of_nothing_that_the_mean_does_not_tell(found):
    assert found.loc[("errors, doubt alone", "mean"), "high"] < 0.7
    for average in ("probability", "logit"):
        row = found.loc[(f"errors, equal {average}", "mean")]
        assert row["low"] < 1 < row["high"] < 1.15
    apart = found.loc["errors, equal probability"].query("low > 1 or high < 1")
    assert list(apart.index) == ["Cardiomegaly"]


@pytest.mark.real_data(SCORES)
def test_scores_give_the_rows_of_the_table(found):
    scores = load_networks(women_percent=50)
    label = load_labels().set_index("image")["Effusion"].loc[scores["image"].astype(str)]
    wide = scores.assign(y=label.to_numpy())
    rank = wide.groupby("fold")["Effusion"].rank(pct=True)
    share = wide.groupby("fold")["y"].transform("mean")
    votes = (rank > 1 - share).groupby(wide["image"], observed=True).agg(["sum", "size"])
    k, n = votes["sum"], votes["size"]
    expected = (k * (n - k)).sum() / (k * (n - 1)).sum()
    row = found.loc[("not called by another", "Effusion")]
    assert row["estimate"] == pytest.approx(expected, rel=1e-4)
    assert row["n_films"] == len(votes)

    # One network a film, its ranks mixed with others', ranks as one network does by itself.
    many = wide["image"].map(n).astype(int) >= 10
    areas = [roc_auc_score(part["y"], part["Effusion"]) for _, part in wide[many].groupby("fold")]
    assert found.loc[("one network", "Effusion"), "estimate"] == pytest.approx(
        np.mean(areas), abs=0.003
    )
    # The twenty AUROCs scatter by films and training; sharing test films, a little less.
    whole = [roc_auc_score(part["y"], part["Effusion"]) for _, part in wide.groupby("fold")]
    parts = found.xs("Effusion", level="finding")["estimate"]
    most = np.hypot(*(parts[f"standard deviation, {name}"] for name in ("films", "training")))
    assert 0.3 * most < np.std(whole, ddof=1) < 1.3 * most
