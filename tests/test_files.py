"""Files that are there whole or not at all, and readable by whom the umask says."""

import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import write_table
from PIL import Image
from typer.testing import CliRunner

from chexlib.cli import app
from chexlib.files import Journal, data_home, package_file, remove_drafts, write_atomically
from chexlib.models import CheXNet, phantom_checkpoint, save_checkpoint


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def write(path, text):
    write_atomically(path, lambda draft: draft.write_text(text))


@pytest.fixture
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o022, 0o002], indirect=True, ids=oct)
def test_permissions_are_what_open_would_give(tmp_path, umask):
    write(tmp_path / "new", "text")
    with (tmp_path / "plain").open("w"):
        pass
    assert mode(tmp_path / "new") == mode(tmp_path / "plain") == 0o666 & ~umask
    for kept in (0o600, 0o640, 0o644, 0o664):
        (tmp_path / "new").chmod(kept)
        write(tmp_path / "new", "other")
        assert mode(tmp_path / "new") == kept


def test_a_draft_is_its_owners_alone(tmp_path):
    seen = []
    write_atomically(tmp_path / "file", lambda draft: seen.append(mode(draft)))
    assert seen == [0o600]


@pytest.mark.parametrize("umask", [0o077], indirect=True, ids=oct)
def test_nothing_that_is_written_is_for_others_where_the_umask_says_so(
    tmp_path, monkeypatch, umask
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHEXLIB_CACHE", str(tmp_path / "cache"))
    films = tmp_path / "films"
    films.mkdir()
    Image.fromarray(np.tile(np.arange(128, dtype=np.uint8), (128, 1))).save(films / "film.png")
    (films / "bad.png").write_text("no film")
    weights = ["--checkpoint", str(phantom_checkpoint())]
    for words in (
        ["predict", "films/film.png", *weights, "--out", "one.csv"],
        ["predict", "films", *weights, "--out", "all.csv"],
        ["explain", "films/film.png", *weights, "--finding", "Mass", "--dicom"],
        ["localize", "phantom", *weights, "--patients", "5", "--resamples", "100", "--out", "map"],
        ["cache", "films", "films-cache"],
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    save_checkpoint(CheXNet(growth_rate=1), tmp_path / "m.safetensors")
    about = {"source": "s", "licence": "l", "inputs": [], "command": "c"}
    write_table(pd.DataFrame({"a": [1]}), tmp_path / "t.csv", **about)
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len({path.suffix for path in made} & {".csv", ".json", ".png", ".dcm"}) == 4
    names = {path.stem.partition("-")[0] for path in made if path.suffix == ".csv"}
    assert {"all", "rejected", "boxes"} < names
    assert [path.name for path in made if mode(path) & 0o077] == []


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    write(tmp_path / "file", "before")

    def broken(draft):
        draft.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "file", broken)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="found the disk full"):
        write(tmp_path / "file", "after")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "before"


def test_other_errors_of_a_disk_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "no" / "file", "")


def test_a_pipe_or_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "null", "."):
        with pytest.raises(OSError, match="found a folder, a pipe or a device"):
            write(tmp_path / name, "text")
    assert (tmp_path / "pipe").is_fifo()
    assert Path("/dev/null").is_char_device()


def test_a_journal_keeps_what_is_whole_and_of_its_job(tmp_path):
    path, names = tmp_path / "job.part", ["a", "b"]

    def journal(mark="one"):
        return Journal(path, mark, sound=lambda task: bool(names[task]))

    def stopped(*tasks, mark="one"):
        with journal(mark) as job:
            for task in tasks:
                job.add(task)
            raise OSError("stopped")

    with pytest.raises(OSError, match="stopped"):
        stopped(1, 5)  # 5 is of no name, as if somebody had written it
    whole = path.read_bytes()
    path.write_bytes(whole + b"0123")
    assert journal().tasks == [1]
    assert path.read_bytes() == whole[: whole.rindex(b"\n", 0, -1) + 1]
    with pytest.raises(ValueError, match=r"job\.part to be of these films"):
        journal("two")
    with journal():
        pass
    assert not path.exists()
    with pytest.raises(OSError, match="stopped"):
        stopped(mark="two")
    assert not path.exists()


def test_what_a_kill_left_is_removed(tmp_path):
    (tmp_path / "kept").write_text("")
    if not (child := os.fork()):
        write_atomically(tmp_path / "file", lambda _: os._exit(1))
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 2
    remove_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_the_environment_names_the_folder_or_it_is_in_the_users_cache(monkeypatch, tmp_path):
    for named, folder in ((str(tmp_path), tmp_path), ("~/x", Path.home() / "x")):
        monkeypatch.setenv("CHEXLIB_DATA", named)
        assert data_home() == folder
    monkeypatch.delenv("CHEXLIB_DATA")
    assert data_home().name == "chexlib"


def test_missing_package_and_file_say_what_to_install():
    with pytest.raises(FileNotFoundError, match="pip install no_such_package"):
        package_file("no_such_package", "a.csv")
    with pytest.raises(FileNotFoundError, match=r"requirements\.lock"):
        package_file("torchxrayvision", "data", "none.csv")
