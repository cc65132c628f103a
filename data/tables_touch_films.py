"""What the things to touch on films know: simulated films, and what the book's network gave them.

Films are pictures in WebP; the network saw them at its own size, before they were compressed.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from functools import cache
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import pydicom
from builders import LUNGS, Document, builds, simulated
from numpy.typing import NDArray
from PIL import Image
from tables_cam import HOT, PLACES, verdicts
from tables_localization import SIZE
from tables_touch import small
from visibility import contrast

from chexlib.data import Batcher, package_file, table
from chexlib.data.phantom import Film, Rendering, noise_rates, noisy_labels, render
from chexlib.data.phantom.signs import SIGNS
from chexlib.data.tables import table_folder
from chexlib.findings import FINDINGS, INFO
from chexlib.interpret import HeatMap, attribute, score_cases
from chexlib.interpret.localization import NIH_SIZE
from chexlib.metrics import Resamples
from chexlib.models import CheXNet, load_checkpoint, phantom_checkpoint
from figures.maps import film_of

# Pixels a side of a film that is moved, marked, swiped, windowed (across), or one of ten.
SHOWN, MARKED, SWIPED, WINDOWED, TEN = 192, 320, 224, 400, 320
MOVED = {"Nodule": 1.0, "Mass": 0.5, "Effusion": None}  # severity; of an effusion by its place
SEVERITIES = (0.1, 0.3, 0.5, 0.75, 1.0)
READ = ("Pneumothorax", "Nodule", "Consolidation")
TEN_SEED = 4
STEP = 256  # stored values that count together
ROWS, ACROSS = np.linspace(0.14, 0.85, 7), (0.8, 0.5, 0.2)  # as Sign.place takes them


@cache
def _model() -> CheXNet:
    return load_checkpoint(phantom_checkpoint())


def picture(image: NDArray[np.uint8], quality: int = 50) -> str:
    """Return a grey picture as WebP, in base64."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=quality, method=6)
    return base64.b64encode(file.getvalue()).decode()


def moved(film: Film, name: str, side: int, across: float, down: float) -> dict[int, Rendering]:
    """Return a film, as it is shown and as the network sees it, with its lesion in one place.

    Parameters
    ----------
    film : Film
    name : str
        Nodule, Mass, or Effusion, which is on one side only and otherwise where fluid runs.
    side : {-1, 1}
        The patient's right, or left.
    across, down : float
        Share of the way from the midline to the wall, and from the top of the lung to its base.
    """

    class Moved(SIGNS[name]):
        def draw(self) -> None:
            super().draw()
            self.side, self.both = side, False
            self.centre = self.place((across, across), (down, down))

    with patch.dict(SIGNS, {name: Moved}):
        return {size: render(film, size=size) for size in (SHOWN, SIZE)}


def thresholds() -> dict[str, float]:
    """Return the probability from which chapter 13 calls each finding."""
    return table("cam_examples").groupby("finding")["threshold"].first().to_dict()


def _grid() -> list[float]:
    """Return where the first cell of a map lies, and how far the next, as shares of the film."""
    grid = attribute(_model(), Batcher(np.zeros((1, SIZE, SIZE), np.uint8))([0])).grid
    return [grid.first / SIZE, grid.stride / SIZE]


def _told(
    seen: dict[int, Rendering], names: tuple[str, ...], finding: str | None = None
) -> dict[str, object]:
    """Return what the network says of a film, and where its maps point if it has a finding."""
    images, rows = Batcher(seen[SIZE].image[None])([0]), [FINDINGS.index(name) for name in names]
    maps = attribute(_model(), images)
    copied = attribute(_model(), images, method="copied").values[0, 0]
    told = {
        "logits": small(_model()(images)[0, rows].detach()),
        "maps": small(maps.values[0, rows].flatten(1), 2),
        "copied": small(copied.flatten(), 2),
        "film": picture(seen[SHOWN].image),
    }
    if finding is None:
        return told
    truth = np.array(seen[SHOWN].boxes[finding]) / NIH_SIZE
    x, y, width, height = truth[0]
    middle = 0 if finding == "Effusion" else height / 2  # fluid is pulled by its surface
    both = np.stack([maps.values[0, FINDINGS.index(finding)], copied])
    case = {"film": 0, "image": "", "finding": finding, "patient": 0, "truth": truth}
    scores = score_cases(HeatMap(both, SIZE), pd.DataFrame([case, case]), cuts=(HOT,))
    places = [PLACES.index(one) for one in verdicts(scores, [True, True])]
    told |= {"at": small([x + width / 2, y + middle]), "boxes": small(truth), "places": places}
    return told


@builds("touch/lesion")
def lesion() -> Document:
    """Return a healthy chest with a nodule, a mass or an effusion in many places.

    ``logits`` and ``maps`` are of the three findings in order, a map's cells row by row;
    ``places`` says where map and copied map point, of ``where``; ``chapter`` has shares of cases
    whose map is elsewhere, if called and if missed, and ``hits`` shares of hits over all findings.
    """
    names, cut = tuple(MOVED), thresholds()
    rows = [FINDINGS.index(name) for name in names]
    low = np.array([cut[name] for name in names])
    for patient in range(1, 100):  # the first whose healthy chest is called for none of the three
        healthy = Film(patient=patient)
        image = Batcher(render(healthy, size=SIZE).image[None])([0])
        if (_model().predict_proba(image)[0, rows].numpy() < low).all():
            break
    plain = {size: render(healthy, size=size) for size in (SHOWN, SIZE)}
    content, films = {"healthy": _told(plain, names)}, {}
    for name, severity in MOVED.items():
        ways = [(s, u, v) for v in ROWS for s, order in ((-1, 1), (1, -1)) for u in ACROSS[::order]]
        if severity is None:
            ways = [(side, 0.5, v) for v in np.linspace(1, 0.1, 8) for side in (-1, 1)]
        films[name] = [
            _told(
                moved(replace(healthy, severity={name: severity or down}), name, *where),
                names,
                name,
            )
            for *where, down in ((*way, way[-1]) for way in ways)
        ]
    verdict = table("cam_verdicts").set_index(["share", "finding"])
    kinds = [f"elsewhere, of {answer}" for answer in ("called", "missed")]
    hits = table("cam_methods").query("metric == 'hit' and finding == 'mean of findings'")
    hits, ends = hits.set_index("source"), ["estimate", "low", "high"]
    content |= {
        "patient": patient,
        "size": SIZE,
        "grid": _grid(),
        "findings": names,
        "sizes": {name: round(_across(name, MOVED[name]), 1) for name in ("Nodule", "Mass")},
        "thresholds": low.tolist(),
        "where": PLACES,
        "chapter": {name: small(verdict.loc[[(k, name) for k in kinds], ends]) for name in names},
        "hits": small(hits.loc[["cam", "copied"], ends]),
        "films": films,
    }
    return content, _provenance(f"patient {patient}, {SIZE} px; shown at {SHOWN} px")


def _across(name: str, severity: float) -> float:
    """Return the diameter of a nodule or a mass, cm."""
    sign = SIGNS[name]
    return sign.smallest + (sign.largest - sign.smallest) * severity


def _provenance(note: str) -> dict:
    source = "simulated radiographs, and the book's network"
    return simulated(source, [phantom_checkpoint(), LUNGS], note)


@builds("touch/marker")
def marker() -> Document:
    """Return chapter 14's four films with a nodule, with the marker and without it, and two maps.

    Maps and logits of Nodule are those of the table; ``chapter`` is what the marker adds to the
    logit on many films.
    """
    rows, films = table("localization_shortcut_films"), []
    cells = [column for column in rows if re.fullmatch(r"m\d+", column)]
    for _, of in rows.groupby(["patient", "follow_up"], sort=False):
        films.append({"boxes": small([of.iloc[0][["x", "y", "width", "height"]]])})
        for state, told in of.groupby("marker"):
            image = render(film_of(of.iloc[0], marker=state == "with"), size=MARKED).image
            runs = {
                row["run"]: {"logit": row["logit"], "map": row[cells].tolist()}
                for _, row in told.iterrows()
            }
            films[-1][state] = {"film": picture(image)} | runs
    measured = table("localization_shortcut_maps").query("measure == 'logit, change'")
    ends = measured.set_index("run")[["estimate", "low", "high"]]
    content = {
        "grid": _grid(),
        "films": films,
        "chapter": {run: small(ends.loc[run]) for run in ends.index},
        "n": int(measured["n_films"].iloc[0]),
    }
    source = "localization_shortcut_films.csv: simulated radiographs and two networks"
    return content, simulated(source, [table_folder() / "localization_shortcut_films.csv"], "")


@builds("touch/sick")
def sick() -> Document:
    """Return a healthy patient of each finding, and the same film with it, from subtle to gross.

    ``adds`` is by how many grey values the finding differs from the healthy film where it is, and
    ``chapter`` the same of a few findings, over patients; ``outline`` is in pixels.
    """
    cut, content = thresholds(), {}
    for k, name in enumerate(FINDINGS):  # the patients of chapter 5's contact sheet
        person = Film(patient=1 + k, sex="MF"[k % 2], age=35 + 3 * k)
        films = [person, *(replace(person, severity={name: s}) for s in SEVERITIES)]
        shown = [render(film, size=SWIPED) for film in films]
        seen = np.stack([render(film, size=SIZE).image for film in films])
        answers = _model().predict_proba(Batcher(seen)(range(len(films))))
        masks = [one.masks[name] for one in shown[1:]]
        content[name] = {
            "english": INFO[name].english,
            "threshold": cut[name],
            "answers": small(answers[:, FINDINGS.index(name)]),
            "outlines": [_outline(mask) for mask in masks],
            "adds": [
                round(contrast(one.image, shown[0].image, mask), 1)
                for one, mask in zip(shown[1:], masks, strict=True)
            ],
            "films": [picture(one.image, 40) for one in shown],
        }
    measured = table("phantom_resolution").query(f"size == {SWIPED} and measure == 'contrast'")
    ends = measured.set_index("object")[["estimate", "low", "high"]]
    chapter = {kind: small(ends.loc[kind]) for kind in ends.index}
    content = {"size": SWIPED, "severities": SEVERITIES, "chapter": chapter, "findings": content}
    return content, _provenance(f"shown at {SWIPED} px")


def _outline(mask: NDArray[np.bool_]) -> str:
    """Return the outline of a mask as a path of SVG."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parts = [cv2.approxPolyDP(one, 0.7, closed=True)[:, 0] for one in found]
    paths = ["L".join(f"{x} {y}" for x, y in part) for part in parts if len(part) > 2]
    return "".join(f"M{path}Z" for path in paths)


@builds("touch/window")
def window() -> Document:
    """Return chapter 5's real film in few pixels, its header's window, and a histogram.

    ``film`` shows stored values from ``ends[0]``, black, to ``ends[1]``, white; ``narrow`` are
    the ends of the chapter's narrower window; ``counts`` are pixels of the whole film by stored
    value, in steps of ``step``.
    """
    path = package_file("data_store", "data", "RG1_UNCR.dcm")
    header = pydicom.dcmread(path)
    stored = header.pixel_array.astype(float)
    low, high = int(stored.min()), int(stored.max())
    grey = (stored - low) / (high - low) * 255
    height = round(WINDOWED * header.Rows / header.Columns)
    small_film = cv2.resize(grey, (WINDOWED, height), interpolation=cv2.INTER_AREA)
    counts, _ = np.histogram(stored, np.arange(0, 2**header.BitsStored + STEP, STEP))
    content = {
        "film": picture(small_film.round().astype(np.uint8), 90),
        "aspect": [WINDOWED, height],
        "ends": [low, high],
        "window": [float(header.WindowCenter), float(header.WindowWidth)],
        "narrow": np.percentile(stored, [1, 98]).round().tolist(),  # of dense bright: 2 and 99
        "bits": header.BitsStored,
        "step": STEP,
        "counts": counts.tolist(),
    }
    source, licence = "RG1_UNCR.dcm of the package pydicom-data", "MIT, as the package"
    return content, {"source": source, "licence": licence, "inputs": [path]}


@builds("touch/ten")
def ten() -> Document:
    """Return ten simulated films with up to three findings, a text label and the network's calls.

    Labels are drawn with the error rates of chapter 3, and ``known`` says how each is known;
    ``drawn`` says how often each film is in
    each resample, of those that an interval by film is made of; ``chapter`` are the kappas of five
    radiologists.
    """
    rng, n = np.random.default_rng(TEN_SEED), 10
    here = rng.random((n, len(READ))) < 0.4
    severity = rng.uniform(0.2, 0.9, here.shape).round(2)
    people = [
        {"patient": 900 + k, "sex": "MF"[k % 2], "age": int(rng.integers(30, 80))} for k in range(n)
    ]
    films = [
        Film(**one, severity={READ[j]: severity[k, j] for j in np.flatnonzero(here[k])})
        for k, one in enumerate(people)
    ]
    frame = pd.DataFrame(False, index=range(n), columns=list(FINDINGS))
    frame[list(READ)] = here
    frame = frame.assign(patient=[one["patient"] for one in people], follow_up=0)
    labels = noisy_labels(frame, seed=TEN_SEED)[list(READ)]
    seen = np.stack([render(film, size=SIZE).image for film in films])
    answers = _model().predict_proba(Batcher(seen)(range(n)))
    answers = answers[:, [FINDINGS.index(name) for name in READ]].numpy()
    cut, shown = thresholds(), [render(film, size=TEN) for film in films]
    draws = Resamples(np.repeat(np.arange(n), len(READ)), resamples=2000, seed=0)
    kappas = table("reader_agreement").query("subset == 'five_readers'")
    kappas = kappas[kappas["statistic"] == "pairwise_kappa"].set_index("finding")
    rates = noise_rates().set_index("finding")
    content = {
        "findings": READ,
        "truth": here.astype(int).tolist(),
        "label": labels.to_numpy(int).tolist(),
        "network": (answers >= [cut[name] for name in READ]).astype(int).tolist(),
        "boxes": [
            [small(np.reshape(one.boxes.get(name, []), (-1, 4)) / NIH_SIZE) for name in READ]
            for one in shown
        ],
        "rates": small(rates.loc[list(READ), ["sensitivity", "specificity"]]),
        "known": rates.loc[list(READ), "status"].tolist(),
        "chapter": small(kappas.loc[list(READ), ["estimate", "low", "high"]]),
        "n": int(kappas["n"].iloc[0]),
        "drawn": ["".join(map(str, one)) for one in draws.drawn.T],
        "films": [picture(one.image, 60) for one in shown],
    }
    note = f"patients 900 to {899 + n}; labels and severities: seed {TEN_SEED}"
    return content, _provenance(note)
