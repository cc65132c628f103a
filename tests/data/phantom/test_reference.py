"""The phantom renders the films that it is known by."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chexlib.data.phantom import DEVICES, VERSION, Film, render
from chexlib.data.phantom.film import REFERENCE
from chexlib.files import sha256
from chexlib.findings import FINDINGS

KEPT = np.load(REFERENCE, allow_pickle=False)
FILMS = json.loads(KEPT["films"].tobytes())
CHANGED = "the phantom's films changed: if that is meant, run python data/phantom_reference.py"


@pytest.mark.parametrize("k", range(len(FILMS)))
def test_a_film_is_the_one_that_was_committed(k):
    asked, size = FILMS[k]["film"], FILMS[k]["size"]
    shown = render(Film(**asked | {"devices": frozenset(asked["devices"])}), size=size)
    apart = np.abs(shown.image.astype(int) - KEPT[f"image{k}"])
    assert (apart <= 1).mean() >= 0.999, CHANGED
    assert list(shown.masks) == FILMS[k]["masks"]
    masks = np.unpackbits(KEPT[f"masks{k}"], count=len(shown.masks) * size**2).astype(bool)
    apart = np.array([*shown.masks.values()], bool).ravel() != masks
    assert apart.sum() <= 0.001 * masks.size, CHANGED


def test_the_films_show_every_finding_every_device_and_both_views():
    films = [film["film"] for film in FILMS]
    assert {name for film in films for name in film["severity"]} == set(FINDINGS)
    assert {name for film in films for name in film["devices"]} == set(DEVICES)
    assert {film["view"] for film in films} == {"PA", "AP"}
    assert any(not film["severity"] for film in films)


def test_a_comment_leaves_the_identity_and_another_film_changes_it(tmp_path):
    root = Path(__file__).parents[3]
    for folder in ("chexlib", "data"):
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(root / folder, tmp_path / folder, ignore=ignored)
    body = tmp_path / "chexlib" / "data" / "phantom" / "body.py"
    body.write_text(body.read_text(encoding="utf-8") + "\n# A comment.\n", encoding="utf-8")
    says = "from chexlib.data.phantom import VERSION; print(VERSION)"

    def version():
        command = [sys.executable, "-c", says]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert version() == VERSION == sha256(REFERENCE)[:12]
    kept = tmp_path / "data" / REFERENCE.name
    np.savez_compressed(kept, **(dict(KEPT) | {"image0": KEPT["image1"]}))
    assert version() != VERSION
