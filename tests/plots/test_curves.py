import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from chexlib.findings import FINDINGS
from chexlib.plots.curves import band, panels


@pytest.fixture
def bands():
    x = np.linspace(0, 1, 5)
    parts = [
        pd.DataFrame({"finding": name, "curve": curve, "x": x, "y": x, "low": x / 2, "high": x})
        for name in FINDINGS
        for curve in ("roc", "pr")
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.mark.parametrize(
    ("curve", "chance", "second"), [("roc", None, [0, 1]), ("pr", 0.1, [0.1, 0.1])]
)
def test_a_band_has_the_line_of_a_useless_score(bands, curve, chance, second):
    _, ax = plt.subplots()
    rows = bands[(bands["finding"] == "Mass") & (bands["curve"] == curve)]
    band(ax, rows, chance=chance)
    assert list(ax.lines[0].get_ydata()) == second
    np.testing.assert_allclose(ax.lines[1].get_ydata(), rows["y"])


def test_a_band_is_of_one_curve(bands):
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="one finding and one curve, got 2"):
        band(ax, bands[bands["finding"] == "Mass"])


def test_panels_name_every_finding_with_its_note(bands):
    figure = panels(bands, curve="roc", notes={name: f"note {name}" for name in FINDINGS})
    titles = [ax.get_title("left") for ax in figure.axes if ax.axison]
    assert len(titles) == len(FINDINGS)
    assert all(f"note {name}" in title for name, title in zip(FINDINGS, titles, strict=True))


def test_panels_refuse_an_unknown_curve(bands):
    with pytest.raises(ValueError, match="got 'det'"):
        panels(bands, curve="det", notes={})
