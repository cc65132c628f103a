"""From heat to boxes, and how boxes agree: against scikit-image, torchvision and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from torchvision.ops import box_iou

from chexlib.interpret import heat_boxes, iobb, iou, to_levels, truth_mask

SEEDS = st.integers(0, 2**32 - 1)


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

    @given(SEEDS, st.floats(0.1, 10), st.floats(-50, 50))
    def test_units_and_places_do_not_matter(self, seed, scale, shift):
        rng = np.random.default_rng(seed)
        a, b = random_boxes(rng, 4), random_boxes(rng, 4)
        moved = [scale * x + np.array([shift, shift, 0, 0]) for x in (a, b)]
        np.testing.assert_allclose(iou(*moved), iou(a, b), atol=1e-6)
        np.testing.assert_allclose(iobb(*moved), iobb(a, b), atol=1e-6)

    @given(SEEDS)
    def test_iobb_is_at_least_iou_and_forgives_small_boxes(self, seed):
        rng = np.random.default_rng(seed)
        a, b = random_boxes(rng, 4), random_boxes(rng, 4)
        assert (iobb(a, b) >= iou(a, b) - 1e-12).all()
        np.testing.assert_allclose(np.diag(iou(a, a)), 1)
        np.testing.assert_allclose(iobb([[10, 10, 1, 1]], [[0, 0, 100, 100]]), 1)
        assert iou([[10, 10, 1, 1]], [[0, 0, 100, 100]]).item() == pytest.approx(1e-4)

    def test_none_and_no_boxes(self):
        assert iou(np.empty((0, 4)), [[0, 0, 1, 1]]).shape == (0, 1)
        with pytest.raises(ValueError, match="sides above 0"):
            iobb([[0, 0, 0, 1]], [[0, 0, 1, 1]])


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
        assert heat_boxes(heat, cut=60, min_area=0.01).tolist() == [[5, 5, 7, 2], [1, 1, 2, 2]]

    def test_wangs_boxes_are_those_of_both_thresholds(self):
        heat = np.zeros((20, 20))
        heat[2:12, 2:12], heat[5:8, 5:8] = 0.5, 1.0
        assert heat_boxes(heat).tolist() == [[2, 2, 10, 10], [5, 5, 3, 3]]

    @given(SEEDS, st.floats(0.01, 100), st.floats(-100, 100))
    def test_the_unit_of_a_map_does_not_matter(self, seed, scale, offset):
        heat = np.random.default_rng(seed).integers(0, 256, (12, 12)).astype(float)
        heat.flat[:2] = 0, 255
        np.testing.assert_array_equal(to_levels(heat), heat)
        again = to_levels(scale * heat + offset).astype(int)
        assert np.abs(again - heat).max() <= 1

    def test_turning_a_map_turns_its_boxes(self):
        heat = np.random.default_rng(0).normal(size=(16, 16))
        turned = heat_boxes(heat.T)[:, [1, 0, 3, 2]]
        assert {tuple(b) for b in turned} == {tuple(b) for b in heat_boxes(heat)}

    def test_a_constant_map_has_none(self):
        for cut in ("wang", 60, "otsu"):
            assert heat_boxes(np.full((9, 9), 3.0), cut=cut).shape == (0, 4)

    @pytest.mark.parametrize(
        ("heat", "cut", "message"),
        [
            (np.zeros((2, 3, 3)), 60, "one heat map"),
            (np.zeros((0, 3)), 60, "one heat map"),
            (np.zeros((3, 3)), "isodata", "Expected a cut"),
            (np.zeros((3, 3)), 255, "Expected a cut"),
            (np.array([[0, np.nan]]), 60, "finite heat maps"),
            (np.array([[0, np.inf]]), 60, "finite heat maps"),
        ],
    )
    def test_refused(self, heat, cut, message):
        with pytest.raises(ValueError, match=message):
            heat_boxes(heat, cut=cut)


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
