"""``chexlib evaluate`` on findings, labels and groups of one's own."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from chexlib.cli import app
from chexlib.evaluation import evaluate
from chexlib.report import render

NAMES = ["Rib_fracture", "肋膜積液", 'Line <b>&"$x$']


@pytest.fixture(scope="module")
def films():
    """300 films of 150 patients from three sites; a fifth of the labels is empty."""
    rng = np.random.default_rng(0)
    truth = rng.random((300, 3)) < (0.3, 0.4, 0.2)
    p = 1 / (1 + np.exp(-(2 * truth + rng.normal(size=truth.shape) - 1)))
    known = np.where(rng.random(truth.shape) < 0.2, np.nan, truth)
    known[:, 0] = truth[:, 0]
    labels = pd.DataFrame(known, columns=NAMES).astype({NAMES[0]: bool})
    image = [f"p{k // 2:03d}/{k % 2}.png" for k in range(300)]
    labels = labels.assign(image=image, patient=[name[:4] for name in image])
    labels["site"] = rng.choice(["Taipei", "Tainan", "Hualien"], 300)
    labels["age"] = np.where(rng.random(300) < 0.3, np.nan, rng.integers(0, 99, 300))
    labels["sex"] = rng.choice(["M", "F", "", "other"], 300)
    return pd.DataFrame(p, columns=NAMES).assign(image=image), labels


@pytest.fixture(scope="module")
def found(films):
    predictions, labels = films
    names = [*NAMES, "Never predicted"]
    return evaluate(
        predictions.assign(Extra=0.5),
        labels.assign(**{"Never predicted": True}),
        findings=names,
        by=["site"],
        resamples=60,
    )


def test_a_film_without_a_label_is_left_out_of_that_finding_and_every_table_says_how_many(
    films, found
):
    predictions, labels = films
    ranking = found.tables["ranking"].set_index("finding")
    assert ranking.index.tolist() == NAMES  # no "No Finding": nobody said what else there may be
    calibration = found.tables["calibration"].set_index("finding")
    bins = found.tables["reliability"].groupby("finding")["n"].sum()
    points = found.tables["operating_points"].set_index("finding")
    for name in NAMES:
        known = labels[name].notna()
        y, p = labels[name][known].astype(bool), predictions[name][known]
        assert ranking.loc[name, "auroc"] == pytest.approx(roc_auc_score(y, p))
        assert ranking.loc[name, "auroc_low"] < ranking.loc[name, "auroc"]
        n = known.sum()
        assert (ranking.loc[name, "n_images"], calibration.loc[name, "n_images"], bins[name]) == (
            (n, n, n)
        )
        assert ranking.loc[name, "n_patients"] == labels["patient"][known].nunique()
        assert calibration.loc[name, "prevalence"] == pytest.approx(y.mean())
        assert 0 < points.loc[name, ["tp", "fp", "fn", "tn"]].sum(axis=1).max() < n
    assert ranking["n_images"].iloc[0] == 300 > ranking["n_images"].iloc[1]
    assert found.mean["auroc"][0] == pytest.approx(ranking["auroc"].mean())


def test_what_only_one_side_has_is_named(films, found):
    assert "Never predicted: labels but no predictions." in found.notes
    assert "Extra: predictions but no labels." in found.notes
    predictions, labels = films
    with pytest.raises(ValueError, match="a finding with predictions and labels, got predictions"):
        evaluate(predictions, labels, findings=["Never predicted"])
    empty = labels.assign(**{NAMES[1]: np.nan})
    fewer = evaluate(predictions, empty, findings=NAMES, resamples=20)
    assert f"{NAMES[1]}: predictions but no labels." in fewer.notes
    weighted = evaluate(predictions, labels.assign(weight=2.0), findings=NAMES, resamples=20)
    assert any("weight is not used" in note for note in weighted.notes)


def test_groups_of_ones_own(films, found):
    predictions, labels = films
    table = found.tables["subgroups"]
    assert set(table["attribute"]) == {"sex", "site", "age"}
    assert set(table["group"][table["attribute"] == "sex"]) == {"M", "F", "other"}
    row = table[(table["group"] == "Tainan") & (table["finding"] == NAMES[1])].iloc[0]
    inside = (labels["site"] == "Tainan") & labels[NAMES[1]].notna()
    y, p = labels[NAMES[1]][inside].astype(bool), predictions[NAMES[1]][inside]
    assert row["n_films"] == inside.sum()
    assert row["estimate"] == pytest.approx(roc_auc_score(y, p))
    aged = table[(table["attribute"] == "age") & (table["finding"] == NAMES[0])]
    assert aged["n_films"].sum() == labels["age"].notna().sum()
    for column in ("hospital", "image"):
        with pytest.raises(ValueError, match=f"at most 50 values to part films by, got '{column}'"):
            evaluate(predictions, labels, findings=NAMES, by=[column])


def test_the_page_shows_any_name_and_as_many_figures_as_there_are(films, found, recwarn):
    page = render(found, {})
    assert not [w for w in recwarn if "Glyph" in str(w.message)] or not _chinese()
    assert page.count("<img") == 4
    assert "<td>Rib fracture</td>" in page
    assert f"<td>{NAMES[1]}</td>" in page
    assert "<b>" not in page
    assert "Line &lt;b&gt;&amp;&quot;$x$" in page.partition("<h2>Thresholds")[0]
    one = evaluate(films[0], films[1][["image", "patient", NAMES[1]]], findings=NAMES, resamples=20)
    page = render(one, {})
    assert page.count("<img") == 3  # there are no groups to draw
    assert "0 figures in groups and 0 comparisons" in page


def _chinese():
    from matplotlib.font_manager import get_font_names

    from chexlib.report import EAST

    return set(EAST) & set(get_font_names())


def test_one_positive_film_gives_a_figure_without_an_interval_and_says_why(films):
    predictions, labels = films
    rare = labels.assign(Rare=labels.index == 7)
    found = evaluate(predictions.assign(Rare=predictions[NAMES[0]]), rare, findings=["Rare"])
    row = found.tables["ranking"].iloc[0]
    assert np.isfinite(row["auroc"])
    assert np.isnan(row["auroc_low"])
    assert any("The interval of Rare and of the mean: fewer than two" in n for n in found.notes)
    assert "undefined" in render(found, {})


def call(*words):
    return CliRunner().invoke(app, ["evaluate", *map(str, words), "--resamples", "100"])


@pytest.fixture
def files(films, tmp_path, monkeypatch):
    """Predictions by file name and path, as ``predict --identify`` writes them."""
    monkeypatch.chdir(tmp_path)
    predictions, labels = films
    out = predictions.rename(columns={"image": "Image Index"})
    out.insert(1, "Path", out["Image Index"])
    out.insert(2, "PatientID", "A1")
    out.to_csv("p.csv", index=False)
    return labels.assign(**{name: labels[name].astype(float) for name in NAMES})


def test_labels_as_spreadsheets_of_any_country_write_them(files, films):
    """Semicolons, decimal commas, UTF-16, Windows paths, empty cells and True and False."""
    table = files.rename(columns={"image": "Path", "sex": "Gender", "age": "Patient Age"})
    table["Path"] = "D:\\films\\" + table["Path"].str.replace("/", "\\")
    table[NAMES[0]] = table[NAMES[0]].map({1: "True", 0: "False"})
    table["Patient Age"] = table["Patient Age"].map("{:.1f}".format).str.replace("nan", "")
    table["Patient Age"] = table["Patient Age"].str.replace(".", ",")
    table["split"] = np.where(table["patient"] < "p010", "Train", "test")
    table.to_csv("l.csv", index=False, sep=";", encoding="utf-16")
    done = call("p.csv", "--labels", "l.csv", "--by", "site", "--out", "r")
    assert done.exit_code == 0, done.output
    assert "10 of 150 patients (20 films) are in the list of training" in done.output
    ranking = pd.read_csv("r/ranking.csv")
    expected = evaluate(*films, findings=NAMES, resamples=100).tables["ranking"]
    np.testing.assert_allclose(ranking["auroc"], expected["auroc"])
    assert set(pd.read_csv("r/subgroups.csv")["attribute"]) == {"sex", "site", "age"}


def test_a_column_of_names_and_a_choice_of_findings(files):
    names = [", ".join(n for n in NAMES[:2] if row[n] == 1) for _, row in files.iterrows()]
    table = files[["image", "patient"]].assign(labels=[text or "No Finding" for text in names])
    table.to_csv("l.csv", index=False)
    done = call("p.csv", "--labels", "l.csv", "--separator", ", ", "--out", "r")
    assert done.exit_code == 0, done.output
    assert 'not computed Line <b>&"$x$: predictions but no labels.' in done.output
    assert sorted(pd.read_csv("r/ranking.csv")["finding"]) == sorted(NAMES[:2])
    some = call(
        *("p.csv", "--labels", "l.csv", "--separator", ", ", "--findings", NAMES[1], "--out", "s")
    )
    assert some.exit_code == 0, some.output
    assert pd.read_csv("s/ranking.csv")["finding"].tolist() == [NAMES[1]]


def test_uncertain_labels_need_a_word(files):
    table = files.assign(**{NAMES[1]: files[NAMES[1]].fillna(-1)})
    table.to_csv("l.csv", index=False)
    refused = call("p.csv", "--labels", "l.csv", "--out", "r")
    assert refused.exit_code == 1
    assert "-1" in refused.output
    counts = {}
    for word in ("positive", "negative", "missing"):
        done = call("p.csv", "--labels", "l.csv", "--uncertain", word, "--out", word)
        assert done.exit_code == 0, done.output
        row = pd.read_csv(f"{word}/ranking.csv").set_index("finding").loc[NAMES[1]]
        counts[word] = (row["n_images"], row["n_positive"])
    known, positive = files[NAMES[1]].count(), int(files[NAMES[1]].sum())
    assert counts == {
        "positive": (300, positive + 300 - known),
        "negative": (300, positive),
        "missing": (known, positive),
    }


def test_readers_of_ones_own_findings(files):
    files.to_csv("l.csv", index=False)
    rng = np.random.default_rng(3)
    reads = [
        pd.DataFrame({"image": files["image"], "reader": reader}).assign(
            **{NAMES[0]: ((files[NAMES[0]] == 1) ^ (rng.random(300) < 0.1)).astype(int)}
        )
        for reader in ("Lin", "Chen", "Wu")
    ]
    pd.concat(reads).to_csv("reads.csv", index=False)
    done = call("p.csv", "--labels", "l.csv", "--readers", "reads.csv", "--out", "r")
    assert done.exit_code == 0, done.output
    table = pd.read_csv("r/readers.csv")
    assert table["finding"].unique().tolist() == [NAMES[0]]
    assert table["reader"].tolist() == ["Chen", "Lin", "Wu", "mean"]
    page = Path("r/report.html").read_text(encoding="utf-8")
    assert "<td>Chen</td>" in page
    files[["image", "patient", NAMES[1]]].to_csv("other.csv", index=False)
    refused = call("p.csv", "--labels", "other.csv", "--readers", "reads.csv", "--out", "s")
    assert refused.exit_code == 1
    assert "at least one finding" in refused.output
