"""The book's own drawings: well formed, described in words, and up to date with the data."""

from __future__ import annotations

import runpy
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from chexlib.data import table

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


def test_the_first_page_says_what_its_picture_shows():
    votes = table("reader_votes").set_index(["finding", "votes"])
    pneumonia, ptx = votes.loc["Pneumonia"], votes.loc["Pneumothorax"]
    said = (IMAGES.parent / "intro.md").read_text(encoding="utf-8")
    most, some = slice(3, 5), slice(1, 2)
    assert pneumonia["n"].sum() == 810
    assert pneumonia["n"].loc[most].sum() == 0
    for words in (
        f"on no film do three or more see it, on {pneumonia['n'].loc[some].sum()} one or two do",
        f"says it on {pneumonia['n_labelled'].sum()} films, of which {pneumonia['n_labelled'][0]}",
        f"on {ptx['n'].loc[most].sum()} films three or more see it; NIH’s label says it on "
        f"{ptx['n_labelled'].sum()}, of which {ptx['n_labelled'].loc[most].sum()}",
        f"says pneumonia on {pneumonia['n_labelled'].sum()} of these films",
        f"on {pneumonia['n_labelled'][0]} of the {pneumonia['n_labelled'].sum()} none of",
        f"On {ptx['n'].loc[most].sum()} of them a majority saw a pneumothorax",
    ):
        assert words in said.replace("\n", " ")
