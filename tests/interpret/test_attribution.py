"""Captum's methods behind one call, each held to what defines it."""

import copy

import numpy as np
import pytest
import torch

from chexlib.data import Batcher
from chexlib.findings import FINDINGS
from chexlib.interpret import METHODS, HeatMap, attribute, case_maps, class_activation_maps
from chexlib.models import CheXNet


def maps_by(method, *arguments, **options):
    return attribute(*arguments, method=method, **options).values


def blank(grey):
    return grey.mean((1, 2, 3), keepdim=True).expand_as(grey)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_the_network_and_its_modes_alone(method, small, images, quick):
    before = {key: value.clone() for key, value in small.state_dict().items()}
    small.train()
    state = torch.get_rng_state()
    try:
        found = attribute(small, images, ["Mass", "hernia"], method=method, **quick.get(method, {}))
        assert small.training
    finally:
        small.eval()
    maps = found.values
    assert maps.shape[:2] == (3, 2)
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert not maps.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.requires_grad and p.grad is None for p in small.parameters())
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())
    hooks = [m for m in small.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks
    assert found.pixels((50, 70)).shape == (3, 2, 50, 70)


@pytest.mark.parametrize("method", sorted({*METHODS} - {"smoothgrad"}))
def test_batches_do_not_change_the_maps(method, small, images, quick):
    # SmoothGrad's noise is that of a batch. In double precision: a ReLU near 0 opens or closes
    # with the rounding of a batch.
    small, images = copy.deepcopy(small).double(), images.double()
    together, one_by_one = (
        maps_by(method, small, images, "Mass", batch_size=n, **quick.get(method, {}))
        for n in (8, 1)
    )
    scale = together.abs().max()
    torch.testing.assert_close(one_by_one / scale, together / scale, atol=1e-4, rtol=0)


def test_grad_cam_is_the_cam_without_what_speaks_against(small, images):
    cam, grad_cam = (maps_by(method, small, images) for method in ("cam", "gradcam"))
    assert (cam < 0).any()
    assert (cam > 0).any()
    torch.testing.assert_close(grad_cam, cam.clamp_min(0) / 9, atol=1e-6, rtol=1e-5)


def test_integrated_gradients_sum_to_the_difference_of_logits(images):
    # A network as drawn is smooth enough for few steps; what Captum sums does not depend on it.
    torch.manual_seed(3)
    model, grey = CheXNet(growth_rate=12).eval(), images[:2, :1, :64, :64].contiguous()
    maps = maps_by("integrated_gradients", model, grey, "Mass", steps=64)
    with torch.no_grad():
        gain = (model(grey) - model(blank(grey)))[:, FINDINGS.index("Mass")]
    assert gain.abs().min() > 0.005
    torch.testing.assert_close(maps.sum((1, 2, 3)), gain, atol=4e-3, rtol=0.05)


def test_occlusion_of_one_square_is_a_forward_pass_of_its_own(small, images):
    film = images[:1]
    maps = maps_by("occlusion", small, film, ["Edema", "Mass"], window=48, stride=48)
    grey = film.clone()
    grey[:, :, 48:, :48] = grey.mean()
    rows = [FINDINGS.index("Edema"), FINDINGS.index("Mass")]
    with torch.no_grad():
        loss = (small(film) - small(grey))[0, rows]
    torch.testing.assert_close(maps[0, :, 60, 10], loss, atol=1e-5, rtol=1e-4)


def test_smoothgrad_is_seeded_and_without_noise_the_gradient(small, images):
    film = images[:1, :1].contiguous()
    a, b, c = (maps_by("smoothgrad", small, film, "Mass", seed=s, samples=3) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    still = maps_by("smoothgrad", small, film, "Mass", noise=1e-7, samples=3)
    grey = film.clone().requires_grad_()
    small(grey)[0, FINDINGS.index("Mass")].backward()
    small.zero_grad(set_to_none=True)
    scale = grey.grad.abs().max()
    torch.testing.assert_close(still / scale, grey.grad.abs() / scale, atol=0.02, rtol=0)


def test_smoothgrad_lets_gradients_of_both_signs_cancel(small, images):
    from captum.attr import NoiseTunnel, Saliency

    row, grey = FINDINGS.index("Mass"), images[:1, :1].contiguous()
    ours = maps_by("smoothgrad", small, grey, "Mass", samples=6, noise=0.3)
    noisy = Saliency(lambda film: small.network(small.normalised(film)))  # noise leaves [0, 1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = NoiseTunnel(noisy).attribute(
            grey, nt_samples=6, nt_samples_batch_size=6, stdevs=0.3, target=row, abs=True
        )
    assert (ours <= sizes + 1e-6).all()
    assert ours.mean() < 0.9 * sizes.mean()


def test_a_network_of_one_channel(images, quick):
    model = CheXNet(growth_rate=12, window=(-1024, 1024)).eval()
    for method in ("gradcam", "fine", "integrated_gradients"):
        assert torch.isfinite(maps_by(method, model, images, "Mass", **quick.get(method, {}))).all()


class TestFine:
    def test_it_is_hot_only_where_the_cam_speaks_for_the_finding(self, small, images):
        cam = HeatMap(class_activation_maps(small, images).clip(0), 96).pixels(96)
        fine = maps_by("fine", small, images)
        assert fine.shape == (3, 14, 6, 6)  # twice the cells
        assert ((fine >= 0) & (fine <= 1 + 1e-6)).all()
        # Cells of stride 16 have their middle at 16 j + 6.5.
        at = cam[:, :, 6::16, 6::16]
        assert (fine[at == 0] < 0.02).all()

    def test_layer_cam_is_as_autograd_has_it(self, small, images):
        kept = {}
        relu = small.network.features.transition3.relu

        def keep(_module, _inputs, output):
            kept["maps"] = output
            output.retain_grad()

        hook = relu.register_forward_hook(keep)
        small(images)[:, 4].sum().backward()
        hook.remove()
        small.zero_grad(set_to_none=True)
        expected = (kept["maps"].grad.clamp_min(0) * kept["maps"]).sum(1).detach()
        torch.testing.assert_close(maps_by("layercam", small, images, "Mass")[:, 0], expected)


class TestCopiedBug:
    def test_it_is_the_same_for_all_findings_and_no_class_activation_map(self, small, images):
        true, copied = class_activation_maps(small, images), maps_by("copied", small, images)
        assert copied.shape == (3, 14, 3, 3)
        assert (copied == copied[:, :1]).all()
        # Not even by a factor and an offset.
        for finding in range(14):
            pair = np.stack([true[:, finding].flatten(1), copied[:, finding].flatten(1)], 1)
            assert max(abs(np.corrcoef(two)[0, 1]) for two in pair) < 0.999
        assert (true - true[:, :1]).abs().max() > 0.1

    def test_it_does_what_the_copied_lines_do(self, small, images):
        features = small.network.features
        weights = list(features.parameters())[-2]
        assert weights is features.norm5.weight
        with torch.no_grad():
            output = features(small.normalised(images))
            heat = sum(weights[i] * output[0, i] for i in range(len(weights)))
        torch.testing.assert_close(maps_by("copied", small, images)[0, 0], heat)

    def test_changing_the_head_changes_nothing(self, small, images):
        other = copy.deepcopy(small)
        other.classifier.weight.data.mul_(-3)
        for method, same in (("copied", True), ("cam", False)):
            one, two = (maps_by(method, network, images) for network in (small, other))
            assert torch.equal(one, two) == same


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"method": "gradcam++"}, "Expected a method among"),
            ({"findings": "Maas"}, "Did you mean 'Mass'"),
            ({"findings": []}, "at least one finding"),
            ({"images": torch.zeros(0, 1, 96, 96)}, "Expected images"),
            ({"batch_size": 0}, "Expected images"),
            ({"steps": 3}, r"Expected options of cam \(it has none\), got \['steps'\]"),
            ({"method": "fine", "batch": 3}, r"Expected options of fine .*got \['batch'\]"),
            ({"method": "smoothgrad", "window": 3}, r"\(noise, samples, seed\), got"),
            ({"method": "integrated_gradients", "steps": 0}, "steps above 0"),
            ({"method": "smoothgrad", "samples": 0}, "samples above 0"),
            ({"method": "smoothgrad", "noise": 0}, "noise above 0"),
            ({"method": "occlusion", "stride": 0}, "stride above 0"),
            ({"method": "occlusion", "window": 200}, "window inside the film"),
            ({"method": "occlusion", "window": 8, "stride": 9}, "stride of at most the window"),
            ({"method": "occlusion", "images": torch.rand(1, 3, 96, 96)}, "channels differ"),
        ],
    )
    def test_with_the_reason(self, small, images, options, message):
        with pytest.raises(ValueError, match=message):
            attribute(small, **{"images": images, "findings": "Mass"} | options)

    def test_an_error_inside_a_method_stays_what_it_is(self, small, images, monkeypatch):
        def broken(_images):
            raise TypeError("got an unexpected keyword argument 'steps'")

        monkeypatch.setattr(small, "forward", broken)
        with pytest.raises(TypeError, match="unexpected keyword"):
            attribute(small, images)

    @pytest.mark.parametrize("method", METHODS)
    def test_normalised_input_is_no_longer_wanted(self, small, images, method):
        with pytest.raises(ValueError, match="Normalised input is no longer wanted"):
            attribute(small, (images - 0.5) / 0.2, "Mass", method=method)

    def test_noise_may_leave_the_range_of_films(self, small, images):
        found = maps_by("smoothgrad", small, images.round(), "Mass", noise=0.5, samples=2)
        assert torch.isfinite(found).all()


CASE = {"method": "occlusion", "window": 32, "stride": 32}


class TestCases:
    FILMS = np.random.default_rng(0).integers(0, 256, (4, 64, 64), dtype=np.uint8)

    @pytest.mark.parametrize("method", ["cam", "gradcam", "fine"])
    def test_a_map_for_each_pair(self, small, method):
        batcher, seen = Batcher(self.FILMS), []
        rows, names = [2, 0, 2, 3, 1], ["Mass", "Edema", "hernia", "Mass", "Mass"]
        options = {"batch_size": 2, "progress": lambda *n: seen.append(n)}
        maps = case_maps(small, batcher, rows, names, method=method, **options)
        assert seen[-1][0] == seen[-1][1]
        assert (maps.input_size, maps.grid) == (64, (6.5, 16) if method == "fine" else (14.5, 32))
        for found, row, name in zip(maps.values, rows, names, strict=True):
            alone = maps_by(method, small, batcher([row]), name)[0, 0]
            np.testing.assert_allclose(found, alone, atol=1e-4)

    def test_maps_in_pixels_cover_the_film(self, small):
        maps = case_maps(small, Batcher(self.FILMS), [1], ["Mass"], **CASE)
        assert (maps.input_size, maps.values.shape) == (None, (1, 64, 64))

    def test_a_finding_for_each_film(self, small):
        with pytest.raises(ValueError, match="Expected a finding for each film"):
            case_maps(small, Batcher(self.FILMS), [0, 1], ["Mass"])
