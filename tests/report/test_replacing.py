"""Nothing that a user has is lost to ``--force``, and a kill leaves one whole report."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from chexlib import report as page
from chexlib.data import load_labels
from chexlib.findings import FINDINGS
from chexlib.report import Evaluation


@pytest.fixture
def csv(tmp_path):
    labels = load_labels().head(400)
    rng = np.random.default_rng(0)
    p = rng.random((len(labels), 14)).round(4)
    path = tmp_path / "films" / "mine.csv"
    path.parent.mkdir()
    frame = pd.DataFrame(p, columns=list(FINDINGS))
    frame.insert(0, "Image Index", labels["image"].to_numpy())
    frame.to_csv(path, index=False)
    return path


def chexlib(*words, cwd):
    command = [sys.executable, "-m", "chexlib", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_command_replaces_its_own_files_alone(csv):
    here = csv.parent
    (here / "report.html").write_text("my own page")
    (here / "notes").mkdir()
    (here / "notes" / "kept.txt").write_text("years of work")
    before = tree(here)
    for out in (".", ".."):
        refused = chexlib("evaluate", csv, "--out", out, "--force", cwd=here)
        assert refused.returncode == 1
        assert refused.stderr.startswith("Error: Expected a folder for the report alone, got")
    refused = chexlib("evaluate", csv, "--out", ".", "--force", cwd=here / "notes")
    assert "which is the working folder or above it" in refused.stderr
    (here / "notes" / "report.html").write_text("my own page")
    before = tree(here)
    refused = chexlib("evaluate", csv, "--out", "notes", "--force", cwd=here)
    assert "found no list of its files (manifest.json); nothing was replaced" in refused.stderr
    assert tree(here) == before

    arguments = ("evaluate", csv, "--out", "report", "--force", "--resamples", "100")
    made = chexlib(*arguments, cwd=here)
    assert made.returncode == 0, made.stderr
    first = (here / "report" / "report.html").stat()
    again = chexlib(*arguments, cwd=here)
    assert again.returncode == 0, again.stderr
    assert (here / "report" / "report.html").stat().st_ino != first.st_ino
    assert {p: before[p] for p in before} == {p: tree(here)[p] for p in before}


def evaluation(k):
    """Return figures of no film, told apart by a number; drawing is tested elsewhere."""
    return Evaluation(None, None, 0, {"ranking": pd.DataFrame({"k": [k]})}, {}, (str(k),))


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "render", lambda found, _facts: f"page {found.notes[0]}")
    folder = tmp_path / "report"
    return lambda k: page.write_report(evaluation(k), folder, inputs={}, settings={}, force=True)


def which(folder):
    """Return the number of the one whole report in a folder."""
    hashes = json.loads((folder / "manifest.json").read_text())
    assert sorted(hashes) == ["ranking.csv", "report.html"]
    for name, digest in hashes.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert len(list(folder.iterdir())) == 3
    k = int((folder / "report.html").read_text().split()[1])
    assert (folder / "ranking.csv").read_text() == f"k\n{k}\n"
    return k


@pytest.mark.parametrize("change", ["added", "changed", "link", "folder"])
def test_what_a_user_put_there_stays(write, tmp_path, change):
    write(0)
    report, mine = tmp_path / "report", tmp_path / "mine.csv"
    mine.write_text("mine")
    if change == "added":
        (report / "notes.txt").write_text("mine")
    if change == "changed":
        (report / "ranking.csv").write_text("k\n0\nwith a line of mine\n")
    if change == "link":
        (report / "ranking.csv").unlink()
        (report / "ranking.csv").symlink_to(mine)
    if change == "folder":
        (report / "more").mkdir()
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match=r"Expected nothing but an earlier report in .*found"):
        write(1)
    assert tree(tmp_path) == before


def test_a_list_that_names_other_places_is_not_followed(write, tmp_path):
    write(0)
    (tmp_path / "mine.csv").write_text("mine")
    listed = tmp_path / "report" / "manifest.json"
    hashes = json.loads(listed.read_text()) | {"../mine.csv": hashlib.sha256(b"mine").hexdigest()}
    listed.write_text(json.dumps(hashes))
    write(1)
    assert (tmp_path / "mine.csv").read_text() == "mine"


def test_a_file_added_while_the_report_is_made_stays(write, tmp_path, monkeypatch):
    write(0)
    note = tmp_path / "report" / "note.txt"

    def slow(found, _facts):
        note.write_text("mine")
        return "page"

    monkeypatch.setattr(page, "render", slow)
    with pytest.raises(FileExistsError, match="note"):
        write(1)
    assert note.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_before_every_single_change_of_the_disk(write, tmp_path, monkeypatch):
    write(0)
    report, last, places = tmp_path / "report", 0, []
    for number in range(1, 60):
        pid = os.fork()
        if not pid:
            left = [number]

            def counted(made, left=left):
                def call(*arguments, **options):
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return made(*arguments, **options)

                return call

            for name in ("mkdir", "rename", "unlink", "rmdir", "write_text"):
                setattr(Path, name, counted(getattr(Path, name)))
            try:
                write(number)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        places.append((report.exists(), (tmp_path / ".report.earlier").exists()))
        page.check_folder(report, force=True)  # as the next call begins
        found = which(report)
        assert found in (last, number)
        last = found
    assert len(places) >= 8
    assert {(True, False), (False, True), (True, True)} == set(places)
    assert which(report) == number
    for draft in tmp_path.glob(".report.draft-*"):  # what a kill left of new ones
        assert {p.name for p in draft.iterdir()} <= {"report.html", "ranking.csv", "manifest.json"}
