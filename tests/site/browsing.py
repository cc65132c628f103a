"""What tests of the built site share: where it is, what goes wrong on a page, what axe finds."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SITE = ROOT / "_build" / "html"
SHOTS = ROOT / "_build" / "screenshots"
PATIENCE = 300_000  # milliseconds until a page counts as hung, on however busy a machine
DESKTOP = {"width": 1280, "height": 900}
TABLET = {"width": 768, "height": 1024}
PHONE = {"width": 390, "height": 844}
NO_SITE = "no site in _build/html: run `make book`"
needs_site = pytest.mark.skipif(not (SITE / "index.html").exists(), reason=NO_SITE)

# Mathematics has drawn itself.
DRAWN = "async () => { if (window.MathJax?.startup) await MathJax.startup.promise; }"

# Elements that stick out of the page, save those that scroll or are clipped inside their own box.
SPILLED = """() => {
  const width = document.documentElement.clientWidth;
  const boxed = (e) => e && (getComputedStyle(e).overflowX !== "visible" || boxed(e.parentElement));
  return [...document.querySelectorAll(".bd-article *")]
    .filter((e) => e.getBoundingClientRect().right > width + 1 && !boxed(e.parentElement))
    .map((e) => e.outerHTML.slice(0, 120));
}"""


def lost(request):
    """Tell what the page failed to get from what was on its way when the page was left.

    The browser asks for the page's icon after the page has loaded, and aborts what it has not read
    yet as soon as it is sent elsewhere or closed. Such a file must be there all the same.
    """
    where = urlsplit(request.url)
    path = unquote(where.path)
    file = Path(path) if where.scheme == "file" else SITE / path.lstrip("/")
    return request.failure != "net::ERR_ABORTED" or not file.is_file()


def watch(page, home, troubles):
    """Keep in ``troubles`` what goes wrong on a page that may ask for what is below ``home``."""
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on(
        "requestfailed",
        lambda request: lost(request) and troubles.append(f"failed: {request.url}"),
    )
    page.on(
        "console",
        lambda line: line.type in ("error", "warning") and troubles.append(line.text),
    )
    page.on(
        "request",
        lambda request: (
            request.url.startswith((home, "data:", "blob:"))
            or troubles.append(f"asked another host: {request.url}")
        ),
    )


def violations(page):
    """What axe finds wrong with a page, one line an element."""
    from axe_playwright_python.sync_playwright import Axe

    # Without preloading: on pages opened as files axe may not fetch their style sheets.
    found = Axe().run(page, options={"preload": False}).response["violations"]
    return [
        f"{rule['id']}: {element['target']} {element['html'][:150]}"
        for rule in found
        for element in rule["nodes"]
    ]


def save(page, name, kind):
    from playwright.sync_api import Error

    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"{Path(name).name}_{kind}.png"
    try:
        page.screenshot(path=path, full_page=True)
    except Error:  # on a busy machine Chromium says now and then that it could not
        page.screenshot(path=path, full_page=True)
