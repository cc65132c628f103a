"""CheXNet: its sizes, its features, its costs, and ImageNet's weights in it."""

import hashlib
import http.client
import os
import platform
import re
import subprocess
import sys
import types
import urllib.error
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models import get_model_weights

from chexlib.findings import FINDINGS
from chexlib.models import CheXNet, chexnet, cost, load_checkpoint

SMALL = CheXNet(growth_rate=4).eval()


def size_of(network):
    return sum(p.numel() for p in network.parameters())


def test_sizes_are_exact():
    assert size_of(CheXNet()) == 6_968_206
    assert size_of(CheXNet(growth_rate=12)) == 1_005_086


@pytest.mark.parametrize(
    "arch",
    ["densenet121", "densenet161", "densenet169", "densenet201", "resnet50", "wide_resnet50_2",
     "convnext_tiny", "efficientnet_b0", "efficientnet_v2_s"],
)  # fmt: skip
def test_sizes_are_torchvisions_but_for_the_head(arch):
    with torch.device("meta"):
        model = CheXNet(arch=arch)
    published = get_model_weights(arch).IMAGENET1K_V1.meta["num_params"]
    width = model.classifier.in_features
    assert size_of(model) == published - (width + 1) * 1000 + (width + 1) * 14


@pytest.mark.parametrize("growth_rate", [None, 12])
def test_layers_are_121(growth_rate):
    with torch.device("meta"):
        model = CheXNet(growth_rate=growth_rate)
    weighted = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == 121


def test_logits_are_torchvisions(images, seen, make):
    source, model = make(seed=3), CheXNet(growth_rate=4).eval()
    model.network.load_state_dict(source.state_dict())
    for films in (images, images.expand(-1, 3, -1, -1)):
        torch.testing.assert_close(model(films), source(seen), atol=1e-5, rtol=0)
    assert list(model.state_dict()) == [f"network.{key}" for key in source.state_dict()]
    assert model.findings == FINDINGS
    assert len(model(images)[0]) == len(FINDINGS)


def test_the_head_is_linear_in_the_mean_of_the_features(images):
    maps = SMALL.features(images)
    by_hand = maps.mean(dim=(2, 3)) @ SMALL.classifier.weight.T + SMALL.classifier.bias
    torch.testing.assert_close(by_hand, SMALL(images))
    at_each = torch.einsum("kc,bchw->bkhw", SMALL.classifier.weight, maps)
    means = at_each.mean(dim=(2, 3)) + SMALL.classifier.bias
    torch.testing.assert_close(means, SMALL(images), atol=1e-5, rtol=0)
    assert maps.min() >= 0


@settings(max_examples=15)
@given(st.integers(29, 130), st.integers(29, 130))
def test_the_map_has_the_documented_size(height, width):
    maps = SMALL.features(torch.zeros(1, 3, height, width))
    assert maps.shape[2:] == ((height + 3) // 32, (width + 3) // 32)


def test_probabilities_leave_every_mode_as_it_was(images):
    model = CheXNet(growth_rate=4)
    model.network.features.norm0.eval()  # somebody froze it
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    probabilities = model.predict_proba(images)
    assert [module.training for module in model.modules()] == modes
    assert not probabilities.requires_grad
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)
    torch.testing.assert_close(probabilities, model.eval()(images).sigmoid())


def test_a_window_gives_one_channel_its_own_black_and_white(make):
    source = make(channels=1)
    model = CheXNet(growth_rate=4, window=(-1024, 1024)).eval()
    model.network.load_state_dict(source.state_dict())
    grey = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(model(grey), source(2048 * grey - 1024), atol=1e-5, rtol=1e-5)


def test_options_make_the_same_shape():
    for options in ({}, {"arch": "densenet169"}, {"growth_rate": 12, "window": (0.0, 1.0)}):
        with torch.device("meta"):
            model = CheXNet(**options)
            twin = CheXNet(**model.options)
        assert repr(twin) == repr(model)
        assert twin.options == model.options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arch": "vgg11"}, "Expected an architecture among"),
        ({"arch": "efficientnet_v2_l"}, "Expected an architecture among"),  # other mean and std
        ({"growth_rate": 0}, "growth rate from 1 up, of a DenseNet, got 0"),
        ({"arch": "resnet18", "growth_rate": 12}, "of a DenseNet, got 12 for resnet18"),
        ({"findings": "Mass"}, "Expected a sequence of names"),
        ({"findings": []}, "Expected a sequence of names"),
        ({"findings": ["Mass", " "]}, "Expected a sequence of names"),
        ({"findings": ["Mass", "mass"]}, "each once"),
    ],
)
def test_options_are_checked(options, said):
    with pytest.raises(ValueError, match=said):
        CheXNet(**options)


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 2, 64, 64), (2, 64, 64, 3), (1, 3, 28, 64)])
def test_images_are_checked(shape):
    with pytest.raises(ValueError, match=r"Expected images .*got \["):
        SMALL(torch.zeros(shape))


@pytest.mark.parametrize("value", [-0.01, 1.01, torch.nan, torch.inf, -torch.inf])
def test_values_outside_0_to_1_are_refused(images, seen, value):
    SMALL(images.clamp(0, 1) * (1 + 1e-6))  # rounding is none of them
    SMALL(images[:0])
    odd = images.clone()
    odd[1, 0, 3, 5] = value
    for call in (SMALL, SMALL.features, SMALL.predict_proba):
        for films in (odd, seen):
            with pytest.raises(ValueError, match="Normalised input is no longer wanted"):
                call(films)


def test_a_compiled_network_is_one_graph(images):
    """A look at values would break it in two, and wait for a GPU."""
    found = torch.compile(SMALL, backend="eager", fullgraph=True)(images)
    torch.testing.assert_close(found, SMALL(images))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_layers_use_the_memory_of_earlier_ones():
    code = """
import resource, torch
from chexlib.models import CheXNet
torch.set_num_threads(1)
model, films = CheXNet(growth_rate=8).eval(), torch.rand(64, 1, 224, 224)
for _ in range(2):
    model.predict_proba(films)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
model.predict_proba(films)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    pages = []
    for more in ({}, {"MALLOC_ARENA_MAX": "8"}):  # glibc's own way, as somebody chose it
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=bare | more, capture_output=True, check=True)
        pages.append(int(done.stdout))
    assert pages[0] < pages[1] / 5


def test_glibc_is_told_unless_somebody_told_it_before(monkeypatch):
    told = []
    libraries = [types.SimpleNamespace(), types.SimpleNamespace(mallopt=lambda *a: told.append(a))]
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)

    def tell():
        chexnet._keep_memory.__wrapped__()
        return len(told)

    monkeypatch.setattr(chexnet.ctypes, "CDLL", lambda _: libraries[0])
    assert tell() == 0  # such as musl
    monkeypatch.setattr(chexnet.ctypes, "CDLL", lambda _: libraries[1])
    assert tell() == 2
    assert {option for option, _ in told} == {-1, -3}
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    assert tell() == 2
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    monkeypatch.setattr(chexnet.ctypes, "CDLL", lambda path: path + 0)  # TypeError, as on Windows
    assert tell() == 2


def test_the_package_alone_does_not_load_torch():
    program = "import sys, chexlib, chexlib.data; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


# ---- costs, against a count by hooks on every layer of a network that runs


def counted_by_hooks(model, size):
    """Return operations of one image: of all layers, and of the first convolution."""
    counts = {}

    def hook(module, _, output):
        if isinstance(module, torch.nn.Conv2d):
            counts[module] = 2 * module.weight.numel() * output.shape[2] * output.shape[3]
        else:
            counts[module] = 2 * module.weight.numel()

    kinds = torch.nn.Conv2d | torch.nn.Linear
    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, kinds)]
    model.eval()(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    return sum(counts.values()), counts[model.network.features.conv0]


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"growth_rate": 12}, 64),
        ({"growth_rate": 12}, 100),
        ({"growth_rate": 5, "window": (0.0, 1.0)}, 32),
        ({"arch": "densenet169", "growth_rate": 8}, 64),
    ],
)
def test_counts_are_those_of_a_network_that_runs(options, size):
    model = CheXNet(**options)
    forward, first = counted_by_hooks(model, size)
    counted = cost(model, size=size)
    assert counted.forward == forward
    # Backward: gradients of weights and of inputs; nobody needs that of the image.
    assert counted.training == 3 * forward - first
    assert counted.parameters == sum(p.numel() for p in model.parameters())


def test_counting_leaves_the_network_and_chance_alone():
    model = CheXNet(growth_rate=4)
    modes, chance = [m.training for m in model.modules()], torch.get_rng_state()
    cost(model, size=64)
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), chance)


def test_small_images_are_refused():
    with pytest.raises(ValueError, match="at least 29 px"):
        cost(CheXNet(growth_rate=4), size=28)


# ---- ImageNet's weights: from a file, from torch's folder, from a server that is not there


def legacy(state):
    """Name tensors as torchvision's files do, which are older than the counters, too."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): value
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Torch's cache of downloads, empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def saved(tmp_path, make):
    """A network of ImageNet's 1000 classes and a file of it."""
    source = make(growth=32, outputs=1000, seed=1)
    torch.save(legacy(source.state_dict()), tmp_path / "mine.pth")
    return source, tmp_path / "mine.pth"


def no_download(*_, **__):
    raise AssertionError("Nothing is to be fetched here.")


def test_a_file_loads_exactly(saved, images, monkeypatch, seen):
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_download)
    source, path = saved
    torch.manual_seed(4)
    model = CheXNet.from_imagenet(path).eval()
    torch.manual_seed(4)
    head = CheXNet().classifier
    torch.testing.assert_close(
        model.features(images), source.features(seen).relu(), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(model.classifier.weight, head.weight, atol=0, rtol=0)
    assert model.provenance == {
        "format": "ImageNet, torchvision",
        "file": "mine.pth",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_another_architecture_is_refused(saved):
    with pytest.raises(ValueError, match=r"Expected every tensor of densenet169.*missing") as got:
        CheXNet.from_imagenet(saved[1], arch="densenet169")
    assert "features.denseblock3.denselayer25" in str(got.value)


def test_a_trained_network_is_for_load_checkpoint(tmp_path, make):
    torch.save(make(growth=32).state_dict(), tmp_path / "chest.pth")
    with pytest.raises(ValueError, match="load_checkpoint"):
        CheXNet.from_imagenet(tmp_path / "chest.pth")


def test_load_checkpoint_sends_imagenet_here(saved):
    with pytest.raises(ValueError, match=r"1000 classes.*CheXNet\.from_imagenet\(path, arch="):
        load_checkpoint(saved[1])


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        CheXNet.from_imagenet(tmp_path / "nowhere.pth")
    (tmp_path / "half.pth").write_bytes(b"\x80\x02\x8a")
    with pytest.raises(ValueError, match=r"truncated.*half\.pth"):
        CheXNet.from_imagenet(str(tmp_path / "half.pth"))


@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.URLError("no route to host"),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b""),
        RuntimeError("invalid hash value"),
    ],
)
def test_a_failed_fetch_says_which_file_and_what_to_do(folder, monkeypatch, failure):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(RuntimeError, match="Expected to fetch ImageNet weights") as got:
        CheXNet.from_imagenet()
    text = str(got.value)
    assert "https://download.pytorch.org/models/densenet121-a639ec97.pth" in text
    assert str(folder / "densenet121-a639ec97.pth") in text
    assert "weights='…/densenet121-a639ec97.pth'" in text
    assert "weights=None" in text


def test_a_fetched_file_loads_and_is_not_fetched_again(folder, saved, images, monkeypatch, seen):
    source, path = saved
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    url = f"https://example.org/densenet121-{digits}.pth"
    entry = types.SimpleNamespace(url=url, meta={"min_size": (29, 29)})
    asked = []

    def download(address, target, *, hash_prefix, progress):
        asked.append((address, hash_prefix))
        Path(target).write_bytes(path.read_bytes())

    monkeypatch.setattr(
        chexnet,
        "get_model_weights",
        lambda _: types.SimpleNamespace(IMAGENET1K_V1=entry),
    )
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        model = CheXNet.from_imagenet().eval()
        torch.testing.assert_close(
            model.features(images), source.features(seen).relu(), atol=1e-4, rtol=1e-4
        )
    assert asked == [(url, digits)]
    assert [file.name for file in folder.iterdir()] == [f"densenet121-{digits}.pth"]


def test_a_file_of_torchvisions_name_has_its_hash(folder, saved, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_download)
    folder.mkdir(parents=True)
    damaged = saved[1].rename(folder / "densenet121-a639ec97.pth")
    for weights in ("imagenet", damaged):
        with pytest.raises(ValueError, match=r"begins with a639ec97.*Remove it and fetch"):
            CheXNet.from_imagenet(weights)
