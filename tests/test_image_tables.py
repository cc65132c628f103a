"""The tables of chapter 5 agree with the phantom as it is, with their inputs, with themselves."""

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tables_gap import grey_distance, lung_area, told_apart
from tables_images import _beyond
from tables_phantom import _shape

from chexlib.data import data_home, read_radiograph, table
from chexlib.data.phantom import VERSION


def test_lungs_are_learned_from_the_masks_that_are_installed():
    frame = table("phantom_lungs")
    assert "sha256 semantic_masks_v7labs_lungs.zip" in frame.attrs
    names = sorted({column[:-2] for column in frame.columns if column.startswith("mode")})
    modes = np.stack([frame[[f"{n}_x", f"{n}_y"]].to_numpy().ravel() for n in names])
    size = np.linalg.norm(modes, axis=1)
    assert (np.diff(size) < 0).all()  # the widest first
    cosines = modes @ modes.T / np.outer(size, size)
    np.testing.assert_allclose(cosines, np.eye(len(names)), atol=0.02)  # of four decimals


def test_the_outline_of_a_lung_is_found_in_a_mask():
    mask = np.zeros((600, 500), np.uint8)
    for x in (150, 350):
        cv2.ellipse(mask, (x, 300), (70, 160), 0, 0, 360, 255, -1)
    shape = _shape(mask)
    right, left = np.split(shape, 2)
    # A lung mirrored is the other lung, and both are one unit wide together.
    assert np.ptp(shape[:, 0]) == pytest.approx(1)
    assert np.ptp(right[:, 1]) == pytest.approx(np.ptp(left[:, 1]), abs=0.02)
    assert right[:, 0].max() < 0 < left[:, 0].min()
    assert _shape(np.where(np.arange(500) < 250, mask, 0)) is None  # one lung alone


def test_shrinking_loses_little_of_a_nodule_to_224_px_and_more_below():
    frame = table("phantom_resolution")
    seen = frame[frame["measure"] == "detectability"].pivot(
        index="object", columns="size", values="estimate"
    )
    assert not seen.isna().any(axis=None)
    small = seen.loc["nodule of 1 cm"] / seen.loc["nodule of 1 cm", 1024]
    assert small[224] > 0.8
    assert small[32] < small[64] < small[224]
    assert seen.loc["nodule of 2.8 cm", 1024] > seen.loc["nodule of 1 cm", 1024]


def test_both_kinds_of_films_are_measured_alike():
    frame = table("phantom_against_films")
    sides = [frame[frame["kind"] == kind] for kind in ("NIH", "phantom")]
    for what in ("power", "grey"):
        one, other = (side[side["what"] == what] for side in sides)
        np.testing.assert_array_equal(one["x"], other["x"])
    assert [(side["what"] == "lost").sum() for side in sides] == [61, 60]


def test_the_phantom_is_nearer_to_real_films_than_the_one_before():
    frame = table("phantom_gap").set_index(["phantom", "statistic", "size"])["estimate"]
    before, *more = {name for name, *_ in frame.index} - {VERSION, "NIH films"}
    assert not more
    for what in ("left-right symmetry", "slope of power", "lung area"):
        real, now, then = (frame[name, what, 256] for name in ("NIH films", VERSION, before))
        assert abs(now - real) < abs(then - real), what
    assert frame[VERSION, "distance of greys", 256] < frame[before, "distance of greys", 256]
    for size in (32, 64, 224):
        assert frame[VERSION, "AUROC", size] > 0.9  # they are told apart, and the book says so


@pytest.mark.parametrize(
    ("image", "share"), [(np.full((256, 256), 128, np.uint8), 0), ("lungs", 0.2)]
)
def test_lungs_are_the_two_largest_dark_parts(image, share):
    if isinstance(image, str):
        image = np.full((256, 256), 200, np.uint8)
        for x in (85, 170):
            cv2.ellipse(image, (x, 120), (28, 74), 0, 0, 360, 60, -1)
        image[:, :20] = 0  # beside the body
    assert lung_area(image) == pytest.approx(share, abs=0.03)


def test_greys_are_as_far_apart_as_they_must_be_moved():
    one, other = np.zeros((2, 3, 256))
    one[:, 10] = 1
    other[:, 35] = 1
    assert grey_distance(one, other) == pytest.approx(25)


def test_a_network_that_sees_nothing_tells_nothing_apart():
    rng = np.random.default_rng(0)
    films = rng.integers(0, 255, (60, 32, 32)).astype(np.uint8)
    is_real = np.repeat([True, False], 30)
    assert 0.2 < roc_auc_score(is_real, told_apart(films, is_real)) < 0.8
    films[is_real] //= 2
    assert roc_auc_score(is_real, told_apart(films, is_real)) > 0.9


def test_no_patient_is_on_both_sides_of_a_split_by_patient():
    frame = table("phantom_leakage").set_index("split")
    assert (frame.loc["by patient", ["nearest_is_self", "patient_in_train"]] == 0).all(axis=None)
    assert (frame.loc["by film", "patient_in_train"] > 0.5).all()
    assert frame.loc["by film", "population"].nunique() == 10


def test_speeds_are_ratios_to_the_usual_path():
    speed = table("image_speed").set_index("what")
    assert speed.index[0].startswith("usual path")
    by = speed["ratio"]
    expected = speed["images_per_second"] / speed["images_per_second"].iloc[0]
    np.testing.assert_allclose(by, expected, rtol=0.02, atol=0.05)  # of whole images a second
    assert by[by.index.str.startswith("ImageCache.build")].item() >= 2
    assert by["batch of 64: gathered, 256 px"] >= 100
    assert by["batch of 64: flipped and normalised, 256 px"] >= 40


@pytest.mark.real_data("nih_sample/images")
def test_one_film_is_as_large_a_share_of_detail_as_the_table_says():
    paths = sorted((data_home() / "nih_sample" / "images").glob("*.png"))
    frame = table("phantom_against_films").query("kind == 'NIH' and what == 'lost'")
    assert _beyond(read_radiograph(paths[7]), 112) == pytest.approx(frame["value"].iloc[7])
