"""The tables of chapters 8 to 10: consistent in themselves, and rebuilt where the inputs are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from chexlib.data import table
from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics import auroc, average_precision, from_counts

KEYS = ["finding", "label_source", "subset"]
DATA = Path(__file__).resolve().parent.parent / "data"
# Fourteen AUROCs that the author of the predictions published (pretrained/aucs.csv, BSD-3-Clause).
AUTHORS = (
    *(0.8179808156, 0.9090149137, 0.8827164015, 0.7156449830, 0.8376837532, 0.7755751107),
    *(0.7616870310, 0.8776145243, 0.8002045198, 0.8944599671, 0.9316231389, 0.8250897844),
    *(0.7889195976, 0.9175253237),
)


@pytest.fixture(scope="module")
def scores():
    return table("score_tables")


@pytest.fixture(scope="module")
def figures():
    return table("auroc")


@pytest.fixture(scope="module")
def films(scores):
    """Labels and scores of every finding, source and subset, from the counts."""
    return {
        key: from_counts(rows["score"], positive=rows["n_positive"], negative=rows["n_negative"])
        for key, rows in scores.groupby(KEYS)
    }


def test_counts_give_the_auroc_and_the_numbers_of_films(films, figures):
    rows = figures.set_index(KEYS)
    for key, (labels, score) in films.items():
        assert abs(auroc(labels, score) - rows.loc[key, "auroc"]) < 2e-4, key
        assert len(labels) == rows.loc[key, "n_images"], key
        assert labels.sum() == rows.loc[key, "n_positive"], key


def test_what_is_left_of_the_shared_test_set_is_the_rest(scores, figures):
    rows = figures.set_index(KEYS)
    strata = [*KEYS[:2], "half", "sex", "view", "score"]
    sides = scores.set_index(strata).groupby("subset")
    counts = {subset: rows[["n_positive", "n_negative"]] for subset, rows in sides}
    rest = counts["shared_test"].sub(counts["official_in_shared"], fill_value=0)
    rest = rest.loc[pd.IndexSlice[:, "nih_text"], :].reset_index()
    assert (rest[["n_positive", "n_negative"]] >= 0).all(axis=None)
    for name, part in rest.groupby("finding"):
        labels, score = from_counts(
            part["score"], positive=part["n_positive"], negative=part["n_negative"]
        )
        expected = rows.loc[(name, "nih_text", "rest_of_shared"), "auroc"]
        assert abs(auroc(labels, score) - expected) < 2e-4, name


def test_counts_give_average_precision_but_for_ties(films):
    rows = table("average_precision").set_index(KEYS)
    for key, (labels, score) in films.items():
        gap = average_precision(labels, score) - rows.loc[key, "average_precision"]
        assert -0.02 < gap < 0.005, key  # films of a bin tie, which mostly costs precision


def test_halves_are_alike(scores):
    shared = scores[scores["subset"] == "shared_test"]
    counts = shared.groupby(["finding", "half"])[["n_positive", "n_negative"]].sum()
    share = counts["n_positive"].unstack()
    assert (share["choose"] / share.sum(axis=1)).between(0.4, 0.6).all()
    films = counts.sum(axis=1).unstack()
    assert films.nunique().max() == 1
    assert int(films.iloc[0].sum()) == 22_433


def test_the_published_aurocs_of_the_predictions(figures):
    shared = figures[figures["subset"] == "shared_test"].set_index("finding")["auroc"]
    np.testing.assert_allclose(shared[list(FINDINGS)], AUTHORS, atol=1e-9)
    assert shared["Mean of 14"] == pytest.approx(np.mean(AUTHORS))


def test_the_official_part_of_the_shared_test_set(figures):
    row = figures.set_index(["finding", "subset"]).loc[(NO_FINDING, "official_in_shared")]
    assert (row["n_images"], row["n_patients"]) == (5213, 590)


@pytest.mark.parametrize("name", ["auroc_parts", "auroc_views"])
def test_pairs_within_and_across_the_parts_make_the_whole(figures, name):
    parts = table(name)
    assert np.allclose(parts.groupby("finding")["pair_share"].sum(), 1)
    whole = (parts["auroc"] * parts["pair_share"]).groupby(parts["finding"]).sum()
    shared = figures[figures["subset"] == "shared_test"].set_index("finding")["auroc"]
    np.testing.assert_allclose(whole, shared[whole.index], atol=1e-12)


def test_pairs_by_view_are_those_of_the_counted_films(scores):
    shared = scores[(scores["subset"] == "shared_test") & (scores["finding"] == "Edema")]
    for row in table("auroc_views").query("finding == 'Edema'").itertuples():
        positive = shared["n_positive"].where(shared["view"] == row.positives_from, 0)
        negative = shared["n_negative"].where(shared["view"] == row.negatives_from, 0)
        labels, score = from_counts(shared["score"], positive=positive, negative=negative)
        assert (row.n_positive, row.n_negative) == (labels.sum(), (~labels).sum())
        assert auroc(labels, score) == pytest.approx(row.auroc, abs=1e-3)


def test_the_mean_without_hernia_is_the_mean_of_the_others(figures):
    others = [name for name in FINDINGS if name != "Hernia"]
    for frame, key in ((figures, KEYS[1:]), (table("auroc_differences"), None)):
        parts = [frame] if key is None else [p for _, p in frame.groupby(key)]
        for rows in (part.set_index("finding") for part in parts):
            if "Mean without Hernia" not in rows.index:
                continue
            figure = "auroc" if "auroc" in rows else "difference"
            mean = rows.loc[others, figure].mean()
            assert rows.loc["Mean without Hernia", figure] == pytest.approx(mean)
            assert rows.loc["Mean of 14", figure] != pytest.approx(mean)
    found = table("auroc_differences").set_index("finding")
    assert found.loc["Mean without Hernia", "high"] < -0.01


def test_bands_hold_their_curves():
    bands = table("curve_bands")
    assert set(bands["finding"]) == set(FINDINGS)
    assert (bands["low"] <= bands["high"]).all()
    inside = bands["y"].between(bands["low"], bands["high"])
    assert inside.mean() > 0.97  # a percentile interval need not hold the estimate
    roc = bands[bands["curve"] == "roc"]
    area = {name: np.trapezoid(part["y"], part["x"]) for name, part in roc.groupby("finding")}
    assert np.allclose([area[name] for name in FINDINGS], AUTHORS, atol=0.02)


def test_hernia_thresholds_are_2x2_tables():
    rows = table("hernia_thresholds")
    assert (rows[["tp", "fp", "fn", "tn"]].sum(axis=1) == 22_433).all()
    assert (rows["tp"] + rows["fn"] == 42).all()
    np.testing.assert_allclose(rows["accuracy"], (rows["tp"] + rows["tn"]) / 22_433)
    assert rows["ppv"].isna().tolist() == [True] + [False] * 5


@pytest.fixture(scope="module")
def published():
    return table("published_auroc")


def test_published_means_are_means(published):
    wide = published.pivot_table(index="source", columns="finding", values="value")
    wide = wide.dropna(subset=[*FINDINGS, "mean"])
    assert len(wide) == 8
    # Quoted tables were rounded, and one was copied with slips, before the mean was taken.
    assert (wide[list(FINDINGS)].mean(axis=1) - wide["mean"]).abs().max() < 0.0016


def test_azures_table_is_in_alphabetical_order(published):
    wide = published[published["finding"] != "mean"].pivot(
        index="finding", columns="source", values="value"
    )
    printed = wide["Azure README, as printed"][list(FINDINGS)]
    mended = pd.Series(printed.to_numpy(), index=sorted(FINDINGS))
    other = wide["zoogzog"]
    assert printed.corr(other) < 0.2
    assert mended.corr(other) > 0.9
