"""A figure is small in a notebook, and sharp and of the page's colours on the site."""

import base64
import io
import re
from xml.etree import ElementTree as ET

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from chexlib import plots
from chexlib.plots.formats import COLOURS, _drawing, page_svg, palette_png
from chexlib.plots.images import Picture, film, pictures

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"


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


def test_text_is_legible_on_every_ground():
    tints = list(COLOURS)[4:]
    for page in range(2):
        ground, ink, grey = (COLOURS[name][page] for name in (plots.PANEL, plots.INK, plots.GREY))
        assert contrast(ink, ground) > 7
        assert contrast(grey, ground) > 4.5
        for tint in tints:
            assert contrast(ink, COLOURS[tint][page]) > 7
    assert contrast(plots.GREY, plots.PANEL) > 4.5
    for colour in plots.PALETTE[:-1]:  # marks, not text: they may be paler
        assert contrast(colour, COLOURS[plots.PANEL][1]) > 3


def some_chart():
    figure, ax = plt.subplots()
    plots.forest(ax, ["Mass", "Hernia"], [0.2, 0.5], [0.1, 0.4], [0.3, 0.6], label="one")
    ax.axvline(0.3, color=plots.GREY)
    ax.set_title("a title")
    ax.legend()
    return figure


def on_a_page(figure):
    return page_svg(_drawing(figure))


def test_a_chart_on_the_site_has_no_bitmap_and_the_words_of_the_page():
    svg = on_a_page(some_chart())
    root = ET.fromstring(svg)
    assert "a title" in [text.text for text in root.iter(f"{SVG}text")]
    assert "text{font-family:system-ui," in svg
    assert not list(root.iter(f"{SVG}image"))
    assert "metadata" not in svg
    assert svg == on_a_page(some_chart())  # the same figure, the same file


def test_a_chart_on_the_site_is_light_and_has_the_same_parts():
    written = _drawing(some_chart())
    svg = page_svg(written)
    assert len(svg) < len(written)
    before, after = ([one.tag for one in ET.fromstring(text).iter()] for text in (written, svg))
    assert before == after
    assert page_svg(svg) == svg


def test_another_drawing_is_left_alone():
    drawing = "<svg><style>a{}</style><rect x='1.23456'/></svg>"
    assert page_svg(drawing) == drawing


def test_a_chart_on_the_site_has_the_colours_of_both_pages():
    svg = on_a_page(some_chart())
    light, dark = re.search(r"<style.*?</style>", svg, re.DOTALL)[0].split("@media")
    for colour, pair in list(COLOURS.items())[:4]:
        assert f": {colour}" in svg.split("</style>")[1]
        for page, rules in enumerate((light, dark)):
            swap = rf'style\*="(fill|stroke): {colour}"\]{{\1:{pair[page]} !important}}'
            changed = bool(re.search(swap, rules))
            assert changed == (pair[page] != colour)


def bitmaps(figure):
    for image in ET.fromstring(on_a_page(figure)).iter(f"{SVG}image"):
        kind, content = image.get(HREF).removeprefix("data:image/").split(";base64,")
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert picture.format.lower() == kind
        yield picture


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)


def test_a_film_on_the_site_has_two_pixels_for_one(noise):
    figure, ax = plt.subplots(figsize=(2, 2))
    film(ax, noise)
    (picture,) = bitmaps(figure)
    assert picture.format == "WEBP"
    assert 300 < picture.width <= 384  # of two inches at 96 pixels, twice, with a margin


def test_a_film_under_a_heat_map_is_seen(noise):
    (picture,) = bitmaps(pictures({"a map": Picture(noise, np.zeros(noise.shape))}))
    assert np.asarray(picture.convert("L")).std() > 40  # and not the even grey of its colour bar


def test_a_matrix_on_the_site_stays_exact():
    figure, ax = plt.subplots()
    ax.imshow(np.eye(4), cmap="viridis")
    ax.grid(visible=False)
    (picture,) = bitmaps(figure)
    assert picture.format == "PNG"
    assert {colour[:3] for _, colour in picture.convert("RGB").getcolors()} == {
        tuple(int(255 * part) for part in mpl.colormaps["viridis"](end)[:3]) for end in (0.0, 1.0)
    }


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


def run_in_a_notebook(drawn):
    """Return what a notebook stores of a figure: kind and content."""
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
    return {kind: data for kind, data in output["data"].items() if kind.startswith("image/")}


FILM = "film(ax, np.zeros((32, 32), np.uint8))"


@pytest.mark.parametrize(
    ("drawn", "kind", "begins"),
    [("ax.plot([0, 1])", "image/png", b"\x89PNG"), (FILM, "image/jpeg", b"\xff\xd8\xff")],
)
def test_a_notebook_stores_palettes_and_films_as_jpeg(drawn, kind, begins):
    stored = run_in_a_notebook(drawn)
    assert list(stored) == [kind]
    content = base64.b64decode(stored[kind])
    assert content.startswith(begins)
    assert kind == "image/jpeg" or Image.open(io.BytesIO(content)).mode == "P"


def test_the_site_is_given_svg(monkeypatch):
    monkeypatch.setenv("CHEXLIB_FIGURES", "svg")
    stored = run_in_a_notebook(FILM)
    assert list(stored) == ["image/svg+xml"]
    assert "data:image/" in page_svg(stored["image/svg+xml"])
