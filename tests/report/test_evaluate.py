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
from chexlib.data import load_labels, read_readers
from chexlib.evaluation import STEPS
from chexlib.findings import FINDINGS
from chexlib.metrics import any_of, choose, compare_with_reader, youden
from chexlib.metrics.thresholds import RULES
from chexlib.pitfalls import pitfalls
from chexlib.report import evaluate, render, write_report

TABLES = ("ranking", "operating_points", "calibration", "reliability", "subgroups")
TABLES += ("checks", "columns")


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


@pytest.fixture(scope="module")
def reads(films):
    """Three readers of 400 films who see what the label says, one of them with false alarms."""
    rng = np.random.default_rng(1)
    part = films[1].head(400)
    frames = []
    for reader, alarms in (("one", 0.02), ("two", 0.02), ("three", 0.3)):
        called = part[list(FINDINGS)] | (rng.random((len(part), 14)) < alarms)
        frames.append(called.assign(image=part["image"], reader=reader))
    return pd.concat(frames, ignore_index=True)


def test_readers_stand_beside_the_score(films, reads, csv, tmp_path):
    path = tmp_path / "reads.csv"
    shown = reads.assign(Effusion=np.where(reads["Effusion"], "YES", "no"), Abnormal=1)
    shown.rename(columns={"image": "Image ID", "reader": "Reader ID"}).to_csv(path, index=False)
    back = read_readers(path)
    assert back.attrs["unused"] == ["Abnormal"]
    pd.testing.assert_frame_equal(back[reads.columns], reads, check_dtype=False)
    table = evaluate(*films, readers=back, resamples=100).tables["readers"]
    row = table[(table["finding"] == "Effusion") & (table["reader"] == "three")].iloc[0]
    wide = reads.pivot(index="image", columns="reader", values="Effusion")
    wide = wide.loc[films[1]["image"].head(400)]
    truth = (wide["one"] & wide["two"]).to_numpy()
    own = compare_with_reader(
        truth,
        films[0]["Effusion"].head(400),
        wide["three"].to_numpy(),
        patient=films[1]["patient"].head(400),
        resamples=100,
    )
    assert (row["score"], row["sensitivity"]) == pytest.approx((own.first, own.second))
    assert row["false_positive_rate"] == pytest.approx(wide["three"][~truth].mean())
    assert row["n_positive"] == truth.sum()
    assert table.loc[table["n_positive"] < 20, "above"].eq("too few").all()
    out = tmp_path / "here"
    arguments = ["evaluate", str(csv), "--readers", str(path), "--resamples", "100"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "reads.csv, SHA-256" in page
    assert "<td>three</td>" in page
    elsewhere = reads.assign(image="elsewhere.png")
    with pytest.raises(ValueError, match="reads of some of the predicted films"):
        evaluate(*films, readers=elsewhere.drop_duplicates("reader"), resamples=100)


def _in_alphabetical_order(p):
    return p.assign(**dict(zip(FINDINGS, p[sorted(FINDINGS)].to_numpy().T, strict=True)))


@pytest.mark.parametrize(
    ("spoil", "check", "columns", "said"),
    [
        (lambda p: p, None, [], ""),
        (_in_alphabetical_order, "order", ["Consolidation", "Mass"], "column of Effusion"),
        (lambda p: p.assign(Mass=1 - p["Mass"]), "reversed", ["Mass"], "below 0.5"),
        (lambda p: p.assign(Mass=0.1), "constant", ["Mass"], "every film has 0.1"),
        (lambda p: p.assign(Mass=(p["Mass"] > 0.5) * 1.0), "calls", ["Mass"], "two values"),
        (lambda p: p.assign(Mass=1 / (1 + np.exp(-p["Mass"]))), "sigmoid", ["Mass"], "0.5"),
    ],
)
def test_a_strange_auroc_is_explained(films, spoil, check, columns, said):
    labels = films[1][list(FINDINGS)]
    found = pitfalls(labels, spoil(films[0])[list(FINDINGS)], films[1]["patient"])
    hernia = found[found["column"] == "Hernia"]
    assert "no positives" in hernia["check"].tolist()
    found = found[found["check"] == check]
    assert set(columns) <= set(found["column"])
    assert found["seen"].str.contains(said).any() == (check is not None)
    assert found["advice"].str.len().gt(40).all()


def test_columns_in_order_raise_no_alarm_on_few_films(films):
    rng = np.random.default_rng(0)
    for _ in range(20):
        some = rng.choice(len(films[0]), 150, replace=False)
        labels, scores = films[1].iloc[some], films[0].iloc[some]
        found = pitfalls(labels[list(FINDINGS)], scores[list(FINDINGS)], labels["patient"])
        assert not found["check"].isin(["order", "reversed"]).any()


def test_patients_of_a_list_are_found(films, csv, tmp_path):
    path, labels = tmp_path / "train.txt", load_labels()
    other = labels[(labels["patient"] == labels["patient"].iloc[0]) | (labels["patient"] > 30000)]
    path.write_text("\n".join(other["image"]) + "\n")
    arguments = ["evaluate", str(csv), "--trained-on", str(path), "--resamples", "100"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "here")])
    assert done.exit_code == 0, done.output
    n = films[1]["patient"].nunique()
    assert f"1 of {n} patients" in " ".join(done.output.split())
    path.write_text("stranger.png\n")
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "there")])
    assert done.exit_code == 1
    assert "stranger.png" in done.output


def test_some_of_nihs_findings_are_enough(films, csv, tmp_path):
    some = ["Image Index", "Mass", "Pleural_Thickening"]
    pd.read_csv(csv)[some].to_csv(csv, index=False)
    arguments = ["evaluate", str(csv), "--resamples", "100", "--out", str(tmp_path / "r")]
    refused = CliRunner().invoke(app, arguments)
    assert "missing: Atelectasis" in refused.output
    done = CliRunner().invoke(app, [*arguments, "--findings", "mass, Pleural Thickening"])
    assert done.exit_code == 0, done.output
    ranking = pd.read_csv(tmp_path / "r" / "ranking.csv")
    assert ranking["finding"].tolist() == some[1:]  # and no "No Finding" of two
