"""The built site, read as a reader would: from its files, in a browser, with the network off."""

import functools
import http.server
import io
import re
import shutil
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from PIL import Image
from playwright.sync_api import Error
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
SHOTS = ROOT / "_build" / "screenshots"
PAGES = [str(page) for page in parse_toc_yaml(ROOT / "_toc.yml")]
NOTEBOOKS = [page for page in PAGES if (ROOT / page).with_suffix(".ipynb").exists()]
TEXTS_THAT_RUN = [
    page
    for page in PAGES
    if page not in NOTEBOOKS
    and "\nkernelspec:" in (ROOT / f"{page}.md").read_text(encoding="utf-8")
]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--no-first-run"]
PATIENCE = 300_000  # milliseconds until a page counts as hung, on however busy a machine
DESKTOP = {"width": 1280, "height": 900}
TABLET = {"width": 768, "height": 1024}
PHONE = {"width": 390, "height": 844}
GROUNDS = {"light": (255, 255, 255), "dark": (18, 18, 18)}  # of a page, and so of its figures
MEGABYTE = 1_000_000

# Everything that draws itself has done so: mathematics, and the Plotly figures in sight.
DRAWN = """async () => {
  if (window.MathJax?.startup) await MathJax.startup.promise;
  const figures = [...document.querySelectorAll(".plotly-figure")].filter((f) => f.offsetWidth);
  const drawn = () => figures.every((f) => f.querySelector(".main-svg"));
  while (!drawn()) await new Promise(requestAnimationFrame);
}"""

# Elements that stick out of the page, save those that scroll or are clipped inside their own box.
SPILLED = """() => {
  const width = document.documentElement.clientWidth;
  const boxed = (e) => e && (getComputedStyle(e).overflowX !== "visible" || boxed(e.parentElement));
  return [...document.querySelectorAll(".bd-article *")]
    .filter((e) => e.getBoundingClientRect().right > width + 1 && !boxed(e.parentElement))
    .map((e) => e.outerHTML.slice(0, 120));
}"""

# Lines of code that end outside of their box, save in cells that are folded.
CUT = """() => [...document.querySelectorAll(".bd-article .cell_input pre")]
  .filter((e) => e.innerText && e.scrollWidth > e.clientWidth + 1)
  .map((e) => e.innerText.split("\\n").sort((a, b) => b.length - a.length)[0])"""

pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").exists(), reason="no site in _build/html: run `make book`"
)
each_page = pytest.mark.parametrize("name", PAGES)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


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


@pytest.fixture
def visit(browser):
    """Open pages with the network off; afterwards, nothing may have failed or been asked for."""
    troubles, contexts = [], []

    def open_page(address, *, offline=True, scheme="light", viewport=DESKTOP):
        if "://" not in address:
            address = f"{SITE.as_uri()}/{address}"
        context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=offline)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        home = address.split("/book/")[0].split("/search")[0]
        watch(page, home, troubles)
        page.goto(address)
        page.evaluate(DRAWN)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not troubles


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


def violations(page):
    """What axe finds wrong with a page, one line an element."""
    # Without preloading: on pages opened as files axe may not fetch their style sheets.
    found = Axe().run(page, options={"preload": False}).response["violations"]
    return [
        f"{rule['id']}: {element['target']} {element['html'][:150]}"
        for rule in found
        for element in rule["nodes"]
    ]


def grounds(page):
    """The colours of the upper left corners of a page's figures, as one sees them."""
    seen = set()
    for figure in page.locator(".bd-article img, .plotly-figure").all():
        figure.scroll_into_view_if_needed()
        picture = Image.open(io.BytesIO(figure.screenshot(animations="disabled")))
        seen.add(picture.convert("RGB").getpixel((2, 2)))
    return seen


def save(page, name, kind):
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"{Path(name).name}_{kind}.png"
    try:
        page.screenshot(path=path, full_page=True)
    except Error:  # on a busy machine Chromium says now and then that it could not
        page.screenshot(path=path, full_page=True)


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
    for figure in page.locator(".plotly-figure").all():
        assert len(figure.get_attribute("aria-label") or "") > 10
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
def test_the_threshold_explorer_answers_the_keyboard(visit):
    page = visit("book/09_thresholds.html")
    figure = page.locator(".plotly-figure")
    figure.scroll_into_view_if_needed()
    page.evaluate(DRAWN)
    chosen = "f => f.data.filter((t) => t.visible).map((t) => t.selectedpoints?.[0] ?? -1)"
    menu, slider = (
        page.get_by_role("combobox", name="finding"),
        page.get_by_role("slider", name="threshold"),
    )
    before = figure.evaluate(chosen)
    menu.focus()
    page.keyboard.type("Hern")
    page.wait_for_function(
        "f => f.data.findIndex((t) => t.visible) > 0", arg=figure.element_handle()
    )
    assert figure.evaluate(chosen) == before  # the menu leaves the threshold alone
    page.keyboard.press("Tab")
    assert slider.evaluate("s => s === document.activeElement")
    assert slider.evaluate("s => getComputedStyle(s).outlineStyle") == "solid"
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    moved = "([f, to]) => f.data.some((t) => t.visible && t.selectedpoints?.[0] === to)"
    page.wait_for_function(moved, arg=[figure.element_handle(), before[2] - 3])
    after = figure.evaluate(chosen)
    assert len(set(after[2:])) == 1  # points, cells and figures stand at one threshold
    assert (
        slider.get_attribute("aria-valuetext")
        == page.locator(".plotly-controls label span").inner_text()
    )
    said = page.locator(".plotly-controls [role=status]").inner_text()
    assert re.fullmatch(r"sensitivity [01]\.\d\d \(.*specificity .*ppv .*", said)
    save(page, "explorer", "moved")


@pytest.mark.browser
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_solutions_open(visit, name):
    page = visit(f"{name}.html")
    for solution in page.locator(".solution.dropdown, details.sd-dropdown").all():
        body = solution.locator("section, .sd-card-body").first
        assert not body.is_visible()
        solution.locator("button.toggle-button, summary").first.click()
        body.wait_for(state="visible")
    page.evaluate(DRAWN)


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


def test_only_pages_that_draw_with_plotly_load_it():
    for path in (SITE / "book").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert ("plotly.min.js" in text) == ('class="plotly-figure"' in text), path.name


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
    """Bytes on disk, without MathJax and Plotly for a page, which few pages need."""
    large = {"plotly.min.js", "tex-svg.js"}
    for name in PAGES:
        path = SITE / f"{name}.html"
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        asked = {
            tag.get("src") or tag["href"] for tag in soup.select("[src], link[rel=stylesheet]")
        }
        files = {(path.parent / urlsplit(one).path).resolve() for one in asked}
        weight = sum(file.stat().st_size for file in {path, *files} if file.name not in large)
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
