"""The tables of chapter 10: consistent, rebuilt where inputs are, checked by other means."""

import numpy as np
import pandas as pd
import pytest

from chexlib.data import data_home, table
from chexlib.findings import FINDINGS

fetched = pytest.mark.real_data(
    "reference_predictions/preds.csv", "official_split/test_list.txt", "rsna/rsna_to_nih.csv"
)


@pytest.fixture(scope="module")
def pairs():
    return table("clean_labels")


def test_the_main_comparisons_are_four_of_a_kind_and_adjusted(pairs):
    main = pairs[pairs["main"]]
    kinds = [sorted(part["finding"]) for _, part in main.groupby("comparison")]
    assert len(kinds) == 2
    assert kinds[0] == kinds[1] == sorted(set(kinds[0]))
    assert len(kinds[0]) == 4
    assert main["p_adjusted"].notna().all()
    assert pairs.loc[~pairs["main"], "p_adjusted"].isna().all()
    assert (main["p_adjusted"] >= main["p"]).all()


def test_raw_aurocs_are_those_of_chapter_6(pairs):
    known = table("auroc").set_index(["finding", "label_source", "subset"])["estimate"]
    rows = pairs[(pairs["comparison"] == "auroc") & (pairs["weighting"] == "none")]
    for row in rows.itertuples():
        clean = known[row.finding, row.reference, row.subset]
        assert row.first == pytest.approx(clean)
        assert row.second == pytest.approx(known[row.finding, "nih_text", row.subset])


def test_weighted_rsna_films_give_the_text_auroc_of_the_whole_test_set(pairs):
    whole = table("auroc").set_index(["finding", "subset"])
    for narrow, lung in (
        ("Airspace opacity", "Lung opacity"),
        ("Airspace opacity (wide)", "Lung opacity (wide)"),
    ):
        row = pairs[(pairs["read_by"] == "RSNA, weighted") & (pairs["comparison"] == "auroc")]
        weighted = row.set_index("finding").loc[lung]
        everywhere = whole.loc[(narrow, "shared_test"), "estimate"]
        assert weighted["second_low"] < everywhere < weighted["second_high"]


def test_a_panel_that_misses_nothing_leaves_random_errors_at_one_half():
    panel = table("clean_panel")
    whole = panel[panel["panel_sensitivity"] == 1]
    np.testing.assert_allclose(whole["expected"], 0.5)
    np.testing.assert_allclose(panel["seen"] - panel["expected"], panel["excess"])
    errors = table("clean_errors").query("main and films == 'radiologists say no'")
    seen = errors.set_index("finding")["estimate"]
    np.testing.assert_allclose(whole["seen"], seen[whole["finding"]])


@pytest.mark.parametrize("found", [0.95, 0.8, 0.6])
def test_what_a_panel_of_misses_leaves_is_that_of_a_simulated_one(found):
    from tables_clean_labels import among_negatives

    from chexlib.metrics import auroc

    rng = np.random.default_rng(0)
    truth = rng.random(400_000) < 0.4
    score = rng.normal(1.5 * truth)
    label = rng.random(len(truth)) < np.where(truth, 0.5, 0.1)
    panel = truth & (rng.random(len(truth)) < found)
    expected = among_negatives(
        found,
        area=auroc(panel, score),
        positive=panel.mean(),
        label_sensitivity=label[panel].mean(),
        label_share=label[~panel].mean(),
    )
    assert expected > 0.51
    assert auroc(label[~panel], score[~panel]) == pytest.approx(expected, abs=0.005)


def test_rsna_without_googles_patients_agrees_and_shares_none(pairs):
    rows = pairs[(pairs["subset"] == "rsna_outside") & (pairs["comparison"] == "sensitivity")]
    row = rows.set_index("label").loc["Consolidation|Infiltration|Pneumonia"]
    assert row["low"] > 0.2
    films = table("clean_films").set_index("films")
    shared = films.loc["Google's, of patients who are among RSNA's", "n_patients"]
    rsna = films.loc["read by RSNA's radiologists", "n_patients"]
    assert row["n_patients"] == rsna - shared
    assert not pairs.loc[pairs["subset"] == "rsna_outside", "main"].any()


def test_curves_rise_within_their_bands():
    curves = table("clean_curves")
    inside = curves["estimate"].between(curves["low"] - 0.01, curves["high"] + 0.01)
    assert inside.mean() > 0.97  # a percentile band may miss its own curve at a corner
    for _, part in curves.groupby(["finding", "judge"]):
        assert (part["estimate"].diff().dropna() >= 0).all()
        assert part["estimate"].iloc[-1] == 1


def test_nobody_shares_patients_with_the_rest_of_chest_xray14():
    films = table("clean_films").set_index("films")["n_images"]
    assert films["of these patients, in NIH's table"] == films["scored by the model"] == 22_433
    left_out = films.filter(like="left out").sum()
    assert films["matched with an RSNA film"] - left_out == films["read by RSNA's radiologists"]


def test_published_average_is_that_of_the_four():
    f1 = table("published_f1").set_index("reader")["estimate"]
    assert f1.iloc[:4].mean() == pytest.approx(f1["Radiologists' average"], abs=0.0006)


@pytest.fixture(scope="module")
def raw_films():
    """Films, labels and scores joined here from the files, by pandas alone."""
    from chexlib.data import load_adjudicated, load_labels, load_rsna

    scores = pd.read_csv(data_home() / "reference_predictions" / "preds.csv")
    scores = scores.rename(columns={"Image Index": "image"})
    scores.columns = [c.removeprefix("prob_").replace(" ", "_") for c in scores.columns]
    scores = scores[["image", *FINDINGS]].add_prefix("p_").rename(columns={"p_image": "image"})
    films = scores.merge(load_labels(), on="image")
    google = films.merge(load_adjudicated().drop(columns=["patient", "subset"]), on="image")
    reads = load_rsna()[["image", "target", "pixel_mse"]]
    reads = reads[~reads["image"].duplicated(keep=False) & (reads["pixel_mse"] <= 50)]
    return films, google, films.merge(reads, on="image")


def union(films, names):
    return 1 - np.prod(1 - films[[f"p_{n}" for n in names]].to_numpy(), axis=1)


OPACITY = ["Consolidation", "Infiltration", "Pneumonia"]


@fetched
def test_headline_figures_by_scikit_learn(raw_films, pairs):
    from sklearn.metrics import roc_auc_score, roc_curve

    films, google, rsna = raw_films
    stratum = np.where(rsna[OPACITY].any(axis=1), 0, np.where(rsna["no_finding"], 1, 2))
    everywhere = np.where(films[OPACITY].any(axis=1), 0, np.where(films["no_finding"], 1, 2))
    weight = (np.bincount(everywhere) / np.bincount(stratum))[stratum]
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
        rate = np.average(text[~truth], weights=None if weights is None else weights[~truth])
        found = np.average(text[truth], weights=None if weights is None else weights[truth])
        assert row["false_positive_rate"] == pytest.approx(rate)
        assert row["second"] == pytest.approx(found)
        left = np.searchsorted(fpr, rate + 1e-12, side="right") - 1
        slope = (tpr[left + 1] - tpr[left]) / (fpr[left + 1] - fpr[left])
        assert row["first"] == pytest.approx(tpr[left] + slope * (rate - fpr[left]))


@fetched
def test_films_repeated_within_patients_add_no_certainty(raw_films):
    from chexlib.metrics import compare_labels, compare_with_reader

    _, google, _ = raw_films
    for times in (1, 2):
        part = pd.concat([google] * times, ignore_index=True)
        truth, text = part["airspace_opacity"].to_numpy(), part[OPACITY].any(axis=1).to_numpy()
        options = {"patient": part["patient"].to_numpy()}
        found = (
            compare_labels(truth, text, union(part, OPACITY), **options),
            compare_with_reader(truth, union(part, OPACITY), text, resamples=200, **options),
        )
        if times == 1:
            once = found
    for one, twice in zip(once, found, strict=True):
        figures = ("first", "second", "difference", "low", "high")
        np.testing.assert_allclose(
            [getattr(one, f) for f in figures], [getattr(twice, f) for f in figures], atol=1e-9
        )
