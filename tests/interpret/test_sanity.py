"""Similarity against references, and checks that find what they are made to find."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from chexlib.findings import FINDINGS
from chexlib.interpret import (
    STAGES,
    attribute,
    cascade,
    compare_models,
    perturbation_curves,
    randomised,
    shift_equivariance,
    similarity,
)
from chexlib.interpret.captum_methods import to_grey
from chexlib.models import CheXNet

SEEDS = st.integers(0, 2**32 - 1)


class TestSimilarity:
    @given(SEEDS)
    def test_spearman_is_scipys_ties_included(self, seed):
        rng = np.random.default_rng(seed)
        a, b = rng.integers(0, 6, (2, 2, 5, 4))
        found = similarity(a, b)
        for k in range(2):
            assert found[k] == pytest.approx(spearmanr(a[k].ravel(), b[k].ravel())[0])

    @given(SEEDS, st.integers(11, 30), st.integers(11, 30))
    def test_ssim_is_scikit_images(self, seed, height, width):
        rng = np.random.default_rng(seed)
        a, b = rng.random((2, height, width))
        b = (a + b) / 2
        unit = [(m - m.min()) / (m.max() - m.min()) for m in (a, b)]
        expected = structural_similarity(
            *unit, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert similarity(a, b, kind="ssim") == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("kind", ["spearman", "pearson", "ssim"])
    def test_a_map_is_like_itself_in_any_unit(self, kind):
        a = torch.rand(3, 2, 16, 16)
        found = similarity(a, 7 * a - 3, kind=kind)
        assert found.shape == (3, 2)
        np.testing.assert_allclose(found, 1, atol=1e-5)

    def test_refused_and_undefined(self):
        assert np.isnan(similarity(np.zeros((3, 3)), np.eye(3)))
        with pytest.raises(ValueError, match="Expected a similarity"):
            similarity(np.eye(3), np.eye(3), kind="cosine")
        with pytest.raises(ValueError, match="of one shape"):
            similarity(np.eye(3), np.eye(4))
        with pytest.raises(ValueError, match="at least 11 px"):
            similarity(np.eye(9), np.eye(9), kind="ssim")


class TestRandomised:
    def test_parts_are_replaced_from_the_head_down(self, small):
        trained = {key: value.clone() for key, value in small.densenet.state_dict().items()}
        before = set()
        for name, network in randomised(small):
            now = network.densenet.state_dict()
            changed = {key for key in now if not torch.equal(now[key], trained[key])}
            assert before < changed, name
            assert all(any(key.startswith(part) for part in _down_to(name)) for key in changed)
            before = changed
        # Every convolution and normalisation of the network is in some stage.
        parts = {key.rsplit(".", 1)[0] for key in trained}
        assert parts == {key.rsplit(".", 1)[0] for key in before}
        assert all(torch.equal(v, trained[k]) for k, v in small.densenet.state_dict().items())

    def test_it_is_seeded_and_leaves_the_generator_alone(self, small):
        state = torch.get_rng_state()
        a, b, c = (next(randomised(small, seed=s))[1].classifier.weight for s in (0, 0, 1))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
        assert torch.equal(torch.get_rng_state(), state)

    def test_cascade(self, small, images):
        table = cascade(small, images[:2], ["Mass", "Edema"])
        assert table["stage"].cat.categories.tolist() == ["trained", *STAGES]
        assert len(table) == 7 * 2 * 2
        mean = table.groupby("stage", observed=True)[["spearman", "ssim"]].mean()
        np.testing.assert_allclose(mean.loc["trained"], 1, atol=1e-6)
        assert mean["spearman"].iloc[1:].max() < 0.95

    def test_cascade_finds_the_method_that_ignores_the_head(self, small, images):
        table = cascade(small, images[:1], "Mass", method="copied", kinds=["pearson"])
        by_stage = table.set_index("stage")["pearson"]
        assert by_stage["head"] == pytest.approx(1)
        assert by_stage["block 4"] < 0.99

    def test_two_models(self, small, images):
        same = compare_models(small, small, images, "Mass", kinds=["pearson"])
        np.testing.assert_allclose(same["pearson"], 1)
        other = CheXNet(growth_rate=12).eval()
        assert compare_models(small, other, images, "Mass")["spearman"].abs().max() < 1
        negative = {"kinds": ["pearson"], "absolute": True}
        head = other.classifier
        with torch.no_grad():
            other.load_state_dict(small.state_dict())
            head.weight.mul_(-1)
        np.testing.assert_allclose(
            compare_models(small, other, images, "Mass", **negative)["pearson"], 1, atol=1e-6
        )


def _down_to(stage):
    names = list(STAGES)
    return [part for name in names[: names.index(stage) + 1] for part in STAGES[name]]


class TestShift:
    def test_a_network_without_padding_effects_is_equivariant(self, images):
        # Dense blocks that add nothing: cells see the stem and the poolings only.
        model = CheXNet(growth_rate=12).eval()
        with torch.no_grad():
            for name, module in model.named_modules():
                if isinstance(module, torch.nn.Conv2d) and "denselayer" in name:
                    module.weight.zero_()
        large = torch.nn.functional.interpolate(images[:2], size=(224, 224), mode="bilinear")
        table = shift_equivariance(model, large, ["Mass", "Edema"], shifts=(32,), method="cam")
        assert (table["shift"] == 32).all()
        assert table["pearson"].min() > 0.7
        assert len(table) == 4

    def test_logits_are_the_networks(self, small, images):
        """Not those of a probability, which is 1 from a logit of 17 on."""
        bias = small.classifier.bias.data
        kept = bias.clone()
        try:
            before = shift_equivariance(small, images, "Mass", shifts=(8,))
            bias[4] += 40
            after = shift_equivariance(small, images, "Mass", shifts=(8,))
        finally:
            bias.copy_(kept)
        np.testing.assert_allclose(after["logit"], before["logit"], atol=1e-4)

    def test_columns_and_shifts(self, small, images):
        table = shift_equivariance(small, images, "Mass", shifts=(8, 32))
        assert table.columns.tolist()[:3] == ["film", "finding", "shift"]
        assert table.groupby("shift").size().to_dict() == {8: 3, 32: 3}
        assert (table["peak"] >= 0).all()
        for shifts in ((), (0,), (49,)):
            with pytest.raises(ValueError, match="Expected shifts"):
                shift_equivariance(small, images, "Mass", shifts=shifts)


class TestPerturbation:
    def test_it_begins_with_the_film_and_ends_without(self, small, images):
        row = FINDINGS.index("Mass")
        heat = torch.rand(3, 96, 96)
        grey = to_grey(images)
        blank = grey.mean((1, 2, 3), keepdim=True).expand_as(grey)
        with torch.no_grad():
            film, empty = (small(x)[:, row].sigmoid() for x in (images, blank))
        gone = perturbation_curves(small, images, heat, "Mass", steps=3, batch_size=5)
        assert gone.share.tolist() == [0, 1 / 3, 2 / 3, 1]
        np.testing.assert_allclose(gone.probability[:, 0], film, atol=1e-4)
        np.testing.assert_allclose(gone.probability[:, -1], empty, atol=1e-4)
        there = perturbation_curves(
            small, images, heat, "Mass", kind="insertion", substrate="mean", steps=3
        )
        np.testing.assert_allclose(there.probability[:, 0], empty, atol=1e-4)
        np.testing.assert_allclose(there.probability[:, -1], film, atol=1e-4)
        np.testing.assert_allclose(gone.area, np.trapezoid(gone.probability, gone.share))

    def test_the_hottest_pixels_go_first(self, small, images):
        heat = torch.zeros(3, 96, 96)
        heat[:, :48] = 1
        gone = perturbation_curves(small, images, heat, "Edema", steps=2, substrate=0.0)
        grey = to_grey(images).clone()
        grey[:, :, :48] = 0
        with torch.no_grad():
            half = small(grey)[:, FINDINGS.index("Edema")].sigmoid()
        np.testing.assert_allclose(gone.probability[:, 1], half, atol=1e-4)

    def test_inserting_into_a_blurred_film(self, small, images):
        heat = attribute(small, images, "Mass", method="copied")[:, 0]
        heat = torch.nn.functional.interpolate(heat[:, None], size=96)[:, 0]
        found = perturbation_curves(small, images, heat, "Mass", kind="insertion", steps=2)
        assert found.kind == "insertion"
        assert ((found.probability >= 0) & (found.probability <= 1)).all()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"kind": "swap"}, "Expected a kind"),
            ({"heat": torch.zeros(3, 9, 9)}, "Expected maps"),
            ({"steps": 0}, "Expected maps"),
            ({"substrate": "noise"}, 'Expected "blur"'),
            ({"substrate": 2.0}, 'Expected "blur"'),
        ],
    )
    def test_refused(self, small, images, options, message):
        given_as = {"heat": torch.zeros(3, 96, 96)} | options
        with pytest.raises(ValueError, match=message):
            perturbation_curves(small, images, finding="Mass", **given_as)
