"""Pages that were gone over for plain words keep their paragraphs short."""

import re
from pathlib import Path

import nbformat
import pytest

BOOK = Path(__file__).resolve().parent.parent / "book"
# A page joins when it has been gone over.
PAGES = ("intro.md", "background.md", "glossary.md", "data_card.md")
PAGES += ("01_dataset.ipynb", "02_reports.ipynb", "03_label_noise.ipynb", "04_readers.ipynb")
PAGES += ("08_roc.ipynb",)
PAGES += ("05_images.ipynb", "06_training.ipynb", "07_noisy_labels.ipynb")
PAGES += ("09_thresholds.ipynb", "10_clean_labels.ipynb", "11_radiologists.ipynb")
PAGES += ("12_for_whom.ipynb", "13_cam.ipynb", "14_localization.ipynb")


# Chapters open with their answer, fold their side tracks and close in Chinese.
CHAPTERS = tuple(name for name in PAGES if name.endswith(".ipynb"))


def text_of(name):
    """All that a page says, in Markdown: no code but sentences that quote numbers."""
    if name.endswith(".md"):
        return (BOOK / name).read_text(encoding="utf-8")
    said = r'^say\(r?"""(.*?)"""\)'
    return "\n\n".join(
        cell.source
        if cell.cell_type == "markdown"
        else "\n\n".join(re.findall(said, cell.source, flags=re.DOTALL | re.MULTILINE))
        for cell in nbformat.read(BOOK / name, as_version=4).cells
    )


def without_markup(text):
    """Return a text without its tables and the markup of blocks."""
    return re.sub(r"^(\|.*|`{3,}.*|:.*)$", "", text, flags=re.MULTILINE)


def prose(name):
    """Text of a page without its code, tables and markup of blocks."""
    return without_markup(text_of(name))


def main_line(text):
    """Words that everybody reads: outside dropdowns, exercises, solutions, tables, equations."""
    folded = (
        r"^(`{3,}|:{3,})\{(?:dropdown|exercise|solution)\}.*?^\1$",
        r"^`{3,}\{solution-start\}.*?^`{3,}\{solution-end\}\n`{3,}$",
        r"^\$\$$.*?^\$\$$",
    )
    for block in folded:
        text = re.sub(block, "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\{cite(:t)?\}`.*?`", "", without_markup(text))
    text = re.sub(r"\{term\}`(.*?)(?: <.*?>)?`", r"\1", text)
    return re.findall(r"\S*\w\S*", text)


@pytest.mark.parametrize("name", PAGES)
def test_no_paragraph_is_above_90_words(name):
    for paragraph in re.split(r"\n\s*\n|\n(?=- |\d+\. )", prose(name)):
        assert len(paragraph.split()) <= 90, paragraph


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_main_line_of_a_chapter_is_at_most_3000_words(name):
    assert len(main_line(text_of(name))) <= 3000


def test_a_main_line_leaves_out_what_is_folded():
    text = "one {term}`two <Two>`\n\n:::{dropdown} For whom\nthree\n:::\n\n"
    text += "| four |\n\nfive {cite}`six`"
    assert main_line(text) == ["one", "two", "five"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_opens_with_its_answer(name):
    """Three sentences and a figure stand before the first section."""
    text = text_of(name)
    assert "**In short.**" in text[: text.index("\n## ")]
    cells = nbformat.read(BOOK / name, as_version=4).cells
    first_section = next(k for k, cell in enumerate(cells) if re.search("^## ", cell.source, re.M))
    figures = [cell.metadata.get("mystnb", {}).get("figure") for cell in cells[:first_section]]
    assert any(figures)


@pytest.mark.parametrize("name", CHAPTERS)
def test_an_exercise_stands_in_the_middle_of_a_chapter(name):
    text = text_of(name)
    main = text[: text.index("\n## Exercises")]
    assert re.search(r"^`{3,}\{exercise\}", main[len(main) // 5 : 2 * len(main) // 3], re.MULTILINE)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_closes_with_a_chinese_summary(name):
    summary = text_of(name).rpartition("\n## ")[2]
    assert summary.startswith("繁體中文摘要")
    [paragraph] = summary.split("\n\n", 1)[1].strip().split("\n\n")
    assert 120 <= len(re.sub(r"\s|\{\{.*?\}\}|\{\w+\}", "", paragraph)) <= 260


@pytest.mark.parametrize("name", CHAPTERS)
def test_numbers_of_a_chapter_are_read_in_a_notebook_too(name):
    """Numbers that only the book's build would fill in read as markup in JupyterLab."""
    source = (BOOK / name).read_text(encoding="utf-8")
    assert "glue" not in source


def test_the_first_page_says_how_long_each_page_and_each_way_takes():
    cards = re.findall(r"^:::\{grid-item-card\}.*?^:::$", text_of("intro.md"), re.M | re.S)
    timed = [card for card in cards if "minutes to read" in card]
    assert len(timed) == 3 + 1 + 14 + 1  # ways, background, chapters, the survey
    for card in timed:
        pages = re.findall(r"(?:\(|:link: )(background|\d\d_\w+)", card)
        names = [f"{page}.md" if page == "background" else f"{page}.ipynb" for page in pages]
        taken = [re.search(r"(\d+) minutes to read", text_of(name))[1] for name in names]
        promised = re.search(r"about (\d+) minutes to read", card)[1]
        assert not names or sum(map(int, taken)) == int(promised), card
