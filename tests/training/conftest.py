"""Small runs: one thread, so that their bits are the same on every machine with the same torch."""

import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

WIDE = {"COLUMNS": "160", "TERM": "dumb", "NO_COLOR": "1"}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run; whoever writes to it has a copy."""
    from small import datasets, recipe

    from chexlib.training import fit

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = fit(recipe(), tmp_path_factory.mktemp("run"), data=datasets())
    torch.set_num_threads(before)
    return found


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Return a function that runs a command in an empty folder."""
    from chexlib.cli import app

    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], env=WIDE)
