"""Hygiene of the committed notebooks: executed, clean, small, described."""

import re
from pathlib import Path

import nbformat
import pytest
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
MACHINE_PATH = re.compile(
    r"(?<![\w./:<])/(?:home|Users|root|tmp|work|private|var|opt)/[\w.]|[A-Z]:\\\\"
)
WIDTH = 84  # characters that a page of 1280 px shows beside both sidebars
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
PICTURES = ("image/png", "image/jpeg", "image/svg+xml")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_the_contents_name_every_notebook():
    pages = [ROOT / page for page in parse_toc_yaml(ROOT / "_toc.yml")]
    assert (
        sorted(p for p in (page.with_suffix(".ipynb") for page in pages) if p.exists()) == NOTEBOOKS
    )
    missing = [
        p.name for p in pages if not any(p.with_suffix(s).exists() for s in (".md", ".ipynb"))
    ]
    assert not missing


@each_notebook
def test_executed_in_order_without_errors(path):
    cells = [cell for cell in code_cells(path) if cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"]


@each_notebook
def test_below_500_kb(path):
    assert path.stat().st_size < 500_000


@each_notebook
def test_names_no_place_on_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert not MACHINE_PATH.findall(re.sub(r'"image/(png|jpeg)": "[^"]*"', "", text))


@each_notebook
def test_clean_metadata(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernel}
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    identifiers = [cell.id for cell in notebook.cells]
    assert len(set(identifiers)) == len(identifiers)
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"jupyter", "mystnb", "tags"}, cell.id


@each_notebook
def test_every_picture_is_described(path):
    for cell in code_cells(path):
        if any(kind in output.get("data", {}) for output in cell.outputs for kind in PICTURES):
            shown = cell.metadata.get("mystnb", {})
            assert len(shown.get("image", {}).get("alt", "")) > 20, cell.source
            assert shown.get("figure", {}).get("caption"), cell.source
            assert shown.get("figure", {}).get("name", "").startswith("fig-"), cell.source


@each_notebook
def test_cells_are_short(path):
    """What stands open is read; what is folded or hidden draws, arranges or quotes numbers."""
    for cell in code_cells(path):
        tags = FOLDED & set(cell.metadata.get("tags", []))
        source = re.sub(r'^say\(r?""".*?"""\)', "", cell.source, flags=re.DOTALL | re.MULTILINE)
        lines = [line for line in source.splitlines() if line.strip()]
        assert tags or max(map(len, lines), default=0) <= WIDTH, cell.source
        lines = [line for line in lines if not line.startswith(("import ", "from "))]
        most = 40 if tags else 12
        assert len(lines) <= most, cell.source
        assert not cell.source.rstrip().endswith(";"), cell.source


@each_notebook
def test_cells_that_teach_stay_open(path):
    """Readers see how a number comes about: at least three cells are not folded."""
    shown = [cell for cell in code_cells(path) if not FOLDED & set(cell.metadata.get("tags", []))]
    assert len(shown) >= 3


@each_notebook
def test_sentences_that_quote_numbers_are_shown_alone(path):
    """Their code is hidden: on the page by a tag, in JupyterLab by the cell's own mark."""
    for cell in code_cells(path):
        if re.search(r"^say\(", cell.source, flags=re.MULTILINE):
            tags = set(cell.metadata["tags"]) - {"nbval-ignore-output"}  # of a live run
            assert tags == {"remove-input"}, cell.source
            assert cell.metadata.get("jupyter") == {"source_hidden": True}, cell.source
            [shown] = [output for output in cell.outputs if "text/markdown" in output.data]
            assert "{{" not in shown.data["text/markdown"]


@each_notebook
def test_says_what_it_takes_and_what_it_gives(path):
    cells = nbformat.read(path, as_version=4).cells
    opening = "\n".join(cell.source for cell in cells).partition("\n## ")[0]
    assert opening.startswith("# ")
    assert re.search(r"minutes?\b", opening)
    assert any("{exercise}" in cell.source for cell in cells)
