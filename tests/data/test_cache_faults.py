"""The image cache among accidents: kills, crashes, a full disk, two builders. Real processes."""

import functools
import os
import random
import resource
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from odd_sources import Noise

from chexlib.data import ImageCache
from chexlib.data.cache import Index

PATIENCE = 600  # seconds until a build counts as hung, on however busy a machine
PROGRAM = [sys.executable, str(Path(__file__).with_name("odd_sources.py"))]


def start(folder, count, seconds=0.0, **options):
    command = [*PROGRAM, str(folder), str(count), str(seconds)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def promised(folder):
    """Return how many films the index promises, all of them checked against the pixels."""
    if not (folder / "images.u8").exists():
        return 0
    films = Index.read(folder).films
    # After the promises: a build that goes on may write more of both in the meantime.
    pixels = (folder / "images.u8").read_bytes()
    good = [row for row, film in enumerate(films) if film.status == "ok"]
    for row in good:
        assert zlib.crc32(pixels[row * 1024 : (row + 1) * 1024]) == films[row].crc32
    return len(good)


def test_killed_at_random_moments_it_goes_on(tmp_path):
    rng, counts, folder = random.Random(4), [], tmp_path / "cache"
    for run in range(10):
        build, before = start(folder, 400, 0.03), promised(folder)
        if run % 2:  # while it works
            deadline = time.monotonic() + PATIENCE
            while promised(folder) == before and time.monotonic() < deadline:
                assert build.poll() is None  # it has enough to do
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.15))
        else:  # while it begins
            time.sleep(rng.uniform(0.1, 1.5))
        family = psutil.Process(build.pid).children(recursive=True)
        build.send_signal(signal.SIGKILL)
        build.wait()
        _, alive = psutil.wait_procs(family, timeout=PATIENCE)
        assert not alive  # workers end with the one that started them
        counts.append(promised(folder))
    assert counts == sorted(counts)  # nothing that was promised is lost
    assert counts[-1] > 0
    assert len(set(counts)) > 3  # the kills came while it worked
    end = start(folder, 400)
    assert end.communicate(timeout=PATIENCE)[0].strip() == "400"
    whole = ImageCache.build(Noise(400), tmp_path / "whole", size=32, workers=1)
    resumed = ImageCache.open(folder)
    np.testing.assert_array_equal(resumed.images, whole.images)
    assert resumed.content_hash == whole.content_hash


def test_two_builders_take_turns(tmp_path):
    both = [start(tmp_path / "cache", 120, 0.004) for _ in range(2)]
    outputs = [build.communicate(timeout=PATIENCE) for build in both]
    assert [out.strip() for out, _ in outputs] == ["120", "120"]
    assert sum("Waiting for another build" in err for _, err in outputs) <= 1
    ImageCache.open(tmp_path / "cache").verify(Noise(120))


def full_disk(limit):
    """Give what makes every file of a child end at ``limit`` bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def test_a_full_disk_loses_nothing(tmp_path):
    folder = tmp_path / "cache"
    ImageCache.build(Noise(60), folder, size=32, workers=1)
    before = np.array(ImageCache.open(folder).images)
    build = start(folder, 200, preexec_fn=full_disk(100_000))  # room for 97 films
    _, errors = build.communicate(timeout=PATIENCE)
    assert build.returncode == 1
    assert "found the disk full. Free some space and repeat" in errors
    after = ImageCache.open(folder)  # the finished cache is as it was
    np.testing.assert_array_equal(after.images, before)
    again = start(folder, 200)
    assert again.communicate(timeout=PATIENCE)[0].strip() == "200"
    ImageCache.open(folder).verify(Noise(200))


def test_a_disk_that_fills_up_from_the_start(tmp_path):
    folder = tmp_path / "cache"
    build = start(folder, 200, preexec_fn=full_disk(50_000))
    _, errors = build.communicate(timeout=PATIENCE)
    assert build.returncode == 1
    assert "found the disk full" in errors
    assert promised(folder) == 0
    again = start(folder, 200)
    assert again.communicate(timeout=PATIENCE)[0].strip() == "200"


def test_a_film_that_ends_its_reader_is_rejected(tmp_path):
    deadly = (3, 70)
    cache = ImageCache.build(Noise(100, deadly=deadly), tmp_path / "cache", size=32, workers=2)
    assert (cache.index["status"] == "rejected").to_numpy().nonzero()[0].tolist() == [3, 70]
    assert "one that ends its reader" in cache.index["reason"][3]
    assert "noise/00000003_000.png" in cache.index["reason"][3]
    cache.verify()


def test_an_interrupt_stops_it_and_the_next_build_goes_on(tmp_path):
    folder = tmp_path / "cache"
    # A shell's background jobs ignore interrupts, and so would what they start.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    build = start(folder, 400, 0.05, preexec_fn=heard)
    deadline = time.monotonic() + PATIENCE
    while promised(folder) < 16 and time.monotonic() < deadline:
        time.sleep(0.1)
    build.send_signal(signal.SIGINT)
    build.communicate(timeout=PATIENCE)
    assert build.returncode != 0
    assert 16 <= promised(folder) < 400
    with pytest.raises(ValueError, match="Repeat the command that builds it"):
        ImageCache.open(folder)


@pytest.mark.parametrize("kind", ["link", "pipe", "hard link"])
def test_pixels_are_not_written_through_a_link_or_pipe(tmp_path, kind):
    other, images = tmp_path / "other", tmp_path / "cache/images.u8"
    other.write_bytes(b"somebody else's")
    images.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(images)
    elif kind == "link":
        images.symlink_to(other)
    else:
        images.hardlink_to(other)
    with pytest.raises(OSError, match="found a link, a pipe or a device"):
        ImageCache.build(Noise(2), images.parent, size=32, workers=1)
    assert other.read_bytes() == b"somebody else's"
