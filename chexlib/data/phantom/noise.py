"""Wrong labels, as text mining makes them: known rates applied to known truth."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import pandas as pd

from chexlib.data.augment import uniforms
from chexlib.data.labels import load_labels
from chexlib.data.phantom.population import SEVERITY
from chexlib.data.tables import table
from chexlib.findings import FINDINGS

__all__ = ["noise_rates", "noisy_labels"]

# What Google's readers adjudicated, and NIH's labels that speak of the same thing.
MEASURED = {"Pneumothorax": ("Pneumothorax",)}
MAPPED = {
    "Nodule or mass": ("Mass", "Nodule"),
    "Airspace opacity": ("Consolidation", "Infiltration", "Pneumonia"),
}


@cache
def _rates() -> pd.DataFrame:
    quality = table("label_quality")
    quality = quality[(quality["evidence"] == "google") & (quality["subset"] == "google_test")]
    shares = load_labels()[list(FINDINGS)].mean()
    found: dict[str, tuple] = {}
    judged = []
    for group, names in {**MEASURED, **MAPPED}.items():
        rows = quality[(quality["finding"] == group) & (quality["label"] == "|".join(names))]
        value = rows.set_index("statistic")["estimate"]
        judged.append((value["sensitivity"], value["ppv"]))
        status = "measured" if len(names) == 1 else "mapped"
        for name in names:
            part = shares[name] / sum(shares[n] for n in names)
            specificity = 1 - (1 - value["specificity"]) * part
            found[name] = (value["sensitivity"], specificity, status, f"{group}, Google test set")
    sensitivity, ppv = np.mean(judged, axis=0)
    for name in FINDINGS:
        if name not in found:
            true = ppv * shares[name] / sensitivity
            specificity = 1 - (1 - ppv) * shares[name] / (1 - true)
            found[name] = (sensitivity, specificity, "assumed", "mean of the three judged")
    columns = ["sensitivity", "specificity", "status", "evidence"]
    frame = pd.DataFrame([found[name] for name in FINDINGS], columns=columns)
    frame.insert(0, "finding", FINDINGS)
    return frame


def noise_rates() -> pd.DataFrame:
    """Return how often NIH's labels are right, per finding, and how that is known.

    *Measured*: Google's adjudicated test set judged the finding itself. *Mapped*: it judged a
    group of findings; each gets the group's sensitivity, and a part of its false positives that is
    in proportion to the finding's labels. *Assumed*: nobody measured it; it gets the mean
    sensitivity, and false positives that give the mean PPV at NIH's prevalence, both means over the
    three that were judged. Vary what is assumed (``scale`` in :func:`noisy_labels`).

    Returns
    -------
    DataFrame
        ``finding``, ``sensitivity``, ``specificity``, ``status`` (``measured``, ``mapped`` or
        ``assumed``) and ``evidence``; a row a finding, in the order of
        :data:`chexlib.findings.FINDINGS`.

    References
    ----------
    Majkowska et al., Radiology 294, 421 (2020); table ``data/label_quality.csv``.
    """
    return _rates().copy()


def noisy_labels(
    films: pd.DataFrame,
    *,
    kind: Literal["measured", "symmetric", "cue", "faint"] = "measured",
    rates: pd.DataFrame | None = None,
    scale: float = 1.0,
    cue: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Return labels as an error-prone labeller would give them to films of known truth.

    Errors are independent between films, as reports are. A film's errors depend on the seed and the
    film alone; with a larger ``scale`` the errors of a smaller one remain.

    Parameters
    ----------
    films : DataFrame
        Of :func:`chexlib.data.phantom.population`: ``patient``, ``follow_up`` and the 14 findings.
    kind : {"measured", "symmetric", "cue", "faint"}
        *measured*: sensitivity and specificity of ``rates``. *symmetric*: either label flips with
        one probability per finding, such that as many labels are wrong as with *measured*. *cue*:
        sensitivity of ``rates``, and as many false positives, all of them on films with the cue.
        *faint*: the rates of ``rates``, and the likelier a miss, the lower the severity of usual
        severities (``severity_<finding>`` of ``films``).
    rates : DataFrame, optional
        Columns ``finding``, ``sensitivity``, ``specificity``; :func:`noise_rates` by default.
    scale : float
        Multiplies the error rates, from 0 up; no label is made wrong with more than 95%.
    cue : str, optional
        A bool column of ``films``, such as ``device_tube``, or ``"AP"``; for *cue*.
    seed : int

    Returns
    -------
    DataFrame of bool [N, 14]
        Columns :data:`chexlib.findings.FINDINGS`, index of ``films``.

    Raises
    ------
    ValueError
        If an option is unknown or outside its range.
    """
    if kind not in ("measured", "symmetric", "cue", "faint"):
        raise ValueError(f'Expected "measured", "symmetric", "cue" or "faint", got {kind!r}.')
    if scale < 0:
        raise ValueError(f"Expected a scale from 0 up, got {scale}.")
    rates = (noise_rates() if rates is None else rates).set_index("finding").loc[list(FINDINGS)]
    truth = films[list(FINDINGS)].to_numpy(dtype=bool)
    missed = np.minimum(scale * (1 - rates["sensitivity"].to_numpy()), 0.95)
    invented = np.minimum(scale * (1 - rates["specificity"].to_numpy()), 0.95)
    wrong = np.where(truth, missed, invented)
    if kind == "symmetric":
        wrong = np.broadcast_to(wrong.mean(axis=0), truth.shape)
    elif kind == "faint":
        # Linear in severity, as far as a chance can be; its mean is the rate of misses.
        severity = films[[f"severity_{name}" for name in FINDINGS]].to_numpy()
        plain = np.clip((severity - SEVERITY[0]) / (SEVERITY[1] - SEVERITY[0]), 0, 1)
        often = 1 - 2 * (1 - missed) * plain
        wrong = np.where(truth, np.where(missed > 0.5, often, 2 * missed * (1 - plain)), invented)
    elif kind == "cue":
        there = _cue(films, cue)[:, None]
        # As many as without the cue, on fewer films.
        among = np.maximum((~truth & there).sum(axis=0), 1)
        share = np.minimum(invented * (~truth).sum(axis=0) / among, 0.95)
        wrong = np.where(truth, missed, np.where(there, share, 0.0))
    film = films["patient"].to_numpy(np.int64) * 1000 + films["follow_up"].to_numpy(np.int64)
    chance = uniforms(seed, 0, film, np.arange(len(FINDINGS)))
    return pd.DataFrame(truth ^ (chance < wrong), columns=list(FINDINGS), index=films.index)


def _cue(films: pd.DataFrame, cue: str | None) -> np.ndarray:
    if cue == "AP":
        return (films["view"] == "AP").to_numpy()
    if cue not in films:
        raise ValueError(f'Expected a cue that is a column of the films or "AP", got {cue!r}.')
    return films[cue].to_numpy(dtype=bool)
