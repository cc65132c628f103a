"""The image cache: what it holds, how it grows, what it refuses."""

import os
import pickle
import sqlite3
import zlib

import cv2
import numpy as np
import pandas as pd
import pytest
from odd_sources import SIDE, Noise, film
from PIL import Image
from typer.testing import CliRunner

from chexlib.cli import app
from chexlib.data import ImageCache, cache_home, data_home, find_radiographs, read_radiograph
from chexlib.data.cache.workers import resized


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def test_holds_each_film_shrunk(folder):
    cache = ImageCache.build(Noise(40), folder, size=32, workers=1)
    assert (len(cache), cache.size, cache.images.shape) == (40, 32, (40, 32, 32))
    for i in range(40):
        expected = cv2.resize(film(i), (32, 32), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(cache.images[i], expected)
        assert cache.index["crc32"][i] == zlib.crc32(expected.tobytes())
    assert cache.index["patient"].tolist() == list(range(40))
    assert set(cache.index["status"]) == {"ok"}
    assert (cache.index[["source_height", "source_width"]] == SIDE).all(axis=None)
    assert not (folder / "rejected.csv").exists()
    cache.verify(Noise(40))


def test_processes_make_the_same_cache(folder, tmp_path):
    one = ImageCache.build(Noise(50), folder, size=32, workers=1)
    two = ImageCache.build(Noise(50), tmp_path / "two", size=32, workers=2)
    np.testing.assert_array_equal(one.images, two.images)
    pd.testing.assert_frame_equal(one.index, two.index)
    assert one.content_hash == two.content_hash


def test_is_read_only_and_travels_by_folder(folder):
    cache = ImageCache.build(Noise(3), folder, size=32, workers=1)
    with pytest.raises(ValueError, match="read-only"):
        cache.images[0, 0, 0] = 1
    assert len(pickle.dumps(cache)) < 500
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cache)).images, cache.images)


def test_rows_by_name(folder):
    cache = ImageCache.build(Noise(5), folder, size=32, workers=1)
    assert cache.rows(["00000004_000.png", "00000000_000.png"]).tolist() == [4, 0]
    with pytest.raises(ValueError, match=r"got 1 that are not in it.*nowhere\.png.*chexlib cache"):
        cache.rows(["00000001_000.png", "nowhere.png"])


def test_grows_and_keeps_its_rows(folder):
    first = ImageCache.build(Noise(10), folder, size=32, workers=1)
    seen = []
    grown = ImageCache.build(
        Noise(25), folder, size=32, workers=1, progress=lambda *state: seen.append(state)
    )
    assert seen[0] == (10, 25, 0)  # ten are not read again
    assert seen[-1] == (25, 25, 0)
    np.testing.assert_array_equal(grown.images[:10], first.images)
    assert len(first) == 10  # whoever opened it before sees what it opened
    assert first.content_hash != grown.content_hash


def test_bad_films_are_listed_and_tried_again(folder, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    for i in range(4):
        Image.fromarray(film(i)).save(films / f"{i}.png")
    (films / "2.png").write_bytes((films / "2.png").read_bytes()[:200])
    cache = ImageCache.build(find_radiographs(films), folder, size=32, workers=1)
    assert cache.index["status"].tolist() == ["ok", "ok", "rejected", "ok"]
    assert not cache.images[2].any()
    report = pd.read_csv(folder / "rejected.csv")
    assert report["image"].tolist() == ["2.png"]
    assert "damaged" in report["reason"][0]
    assert str(films / "2.png") in report["reason"][0]
    Image.fromarray(film(2)).save(films / "2.png")
    cache = ImageCache.build(find_radiographs(films), folder, size=32, workers=1)
    assert set(cache.index["status"]) == {"ok"}
    assert cache.images[2].any()
    assert not (folder / "rejected.csv").exists()


def test_a_damaged_row_is_found_and_repaired(folder):
    cache = ImageCache.build(Noise(8), folder, size=32, workers=1)
    good = np.array(cache.images)
    with (folder / "images.u8").open("r+b") as file:
        file.seek(5 * 32 * 32 + 17)
        file.write(b"\xff\x00\xff")
    with pytest.raises(ValueError, match="found 1 films with others: 00000005_000.png"):
        ImageCache.open(folder).verify()
    repaired = ImageCache.build(Noise(8), folder, size=32, workers=1)
    np.testing.assert_array_equal(repaired.images, good)
    repaired.verify()


def test_a_changed_source_is_found(folder, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    for i in range(3):
        Image.fromarray(film(i)).save(films / f"{i}.png")
    cache = ImageCache.build(find_radiographs(films), folder, size=32, workers=1)
    cache.verify(find_radiographs(films))
    Image.fromarray(film(7)).save(films / "1.png")
    with pytest.raises(ValueError, match=r"found 1 that changed since: 1\.png"):
        cache.verify(find_radiographs(films))


def test_another_size_needs_another_folder(folder):
    ImageCache.build(Noise(3), folder, size=32, workers=1)
    with pytest.raises(ValueError, match=r"Expected films of 32 px.*size=64"):
        ImageCache.build(Noise(3), folder, size=64, workers=1)
    assert len(ImageCache.open(folder)) == 3


@pytest.mark.parametrize(("option", "value"), [("size", 8), ("size", 4096), ("workers", 0)])
def test_options_outside_their_range(folder, option, value):
    with pytest.raises(ValueError, match=f"got {value}"):
        ImageCache.build(Noise(3), folder, **{option: value})
    assert not folder.exists()


def test_open_says_what_is_missing(folder):
    with pytest.raises(FileNotFoundError, match="Build it: chexlib cache"):
        ImageCache.open(folder)
    ImageCache.build(Noise(3), folder, size=32, workers=1)
    with sqlite3.connect(folder / "index.sqlite") as db:
        db.execute("UPDATE films SET status = 'pending' WHERE row = 1")
    with pytest.raises(ValueError, match="still waits for 1 of 3 films"):
        ImageCache.open(folder)
    ImageCache.build(Noise(3), folder, size=32, workers=1)
    os.truncate(folder / "images.u8", 100)
    with pytest.raises(ValueError, match="Expected 3,072 bytes.*found 100"):
        ImageCache.open(folder)


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_foreign_index_is_refused_and_kept(folder, content):
    folder.mkdir()
    (folder / "index.sqlite").write_bytes(content)
    with pytest.raises(ValueError, match="Expected the index of an image cache"):
        ImageCache.open(folder)
    if content:
        with pytest.raises((ValueError, sqlite3.DatabaseError)):
            ImageCache.build(Noise(2), folder, size=32, workers=1)
        assert (folder / "index.sqlite").read_bytes() == content


def test_another_format_is_refused(folder):
    ImageCache.build(Noise(2), folder, size=32, workers=1)
    with sqlite3.connect(folder / "index.sqlite") as db:
        db.execute("UPDATE meta SET value = 99 WHERE key = 'format'")
    with pytest.raises(ValueError, match="Expected an image cache of format 1.*found 99"):
        ImageCache.open(folder)


def test_resizing_averages_areas_or_interpolates():
    shrunk = resized(np.arange(64, dtype=np.uint8).reshape(8, 8), 4)
    assert abs(int(shrunk[0, 0]) - (0 + 1 + 8 + 9) / 4) <= 0.5
    grown = resized(np.full((20, 30), 7, np.uint8), 64)
    assert grown.shape == (64, 64)
    assert (grown == 7).all()
    same = np.zeros((5, 5), np.uint8)
    assert resized(same, 5) is same


def test_command_builds_and_verifies(tmp_path, monkeypatch):
    films = tmp_path / "films"
    films.mkdir()
    for i in range(3):
        Image.fromarray(film(i)).save(films / f"{i}.png")
    (films / "bad.png").write_bytes(b"text")
    monkeypatch.setenv("CHEXLIB_CACHE", str(tmp_path / "home"))
    run = CliRunner().invoke(app, ["cache", str(films), "--size", "32", "--workers", "1"])
    assert run.exit_code == 0, run.output
    assert "3 films of 32 px" in run.output
    assert "1 rejected" in run.output
    assert len(ImageCache.open(cache_home() / "chest-xray14-32")) == 4
    (films / "notes").write_text("of the radiographer")
    with_notes = CliRunner().invoke(app, ["cache", str(films), "--size", "32", "--workers", "1"])
    said = with_notes.output.replace("\n", " ")
    assert "3 films read, 1 rejected: see" in said
    assert "rejected.csv; 1 files ignored: 1 text (notes)" in said
    for name in ("0.png", "1.png", "2.png"):
        (films / name).unlink()
    none = CliRunner().invoke(app, ["cache", str(films), "--size", "32", "--workers", "1"])
    assert none.exit_code == 1  # all that is there now was refused, whatever the cache holds
    assert "found none among 1" in none.output
    for i in range(3):
        Image.fromarray(film(i)).save(films / f"{i}.png")
    run = CliRunner().invoke(app, ["cache", str(films), "--size", "32", "--verify"])
    assert run.exit_code == 0, run.output
    assert "as promised" in run.output
    run = CliRunner().invoke(app, ["cache", str(tmp_path / "nowhere")])
    assert run.exit_code == 1
    assert "found nothing" in run.output


@pytest.mark.real_data("nih_sample/images")
def test_nih_films_become_means_of_four_by_four(folder):
    source = find_radiographs(data_home() / "nih_sample" / "images")
    cache = ImageCache.build(source, folder, size=256)
    assert set(cache.index["status"]) == {"ok"}
    for row in (0, 30, 60):
        pixels = read_radiograph(cache.index["source"][row]).astype(float)
        means = pixels.reshape(256, 4, 256, 4).mean(axis=(1, 3))
        assert np.abs(cache.images[row] - means).max() <= 0.5
