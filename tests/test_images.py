"""The book's own drawings: well formed, legible in any font, and up to date with the data."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from chexlib.data import table

IMAGES = Path(__file__).resolve().parent.parent / "book" / "images"
SVG = "{http://www.w3.org/2000/svg}"
DRAWINGS = sorted(IMAGES.glob("*.svg"))


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# What a reader's machine may have instead of a drawing's first font; .ci/run installs them.
FONTS = ("DejaVu Sans", "Liberation Sans", "Noto Sans")
# Lines that leave the drawing, or run into one another; a line's box is higher than its ink.
COLLISIONS = """() => {
  const drawing = document.querySelector("svg").getBoundingClientRect();
  const boxes = [...document.querySelectorAll("text")].map((line) => {
    const {left, right, top, bottom} = line.getBoundingClientRect();
    const air = 0.22 * (bottom - top);
    return {left, right, top: top + air, bottom: bottom - air, words: line.textContent};
  });
  const apart = (a, b) =>
    a.right + 3 < b.left || b.right + 3 < a.left || a.bottom < b.top || b.bottom < a.top;
  return boxes.flatMap((a, k) => [
    ...(a.left < 8 || a.right > drawing.width - 8 ? [a.words] : []),
    ...boxes.slice(0, k).filter((b) => !apart(a, b)).map((b) => `${b.words} / ${a.words}`),
  ]);
}"""


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
    assert panel.get("fill") == "#ffffff"
    assert f'[fill="{panel.get("fill")}"]{{fill:#121212}}' in root.find(f"{SVG}style").text


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_asks_no_other_host_and_has_no_chinese(path):
    text = path.read_text(encoding="utf-8")
    assert text.replace("http://www.w3.org/2000/svg", "").count("http") == 0
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in text)


@pytest.fixture(scope="module")
def sheet():
    """An empty page of a browser, as wide as a drawing."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 760, "height": 900})
        page.set_default_timeout(300_000)
        yield page
        browser.close()


def collisions(page, drawing, font):
    style = f"body {{ margin: 0 }} svg * {{ font-family: '{font}' !important }}"
    page.set_content(f"<style>{style}</style>{drawing}")
    return page.evaluate(COLLISIONS)


@pytest.mark.browser
@pytest.mark.parametrize("font", FONTS)
def test_words_of_a_drawing_have_room_in_any_font(sheet, font):
    if font not in subprocess.run(["fc-list"], capture_output=True, text=True, check=True).stdout:
        pytest.skip(f"the font {font} is not installed: see .ci/run")
    for path in DRAWINGS:
        drawing = path.read_text(encoding="utf-8")
        assert collisions(sheet, drawing, font) == [], path.name
    wider = drawing.replace('font-size="18"', 'font-size="60"')
    assert collisions(sheet, wider, font)


def test_the_card_beside_a_link_is_drawn_from_the_same_dots(tmp_path):
    drawn = runpy.run_path(str(IMAGES / "make_cover.py"))
    drawn["card"](tmp_path / "card.png")
    picture = Image.open(tmp_path / "card.png").convert("RGB")
    assert picture.size == (1200, 630)
    colours = {f"#{r:02x}{g:02x}{b:02x}" for _, (r, g, b) in picture.getcolors(1 << 20)}
    assert colours >= {fill for _, _, fill, _ in drawn["KINDS"]} | {drawn["INK"]}


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
