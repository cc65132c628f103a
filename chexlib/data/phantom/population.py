"""Simulated patients: labels, ages and views of real rows, severities and devices drawn.

Which findings come together, on how many films, at which age and in which view, is NIH's; what
they look like is simulated. Here a label is the truth by construction; wrong labels, as text mining
makes them, are known rates applied to it. An image cache takes the films like real ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Literal

import numpy as np
import pandas as pd

from chexlib.data.augment import uniforms
from chexlib.data.labels import VIEWS, load_labels
from chexlib.data.phantom.film import DEVICES, VERSION, Film
from chexlib.data.phantom.render import field_of_view, render
from chexlib.data.sources import Result, batched
from chexlib.data.tables import table
from chexlib.files import cores, processes
from chexlib.findings import FINDINGS, normalise

__all__ = [
    "ADULT",
    "PhantomSource",
    "Shortcut",
    "boxes_of",
    "films_of",
    "noise_rates",
    "noisy_labels",
    "population",
]

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
BOX_SIZE = 256  # pixels at which boxes are taken: a nodule of 1 cm is 8 of them wide
# What Google's readers adjudicated, and NIH's labels that speak of the same thing.
JUDGED = {
    "Pneumothorax": ("Pneumothorax",),
    "Nodule or mass": ("Mass", "Nodule"),
    "Airspace opacity": ("Consolidation", "Infiltration", "Pneumonia"),
}


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
        ``height`` are 1024, and spacing is that of a 1024 px film; it differs across and down where
        the film was no square.

    Raises
    ------
    ValueError
        If an option is outside its range.
    """
    if n_patients < 1 or max_films < 1:
        raise ValueError(
            f"Expected at least one patient and one film, got {n_patients} and {max_films}."
        )
    if not 0 < severity[0] <= severity[1] <= 1:
        raise ValueError(f"Expected a severity above 0 to 1, the lower first, got {severity}.")
    if confounding < 0:
        raise ValueError(f"Expected confounding from 0 up, got {confounding}.")
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
    frame["width"] = frame["height"] = 1024
    fields = [field_of_view(film) for film in films_of(frame, seed=seed)]
    frame[["spacing_x", "spacing_y"]] = np.array(fields) * 10 / 1024
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
    people = frame[["patient", "follow_up", "view", "sex", "age"]].to_dict("records")
    severity = frame[[f"severity_{name}" for name in FINDINGS]].to_numpy()
    devices = frame[[f"device_{name}" for name in DEVICES]].to_numpy(dtype=bool)
    return [
        Film(
            **person,
            severity={name: s for name, s in zip(FINDINGS, row, strict=True) if s > 0},
            devices=frozenset(np.array(DEVICES)[worn].tolist()),
            seed=seed,
        )
        for person, row, worn in zip(people, severity, devices, strict=True)
    ]


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


@cache
def _rates() -> pd.DataFrame:
    quality = table("label_quality")
    quality = quality[(quality["evidence"] == "google") & (quality["subset"] == "google_test")]
    shares = load_labels()[list(FINDINGS)].mean()
    found: dict[str, tuple] = {}
    judged = []
    for group, names in JUDGED.items():
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
        severities (``severity_<finding>`` of ``films``); with a ``cue``, its false positives are
        those of *cue*: a labeller who misses what is faint and names what a device suggests.
    rates : DataFrame, optional
        Columns ``finding``, ``sensitivity``, ``specificity``; :func:`noise_rates` by default.
    scale : float
        Multiplies the error rates, from 0 up; no label is made wrong with more than 95%.
    cue : str, optional
        A bool column of ``films``, such as ``device_tube``, or ``"AP"``; for *cue* and *faint*.
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
    if kind == "cue" or (kind == "faint" and cue is not None):
        there = _cue(films, cue)[:, None]
        # As many as without the cue, on fewer films.
        among = np.maximum((~truth & there).sum(axis=0), 1)
        share = np.minimum(invented * (~truth).sum(axis=0) / among, 0.95)
        invented = np.where(there, share, 0.0)
    wrong = np.where(truth, missed, invented)
    if kind == "symmetric":
        wrong = np.broadcast_to(wrong.mean(axis=0), truth.shape)
    elif kind == "faint":
        # Linear in severity, as far as a chance can be; its mean is the rate of misses.
        severity = films[[f"severity_{name}" for name in FINDINGS]].to_numpy()
        plain = np.clip((severity - SEVERITY[0]) / (SEVERITY[1] - SEVERITY[0]), 0, 1)
        often = 1 - 2 * (1 - missed) * plain
        wrong = np.where(truth, np.where(missed > 0.5, often, 2 * missed * (1 - plain)), invented)
    film = films["patient"].to_numpy(np.int64) * 1000 + films["follow_up"].to_numpy(np.int64)
    chance = uniforms(seed, 0, film, np.arange(len(FINDINGS)))
    return pd.DataFrame(truth ^ (chance < wrong), columns=list(FINDINGS), index=films.index)


def _cue(films: pd.DataFrame, cue: str | None) -> np.ndarray:
    if cue == "AP":
        return (films["view"] == "AP").to_numpy()
    if cue not in films:
        raise ValueError(f'Expected a cue that is a column of the films or "AP", got {cue!r}.')
    return films[cue].to_numpy(dtype=bool)


class PhantomSource:
    """The films of a population.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`chexlib.data.phantom.population`.
    size : int
        Pixels a side, that of the cache.
    """

    def __init__(self, frame: pd.DataFrame, *, size: int) -> None:
        self.films, self.size = films_of(frame), size
        self.names: list[str] = frame["image"].tolist()
        self.patients: list[int] = frame["patient"].tolist()
        self.origins = [f"simulated, phantom {VERSION}"] * len(frame)
        self.stamps = [f"{film:016x}" for film in pd.util.hash_pandas_object(frame, index=False)]

    def tasks(self, positions: Sequence[int]) -> Iterator[Simulate]:
        """Yield the work of simulating these films."""
        for part in batched(positions):
            yield Simulate(part, tuple(self.films[i] for i in part), self.size)


@dataclass(frozen=True)
class Simulate:
    """The simulation of a few films."""

    positions: tuple[int, ...]
    films: tuple[Film, ...]
    size: int

    def __call__(self) -> Iterator[Result]:
        """Yield the films."""
        for position, film in zip(self.positions, self.films, strict=True):
            pixels = render(film, size=self.size).image
            digest = hashlib.sha256(pixels).hexdigest()
            yield Result(position, digest, pixels, pixels.shape, view=film.view)


def boxes_of(frame: pd.DataFrame, *, workers: int | None = None) -> pd.DataFrame:
    """Return where the findings of simulated films are.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`chexlib.data.phantom.population`, or some of its rows.
    workers : int, optional
        Processes; all cores by default.

    Returns
    -------
    DataFrame
        As :func:`chexlib.data.load_boxes`: ``image``, ``finding``, ``x``, ``y``, ``width``,
        ``height``, in pixels of a 1024 px film. Boxes are taken from masks of 256 px, so edges are
        exact to 4 px.
    """
    parts = list(batched(zip(frame["image"], films_of(frame), strict=True), of=64))
    workers = cores() if workers is None else workers
    if workers == 1 or len(parts) < 2:
        rows = [_boxes(part) for part in parts]
    else:
        with processes(workers) as pool:
            rows = list(pool.map(_boxes, parts))
    columns = ["image", "finding", "x", "y", "width", "height"]
    return pd.DataFrame(list(chain.from_iterable(rows)), columns=columns)


def _boxes(part: Sequence[tuple[str, Film]]) -> list[tuple]:
    return [
        (name, finding, *box)
        for name, film in part
        if film.severity
        for finding, found in render(film, size=BOX_SIZE).boxes.items()
        for box in found
    ]
