"""The image cache: what it holds, how it grows, what it refuses."""

import os
import pickle
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
from chexlib.data.cache import PENDING, Index
from chexlib.data.radiographs import resized

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def write_films(folder, numbers, start=0):
    folder.mkdir(exist_ok=True)
    for i, number in enumerate(numbers, start):
        Image.fromarray(film(number)).save(folder / f"{i}.png")
    return folder


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


def test_is_read_only_travels_by_folder_and_knows_its_rows_by_name(folder):
    cache = ImageCache.build(Noise(5), folder, size=32, workers=1)
    with pytest.raises(ValueError, match="read-only"):
        cache.images[0, 0, 0] = 1
    assert len(pickle.dumps(cache)) < 500
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cache)).images, cache.images)
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
    films = write_films(tmp_path / "films", range(4))
    (films / "2.png").write_bytes((films / "2.png").read_bytes()[:200])
    cache = ImageCache.build(find_radiographs(films), folder, size=32, workers=1)
    assert cache.index["status"].tolist() == ["ok", "ok", "rejected", "ok"]
    assert not cache.images[2].any()
    report = pd.read_csv(folder / "rejected.csv")
    assert report["image"].tolist() == ["2.png"]
    assert "damaged" in report["reason"][0]
    assert str(films / "2.png") in report["reason"][0]
    write_films(films, [2], start=2)
    cache = ImageCache.build(find_radiographs(films), folder, size=32, workers=1)
    assert set(cache.index["status"]) == {"ok"}
    assert cache.images[2].any()
    assert not (folder / "rejected.csv").exists()


def test_a_rebuild_does_not_read_all_rows_until_something_says_so(folder):
    good = np.array(ImageCache.build(Noise(200), folder, size=32, workers=1).images)
    images = folder / "images.u8"
    before = images.stat()
    for quietly in (True, False):
        with images.open("r+b") as file:
            file.seek(100 * 32 * 32)
            file.write(bytes(9))
        if quietly:  # a disk that forgets leaves no time
            os.utime(images, ns=(before.st_atime_ns, before.st_mtime_ns))
            ImageCache.build(Noise(200), folder, size=32, workers=1)
            with pytest.raises(ValueError, match=r"found 1 films with others: 00000100_000\.png"):
                ImageCache.open(folder).verify()
        repaired = ImageCache.build(Noise(200), folder, size=32, workers=1)
        np.testing.assert_array_equal(repaired.images, good)


@pytest.mark.parametrize(("option", "value"), [("size", 8), ("size", 4096), ("workers", 0)])
def test_options_outside_their_range(folder, option, value):
    with pytest.raises(ValueError, match=f"got {value}"):
        ImageCache.build(Noise(3), folder, **{option: value})
    assert not folder.exists()


def test_open_says_what_is_missing(folder):
    with pytest.raises(FileNotFoundError, match="Build it: chexlib cache"):
        ImageCache.open(folder)
    ImageCache.build(Noise(3), folder, size=32, workers=1)
    with pytest.raises(ValueError, match=r"Expected films of 32 px.*size=64"):
        ImageCache.build(Noise(3), folder, size=64, workers=1)
    assert len(ImageCache.open(folder)) == 3
    index = Index.read(folder)
    index.set({1: index.films[1]._replace(status=PENDING)})
    with pytest.raises(ValueError, match="still waits for 1 of 3 films"):
        ImageCache.open(folder)
    ImageCache.build(Noise(3), folder, size=32, workers=1)
    os.truncate(folder / "images.u8", 100)
    with pytest.raises(ValueError, match="Expected 3,072 bytes.*found 100"):
        ImageCache.open(folder)


@pytest.mark.parametrize("content", [b"", b"cut", b"no index at all\n" * 100, b"\0" * 5000])
def test_a_foreign_index_is_refused_and_kept(folder, content):
    folder.mkdir()
    (folder / "index.txt").write_bytes(content)
    for ask in (ImageCache.open, lambda folder: ImageCache.build(Noise(2), folder, workers=1)):
        with pytest.raises(ValueError, match=r"Expected the index of an image cache.*remove the"):
            ask(folder)
    assert (folder / "index.txt").read_bytes() == content
    said = b'{"format": 99, "size": 32, "films": 0}'
    (folder / "index.txt").write_bytes(b"%b\t%08x\n" % (said, zlib.crc32(said)))
    with pytest.raises(ValueError, match="Expected an image cache of format 2.*found 99"):
        ImageCache.open(folder)


def same(cache, good):
    """Return whether a cache serves each film as the good one does, by name."""
    films = {name: good["pixels"][row] for row, name in enumerate(good["names"])}
    assert cache.index["image"].tolist() == good["names"]
    return all(np.array_equal(cache.images[i], films[n]) for i, n in enumerate(good["names"]))


def test_a_damaged_index_is_one_sentence_and_never_another_film(folder):
    cache = ImageCache.build(Noise(20), folder, size=32, workers=1)
    good = {"pixels": np.array(cache.images), "names": cache.index["image"].tolist()}
    path, whole = folder / "index.txt", (folder / "index.txt").read_bytes()
    lines = whole.splitlines(keepends=True)
    rng = np.random.default_rng(5)
    altered = {}
    for bit in rng.choice(8 * len(whole), 400, replace=False).tolist():
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        altered[f"bit {bit}"] = bytes(flipped)
    for at in rng.choice(len(whole), 60, replace=False).tolist():
        altered[f"cut at {at}"] = whole[:at]
        altered[f"zeros from {at}"] = whole[:at] + bytes(len(whole) - at)
    for k in range(1, len(lines)):
        altered[f"without line {k}"] = b"".join(lines[:k] + lines[k + 1 :])
        altered[f"line {k} twice"] = b"".join(lines[:k] + lines[k - 1 :])
        swapped = lines.copy()
        swapped[k], swapped[k - 1] = swapped[k - 1], swapped[k]
        altered[f"lines {k - 1} and {k} swapped"] = b"".join(swapped)
    names = whole.replace(b"00000003_000", b"0000000X_000").replace(
        b"00000004_000", b"00000003_000"
    )
    altered["two names swapped"] = names.replace(b"0000000X_000", b"00000004_000")
    for what, content in altered.items():
        path.write_bytes(content)
        try:
            opened = ImageCache.open(folder)
        except ValueError as error:
            said = str(error)
            assert str(folder) in said, what
            assert "\n" not in said, what
            assert len(said) < 400, what
        else:
            assert same(opened, good), what
    path.write_bytes(whole)
    assert same(ImageCache.open(folder), good)


def test_zeroed_pixels_are_seen_when_a_cache_is_opened(folder):
    cache = ImageCache.build(Noise(200), folder, size=32, workers=1)
    size = (folder / "images.u8").stat().st_size
    (folder / "images.u8").write_bytes(bytes(size))
    with pytest.raises(ValueError, match=r"found 32 films with others: 00000000_000\.png"):
        ImageCache.open(folder)
    with pytest.raises(ValueError, match="found 200 films with others"):
        cache.verify()
    ImageCache.build(Noise(200), folder, size=32, workers=1).verify()


def test_a_changed_file_is_found_and_read_again(folder, tmp_path):
    films, read = write_films(tmp_path / "films", [0, 1, 2]), []
    cache = ImageCache.build(find_radiographs(films), folder, size=32, workers=1)
    cache.verify(find_radiographs(films))
    write_films(films, [7], start=1)
    with pytest.raises(ValueError, match=r"found 1 that changed since: 1\.png"):
        cache.verify(find_radiographs(films))
    os.utime(films / "1.png", ns=(5, 5))  # whatever the clock's resolution
    cache = ImageCache.build(
        find_radiographs(films),
        folder,
        size=32,
        workers=1,
        progress=lambda *state: read.append(state),
    )
    assert read[0] == (2, 3, 0)  # one is read again
    np.testing.assert_array_equal(cache.images[1], resized(film(7), 32))
    cache.verify(find_radiographs(films))


def test_another_film_of_the_same_name_is_refused(folder, tmp_path):
    write_films(tmp_path / "one", [0, 1])
    write_films(tmp_path / "two", [5, 6, 7])
    first = ImageCache.build(find_radiographs(tmp_path / "one"), folder, size=32, workers=1)
    with pytest.raises(ValueError, match=r"Expected 0.png to be the film.*one/0.png.*two/0.png"):
        ImageCache.build(find_radiographs(tmp_path / "two"), folder, size=32, workers=1)
    once_more = ImageCache.build(find_radiographs(tmp_path / "one"), folder, size=32, workers=1)
    np.testing.assert_array_equal(once_more.images[:2], first.images)


def test_a_folder_that_moved_is_known_again(folder, tmp_path):
    write_films(tmp_path / "here", [0, 1])
    first = ImageCache.build(find_radiographs(tmp_path / "here"), folder, size=32, workers=1)
    (tmp_path / "here").rename(tmp_path / "there")
    for path in (tmp_path / "there").iterdir():
        os.utime(path, ns=(9, 9))  # copied, so that the times are others
    moved = ImageCache.build(find_radiographs(tmp_path / "there"), folder, size=32, workers=1)
    np.testing.assert_array_equal(moved.images, first.images)
    assert moved.index["source"].str.contains("there").all()


def test_resizing_averages_areas_or_interpolates():
    shrunk = resized(np.arange(64, dtype=np.uint8).reshape(8, 8), 4)
    assert abs(int(shrunk[0, 0]) - (0 + 1 + 8 + 9) / 4) <= 0.5
    grown = resized(np.full((20, 30), 7, np.uint8), 64)
    assert grown.shape == (64, 64)
    assert (grown == 7).all()
    same = np.zeros((5, 5), np.uint8)
    assert resized(same, 5) is same


def test_films_that_are_no_squares_may_keep_their_shape(tmp_path):
    wide = np.full((20, 40), 200, np.uint8)
    padded = resized(wide, 40, fit="pad")
    np.testing.assert_array_equal(padded[10:30], wide)
    assert not padded[:10].any()
    assert not padded[30:].any()
    assert (resized(wide, 40) == 200).all()
    assert (resized(wide.T, 20, fit="pad")[:, 5:15] == 200).all()
    with pytest.raises(ValueError, match="fit of"):
        resized(wide, 40, fit="crop")
    Image.fromarray(RNG.integers(0, 255, (60, 80), np.uint8)).save(tmp_path / "a.png")
    source = find_radiographs(tmp_path / "a.png")
    caches = {
        fit: ImageCache.build(source, tmp_path / fit, size=32, fit=fit, workers=1)
        for fit in ("squash", "pad")
    }
    assert (caches["pad"].images[0][:4] == 0).all()
    assert caches["squash"].images[0].min(1).max() > 0
    assert caches["pad"].content_hash != caches["squash"].content_hash
    assert ImageCache.open(tmp_path / "pad").fit == "pad"
    assert b"fit" not in (tmp_path / "squash" / "index.txt").read_bytes()
    with pytest.raises(ValueError, match="fit='pad', as the cache.*got size=32 and fit='squash'"):
        ImageCache.build(source, tmp_path / "pad", size=32, workers=1)
    with pytest.raises(ValueError, match="fit of"):
        ImageCache.build(source, tmp_path / "new", size=32, fit="crop")
    assert not (tmp_path / "new").exists()


def test_command_builds_and_verifies(tmp_path, monkeypatch):
    films = write_films(tmp_path / "films", range(3))
    (films / "bad.png").write_bytes(b"text")
    monkeypatch.setenv("CHEXLIB_CACHE", str(tmp_path / "home"))

    def run(*options, source=films):
        ended = CliRunner().invoke(app, ["cache", str(source), "--size", "32", *options])
        return ended.exit_code, ended.output.replace("\n", " ")

    code, said = run("--workers", "1")
    assert code == 0, said
    assert "3 films of 32 px" in said
    assert "1 rejected" in said
    (made,) = cache_home().iterdir()  # called as the folder is, for the films are not NIH's
    assert made.name.startswith("films-")
    assert len(ImageCache.open(made)) == 4
    code, said = run("--workers", "1", "--fit", "pad")
    assert code == 0, said
    assert ImageCache.open(cache_home() / f"{made.name}-pad").fit == "pad"
    (films / "notes").write_text("of the radiographer")
    _, said = run("--workers", "1")
    assert "3 films read, 1 rejected: see" in said
    assert "rejected.csv; 1 files ignored: 1 text (notes)" in said
    for i in range(3):
        (films / f"{i}.png").unlink()
    code, said = run("--workers", "1")
    assert code == 1  # all that is there now was refused, whatever the cache holds
    assert "found none among 1" in said
    write_films(films, range(3))
    code, said = run("--verify")
    assert code == 0, said
    assert "as promised" in said
    code, said = run(source=tmp_path / "nowhere")
    assert code == 1
    assert "found nothing" in said


@pytest.mark.real_data("nih_sample/images")
def test_nih_films_become_means_of_four_by_four(folder):
    source = find_radiographs(data_home() / "nih_sample" / "images")
    cache = ImageCache.build(source, folder, size=256)
    assert set(cache.index["status"]) == {"ok"}
    for row in (0, 30, 60):
        pixels = read_radiograph(cache.index["source"][row]).astype(float)
        means = pixels.reshape(256, 4, 256, 4).mean(axis=(1, 3))
        assert np.abs(cache.images[row] - means).max() <= 0.5
