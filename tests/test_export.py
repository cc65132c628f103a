"""A network as ONNX: onnxruntime gives what PyTorch gives, and the file says what it is."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from chexlib.cli import app
from chexlib.data import read_radiograph
from chexlib.export import export_onnx
from chexlib.inference import Preparation
from chexlib.models import CheXNet, load_checkpoint, phantom_checkpoint, save_checkpoint

OWN = ("Rib fracture", "Mass")


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder like that of a run, and films that are no squares, one of them none at all."""
    path = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = CheXNet(arch="resnet18", findings=OWN)
    said = {"recipe": {"cache_size": 80, "size": 64, "fit": "pad"}, "licence": "CC0"}
    save_checkpoint(model, path / "best.safetensors", metadata=said)
    (path / "metrics.json").write_text("{}")
    rows = [[rule, name, 0.25] for rule in ("youden", "max_f1") for name in OWN]
    rows += [["sensitivity_0.90", "Mass", np.inf]]
    columns = ["rule", "finding", "threshold"]
    pd.DataFrame(rows, columns=columns).to_csv(path / "thresholds.csv", index=False)
    (path / "films").mkdir()
    rng = np.random.default_rng(0)
    for k in range(3):
        noise = cv2.resize(rng.integers(0, 256, (9, 7), dtype=np.uint8), (120, 150 + k))
        cv2.imwrite(str(path / "films" / f"{k}.png"), noise)
    (path / "films" / "bad.png").write_text("no film")
    return path


def test_a_run_leaves_as_one_file(folder, tmp_path):
    out = tmp_path / "new" / "model.onnx"
    result = call("export", folder, out, "--films", folder / "films")
    assert result.exit_code == 0, result.output
    assert "2 findings; on 3 films" in result.output
    assert "Not for clinical use." in result.output
    onnx.checker.check_model(onnx.load(out))
    said = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert said["notice"] == "Not for clinical use."
    assert json.loads(said["findings"]) == list(OWN)
    assert json.loads(said["thresholds"])["youden"] == dict.fromkeys(OWN, 0.25)
    assert json.loads(said["thresholds"])["sensitivity_0.90"] == {
        "Rib fracture": "nan",
        "Mass": "inf",
    }
    assert said["licence"] == "CC0"
    assert json.loads(said["provenance"])["file"] == "best.safetensors"
    # Another program has the file alone, and prepares a film as its metadata say.
    way = Preparation(**json.loads(said["preparation"]))
    assert way == Preparation(80, 64, fit="pad")
    film = way.batcher(way.shrunk(read_radiograph(folder / "films" / "1.png"))[None])([0])
    session = onnxruntime.InferenceSession(out)
    probability, logit = session.run(None, {"film": film.numpy()})
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), probability, atol=1e-6)
    model = load_checkpoint(folder)
    np.testing.assert_allclose(probability, model.predict_proba(film).numpy(), atol=1e-5)
    assert "Expected a new file" in call("export", folder, out).stderr


def test_a_file_that_differs_is_not_written(folder, tmp_path, monkeypatch):
    class Other(onnxruntime.InferenceSession):
        def run(self, *given):
            return [part + 2e-5 for part in super().run(*given)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Other)
    (tmp_path / "old.onnx").write_text("mine")
    with pytest.raises(ValueError, match="got a difference of 2.*e-05 on 4 films. Nothing was"):
        export_onnx(load_checkpoint(folder), tmp_path / "old.onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_what_is_missing_is_said(folder, tmp_path, monkeypatch):
    films = tmp_path / "films"
    films.mkdir()
    (films / "bad.png").write_text("no film")
    result = call("export", folder, tmp_path / "m.onnx", "--films", films)
    assert "Expected a film that can be read, got 1: " in result.stderr
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = call("export", folder, tmp_path / "m.onnx")
    assert result.exit_code == 1
    assert "found no onnxruntime. Install them: pip install 'chexlib[export]'" in result.stderr
    assert not (tmp_path / "m.onnx").exists()


def test_the_books_own_network(tmp_path):
    model = load_checkpoint(phantom_checkpoint())
    count, difference = export_onnx(model, tmp_path / "phantom.onnx")
    assert count == 4
    assert difference <= 1e-5
    assert {path.name for path in Path(tmp_path).iterdir()} == {"phantom.onnx"}
