"""What a run is worth: predictions of the test films, and AUROC with intervals by patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from chexlib.files import write_csv
from chexlib.findings import FINDINGS, INFO, NO_FINDING
from chexlib.metrics import Resamples, auroc, resampled
from chexlib.models import load_checkpoint
from chexlib.training.predict import predict
from chexlib.training.run import write_json
from chexlib.training.thresholds import choose_thresholds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from chexlib.data.dataset import Dataset
    from chexlib.training.recipes import Recipe

__all__ = ["auroc_with_intervals", "judge"]


def auroc_with_intervals(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, *, resamples: int = 1000
) -> dict[str, Any]:
    """Return AUROC of each finding and their mean, with 95% intervals by patient.

    Parameters
    ----------
    labels : bool array [N, 14]
    scores : array [N, 14]
    patients : array [N]
    resamples : int

    Returns
    -------
    dict
        ``mean_auroc`` and, by finding, ``auroc``: each with ``estimate``, ``low``, ``high``; of
        a finding also ``positives``.
    """
    found = resampled(auroc, labels, scores, Resamples(patients, resamples=resamples))
    low, high = found.interval()
    mean = found.mean()
    ends = mean.interval()
    row = lambda *values: dict(zip(("estimate", "low", "high"), map(float, values), strict=True))  # noqa: E731
    return {
        "mean_auroc": row(mean.estimate, *ends),
        "auroc": {
            name: {
                **row(found.estimate[k], low[k], high[k]),
                "positives": int(labels[:, k].sum()),
            }
            for k, name in enumerate(FINDINGS)
        },
    }


def judge(
    recipe: Recipe,
    folder: Path,
    films: Dataset,
    *,
    val: Dataset | None = None,
    device: str | torch.device = "cpu",
    step: Callable[[int, int], None] | None = None,
) -> None:
    """Write ``predictions.csv``, ``labels.csv`` and, last, ``metrics.json`` of a run.

    Metrics are against the labels of the data set; where the truth is known and is another, against
    that as well.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
        Of the run, with ``best.safetensors``.
    films : Dataset
        To test on.
    val : Dataset, optional
        To choose ``thresholds.csv`` on.
    device : str or torch.device
    step : callable, optional
        Called with the numbers of films done and of all.
    """
    model = load_checkpoint(folder / "best.safetensors")
    options = {"size": recipe.size, "ten_crop": recipe.ten_crop, "device": device}
    total = len(films) + (0 if val is None else len(val))
    told = (lambda done, _: step(total - len(films) + done, total)) if step else None
    if val is not None:
        first = (lambda done, _: step(done, total)) if step else None
        table = choose_thresholds(val.labels, predict(model, val, step=first, **options))
        write_csv(folder / "thresholds.csv", table, float_format="%.6g")
    scores = predict(model, films, step=told, **options)
    predictions = pd.DataFrame(scores, columns=list(FINDINGS))
    predictions.insert(0, "Image Index", films.films["image"].to_numpy())
    write_csv(folder / "predictions.csv", predictions, float_format="%.6g")
    judged = films.truth if films.truth is not None else films.labels
    labels = nih_table(films.films, judged)
    write_csv(folder / "labels.csv", labels)
    metrics: dict[str, Any] = {
        "films": len(films),
        "patients": int(films.films["patient"].nunique()),
        "labels": auroc_with_intervals(films.labels, scores, films.patients),
    }
    if films.truth is not None:
        metrics["truth"] = auroc_with_intervals(films.truth, scores, films.patients)
    write_json(folder / "metrics.json", metrics)


def nih_table(films: pd.DataFrame, labels: np.ndarray) -> pd.DataFrame:
    """Return films and labels in the format of NIH's label file, for ``chexlib evaluate``.

    Parameters
    ----------
    films : DataFrame
        The columns of :func:`chexlib.data.load_labels`.
    labels : bool array [N, 14]
    """
    names = np.array([INFO[name].name for name in FINDINGS])
    text = ["|".join(names[row]) or NO_FINDING for row in labels]
    columns = {
        "Image Index": films["image"],
        "Finding Labels": text,
        "Follow-up #": films["follow_up"],
        "Patient ID": films["patient"],
        "Patient Age": films["age"],
        "Patient Gender": films["sex"],
        "View Position": films["view"],
        "OriginalImage[Width": films["width"],
        "Height]": films["height"],
        "OriginalImagePixelSpacing[x": films["spacing_x"],
        "y]": films["spacing_y"],
    }
    return pd.DataFrame(columns)
