"""Figures of a notebook are stored with a palette, and look the same."""

import base64
import io

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from chexlib.plots.notebook import keep_figures_small, palette_png


@pytest.fixture
def chart():
    fig, ax = plt.subplots(dpi=96, subplot_kw={"facecolor": "#fbfaf7"})
    for line in range(6):
        ax.plot(np.arange(10) * line, label=f"line {line}")
    ax.legend()
    out = io.BytesIO()
    fig.savefig(out, facecolor="#fbfaf7")
    plt.close(fig)
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


def test_outside_a_notebook_nothing_happens():
    assert keep_figures_small() is None


def test_a_notebook_stores_palettes():
    code = (
        "import matplotlib.pyplot as plt\n"
        "from chexlib import plots\n"
        "plots.use_style()\n"
        "fig, ax = plt.subplots()\n"
        "ax.plot([0, 1])\n"
        "plt.show()"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    picture = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
    assert picture.mode == "P"
