"""Make the weights that the book starts from: `python data/ship_weights.py`.

They are those of the run `default` of train_runs.py, which began with those of the run `start`,
rounded to half precision. What the file says of itself is measured with the rounded weights.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from train_runs import folder_of

from chexlib.data import open_dataset
from chexlib.models import load_checkpoint, phantom_checkpoint, save_checkpoint
from chexlib.text import estimate_text
from chexlib.training import open_run, predict
from chexlib.training.recipes import data_options
from chexlib.training.run import auroc_with_intervals


def main() -> None:
    """Round, measure, write."""
    run = open_run(folder_of("default"))
    model = run.model()
    known = model.provenance["metadata"]
    kept = {key: known[key] for key in ("recipe", "data", "command", "epoch")}
    first = open_run(folder_of(run.recipe.weights)).recipe
    kept["began_with"] = json.dumps({"size": first.size, "epochs": first.epochs})
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / "rounded.safetensors"
        save_checkpoint(model, rounded, metadata=kept, half=True)
        test = open_dataset(run.recipe.dataset, "test", **data_options(run.recipe))
        scores = predict(load_checkpoint(rounded), test, size=run.recipe.size)
    measured = {
        "films": len(test),
        "patients": int(test.films["patient"].nunique()),
        **auroc_with_intervals(test.truth, scores, test.patients),
    }
    about = "Simulated films only; for teaching. Not for clinical use."
    save_checkpoint(
        model,
        phantom_checkpoint(),
        metadata={**kept, "metrics": measured, "about": about},
        half=True,
    )
    mean = measured["mean_auroc"]
    text = estimate_text(mean["estimate"], mean["low"], mean["high"], decimals=3)
    sys.stdout.write(f"mean AUROC {text}\n")


if __name__ == "__main__":
    main()
