"""pyproject.toml, requirements.lock and environment.yml in step; the Makefile does what it says."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WANTED = [
    Requirement(line)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in group
]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINS = [Requirement(line) for line in LOCK.splitlines() if line and not line.startswith("#")]


def release(pin):
    return str(pin.specifier).removeprefix("==")


def test_each_dependency_gives_its_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for requirement in WANTED:
        assert re.search(rf'"{re.escape(requirement.name)}[^"]*", +# \w', text), requirement


def test_lock_is_exact_and_names_no_place():
    assert all(re.fullmatch(r"==[\w.+]+", str(pin.specifier)) and not pin.url for pin in PINS)
    assert len({pin.name for pin in PINS}) == len(PINS)
    assert not re.search(r"://|--|file:|@ ", LOCK)


def test_lock_covers_what_the_project_asks_for():
    pins = {pin.name: release(pin) for pin in PINS}
    for requirement in WANTED:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_what_the_code_imports_is_locked():
    """A package that somebody installed by hand would be missed on a fresh machine only."""
    files = [
        path
        for folder in ("chexlib", "book", "data", "tests", "tools")
        for path in (ROOT / folder).rglob("*.py")
    ]
    sources = [path.read_text(encoding="utf-8") for path in files]
    for notebook in (ROOT / "book").glob("*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        sources += ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    imported = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(node.module.partition(".")[0])
    ours = {path.stem for path in files} | {"chexlib", "figures"}
    providers = metadata.packages_distributions()
    pins = {pin.name for pin in PINS}
    for name in imported - ours - set(sys.stdlib_module_names):
        assert pins & {canonicalize_name(found) for found in providers.get(name, [])}, name


def test_lock_holds_together():
    """Whatever a pinned package needs is pinned too, at a release that it accepts."""
    pins = {pin.name: pin for pin in PINS}
    here = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate()]
    for pin in here:
        for line in metadata.requires(pin.name) or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                found = pins[canonicalize_name(need.name)]
                assert need.specifier.contains(release(found), prereleases=True), (pin, need)


def test_what_is_installed_is_what_is_locked():
    here = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate()]
    assert {pin.name: release(pin) for pin in here} == {
        pin.name: metadata.version(pin.name) for pin in here
    }


def test_lock_installs_on_the_oldest_python_named():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f"({oldest.replace('.', ', ')})" in (ROOT / "Makefile").read_text(encoding="utf-8")
    for pin in PINS:
        if pin.marker is None:
            needs = metadata.metadata(pin.name).get("Requires-Python") or ""
            assert SpecifierSet(needs).contains(oldest), (pin, needs)


def test_packages_of_one_system_are_marked():
    for pin in PINS:
        if re.match(r"nvidia-|cuda-|triton$", pin.name):
            assert str(pin.marker) == 'sys_platform == "linux"', pin
        if pin.name == "appnope":
            assert str(pin.marker) == 'sys_platform == "darwin"'


def test_conda_environment_is_in_step():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    plain = [line for line in conda if isinstance(line, str)]
    (pip,) = (line["pip"] for line in conda if isinstance(line, dict))
    assert f"python{PROJECT['requires-python']}" in plain
    assert "--editable ." in pip
    lines = [line for line in plain + pip if not re.match(r"python[>=]|pip$|--editable", line)]
    lines = [re.sub(r"^pytorch(?=[<>=])", "torch", line) for line in lines]
    assert sorted(lines) == sorted(
        requirement.name + line_of(requirement) for requirement in WANTED
    )


def line_of(requirement):
    """Return the bounds as pyproject.toml writes them, the lower one first."""
    return ",".join(sorted(str(requirement.specifier).split(","), reverse=True))


INPUTS = ("chexlib/a.py", "book/figures/b.py", "data/c.csv")


@pytest.fixture
def scratch(tmp_path):
    """A folder with the Makefile and a stand-in for the environment that it would install."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in (*INPUTS, "requirements.lock", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    python, builder = tools / "python", tools / "jupyter-book"
    python.write_text("#!/bin/sh\n")  # runs notebooks ahead
    builder.write_text(
        "#!/bin/sh\n"
        "mkdir -p _build/html _build/.jupyter_cache\n"
        'echo "$CHEXLIB_DATA" > _build/html/fetched.txt\n'
        'echo "$@" > _build/html/arguments.txt\n'
        "echo run >> _build/.jupyter_cache/runs\n"
        "test ! -e broken\n"
    )
    python.chmod(0o755)
    builder.chmod(0o755)
    (tmp_path / ".venv" / ".ready").touch()
    return tmp_path


def make(folder, *arguments, **variables):
    # Also without what `make VENV=…` was told, or it would install into that environment.
    inherited = re.compile("MAKE|(VENV|PYTHON)$")
    kept = {name: value for name, value in os.environ.items() if not inherited.match(name)}
    return subprocess.run(
        ["make", "-C", folder, *arguments],
        env=kept | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def runs(folder):
    return len((folder / "_build/.jupyter_cache/runs").read_text().split())


def test_make_book_keeps_the_cache_until_code_or_data_change(scratch):
    assert make(scratch, "book").returncode == 0
    assert make(scratch, "book").returncode == 0
    assert runs(scratch) == 2  # one cache over both
    for name in (*INPUTS, "chexlib/new.py"):
        (scratch / name).write_text("2\n")
        assert make(scratch, "book").returncode == 0
        assert runs(scratch) == 1, name
    (scratch / "chexlib/new.py").unlink()
    make(scratch, "book")
    assert runs(scratch) == 1


def test_make_book_starts_afresh_and_sees_no_fetched_file(scratch):
    (scratch / "_build/html").mkdir(parents=True)
    (scratch / "_build/html/old.html").touch()
    assert make(scratch, "book", CHEXLIB_DATA="/somewhere").returncode == 0
    assert not (scratch / "_build/html/old.html").exists()
    fetched = Path((scratch / "_build/html/fetched.txt").read_text().strip())
    assert fetched.is_absolute()
    assert not fetched.exists()
    assert (scratch / "_build/html/arguments.txt").read_text() == "build . -W -n --keep-going\n"


def test_make_book_fails_when_the_build_does(scratch):
    (scratch / "broken").touch()
    assert make(scratch, "book").returncode != 0


def test_make_refuses_an_old_python(scratch):
    (scratch / ".venv/.ready").unlink()
    old = scratch / "old-python"
    old.write_text("#!/bin/sh\ncase $1 in -c) exit 1;; *) echo Python 3.9.2;; esac\n")
    old.chmod(0o755)
    result = make(scratch, "book", f"PYTHON={old}")
    assert result.returncode != 0
    assert "Expected Python 3.11.5 or later, got Python 3.9.2" in result.stderr


def test_make_help_lists_the_commands(scratch):
    listed = make(scratch, "help").stdout
    for command in "book test lab check bench tables clean help".split():
        assert re.search(rf"^make {command} +\w", listed, re.MULTILINE), command


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a card")
def test_the_benchmark_of_a_card_says_that_there_is_none(tmp_path):
    script = ROOT / "benchmarks" / "bench_gpu.py"
    ended = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith("Found no graphics card")
    assert list(tmp_path.iterdir()) == []
