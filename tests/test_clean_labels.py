"""What chapter 10 says of the reference model before two judges, checked by other means."""

import numpy as np
import pandas as pd
import pytest
from tables_clean_labels import among_negatives

from chexlib.data import data_home, load_adjudicated, load_labels, load_rsna, table
from chexlib.findings import FINDINGS
from chexlib.metrics import auroc, compare_labels, compare_with_reader

fetched = pytest.mark.real_data(
    "reference_predictions/preds.csv", "official_split/test_list.txt", "rsna/rsna_to_nih.csv"
)
fetched_reads = pytest.mark.real_data(
    *("reference_predictions/preds.csv", "official_split/test_list.txt", "rsna/rsna_to_nih.csv"),
    "google_readers/all_findings_individual_readers.csv",
)
OPACITY = ["Consolidation", "Infiltration", "Pneumonia"]


@pytest.fixture(scope="module")
def pairs():
    return table("clean_labels")


def test_the_main_comparisons_are_four_of_a_kind_and_adjusted(pairs):
    main = pairs[pairs["main"]]
    kinds = [sorted(part["finding"]) for _, part in main.groupby("comparison")]
    assert kinds[0] == kinds[1] == sorted(set(kinds[0]))
    assert len(kinds[0]) == 4
    assert pairs["p_adjusted"].notna().equals(pairs["main"])


def test_raw_aurocs_are_those_of_chapter_8(pairs):
    known = table("auroc").set_index(["finding", "label_source", "subset"])["estimate"]
    rows = pairs[(pairs["comparison"] == "auroc") & (pairs["weighting"] == "none")]
    for row in rows.itertuples():
        both = (row.finding, row.reference, row.subset), (row.finding, "nih_text", row.subset)
        assert (row.first, row.second) == pytest.approx([known[key] for key in both])


@pytest.mark.parametrize("width", ["", " (wide)"])
def test_weighted_rsna_films_give_the_text_auroc_of_the_whole_test_set(pairs, width):
    row = pairs[(pairs["read_by"] == "RSNA, weighted") & (pairs["comparison"] == "auroc")]
    weighted = row.set_index("finding").loc[f"Lung opacity{width}"]
    whole = table("auroc").set_index(["finding", "subset"])["estimate"]
    everywhere = whole[f"Airspace opacity{width}", "shared_test"]
    assert weighted["second_low"] < everywhere < weighted["second_high"]


def test_a_panel_that_misses_nothing_leaves_random_errors_at_one_half():
    whole = table("clean_panel").query("panel_sensitivity == 1")
    np.testing.assert_allclose(whole["expected"], 0.5)
    errors = table("clean_errors").query("main and films == 'radiologists say no'")
    seen = errors.set_index("finding")["estimate"]
    np.testing.assert_allclose(whole["seen"], seen[whole["finding"]])


@pytest.mark.parametrize("found", [0.95, 0.8, 0.6])
def test_what_a_panel_of_misses_leaves_is_that_of_a_simulated_one(found):
    rng = np.random.default_rng(0)
    truth = rng.random(400_000) < 0.4
    score = rng.normal(1.5 * truth)
    label = rng.random(len(truth)) < np.where(truth, 0.5, 0.1)
    panel = truth & (rng.random(len(truth)) < found)
    rates = {"label_sensitivity": label[panel].mean(), "label_share": label[~panel].mean()}
    expected = among_negatives(found, area=auroc(panel, score), positive=panel.mean(), **rates)
    assert expected > 0.51
    assert auroc(label[~panel], score[~panel]) == pytest.approx(expected, abs=0.005)


def test_rsna_without_googles_patients_agrees_and_shares_none(pairs):
    rows = pairs[pairs["subset"] == "rsna_outside"]
    assert not rows["main"].any()
    row = rows[rows["comparison"] == "sensitivity"].set_index("label").loc["|".join(OPACITY)]
    assert row["low"] > 0.2
    films = table("clean_films").set_index("films")["n_patients"]
    shared = films["Google's, of patients who are among RSNA's"]
    assert row["n_patients"] == films["read by RSNA's radiologists"] - shared


def test_films_left_out_are_accounted_for():
    films = table("clean_films").set_index("films")["n_images"]
    assert films["of these patients, in NIH's table"] == films["scored by the model"] == 22_433
    left_out = films.filter(like="left out").sum()
    assert films["matched with an RSNA film"] - left_out == films["read by RSNA's radiologists"]


def test_curves_rise_within_their_bands():
    curves = table("clean_curves")
    inside = curves["estimate"].between(curves["low"] - 0.01, curves["high"] + 0.01)
    assert inside.mean() > 0.97  # a percentile band may miss its own curve at a corner
    for _, part in curves.groupby(["finding", "judge"]):
        assert part["estimate"].is_monotonic_increasing
        assert part["estimate"].iloc[-1] == 1


def test_published_average_is_that_of_the_four():
    f1 = table("published_f1").set_index("reader")["estimate"]
    assert f1.iloc[:4].mean() == pytest.approx(f1["Radiologists' average"], abs=0.0006)


@pytest.fixture(scope="module")
def raw_films():
    """Films, labels and scores joined here from the files, by pandas alone."""
    scores = pd.read_csv(data_home() / "reference_predictions" / "preds.csv")
    scores = scores.rename(columns={"Image Index": "image"}).set_index("image")
    scores.columns = [c.removeprefix("prob_").replace(" ", "_") for c in scores.columns]
    films = scores[list(FINDINGS)].add_prefix("p_").reset_index().merge(load_labels(), on="image")
    google = films.merge(load_adjudicated().drop(columns=["patient", "subset"]), on="image")
    reads = load_rsna()[["image", "target", "pixel_mse"]]
    reads = reads[~reads["image"].duplicated(keep=False) & (reads["pixel_mse"] <= 50)]
    return films, google, films.merge(reads, on="image")


def union(films, names):
    return 1 - np.prod(1 - films[[f"p_{n}" for n in names]].to_numpy(), axis=1)


@fetched
def test_headline_figures_by_scikit_learn(raw_films, pairs):
    from sklearn.metrics import roc_auc_score, roc_curve

    films, google, rsna = raw_films
    strata = [
        np.where(part[OPACITY].any(axis=1), 0, np.where(part["no_finding"], 1, 2))
        for part in (films, rsna)
    ]
    weight = np.divide(*(np.bincount(stratum) for stratum in strata))[strata[1]]
    tried = {
        "Pneumothorax": (google, "pneumothorax", ["Pneumothorax"], None),
        "Nodule or mass": (google, "nodule_or_mass", ["Mass", "Nodule"], None),
        "Airspace opacity": (google, "airspace_opacity", OPACITY, None),
        "Lung opacity": (rsna, "target", OPACITY, weight),
    }
    main = pairs[pairs["main"]].set_index(["comparison", "finding"])
    for finding, (part, column, names, weights) in tried.items():
        truth, text = part[column].to_numpy(), part[names].any(axis=1).to_numpy()
        score = union(part, names)
        row = main.loc[("auroc", finding)]
        assert (row["n_images"], row["n_positive"]) == (len(part), truth.sum())
        for judge, value in ((truth, row["first"]), (text, row["second"])):
            assert roc_auc_score(judge, score, sample_weight=weights) == pytest.approx(value)
        row = main.loc[("sensitivity", finding)]
        fpr, tpr, _ = roc_curve(truth, score, sample_weight=weights, drop_intermediate=False)
        mass = np.ones(len(part)) if weights is None else weights
        rate, found = (np.average(text[y], weights=mass[y]) for y in (~truth, truth))
        assert row["false_positive_rate"] == pytest.approx(rate)
        assert row["second"] == pytest.approx(found)
        assert row["first"] == pytest.approx(np.interp(rate, fpr, tpr), abs=1e-6)


@fetched
def test_films_repeated_within_patients_add_no_certainty(raw_films):
    figures = ("first", "second", "difference", "low", "high")
    found = []
    for times in (1, 2):
        part = pd.concat([raw_films[1]] * times, ignore_index=True)
        truth, text = part["airspace_opacity"].to_numpy(), part[OPACITY].any(axis=1).to_numpy()
        score, patient = union(part, OPACITY), part["patient"].to_numpy()
        both = (
            compare_labels(truth, text, score, patient=patient),
            compare_with_reader(truth, score, text, resamples=200, patient=patient),
        )
        found.append([[getattr(one, figure) for figure in figures] for one in both])
    np.testing.assert_allclose(*found, atol=1e-9)


class TestFindingsByTheirNames:
    def test_each_group_of_readers_is_a_family(self):
        named = table("clean_readers")
        main = named[named["main"]]
        for (_, reference), part in main.groupby(["comparison", "reference"]):
            assert len(part) == part["finding"].nunique() == {"five_readers": 6}.get(reference, 10)
            assert (part["p_adjusted"] >= part["p"]).all()
        rest = named[~named["main"]]
        assert rest["p_adjusted"].isna().all()
        assert (named["n_positive"].dropna() >= 20).all()
        labelled = named[named["subset"].str.endswith("_labelled")]
        assert set(labelled["comparison"]) == {"auroc"}

    def test_means_are_those_of_their_findings(self):
        aurocs = table("clean_readers").query("comparison == 'auroc'")
        figures = ["first", "second", "estimate"]
        means = aurocs.set_index(["reference", "finding"])[figures]
        for who, part in aurocs[aurocs["main"]].groupby("reference"):
            np.testing.assert_allclose(means.loc[(who, "mean")], part[figures].mean())
            rest = part.loc[part["finding"] != "Emphysema", figures].mean()
            if who == "chestx_det":
                np.testing.assert_allclose(means.loc[(who, "mean without Emphysema")], rest)

    def test_emphysema_is_the_only_finding_that_readers_rank_lower_beyond_chance(self):
        aurocs = table("clean_readers").query("comparison == 'auroc'")
        lower = aurocs[aurocs["high"] < 0]
        assert set(lower["finding"]) == {"Emphysema"}
        mean = aurocs.set_index(["reference", "finding"]).loc[("five_readers", "mean")]
        assert mean["low"] > 0

    @fetched_reads
    def test_by_scikit_learn(self, raw_films):
        from sklearn.metrics import roc_auc_score

        films, _, _ = raw_films
        reads = data_home() / "google_readers" / "all_findings_individual_readers.csv"
        votes = pd.read_csv(reads).set_index("Image ID")[["Mass", "Nodule"]].eq("YES")
        votes = votes.groupby(level=0).sum().add_prefix("votes_")
        part = films.merge(votes, left_on="image", right_index=True)
        named = (
            table("clean_readers").query("comparison == 'auroc'").set_index(["subset", "finding"])
        )
        for subset, enough in (("five_readers", 3), ("five_readers_two", 2)):
            for name in ("Mass", "Nodule"):
                truth, row = part[f"votes_{name}"] >= enough, named.loc[(subset, name)]
                assert (row["n_images"], row["n_positive"]) == (len(part), truth.sum())
                for side, label in (("first", truth), ("second", part[name])):
                    assert row[side] == pytest.approx(roc_auc_score(label, part[f"p_{name}"]))
