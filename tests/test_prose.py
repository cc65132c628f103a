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


def prose(name):
    """Text of a page without its code, tables and markup of blocks."""
    if name.endswith(".md"):
        text = (BOOK / name).read_text(encoding="utf-8")
    else:
        cells = nbformat.read(BOOK / name, as_version=4).cells
        said = r'^say\(r?"""(.*?)"""\)'  # sentences that quote numbers
        text = "\n\n".join(
            cell.source
            if cell.cell_type == "markdown"
            else "\n\n".join(re.findall(said, cell.source, flags=re.DOTALL | re.MULTILINE))
            for cell in cells
        )
    return re.sub(r"^(\|.*|`{3,}.*|:.*)$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_no_paragraph_is_above_90_words(name):
    for paragraph in re.split(r"\n\s*\n|\n(?=- |\d+\. )", prose(name)):
        assert len(paragraph.split()) <= 90, paragraph
