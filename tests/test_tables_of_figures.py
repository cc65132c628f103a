"""Every table of figures says where it comes from, keeps one convention, and does not contradict
itself; and it is what its builder gives, where the inputs are."""

import json

import numpy as np
import pandas as pd
import pytest
from builders import BUILDERS, LABELS, write_table
from make_tables import FOLDER

from chexlib.data import table
from chexlib.data.phantom import VERSION
from chexlib.files import sha256
from chexlib.findings import FINDINGS

NAMES = sorted(path.name.partition(".")[0] for path in FOLDER.glob("*.csv*"))
TOUCHED = sorted(f"touch/{path.stem}" for path in FOLDER.glob("touch/*.json"))
# Columns that are empty in some rows, with the ends of their intervals, and on purpose.
EMPTY = {
    "auroc": "n_positive",  # of means
    "auroc_differences": "p_adjusted",  # means are not among the findings tested together
    "azure_exclusions": "share_of_others ratio",  # of all films there are no others
    "calibration": "slope intercept fitted_slope fitted_intercept",  # a step has no line
    "cam_methods": "gain",
    "cam_verdicts": "estimate",  # no width where all cases agree
    "clean_labels": "first second p_adjusted",
    "clean_readers": "label n_positive n_positive_patients n_labelled n_both false_positive_rate "
    "first second p_adjusted",  # of means; of others than the main analyses
    "clean_subgroups": "n_films n_patients n_positive estimate difference p p_adjusted comparisons",
    "emphysema": "k",  # of a difference
    "for_whom_differences": "p_adjusted",  # of means
    "for_whom_groups": "estimate",  # too few patients
    "for_whom_labels": "n_films n_labelled n_positive p p_adjusted",  # of means, of one sex
    "for_whom_rates": "n_films n_patients n_patients_positive estimate",
    "hernia_thresholds": "ppv npv",  # no film called
    "label_quality": "k n estimate",  # sensitivity where no film has a majority
    "label_sampling": "population_k population_n",
    "localization": "estimate gain p_adjusted",
    "localization_auroc": "metric estimate gain",
    "localization_blind": "estimate",
    "localization_chestx_det": "estimate",
    "localization_methods": "gain",
    "localization_perturbation": "share estimate less_random",
    "localization_sanity": "estimate",  # no width where all films agree
    "localization_shortcut": "change",
    "localization_shortcut_films": "others devices",
    "localization_shortcut_maps": "estimate",
    "noise_auroc": "p",
    "noise_calibration": "estimate",
    "noise_curve": "steps passes",  # of true labels
    "noise_differences": "p_adjusted",
    "noise_habits": "less p p_adjusted estimate",  # a draw of errors without an invented hernia
    "noise_issues": "precision lift",
    "noise_wrong_rates": "estimate",
    "official_split": "n_positive n_images n_patients design_effect",
    "operating_points": "ppv",
    "phantom_against_films": "value",
    "published_auroc": "citation",
    "reader_comparison": "against estimate",  # no film called: nothing to agree on
    "reader_spread": "n_called",  # of means
    "reader_model": "estimate",  # by the majority, without interval
    "reader_verdicts": "estimate agreement",
    "real_films_maps": "gain",
    "threshold_grid": "ppv",
    "threshold_stability": "promise_kept",
    "training_differences": "estimate",  # two runs with the same weights
}
DIFFERENCE = "estimate = first - second"
RATES = ("sensitivity = tp / (tp + fn)", "specificity = tn / (tn + fp)", "ppv = tp / (tp + fp)")
RATES += ("f1 = 2 * tp / (2 * tp + fp + fn)", "prevalence = (tp + fn) / (tp + fp + fn + tn)")
# What columns say of one another.
FORMULAS = {
    **dict.fromkeys(("clean_labels", "clean_readers", "noise_readers"), (DIFFERENCE,)),
    **dict.fromkeys(("noise_shrink", "clean_panel"), ("excess = seen - expected",)),
    "auroc_differences": ("estimate = official - rest",),
    "training_calibration": ("estimate = promised - positives",),
    "calibration": ("brier = reliability - resolution + uncertainty + within",),
    "operating_points": RATES,
    "hernia_thresholds": (*RATES, "accuracy = (tp + tn) / 22433", "tp + fn = 42"),
    "noise_issues": ("precision = n_found / n_flagged", "recall = n_found / n_wrong")
    + ("share_wrong = n_wrong / n", "lift = precision / share_wrong"),
    "azure_exclusions": ("share = n_excluded / n_images", "ratio = share / share_of_others"),
}
# Where the figures of parts add up: index, column, value, what is the whole (or 1), its parts.
FLAGS, SHARES = ("training method finding", "errors"), ("finding", "share", "estimate")
PLACES = ("on the lesion", "off-centre", "elsewhere")
SUMS = {
    "noise_issues": [
        *((*FLAGS, n, "all", ("invented", "missed")) for n in ("n_wrong", "n_found")),
        *(("training method", "finding", n, "all 14", FINDINGS) for n in ("n_wrong", "n_flagged")),
        ("training finding", "method", "n_flagged", "cleanlab", ("as many, by distance",)),
    ],
    "miss_costs": [("way", "finding", "estimate", "all 14", FINDINGS)],
    "official_split": [("name part", "subset", "n_positive", "all", ("PA", "AP"))],
    "cam_verdicts": [
        (*SHARES, "called", [f"called, {place}" for place in PLACES]),
        *((*SHARES, 1, [f"{place}, of {who}" for place in PLACES]) for who in ("called", "missed")),
    ],
    "azure_exclusions": [
        ("list", "name", n, "all", parts)
        for n in ("n_excluded", "n_images")
        for parts in (("AP", "PA"), ("F", "M"), ("test", "train_val"))
    ],
}
FETCHED = ("reference_predictions/preds.csv", "official_split/test_list.txt")
FETCHED += ("rsna/rsna_to_nih.csv", "azure_exclusions", "google_readers", "chestx_det")


def intervals(name):
    """Return the columns of each estimate of a table and of the ends of its interval."""
    frame = table(name)
    found = [(c.removesuffix("_low"), c, c[:-3] + "high") for c in frame if c.endswith("_low")]
    found += [("estimate", "low", "high")] * ("low" in frame)
    return [(c if c in frame else f"brier_{c}", *ends) for c, *ends in found]


def document(name):
    """Return what a thing to touch knows."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [*NAMES, *TOUCHED])
def test_says_where_it_comes_from(name):
    if name in TOUCHED:
        about = document(name)["provenance"]
    else:
        about = table(name).attrs
        assert len(table(name)) > 0
    assert {"source", "licence", "command", "date"} <= set(about)
    if name in BUILDERS:
        assert about["command"] == f"python data/make_tables.py {name}"
    again = f"run {about['command']}"
    inputs = {key.removeprefix("sha256 "): about[key] for key in about if key.startswith("sha256 ")}
    typed = about["licence"] == "figures quoted"  # from a paper, not computed
    assert inputs or typed or about["source"] == "simulated reads"
    simulated = "phantom_lungs.csv" in inputs
    if simulated and name != "image_speed":
        assert about["note"].startswith(f"phantom {VERSION}"), f"The phantom changed: {again}"
    for file, digest in inputs.items():
        for path in (FOLDER / file, FOLDER / "predictions" / file, LABELS.parent / file):
            if path.is_file():
                assert sha256(path) == digest, f"{file} changed since: {again}"
    assert set(about) - {f"sha256 {file}" for file in inputs} <= {
        *("source", "licence", "command", "date", "note")
    }


@pytest.mark.parametrize("name", NAMES)
def test_intervals_hold_their_estimates_and_nothing_is_missing_by_mistake(name):
    frame, empty = table(name), set(EMPTY.get(name, "").split())
    for estimate, low, high in intervals(name):
        known = frame[[estimate, low, high]].dropna()
        assert (known[low] <= known[estimate] + 1e-5).all(), estimate
        assert (known[estimate] <= known[high] + 1e-5).all(), estimate
        assert (frame[low].isna() == frame[high].isna()).all(), estimate
        if estimate in empty:
            empty |= {low, high}
    assert set(frame.columns[frame.isna().any()]) <= empty


@pytest.mark.parametrize("name", FORMULAS)
def test_columns_follow_from_one_another(name):
    frame = table(name)
    for formula in FORMULAS[name]:
        one, other = (frame.eval(side) for side in formula.split(" = "))
        wrong = (one - other).abs() > 1e-5
        assert not wrong.any(), f"{formula}\n{frame[wrong].to_string()}"


@pytest.mark.parametrize("name", SUMS)
def test_parts_add_up(name):
    for index, column, value, whole, parts in SUMS[name]:
        wide = table(name).pivot_table(index=index.split(), columns=column, values=value)
        wide = wide.assign(**{"1": 1.0}).dropna(subset=[*parts, str(whole)])
        assert len(wide)
        np.testing.assert_allclose(wide[list(parts)].sum(axis=1), wide[str(whole)], rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_p_is_below_5_percent_exactly_where_the_interval_of_95_percent_leaves_out_0(name):
    frame = table(name)
    named = {column for column in frame if column == "p" or column.startswith("p_")}
    assert named <= {"p", "p_adjusted"}  # no p goes by another name
    tested = next((s for s in ("difference_", "gain_", "") if f"{s}low" in frame), None)
    if not named:
        return
    low, high = frame[f"{tested}low"], frame[f"{tested}high"]
    if "p" in frame:
        given = frame["p"].notna()
        wrong = frame[given & ((frame["p"] < 0.05) != ((low > 0) | (high < 0)))]
        assert wrong.empty, wrong.to_string()
    if "p_adjusted" in frame:
        around = (low < 0) & (high > 0)  # an end of 0 may be rounded
        assert not ((frame["p_adjusted"] < 0.05) & around).any()
        assert "p" not in frame or not (frame["p_adjusted"] < frame["p"] - 1e-12).any()


MEANS = ("Mean of 14", "mean of 14", "mean of findings")
WITH_MEAN = [
    name
    for name in NAMES
    if table(name).isin(MEANS).any(axis=None) and table(name).isin(["Mass"]).any(axis=None)
]


@pytest.mark.parametrize("name", WITH_MEAN)
def test_a_mean_is_that_of_the_findings(name):
    frame = table(name)
    figure = "estimate" if "estimate" in frame else "factor"
    finding = frame.columns[frame.isin(MEANS).any()][0]
    words = [c for c in frame if frame[c].dtype.kind not in "fib"]
    keys = [c for c in (*words, "seed", "assumed") if c in frame and c not in (finding, "method")]
    compared = 0
    for _, part in frame.fillna(dict.fromkeys(keys, "")).groupby(keys or (lambda _: 0)):
        values = part.set_index(finding)[figure]
        mean, own = (values[values.index.isin(names)] for names in (MEANS, FINDINGS))
        if len(own) > 1 and len(mean):
            assert mean.item() == pytest.approx(own.mean(), abs=2e-4), part
            compared += 1
    assert compared


def test_quoted_figures_have_their_sources():
    bibliography = (FOLDER.parent / "book" / "references.bib").read_text(encoding="utf-8")
    for name in ("graphics_cards", "training_speed", "published_auroc"):
        for key in table(name)["citation"].dropna().unique():
            assert f"{{{key}," in bibliography


# What is built in seconds; of slow tables, one finding.
ONE_FINDING = {
    "threshold_grid": "tables_operating_points.NAMES",
    "threshold_stability": "tables_operating_points.NAMES",
    "reliability": "tables_calibration.FINDINGS",
    "calibration": "tables_calibration.FINDINGS",
}
WHOLE = (
    *("survey_labels", "label_changes", "official_split", "azure_exclusions", "score_tables"),
    *("auroc", "average_precision", "auroc_parts", "auroc_differences", "auroc_views"),
    *("curve_bands", "hernia_thresholds", "published_auroc", "clean_films", "clean_labels"),
    *("clean_errors", "clean_panel", "clean_curves", "clean_subgroups", "published_f1"),
    "for_whom_labels",
    *("reader_comparison", "reader_verdicts", "reader_curves", "reader_trial"),
    *("operating_points", "mean_precision_recall", "calls_per_film", "no_finding_rules"),
    *("reader_votes", "reader_rates", "reader_pneumonia", "reader_panels", "adjudication"),
    *("reader_words", "reader_majority"),
    *(
        "two_box_sets",
        "decision_curves",
        "miss_costs",
        "prior_shift",
        "graphics_cards",
        "training_speed",
    ),
)


@pytest.mark.real_data(*FETCHED)
@pytest.mark.parametrize("name", [*WHOLE, *ONE_FINDING])
def test_a_rebuild_gives_the_committed_table(name, tmp_path, monkeypatch):
    committed = table(name)
    if name in ONE_FINDING:
        monkeypatch.setattr(ONE_FINDING[name], ("Pneumothorax",))
        committed = committed[committed["finding"] == "Pneumothorax"].reset_index(drop=True)
    frame, about = BUILDERS[name]()
    path = tmp_path / f"{name}{about.pop('suffix', '.csv')}"
    write_table(frame, path, command=committed.attrs["command"], **about)
    rebuilt = pd.read_csv(path, comment="#")
    pd.testing.assert_frame_equal(rebuilt, committed, rtol=1e-6, atol=2e-6, check_dtype=False)


def flat(value):
    """Return keys and values of nested lists and dicts in one list."""
    if isinstance(value, dict):
        return [part for key, one in value.items() for part in (str(key), *flat(one))]
    if isinstance(value, list | tuple):
        return [part for one in value for part in flat(one)]
    return [value]


@pytest.mark.real_data(*FETCHED)
@pytest.mark.parametrize("name", ["guess", "marker", "noise", "ten", "thresholds", "window"])
def test_a_rebuild_gives_what_the_site_lets_touch(name, monkeypatch):
    committed = document(f"touch/{name}")
    if name == "thresholds":  # slow, so one finding
        monkeypatch.setattr("tables_touch.FINDINGS", ("Hernia",))
        committed["findings"] = {"Hernia": committed["findings"]["Hernia"]}
    rebuilt, _ = BUILDERS[f"touch/{name}"]()
    del committed["provenance"]
    for found, kept in zip(flat(rebuilt), flat(committed), strict=True):
        if isinstance(kept, str):  # a film in base64 may differ in the last bit of a pixel
            assert found == kept or len(kept) > 1000
        else:
            assert found == pytest.approx(kept, abs=2e-4)
