"""Tables of chapter 5: what resizing loses, where the phantom is wrong, what leaks."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pandas as pd
from builders import LABELS, LUNGS, Built, builds, fetched, simulated
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from visibility import contrast, detectability, radial_spectrum

from chexlib.data import read_radiograph
from chexlib.data.phantom import Film, films_of, population, render
from chexlib.data.phantom.anatomy import generator, plan_chest
from chexlib.data.phantom.signs import SIGNS
from chexlib.findings import FINDINGS

SIZES = (1024, 512, 256, 224, 112, 64, 32)


def _shrunk(image: np.ndarray, size: int) -> np.ndarray:
    if len(image) == size:
        return image.astype(np.float32)
    return cv2.resize(image.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)


def _calcified(patient: int) -> bool:
    """Return whether a patient's nodule holds calcium."""
    film = Film(patient=patient, severity={"Nodule": 0.5})
    return SIGNS["Nodule"](plan_chest(film), 0.5, generator(film, "Nodule")).calcified


@builds("phantom_resolution")
def resolution() -> Built:
    """Render findings at 1024 px; shrink; ask how plain they are."""
    patients = [p for p in range(80) if not _calcified(p)][:40]
    stony = [p for p in range(200) if _calcified(p)][:40]
    everybody = {*patients, *stony}
    whole = {p: render(Film(patient=p), size=1024).image for p in everybody}
    kinds = {f"nodule of {cm:g} cm": ("Nodule", (cm - 0.8) / 2) for cm in (1.0, 1.8, 2.8)}
    kinds["calcified nodule of 1 cm"] = kinds["nodule of 1 cm"]
    kinds["mild edema"] = ("Edema", 0.25)
    kinds["small pneumothorax"] = ("Pneumothorax", 0.3)
    rows = []
    for kind, (finding, severity) in kinds.items():
        healthy = {p: whole[p] for p in (stony if kind.startswith("calcified") else patients)}
        shown = {
            p: render(Film(patient=p, severity={finding: severity}), size=1024) for p in healthy
        }
        for size in SIZES:
            plain, seen = [], []
            backgrounds = np.stack(
                [_shrunk(image, size) for image in healthy.values()], dtype=float
            )
            for p, image in healthy.items():
                present, absent = _shrunk(shown[p].image, size), _shrunk(image, size)
                mask = _shrunk(shown[p].masks[finding], size) >= 0.5
                if not mask.any():
                    continue
                plain.append(contrast(present, absent, mask))
                signal = np.where(mask, present - absent, 0)
                seen.append(detectability(signal, backgrounds))
            for name, values in (("contrast", plain), ("detectability", seen)):
                draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
                low, high = np.quantile(draws, [0.025, 0.975])
                rows.append((kind, size, name, len(values), np.mean(values), low, high))
    columns = ["object", "size", "measure", "n", "estimate", "low", "high"]
    note = (
        "estimate: mean over simulated patients, with 95% intervals by bootstrap of patients; "
        "contrast in grey values, detectability as d' of the matched filter"
    )
    return pd.DataFrame(rows, columns=columns), simulated("simulated radiographs", [LUNGS], note)


@builds("phantom_against_films")
def against_films() -> Built:
    """Set the phantom's grey values and power spectrum beside those of 61 films of NIH."""
    folder = fetched("nih_sample", "images")
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise FileNotFoundError(f"Expected NIH films in {folder}, found none: chexlib fetch images")
    films = films_of(population(60, seed=61, max_films=1))
    full = {
        "NIH": [read_radiograph(path) for path in paths],
        "phantom": [render(film, size=1024).image for film in films],
    }
    parts, levels = [], np.arange(5, 100, 5)
    for kind, large in full.items():
        images = np.stack([_shrunk(image, 256) for image in large])
        grey = np.percentile(images.reshape(len(images), -1), levels, axis=1).mean(axis=1)
        figures = {
            "lost": (112, [_beyond(image, 112) for image in large]),
            "power": radial_spectrum(images),
            "grey": (levels, grey),
        }
        for what, (x, value) in figures.items():
            parts.append(pd.DataFrame({"what": what, "x": x, "value": value, "kind": kind}))
    note = (
        f", {len(films)} films; NIH, {len(paths)} films; 256 px; power in cycles per image, each "
        "film standardised; grey: mean of the films' percentiles"
    )
    source = "simulated radiographs; NIH ChestX-ray14 images (Wang et al., 2017)"
    inputs = [LUNGS, LABELS, folder.parent]
    return pd.concat(parts, ignore_index=True), simulated(source, inputs, note)


def _beyond(image: np.ndarray, cycles: int) -> float:
    """Return the share of a film's variance in detail finer than so many cycles per image."""
    window = np.hanning(len(image))
    faded = (image - image.mean()) * window[:, None] * window[None]
    power = np.abs(np.fft.fft2(faded)) ** 2
    frequency = np.fft.fftfreq(len(image)) * len(image)
    finer = np.maximum(np.abs(frequency)[:, None], np.abs(frequency)[None]) > cycles
    return float(power[finer].sum() / (power.sum() - power[0, 0]))


@cache
def _crowd(seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    frame = population(500, seed=seed, prevalence="enriched", max_films=4)
    small = [cv2.resize(render(f, size=64).image, (32, 32)) for f in films_of(frame)]
    flat = np.stack(small).reshape(len(small), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return frame, flat / flat.std(axis=1, keepdims=True)


@builds("phantom_leakage")
def leakage() -> Built:
    """Score a memory (nearest neighbours) on films held out by film, and by patient."""
    rows = []
    for seed in range(10):
        frame, flat = _crowd(seed)
        labels, patient = frame[list(FINDINGS)].to_numpy(), frame["patient"].to_numpy()
        rng = np.random.default_rng(seed)
        by_film = rng.random(len(frame)) < 0.3
        by_patient = np.isin(patient, rng.choice(np.unique(patient), 150, replace=False))
        for split, test in (("by film", by_film), ("by patient", by_patient)):
            # Whitened, so that what tells people apart counts as much as what they share.
            whiten = PCA(120, whiten=True, svd_solver="full").fit(flat[~test])
            known = NearestNeighbors(n_neighbors=10, metric="cosine")
            known.fit(whiten.transform(flat[~test]))
            near = known.kneighbors(whiten.transform(flat[test]), return_distance=False)
            scores = labels[~test][near].mean(axis=1)
            aurocs = [
                roc_auc_score(labels[test, k], scores[:, k])
                for k in range(len(FINDINGS))
                if 0 < labels[test, k].sum() < test.sum()
            ]
            own = (patient[~test][near[:, 0]] == patient[test]).mean()
            seen = np.isin(patient[test], patient[~test]).mean()
            rows.append((seed, split, int(test.sum()), np.mean(aurocs), own, seen))
    columns = ["population", "split", "n_test", "mean_auroc", "nearest_is_self", "patient_in_train"]
    note = (
        "10 populations of 500 patients, up to 4 films each, 32 px; mean AUROC "
        "over findings of the share of positive labels among the 10 nearest training films, by the "
        "cosine of 120 whitened principal components"
    )
    return pd.DataFrame(rows, columns=columns), simulated(
        "simulated radiographs", [LUNGS, LABELS], note
    )
