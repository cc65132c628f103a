"""Where cells are, and maps at the size of images."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from chexlib.interpret import cell_centres, normalise, positive, upsample
from chexlib.models import CheXNet

SIDES = st.integers(1, 9)


class TestCells:
    @pytest.mark.parametrize(("size", "cells"), [(224, 7), (112, 3), (96, 3)])
    def test_centres_are_those_of_what_a_cell_sees(self, size, cells):
        # A network of means: nothing but the stem and the transitions' pooling, so that what a cell
        # sees ends inside the image, and its middle can be read from the gradient.
        model = CheXNet(growth_rate=12).eval().double()
        layers = model.densenet.features
        layers.pool0 = torch.nn.AvgPool2d(3, stride=2, padding=1)  # a maximum has no middle
        with torch.no_grad():
            for name, module in model.named_modules():
                if isinstance(module, torch.nn.Conv2d):
                    module.weight.fill_(0 if "denselayer" in name else 1 / module.in_channels)
            layers.conv0.weight.fill_(1.0)
        for stride in (32, 16):
            kept = []
            place = layers.norm5 if stride == 32 else layers.transition3.relu
            hook = place.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out))
            image = torch.ones(1, 3, size, size, dtype=torch.float64, requires_grad=True)
            layers(image)
            hook.remove()
            n = kept[0].shape[-1]
            assert stride == 16 or n == cells
            middle = n // 2
            kept[0][0, :, middle, middle].sum().backward()
            for axis in (0, 1):
                weight = image.grad[0].sum((0, 2 - axis)).numpy()
                seen = (weight * (np.arange(size) + 0.5)).sum() / weight.sum()
                assert seen == pytest.approx(cell_centres(n, stride=stride)[middle], abs=1e-6)

    def test_the_last_cells_of_112_px_end_before_the_film(self):
        np.testing.assert_allclose(cell_centres(3), [14.5, 46.5, 78.5])
        large = upsample(np.array([[0.0, 0.0, 1.0]]), (1, 112), input_size=(32, 112))
        assert large[0, 78] > 0.98
        assert (large[0, 79:] == 1).all()  # beyond the last centre its value goes on
        assert large[0, 46] == pytest.approx(0)


class TestUpsample:
    @given(st.integers(0, 2**32 - 1), SIDES, SIDES, st.integers(1, 40), st.integers(1, 40))
    def test_without_an_input_it_is_pytorch_interpolation(self, seed, h, w, height, width):
        maps = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(seed))
        expected = interpolate(maps, (height, width), mode="bilinear", align_corners=False)
        ours = upsample(maps, (height, width))
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(upsample(maps.numpy(), (height, width)), ours, atol=1e-6)

    @given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 300))
    def test_range_constants_and_sums_of_maps_are_kept(self, seed, cells, size):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(2, cells, cells))
        given_as = {"input_size": 32 * cells}
        large = upsample(a, size, **given_as)
        assert a.min() - 1e-5 <= large.min() <= large.max() <= a.max() + 1e-5
        np.testing.assert_allclose(upsample(np.full((cells, cells), 2.5), size), 2.5, rtol=1e-6)
        together = upsample(a + b, size, **given_as)
        np.testing.assert_allclose(together, large + upsample(b, size, **given_as), atol=1e-4)

    @given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 8))
    def test_a_cell_is_hottest_in_its_middle_at_any_size(self, row, column, factor):
        maps = np.zeros((7, 7))
        maps[row, column] = 1
        large = upsample(maps, 224 * factor, input_size=224)
        y, x = np.unravel_index(large.argmax(), large.shape)
        # Before the first centre and beyond the last the value goes on to the edge.
        for found, cell in ((y, row), (x, column)):
            expected = 0 if cell == 0 else factor * (32 * cell + 14.5)
            assert abs(found + 0.5 - expected) <= 1

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(ValueError, match="more than 96 px for 4 cells"):
            upsample(np.zeros((4, 4)), 100, input_size=64)
        for maps, size in ((np.zeros((0, 4)), 8), (np.zeros(4), 8), (np.zeros((4, 4)), 0)):
            with pytest.raises(ValueError, match="Expected maps"):
                upsample(maps, size)


class TestNormalise:
    MAPS = st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).normal(size=(2, 4, 5, 6))
    )

    @given(MAPS, st.floats(0.1, 10), st.floats(-5, 5))
    def test_each_map_spans_0_to_1_and_its_unit_does_not_matter(self, maps, scale, offset):
        found = normalise(maps)
        np.testing.assert_allclose(found.min((2, 3)), 0, atol=1e-12)
        np.testing.assert_allclose(found.max((2, 3)), 1, atol=1e-12)
        np.testing.assert_allclose(normalise(scale * maps + offset), found, atol=1e-9)

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

    def test_a_constant_map_has_nothing_hot(self):
        assert (normalise(np.full((1, 3, 3), -7.0)) == 0).all()

    def test_options_that_do_not_fit(self):
        maps = np.zeros((2, 3, 3))
        with pytest.raises(ValueError, match="Expected a scale among"):
            normalise(maps, how="jet")
        for options in (
            {"how": "ratio"},
            {"how": "map", "bias": [0, 0], "prevalence": [1, 1]},
            {"how": "ratio", "bias": [0, 0]},
            {"how": "map", "bias": [0, 0]},
        ):
            with pytest.raises(ValueError, match="Expected bias and prevalence"):
                normalise(maps, **options)
        with pytest.raises(ValueError, match="prevalences above 0"):
            normalise(maps, how="ratio", bias=[0, 0], prevalence=[0, 0.5])

    def test_positive(self):
        assert positive(np.array([-1.0, 2.0])).tolist() == [0, 2]
        assert positive(torch.tensor([-1.0, 2.0])).tolist() == [0, 2]
