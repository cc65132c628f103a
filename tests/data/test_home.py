"""Where files are looked for."""

from pathlib import Path

import pytest

from chexlib.data import data_home, package_file


def test_environment_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CHEXLIB_DATA", str(tmp_path))
    assert data_home() == tmp_path
    monkeypatch.setenv("CHEXLIB_DATA", "~/x")
    assert data_home() == Path.home() / "x"


def test_default_is_the_users_cache(monkeypatch):
    monkeypatch.delenv("CHEXLIB_DATA", raising=False)
    assert data_home().name == "chexlib"


def test_missing_package_and_file_say_what_to_install():
    with pytest.raises(FileNotFoundError, match="pip install no_such_package"):
        package_file("no_such_package", "a.csv")
    with pytest.raises(FileNotFoundError, match=r"requirements\.lock"):
        package_file("torchxrayvision", "data", "none.csv")
