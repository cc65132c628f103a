"""The command line: what it says, what it returns, and how quickly it starts."""

import functools
import hashlib
import http.server
import os
import re
import runpy
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chexlib import __version__
from chexlib.cli import app
from chexlib.data import fetch as fetch_module
from chexlib.data.fetch import REGISTRY, Entry, RemoteFile
from chexlib.findings import FINDINGS, INFO

WIDE = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command with an empty data folder; returns the result."""
    monkeypatch.setenv("CHEXLIB_DATA", str(tmp_path / "data"))
    return lambda *arguments: CliRunner().invoke(app, arguments, env=WIDE)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def an_entry(tmp_path, monkeypatch):
    """An entry named ``test`` in the registry, served on loopback."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = tmp_path / "served"
    served.mkdir()
    (served / "file.csv").write_bytes(b"a,b\n1,2\n")
    handler = functools.partial(Quiet, directory=served)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    file = RemoteFile(
        path="folder/file.csv",
        url=f"http://127.0.0.1:{httpd.server_port}/file.csv",
        hash="sha256:" + hashlib.sha256(b"a,b\n1,2\n").hexdigest(),
        size=8,
    )
    item = Entry(
        name="test",
        title="A test [file]",
        files=(file,),
        licence="CC0",
        citation="Nobody",
        homepage="https://example.org",
    )
    monkeypatch.setitem(REGISTRY, "test", item)
    yield served / "file.csv"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def one_error(result):
    """Return the one line, the last, in which a failed command says why."""
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: Expected")
    return last


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_teaches(run, arguments):
    result = run(*arguments)
    for words in ("Not for clinical use", "chexlib fetch --list", "chexlib findings", "info"):
        assert words in result.output
    for command in ("train", "predict", "evaluate", "explain"):
        assert re.search(rf"^\W*{command}\b", result.output, re.MULTILINE)


@pytest.mark.parametrize(
    "command", ["evaluate", "explain", "export", "fetch", "findings", "info", "predict", "train"]
)
def test_every_command_has_help(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.output
    if command != "info":
        example = {"evaluate": "predictions.csv", "predict": "film", "explain": "film"}.get(
            command, "runs/" if command == "export" else "--"
        )
        assert f"chexlib {command} {example}" in result.output


def test_version(run):
    assert run("--version").output.strip() == f"chexlib {__version__}"


def test_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["chexlib", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("chexlib", run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out == f"chexlib {__version__}\n"


def test_as_a_module_help_is_quick_and_loads_nothing_heavy():
    script = (
        "import runpy, sys\n"
        "sys.argv = ['chexlib', '--help']\n"
        "try: runpy.run_module('chexlib', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'pandas', 'numpy', 'pooch', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    assert time.perf_counter() - start < 5  # about 0.3 s; generous, for a busy machine


def test_the_findings_have_both_names(run):
    output = run("findings").output
    assert [name for name in FINDINGS if name in output] == list(FINDINGS)
    assert all(info.chinese in output for info in INFO.values())
    assert "infiltrate" in run("findings", "--aliases").output


def test_list_names_everything_and_its_state(run, tmp_path, an_entry):
    output = run("fetch", "--list").output
    for name, item in REGISTRY.items():
        assert name in output
        assert item.licence.split()[0] in output
    assert "A test [file]" in output
    assert "about 42.0 GB" in output
    assert "not published" in output
    assert "present" not in output
    assert not (tmp_path / "data").exists()


def test_the_list_fits_a_terminal_of_80_columns(tmp_path, monkeypatch):
    monkeypatch.setenv("CHEXLIB_DATA", str(tmp_path / "data"))
    result = CliRunner().invoke(app, ["fetch", "--list"], env=WIDE | {"COLUMNS": "80"})
    shown = result.output.split("\n")[1:]  # the first names the folder
    assert max(map(len, shown)) <= 80
    words = " ".join(result.output.split())
    assert "…" not in words
    for item in REGISTRY.values():
        assert f"{item.title}. Licence: {item.licence}" in words
    assert len(shown) <= 3 * len(REGISTRY) + 4


def test_list_of_one_gives_its_sources(run):
    output = run("fetch", "--list", "predictions", "weights-jrzech").output
    for file in REGISTRY["predictions"].files:
        assert file.url in output
        assert file.hash in output
    assert "4,188,340 bytes" in output
    assert "no published hash" in output
    assert "BSD-3-Clause" in output


def test_fetch_and_fetch_again(run, tmp_path, an_entry):
    result = run("fetch", "test")
    assert result.exit_code == 0, result.output
    assert "A test [file]" in result.output
    assert "licence: CC0. Cite: Nobody" in result.output
    assert "file.csv" in result.stderr  # the progress bar
    target = tmp_path / "data/folder/file.csv"
    assert f"ready {target}" in result.stdout
    assert target.read_bytes() == an_entry.read_bytes()
    an_entry.unlink()
    assert run("fetch", "test").exit_code == 0
    assert "present" in run("fetch", "--list", "test").output
    assert "HTTP status 404" in one_error(run("fetch", "test", "--force"))
    assert target.exists()


def test_fetch_to_another_folder(run, tmp_path, an_entry):
    assert run("fetch", "test", "--dest", str(tmp_path / "else")).exit_code == 0
    assert (tmp_path / "else/folder/file.csv").exists()
    assert not (tmp_path / "data").exists()


def test_a_wrong_file_is_one_line(run, tmp_path, an_entry):
    an_entry.write_bytes(b"a,b\n1,3\n")
    line = one_error(run("fetch", "test"))
    assert "sha256:" in line
    assert "dropped" in line


def test_a_file_without_a_hash_is_shown_as_unchecked(run, tmp_path):
    folder = tmp_path / "data/weights/jrzech"
    folder.mkdir(parents=True)
    (folder / "checkpoint").write_bytes(b"x")
    assert "present, unchecked" in run("fetch", "--list", "weights-jrzech").output


def test_some_of_several_files(run, tmp_path, an_entry, monkeypatch):
    item = REGISTRY["test"]
    second = RemoteFile(path="other.csv", url="http://127.0.0.1:9/", hash="md5:0", size=1)
    monkeypatch.setitem(REGISTRY, "test", Entry(**{**vars(item), "files": (*item.files, second)}))
    folder = tmp_path / "data/folder"
    folder.mkdir(parents=True)
    (folder / "file.csv").write_bytes(an_entry.read_bytes())
    assert "1 of 2" in run("fetch", "--list", "test").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fetch"], "chexlib fetch --list"),
        (["fetch", "prediction"], "Did you mean 'predictions'?"),
        (["fetch", "weights-arnoweng"], "--hash sha256:"),
        (["fetch", "split", "--hash", "0" * 64], "Leave it out"),
    ],
)
def test_errors_are_one_line(run, arguments, words):
    assert words in one_error(run(*arguments))


def test_an_interrupted_fetch_says_how_to_go_on(run, an_entry, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch_module, "fetch", interrupt)
    result = run("fetch", "test")
    assert result.exit_code == 130
    assert "Repeat the command" in result.stderr


def test_info(run, tmp_path, monkeypatch):
    output = run("info").output
    assert f"chexlib                   {__version__}" in output
    assert f"{tmp_path / 'data'} (not there)" in output
    assert all(name in output for name in REGISTRY)
    from importlib.metadata import PackageNotFoundError

    def version(package):
        if package == "torch":
            raise PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr("chexlib.cli.about.version", version)
    assert "not installed" in run("info").output


def test_info_and_help_name_both_folders(run, tmp_path, monkeypatch):
    monkeypatch.setenv("CHEXLIB_CACHE", str(tmp_path / "cache"))
    output = run("info").output
    for name in ("data", "cache"):
        assert re.search(rf"^{name} folder +{tmp_path / name} \(not there\)$", output, re.MULTILINE)
    for command in ("cache", "info"):
        assert "CHEXLIB_CACHE" in run(command, "--help").output


@pytest.mark.parametrize("command", ["evaluate", "localize"])
def test_resamples_beyond_reason_are_refused(run, command):
    options = ["--checkpoint", "none"] if command == "localize" else []
    result = run(command, "none", *options, "--resamples", "1000000000")
    assert result.exit_code == 2
    said = " ".join(result.output.replace("│", " ").split())  # it stands in a box
    assert "'--resamples': Input should be less than or equal to 100000" in said


@pytest.mark.real_data
def test_the_real_folder_is_found_present():
    home = Path(os.environ.get("CHEXLIB_DATA") or "does-not-exist")
    if not (home / "official_split").is_dir():
        pytest.skip("needs: chexlib fetch split")
    result = subprocess.run(
        [sys.executable, "-m", "chexlib", "fetch", "split"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("ready") == 2
