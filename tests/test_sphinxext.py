"""The Sphinx extension, on a book of two pages built with the book's own settings."""

import base64
import io
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import nbformat.v4 as nb
import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner
from fontTools.ttLib import TTFont
from jupyter_book.cli.main import main as jupyter_book
from nbformat import write
from PIL import Image
from sphinx.errors import ExtensionError

from chexlib import sphinxext

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = "https://github.com/someone/some-book"
ALT = 'Two bars: "a" and <b>'


def small_book(folder, *, address="", cells=None, execute="off", name="07_notebook"):
    """Write a book of a front page and a notebook, with the settings of the real one."""
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    config = config.replace('url: ""', f'url: "{address}"')
    config = config.replace("execute_notebooks: cache", f'execute_notebooks: "{execute}"')
    (folder / "_config.yml").write_text(config, encoding="utf-8")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/front\nparts:\n"
        f"  - numbered: true\n    chapters:\n      - file: book/{name}\n"
    )
    (folder / "book").mkdir()
    shutil.copytree(ROOT / "book/_static", folder / "book/_static")
    (folder / "book/references.bib").touch()
    (folder / "book/front.md").write_text("# Front\n\nText.\n")
    (folder / "data/touch").mkdir(parents=True)
    (folder / "data/touch/thing.json").write_text('{"a":"</script>氣胸"}\n', encoding="utf-8")
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = nb.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    write(notebook, folder / f"book/{name}.ipynb")


def build(folder):
    """Build as `make book` does."""
    return CliRunner().invoke(jupyter_book, ["build", str(folder), "-W", "-n", "--keep-going"])


def figure_cell(**metadata):
    png = io.BytesIO()
    Image.new("L", (1, 1)).save(png, "png")
    picture = base64.b64encode(png.getvalue()).decode()
    output = nb.new_output("display_data", data={"image/png": picture})
    return nb.new_code_cell("show()", outputs=[output], execution_count=1, metadata=metadata)


def page(folder, name):
    return BeautifulSoup(
        (folder / f"_build/html/book/{name}.html").read_text("utf-8"), "html.parser"
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    cells = [
        nb.new_markdown_cell("# A notebook\n\n$a = b$\n\n## A section"),
        figure_cell(
            mystnb={
                "image": {"alt": ALT, "classes": "touch thing"},
                "figure": {"caption": "Bars", "name": "fig-a"},
            }
        ),
    ]
    small_book(folder, cells=cells)
    result = build(folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def built_with_address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    small_book(folder, address=ADDRESS, cells=[nb.new_markdown_cell("# A notebook")])
    kernel = "---\nkernelspec:\n  name: python3\n  display_name: Python 3\n---\n\n"
    (folder / "book/front.md").write_text(f"{kernel}# Front\n\nText that runs.\n")
    result = build(folder)
    assert result.exit_code == 0, result.output
    return folder


def test_what_can_be_touched_is_a_picture_with_its_scripts(built):
    (picture,) = page(built, "07_notebook").select("figure img.touch.thing")
    assert picture["alt"] == ALT
    caption = page(built, "07_notebook").select_one("figcaption").text.strip()
    assert caption.startswith("Fig. 7.1 Bars")
    sources = [
        tag["src"].partition("?")[0] for tag in page(built, "07_notebook").select("script[src]")
    ]
    scripts = [source for source in sources if "/touch/" in source]
    assert scripts == [f"../_static/touch/{name}.js" for name in ("touch", "thing.data", "thing")]
    assert not page(built, "front").select('script[src*="touch/"]')
    data = (built / "_build/html/_static/touch/thing.data.js").read_text(encoding="utf-8")
    assert data == 'touch.data("thing", {"a":"</script>氣胸"});\n'


def test_a_chapter_has_the_number_of_its_file(built):
    assert page(built, "07_notebook").select_one("article h1").text.startswith("7. A notebook")
    assert page(built, "07_notebook").select_one("article h2").text.startswith("7.1. A section")
    assert "7. A notebook" in page(built, "front").select_one(".bd-sidebar-primary").text


def test_scripts_come_from_the_site_and_only_where_used(built):
    def scripts(name):
        return " ".join(tag["src"] for tag in page(built, name).select("script[src]"))

    assert "tex-svg.js" in scripts("07_notebook")
    assert (built / "_build/html/_static/tex-svg.js").stat().st_size > 1_000_000
    assert "://" not in scripts("07_notebook") + scripts("front")


def test_no_thebe_and_no_second_search_box(built):
    front = page(built, "front")
    assert not front.find_all("script", string=re.compile("thebe", re.IGNORECASE))
    assert not front.select("header .search-button-field")
    assert front.select(".bd-sidebar-primary .search-button-field")


def test_the_site_brings_what_its_pages_use_and_no_more(built):
    static = built / "_build/html/_static"
    for pattern in sphinxext.UNUSED:
        assert not list((built / "_build/html").glob(pattern))
    icons = (static / "scripts/fontawesome.js").read_text(encoding="utf-8")
    assert len(icons) < 100_000
    used = {m for tag in page(built, "front").select("i, span") for m in tag.get("class", ())}
    used = {name.removeprefix("fa-") for name in used if name.startswith("fa-")} - {"solid", "lg"}
    assert used >= {"bars", "magnifying-glass"}
    for name in used:
        assert re.search(rf'["\']?{name}["\']?[:,\]]', icons), name
    assert not re.search(r'[,{"]hippo"?:\[', icons)
    sheet = (static / "styles/pydata-sphinx-theme.css").read_text(encoding="utf-8")
    drawn = TTFont((static / sphinxext.FONT).with_suffix(".woff")).getBestCmap()
    placed = {ord(sign) for sign in re.findall(r"pst-icon-[\w-]+: ?\"(.)\"", sheet)}
    assert len(placed) > 5
    assert placed - set(drawn) <= {0xF09B, 0xF296}  # GitHub's and GitLab's, of another font
    assert len(drawn) < 100
    assert len(page(built, "front").select('meta[name="viewport"]')) == 1
    assert not page(built, "front").select('[src*="tex-svg"]')
    for tag in page(built, "front").select("link[rel=stylesheet], script[src]"):
        address = (tag.get("href") or tag["src"]).partition("?")[0]
        assert (built / "_build/html/book" / address).is_file(), address
    assert "CHEXLIB_FIGURES" not in os.environ  # it is for the notebooks of the build alone


def test_without_an_address_nothing_leads_to_one(built):
    for name in ("front", "07_notebook"):
        html = str(page(built, name))
        assert not re.search(r"mybinder|colab|executablebooks/|source-repository", html)


def test_with_an_address_every_button_is_there(built_with_address):
    links = [tag["href"] for tag in page(built_with_address, "07_notebook").select("a[href]")]
    for wanted in (
        "https://mybinder.org/v2/gh/someone/some-book/main?urlpath=lab/tree/book/07_notebook.ipynb",
        "https://colab.research.google.com/github/someone/some-book/blob/main/book/07_notebook.ipynb",
        ADDRESS,
        f"{ADDRESS}/edit/main/book/07_notebook.ipynb",
    ):
        assert wanted in links
    assert any(link.startswith(f"{ADDRESS}/issues/new") for link in links)


def test_a_text_that_runs_is_not_offered_to_those_who_open_notebooks(built_with_address):
    front = str(page(built_with_address, "front"))
    assert f"{ADDRESS}/edit/main/book/front.md" in front
    assert not re.search("mybinder|colab", front)


def test_a_failing_cell_fails_the_build(tmp_path):
    cells = [nb.new_markdown_cell("# A notebook"), nb.new_code_cell("1 / 0")]
    small_book(tmp_path, cells=cells, execute="cache")
    result = build(tmp_path)
    assert result.exit_code != 0


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(sphinxext, "MATHJAX", ("no_such_package", "x.js"))
    with pytest.raises(ExtensionError, match=r"chexlib\[book\]"):
        sphinxext.set_options(None, SimpleNamespace(html_static_path=[]))


def test_a_narrow_cell_breaks_before_an_interval_and_not_within_it():
    text = "<td>0.46\xa0(0.39–0.53)</td><td>1,204 (–)</td>"
    for pattern, mended in sphinxext.MENDED:
        text = pattern.sub(mended, text)
    assert text == "<td>0.46 (0.39–\u20600.53)</td><td>1,204 (–)</td>"


def test_a_chinese_summary_is_marked_as_chinese():
    text = '<section id="id1">\n<h2><span class="number">6.12. </span>繁體中文摘要</h2>'
    for pattern, mended in sphinxext.MENDED:
        text = pattern.sub(mended, text)
    assert text.startswith('<section lang="zh-Hant-TW" id="id1">')
