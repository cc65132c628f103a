"""What stands while the house is rebuilt: names, what commands write, and the tables of figures.

``python tests/test_snapshot.py`` writes down what is there now. The file goes when what changed has
been looked at.
"""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
KEPT = Path(__file__).parent / "snapshot"
FACES = ("findings", "data", "models", "training", "metrics", "interpret", "plots", "report")
SMALL = {
    "cache_size": 32,
    "size": 32,
    "growth_rate": 1,
    "batch_size": 8,
    "data_options": {"n_patients": 8},
    "channels_last": False,
    "epochs": 1,
}
SETS = [part for name, value in SMALL.items() for part in ("--set", f"{name}={json.dumps(value)}")]


def signatures():
    """Return how every public name is called."""
    found = {}
    for face in FACES:
        module = import_module(f"chexlib.{face}")
        public = [name for name in dir(module) if not inspect.ismodule(getattr(module, name))]
        for name in sorted(getattr(module, "__all__", public)):
            if name.startswith("_"):
                continue
            value = getattr(module, name)
            if callable(value):
                found[f"{face}.{name}"] = _called(value)
            else:
                found[f"{face}.{name}"] = type(value).__name__
            if inspect.isclass(value):
                for method, inner in inspect.getmembers(value, callable):
                    if not method.startswith("_") and method in vars(value):
                        found[f"{face}.{name}.{method}"] = _called(inner)
    return found


def _called(value):
    try:
        return re.sub(r"0x[0-9a-f]+|<factory>", "…", str(inspect.signature(value)))
    except (TypeError, ValueError):
        return "a class"


def outputs(folder):
    """Return what every command says and writes, on films that are simulated and labels of NIH."""
    from PIL import Image

    from chexlib.data import load_labels
    from chexlib.data.phantom import films_of, population, render
    from chexlib.models import phantom_checkpoint

    films = folder / "films"
    films.mkdir(parents=True)
    people = population(2, seed=5)
    for k, film in enumerate(list(films_of(people))[:3]):
        Image.fromarray(render(film, size=128).image).save(films / f"{k}.png")
    (films / "broken.png").write_bytes((films / "0.png").read_bytes()[:900])
    labels = load_labels().head(2500)
    names = json.loads((KEPT / "names.json").read_text(encoding="utf-8"))
    rng = np.random.default_rng(0)
    scores = {
        name: np.clip(0.3 * labels[name].to_numpy() + rng.uniform(0, 0.7, len(labels)), 0, 1)
        for name in names
    }
    frame = pd.DataFrame({"Image Index": labels["image"].to_numpy()} | scores)
    frame.to_csv(folder / "scores.csv", index=False)
    weights = str(phantom_checkpoint())
    commands = {
        "help": ["--help"],
        "findings": ["findings"],
        "info": ["info"],
        "fetch": ["fetch", "--list"],
        "cache": ["cache", "films", "--size", "64"],
        "train": ["train", *SETS, "--out", "run"],
        "again": ["train", *SETS, "--out", "run"],
        "predict": ["predict", "films", "--checkpoint", weights, "--out", "predicted.csv"],
        "evaluate": ["evaluate", "scores.csv", "--resamples", "200", "--out", "report"],
        "explain": ["explain", "films/0.png", "--checkpoint", weights, "--out", "explained"],
        "localize": [
            "localize",
            "phantom",
            "--patients",
            "12",
            "--resamples",
            "200",
            "--checkpoint",
            weights,
            "--out",
            "localized",
        ],
        "no film": ["predict", "films/none.png"],
        "no recipe": ["train", "--recipe", "none"],
        "no predictions": ["evaluate", "none.csv"],
        "no source": ["cache", "none"],
        "no entry": ["fetch", "none"],
    }
    for name in ("train", "predict", "evaluate", "explain", "localize", "fetch", "cache"):
        commands[f"{name} --help"] = [name, "--help"]
    place = {
        "COLUMNS": "120",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "CHEXLIB_DATA": str(folder / "nothing"),
        "CHEXLIB_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    found = {}
    for name, words in commands.items():
        done = subprocess.run(
            [sys.executable, "-m", "chexlib", *words],
            cwd=folder,
            env=os.environ | place,
            capture_output=True,
            text=True,
            check=False,
        )
        found[name] = {"code": done.returncode, "out": _plain(done.stdout, folder)}
        found[name]["err"] = _plain(done.stderr, folder)
    files = {}
    for path in sorted(folder.rglob("*")):
        inside = re.sub(r"tfevents.*", "tfevents", str(path.relative_to(folder)))
        if path.is_file() and not inside.startswith(("cache", "films", "scores.csv")):
            table = path.suffix == ".csv" and "rejected" not in inside  # which has paths and times
            lines = path.read_text(encoding="utf-8").splitlines() if table else []
            if inside == "run/history.csv":  # its last column is seconds
                lines = [line.rpartition(",")[0] for line in lines]
            files[inside] = lines
    found["files"] = files
    return found


def _plain(text, folder):
    text = text.replace(str(folder), "HERE").replace(str(ROOT), "ROOT")
    text = re.sub(r"[0-9]+([.:][0-9]+)* ?(s|seconds|min|ms|GB|TB|images/s|films/s)\b", "TIME", text)
    moving = ("film/s", "━", "system ", "python ", "numpy ", "pandas ", "torch")
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if line and not any(word in line for word in moving)]


def freeze():
    """Write down what is there now."""
    from chexlib.findings import FINDINGS

    KEPT.mkdir(exist_ok=True)
    _write("names.json", list(FINDINGS))
    _write("signatures.json", signatures())
    work = ROOT / "_build" / "snapshot"
    shutil.rmtree(work, ignore_errors=True)
    _write("outputs.json", outputs(work))


def _write(name, value):
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    (KEPT / name).write_text(text, encoding="utf-8")


def _read(name):
    return json.loads((KEPT / name).read_text(encoding="utf-8"))


def test_signatures():
    assert signatures() == _read("signatures.json")


@pytest.mark.skipif("CHEXLIB_SNAPSHOT" not in os.environ, reason="for whoever moves rooms")
def test_outputs(tmp_path):
    kept, found = _read("outputs.json"), outputs(tmp_path / "work")
    assert sorted(kept["files"]) == sorted(found["files"])
    for name, rows in kept.pop("files").items():
        _alike(found["files"][name], rows, name, 1e-4)
    for name, said in kept.items():
        assert found[name]["code"] == said["code"], name
        for stream in ("out", "err"):
            _alike(found[name][stream], said[stream], f"{name} {stream}", 2e-3)


def _alike(found, kept, name, tolerance):
    """Compare lines: words as they are, numbers within a tolerance."""
    number = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
    assert [number.sub("#", line) for line in found] == [number.sub("#", x) for x in kept], name
    figures = [
        [float(x) for line in lines for x in number.findall(line)] for lines in (found, kept)
    ]
    np.testing.assert_allclose(*figures, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.skipif("CHEXLIB_REBUILT" not in os.environ, reason="names a folder of rebuilt tables")
@pytest.mark.parametrize("path", sorted((ROOT / "data").glob("*.csv*")), ids=lambda p: p.stem)
def test_tables(path):
    rebuilt = Path(os.environ["CHEXLIB_REBUILT"]) / path.name
    if not rebuilt.exists():
        pytest.skip("its inputs are not here")
    found, kept = (pd.read_csv(file, comment="#") for file in (rebuilt, path))
    pd.testing.assert_frame_equal(found, kept, rtol=1e-6, atol=1e-6, check_dtype=False)


if __name__ == "__main__":
    freeze()
