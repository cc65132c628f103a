"""The book's own drawings: well formed, described in words, and up to date with the data."""

from __future__ import annotations

import runpy
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

IMAGES = Path(__file__).resolve().parent.parent / "book" / "images"
SVG = "{http://www.w3.org/2000/svg}"
DRAWINGS = sorted(IMAGES.glob("*.svg"))


def test_there_are_drawings():
    assert {"chest", "cover", "projection"} <= {path.stem for path in DRAWINGS}


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_says_what_it_shows_and_brings_its_own_background(path):
    root = ET.parse(path).getroot()
    assert root.find(f"{SVG}title").text
    assert len(root.find(f"{SVG}desc").text) > 60
    _, _, width, height = root.get("viewBox").split()
    panel = root.find(f"{SVG}rect")
    assert (panel.get("width"), panel.get("height")) == (width, height)


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_asks_no_other_host_and_has_no_chinese(path):
    text = path.read_text(encoding="utf-8")
    assert text.replace("http://www.w3.org/2000/svg", "").count("http") == 0
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in text)


def test_the_cover_is_what_its_script_draws():
    drawn = runpy.run_path(str(IMAGES / "make_cover.py"))["cover"]()
    assert drawn == (IMAGES / "cover.svg").read_text(encoding="utf-8"), (
        "book/images/cover.svg is out of date: run python book/images/make_cover.py"
    )
