"""The three kinds of evidence, against plain counting, simulation and the committed table."""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from tables_label_quality import beside, relabelled_evidence

from chexlib.data import load_adjudicated, load_labels, load_rsna, table
from chexlib.data.splits import official_split
from chexlib.findings import FINDINGS
from chexlib.metrics import Resamples, UndefinedWarning, assess, share
from figures import label_quality
from figures.label_quality import (
    COLUMNS,
    OPACITY,
    google_evidence,
    known_quality,
    label_columns,
    persistence_evidence,
    pick,
    rsna_evidence,
    rsna_films,
    rsna_stratum,
)

NUMBERS = ["k", "n", "estimate", "low", "high"]
NAMES = [name for name in COLUMNS if name not in NUMBERS]


@pytest.fixture(scope="module")
def committed():
    return table("label_quality")


@pytest.fixture(scope="module")
def google():
    return google_evidence(load_labels(), load_adjudicated())


def assert_same_rows(found, expected):
    found, expected = (frame.reset_index(drop=True) for frame in (found, expected))
    pd.testing.assert_frame_equal(found[NAMES], expected[NAMES], check_dtype=False)
    for name in NUMBERS:
        one, other = (
            frame[name].to_numpy(dtype=float, na_value=np.nan) for frame in (found, expected)
        )
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9, err_msg=name)


def invented_films(n, *, seed=0):
    """Return a label table of n films, and which show an opacity in truth."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.15
    films = pd.DataFrame(False, index=range(n), columns=list(FINDINGS))
    films["Pneumonia"] = np.where(truth, rng.random(n) < 0.5, rng.random(n) < 0.05)
    films["Mass"] = rng.random(n) < 0.2
    for name in set(FINDINGS) - {"Consolidation", "Infiltration", "Mass", "Pneumonia"}:
        films[name] = rng.random(n) < 0.01
    films.loc[:1, ["Consolidation", "Infiltration"]] = True  # no label without a film
    films["no_finding"] = ~films[list(FINDINGS)].any(axis=1)
    films["image"] = [f"{index:08d}_000.png" for index in range(n)]
    films["patient"] = rng.integers(0, n // 2, n)
    return films, truth


READERS = {"five_readers", "readers", "chestx_det", "vinbigdata"}
RELABELLED = {f"{films}_relabelled" for films in ("all", "five", "google", "rsna")}


def test_committed_table_has_the_columns_of_its_contract(committed):
    assert tuple(committed.columns) == COLUMNS
    evidence = {"google", "rsna", "persistence", "relabelled"}
    assert set(committed["evidence"]) == evidence | READERS
    subsets = {"google_val", "google_test", "google_all", "rsna", "all"}
    subsets |= {"five_readers", "chestx_det", "R8-R10", "official test", *RELABELLED}
    assert set(committed["subset"]) == subsets
    assert not committed.duplicated(NAMES).any()
    committed = committed[committed["evidence"] != "relabelled"]
    # No majority calls Pneumonia: its label has neither a sensitivity nor an interval of kappa.
    empty = committed[committed["low"].isna() | committed["high"].isna()]
    assert set(empty["finding"]) == {"Pneumonia"}
    assert set(empty["statistic"]) == {"sensitivity", "kappa"}
    known = committed.drop(index=empty.index)
    assert (known["low"] <= known["estimate"]).all()
    assert (known["estimate"] <= known["high"]).all()
    counted = known.dropna(subset=["k"])
    plain = ~counted["statistic"].str.contains("weighted|kappa")
    ratio = counted["k"] / counted["n"]
    assert np.allclose(ratio[plain], counted.loc[plain, "estimate"], atol=1e-12)


def test_a_label_and_its_gain_are_counted_as_by_hand():
    rng, n = np.random.default_rng(5), 3000
    truth, patient = rng.random(n) < 0.2, rng.integers(0, 900, n)
    old, new = (np.where(truth, rng.random(n) < s, rng.random(n) < 0.05) for s in (0.4, 0.7))
    found = beside({"": new, "_before": old}, truth, Resamples(patient, resamples=200))
    for label, suffix in ((new, ""), (old, "_before")):
        held = assess(label, truth, patient=patient, resamples=20)
        for name in ("ppv", "sensitivity", "specificity", "kappa"):
            one, k, of = found[name + suffix]
            assert (k, of) == (held[name].k, held[name].n)
            assert one.estimate == pytest.approx(held[name].estimate)
        worth = np.corrcoef(label, truth)[0, 1] ** 2
        assert found["worth" + suffix][0].estimate == pytest.approx(worth)
    gain = found["worth_gain"][0]
    low, high = gain.interval()
    assert gain.estimate == found["worth"][0].estimate - found["worth_before"][0].estimate
    assert 0 < low < gain.estimate < high
    apart = np.subtract(*reversed(found["worth"][0].interval()))
    assert high - low < apart + np.subtract(*reversed(found["worth_before"][0].interval()))
    weighted = beside({"": new, "_before": old}, truth, Resamples(patient), np.where(old, 2.0, 1.0))
    by_hand = (new & truth) @ np.where(old, 2.0, 1.0) / (truth @ np.where(old, 2.0, 1.0))
    assert weighted["sensitivity"][0].estimate == pytest.approx(by_hand)
    assert weighted["sensitivity"][1:] == found["sensitivity"][1:]  # films, before weighting


def test_the_relabelling_is_nearer_for_common_signs_and_floods_rare_ones(committed):
    own = committed[committed["evidence"] == "relabelled"]
    rows = own.set_index(["subset", "label", "statistic"]).sort_index()
    five = rows.loc["five_relabelled"]
    common = [name for name in FINDINGS if five.loc[(name, "sensitivity"), "n"] >= 20]
    gains = five.xs("worth_gain", level="statistic").loc[common]
    assert list(gains.index[gains["low"] <= 0]) == ["Cardiomegaly"]
    for name in FINDINGS:
        difference = (
            five.loc[(name, "worth"), "estimate"] - five.loc[(name, "worth_before"), "estimate"]
        )
        given = five.loc[(name, "worth_gain"), "estimate"]
        assert given == pytest.approx(difference, nan_ok=True)
    for subset, label in (("google_relabelled", OPACITY), ("rsna_relabelled", OPACITY)):
        ending = "_weighted" if subset.startswith("rsna") else ""
        assert rows.loc[(subset, label, f"worth_gain{ending}"), "low"] > 0.08
    hernia = five.loc[("Hernia", "ppv")]
    assert (hernia["k"], hernia["n"]) == (1, 51)
    every = rows.loc["all_relabelled"]
    assert every.loc[("Hernia", "share_before"), "k"] == 114
    assert every.loc[("Hernia", "share"), "k"] == 5_349
    assert every.xs("share_kept", level="statistic")["estimate"].min() > 0.96
    trained = own[own["statistic"] == "in_training"].set_index("subset")
    assert trained.loc["five_relabelled", ["k", "n"]].tolist() == [686, 718]
    assert trained.loc["official test", ["k", "n"]].tolist() == [20_299, 25_596]


@pytest.mark.real_data("chexnext/default.json.bz2", "google_readers", "rsna/rsna_to_nih.csv")
def test_relabelled_rows_are_those_committed(committed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedWarning)
        found = relabelled_evidence(load_labels())
    assert_same_rows(found, committed[committed["evidence"] == "relabelled"])


def test_google_rows_are_those_committed(google, committed):
    assert_same_rows(google, committed[committed["evidence"] == "google"])


def test_persistence_rows_are_those_committed(committed):
    found = persistence_evidence(load_labels())
    assert_same_rows(found, committed[committed["evidence"] == "persistence"])


@pytest.mark.real_data("rsna/rsna_to_nih.csv")
def test_rsna_rows_are_those_committed(committed):
    found = rsna_evidence(load_labels(), load_rsna())
    assert_same_rows(found, committed[committed["evidence"] == "rsna"])


@pytest.mark.real_data("rsna/rsna_to_nih.csv")
def test_rsna_films_leave_out_doubtful_matches():
    labels = load_labels()
    films = rsna_films(labels, load_rsna())
    assert len(films) == 26_566
    assert films["image"].is_unique
    assert (films["target"] == (films["rsna_class"] == "Lung Opacity")).all()
    assert films["weight"].sum() == pytest.approx(len(labels))


@pytest.mark.real_data("official_split/test_list.txt", "rsna/rsna_to_nih.csv")
def test_sampling_table_is_rebuilt():
    from make_tables import BUILDERS

    found, _ = BUILDERS["label_sampling"]()
    assert found.set_index("group").loc["kept", "k"] == 26_566
    assert found.groupby("subset")["n"].max().to_dict() == {
        **{"google_test": 1962, "google_val": 2414, "rsna": 26_684}
    }
    labels, adjudicated = load_labels(), load_adjudicated()
    split = official_split(labels)
    for subset, part in (("test", "test"), ("val", "train_val")):
        films = adjudicated.loc[adjudicated["subset"] == subset, "image"]
        assert (split[labels["image"].isin(films)] == part).all()
    pd.testing.assert_frame_equal(
        found, table("label_sampling"), check_dtype=False, check_like=True
    )


def test_google_counts_are_those_of_a_cross_table(google):
    films = load_adjudicated().merge(load_labels().drop(columns="patient"), on="image")
    test = films[films["subset"] == "test"]
    label = test["Mass"] | test["Nodule"]
    counts = pd.crosstab(label, test["nodule_or_mass"])
    where = {"finding": "Nodule or mass", "label": "Mass|Nodule", "subset": "google_test"}
    found = pick(google, **where, statistic="ppv")
    assert (found.k, found.n) == (counts.loc[True, True], counts.loc[True].sum())
    found = pick(google, **where, statistic="specificity")
    assert (found.k, found.n) == (counts.loc[False, False], counts[False].sum())
    expected = cohen_kappa_score(label, test["nodule_or_mass"])
    assert pick(google, **where, statistic="kappa").estimate == pytest.approx(expected)
    hidden = test.loc[test["no_finding"], "airspace_opacity"]
    where = {"finding": "Airspace opacity", "label": "No Finding", "subset": "google_test"}
    found = pick(google, **where, statistic="share")
    assert (found.k, found.n) == (hidden.sum(), len(hidden))


def test_an_adjudicated_film_without_labels_is_refused():
    with pytest.raises(ValueError, match="in the label table"):
        google_evidence(load_labels().iloc[:1000], load_adjudicated())


def test_weighting_undoes_sampling_by_stratum(monkeypatch):
    films, truth = invented_films(60_000)
    fraction = np.array([0.55, 0.11, 0.24])[rsna_stratum(films)]
    kept = np.random.default_rng(9).random(len(films)) < fraction
    classes = np.where(truth, "Lung Opacity", "Normal")[kept]
    rsna = pd.DataFrame(
        {
            "image": films.loc[kept, "image"],
            "target": truth[kept],
            "rsna_class": pd.Categorical(classes, categories=["Normal", "Lung Opacity"]),
            "pixel_mse": 1.0,
        }
    ).reset_index(drop=True)
    doubled = pd.concat([rsna, rsna.iloc[[0]]], ignore_index=True)
    doubled.loc[5, "pixel_mse"] = 51
    assert len(rsna_films(films, doubled)) == len(rsna) - 2

    for function in (assess, share):
        quick = functools.partial(function, resamples=20)
        monkeypatch.setattr(label_quality, function.__name__, quick)
    rows = rsna_evidence(films, rsna)
    for statistic, expected in (
        ("sensitivity", films.loc[truth, "Pneumonia"].mean()),
        ("ppv", truth[films["Pneumonia"]].mean()),
        ("specificity", (~films.loc[~truth, "Pneumonia"]).mean()),
    ):
        where = {"finding": "Lung opacity", "label": "Pneumonia"}
        weighted = pick(rows, **where, statistic=f"{statistic}_weighted").estimate
        assert weighted == pytest.approx(expected, abs=0.02), statistic
    assert pick(rows, **where, statistic="sensitivity").estimate > 0.6  # raw: far above the 0.5


def test_rsna_without_matching_names_the_command():
    labels, truth = invented_films(20)
    with pytest.raises(FileNotFoundError, match="chexlib fetch rsna"):
        rsna_films(labels, pd.DataFrame({"target": truth}))


def test_label_columns_join_and_refuse():
    films, _ = invented_films(50)
    assert (label_columns(films, "any of the 14") == ~films["no_finding"]).all()
    assert (label_columns(films, OPACITY)[2:] == films["Pneumonia"][2:]).all()
    with pytest.raises(ValueError, match="Lung"):
        label_columns(films, "Mass|Lung")


def test_pick_wants_one_row(committed):
    with pytest.raises(ValueError, match="Expected one row"):
        pick(committed, finding="Hernia")
    chance = pick(committed, finding="Hernia", statistic="persistence_shuffled")
    assert chance.n == 0
    assert 0 < chance.low < chance.high < 1


def test_what_is_known_has_a_line_a_finding(committed):
    known = known_quality(committed)
    assert len(known) == 14
    assert known["Google confirms"].ne("–").sum() == 6
    assert known["ChestX-Det confirm"].ne("–").sum() == 10
    assert known["five readers confirm"].ne("–").all()
    assert not known.isna().any(axis=None)


def test_hernia_rests_on_155_pairs(committed):
    found = pick(committed, finding="Hernia", reference="next film", statistic="persistence")
    assert (found.k, found.n) == (72, 155)
