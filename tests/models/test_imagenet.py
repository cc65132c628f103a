"""ImageNet weights: from a file, from torch's folder, from a server that is not there."""

import hashlib
import http.client
import re
import types
import urllib.error
from pathlib import Path

import pytest
import torch

import chexlib.models.chexnet
from chexlib.models import CheXNet, load_checkpoint

BLOCKS = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32)}


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
    with pytest.raises(ValueError, match=r"Expected every tensor.*for densenet169.*missing") as got:
        CheXNet.from_imagenet(saved[1], arch="densenet169")
    assert "features.denseblock3.denselayer25" in str(got.value)


def test_a_trained_network_is_for_load_checkpoint(tmp_path, make):
    torch.save(make(growth=32).state_dict(), tmp_path / "chest.pth")
    with pytest.raises(ValueError, match="load_checkpoint"):
        CheXNet.from_imagenet(tmp_path / "chest.pth")


def test_load_checkpoint_sends_imagenet_here(saved):
    with pytest.raises(ValueError, match=r"1000 classes.*CheXNet\.from_imagenet\(path\)"):
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
    entry = types.SimpleNamespace(url=url)
    asked = []

    def download(address, target, *, hash_prefix, progress):
        asked.append((address, hash_prefix))
        Path(target).write_bytes(path.read_bytes())

    monkeypatch.setattr(
        chexlib.models.chexnet,
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
