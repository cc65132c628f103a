"""Table of chapter 6 on real films: a network of simulated films beside one of real ones.

The 621 films, one a patient, were chosen by their author to hold every finding. An AUROC on them is
not comparable with a published one; the two networks are compared with each other, film by film.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from builders import LABELS, Built, builds, by_finding, fetched
from reference_films import model_scores

from chexlib.data import load_labels, match_labels
from chexlib.data.phantom import VERSION
from chexlib.data.radiographs import read_radiograph
from chexlib.findings import FINDINGS
from chexlib.inference import Preparation
from chexlib.metrics import Resamples, auroc, resampled
from chexlib.models import load_checkpoint, phantom_checkpoint

FILMS = fetched("nih_sample", "images_256")
PREDICTIONS = fetched("reference_predictions", "preds.csv")
RESAMPLES = 2000


def of_the_book() -> pd.DataFrame:
    """Return the logits of the network that comes with the book, a row a film."""
    paths = sorted(FILMS.glob("*.png"))
    if not paths:
        raise FileNotFoundError(
            f"Expected films of 256 px in {FILMS}, found none. They are `starter_images` of "
            "jrzech/reproduce-chexnet, reduced by area averaging."
        )
    model = load_checkpoint(phantom_checkpoint())
    way = Preparation.of(model)
    films = np.stack([way.shrunk(read_radiograph(path)) for path in paths])
    logits = way.logits(model, way.batcher(films), np.arange(len(films))).numpy()
    return pd.DataFrame(logits, index=[path.name for path in paths], columns=list(FINDINGS))


@builds("real_films")
def real_films() -> Built:
    """AUROC of both networks on the same films, and by how much they differ."""
    book = of_the_book()
    reproduction = model_scores().loc[book.index]
    films = match_labels(pd.DataFrame({"image": book.index}), load_labels())
    labels = films[list(FINDINGS)].to_numpy()
    draws = Resamples(films["patient"], resamples=RESAMPLES, seed=0)
    found = {
        name: resampled(auroc, labels, scores.to_numpy(), draws)
        for name, scores in {"book": book, "reproduction": reproduction}.items()
    }
    found["difference"] = found["reproduction"] - found["book"]
    tables = []
    for name, figures in found.items():
        table = by_finding(figures, "mean")
        table.insert(0, "network", name)
        table["n_positive"] = [*labels.sum(axis=0), labels.any(axis=1).sum()]
        tables.append(table)
    return pd.concat(tables, ignore_index=True), {
        "source": "NIH ChestX-ray14 (Wang et al., 2017), films and labels; predictions of "
        "jrzech/reproduce-chexnet (retrained 2022); the book's network",
        "licence": "figures CC BY 4.0; films and labels of NIH, free use with attribution; "
        "predictions BSD-3-Clause",
        "inputs": [FILMS, LABELS, PREDICTIONS, phantom_checkpoint()],
        "note": f"phantom {VERSION}; {len(films)} films, one a patient, chosen to hold every "
        f"finding; estimate: AUROC by NIH's labels; intervals of 95%, bootstrap by patient, "
        f"{RESAMPLES} resamples; difference: reproduction less book; n_positive of the mean: films "
        "with any finding",
    }
