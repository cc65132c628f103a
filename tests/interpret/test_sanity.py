"""Similarity against references, and checks that find what they are made to find."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from chexlib.findings import FINDINGS
from chexlib.interpret import (
    cascade,
    compare_models,
    perturbation_curves,
    randomised,
    similarity,
)
from chexlib.models import CheXNet

SEEDS = st.integers(0, 2**32 - 1)
PARTS = {  # of a DenseNet, from the head down
    "head": ("classifier",),
    "block 4": ("features.norm5", "features.denseblock4"),
    "block 3": ("features.transition3", "features.denseblock3"),
    "block 2": ("features.transition2", "features.denseblock2"),
    "block 1": ("features.transition1", "features.denseblock1"),
    "stem": ("features.norm0", "features.conv0"),
}


class TestSimilarity:
    @given(SEEDS)
    def test_spearman_is_scipys_ties_included(self, seed):
        rng = np.random.default_rng(seed)
        a, b = rng.integers(0, 6, (2, 2, 5, 4))
        found = similarity(a, b)
        for k in range(2):
            assert found[k] == pytest.approx(spearmanr(a[k].ravel(), b[k].ravel())[0])

    @pytest.mark.parametrize("kind", ["spearman", "pearson"])
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


class TestRandomised:
    def test_parts_are_replaced_from_the_head_down(self, small):
        trained = {key: value.clone() for key, value in small.network.state_dict().items()}
        before = set()
        for name, network in randomised(small):
            now = network.network.state_dict()
            changed = {key for key in now if not torch.equal(now[key], trained[key])}
            assert before < changed, name
            assert all(any(key.startswith(part) for part in _down_to(name)) for key in changed)
            before = changed
        # Every convolution and normalisation of the network is in some stage.
        parts = {key.rsplit(".", 1)[0] for key in trained}
        assert parts == {key.rsplit(".", 1)[0] for key in before}
        assert all(torch.equal(v, trained[k]) for k, v in small.network.state_dict().items())

    def test_it_is_seeded_and_leaves_the_generator_alone(self, small):
        state = torch.get_rng_state()
        a, b, c = (next(randomised(small, seed=s))[1].classifier.weight for s in (0, 0, 1))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
        assert torch.equal(torch.get_rng_state(), state)

    def test_cascade(self, small, images):
        table = cascade(small, images[:2], ["Mass", "Edema"])
        assert table["stage"].cat.categories.tolist() == ["trained", *PARTS]
        assert len(table) == 7 * 2 * 2
        assert table.columns.tolist() == ["stage", "film", "finding", "spearman"]
        mean = table.groupby("stage", observed=True)["spearman"].mean()
        np.testing.assert_allclose(mean["trained"], 1, atol=1e-6)
        assert mean.iloc[1:].max() < 0.95

    def test_cascade_finds_the_method_that_ignores_the_head(self, small, images):
        table = cascade(small, images[:1], "Mass", method="copied", kind="pearson")
        by_stage = table.set_index("stage")["pearson"]
        assert by_stage["head"] == pytest.approx(1)
        assert by_stage["block 4"] < 0.99

    def test_two_models(self, small, images):
        same = compare_models(small, small, images, "Mass", kind="pearson")
        np.testing.assert_allclose(same["pearson"], 1)
        other = CheXNet(growth_rate=12).eval()
        assert compare_models(small, other, images, "Mass")["spearman"].abs().max() < 1
        with torch.no_grad():
            other.load_state_dict(small.state_dict())
            other.classifier.weight.mul_(-1)
        negative = compare_models(small, other, images, "Mass", kind="pearson")["pearson"]
        np.testing.assert_allclose(negative, -1, atol=1e-6)


def _down_to(stage):
    names = list(PARTS)
    return [part for name in names[: names.index(stage) + 1] for part in PARTS[name]]


class TestPerturbation:
    def test_it_begins_with_the_film_and_ends_without(self, small, images):
        row, heat = FINDINGS.index("Mass"), torch.rand(3, 96, 96)
        empty = images.mean((1, 2, 3), keepdim=True).expand_as(images)
        with torch.no_grad():
            film, empty = (small(x)[:, row].sigmoid() for x in (images, empty))
        share, gone = perturbation_curves(small, images, heat, "Mass", steps=3)
        assert share.tolist() == [0, 1 / 3, 2 / 3, 1]
        np.testing.assert_allclose(gone[:, 0], film, atol=1e-4)
        np.testing.assert_allclose(gone[:, -1], empty, atol=1e-4)
        _, there = perturbation_curves(small, images, heat, "Mass", kind="insertion", steps=3)
        np.testing.assert_allclose(there[:, -1], film, atol=1e-4)
        assert (np.abs(there[:, 0] - film.numpy()) > 1e-4).any()  # it begins with a blurred one
        assert ((there >= 0) & (there <= 1)).all()

    def test_the_hottest_pixels_go_first(self, small, images):
        heat = torch.zeros(3, 96, 96)
        heat[:, :48] = 1
        _, gone = perturbation_curves(small, images, heat, "Edema", steps=2)
        grey = images.clone()
        grey[:, :, :48] = images.mean((1, 2, 3), keepdim=True)
        with torch.no_grad():
            half = small(grey)[:, FINDINGS.index("Edema")].sigmoid()
        np.testing.assert_allclose(gone[:, 1], half, atol=1e-4)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"kind": "swap"}, "Expected a kind"),
            ({"heat": torch.zeros(3, 9, 9)}, "Expected maps"),
            ({"steps": 0}, "Expected maps"),
        ],
    )
    def test_refused(self, small, images, options, message):
        given_as = {"heat": torch.zeros(3, 96, 96)} | options
        with pytest.raises(ValueError, match=message):
            perturbation_curves(small, images, finding="Mass", **given_as)
