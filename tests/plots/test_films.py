"""Radiographs in figures: shown as they are, outlined where they should be, marked as films."""

import base64

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from chexlib.data.phantom import Film, render
from chexlib.findings import FINDINGS, INFO
from chexlib.plots.films import contact_sheet, film, films

IMAGE = np.add.outer(np.arange(40), np.arange(30)).astype(np.uint8)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_black_and_white_are_the_same_for_every_film():
    _, ax = plt.subplots()
    film(ax, IMAGE, title="dark")  # a dark film is not stretched
    (shown,) = ax.get_images()
    assert shown.get_clim() == (0, 255)
    np.testing.assert_array_equal(shown.get_array(), IMAGE)
    assert ax.get_title() == "dark"


def test_masks_are_outlined_and_boxes_drawn():
    mask = np.zeros(IMAGE.shape, bool)
    mask[10:20, 5:15] = True
    _, ax = plt.subplots()
    film(ax, IMAGE, mask=mask, boxes=[(5, 10, 10, 10)])
    (outline,) = ax.collections
    corners = outline.get_paths()[0].get_extents()
    np.testing.assert_allclose(
        [corners.x0, corners.y0, corners.x1, corners.y1], [4.5, 9.5, 14.5, 19.5]
    )
    (box,) = ax.patches
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (4.5, 9.5, 10, 10)
    film(ax, IMAGE, mask=np.zeros(IMAGE.shape, bool))  # an empty one has no outline
    assert len(ax.collections) == 1


def test_films_stand_in_order_and_no_frame_is_empty():
    figure = films(dict.fromkeys("abcde", IMAGE), columns=3)
    assert [ax.get_title() for ax in figure.axes] == list("abcde")
    assert len(films({"one": IMAGE}, columns=4).axes) == 1


def test_the_sheet_shows_each_finding_healthy_beside_sick():
    some = ("Effusion", "Mass")
    figure = contact_sheet(findings=some, severity=0.8, first=3, size=64)
    assert [ax.get_title() for ax in figure.axes] == [INFO[name].english for name in some]
    for k, (ax, name) in enumerate(zip(figure.axes, some, strict=True)):
        (shown,) = ax.get_images()
        person = {"patient": 3 + k, "sex": "MF"[k], "age": 35 + 3 * k}
        healthy, sick = np.hsplit(shown.get_array(), 2)
        np.testing.assert_array_equal(healthy, render(Film(**person), size=64).image)
        expected = render(Film(**person, severity={name: 0.8}), size=64)
        np.testing.assert_array_equal(sick, expected.image)
        (outline,) = ax.collections  # on the sick film alone
        assert min(path.get_extents().x0 for path in outline.get_paths()) >= 63


def test_the_sheet_has_all_findings_unless_told_otherwise():
    assert len(contact_sheet(size=32).axes) == len(FINDINGS)


def test_films_are_kept_as_jpeg_in_a_notebook():
    code = (
        "import numpy as np, matplotlib.pyplot as plt\n"
        "from chexlib import plots\n"
        "from chexlib.plots.films import films\n"
        "plots.use_style()\n"
        "_ = films({'one': np.zeros((32, 32), np.uint8)})\n"
        "plt.show()"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(book, kernel_name="python3").execute()
    (output,) = book.cells[0].outputs
    assert base64.b64decode(output["data"]["image/jpeg"])[:3] == b"\xff\xd8\xff"
    assert "image/png" not in output["data"]
