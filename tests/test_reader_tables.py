"""The tables of chapter 4 agree with one another, with what ships and with the chapter."""

from functools import reduce

import numpy as np
import pandas as pd
import pytest

from chexlib.data import load_adjudicated, load_vinbigdata, table
from chexlib.findings import FINDINGS
from chexlib.metrics import reader_agreement


@pytest.fixture(scope="module")
def votes():
    return table("reader_votes").pivot(index="finding", columns="votes", values="n")


@pytest.fixture(scope="module")
def five():
    rows = table("reader_agreement").query("subset == 'five_readers'")
    return rows.set_index(["statistic", "finding"])["estimate"]


def test_no_film_has_three_votes_for_pneumonia(votes):
    assert (votes.sum(axis=1) == 810).all()
    assert votes.loc["Pneumonia"].tolist() == [745, 57, 8, 0, 0, 0]


def test_kappas_are_those_of_the_votes(votes, five):
    for name, films in votes.iterrows():
        v, share = films.index.to_numpy(), films.to_numpy() / 810
        rate, split = (v / 5 * share).sum(), (v * (5 - v) / 10 * share).sum()
        assert five["fleiss_kappa", name] == pytest.approx(1 - split / (2 * rate * (1 - rate)))
        assert five["positive_agreement", name] == pytest.approx(1 - split / (2 * rate))


def test_tables_of_the_same_reads_say_the_same(votes, five):
    calls = table("reader_rates").groupby("finding")["k"].sum()
    assert (calls[votes.index] == votes @ np.arange(6)).all()
    quality = table("label_quality").query("evidence == 'readers'")
    counts = quality.set_index(["statistic", "finding"])["k"]
    for kind, least in (("any", 1), ("majority", 3), ("all", 5)):
        assert (counts[kind][votes.index] == votes.loc[:, least:].sum(axis=1)).all()
    kappas = quality.set_index(["statistic", "finding"])["estimate"]
    for kind in ("pairwise_kappa", "fleiss_kappa"):
        np.testing.assert_allclose(kappas[kind][list(FINDINGS)], five[kind][list(FINDINGS)])
    single = table("reader_panels").query("size == 1 and statistic == 'positive_agreement'")
    for row in single.itertuples():
        assert row.estimate == pytest.approx(five["positive_agreement", row.finding])


def test_no_other_two_words_gain_as_much_as_consolidation_and_infiltration(five):
    pairs = table("reader_words").sort_values("gain", ascending=False)
    assert len(pairs) == 91
    first, second = pairs.iloc[0], pairs.iloc[1]
    assert {first["finding"], first["other"]} == {"Consolidation", "Infiltration"}
    assert first["gain_low"] > second["gain_high"]
    assert first["estimate"] == pytest.approx(five["fleiss_kappa", "Consolidation|Infiltration"])


def test_votes_of_a_film_go_together_more_than_independent_errors_would(votes):
    for name, part in table("reader_model").groupby("finding"):
        at = part.set_index("statistic")["estimate"]
        ill, rates = at["n_positive"], (at["sensitivity"], 1 - at["specificity"])
        spread = [reduce(np.convolve, [[1 - c, c] for c in some]) for some in rates]
        expected = ill * spread[0] + (810 - ill) * spread[1]
        assert expected.sum() == pytest.approx(810)
        assert (votes.loc[name, [2, 5]] > expected[[2, 5]]).all()


def test_adjudication_is_of_all_films_and_a_lone_yes_often_wins():
    reads, final = table("adjudication"), load_adjudicated()
    for name, part in reads.groupby("finding"):
        assert (part["n"].sum(), part["n_final"].sum()) == (4_376, final[name].sum())
    lone = reads.query("yes == 1 and hedge == 0 and no == 2").set_index("finding")
    assert (lone["n_final"] / lone["n"]).between(0.15, 0.6).all()


def test_vinbigdata_is_as_selected_as_the_chapter_says():
    marks = load_vinbigdata()
    called = pd.crosstab([marks["image"], marks["reader"]], marks["finding"]) > 0
    finds = (~called["No Finding"]).groupby("image").sum()
    assert finds.value_counts().to_dict() == {0: 10_606, 3: 4_394}
    rows = table("label_quality").query("evidence == 'vinbigdata' and subset == 'R8-R10'")
    for name in ("Effusion", "Consolidation"):
        reads = called[name].unstack()[["R8", "R9", "R10"]].dropna().astype(bool)
        found = reader_agreement(reads, resamples=1)["fleiss_kappa"].estimate
        row = rows[rows["finding"] == name].iloc[0]
        assert (len(reads), found) == (row["n"], pytest.approx(row["estimate"]))


def test_boxes_of_one_film_overlap_more_than_boxes_of_another():
    rows = table("reader_boxes").query("statistic == 'mean IoU'")
    wide = rows.pivot(index="finding", columns="against", values=["low", "high"])
    assert (wide["low", "the same film"] > wide["high", "another film"]).all()
    pairs = table("two_box_sets").set_index("finding")
    assert (pairs.drop(columns="n").sum(axis=1) == pairs["n"]).all()
    assert pairs["n"].drop("Cardiomegaly").sum() == 16  # which ChestX-Det10 has no boxes of
