"""The tables of chapter 11: consistent, rebuilt where inputs are, checked by other means."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t
from sklearn.metrics import f1_score

from chexlib.data import load_readers, table
from chexlib.findings import FINDINGS

fetched = pytest.mark.real_data(
    "reference_predictions/preds.csv",
    "official_split/test_list.txt",
    "rsna/rsna_to_nih.csv",
    "google_readers/all_findings_individual_readers.csv",
)
FIVE, STRICT = "readers like the five", "three of the other four"


@pytest.fixture(scope="module")
def rows():
    return table("reader_comparison")


@pytest.fixture(scope="module")
def figures(rows):
    return rows.set_index(["finding", "rater", "against", "statistic"])["estimate"]


@pytest.fixture
def builder(monkeypatch):
    from pathlib import Path

    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "data")
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "book")
    import tables_radiologists

    return tables_radiologists


def test_the_columns_are_as_promised_and_estimates_lie_in_their_intervals(rows):
    promised = "finding rater against statistic estimate low high n n_positive"
    assert list(rows.columns) == promised.split()
    known = rows.dropna(subset=["low", "high"])
    inside = known["estimate"].between(known["low"] - 1e-12, known["high"] + 1e-12)
    assert inside.mean() > 0.99
    assert (rows["n"] == 188).all()


def test_a_network_that_never_calls_passes_by_agreement_and_fails_by_positive_agreement(rows):
    part = rows[(rows["against"] == FIVE) & (rows["rater"] == "never calls")]
    part = part[part["n_positive"] >= 20].set_index(["statistic", "finding"])
    assert (part.loc["f1_difference", "high"] < 0).all()
    assert (part.loc["f1_difference", "low"] < -0.1).all()
    assert (part.loc["agreement_difference", "estimate"] > -0.15).any()
    part = rows[(rows["against"] == FIVE) & (rows["rater"] == "calls at random")]
    part = part[(part["n_positive"] >= 20) & (part["statistic"] == "f1_difference")]
    assert (part["low"] < -0.1).all()


def test_verdicts_follow_from_intervals_margin_and_number(rows):
    verdicts = table("reader_verdicts").set_index("finding")
    assert list(verdicts.index) == list(FINDINGS)
    for name, verdict in (("estimate", "verdict"), ("agreement", "agreement_verdict")):
        ends = ("low", "high") if name == "estimate" else ("agreement_low", "agreement_high")
        for row in verdicts.to_dict("records"):
            low, high = (row[end] for end in ends)
            said = "cannot tell"
            if row["n_positive"] >= 20:
                said = "as good" if low > -0.1 else said
                said = "worse" if high < 0 else "better" if low > 0 else said
            assert row[verdict] == said
    gap = rows[(rows["rater"] == FIVE) & (rows["against"] == STRICT)].set_index("finding")
    np.testing.assert_allclose(gap["estimate"], verdicts["estimate"])


@fetched
def test_figures_are_those_of_scikit_learn_and_of_a_count_by_hand(builder, figures):
    films, calls, thresholds = builder.read_films()
    reads = load_readers("all")
    assert len(films) == 188
    assert films["patient"].nunique() == 118
    assert set(films["image"]) <= set(reads["image"])
    scores = builder.model_scores().loc[films["image"]]
    for name in ("Effusion", "Nodule"):
        called = scores[name] >= thresholds[name]
        own = calls[name]
        mean = np.mean([f1_score(own[:, k], called) for k in range(5)])
        assert figures[name, "network", "each reader", "f1"] == pytest.approx(mean)
        mean = np.mean([f1_score(own[:, k], own[:, 0]) for k in range(1, 5)])
        assert figures[name, "reader A", "each reader", "f1"] == pytest.approx(mean)
        truth = own[:, 1:].sum(axis=1) >= 3
        sensitivity = own[truth, 0].mean()
        assert figures[name, "reader A", STRICT, "sensitivity"] == pytest.approx(sensitivity)
        alarms = own[~truth, 0].mean()
        high = np.sort(scores[name][~truth])[::-1]
        cut = high[int(np.floor(alarms * (~truth).sum() + 1e-9))]
        best = (scores[name][truth] > cut).mean()
        seen = figures[name, "reader A", STRICT, "network_sensitivity"]
        assert seen == pytest.approx(best, abs=1e-9)


@fetched
def test_the_threshold_saw_none_of_these_patients(builder):
    films, _, thresholds = builder.read_films()
    shared = builder.shared_films()
    others = shared[~shared["patient"].isin(films["patient"])]
    assert len(others) < len(shared) - len(films)
    scores = builder.model_scores().loc[others["image"]]
    best = max(
        f1_score(others["Mass"], scores["Mass"] >= cut)
        for cut in np.quantile(scores["Mass"], np.linspace(0.8, 0.999, 60))
    )
    assert f1_score(others["Mass"], scores["Mass"] >= thresholds["Mass"]) >= best


def test_power_is_what_a_simulation_gives_and_grows(builder):
    parts, rng, n = (0.003, 0.008, 0.003), np.random.default_rng(0), 5
    between, common, own = parts[0], parts[2], parts[1] - parts[2]
    scale = 30 / 60
    draws = rng.normal(0, np.sqrt(between + own * scale), (20_000, n))
    mean = draws.mean(axis=1) + rng.normal(0, np.sqrt(common * scale), 20_000)
    spread = draws.var(axis=1, ddof=1)
    total = spread + n * common * scale
    freedom = (n - 1) * (total / spread) ** 2
    low = mean - t.ppf(0.975, freedom) * np.sqrt(total / n)
    power = builder.trial_power(*parts, 30, n_readers=n, n_positive=60, margin=0.1)
    assert power == pytest.approx((low > -0.1).mean(), abs=0.03)
    trial = table("reader_trial")
    for _, part in trial[trial["n_readers"] > 3].groupby(["finding", "margin", "n_readers"]):
        assert part.sort_values("n_positive")["power"].is_monotonic_increasing
    wide = trial.pivot(index=["finding", "n_readers", "n_positive"], columns="margin")["power"]
    assert (wide[0.1] > wide[0.05]).all()


def test_intervals_for_other_readers_hold_what_those_for_patients_miss():
    found = table("reader_coverage").set_index("sample")["estimate"]
    assert found["readers and patients"] >= 0.92
    assert found["patients alone"] < found["readers and patients"]


def test_curves_end_at_one_and_never_fall():
    curves = table("reader_curves")
    judged = table("reader_verdicts").query("n_positive >= 20")["finding"]
    assert list(dict.fromkeys(curves["finding"])) == list(judged)
    for _, part in curves.groupby(["finding", "reader"]):
        assert part["sensitivity"].is_monotonic_increasing
        assert part["sensitivity"].iloc[-1] == 1
    assert isinstance(curves, pd.DataFrame)
