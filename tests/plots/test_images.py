"""Radiographs in figures: shown as they are, outlined where they should be, marked as films."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from chexlib.data.phantom import Film, render
from chexlib.findings import FINDINGS, INFO
from chexlib.plots import images
from chexlib.plots.images import Picture, contact_sheet, film, films, pictures

IMAGE = np.add.outer(np.arange(40), np.arange(30)).astype(np.uint8)
HEAT = np.linspace(-1, 1, IMAGE.size).reshape(IMAGE.shape)
RNG = np.random.default_rng(0)
FILM = RNG.integers(0, 256, (180, 160), dtype=np.uint8)


def test_black_and_white_are_the_same_for_every_film():
    _, ax = plt.subplots()
    film(ax, IMAGE, title="dark")  # a dark film is not stretched
    (shown,) = ax.get_images()
    assert shown.get_clim() == (0, 255)
    np.testing.assert_array_equal(shown.get_array(), IMAGE)
    assert ax.get_title() == "dark"


def test_masks_are_outlined():
    mask = np.zeros(IMAGE.shape, bool)
    mask[10:20, 5:15] = True
    _, ax = plt.subplots()
    film(ax, IMAGE, mask=mask)
    (outline,) = ax.collections
    corners = outline.get_paths()[0].get_extents()
    np.testing.assert_allclose(
        [corners.x0, corners.y0, corners.x1, corners.y1], [4.5, 9.5, 14.5, 19.5]
    )
    film(ax, IMAGE, mask=np.zeros(IMAGE.shape, bool))  # an empty one has no outline
    assert len(ax.collections) == 1


def test_films_stand_in_order_and_no_frame_is_empty():
    figure = films(dict.fromkeys("abcde", IMAGE), columns=3)
    assert [ax.get_title() for ax in figure.axes] == list("abcde")
    assert len(films({"one": IMAGE}, columns=4).axes) == 1


def test_the_sheet_shows_each_finding_healthy_beside_sick():
    some = ("Effusion", "Mass")
    figure = contact_sheet(findings=some, size=64)
    assert [ax.get_title() for ax in figure.axes] == [INFO[name].english for name in some]
    for k, (ax, name) in enumerate(zip(figure.axes, some, strict=True)):
        (shown,) = ax.get_images()
        person = {"patient": 1 + k, "sex": "MF"[k], "age": 35 + 3 * k}
        healthy, sick = np.hsplit(shown.get_array(), 2)
        np.testing.assert_array_equal(healthy, render(Film(**person), size=64).image)
        expected = render(Film(**person, severity={name: 0.75}), size=64)
        np.testing.assert_array_equal(sick, expected.image)
        (outline,) = ax.collections  # on the sick film alone
        assert min(path.get_extents().x0 for path in outline.get_paths()) >= 63
    assert len(contact_sheet(size=32).axes) == len(FINDINGS)


def test_overlay_is_clear_where_weak_and_a_bar_has_its_range():
    _, ax = plt.subplots()
    heat = np.linspace(0, 1, FILM.size).reshape(FILM.shape)
    shown = images.overlay(ax, FILM, heat, boxes=[(1, 2, 30, 40)], truth=[(5, 5, 9, 9)])
    bar = images.colour_bar(shown, ax, label="added to the logit")
    assert bar.ax.get_ylabel() == "added to the logit"
    assert (bar.vmin, bar.vmax) == (0, 1)
    layer = ax.images[1].get_array()
    assert layer[0, 0, 3] == 0
    assert layer[-1, -1, 3] == pytest.approx(images.ALPHA)
    assert len(ax.patches) == 2


def test_the_colours_brighten_evenly():
    from skimage.color import rgb2lab

    colours = mpl.colormaps[images.COLOURS](np.linspace(0, 1, 64))[:, :3]
    steps = np.diff(rgb2lab(colours[None])[0, :, 0])
    assert (steps > 0).all()
    assert steps.std() < 0.35 * steps.mean()


def test_picture_pixel_for_pixel():
    constant = images.overlay_picture(FILM, np.full(FILM.shape, 3.0))
    assert (constant == FILM[..., None]).all()
    heat = np.zeros(FILM.shape)
    heat[50:60, 40:50] = 1
    picture = images.overlay_picture(FILM, heat, boxes=[(100, 100, 20, 20)])
    assert picture.shape == (180, 160, 3)
    assert (picture[0, 0] == FILM[0, 0]).all()
    top = np.array(mpl.colormaps[images.COLOURS](1.0)[:3])
    mixed = 0.35 * FILM[55, 45] + 0.65 * 255 * top
    np.testing.assert_allclose(picture[55, 45], mixed, atol=1)
    assert (picture[100, 100:120] == 255).all()
    written = images.overlay_picture(FILM, heat, text="NOT FOR CLINICAL USE")
    changed = (written != images.overlay_picture(FILM, heat)).any(axis=2)
    assert changed.any()
    assert not changed[:150].any()


def test_several_maps_of_a_film():
    maps = {name: RNG.random(FILM.shape) for name in ("cam", "copied", "occlusion")}
    figure = images.heat_maps(FILM, maps, limits=(0, 1), columns=2)
    assert [ax.get_title() for ax in figure.axes if ax.get_label() == "film"] == list(maps)
    assert [ax for ax in figure.axes if ax.get_label() == "colour bar"]
    figure.canvas.draw()
    assert len(images.heat_maps(FILM, maps).axes) == 3  # no bar for maps of several scales


def test_every_film_has_its_own_map_and_its_own_title():
    figure = pictures(
        {"alone": Picture(IMAGE), "map": Picture(IMAGE, HEAT, [(10, 20, 30, 40)])}, columns=2
    )
    alone, mapped = figure.axes
    assert [ax.get_title() for ax in (alone, mapped)] == ["alone", "map"]
    opacity = [ax.get_images()[1].get_array()[..., 3].max() for ax in (alone, mapped)]
    assert opacity[0] == 0 < opacity[1]
    (box,) = mapped.patches
    assert (box.get_x(), box.get_y()) == (9.5, 19.5)
    assert (box.get_width(), box.get_height()) == (30, 40)
    (solid,) = pictures({"found": Picture(IMAGE, boxes=[(1, 2, 3, 4)])}).axes[0].patches
    assert (solid.get_x(), solid.get_linestyle()) == (0.5, "-")


def test_limits_are_shared_and_a_bar_says_what_they_are():
    figure = pictures(
        {"weak": Picture(IMAGE, HEAT / 4), "strong": Picture(IMAGE, HEAT)},
        limits=(0, 1),
        label="added to the logit",
    )
    weak, strong, bar = figure.axes
    opacity = [ax.get_images()[1].get_array()[..., 3].max() for ax in (weak, strong)]
    assert opacity[0] == pytest.approx(opacity[1] / 4)
    assert bar.get_ylabel() == "added to the logit"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda ax: images.overlay(ax, FILM, np.zeros((7, 7))), "of one shape"),
        (lambda ax: images.overlay(ax, FILM, FILM, limits=(1, 0)), "limits with low <= high"),
        (lambda _: images.overlay_picture(FILM, np.zeros((7, 7))), "of one shape"),
        (lambda _: pictures({}), "at least one picture"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw(plt.subplots()[1])
