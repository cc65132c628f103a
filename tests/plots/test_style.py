"""The house style draws what it is given, and refuses what cannot be drawn."""

import base64
import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from PIL import Image

from chexlib import plots
from chexlib.plots.style import palette_png


@pytest.fixture(autouse=True)
def _style():
    with mpl.rc_context():
        plots.use_style()
        yield


def contrast(one: str, other: str) -> float:
    """WCAG 2.1 contrast ratio."""

    def luminance(colour):
        channel = np.asarray(mpl.colors.to_rgb(colour))
        linear = np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_text_is_legible_on_the_panel():
    assert contrast(plots.INK, plots.PANEL) > 7


def test_figures_are_small_and_opaque():
    assert mpl.rcParams["figure.dpi"] <= 100
    assert mpl.rcParams["figure.facecolor"] == plots.PANEL


def test_forest_draws_every_interval_once_a_series():
    _, ax = plt.subplots()
    for series in range(2):
        plots.forest(ax, ["Mass", "Pleural_Thickening"], [1, 2], [0, 1], [2, 3], label=str(series),
                     series=series, n_series=2)  # fmt: skip
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Mass", "Pleural Thickening"]
    assert len(ax.collections) == 2
    markers = {line.get_marker() for line in ax.lines}
    assert len(markers) == 2  # never colour alone
    assert ax.yaxis_inverted()


def test_forest_leaves_a_gap_for_nan():
    _, ax = plt.subplots()
    plots.forest(ax, ["a", "b"], [np.nan, 1], [np.nan, 0], [np.nan, 2])
    assert np.isnan(ax.lines[0].get_xdata()[0])


@pytest.mark.parametrize(
    ("estimate", "low", "message"), [([1], [0], "as many names"), ([0, 3], [1, 2], "on each line")]
)
def test_forest_refuses(estimate, low, message):
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=message):
        plots.forest(ax, ["a", "b"], estimate, low, [4] * len(low))


def test_forest_table_splits_rows_into_series():
    _, ax = plt.subplots()
    rows = pd.DataFrame(
        {
            "finding": ["Mass", "Hernia"] * 2,
            "subset": ["val", "val", "test", "test"],
            **{"estimate": 0.5, "low": 0.4, "high": 0.6},
        }
    )
    plots.forest_table(ax, rows, names="finding", series="subset")
    assert [line.get_label() for line in ax.lines] == ["val", "test"]
    plots.forest_table(ax, rows[:2], names="finding")
    assert len(ax.lines) == 3


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(False, ["0.001", "0.5", "2,000"]), (True, ["0.1%", "50%", "200000%"])],
)
def test_log_ticks_are_plain_numbers_and_no_others(percent, expected):
    _, ax = plt.subplots()
    ax.plot([0.001, 3000], [0, 1])
    plots.log_ticks(ax, [0.001, 0.5, 2000], percent=percent)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == expected
    assert ax.get_xscale() == "log"
    assert len(ax.get_xticks(minor=True)) == 0


def test_lines_keep_names_apart():
    _, ax = plt.subplots()
    rows = pd.DataFrame({"name": ["a", "a", "b", "b"], "x": [1, 2, 1, 2], "estimate": 0.5})
    plots.lines(ax, rows.assign(low=0.4, high=0.6), x="x", names="name")
    drawn = [container[0] for container in ax.containers]
    assert [container.get_label() for container in ax.containers] == ["a", "b"]
    assert len({line.get_marker() for line in drawn}) == 2  # never colour alone
    assert drawn[0].get_xdata()[0] < drawn[1].get_xdata()[0]


def test_panels_leave_no_frame_empty():
    figure, axes = plots.panels(5, columns=3, width=6, height=2, sharex=True)
    assert figure.axes == axes
    assert len(axes) == 5
    assert list(figure.get_size_inches()) == [6, 4]


@pytest.fixture
def chart():
    fig, ax = plt.subplots(dpi=96, subplot_kw={"facecolor": "#fbfaf7"})
    for line in range(6):
        ax.plot(np.arange(10) * line, label=f"line {line}")
    ax.legend()
    out = io.BytesIO()
    fig.savefig(out, facecolor="#fbfaf7")
    return out.getvalue()


def test_a_chart_shrinks_and_looks_the_same(chart):
    small = palette_png(chart)
    assert len(small) < 0.5 * len(chart)
    before, after = (
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int) for png in (chart, small)
    )
    assert abs(before - after).max() <= 10
    assert (after[0, 0] == before[0, 0]).all()  # the ground matches the page to the last bit


def test_what_would_grow_is_kept():
    noise = np.random.default_rng(0).integers(0, 2, (4, 4)).astype(bool)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "png", optimize=True)
    assert palette_png(out.getvalue()) == out.getvalue()


@pytest.mark.parametrize(
    ("drawn", "kind", "begins"),
    [
        ("ax.plot([0, 1])", "image/png", b"\x89PNG"),
        ("film(ax, np.zeros((32, 32), np.uint8))", "image/jpeg", b"\xff\xd8\xff"),
    ],
)
def test_a_notebook_stores_palettes_and_films_as_jpeg(drawn, kind, begins):
    code = (
        "import matplotlib.pyplot as plt\n"
        "import numpy as np\n"
        "from chexlib import plots\n"
        "from chexlib.plots.images import film\n"
        "plots.use_style()\n"
        "fig, ax = plt.subplots()\n"
        f"_ = {drawn}\n"
        "plt.show()"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    stored = base64.b64decode(output["data"][kind])
    assert [name for name in output["data"] if name.startswith("image/")] == [kind]
    assert stored.startswith(begins)
    assert kind == "image/jpeg" or Image.open(io.BytesIO(stored)).mode == "P"
