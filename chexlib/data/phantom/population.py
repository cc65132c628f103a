"""Simulated patients: labels, ages and views of real rows, severities and devices drawn.

Which findings come together, on how many films, at which age and in which view, is NIH's; what
they look like is simulated. Here a label is the truth by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from chexlib.data.labels import VIEWS, load_labels
from chexlib.data.phantom.film import DEVICES, Film
from chexlib.findings import FINDINGS, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ADULT", "Shortcut", "films_of", "population"]

ADULT = 18  # the phantom has no children

# Share of films with a device: on PA films, on AP films. Portable films are of sick patients.
USUAL = {
    "marker": (0.9, 0.9),
    "tube": (0.0, 0.25),
    "line": (0.05, 0.35),
    "nasogastric": (0.01, 0.2),
    "leads": (0.05, 0.5),
    "drain": (0.01, 0.02),
    "pacemaker": (0.03, 0.05),
    "wires": (0.04, 0.08),
}
# What is treated by a drain has one more often.
DRAINED = {"Pneumothorax": 0.45, "Effusion": 0.15}
SEVERITY = (0.1, 1.0)
WOBBLE = 0.12  # of a patient's severity from film to film


@dataclass(frozen=True)
class Shortcut:
    """A cue that goes with a finding and is none of its signs.

    Parameters
    ----------
    finding : str
    cue : str
        A device, or ``"AP"`` for the view.
    with_finding, without : float
        Share of films with the cue, among those with and without the finding; 0 to 1.

    Raises
    ------
    ValueError
        If a name is unknown or a share outside its range.
    """

    finding: str
    cue: str
    with_finding: float = 0.8
    without: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "finding", normalise(self.finding))
        if self.cue not in (*DEVICES, "AP"):
            raise ValueError(f"Expected a cue among {(*DEVICES, 'AP')}, got {self.cue!r}.")
        if not (0 <= self.with_finding <= 1 and 0 <= self.without <= 1):
            raise ValueError(
                f"Expected shares from 0 to 1, got {self.with_finding} and {self.without}."
            )


def population(
    n_patients: int,
    *,
    seed: int = 0,
    first: int = 1,
    prevalence: Literal["nih", "enriched"] = "nih",
    max_films: int = 3,
    severity: tuple[float, float] = SEVERITY,
    confounding: float = 1.0,
    shortcut: Shortcut | None = None,
    rows: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Draw simulated patients and their films.

    Parameters
    ----------
    n_patients : int
        From 1 up.
    seed : int
        The same arguments and versions give the same table.
    first : int
        Number of the first patient; populations of one seed and disjoint numbers share no patient.
    prevalence : {"nih", "enriched"}
        Real patients are drawn as they are, or so that each finding, and none, is the reason for
        drawing a fifteenth of them.
    max_films : int
        Films of a patient at most: consecutive ones of the real patient.
    severity : (float, float)
        Range of a finding's severity, uniform, above 0 to 1. It belongs to the patient; from film
        to film it changes a little.
    confounding : float
        How far devices go with the view and with what a drain treats: 1 as usual, 0 not at all.
    shortcut : Shortcut, optional
        A cue to add.
    rows : DataFrame, optional
        Label rows to draw from, as :func:`chexlib.data.load_labels` gives them, its default; of
        adults.

    Returns
    -------
    DataFrame
        The columns of :func:`chexlib.data.load_labels`, where the findings are the truth, then
        ``severity_<finding>`` (0 where it is absent) and ``device_<name>``. ``width`` and
        ``height`` are 1024, and spacing is that of a 1024 px film.

    Raises
    ------
    ValueError
        If an option is outside its range.
    """
    _check(n_patients, max_films, severity, confounding)
    if prevalence not in ("nih", "enriched"):
        raise ValueError(f'Expected the prevalence "nih" or "enriched", got {prevalence!r}.')
    rng = np.random.default_rng([seed, first, 7])
    real = load_labels() if rows is None else rows
    real = real[real["age"].between(ADULT, 100)].sort_values(["patient", "follow_up"])
    frame = _draw_rows(real.reset_index(drop=True), n_patients, prevalence, max_films, rng)
    frame["patient"] += first
    # Named like NIH's, and told from them by the first letter.
    frame["image"] = [
        f"P{patient:07d}_{film:03d}.png"
        for patient, film in zip(frame["patient"], frame["follow_up"], strict=True)
    ]
    severities = _severities(frame, severity, rng)
    devices = _devices(frame, confounding, rng)
    if shortcut:
        share = np.where(frame[shortcut.finding], shortcut.with_finding, shortcut.without)
        has_cue = rng.random(len(frame)) < share
        if shortcut.cue == "AP":
            frame["view"] = pd.Categorical(np.where(has_cue, "AP", "PA"), categories=VIEWS)
        else:
            devices[f"device_{shortcut.cue}"] = has_cue
    frame = pd.concat([frame, severities, devices], axis=1)
    from chexlib.data.phantom.render import field_of_view

    frame["width"] = frame["height"] = 1024
    fields = [field_of_view(film) for film in films_of(frame, seed=seed)]
    frame["spacing_x"] = frame["spacing_y"] = np.array(fields) * 10 / 1024
    frame.attrs["seed"] = seed
    return frame


def films_of(frame: pd.DataFrame, *, seed: int | None = None) -> list[Film]:
    """Return the films that a population describes.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`population`, or some of its rows.
    seed : int, optional
        Of the population; by default the one that it carries.
    """
    if seed is None:
        seed = frame.attrs["seed"]
    severity = frame[[f"severity_{name}" for name in FINDINGS]].to_numpy()
    devices = frame[[f"device_{name}" for name in DEVICES]].to_numpy(dtype=bool)
    people = zip(*(frame[c] for c in ("patient", "follow_up", "view", "sex", "age")), strict=True)
    return [
        Film(
            patient=int(patient),
            follow_up=int(follow_up),
            view=view,
            sex=sex,
            age=int(age),
            severity={name: s for name, s in zip(FINDINGS, row, strict=True) if s > 0},
            devices=frozenset(np.array(DEVICES)[worn].tolist()),
            seed=seed,
        )
        for (patient, follow_up, view, sex, age), row, worn in zip(
            people, severity, devices, strict=True
        )
    ]


def _check(n_patients: int, max_films: int, severity: Sequence[float], confounding: float) -> None:
    if n_patients < 1 or max_films < 1:
        raise ValueError(
            f"Expected at least one patient and one film, got {n_patients} and {max_films}."
        )
    low, high = severity
    if not 0 < low <= high <= 1:
        raise ValueError(f"Expected a severity above 0 to 1, the lower first, got {severity}.")
    if confounding < 0:
        raise ValueError(f"Expected confounding from 0 up, got {confounding}.")


def _draw_rows(
    real: pd.DataFrame, n_patients: int, prevalence: str, max_films: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Return real rows of drawn patients, numbered anew from 0."""
    if prevalence == "nih":
        starts = np.flatnonzero(np.append(True, np.diff(real["patient"]) != 0))
        chosen = rng.choice(starts, n_patients)
    else:
        reasons = [real[name].to_numpy() for name in FINDINGS] + [real["no_finding"].to_numpy()]
        reasons = [np.flatnonzero(reason) for reason in reasons if reason.any()]
        chosen = np.array([rng.choice(reasons[k % len(reasons)]) for k in range(n_patients)])
        chosen = rng.permutation(chosen)
    # From the chosen film on, as long as it is the same patient.
    places = chosen[:, None] + np.arange(max_films)
    patient = real["patient"].to_numpy()
    inside = places < len(real)
    places = np.minimum(places, len(real) - 1)
    keep = inside & (patient[places] == patient[chosen][:, None])
    number, film = np.nonzero(keep)
    frame = real.iloc[places[keep]].reset_index(drop=True)
    frame["patient"], frame["follow_up"] = number, film
    return frame


def _severities(
    frame: pd.DataFrame, severity: tuple[float, float], rng: np.random.Generator
) -> pd.DataFrame:
    """Draw severities: the patient's own, and a little of the film's."""
    n_patients = int(frame["patient"].max()) - int(frame["patient"].min()) + 1
    own = rng.uniform(*severity, (n_patients, len(FINDINGS)))
    place = frame["patient"].to_numpy() - int(frame["patient"].min())
    wobble = rng.normal(0, WOBBLE, (len(frame), len(FINDINGS))) * (severity[1] - severity[0])
    drawn = np.clip(own[place] + wobble, *severity)
    there = frame[list(FINDINGS)].to_numpy()
    return pd.DataFrame(
        np.where(there, drawn, 0.0).round(3), columns=[f"severity_{n}" for n in FINDINGS]
    )


def _devices(frame: pd.DataFrame, confounding: float, rng: np.random.Generator) -> pd.DataFrame:
    """Draw devices: what the view and the findings bring, as far as ``confounding`` lets them."""
    portable = (frame["view"] == "AP").to_numpy()
    share = {}
    for name, (pa, ap) in USUAL.items():
        middle = (1 - portable.mean()) * pa + portable.mean() * ap
        share[name] = middle + confounding * (np.where(portable, ap, pa) - middle)
    for name, drained in DRAINED.items():
        share["drain"] = share["drain"] + confounding * drained * frame[name].to_numpy()
    return pd.DataFrame(
        {f"device_{name}": rng.random(len(frame)) < np.clip(p, 0, 1) for name, p in share.items()}
    )
