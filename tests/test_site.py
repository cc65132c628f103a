"""The built site, read as a reader would: from its files, in a browser, with the network off."""

import functools
import http.server
import io
import re
import threading
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from browsing import (
    DESKTOP,
    PATIENCE,
    PHONE,
    ROOT,
    SITE,
    SPILLED,
    TABLET,
    needs_site,
    save,
    violations,
    watch,
)
from bs4 import BeautifulSoup
from PIL import Image
from sphinx_external_toc.parsing import parse_toc_yaml

PAGES = [str(page) for page in parse_toc_yaml(ROOT / "_toc.yml")]
NOTEBOOKS = [page for page in PAGES if (ROOT / page).with_suffix(".ipynb").exists()]
TEXTS_THAT_RUN = [
    page
    for page in PAGES
    if page not in NOTEBOOKS
    and "\nkernelspec:" in (ROOT / f"{page}.md").read_text(encoding="utf-8")
]
GROUNDS = {"light": (255, 255, 255), "dark": (18, 18, 18)}  # of a page, and so of its figures
MEGABYTE = 1_000_000

# Lines of code that end outside of their box, save in cells that are folded.
CUT = """() => [...document.querySelectorAll(".bd-article .cell_input pre")]
  .filter((e) => e.innerText && e.scrollWidth > e.clientWidth + 1)
  .map((e) => e.innerText.split("\\n").sort((a, b) => b.length - a.length)[0])"""

pytestmark = needs_site
each_page = pytest.mark.parametrize("name", PAGES)


@pytest.fixture(scope="module")
def server():
    """Address of the site served on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def grounds(page):
    """The colours of the upper left corners of a page's figures; a film to touch is one itself."""
    # Higher than any figure: what floats over the page is in the picture of one that is cut.
    page.set_viewport_size({**page.viewport_size, "height": 1600})
    seen = set()
    for figure in page.locator(".bd-article img:not(.touched img)").all():
        figure.scroll_into_view_if_needed()
        picture = Image.open(io.BytesIO(figure.screenshot(animations="disabled")))
        seen.add(picture.convert("RGB").getpixel((2, 2)))
    return seen


@pytest.mark.browser
def test_what_goes_wrong_on_a_page_is_noticed(browser, tmp_path):
    """The pages' other tests rest on this."""
    for name, body in {
        "good": "<p>nothing",
        "missing": "<img src=none.png alt=''>",
        "elsewhere": "<img src=http://127.0.0.1:9/a.png alt=''>",
        "wrong": "<script>undefined.x</script>",
        "loud": "<script>console.warn('careful')</script>",
    }.items():
        (tmp_path / f"{name}.html").write_text(body)
    (tmp_path / "slow.png").touch()

    def troubles_of(name, leaving=None):
        context, troubles = browser.new_context(offline=True), []
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        watch(page, tmp_path.as_uri(), troubles)
        page.route("**/slow*", lambda route: None)  # is never answered
        page.goto((tmp_path / f"{name}.html").as_uri())
        if leaving:
            with page.expect_event("requestfailed"):
                page.evaluate("url => { new Image().src = url; }", leaving)
                page.goto("about:blank")
        context.close()
        return [trouble for trouble in troubles if "about:blank" not in trouble]

    assert troubles_of("good") == []
    assert f"failed: {tmp_path.as_uri()}/none.png" in troubles_of("missing")
    assert "asked another host: http://127.0.0.1:9/a.png" in troubles_of("elsewhere")
    assert "error: " in troubles_of("wrong")[0]
    assert troubles_of("loud") == ["careful"]
    assert troubles_of("good", leaving="slow.png") == []
    assert troubles_of("good", leaving="slow_missing.png") == [
        f"failed: {tmp_path.as_uri()}/slow_missing.png"
    ]


@pytest.mark.browser
@each_page
def test_page_is_complete(visit, name):
    page = visit(f"{name}.html")
    save(page, name, "desktop")
    images = page.evaluate(
        "() => [...document.querySelectorAll('.bd-article img')]"
        ".map((i) => ({alt: i.alt, role: i.role, drawn: i.complete && i.naturalWidth > 0}))"
    )
    for image in images:
        assert image["drawn"], image
        assert len(image["alt"]) > 10, image
        assert not re.search(r"\.(png|svg|jpe?g)$|/_images/|jupyter_execute", image["alt"]), image
    assert page.locator(".math").count() == page.locator(".math mjx-container").count()
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert page.locator("h1").count() >= 1
    assert page.evaluate(CUT) == []
    assert violations(page) == []


@pytest.mark.browser
@each_page
def test_page_fits_a_tablet(visit, name):
    page = visit(f"{name}.html", viewport=TABLET)
    save(page, name, "tablet")
    assert page.evaluate(SPILLED) == []
    assert page.evaluate(CUT) == []


@pytest.mark.browser
@each_page
def test_page_fits_a_phone(visit, name):
    page = visit(f"{name}.html", viewport=PHONE)
    save(page, name, "phone")
    assert page.evaluate(SPILLED) == []
    assert page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )


@pytest.mark.browser
@each_page
def test_page_in_the_dark(visit, name):
    page = visit(f"{name}.html", scheme="dark")
    save(page, name, "dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert violations(page) == []
    assert grounds(page) <= {GROUNDS["dark"]}


@pytest.mark.browser
def test_a_figure_takes_the_colours_of_the_page(visit):
    page = visit("book/09_thresholds.html")
    assert grounds(page) == {GROUNDS["light"]}
    for _ in range(3):  # what the system says, light and dark, in the theme's order
        if page.evaluate("document.documentElement.dataset.theme") != "dark":
            page.locator("button.theme-switch-button:visible").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert grounds(page) == {GROUNDS["dark"]}


@pytest.mark.browser
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_a_picture_opens_by_keyboard(visit, viewport):
    page = visit("book/05_images.html", viewport=viewport)
    button = page.get_by_role("button", name="Enlarge Fig. 5.1", exact=True)
    small = page.locator(".enlargeable img").first.bounding_box()
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    large = dialog.locator("img").bounding_box()
    assert large["width"] > 1.2 * small["width"]
    assert large["width"] >= 730  # its words are as large as those of the page
    assert dialog.locator("img").get_attribute("alt")
    assert violations(page) == []
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert button.evaluate("b => b === document.activeElement")
    page.locator(".enlargeable img").first.click()
    assert dialog.is_visible()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


@pytest.mark.browser
def test_a_table_that_goes_on_says_so(visit):
    page = visit("book/01_dataset.html", viewport=PHONE)
    more = page.locator(".output.text_html.more")
    assert more.count() > 0
    table = more.first.element_handle()
    table.scroll_into_view_if_needed()
    assert "gradient" in table.evaluate("e => getComputedStyle(e).maskImage")
    table.evaluate("e => e.scrollTo({left: e.scrollWidth, behavior: 'instant'})")
    page.wait_for_function("e => !e.classList.contains('more')", arg=table)


@pytest.mark.browser
def test_the_switch_turns_the_light_off(visit):
    page = visit(f"{PAGES[0]}.html")
    seen = set()
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").click()
        seen.add(page.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}


@pytest.mark.browser
def test_the_front_page_leads_on(visit):
    page = visit(f"{PAGES[-1]}.html")
    page.goto(f"{SITE.as_uri()}/index.html")
    page.wait_for_url("**/book/intro.html")
    assert "The CheXNet book" in page.title()


@pytest.mark.browser
@pytest.mark.parametrize("word", ["Hernia", "氣胸"])
def test_search_works_on_files(visit, word):
    page = visit(f"search.html?q={word}")
    page.wait_for_selector("#search-results li a")
    links = page.locator("#search-results li a").evaluate_all("all => all.map((a) => a.href)")
    assert any("/book/" in link for link in links)


@pytest.mark.browser
def test_search_quotes_lines_when_served(visit, server):
    page = visit(f"{server}/search.html?q=Hernia", offline=False)
    page.wait_for_selector("#search-results li p.context")
    assert "hernia" in page.locator("#search-results").inner_text().lower()


@pytest.mark.browser
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_solutions_open(visit, name):
    page = visit(f"{name}.html")
    for solution in page.locator(".solution.dropdown, details.sd-dropdown").all():
        body = solution.locator("section, .sd-card-body").first
        assert not body.is_visible()
        solution.locator("button.toggle-button, summary").first.click()
        body.wait_for(state="visible")


def test_run_times_name_every_notebook():
    html = (SITE / "book/execution_times.html").read_text(encoding="utf-8")
    rows = BeautifulSoup(html, "html.parser").select("article table tbody tr")
    assert len(rows) == len(NOTEBOOKS + TEXTS_THAT_RUN)
    assert all("✅" in row.text for row in rows)


def test_links_lead_somewhere():
    pages = {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted(SITE.rglob("*.html"))
        if "_static" not in path.parts
    }
    names = {
        path: {tag.get("id") or tag.get("name") for tag in soup.select("[id], a[name]")}
        for path, soup in pages.items()
    }
    broken = []
    for path, soup in pages.items():
        for tag in soup.select("a[href]"):
            target = urlsplit(tag["href"])
            if target.scheme or target.netloc:
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            anchor = unquote(target.fragment)
            known = names.get(file, {anchor})
            if not file.exists() or (anchor and anchor not in known):
                broken.append(f"{path.relative_to(SITE)}: {tag['href']}")
    assert not broken


def test_the_old_address_of_a_page_leads_to_the_new():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    moved = config["sphinx"]["config"]["redirects"]
    assert len(moved) == 9
    for old, new in moved.items():
        html = (SITE / f"{old}.html").read_text(encoding="utf-8")
        refresh = BeautifulSoup(html, "html.parser").select_one('meta[http-equiv="refresh"]')
        assert refresh["content"].endswith(f"url={new}")
        assert (SITE / old).with_name(new).is_file()
        assert old not in PAGES


def test_only_pages_with_formulas_load_mathjax():
    for path in (SITE / "book").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert ("tex-svg.js" in text) == ('class="math' in text), path.name


def test_the_head_of_a_page_says_what_it_is_once():
    for name in PAGES:
        head = BeautifulSoup(
            (SITE / f"{name}.html").read_text(encoding="utf-8"), "html.parser"
        ).head
        assert len(head.select('meta[name="viewport"]')) == 1
        assert len(head.select_one('meta[name="description"]')["content"]) > 60
        card = head.select_one('meta[property="og:image"]')["content"]
        assert Image.open((SITE / f"{name}.html").parent / card).size == (1200, 630)


def test_the_site_is_light():
    """Bytes on disk, without MathJax for a page, which few pages need."""
    for name in PAGES:
        path = SITE / f"{name}.html"
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        asked = {
            tag.get("src") or tag["href"] for tag in soup.select("[src], link[rel=stylesheet]")
        }
        files = {(path.parent / urlsplit(one).path).resolve() for one in asked}
        weight = sum(file.stat().st_size for file in {path, *files} if file.name != "tex-svg.js")
        assert weight < 1.5 * MEGABYTE, (name, weight)
    files = [path for path in SITE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 14 * MEGABYTE
    assert not [path for path in files if path.suffix in (".map", ".ttf")]


def test_charts_are_drawn_in_lines():
    kinds = {path.suffix for path in (SITE / "_images").iterdir()}
    assert kinds == {".svg"}


def test_buttons_that_need_an_address_are_off_without_one():
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    html = (SITE / "book/intro.html").read_text(encoding="utf-8")
    has_address = not re.search(r'^  url: ""$', config, re.MULTILINE)
    assert ("source-repository-button" in html) == has_address
