"""``chexlib evaluate``: figures, page, tables, and nothing half-written."""

import os
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from chexlib.cli import app
from chexlib.data import load_labels
from chexlib.findings import FINDINGS
from chexlib.metrics import any_of, choose, youden
from chexlib.metrics.thresholds import RULES
from chexlib.report import STEPS, evaluate, render, write_report

TABLES = ("ranking", "operating_points", "calibration", "reliability", "subgroups")


@pytest.fixture(scope="module")
def films():
    """Simulated probabilities for 900 real label rows; nobody has a hernia."""
    labels = load_labels()
    labels = labels[labels["patient"] < 250]
    labels = labels[~labels["Hernia"]].reset_index(drop=True)
    noise = np.random.default_rng(0).normal(size=(len(labels), 14))
    p = 1 / (1 + np.exp(-(2 * labels[list(FINDINGS)].to_numpy() + noise - 2.5)))
    return pd.DataFrame(p, columns=list(FINDINGS)).assign(image=labels["image"]), labels


@pytest.fixture(scope="module")
def found(films):
    return evaluate(*films, resamples=100)


@pytest.fixture
def csv(films, tmp_path):
    path = tmp_path / "mine.csv"
    films[0].rename(columns={"image": "Image Index"}).to_csv(path, index=False)
    return path


def test_tables_hold_what_the_metrics_say(films, found):
    predictions, labels = films
    ranking = found.tables["ranking"].set_index("finding")
    assert ranking.loc["Mass", "auroc"] == pytest.approx(
        roc_auc_score(labels["Mass"], predictions["Mass"])
    )
    none = roc_auc_score(labels["no_finding"], 1 - any_of(predictions[list(FINDINGS)]))
    assert ranking.loc["No_Finding", "auroc"] == pytest.approx(none)
    assert np.isnan(ranking.loc["Hernia", "auroc"])
    assert found.mean["auroc"][0] == pytest.approx(ranking["auroc"].drop("No_Finding").mean())
    assert any("Hernia" in note for note in found.notes)
    assert set(found.tables) == set(TABLES)
    points = found.tables["operating_points"]
    assert points["rule"].unique().tolist() == list(RULES)
    assert (found.tables["subgroups"]["comparisons"] > 0).all()


def test_thresholds_are_chosen_and_reported_on_different_patients(films, found):
    points = found.tables["operating_points"].dropna(subset="tp")
    one = points[(points["rule"] == "youden") & (points["finding"] == "Effusion")].iloc[0]
    reported = one[["tp", "fp", "fn", "tn"]].sum()
    assert 0.3 * len(films[0]) < reported < 0.7 * len(films[0])
    assert one["threshold"] != choose(films[1]["Effusion"], films[0]["Effusion"], youden)


def test_steps_are_told_and_seeds_repeat(films):
    told = []
    one, other = (evaluate(*films, resamples=20, seed=3, step=told.append) for _ in range(2))
    assert told == [*STEPS, *STEPS]
    for name in TABLES:
        pd.testing.assert_frame_equal(one.tables[name], other.tables[name])


def test_misaligned_films_and_a_single_patient_are_refused(films):
    predictions, labels = films
    with pytest.raises(ValueError, match="match_labels"):
        evaluate(predictions, labels.iloc[::-1])
    one = (labels["patient"] == labels["patient"].mode()[0]).to_numpy()
    with pytest.raises(ValueError, match="two patients"):
        evaluate(predictions[one], labels[one])


def test_page_needs_nothing_else_says_what_it_shows_and_leaves_the_style_alone(found):
    before = dict(mpl.rcParams)
    page = render(found, {"predictions": "<mine>.csv"})
    assert dict(mpl.rcParams) == before
    assert "Not for clinical use" in page
    assert "&lt;mine&gt;.csv" in page
    images = re.findall(r'<img alt="([^"]{40,})" src="data:image/png;base64,[^"]+">', page)
    assert len(images) == len(re.findall("<img", page)) == 4
    without = re.sub(r'src="data:[^"]*"', "", page)
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", without)
    assert page.count("<table>") == page.count("</table>") >= 5


def test_report_is_whole_or_not_there(found, csv, tmp_path, monkeypatch):
    monkeypatch.setattr("chexlib.report.render", lambda *_: "a page")  # drawn in another test
    out = tmp_path / "report"
    options = {"inputs": {"predictions": csv}, "settings": {"seed": 0}}
    before = os.umask(0o077)
    files = write_report(found, out, **options)
    os.umask(before)
    assert [path for path in (out, *files) if path.stat().st_mode & 0o077] == []
    assert sorted(f.name for f in out.iterdir()) == sorted(f.name for f in files)
    assert pd.read_csv(out / "ranking.csv")["finding"].tolist() == [*FINDINGS, "No_Finding"]
    with pytest.raises(FileExistsError, match="--force"):
        write_report(found, out, **options)
    write_report(found, out, force=True, **options)

    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr("chexlib.report.render", fail)
    with pytest.raises(RuntimeError, match="broken"):
        write_report(found, out, force=True, **options)
    assert (out / "report.html").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.csv", "report"]
    other = tmp_path / "photos"
    other.mkdir()
    with pytest.raises(FileExistsError, match="nothing was replaced"):
        write_report(found, other, force=True, **options)
    with pytest.raises(FileNotFoundError, match="Make it first"):
        write_report(found, tmp_path / "a" / "b", **options)


def test_command_writes_the_report(csv, tmp_path):
    out = tmp_path / "here"
    arguments = ["evaluate", str(csv), "--out", str(out), "--resamples", "100"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "mean AUROC" in done.output
    assert "not computed" in done.output
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "mine.csv, SHA-256" in page
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "--force" in again.output


def test_command_says_where_a_file_is_wrong(csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    csv.write_text(csv.read_text().replace("Mass", "Mess", 1))
    done = CliRunner().invoke(app, ["evaluate", str(csv)])
    assert done.exit_code == 1
    assert "Mess" in done.output
    assert not (tmp_path / "mine-report").exists()
