"""Builder of the table of chapter 6 on real films: how far apart twenty trainings lie."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from builders import Built, builds, ratio
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import rankdata
from tables_networks import about, influence, networks, rows, tested, with_mean

from chexlib.findings import FINDINGS
from chexlib.metrics import Bootstrap, Resamples

WOMEN = 50
MOST = 10
"""Networks in the largest ensemble: films that fewer have scored are left out of it."""
ORDERS = 5  # an ensemble's members are drawn anew so often, and its AUROCs averaged


def by_patient(
    label: NDArray[np.bool_], scores: NDArray, draws: Resamples
) -> tuple[float, NDArray[np.float64], float]:
    """Return an AUROC, how far each patient moves it, and its variance over patients."""
    area, moved = influence(label, scores, np.ones(len(label)))
    sums = np.bincount(draws.code, moved, minlength=len(draws.drawn))
    n = len(np.unique(draws.code[label]))  # the fewer patients decide
    return area, sums, n / max(n - 1, 1)


def spread(labels: NDArray[np.bool_], scores: NDArray, draws: Resamples) -> dict[str, Bootstrap]:
    """Return what test films and what trainings contribute to the spread of AUROC.

    Two networks are compared on the films that both scored. Their squared difference holds twice
    the variance of a training, and what a choice of patients does to a difference (DeLong's
    variance of it, by patient): half the one less half the other, averaged over all pairs, is the
    variance that the training adds. Pairs share networks and films; the mean needs no independence.

    Parameters
    ----------
    labels : ndarray [N, F] of bool
    scores : ndarray [N, R, F]
        Of R networks; NaN where a network did not score the film.
    draws : Resamples
        Patients of the N films.

    Returns
    -------
    dict of Bootstrap
        Standard deviations ``[F + 1]``, the last of the mean of F AUROCs: ``training``, and
        ``films``, that of one network's AUROC on its own test films. A variance estimated below 0
        is 0. Networks are held fixed: a resample draws patients.
    """
    there = ~np.isnan(scores).any(axis=2)
    n_findings, drawn = labels.shape[1], draws.drawn.astype(np.float32) - 1
    film, trained = np.zeros((1, n_findings + 1)), np.zeros((1, n_findings + 1))
    film_b, trained_b = (np.zeros((len(draws), n_findings + 1)) for _ in range(2))

    def areas(kept: NDArray[np.bool_], network: int) -> tuple[NDArray, NDArray, NDArray]:
        """AUROCs and influences of patients, of all findings and of their mean."""
        own = draws.select(kept)
        found = [
            by_patient(labels[kept, k], scores[kept, network, k], own) for k in range(n_findings)
        ]
        area, moved, more = (np.stack(one, axis=-1) for one in zip(*found, strict=True))
        area, moved = (np.concatenate([a, a.mean(-1, keepdims=True)], -1) for a in (area, moved))
        return area, moved, np.append(more, 1)

    for network in range(scores.shape[1]):
        _, moved, more = areas(there[:, network], network)
        film += more * (moved**2).sum(axis=0)
        film_b += more * ((drawn + 1).T @ moved**2)
    pairs = list(combinations(range(scores.shape[1]), 2))
    for one, other in pairs:
        kept = there[:, one] & there[:, other]
        (a, moved, more), (b, moved_b, _) = areas(kept, one), areas(kept, other)
        gap, moved = a - b, moved - moved_b
        by_chance = more * (moved**2).sum(axis=0)
        trained += (gap**2 - by_chance) / 2
        seen = np.flatnonzero(moved.any(axis=1))
        again = gap + drawn[seen].T @ moved[seen].astype(np.float32)
        # A resample adds as much chance as the patients themselves did.
        trained_b += (again**2 - 2 * by_chance) / 2
    found = {"films": (film, film_b, scores.shape[1]), "training": (trained, trained_b, len(pairs))}
    return {
        name: Bootstrap(*(np.sqrt(np.maximum(v / n, 0)) for v in (value[0], replicates)), draws)
        for name, (value, replicates, n) in found.items()
    }


def disagreement(called: NDArray, there: NDArray[np.bool_], draws: Resamples) -> Bootstrap:
    """Return of the films that one network calls the share that another one does not, ``[F]``.

    ``called`` is ``[N, R, F]``, ``there`` ``[N, R]``: all pairs of networks that scored a film.
    """
    n = there.sum(axis=1)[:, None]
    k = (called & there[..., None]).sum(axis=1)
    return ratio(k * (n - k), k * (n - 1), draws)


def ensembles(labels: NDArray, ranks: NDArray, draws: Resamples, sizes: tuple) -> dict:
    """Return the AUROC ``[F]`` of the mean rank of 1, 2, … networks, drawn anew for each film."""
    rng, out = np.random.default_rng(0), {size: [0, 0] for size in sizes}
    for _ in range(ORDERS):
        lot = np.where(np.isnan(ranks[..., 0]), np.inf, rng.random(ranks.shape[:2]))
        order = np.argsort(lot, axis=1)[:, : max(sizes), None]
        members = np.take_along_axis(ranks, order, axis=1).cumsum(axis=1)
        for size in sizes:
            of = [
                influence(y, s, np.ones(len(y)))
                for y, s in zip(labels.T, members[:, size - 1].T / size, strict=True)
            ]
            area, moved = (np.stack(one, axis=-1) for one in zip(*of, strict=True))
            out[size][0] += area / ORDERS
            out[size][1] += moved / ORDERS
    return {
        size: Bootstrap(area, area + draws.sums(moved) - moved.sum(axis=0), draws)
        for size, (area, moved) in out.items()
    }


def warning(wrong: NDArray, doubt: NDArray, near: NDArray | None, draws: Resamples) -> Bootstrap:
    """Return errors where networks differ more, over errors where they differ less, ``[F]``.

    All ``[N, F]``. With ``near``, films are paired with the next one by that probability, and the
    two of a pair compared, so that doubt is asked for what the probability does not tell.
    Otherwise films above the median doubt are held against the others.
    """
    more = np.zeros(wrong.shape, dtype=bool)
    for k in range(wrong.shape[1]):
        if near is None:
            more[:, k] = doubt[:, k] > np.median(doubt[:, k])
        else:
            pair = np.argsort(near[:, k], kind="stable")[: len(wrong) // 2 * 2].reshape(-1, 2)
            more[np.take_along_axis(pair, doubt[pair, k].argmax(axis=1)[:, None], 1), k] = True
    return ratio(wrong & more, wrong & ~more, draws)


@builds("network_spread")
def network_spread() -> Built:
    """Spread of AUROC over films and trainings, disagreement, ensembles, doubt as a warning."""
    films, _ = tested()
    draws = Resamples(films["patient"], resamples=1000)
    labels = films[list(FINDINGS)].to_numpy()
    parts = list(networks(WOMEN))
    scores = np.full((len(films), len(parts), len(FINDINGS)), np.nan, dtype=np.float32)
    ranks, called = scores.copy(), np.zeros(scores.shape, dtype=bool)
    for r, (at, values) in enumerate(parts):
        scores[at, r] = values
        ranks[at, r] = rankdata(values, axis=0) / len(at)
        called[at, r] = ranks[at, r] > 1 - labels[at].mean(axis=0)
    there = ~np.isnan(scores[..., 0])
    found = spread(labels, scores, draws)
    tables = {f"standard deviation, {name}": rows(one) for name, one in found.items()}
    tables["not called by another"] = rows(with_mean(disagreement(called, there, draws)))

    many = there.sum(axis=1) >= MOST
    labels, scores, draws = labels[many], scores[many], draws.select(many)
    sizes = (1, 2, 5, MOST)
    of = ensembles(labels, ranks[many], draws, sizes)
    for size in sizes:
        name = "one network" if size == 1 else f"gain of {size}"
        tables[name] = rows(with_mean(of[size] if size == 1 else of[size] - of[1]))
    logits = logit(scores.astype(float))
    doubt = np.nanstd(logits, axis=1)
    for name, values in (("probability", scores), ("logit", logits)):
        mean = np.nanmean(values, axis=1)
        wrong = labels != (rankdata(mean, axis=0) / len(mean) > 1 - labels.mean(axis=0))
        if name == "probability":
            tables["errors, doubt alone"] = rows(with_mean(warning(wrong, doubt, None, draws)))
        tables[f"errors, equal {name}"] = rows(with_mean(warning(wrong, doubt, mean, draws)))
    n = {"one": (there.any(axis=1).sum(), films["patient"].nunique())}
    n["ten"] = (many.sum(), films["patient"][many].nunique())
    for name, table in tables.items():
        ten = name.startswith(("one network", "gain", "errors"))
        table["n_films"], table["n_patients"] = n["ten" if ten else "one"]
        table.insert(1, "source", name)
    table = pd.concat(tables.values(), ignore_index=True).assign(method=draws.method)
    note = "20 networks of one recipe, half women; networks are held fixed: intervals leave out "
    note += "that twenty are few and share training films, and other recipes; standard deviation, "
    note += "training: seed and choice of training films; calls: as many films as are labelled; "
    note += f"ensembles and errors: films with {MOST} networks or more; errors: those where "
    note += "networks differ more over those where they differ less"
    return table, about(note)
