"""Tables of figures keep their provenance, are written atomically, and travel with the package."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from builders import write_table

from chexlib.data.fetch import REGISTRY
from chexlib.data.tables import table, table_folder
from chexlib.files import sha256

ROOT = Path(__file__).parents[2]
TABLES = sorted(path.stem for path in (ROOT / "data").glob("*.csv"))
PROVENANCE = {"source": "made here", "licence": "CC0", "command": "none"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("chexlib.data.tables.table_folder", lambda: tmp_path)
    return tmp_path


def test_written_table_is_read_back(folder):
    source = folder / "input.txt"
    source.write_text("abc")
    frame = pd.DataFrame({"finding": ["Mass", "Hernia"], "share": [0.1 + 0.2, 1 / 3]})
    write_table(frame, folder / "t.csv", inputs=[source], note="no, really: yes", **PROVENANCE)
    back = table("t")
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert back.attrs["sha256 input.txt"] == sha256(source)
    assert back.attrs["note"] == "no, really: yes"
    pd.testing.assert_frame_equal(pd.read_csv(folder / "t.csv", comment="#"), frame)
    assert sorted(path.name for path in folder.iterdir()) == ["input.txt", "t.csv"]


def test_a_folder_is_hashed_as_sha256sum_lists_it(folder):
    films = folder / "films"
    (films / "b").mkdir(parents=True)
    for name in ("b/one.png", "a.png", "b.png", "Z.png"):
        (films / name).write_text(name)
    write_table(pd.DataFrame({"a": [1]}), folder / "t.csv", inputs=[films], **PROVENANCE)
    found = table("t").attrs["sha256 films/ (4 files)"]
    listing = "find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    done = subprocess.run(listing, shell=True, cwd=films, check=True, capture_output=True)
    assert found == done.stdout.decode()[:64]
    (films / "a.png").write_text("another")
    assert sha256(films) != found
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"Expected files in .*empty, found none"):
        sha256(folder / "empty")


def test_unchanged_table_keeps_its_date(folder):
    frame = pd.DataFrame({"a": [1]})
    path = folder / "t.csv"
    write_table(frame, path, inputs=[], **PROVENANCE)
    old = path.read_text().replace("# date: 20", "# date: 19")
    path.write_text(old)
    write_table(frame, path, inputs=[], **PROVENANCE)
    assert path.read_text() == old
    write_table(frame + 1, path, inputs=[], **PROVENANCE)
    assert "# date: 20" in path.read_text()


def test_failed_write_leaves_the_old_table(folder, monkeypatch):
    path = folder / "t.csv"
    write_table(pd.DataFrame({"a": [1]}), path, inputs=[], **PROVENANCE)
    before = path.read_text()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="found the disk full"):
        write_table(pd.DataFrame({"a": [2]}), path, inputs=[], **PROVENANCE)
    assert path.read_text() == before
    assert [file.name for file in folder.iterdir()] == ["t.csv"]


def test_what_is_no_table_is_refused(folder):
    for cell in ("# note", "a#b"):
        with pytest.raises(ValueError, match="no '#'"):
            write_table(pd.DataFrame({"a": [cell]}), folder / "t.csv", inputs=[], **PROVENANCE)
    (folder / "one.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileNotFoundError, match=r"among \['one'\], got 'two'"):
        table("two")
    with pytest.raises(ValueError, match="Expected header lines"):
        table("one")


def test_installed_package_carries_its_data(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(
        [*build, "--directory", str(tmp_path)], cwd=ROOT, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 5_000_000  # without what only makes the tables
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); " + (
        "from chexlib.data.fetch import REGISTRY; "
        "from chexlib.data.tables import table, table_folder; "
        f"print(table_folder().name, len(REGISTRY), *(len(table(name)) for name in {TABLES!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    rows = [str(len(table(name))) for name in TABLES]
    assert done.stdout.split() == ["_tables", str(len(REGISTRY)), *rows]


def test_checkout_reads_data_itself():
    assert table_folder() == ROOT / "data"
