"""Keep what finished runs said of the test films: `python data/keep_predictions.py [TRAINING…]`.

Each training of train_runs.py has a file in `predictions/`: logits of its runs in half precision, a
row a simulated test film, and what the run was. The tables of chapters 6 and 7 read these files, so
nobody has to train again. A training with a run that is neither finished nor kept is left alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import train_runs
from numpy.typing import NDArray
from scipy.special import expit, logit

from chexlib.data import open_dataset
from chexlib.data.phantom import VERSION
from chexlib.files import write_atomically
from chexlib.findings import FINDINGS

if TYPE_CHECKING:
    from chexlib.data.dataset import Dataset

FOLDER = Path(__file__).parent / "predictions"
COMPARED = ("start", "start-measured")  # of the large runs, those that chapter 7 compares
KEPT = (*train_runs.VARIANTS, *COMPARED)
WHOLE = "whole films"  # of a run that was tested by ten crops, tested once more without
LARGEST = 30.0  # of a logit, where a probability was rounded to 0 or 1


class Kept(NamedTuple):
    """What a run said, and what it was."""

    scores: NDArray[np.float64]  # probabilities [N, 14]
    about: dict[str, Any]  # values, minutes, torch, processor, history


def path_of(training: str) -> Path:
    """Return the file of a training's predictions."""
    return FOLDER / f"{training}.npz"


@cache
def tested_films() -> Dataset:
    """Return the films that all these runs were tested on."""
    return open_dataset("phantom", "test", size=train_runs.SMALL["size"])


@cache
def kept(run: str) -> Kept:
    """Return what a run said of the test films.

    Parameters
    ----------
    run : str
        A name of :func:`train_runs.runs`; with ``", whole films"``, tested without ten crops.

    Raises
    ------
    FileNotFoundError
        If its file is not there, naming the commands that make it.
    ValueError
        If the file is of another phantom.
    """
    name = run.partition(",")[0]
    path = path_of(train_runs.training_of(name))
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the predictions of {name!r} in {path}, found none: "
            f"python data/train_runs.py {name} && python data/keep_predictions.py"
        )
    phantom, arrays, told = _read(path)
    if phantom != VERSION:
        raise ValueError(
            f"Expected predictions of films of the phantom {VERSION} in {path}, got "
            f"{phantom}. Train the runs again: python data/train_runs.py"
        )
    return Kept(expit(arrays[run].astype(np.float64)), told[name])


def keep(training: str) -> Path:
    """Write the file of a training, of the test films in their order.

    A run that the file has already, of the same films and values, stays as it is where its folder
    is gone, so that a seed is added without the others' being trained again.
    """
    path = path_of(training)
    phantom, before, told = _read(path) if path.is_file() else ("", {}, {})
    arrays, about = {}, {}
    for name in train_runs.runs_of(training):
        values = train_runs.runs()[name]
        same = phantom == VERSION and told.get(name, {}).get("values") == values
        if same and not train_runs.is_finished(name):
            about[name] = told[name]
            arrays |= {key: before[key] for key in before if key.partition(",")[0] == name}
            continue
        folder = train_runs.finished(name)
        said = pd.read_csv(folder / "predictions.csv")
        if said["Image Index"].tolist() != tested_films().films["image"].tolist():
            raise ValueError(
                f"Expected predictions of the phantom's test films, in order, in {folder}, got "
                f"those of other films. Remove the folder: python data/train_runs.py {name}"
            )
        place = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        history = pd.read_csv(folder / "history.csv")
        about[name] = {
            "values": values,
            "minutes": round(history["seconds"].sum() / 60, 1),
            "torch": place["torch"],
            "processor": place["processor"],
            "history": history.drop(columns="seconds").to_dict("records"),
        }
        arrays[name] = _half(said[list(FINDINGS)].to_numpy())
        if values.get("ten_crop"):
            arrays[f"{name}, {WHOLE}"] = _half(_whole_films(name))
    text = json.dumps({"phantom": VERSION, "runs": about}).encode()
    path.parent.mkdir(exist_ok=True)

    def write(draft: Path) -> None:
        with draft.open("wb") as file:
            np.savez_compressed(file, about=np.frombuffer(text, np.uint8), **arrays)

    write_atomically(path, write)
    return path


def _read(path: Path) -> tuple[str, dict[str, NDArray[np.float16]], dict[str, dict[str, Any]]]:
    """Return the phantom of a file, its logits by run, and what its runs were."""
    with np.load(path) as file:
        about = json.loads(bytes(file["about"]))
        logits = {name: file[name] for name in file.files if name != "about"}
        return about["phantom"], logits, about["runs"]


def _half(probabilities: NDArray) -> NDArray[np.float16]:
    with np.errstate(divide="ignore"):
        return np.clip(logit(probabilities), -LARGEST, LARGEST).astype(np.float16)


def _whole_films(name: str) -> NDArray[np.float32]:
    """Test the weights of a run that was tested by ten crops once more, on whole films."""
    from chexlib.models import load_checkpoint
    from chexlib.training import RECIPES, predict
    from chexlib.training.recipes import data_options

    model = load_checkpoint(train_runs.finished(name) / "best.safetensors")
    recipe = RECIPES["phantom-cpu"].with_values(**train_runs.runs()[name])
    films = open_dataset("phantom", "test", **data_options(recipe))
    return predict(model, films, size=recipe.size)


def main() -> int:
    """Keep what the command line names; return 1 if a run was missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="TRAINING", help="all of them by default")
    options = parser.parse_args()
    if unknown := set(options.names) - set(KEPT):
        known = ", ".join(KEPT)
        parser.error(f"expected names of {known}, got {', '.join(sorted(unknown))}")
    missing = 0
    for training in options.names or KEPT:
        try:
            print(f"{keep(training).name}: {path_of(training).stat().st_size:,} bytes")
        except FileNotFoundError as error:
            missing += 1
            print(f"{training}: left as it is. {error}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
