"""What every test has: the marker of tests on fetched data, no deadlines, figures closed; and for
tests of the built site a browser."""

import shutil
import sys

import hypothesis
import pytest
from browsing import DESKTOP, DRAWN, PATIENCE, SITE, watch

from chexlib.data import data_home

# Two cores shared by several workers: how long one example takes says nothing.
hypothesis.settings.register_profile("chexlib", deadline=None)
hypothesis.settings.load_profile("chexlib")


def pytest_runtest_setup(item):
    """Skip ``@pytest.mark.real_data("rsna/rsna_to_nih.csv", ...)`` where one of them is absent."""
    for marker in item.iter_markers("real_data"):
        for path in marker.args:
            if not (data_home() / path).exists():
                pytest.skip(f"{path} is not in CHEXLIB_DATA: see `chexlib fetch --help`")


@pytest.fixture(autouse=True)
def _no_figure_stays_open():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--no-first-run"]


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


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
