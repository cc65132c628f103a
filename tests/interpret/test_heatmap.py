"""Where cells are, maps at the size of images, their scales; boxes, and how boxes agree."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from torch.nn.functional import interpolate
from torchvision.ops import box_iou

from chexlib.interpret import (
    Grid,
    HeatMap,
    cell_centres,
    heat_boxes,
    iobb,
    iou,
    normalise,
    to_levels,
    truth_mask,
)

SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 9)


class TestCells:
    # Those of whole networks, against what a cell sees, are in test_networks.
    def test_a_layer_of_windows_moves_them(self):
        pixels = Grid(0.5, 1)
        assert pixels.behind(7, 2, 3).behind((3, 3), (2, 2), 1) == (0.5, 4)
        assert pixels.behind(2, 2, 0).behind(2, 2, 0) == (2, 4)
        assert pixels.behind(3, 1, "same", 2) == pixels
        assert pixels.behind(3, 1, "valid") == (1.5, 1)
        assert pixels.behind((3, 5), 1, (1, 2)) == pixels
        assert pixels.behind((3, 5), 1, 0) is None
        np.testing.assert_allclose(cell_centres(3, Grid(6.5, 16)), [6.5, 22.5, 38.5])


class TestPixels:
    @given(SEEDS, SIDES, SIDES, st.integers(1, 40), st.integers(1, 40))
    def test_without_an_input_it_is_pytorch_interpolation(self, seed, h, w, height, width):
        maps = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(seed))
        expected = interpolate(maps, (height, width), mode="bilinear", align_corners=False)
        ours = HeatMap(maps).pixels((height, width))
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
        arrays = HeatMap(maps.numpy()).pixels((height, width))
        np.testing.assert_allclose(arrays, ours, atol=1e-6)

    @given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 8))
    def test_a_cell_is_hottest_in_its_middle_at_any_size(self, row, column, factor):
        maps = np.zeros((7, 7))
        maps[row, column] = 1
        large = HeatMap(maps, 224).pixels(224 * factor)
        y, x = np.unravel_index(large.argmax(), large.shape)
        # Before the first centre and beyond the last the value goes on to the edge.
        for found, cell in ((y, row), (x, column)):
            expected = 0 if cell == 0 else factor * (32 * cell + 14.5)
            assert abs(found + 0.5 - expected) <= 1

    def test_the_last_cells_of_112_px_end_before_the_film(self):
        large = HeatMap(np.array([[0.0, 0.0, 1.0]]), (32, 112)).pixels((1, 112))
        assert large[0, 78] > 0.98
        assert (large[0, 79:] == 1).all()  # beyond the last centre its value goes on
        assert large[0, 46] == pytest.approx(0)

    def test_some_maps_are_as_they_were_among_all(self):
        maps = np.random.default_rng(0).normal(size=(5, 3, 3))
        many = HeatMap(maps, 96, roll=np.arange(10).reshape(5, 2))
        assert len(many) == 5
        np.testing.assert_array_equal(many[3:].levels(32), many.levels(32)[3:])
        np.testing.assert_array_equal(many[[4, 0]].pixels(32), many.pixels(32)[[4, 0]])
        still = HeatMap(maps[2], 96).pixels(32)
        np.testing.assert_array_equal(many[2:3].pixels(32)[0], np.roll(still, (4, 5), axis=(0, 1)))


class TestNormalise:
    MAPS = SEEDS.map(lambda seed: np.random.default_rng(seed).normal(size=(2, 4, 5, 6)))

    @given(MAPS, st.floats(0.1, 10), st.floats(-5, 5))
    def test_each_map_spans_0_to_1_and_its_unit_does_not_matter(self, maps, scale, offset):
        found = normalise(maps)
        np.testing.assert_allclose(found.min((2, 3)), 0, atol=1e-12)
        np.testing.assert_allclose(found.max((2, 3)), 1, atol=1e-12)
        np.testing.assert_allclose(normalise(scale * maps + offset), found, atol=1e-9)
        assert (normalise(0 * maps - 7) == 0).all()  # a constant map has nothing hot

    @given(MAPS)
    def test_a_shared_range_keeps_the_order_of_findings(self, maps):
        found = normalise(maps, how="shared")
        np.testing.assert_allclose(found.max((1, 2, 3)), 1)
        same = maps.reshape(2, -1).argsort(axis=1)
        np.testing.assert_array_equal(found.reshape(2, -1).argsort(axis=1), same)

    @given(MAPS)
    def test_the_ratio_is_that_of_a_film_that_looks_so_everywhere(self, maps):
        bias, prevalence = np.linspace(-3, 0, 4), np.linspace(0.05, 0.5, 4)
        found = normalise(maps, how="ratio", bias=bias, prevalence=prevalence)
        logit = maps[1, 2, 3, 4] + bias[2]
        assert found[1, 2, 3, 4] == pytest.approx(1 / (1 + np.exp(-logit)) / prevalence[2])
        assert (found >= 0).all()
        assert (found <= 1 / prevalence[:, None, None]).all()

    @pytest.mark.parametrize("how", ["map", "shared", "ratio"])
    def test_tensors_and_arrays_agree(self, how):
        maps = torch.randn(2, 3, 4, 4)
        given_as = {"bias": [0, 1, 2], "prevalence": [0.1, 0.2, 0.3]} if how == "ratio" else {}
        found = normalise(maps, how=how, **given_as)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(
            found, normalise(maps.numpy(), how=how, **given_as), rtol=1e-5, atol=1e-7
        )


def random_boxes(rng, n):
    return np.concatenate([rng.uniform(0, 80, (n, 2)), rng.uniform(0.5, 60, (n, 2))], axis=1)


class TestOverlap:
    @given(SEEDS)
    def test_iou_is_torchvisions(self, seed):
        rng = np.random.default_rng(seed)
        a, b = random_boxes(rng, 5), random_boxes(rng, 3)
        corners = [torch.tensor(np.hstack([x[:, :2], x[:, :2] + x[:, 2:]])) for x in (a, b)]
        np.testing.assert_allclose(iou(a, b), box_iou(*corners), atol=1e-9)
        np.testing.assert_allclose(iou(a, b), iou(b, a).T)
        moved = [7.5 * x + np.array([-20, -20, 0, 0]) for x in (a, b)]  # no unit, no place matters
        np.testing.assert_allclose(iou(*moved), iou(a, b), atol=1e-6)
        np.testing.assert_allclose(iobb(*moved), iobb(a, b), atol=1e-6)

    @given(SEEDS)
    def test_iobb_is_at_least_iou_and_forgives_small_boxes(self, seed):
        rng = np.random.default_rng(seed)
        a, b = random_boxes(rng, 4), random_boxes(rng, 4)
        assert (iobb(a, b) >= iou(a, b) - 1e-12).all()
        np.testing.assert_allclose(np.diag(iou(a, a)), 1)
        np.testing.assert_allclose(iobb([[10, 10, 1, 1]], [[0, 0, 100, 100]]), 1)
        assert iou(np.empty((0, 4)), [[0, 0, 1, 1]]).shape == (0, 1)
        assert iou([[10, 10, 1, 1]], [[0, 0, 100, 100]]).item() == pytest.approx(1e-4)


class TestHeatBoxes:
    @given(SEEDS, st.sampled_from([30, 60, 180, 250, "otsu"]))
    def test_regions_are_those_of_scikit_image(self, seed, cut):
        rng = np.random.default_rng(seed)
        heat = rng.normal(size=(24, 31))
        levels = to_levels(heat)
        threshold = threshold_otsu(levels) if cut == "otsu" else cut
        regions = regionprops(label(levels > threshold, connectivity=2), intensity_image=levels)
        expected = {
            (r.bbox[1], r.bbox[0], r.bbox[3] - r.bbox[1], r.bbox[2] - r.bbox[0]) for r in regions
        }
        found = heat_boxes(heat, cut=cut)
        assert {tuple(box) for box in found.astype(int).tolist()} == expected
        assert len(found) == len(regions)

    def test_the_hottest_come_first_then_the_largest(self):
        heat = np.zeros((20, 20))
        heat[1:3, 1:3], heat[5:7, 5:12], heat[15, 15] = 0.8, 0.8, 1.0
        assert heat_boxes(heat, cut=60).tolist() == [[15, 15, 1, 1], [5, 5, 7, 2], [1, 1, 2, 2]]
        both = [heat_boxes(heat, cut=cut) for cut in (60, 180)]
        np.testing.assert_array_equal(heat_boxes(heat), np.concatenate(both))
        for cut in ("wang", 60, "otsu"):  # a constant map has none
            assert heat_boxes(np.full((9, 9), 3.0), cut=cut).shape == (0, 4)

    @given(SEEDS, st.floats(0.01, 100), st.floats(-100, 100))
    def test_the_unit_of_a_map_does_not_matter(self, seed, scale, offset):
        heat = np.random.default_rng(seed).integers(0, 256, (12, 12)).astype(float)
        heat.flat[:2] = 0, 255
        np.testing.assert_array_equal(to_levels(heat), heat)
        again = to_levels(scale * heat + offset).astype(int)
        assert np.abs(again - heat).max() <= 1


class TestTruthMask:
    @given(SEEDS, st.integers(8, 200))
    def test_its_area_is_that_of_the_box(self, seed, size):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(0, 0.9, 2)
        width, height = rng.uniform(0, 1 - x), rng.uniform(0, 1 - y)
        mask = truth_mask([[x, y, width, height]], size)
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() == rows * columns > 0
        for pixels, side in ((rows, height), (columns, width)):
            assert abs(pixels - side * size) <= 1

    def test_several_boxes_and_the_edge(self):
        mask = truth_mask([[0, 0, 0.5, 0.5], [0.75, 0.75, 0.26, 0.26], [1, 1, 0.001, 0.001]], 4)
        assert mask.astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]

    def test_outlines_hold_the_pixels_whose_centres_lie_within(self):
        square = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])
        np.testing.assert_array_equal(
            truth_mask([square], 64), truth_mask([[0.25, 0.25, 0.5, 0.5]], 64)
        )
        triangle = np.array([[0, 0], [1, 0], [0, 1]])
        assert truth_mask([triangle], 200).mean() == pytest.approx(0.5, abs=0.01)
        both = truth_mask([triangle, 0.001 * square + 0.9], 8)
        assert both.sum() == truth_mask([triangle], 8).sum() + 1  # too small for a centre
        assert both[7, 7]


RATIO = {"how": "ratio", "bias": [0, 0]}


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: HeatMap(np.zeros((4, 4)), 64), "more than 96 px for 4 cells"),
        (lambda: HeatMap(np.zeros((0, 4))), "Expected maps"),
        (lambda: HeatMap(np.zeros(4)), "Expected maps"),
        (lambda: HeatMap(np.zeros((4, 4))).pixels(0), "Expected a size"),
        (lambda: normalise(np.zeros((2, 3, 3)), how="jet"), "Expected a scale among"),
        (lambda: normalise(np.zeros((2, 3, 3)), how="ratio"), "Expected bias and prevalence"),
        (lambda: normalise(np.zeros((2, 3, 3)), **RATIO), "Expected bias and prevalence"),
        (lambda: normalise(np.zeros((2, 3, 3)), bias=[0, 0]), "Expected bias and prevalence"),
        (lambda: normalise(np.zeros((2, 3, 3)), **RATIO, prevalence=[0, 1]), "prevalences above 0"),
        (lambda: iobb([[0, 0, 0, 1]], [[0, 0, 1, 1]]), "sides above 0"),
        (lambda: heat_boxes(np.zeros((2, 3, 3)), cut=60), "one heat map"),
        (lambda: heat_boxes(np.zeros((0, 3)), cut=60), "one heat map"),
        (lambda: heat_boxes(np.zeros((3, 3)), cut="isodata"), "Expected a cut"),
        (lambda: heat_boxes(np.zeros((3, 3)), cut=255), "Expected a cut"),
        (lambda: heat_boxes(np.array([[0, np.nan]]), cut=60), "finite heat maps"),
        (lambda: heat_boxes(np.array([[0, np.inf]]), cut=60), "finite heat maps"),
    ],
)
def test_what_does_not_fit_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
