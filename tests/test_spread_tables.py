"""What chapters 6 and 11 say of twenty trainings on real films, and estimators on known truth."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import precision_recall_curve, roc_auc_score
from tables_spread import (
    above,
    apart,
    disagreement,
    ensembles,
    most_alike,
    readiness,
    spread,
    warning,
)

from chexlib.data import load_labels, load_networks, load_readers, table
from chexlib.findings import FINDINGS
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

    times = []  # films labelled or called at the best F1, for each labelled one
    for _, part in wide.groupby("fold"):
        precision, recall, cuts = precision_recall_curve(part["y"], part["Effusion"])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        called = part["Effusion"] >= cuts[f1[:-1].argmax()]
        times.append((called | part["y"]).sum() / part["y"].sum())
    row = table("calls_at_f1").set_index("finding").loc["Effusion"]
    given = row[["estimate", "least", "most"]].to_numpy(dtype=float)
    np.testing.assert_allclose([np.mean(times), min(times), max(times)], given, rtol=1e-3)


def test_networks_call_a_share_of_films_at_one_threshold_and_pairs_are_counted_film_by_film():
    rng = np.random.default_rng(2)
    rank, there = rng.random((400, 6, 2)), rng.random((400, 6)) < 0.6
    there[:, :2] = True
    rank[~there] = np.nan
    called = above(rank, there, np.array([0.1, 0.3]))
    differ, calling = apart(called, there)
    np.testing.assert_allclose(calling.mean(axis=0), [0.1, 0.3], atol=1 / 400)
    for k in range(2):
        assert rank[..., k][called[..., k]].max() < rank[..., k][there & ~called[..., k]].min()
    film = int(np.argmax(differ[:, 1]))
    raters = np.flatnonzero(there[film])
    ordered = [(a, b) for a in raters for b in raters if a != b]
    alone = [called[film, a, 1] and not called[film, b, 1] for a, b in ordered]
    assert differ[film, 1] == pytest.approx(np.mean(alone))


def test_readers_who_rank_alike_differ_by_readiness_alone():
    rng = np.random.default_rng(3)
    film, reader = rng.normal(size=(600, 1, 1)), np.array([0.5, 1.0, 1.02, 2.0])[None, :, None]
    alike, draws = film > reader, Resamples(np.arange(600), resamples=50)
    differ, calling = apart(alike, np.ones(alike.shape[:2], dtype=bool))
    unshared = differ.sum() / calling.sum()
    assert readiness(alike, draws).estimate.item() == pytest.approx(unshared)
    second, third = alike[:, 1, 0], alike[:, 2, 0]
    closest = (second != third).sum() / (second.sum() + third.sum())
    assert most_alike(alike, draws).estimate.item() == pytest.approx(closest)
    random = rng.random(alike.shape) < alike.mean(axis=0)
    differ, calling = apart(random, np.ones(alike.shape[:2], dtype=bool))
    assert readiness(random, draws).estimate < 0.8 * differ.sum() / calling.sum()


def test_two_networks_differ_less_than_two_radiologists():
    rows = table("reader_spread")
    wide = rows.pivot(index="finding", columns="raters", values="estimate")
    gap = wide["two networks"] - wide["two radiologists"]
    np.testing.assert_allclose(wide["two networks less two radiologists"], gap, atol=1e-9)
    assert (wide["two radiologists, by readiness alone"] <= wide["two radiologists"] + 1e-9).all()
    part = rows[rows["n_called"] >= 20]
    means = part.groupby("raters")["estimate"].mean()
    mean = rows[rows["finding"] == "mean"].set_index("raters")
    np.testing.assert_allclose(means, mean.loc[means.index, "estimate"])
    assert mean.loc["two networks", "high"] < mean.loc["two radiologists", "low"]
    assert (
        mean.loc["two networks", "high"]
        < mean.loc["the two radiologists who call most alike", "low"]
    )
    assert set(rows["n_films"]) == {184}


@pytest.mark.real_data(SCORES, "google_readers")
def test_scores_and_reads_give_the_rows_of_two_networks_and_two_radiologists():
    name, rows = "Effusion", table("reader_spread").set_index(["finding", "raters"])["estimate"]
    scores = load_networks(women_percent=50)
    scores["rank"] = scores.groupby("fold")[name].rank(ascending=False, pct=True)
    reads = load_readers("all").pivot(index="image", columns="reader", values=list(FINDINGS))[name]
    of = {
        image: part.to_numpy()
        for image, part in scores.groupby("image", observed=True)["rank"]
        if image in reads.index and len(part) > 1
    }
    reads = reads.loc[list(of)].to_numpy(dtype=bool)
    cuts = np.unique(np.concatenate(list(of.values())))
    share = np.array([np.mean([(ranks <= cut).mean() for ranks in of.values()]) for cut in cuts])
    cut = cuts[np.abs(share - reads.mean()).argmin()]
    for who, votes in (
        ("two networks", [ranks <= cut for ranks in of.values()]),
        ("two radiologists", reads),
    ):
        differ = [np.outer(v, ~v).sum() / len(v) / (len(v) - 1) for v in votes]
        unshared = np.sum(differ) / np.sum([np.mean(v) for v in votes])
        assert unshared == pytest.approx(rows[name, who], rel=0.02)
