"""What the book needs from Sphinx beyond ``_config.yml``, so that its pages work offline.

- Things to touch. A picture of the class ``touch NAME`` brings ``_static/touch/NAME.js`` to its
  page, which takes the picture's place, and ``NAME.data.js``, made of ``data/touch/NAME.json``:
  a page opened as a file may not fetch.
- MathJax comes from an installed package, not from another host, and only to pages that use it.
- Figures. While the book is built, :mod:`chexlib.plots.formats` stores them as SVG.
- Weight. What the theme brings along and no page uses is left out of the site.
- Numbers. A chapter has the number of its file, ``08_roc`` is chapter 8, whatever stands before it.
- Buttons. What leads to the public repository is on once ``repository: url:`` is set.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from docutils import nodes
from fontTools.subset import Subsetter
from fontTools.ttLib import TTFont
from sphinx.errors import ExtensionError

from chexlib.plots.formats import page_svg, palette_png

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment

# The script that would otherwise be loaded from a content network: its package, and where it lies.
MATHJAX = ("sphinx-mathjax-offline", "static/mathjax/tex-svg.js")
TOUCHED = re.compile(r'<img\b[^>]*class="[^"]*\btouch ([\w-]+)')

# A page opened as a file may not read the others, from which a search result quotes its lines.
SEARCH = 'if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;'

# What the site does without: source maps, the theme in other languages, fonts of icons it lacks.
UNUSED = (
    *("_static/**/*.map", "_static/locales", "_static/sphinx-thebe.*", "_static/**/*macros.html"),
    *("_static/**/fa-brands*", "_static/**/fa-regular*"),
)
# One of the two thousand icons that the theme's script holds: name, size, other names, outline.
ICON = re.compile(
    r'(?:"([\w-]+)"|(\w+)):\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\[(?:"[^"]*",?)+\])\],?'
)
# In the pages of Sphinx and the theme: more than one viewport, a style sheet for nothing, the index
# that the page of search alone needs, and what axe finds, corners of tables that are heads of
# nothing and a sidebar that is no landmark.
MENDED = (
    (re.compile(r'<meta name="viewport" content="[^"]*scale=1" ?/>'), ""),
    (re.compile(r"<link[^>]*sphinx-thebe\.css[^>]*>"), ""),
    (re.compile(r'<script src="\.\./[^"]*(search(tools|index)|language_data)\.js"></script>'), ""),
    (re.compile(r"<th\b[^>]*>(<p></p>)?</th>"), "<td></td>"),
    (re.compile(r'role="list" (?=class="citation-list")| role="doc-biblioentry"'), ""),
    (re.compile(r'(?=class="bd-sidebar-primary)'), 'role="navigation" aria-label="Book" '),
    # The summary of a chapter is read, and set, as the Chinese of Taiwan.
    (
        re.compile(r"<section (?=[^>]*>\s*<h2>(<span[^<]*</span>)?繁體中文摘要)"),
        '<section lang="zh-Hant-TW" ',
    ),
    # A narrow cell breaks before an interval and not within it: a word joiner after the dash.
    (re.compile(r"(<td>[\d.,]+)[\xa0 ](\([\d.,]+\u2013)(?=[\d.,]+\)</td>)"), "\\1 \\2\u2060"),
)
FONT = "vendor/fontawesome/webfonts/fa-solid-900.ttf"  # of icons that style sheets place
# What other sites show beside a link to the book, and what draws it.
CARD, COVER = "_static/card.png", "book/images/make_cover.py"


def set_options(_app: Sphinx, config: Config) -> None:
    """Bring MathJax into the site, point to its copy, and set the theme's options.

    Here and not in ``_config.yml``, because ``html_theme_options`` given there replaces Jupyter
    Book's own, and its buttons may not be asked for without an address.
    """
    package, path = MATHJAX
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ExtensionError(
            f"Expected the package {package!r}, which carries MathJax, and did not find it. "
            "Install the extra: pip install 'chexlib[book]'"
        )
    config.html_static_path.append(str(Path(spec.submodule_search_locations[0], path)))
    os.environ["CHEXLIB_FIGURES"] = "svg"  # the notebooks' kernels inherit it
    config.mathjax_path = "tex-svg.js"
    theme = config.html_theme_options
    theme["logo"] = {"text": config.html_title, "alt_text": ""}
    theme["use_download_button"] = (
        False  # the notebooks, with their pictures, are in the repository
    )
    theme["navbar_persistent"] = []  # a second search box: executablebooks/sphinx-book-theme#986
    if theme.get("repository_url"):
        for button in ("repository", "issues", "edit_page"):
            theme[f"use_{button}_button"] = True
    else:
        theme.pop("launch_buttons", None)


def number_chapters(_app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Give each numbered page the number in its file's name, in place of a running one."""
    for page, sections in env.toc_secnumbers.items():
        name = re.match(r"(\d+)_", PurePosixPath(page).name)
        if name is None:
            continue
        chapter = int(name[1])
        figures = env.toc_fignumbers.get(page, {})
        for numbers in (sections, *figures.values()):
            for anchor, number in numbers.items():
                numbers[anchor] = number and (chapter, *number[1:])
        for node in (env.titles[page], *env.tocs[page].findall(nodes.reference)):
            if node.get("secnumber"):
                node["secnumber"] = [chapter, *node["secnumber"][1:]]
    return []


def set_page(app: Sphinx, pagename: str, _template: str, context: dict, _doctree: Any) -> None:
    """Leave out what the page does without, bring what it lets touch, fit search, name the card."""
    for name in TOUCHED.findall(context.get("body", "")):
        data = [f"{name}.data"] * Path(app.srcdir, f"data/touch/{name}.json").exists()
        for script in ("touch", *data, name):
            app.add_js_file(f"touch/{script}.js")
    formulas = 'class="math' in context.get("body", "")
    unused = "thebe" if formulas else "thebe|mathjax|tex-svg"
    context["script_files"][:] = [
        script
        for script in context["script_files"]
        if not re.search(
            unused, f"{script.filename} {script.attributes.get('body')}", re.IGNORECASE
        )
    ]
    if pagename == "search":
        app.add_js_file(None, body=SEARCH)
    if context.get("page_source_suffix") != ".ipynb":  # Colab and Binder would show the source
        context["header_buttons"][:] = [
            button for button in context["header_buttons"] if button["label"] != "launch-buttons"
        ]
    if Path(app.srcdir, COVER).exists():
        address = app.config.html_baseurl
        card = f"{address.rstrip('/')}/{CARD}" if address else context["pathto"](CARD, 1)
        tag = f'<meta property="og:image" content="{card}" />'
        context["metatags"] = context.get("metatags", "") + tag


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Draw the card, take out of the site what no page uses, and mend what the theme writes."""
    os.environ.pop("CHEXLIB_FIGURES", None)
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    if Path(app.srcdir, COVER).exists():
        runpy.run_path(str(Path(app.srcdir, COVER)))["card"](site / CARD)
        (site / CARD).write_bytes(palette_png((site / CARD).read_bytes()))
    for path in {path for pattern in UNUSED for path in site.glob(pattern)}:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in Path(app.srcdir, "data/touch").glob("*.json"):
        content = path.read_text(encoding="utf-8")
        script = f'touch.data("{path.stem}", {content.rstrip()});\n'
        (site / f"_static/touch/{path.stem}.data.js").write_text(script, encoding="utf-8")
    for path in site.glob("_images/*.svg"):
        path.write_text(page_svg(path.read_text(encoding="utf-8")), encoding="utf-8")
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    for path, text in pages.items():
        for pattern, mended in MENDED:
            text = pattern.sub(mended, text)  # noqa: PLW2901
        path.write_text(text, encoding="utf-8")
    _keep_icons(site / "_static", "".join(pages.values()))


def _keep_icons(static: Path, pages: str) -> None:
    """Take the icons that no page shows out of the theme's script, style sheet and font."""
    icons = static / "scripts/fontawesome.js"
    known = [path.read_text(encoding="utf-8") for path in icons.parent.glob("*theme.js")]
    used = set(re.findall(r"fa-([a-z0-9-]+)", pages + "".join(known)))

    def kept(icon: re.Match) -> str:
        return icon[0] if used & {icon[1] or icon[2], *re.findall(r"[\w-]+", icon[3])} else ""

    icons.write_text(ICON.sub(kept, icons.read_text(encoding="utf-8")), encoding="utf-8")
    sheet = static / "styles/pydata-sphinx-theme.css"
    rules = re.sub(r"(\.fa-[\w-]+:before,?)+\{content:[^}]*\}", "", sheet.read_text("utf-8"))
    sheet.write_text(rules.replace('.woff2) format("woff2")', '.woff) format("woff")'), "utf-8")
    font = TTFont(static / FONT)
    font.flavor = "woff"
    subset = Subsetter()
    subset.populate(unicodes=[ord(sign) for sign in rules if "\ue000" <= sign <= "\uf8ff"])
    subset.subset(font)
    font.save((static / FONT).with_suffix(".woff"))
    for other in (".ttf", ".woff2"):
        (static / FONT).with_suffix(other).unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("config-inited", set_options)
    app.connect("env-get-updated", number_chapters, priority=900)  # after Sphinx numbered them
    app.connect("html-page-context", set_page, priority=900)  # after the theme
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
