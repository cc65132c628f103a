"""What chapters 8 to 10 say of ranking: again from the counts by score, and as others published."""

import numpy as np
import pandas as pd
import pytest

from chexlib.data import table
from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics import auroc, average_precision, from_counts

KEYS = ["finding", "label_source", "subset"]
# Fourteen AUROCs that the author of the predictions published (pretrained/aucs.csv, BSD-3-Clause).
AUTHORS = (
    *(0.8179808156, 0.9090149137, 0.8827164015, 0.7156449830, 0.8376837532, 0.7755751107),
    *(0.7616870310, 0.8776145243, 0.8002045198, 0.8944599671, 0.9316231389, 0.8250897844),
    *(0.7889195976, 0.9175253237),
)


def counted(rows):
    positive, negative = rows["n_positive"], rows["n_negative"]
    return from_counts(rows["score"], positive=positive, negative=negative)


@pytest.fixture(scope="module")
def scores():
    return table("score_tables")


@pytest.fixture(scope="module")
def figures():
    return table("auroc").set_index(KEYS)


@pytest.fixture(scope="module")
def shared(figures):
    return figures.xs(("nih_text", "shared_test"), level=KEYS[1:])["estimate"]


def test_counts_give_the_ranking_and_the_numbers_of_films(scores, figures):
    precision = table("average_precision").set_index(KEYS)["estimate"]
    for key, rows in scores.groupby(KEYS):
        labels, score = counted(rows)
        assert abs(auroc(labels, score) - figures.loc[key, "estimate"]) < 2e-4, key
        assert len(labels) == figures.loc[key, "n_images"], key
        assert labels.sum() == figures.loc[key, "n_positive"], key
        gap = average_precision(labels, score) - precision[key]
        assert -0.02 < gap < 0.005, key  # films of a bin tie, which mostly costs precision


def test_what_is_left_of_the_shared_test_set_is_the_rest(scores, figures):
    strata = [*KEYS[:2], "half", "sex", "view", "score"]
    counts = {
        subset: rows.set_index(strata)[["n_positive", "n_negative"]]
        for subset, rows in scores.groupby("subset")
    }
    rest = counts["shared_test"].sub(counts["official_in_shared"], fill_value=0)
    rest = rest.loc[pd.IndexSlice[:, "nih_text"], :].reset_index()
    assert (rest[["n_positive", "n_negative"]] >= 0).all(axis=None)
    for name, part in rest.groupby("finding"):
        expected = figures.loc[(name, "nih_text", "rest_of_shared"), "estimate"]
        assert abs(auroc(*counted(part)) - expected) < 2e-4, name


def test_halves_are_alike(scores):
    part = scores[scores["subset"] == "shared_test"]
    counts = part.groupby(["finding", "half"])[["n_positive", "n_negative"]].sum()
    share = counts["n_positive"].unstack()
    assert (share["choose"] / share.sum(axis=1)).between(0.4, 0.6).all()
    films = counts.sum(axis=1).unstack().drop_duplicates()
    assert films.sum(axis=1).tolist() == [22_433]


def test_the_published_aurocs_of_the_predictions(shared, figures):
    np.testing.assert_allclose(shared[list(FINDINGS)], AUTHORS, atol=1e-9)
    assert shared["Mean of 14"] == pytest.approx(np.mean(AUTHORS))
    official = figures.loc[NO_FINDING, "nih_text", "official_in_shared"]
    assert (official["n_images"], official["n_patients"]) == (5213, 590)


@pytest.mark.parametrize("name", ["auroc_parts", "auroc_views"])
def test_pairs_within_and_across_the_parts_make_the_whole(shared, name):
    parts = table(name)
    assert np.allclose(parts.groupby("finding")["pair_share"].sum(), 1)
    whole = (parts["estimate"] * parts["pair_share"]).groupby(parts["finding"]).sum()
    np.testing.assert_allclose(whole, shared[whole.index], atol=1e-12)


def test_pairs_by_view_are_those_of_the_counted_films(scores):
    edema = scores[(scores["subset"] == "shared_test") & (scores["finding"] == "Edema")]
    for row in table("auroc_views").query("finding == 'Edema'").itertuples():
        positive = edema["n_positive"].where(edema["view"] == row.positives_from, 0)
        negative = edema["n_negative"].where(edema["view"] == row.negatives_from, 0)
        labels, score = counted(edema.assign(n_positive=positive, n_negative=negative))
        assert (row.n_positive, row.n_negative) == (labels.sum(), (~labels).sum())
        assert auroc(labels, score) == pytest.approx(row.estimate, abs=1e-3)


def test_the_official_films_are_harder_without_hernia_too(shared):
    others = [name for name in FINDINGS if name != "Hernia"]
    found = table("auroc_differences").set_index("finding")
    assert found.loc["Mean without Hernia", "high"] < -0.01
    for figure in (shared, found["estimate"]):
        assert figure["Mean without Hernia"] == pytest.approx(figure[others].mean())


def test_bands_have_the_area_of_their_curves():
    bands = table("curve_bands")
    inside = bands["estimate"].between(bands["low"], bands["high"])
    assert inside.mean() > 0.97  # a percentile interval need not hold the estimate
    roc = bands[bands["curve"] == "roc"]
    area = {
        name: np.trapezoid(part["estimate"], part["x"]) for name, part in roc.groupby("finding")
    }
    assert np.allclose([area[name] for name in FINDINGS], AUTHORS, atol=0.02)


def test_published_means_are_means_and_azures_table_is_in_alphabetical_order():
    published = table("published_auroc")
    wide = published.pivot_table(index="source", columns="finding", values="value")
    whole = wide.dropna(subset=[*FINDINGS, "mean"])
    assert len(whole) == 8
    # Quoted tables were rounded, and one was copied with slips, before the mean was taken.
    assert (whole[list(FINDINGS)].mean(axis=1) - whole["mean"]).abs().max() < 0.0016
    printed = wide.loc["Azure README, as printed", list(FINDINGS)]
    mended = pd.Series(printed.to_numpy(), index=sorted(FINDINGS))
    assert printed.corr(wide.loc["zoogzog"]) < 0.2
    assert mended.corr(wide.loc["zoogzog"]) > 0.9
