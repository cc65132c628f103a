"""The table of how far simulated films are from real ones: `phantom_gap`."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import torch
from builders import LABELS, LUNGS, Built, builds, fetched, simulated
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import nn
from visibility import radial_spectrum

from chexlib.data import load_labels
from chexlib.data.phantom import VERSION, films_of, population, render
from chexlib.data.tables import table, table_folder

SIDE, SIZES, EPOCHS, FOLDS, DRAWS = 256, (32, 64, 224), 5, 3, 300
TOLD = 400  # films of each kind that the network is given: it need not be well trained
COLUMNS = ["size", "phantom", "statistic", "estimate", "low", "high"]


def _shrunk(images: np.ndarray, size: int) -> np.ndarray:
    return np.stack([cv2.resize(one, (size, size), interpolation=cv2.INTER_AREA) for one in images])


def lung_area(image: np.ndarray) -> float:
    """Return the share of a film that its two largest dark parts hold, sides and corners aside."""
    small = cv2.GaussianBlur(cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA), (0, 0), 2)
    middle = np.ascontiguousarray(small[14:102, 18:110])
    level, _ = cv2.threshold(middle, 0, 255, cv2.THRESH_OTSU)
    dark = cv2.morphologyEx((middle < level).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5)))
    _, _, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=4)
    return float(np.sort(stats[1:, 4])[-2:].sum()) / small.size


def symmetry(image: np.ndarray) -> float:
    """Return the correlation of a film with its mirror image."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).astype(float)
    return float(np.corrcoef(small.ravel(), small[:, ::-1].ravel())[0, 1])


def slope(image: np.ndarray) -> float:
    """Return the exponent with which a film's power falls from 4 to 64 cycles per image."""
    frequency, power = radial_spectrum(image[None])
    kept = (frequency > 4) & (frequency < 64)
    return float(np.polyfit(np.log(frequency[kept]), np.log(power[kept]), 1)[0])


def grey_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the earth mover's distance of two sets' histograms [N, 256], in grey values."""
    apart = np.cumsum(one.mean(axis=0) - other.mean(axis=0))
    return float(np.abs(apart).sum())


def _histograms(images: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(one.ravel(), minlength=256) / one.size for one in images])


class _Small(nn.Sequential):
    """Three convolutions; the first takes larger steps over larger films."""

    def __init__(self, size: int) -> None:
        layers: list[nn.Module] = []
        for before, after, step in ((1, 8, 4 if size > 100 else 2), (8, 16, 2), (16, 32, 2)):
            conv = nn.Conv2d(before, after, step + 1, stride=step, padding=step // 2)
            layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 1)]
        super().__init__(*layers)


def told_apart(films: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """Return a small network's scores for "real", each film scored by one that never saw it."""
    x = torch.from_numpy(films.astype(np.float32))[:, None] / 255
    x, y = (x - x.mean()) / x.std(), torch.from_numpy(is_real.astype(np.float32))
    scores = np.zeros(len(films))
    for k, (train, test) in enumerate(StratifiedKFold(FOLDS).split(films, is_real)):
        torch.manual_seed(k)
        network = _Small(films.shape[1])
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(EPOCHS):
            for batch in torch.as_tensor(train)[torch.randperm(len(train))].split(32):
                loss = nn.functional.binary_cross_entropy_with_logits(
                    network(x[batch])[:, 0], y[batch]
                )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        network.eval()
        with torch.no_grad():
            scores[test] = network(x[test])[:, 0].numpy()
    return scores


def _bootstrapped(
    value: Callable[..., float], *samples: np.ndarray, draws: int = DRAWS
) -> tuple[float, float, float]:
    """Return a statistic of samples of films and its interval; one film a patient."""
    rng = np.random.default_rng(0)
    drawn = [
        value(*(one[rng.integers(0, len(one), len(one))] for one in samples)) for _ in range(draws)
    ]
    return value(*samples), *np.quantile(drawn, [0.025, 0.975])


def _auroc(above: np.ndarray, below: np.ndarray) -> float:
    there = np.repeat([True, False], [len(above), len(below)])
    return roc_auc_score(there, np.concatenate([above, below]))


def _framed(films: np.ndarray) -> np.ndarray:
    """Return films whose middle two thirds are black."""
    edge = films.shape[1] // 6
    films = films.copy()
    films[:, edge:-edge, edge:-edge] = 0
    return films


def _middle(films: np.ndarray) -> np.ndarray:
    edge = films.shape[1] // 6
    return films[:, edge:-edge, edge:-edge]


def _equalised(films: np.ndarray) -> np.ndarray:
    """Return films of which each has the same greys equally often."""
    return np.stack([cv2.equalizeHist(np.ascontiguousarray(one)) for one in films])


LOOKS = {
    "AUROC": lambda films: films,
    "AUROC, frame alone": _framed,
    "AUROC, middle alone": _middle,
    "AUROC, middle, greys equalised": lambda films: _equalised(_middle(films)),
}


def measured(real: np.ndarray, phantom: np.ndarray, name: str) -> list[tuple]:
    """Return the rows of one phantom beside real films, uint8 [N, 256, 256] each."""
    rows = []
    plain = {"lung area": lung_area, "left-right symmetry": symmetry, "slope of power": slope}
    for kind, films in (("NIH films", real), (name, phantom)):
        for what, value in plain.items():
            values = np.array([value(one) for one in films])
            rows.append((SIDE, kind, what, *_bootstrapped(np.mean, values)))
    two = _histograms(real), _histograms(phantom)
    rows.append((SIDE, name, "distance of greys", *_bootstrapped(grey_distance, *two)))
    is_real = np.repeat([True, False], TOLD)
    for size in SIZES:
        films = np.concatenate([_shrunk(real[:TOLD], size), _shrunk(phantom[:TOLD], size)])
        for what, look in LOOKS.items():
            if size != 64 and what != "AUROC":
                continue
            scores = told_apart(look(films), is_real)

            found = _bootstrapped(_auroc, scores[is_real], scores[~is_real])
            rows.append((size, name, what, *found))
    return rows


@builds("phantom_gap")
def gap() -> Built:
    """Set the phantom beside 621 real films; rows of former phantoms are kept as they are."""
    folder = fetched("nih_sample", "images_256")
    labels = load_labels()
    labels = labels[labels["age"].between(18, 100)]
    real = labels[labels["image"].isin([path.name for path in folder.glob("*.png")])]
    if real.empty:
        raise FileNotFoundError(f"Expected NIH films in {folder}, found none.")
    films = np.stack([cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE) for name in real.image])
    drawn = films_of(population(len(real), seed=16, max_films=1, rows=real))
    phantom = np.stack([render(film, size=SIDE).image for film in drawn])
    frame = pd.DataFrame(measured(films, phantom, VERSION), columns=COLUMNS)
    if (table_folder() / "phantom_gap.csv").is_file():
        before = table("phantom_gap")
        others = ~before["phantom"].isin(frame["phantom"])
        frame = pd.concat([before[others], frame], ignore_index=True)
    note = (
        f", beside {len(real)} adults' films of NIH, one a patient, chosen to hold every finding; "
        "as many simulated ones, drawn from the same label rows; AUROC of a small network that "
        f"tells {TOLD} and {TOLD} apart, {FOLDS} folds; 95% intervals by bootstrap of films; rows "
        "of another phantom are of a commit before"
    )
    source = "simulated radiographs; NIH ChestX-ray14 images (Wang et al., 2017)"
    return frame, simulated(source, [LUNGS, LABELS, folder], note)
