"""What every test has: the marker of tests on fetched data, no deadlines, figures closed."""

import sys

import hypothesis
import pytest

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
