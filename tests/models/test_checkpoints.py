"""Checkpoints: every format that people have gives the source's logits; nothing else gets in."""

import io
import json
import logging
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import safetensors
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision.models import get_model, mobilenet_v3_small, resnet18, squeezenet1_1
from torchvision.transforms.functional import normalize

import chexlib
from chexlib.findings import FINDINGS
from chexlib.models import CheckpointError, CheXNet, load_checkpoint, save_checkpoint
from chexlib.models.checkpoints import XRV_FINDINGS, XRV_WINDOW, describe
from chexlib.models.weights import Named, read_weights, write_safetensors

PREFIX = "module.densenet121."
ON_A_FOLDER = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def legacy(state, *, prefix=PREFIX, counters=True, wrapped=True):
    """Name tensors as zoogzog's and arnoweng's files do."""
    renamed = {}
    for name, value in state.items():
        key = re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name)
        key = key.replace("classifier.", "classifier.0.") if wrapped else key
        if counters or not name.endswith("num_batches_tracked"):
            renamed[prefix + key] = value
    return renamed


def same_logits(path, source, images):
    model = load_checkpoint(path)
    assert not model.training
    assert model.provenance["file"] == Path(path).name
    with torch.no_grad():
        mine = isinstance(source, CheXNet)
        expected = source(images if mine else seen(images))
        torch.testing.assert_close(model(images), expected, atol=1e-5, rtol=0)
    return model


def seen(images):
    """What torchvision's networks are given of films in [0, 1], by torchvision's own transform."""
    return normalize(images.expand(-1, 3, -1, -1), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


class Python2Pickler(pickle._Pickler):
    """Writes short texts as Python 2 did."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_text(self, text):
        raw = text.encode()
        self.write(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)
        self.memoize(text)

    dispatch[str] = save_text


PYTHON_2 = types.SimpleNamespace(
    __name__="pickle_of_python_2",
    Pickler=Python2Pickler,
    dump=lambda value, file, protocol: Python2Pickler(file, protocol).dump(value),
)


class TestLegacyFiles:
    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("counters", [True, False])
    def test_of_zoogzog_and_arnoweng(self, tmp_path, make, images, zipped, counters):
        source = make(growth=32)
        state = legacy(source.state_dict(), counters=counters)
        assert f"{PREFIX}features.denseblock1.denselayer1.norm.1.weight" in state
        optimizer = torch.optim.Adam(source.parameters())
        content = {"epoch": 7, "state_dict": state, "best_loss": np.float64(0.25),
                   "optimizer": optimizer.state_dict(), "arch": "densenet121"}  # fmt: skip
        path = saved(tmp_path / "m.pth.tar", content, _use_new_zipfile_serialization=zipped)
        model = same_logits(path, source, images)
        assert model.provenance["format"] == "zoogzog, arnoweng"
        assert model.provenance["metadata"] == {
            "epoch": 7, "best_loss": 0.25, "arch": "densenet121"
        }  # fmt: skip
        filled = [n for n in model.provenance["notes"] if "num_batches_tracked" in n]
        assert filled == (
            [] if counters
            else ["121 counters num_batches_tracked, unknown to old PyTorch, set to 0"]
        )  # fmt: skip

    def test_their_sigmoid_is_left_out(self, tmp_path, make, images):
        source = make()
        source.classifier = torch.nn.Sequential(source.classifier, torch.nn.Sigmoid())
        wrapper = torch.nn.Module()
        wrapper.densenet121 = source
        parallel = torch.nn.DataParallel(wrapper)
        path = saved(tmp_path / "m.pth.tar", {"state_dict": parallel.state_dict()})
        model = load_checkpoint(path)
        torch.testing.assert_close(model.predict_proba(images), source(seen(images)).detach())

    @pytest.mark.parametrize("prefix", ["", "densenet121.", "model._orig_mod.", "a.b.densenet."])
    @pytest.mark.parametrize("wrapped", [True, False])
    def test_under_any_prefix_and_bare(self, tmp_path, make, images, prefix, wrapped):
        source = make()
        path = saved(tmp_path / "m", legacy(source.state_dict(), prefix=prefix, wrapped=wrapped))
        notes = same_logits(path, source, images).provenance["notes"]
        assert notes == ["its outputs have no names: assumed to be in CheXNet's order"]

    def test_of_python_2(self, tmp_path, make, images):
        source = make()
        path = saved(
            tmp_path / "m.pth.tar",
            {"state_dict": legacy(source.state_dict())},
            pickle_module=PYTHON_2,
            _use_new_zipfile_serialization=False,
        )
        assert b"U\x0astate_dict" in path.read_bytes()
        same_logits(path, source, images)

    @pytest.mark.parametrize("name", ["numpy.core.multiarray", "numpy._core.multiarray"])
    @pytest.mark.parametrize("value", [np.float64(0.5), np.float32(2), np.int64(3), np.bool_(True)])
    def test_with_numpys_scalars_old_and_new(self, tmp_path, make, name, value):
        path = saved(
            tmp_path / "m",
            {"state_dict": make().state_dict(), "best": value},
            _use_new_zipfile_serialization=False,
        )
        path.write_bytes(
            path.read_bytes().replace(b"cnumpy._core.multiarray\n", f"c{name}\n".encode())
        )
        assert f"c{name}\n".encode() in path.read_bytes()
        assert load_checkpoint(path).provenance["metadata"] == {"best": value.item()}


class TestTorchvision:
    @pytest.mark.parametrize(
        "blocks", [(6, 12, 24, 16), (6, 12, 36, 24), (6, 12, 32, 32), (6, 12, 48, 32)]
    )
    def test_every_depth_and_width(self, tmp_path, make, images, blocks):
        for growth in (3, 12):
            source = make(growth=growth, blocks=blocks)
            model = same_logits(saved(tmp_path / "m", source.state_dict()), source, images)
            assert model.arch == f"densenet{2 * sum(blocks) + 5}"
            assert model.growth_rate == growth
            assert model.provenance["format"] == "torchvision"

    def test_full_size(self, tmp_path, make, images):
        source = make(growth=32)
        same_logits(saved(tmp_path / "m", source.state_dict()), source, images)

    def test_half_precision_is_computed_as_float32(self, tmp_path, make, images):
        source = make().half().float()
        state = {
            k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()
        }
        model = same_logits(saved(tmp_path / "m", state), source, images)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert "stored as torch.float16, computed as torch.float32" in model.provenance["notes"]

    def test_an_order_that_is_assumed_is_said_aloud(self, tmp_path, make, caplog):
        load_checkpoint(saved(tmp_path / "m.pt", make().state_dict()))
        [record] = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert record.getMessage() == (
            "m.pt (torchvision): its outputs have no names: assumed to be in CheXNet's order."
        )


XRV = """
import sys, torch, torchxrayvision as xrv
sys.path.insert(0, sys.argv[1])
from conftest import randomise
model = randomise(xrv.models.DenseNet(weights=None), 2)
model.features.norm0.running_mean *= 1024  # as trained on such values
model.features.norm0.running_var *= 1024**2
images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(3))
scaled = xrv.utils.normalize(images.numpy(), 1)
with torch.no_grad():
    logits = model(torch.from_numpy(scaled))
torch.save({"state_dict": model.state_dict(), "images": images, "logits": logits,
            "targets": xrv.datasets.default_pathologies}, sys.argv[2])
"""


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """What it computes, in a process of its own: importing it silences all warnings."""
    path = tmp_path_factory.mktemp("xrv") / "other.pt"
    command = [sys.executable, "-c", XRV, str(Path(__file__).parent), str(path)]
    subprocess.run(command, check=True)
    return torch.load(path)


class TestTorchxrayvision:
    def test_logits_are_its_own_in_our_order(self, tmp_path, other, caplog):
        caplog.set_level(logging.INFO)
        assert tuple(other["targets"]) == XRV_FINDINGS
        model = load_checkpoint(saved(tmp_path / "xrv.pt", other["state_dict"]))
        assert model.window == XRV_WINDOW
        with torch.no_grad():
            logits = model(other["images"])
        expected = other["logits"][:, [other["targets"].index(name) for name in FINDINGS]]
        assert expected.std() > 0.1
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
        assert model.provenance["format"] == "torchxrayvision"
        assert [r.getMessage() for r in caplog.records] == [
            f"xrv.pt (torchxrayvision): {note}." for note in model.provenance["notes"]
        ]
        assert "-1024 to 1024" in caplog.text
        assert "left out Lung Lesion, Fracture, Lung Opacity, Enlarged" in caplog.text

    def test_operating_points_are_left_out_and_absent_findings_named(self, tmp_path, other, caplog):
        points = torch.full((18,), 0.1)
        points[[XRV_FINDINGS.index("Hernia"), XRV_FINDINGS.index("Mass"), 17]] = torch.nan
        state = {**other["state_dict"], "op_threshs": points}
        model = load_checkpoint(saved(tmp_path / "m", state))
        plain = load_checkpoint(saved(tmp_path / "plain", other["state_dict"]))
        for one, two in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, two, atol=0, rtol=0)
        assert "not trained on Mass, Hernia" in model.provenance["notes"]
        assert "not trained on Mass, Hernia" in caplog.text
        assert not any("not trained" in note for note in plain.provenance["notes"])

    def test_it_is_saved_as_ours_with_its_window(self, tmp_path, other, images):
        model = load_checkpoint(saved(tmp_path / "m", other["state_dict"]))
        save_checkpoint(model, tmp_path / "m.safetensors")
        again = same_logits(tmp_path / "m.safetensors", model, images)
        assert again.window == XRV_WINDOW

    def test_the_findings_that_are_wanted_of_all_18(self, tmp_path, other):
        path = saved(tmp_path / "m", other["state_dict"])
        model = load_checkpoint(path, findings=["Fracture", "Lung Lesion", "mass"])
        assert model.findings == ("Fracture", "Lung Lesion", "Mass")
        expected = other["logits"][:, [other["targets"].index(f) for f in model.findings]]
        with torch.no_grad():
            torch.testing.assert_close(model(other["images"]), expected, atol=1e-5, rtol=0)
        own = [f"own {k}" for k in range(18)]
        assert load_checkpoint(path, findings=own).findings == tuple(own)  # 18 others
        with pytest.raises(CheckpointError, match="a name for each of the 18 outputs .* got 2"):
            load_checkpoint(path, findings=["Mass", "Pneumothorax, small"])

    def test_fine_tuned_for_other_findings_its_window_is_assumed_aloud(
        self, tmp_path, make, images
    ):
        source = make(channels=1, outputs=3)
        path = saved(tmp_path / "m", source.state_dict())
        with pytest.raises(CheckpointError, match=r"got 1 and window None\. .*into its \.network"):
            load_checkpoint(path)
        model = load_checkpoint(path, findings=["A", "B", "C"])
        assert model.window == XRV_WINDOW
        [note] = model.provenance["notes"]
        assert note.endswith("images are converted to it, as torchxrayvision's networks have it")
        with torch.no_grad():
            expected = source(2048 * images - 1024)
            torch.testing.assert_close(model(images), expected, atol=1e-4, rtol=1e-5)

    def test_its_resnet(self, tmp_path):
        command = [sys.executable, "-c", XRV_RESNET, str(tmp_path / "other.pt")]
        subprocess.run(command, check=True)
        other = torch.load(tmp_path / "other.pt")
        model = load_checkpoint(saved(tmp_path / "xrv.pt", other["state_dict"]))
        assert (model.arch, model.window, model.findings) == ("resnet50", XRV_WINDOW, FINDINGS)
        assert model.provenance["format"] == "torchxrayvision"
        assert any("op_threshs" in note for note in model.provenance["notes"])
        with torch.no_grad():
            logits = model(other["images"])
        expected = other["logits"][:, [other["targets"].index(name) for name in FINDINGS]]
        assert expected.std() > 0.1
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


# Without its weights, which are fetched: with others in their place.
XRV_RESNET = """
import sys, torch, torchvision, torchxrayvision as xrv
torch.manual_seed(0)
plain = torchvision.models.resnet50(num_classes=18)
plain.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
plain.bn1.running_var *= 1024**2  # as trained on such values
torch.nn.init.normal_(plain.fc.weight, std=0.1)
torch.save(plain.state_dict(), sys.argv[1])
xrv.models.get_weights = lambda *_, **__: sys.argv[1]
model = xrv.models.ResNet(weights="resnet50-res512-all")
images = torch.rand(1, 1, 512, 512)
scaled = torch.from_numpy(xrv.utils.normalize(images.numpy(), 1))
with torch.no_grad():
    logits = model.model(scaled)
torch.save({"state_dict": model.state_dict(), "images": images, "logits": logits,
            "targets": model.targets}, sys.argv[1])
"""


ANY = ["resnet18", "efficientnet_b0", "convnext_tiny", "densenet121"]
OWN = ("Rib fracture", "Mass", "Device")


class TestAnyNetwork:
    @pytest.mark.parametrize("arch", ANY)
    def test_own_findings_come_back(self, tmp_path, images, arch):
        width = {"growth_rate": 4} if arch == "densenet121" else {}
        model = CheXNet(arch=arch, findings=OWN, **width).eval()
        save_checkpoint(model, tmp_path / "m.safetensors")
        again = same_logits(tmp_path / "m.safetensors", model, images)
        assert (again.findings, again.options) == (OWN, model.options)
        assert again.provenance["notes"] == []
        one = load_checkpoint(tmp_path / "m.safetensors", findings=["Device"])
        torch.testing.assert_close(one(images)[:, 0], model(images)[:, 2], atol=1e-5, rtol=0)
        with pytest.raises(
            CheckpointError, match=r"are Rib fracture, Mass, Device, got \['Edema'\]"
        ):
            load_checkpoint(tmp_path / "m.safetensors", findings=["Mass", "Edema"])

    @pytest.mark.parametrize("arch", ANY)
    @pytest.mark.parametrize("prefix", ["", "module.backbone."])
    @pytest.mark.parametrize("dropout", [False, True])
    def test_of_torchvision(self, tmp_path, images, arch, prefix, dropout):
        torch.manual_seed(0)
        source = get_model(arch, weights=None, num_classes=3).eval()
        if dropout:  # as people put it before the head
            [*_, (name, head)] = source.named_modules()
            source.set_submodule(name, torch.nn.Sequential(torch.nn.Dropout(0.5), head).eval())
        state = {prefix + key: value for key, value in source.state_dict().items()}
        path = saved(tmp_path / "m.pt", state)
        model = load_checkpoint(path, findings=OWN)
        assert (model.arch, model.findings, model.provenance["notes"]) == (arch, OWN, [])
        with torch.no_grad():
            torch.testing.assert_close(model(images), source(seen(images)), atol=1e-4, rtol=1e-4)

    def test_names_must_be_given_and_as_many(self, tmp_path):
        path = saved(tmp_path / "m.pt", resnet18(num_classes=3).state_dict())
        with pytest.raises(CheckpointError, match=r"of the 3 outputs .* 0: none.*findings=\[…\]"):
            load_checkpoint(path)
        with pytest.raises(CheckpointError, match="each of the 3 outputs of .* got 2: A, B"):
            load_checkpoint(path, findings=["A", "B"])
        with pytest.raises(ValueError, match="each once"):
            load_checkpoint(path, findings=["A", "B", "A"])

    def test_others_are_refused(self, tmp_path):
        cases = [
            (resnet18(num_classes=1000), "ImageNet's 1000 classes.*arch='resnet18'"),
            (mobilenet_v3_small(num_classes=3), "Expected every tensor of .* missing"),
            (squeezenet1_1(num_classes=3), "one DenseNet, ResNet, ConvNeXt or EfficientNet"),
            (torch.nn.ModuleList([resnet18(num_classes=3)] * 2), r"got \['0\.', '1\.'\]"),
        ]
        deep = resnet18(num_classes=3)
        deep.fc = torch.nn.Sequential(torch.nn.Linear(512, 9), torch.nn.Linear(9, 3))
        cases.append((deep, r"'fc\.weight'.*unexpected \['fc\.0\.weight'"))
        for network, said in cases:
            with pytest.raises(CheckpointError, match=said):
                load_checkpoint(saved(tmp_path / "m", network.state_dict()), findings=OWN)

    @pytest.mark.parametrize(
        "arch",
        ["resnet50", "wide_resnet50_2", "resnext50_32x4d", "efficientnet_b1", "convnext_base"],
    )
    def test_networks_of_the_same_names_are_told_by_shapes(self, arch):
        with torch.device("meta"):
            state = get_model(arch, weights=None, num_classes=3).state_dict()
        found = Named({f"a.{key}": value for key, value in state.items()}, "m")
        assert (found.arch, found.prefix, found.outputs) == (arch, "a.", 3)

    def test_half_keeps_the_small_scales_of_a_convnext(self, tmp_path):
        model = CheXNet(arch="convnext_tiny", findings=OWN)  # 1e-6, which float16 has not
        save_checkpoint(model, tmp_path / "m.safetensors", half=True)
        state = load_checkpoint(tmp_path / "m.safetensors").network.state_dict()
        for key, value in model.network.state_dict().items():
            if "layer_scale" in key:
                assert torch.equal(state[key], value)

    def test_a_head_for_other_findings(self, tmp_path, images):
        other = load_checkpoint(saved(tmp_path / "m", resnet18(num_classes=3).state_dict()),
                                findings=OWN)  # fmt: skip
        before = {key: value.clone() for key, value in other.state_dict().items()}
        model = CheXNet.from_network(other, findings=["Mass", "Line", "Rib fracture"]).eval()
        with torch.no_grad():
            torch.testing.assert_close(model.features(images), other.features(images))
            torch.testing.assert_close(model(images)[:, [0, 2]], other(images)[:, [1, 0]])
            assert (model(images)[:, 1:2] - other(images)).abs().min() > 1e-4  # drawn
        assert "random but for Mass, Rib fracture" in model.provenance["notes"][-1]
        assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


class Module(pl.LightningModule):
    def __init__(self, *, told):
        super().__init__()
        self.save_hyperparameters({"recipe": "phantom-cpu"})
        self.model = CheXNet(growth_rate=2)
        self.loss = torch.nn.BCEWithLogitsLoss(pos_weight=torch.ones(14))
        self.told = told

    def training_step(self, batch):
        return self.loss(self.model(batch), torch.ones(len(batch), 14))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

    def on_save_checkpoint(self, checkpoint):
        if self.told:
            checkpoint["chexlib"] = {
                **describe(self.model),
                "history": [{"epoch": 0}],
                "total": 0.5,
            }


class TestLightning:
    @pytest.mark.parametrize("told", [True, False])
    def test_a_checkpoint_of_a_run(self, tmp_path, images, told):
        module = Module(told=told)
        trainer = pl.Trainer(
            max_steps=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, accelerator="cpu",
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader(images, batch_size=2))
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        model = same_logits(tmp_path / "last.ckpt", module.model.eval(), images)
        assert model.provenance["format"] == "PyTorch Lightning"
        assert model.provenance["metadata"]["global_step"] == 1
        assert "left out ['loss.pos_weight']" in model.provenance["notes"]
        assumed = any("assumed" in note for note in model.provenance["notes"])
        assert assumed is not told


class TestOurs:
    def test_a_round_trip_is_exact(self, tmp_path, make, images):
        model = CheXNet(growth_rate=4)
        model.network.load_state_dict(make().state_dict())
        said = {
            "recipe": "phantom-cpu",
            "auroc": {"Mass": np.float32(0.5)},
            "epochs": 3,
            "mot": "é",
        }
        path = tmp_path / "new" / "m.safetensors"
        save_checkpoint(model, path, metadata=said)
        again = load_checkpoint(path)
        for (name, one), two in zip(
            model.state_dict().items(), again.state_dict().values(), strict=True
        ):
            assert torch.equal(one, two), name
        assert all(p.requires_grad for p in again.parameters())
        metadata = again.provenance["metadata"]
        assert again.provenance["format"] == "chexlib safetensors"
        assert again.provenance["notes"] == []
        assert json.loads(metadata["findings"]) == list(FINDINGS)
        assert json.loads(metadata["options"]) == model.options
        assert json.loads(metadata["input"])["mean"] == [0.485, 0.456, 0.406]
        assert metadata["chexlib"] == chexlib.__version__
        assert metadata["recipe"] == "phantom-cpu"
        assert json.loads(metadata["auroc"]) == {"Mass": 0.5}
        assert metadata["epochs"] == "3"
        assert metadata["mot"] == "é"

    def test_the_folder_of_a_run_stands_for_its_weights(self, tmp_path, make, images):
        model = CheXNet(growth_rate=4).eval()
        save_checkpoint(model, tmp_path / "best.safetensors")
        with pytest.raises(FileNotFoundError, match=r"finished run .*found no metrics\.json in"):
            load_checkpoint(tmp_path)
        (tmp_path / "metrics.json").write_text("{}")
        found = load_checkpoint(tmp_path)
        assert found.provenance["file"] == "best.safetensors"
        torch.testing.assert_close(found(images), model(images), atol=0, rtol=0)

    def test_others_read_it_too(self, tmp_path, make, images):
        model = CheXNet(growth_rate=4).eval()
        save_checkpoint(model, tmp_path / "m.safetensors", metadata={"a": "b"})
        state = safetensors.torch.load_file(tmp_path / "m.safetensors")
        source = make()
        source.load_state_dict(state)
        torch.testing.assert_close(source(seen(images)), model(images), atol=1e-5, rtol=0)
        with safetensors.safe_open(tmp_path / "m.safetensors", "pt") as file:
            assert file.metadata()["a"] == "b"

    def test_the_same_network_gives_the_same_bytes(self, tmp_path):
        model, said = CheXNet(growth_rate=2), {k: k for k in "qwertyuiop"}
        for name, metadata in (("a", said), ("b", dict(reversed(said.items())))):
            save_checkpoint(model, tmp_path / f"{name}.safetensors", metadata=metadata)
        one, two = (tmp_path / f"{name}.safetensors" for name in "ab")
        assert one.read_bytes() == two.read_bytes()
        assert struct.unpack("<Q", one.read_bytes()[:8])[0] % 8 == 0

    def test_no_length_of_the_header_is_taken_for_a_pickle(self, tmp_path):
        path, first = tmp_path / "m", set()
        for length in range(0, 256, 8):
            write_safetensors({"a": torch.ones(3)}, path, metadata={"note": "x" * length})
            first.add(path.read_bytes()[0])
            assert read_weights(path).metadata == {"note": "x" * length}
        assert first == set(range(0, 256, 8))

    def test_half_is_smaller_and_near(self, tmp_path, make, images):
        model = CheXNet(growth_rate=12).eval()
        for half in (False, True):
            save_checkpoint(model, tmp_path / f"{half}.safetensors", half=half)
        whole, small = (tmp_path / f"{half}.safetensors" for half in (False, True))
        assert small.stat().st_size < 0.6 * whole.stat().st_size
        loaded = load_checkpoint(small)
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        with torch.no_grad():
            off = (loaded(images) - model(images)).abs().max() / model(images).abs().max()
        assert 0 < off < 0.005

    @pytest.mark.parametrize("seed", range(5))
    def test_rows_follow_their_names(self, tmp_path, images, seed):
        model = CheXNet(growth_rate=2).eval()
        save_checkpoint(model, tmp_path / "m.safetensors")
        order = np.random.default_rng(seed).permutation(14)
        names = [FINDINGS[i] for i in order]
        state = model.network.state_dict()
        state["classifier.weight"] = state["classifier.weight"][order]
        state["classifier.bias"] = state["classifier.bias"][order]
        said = describe(model) | {"findings": json.dumps(names)}
        safetensors.torch.save_file(state, tmp_path / "p.safetensors", said)
        again = same_logits(tmp_path / "p.safetensors", model, images)
        assert again.provenance["notes"] == [f"outputs reordered from {', '.join(names)}"]

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("findings", [*FINDINGS, "Mass"], "each once"),
            ("findings", FINDINGS[:13], "a name for each of the 14 outputs of .*, got 13"),
            ("findings", [*FINDINGS, "Device"], "a name for each of the 14 outputs of .*, got 15"),
            ("findings", [3] * 14, "Save it again"),
            ("findings", 3, "Save it again"),
            ("input", {"channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}, "normalised as"),
            ("input", [], "Save it again"),
            ("options", {"arch": "densenet169", "growth_rate": 2, "window": None}, "densenet169"),
            ("options", {"arch": "densenet121", "growth_rate": 2, "window": [0, 1]}, "black and"),
            ("options", {"arch": "densenet121", "growth_rate": 2, "window": [0]}, "Save it again"),
            ("options", {}, "Save it again"),
        ],
    )
    def test_what_it_says_is_held_against_it(self, tmp_path, key, value, said):
        model = CheXNet(growth_rate=2)
        metadata = describe(model) | {key: json.dumps(value)}
        path = tmp_path / "m.safetensors"
        safetensors.torch.save_file(model.network.state_dict(), path, metadata)
        with pytest.raises(CheckpointError, match=said):
            load_checkpoint(path)

    def test_a_file_without_our_metadata_is_as_any_other(self, tmp_path, make, images):
        source = make()
        safetensors.torch.save_file(source.state_dict(), tmp_path / "m", {"format": "pt"})
        model = same_logits(tmp_path / "m", source, images)
        assert model.provenance["format"] == "safetensors"
        assert any("assumed" in note for note in model.provenance["notes"])

    def test_a_failed_save_loses_nothing(self, tmp_path, monkeypatch):
        model, path = CheXNet(growth_rate=2), tmp_path / "m.safetensors"
        save_checkpoint(model, path)
        before = path.read_bytes()

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="found the disk full"):
            save_checkpoint(CheXNet(growth_rate=3), path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_what_cannot_be_saved_is_refused(self, tmp_path, make):
        path, model = tmp_path / "m.safetensors", CheXNet(growth_rate=2)
        with pytest.raises(ValueError, match=r"Expected a CheXNet, got DenseNet"):
            save_checkpoint(make(), path)
        with pytest.raises(ValueError, match=r"\.safetensors, got .*m\.pt"):
            save_checkpoint(model, tmp_path / "m.pt")
        with pytest.raises(ValueError, match=r"got \['findings'\]"):
            save_checkpoint(model, path, metadata={"findings": "mine"})
        with pytest.raises(ValueError, match="metadata 'run', got object"):
            save_checkpoint(model, path, metadata={"run": object()})
        with torch.no_grad():
            model.classifier.bias[3] = torch.nan
        with pytest.raises(ValueError, match=r"NaN or infinity in classifier\.bias"):
            save_checkpoint(model, path)
        assert not list(tmp_path.iterdir())


class TestEveryKeyCounts:
    @ON_A_FOLDER
    @given(data=st.data())
    def test_a_missing_one_is_named(self, tmp_path, make, data):
        state = make().state_dict()
        del state[(name := data.draw(st.sampled_from([*state])))]
        with pytest.raises(CheckpointError) as got:
            load_checkpoint(saved(tmp_path / "m", state))
        assert name in str(got.value)

    @pytest.mark.parametrize(
        "extra",
        ["features.norm6.weight", "classifier.2.weight", "op_threshs", "loss.weight", "fc.bias",
         "features.denseblock1.denselayer1.norm.3.weight"],
    )  # fmt: skip
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_an_unexpected_one_is_named(self, tmp_path, make, extra, prefix):
        state = {prefix + key: value for key, value in make().state_dict().items()}
        state[extra] = torch.ones(14)
        with pytest.raises(CheckpointError, match=re.escape(f"1 unexpected ['{extra}']")):
            load_checkpoint(saved(tmp_path / "m", state))


class Writes:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Calls(Writes):
    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class TestNothingRuns:
    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("kind", [Writes, Calls])
    def test_a_file_that_would_run_code_is_refused(self, tmp_path, make, monkeypatch, kind, zipped):
        # Not even where somebody made it torch's default.
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        trap = tmp_path / "ran"
        content = {"state_dict": make().state_dict(), "epoch": kind(trap)}
        path = saved(tmp_path / "m.pt", content, _use_new_zipfile_serialization=zipped)
        torch.load(path, weights_only=False)
        assert trap.exists()  # it does run code
        trap.unlink()
        with pytest.raises(CheckpointError, match=r"m\.pt, got a pickle that calls for") as got:
            load_checkpoint(path)
        assert not trap.exists()
        assert "nothing of it was run" in str(got.value)
        assert "torch.save(model.state_dict(), 'state.pt')" in str(got.value)

    def test_a_plain_pickle_is_refused(self, tmp_path):
        trap = tmp_path / "ran"
        for protocol in range(6):
            path = tmp_path / "m.pkl"
            path.write_bytes(pickle.dumps(Calls(trap), protocol=protocol))
            with pytest.raises(CheckpointError, match=r"calls for|begins with|pickle of") as got:
                load_checkpoint(path)
            assert not trap.exists()
            assert "weights_only" not in str(got.value).partition("If you trust")[0]

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"model": m, "epoch": 1}])
    @pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
    def test_a_whole_module_is_refused_with_the_way_out(self, tmp_path, make, images, zipped, wrap):
        source = make()
        path = saved(tmp_path / "m.pt", wrap(source), _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match="densenet.DenseNet") as got:
            load_checkpoint(path)
        recipe = re.search(r"(model = torch\.load.*?); (torch\.save\(model.*?'state\.pt'\))",
                           str(got.value))  # fmt: skip
        names = {"torch": torch, "file": path}
        exec(recipe[1], names)
        names["model"] = names["model"]["model"] if wrap(1) != 1 else names["model"]
        exec(recipe[2].replace("state.pt", str(tmp_path / "state.pt")), names)
        same_logits(tmp_path / "state.pt", source, images)

    @pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
    def test_a_torchscript_archive_is_refused(self, tmp_path):
        path = tmp_path / "m.pt"
        torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)).save(str(path))
        with pytest.raises(CheckpointError, match="calls for TorchScript"):
            load_checkpoint(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a small checkpoint in every container."""
    model, folder = CheXNet(growth_rate=1), tmp_path_factory.mktemp("whole")
    save_checkpoint(model, folder / "m.safetensors")
    contents = [(folder / "m.safetensors").read_bytes()]
    for zipped in (True, False):
        stream = io.BytesIO()
        state = {"state_dict": model.network.state_dict()}
        torch.save(state, stream, _use_new_zipfile_serialization=zipped)
        contents.append(stream.getvalue())
    return contents


class TestHarm:
    def test_no_file_takes_memory_time_or_the_screen(self, tmp_path):
        program = [sys.executable, str(Path(__file__).with_name("hostile_weights.py")), tmp_path]
        ended = subprocess.run(program, check=False, capture_output=True, text=True, timeout=1200)
        assert ended.returncode == 0, ended.stderr[-2000:]
        found = json.loads(ended.stdout)
        assert sum(not sound for sound, *_ in found.values()) > 350
        for name, (sound, came, length) in found.items():
            expected = ("opened",) if sound else ("CheckpointError", "FileNotFoundError")
            assert came in expected, name
            assert length <= 2000, name
        assert not Path("RAN").exists()

    @pytest.mark.parametrize("kind", range(3))
    def test_a_flipped_bit_is_refused_or_harmless(self, tmp_path, kind):
        """A zip file has sums: no other number is taken from it."""
        state = {"a": torch.arange(6.0).reshape(2, 3).t(), "n": torch.tensor(3)}
        if kind == 2:
            safetensors.torch.save_file(
                {key: value.contiguous() for key, value in state.items()}, tmp_path / "m"
            )
        else:
            saved(tmp_path / "m", state, _use_new_zipfile_serialization=kind == 0)
        whole, opened = (tmp_path / "m").read_bytes(), 0
        bits = range(8 * len(whole))
        chosen = random.Random(kind).sample(bits, min(len(bits), 2000))
        for bit in chosen:
            content = bytearray(whole)
            content[bit // 8] ^= 1 << bit % 8
            (tmp_path / "m").write_bytes(content)
            try:
                found = read_weights(tmp_path / "m").tensors
            except CheckpointError:
                continue
            opened += 1
            if kind == 0:
                assert found.keys() == state.keys()
                assert all(torch.equal(found[key], state[key]) for key in state)
        assert 0 < opened < len(chosen)

    @pytest.mark.parametrize("zipped", [True, False])
    def test_tensors_are_those_that_torch_reads(self, tmp_path, zipped):
        base = torch.arange(24.0)
        state = {
            "view": base[3:9].view(2, 3),
            "turned": base.view(4, 6).t(),
            "steps": base[::5],
            "none": torch.empty(0, 3),
            "one": torch.tensor(2.5),
            "parameter": torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64)),
            **{
                str(kind): torch.tensor([1, 0, 1]).to(kind)
                for kind in (torch.half, torch.bfloat16, torch.bool, torch.uint8, torch.int8,
                             torch.int16, torch.int32, torch.int64)
            },
        }  # fmt: skip
        path = saved(tmp_path / "m", state, _use_new_zipfile_serialization=zipped)
        found, expected = read_weights(path).tensors, torch.load(path)
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert found[key].dtype == value.dtype
            assert found[key].stride() == value.stride()
            assert torch.equal(found[key], value)


class TestBadFiles:
    def test_absent_folder_and_empty(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"Expected a file of weights.*nowhere\.pt"):
            load_checkpoint(tmp_path / "nowhere.pt")
        with pytest.raises(FileNotFoundError, match=r"no best\.safetensors and no metrics\.json"):
            load_checkpoint(tmp_path)
        (tmp_path / "m").touch()
        with pytest.raises(CheckpointError, match="got an empty one"):
            load_checkpoint(str(tmp_path / "m"))

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"<!DOCTYPE html><html>quota exceeded", "web page"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"\x89HDF\r\n\x1a\n", "Keras"),
            (b"\x1f\x8b\x08", "unpack it first"),
            (b"hello, world", "begins with b'hello, world'"),
        ],
    )
    def test_files_of_another_kind(self, tmp_path, content, said):
        (tmp_path / "m").write_bytes(content)
        with pytest.raises(CheckpointError, match=said):
            load_checkpoint(tmp_path / "m")

    @ON_A_FOLDER
    @given(kind=st.integers(0, 2), share=st.floats(0, 1, exclude_max=True))
    def test_truncated_anywhere(self, tmp_path, whole, kind, share):
        content = whole[kind]
        (tmp_path / "m").write_bytes(content[: int(share * len(content))])
        with pytest.raises(
            CheckpointError, match=r"Expected .*(Fetch or save|begins|Save the one)"
        ):
            load_checkpoint(tmp_path / "m")

    def test_of_several_state_dicts_the_one_of_that_name(self, tmp_path, make, images):
        one, two = make(seed=1), make(seed=2)
        named = {"state_dict": one.state_dict(), "ema": two.state_dict()}
        same_logits(saved(tmp_path / "m", named), one, images)


@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        ({"outputs": 18}, {}, "a name for each of the 18 outputs"),
        ({"outputs": 15}, {}, "a name for each of the 15 outputs"),
        ({"channels": 1}, {}, "values of black and white"),
        ({"channels": 4}, {}, r"1 or 3 input channels.*\[8, 4, 7, 7\]"),
        ({"blocks": (6, 12, 30, 24)}, {}, r"every tensor of densenet1\d\d .*missing"),
        ({}, {"features.conv0.weight": None}, "Expected one DenseNet"),
        ({}, {"ema.features.conv0.weight": torch.ones(3)}, r"got \['', 'ema.'\]"),
        ({}, {"features.conv0.weight": torch.ones(10, 3, 7, 7)}, "of another shape"),
        (
            {"outputs": 18, "channels": 1},
            {"classifier.bias": torch.ones(20)},
            r"classifier\.bias \[20\] for \[14\]",
        ),
        ({}, {"classifier.0.bias": torch.ones(14)}, r"1 unexpected \['classifier\.0\.bias'\]"),
        (
            {},
            {"features.denseblock1.denselayer1.norm.1.bias": torch.ones(8)},
            r"one key for features\.denseblock1\.denselayer1\.norm1\.bias",
        ),
        ({}, {"features.norm5.bias": torch.nan}, r"1 tensors .*norm5\.bias.*diverged"),
        ({}, {"features.norm5.bias": torch.inf}, r"1 tensors .*norm5\.bias.*diverged"),
        ({}, {"features.norm5.running_var": -1.0}, r"negative ones in .*norm5\.running_var"),
        ({}, {"classifier.bias": torch.ones(14).to_sparse()}, "Expected dense tensors"),
        (
            {},
            {
                "classifier.bias": None,
                "features.norm0.num_batches_tracked": None,
                "head.bias": torch.ones(14),
                "features.norm0.weight": torch.ones(9),
                "features.norm0.bias": torch.ones(8, dtype=torch.int64),
            },
            re.escape(
                "2 missing ['features.norm0.num_batches_tracked', 'classifier.bias'], "
                "1 unexpected ['head.bias'] and 2 of another shape or type "
                "['features.norm0.weight [9] for [8]', 'features.norm0.bias [8] for [8]']"
            ),
        ),
    ],
)
def test_other_networks_are_refused(tmp_path, make, options, changes, said):
    state = make(**options).state_dict()
    for key, value in changes.items():
        if value is None:
            del state[key]
        elif isinstance(value, float):
            state[key][3] = value
        else:
            state[key] = value
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(saved(tmp_path / "m", state))


@pytest.mark.parametrize(
    "content", [3, [torch.ones(2)], {}, {"epoch": 3}, {"a": {"b": 1}},
                {name: {"weight": torch.ones(2)} for name in ("student", "teacher")}],
)  # fmt: skip
def test_there_is_one_state_dict(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"Expected one state dict .*(none|student.*teacher)"):
        load_checkpoint(saved(tmp_path / "m", content))


def test_loading_leaves_chance_alone(tmp_path, make):
    path = saved(tmp_path / "m", make().state_dict())
    before = torch.get_rng_state()
    load_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loaded_network_does_not_share_memory_with_another(tmp_path, make):
    path = saved(tmp_path / "m", make().state_dict())
    one, two = load_checkpoint(path), load_checkpoint(path)
    with torch.no_grad():
        one.classifier.weight.zero_()
    assert two.classifier.weight.abs().sum() > 0
