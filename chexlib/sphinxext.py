"""What the book needs from Sphinx beyond ``_config.yml``, so that its pages work offline.

- Plotly figures. MyST-NB does not know Plotly's MIME type; :class:`PlotlyRenderer`, registered as
  an entry point ``myst_nb.mime_renderers``, turns a figure into HTML that draws itself.
- JavaScript. ``plotly.min.js`` and MathJax come from installed packages, not from another host,
  and reach only the pages that use them.
- Numbers. A chapter has the number of its file, ``08_roc`` is chapter 8, whatever stands before it.
- Buttons. What leads to the public repository is on once ``repository: url:`` is set.

The alternative text of a Plotly figure is the cell's ``mystnb.image.alt``, as for every picture.
"""

from __future__ import annotations

import html
import json
import re
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from myst_nb.core.render import MimeData, NbElementRenderer
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment

PLOTLY_MIME = "application/vnd.plotly.v1+json"
TRANSPARENT = "rgba(0,0,0,0)"

# Package and file of each script that would otherwise be loaded from a content network.
SCRIPTS = {
    "plotly.min.js": ("plotly", "package_data/plotly.min.js"),
    "tex-svg-full.js": ("sphinx-mathjax-offline", "static/mathjax/tex-svg-full.js"),
}

# A page opened as a file may not read the others, from which a search result quotes its lines.
SEARCH = 'if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;'

# Drawn once it has a width: inside a closed tab or a hidden solution it has none.
FIGURE = """\
<div class="plotly-figure" role="img" aria-label="{alt}" style="height: {height}px"></div>
<script>
{{
  const figure = document.currentScript.previousElementSibling;
  const content = {content};
  const draw = ([entry]) => {{
    if (!entry.contentRect.width) return;
    if (figure.data) Plotly.Plots.resize(figure);
    else Plotly.newPlot(figure, content);
  }};
  addEventListener("DOMContentLoaded", () => new ResizeObserver(draw).observe(figure));
}}
</script>
"""


def figure_html(figure: dict[str, Any], *, alt: str) -> str:
    """Return the HTML that draws a Plotly figure, as wide as the page lets it be.

    Parameters
    ----------
    figure : dict
        What Plotly stores under its MIME type: ``data``, ``layout``, perhaps ``frames``.
    alt : str
        What the picture shows, for those who do not see it.

    Examples
    --------
    >>> print(figure_html({"data": [], "layout": {"height": 300}}, alt="Nothing")[:81])
    <div class="plotly-figure" role="img" aria-label="Nothing" style="height: 300px">
    """
    layout = {"paper_bgcolor": TRANSPARENT, "plot_bgcolor": TRANSPARENT, **figure["layout"]}
    height = layout.pop("height", 420)
    layout.pop("width", None)  # a fixed width would not fit a phone
    content = {
        "data": figure["data"],
        "layout": layout,
        "frames": figure.get("frames", []),
        "config": {"displaylogo": False, "showSendToCloud": False},  # charts stay here
    }
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    text = text.replace("</", "<\\/")  # a label must not close the script element
    return FIGURE.format(alt=html.escape(alt), height=height, content=text)


class PlotlyRenderer:
    """MyST-NB's plug-in for Plotly's MIME type."""

    mime_priority_overrides = (("html", PLOTLY_MIME, 5),)  # ahead of every other form

    @staticmethod
    def handle_mime(
        renderer: NbElementRenderer, data: MimeData, inline: bool
    ) -> list[nodes.Element] | None:
        """Return the figure as raw HTML, or None for any other MIME type."""
        if data.mime_type != PLOTLY_MIME:
            return None
        alt = data.cell_metadata.get("mystnb", {}).get("image", {}).get("alt")
        if not alt:
            renderer.logger.warning(
                "Expected alternative text for a Plotly figure, got none. "
                "Set mystnb.image.alt in the cell's metadata.",
                subtype="plotly_alt",
                line=data.line,
            )
        renderer.add_js_file("plotly", "plotly.min.js", {})
        return [nodes.raw(text=figure_html(data.content, alt=alt or ""), format="html")]


def set_options(_app: Sphinx, config: Config) -> None:
    """Bring the scripts into the site, point MathJax at its copy, and set the theme's options.

    Here and not in ``_config.yml``, because ``html_theme_options`` given there replaces Jupyter
    Book's own, and its buttons may not be asked for without an address.
    """
    for script, (package, path) in SCRIPTS.items():
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ExtensionError(
                f"Expected the package {package!r}, which carries {script}, and did not find it. "
                "Install the extra: pip install 'chexlib[book]'"
            )
        config.html_static_path.append(str(Path(spec.submodule_search_locations[0], path)))
    config.mathjax_path = "tex-svg-full.js"
    theme = config.html_theme_options
    theme["logo"] = {"text": config.html_title, "alt_text": ""}
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


def set_scripts(app: Sphinx, pagename: str, _template: str, context: dict, _doctree: Any) -> None:
    """Leave out Thebe, which the book does not use and Sphinx declares twice; fit the search."""
    context["script_files"][:] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes.get('body')}"
    ]
    if pagename == "search":
        app.add_js_file(None, body=SEARCH)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("config-inited", set_options)
    app.connect("env-get-updated", number_chapters, priority=900)  # after Sphinx numbered them
    app.connect("html-page-context", set_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
