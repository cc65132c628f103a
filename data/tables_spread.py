"""Builders of chapters 6, 7 and 11 on real films: how far apart twenty trainings lie."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from builders import FIVE, LABELS, Built, builds, ratio
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import rankdata
from tables_networks import SCORES, about, influence, networks, rows, tested, with_mean
from tables_readers import five

from chexlib.findings import FINDINGS
from chexlib.metrics import Bootstrap, Resamples, choose, max_f1

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


CALLED = 20
"""Films that one of five readers at least calls: with fewer a finding is not part of the mean."""
TWO_NETWORKS, TWO_READERS, ACROSS = "two networks", "two radiologists", "a network, a radiologist"
READINESS = "two radiologists, by readiness alone"
ALIKE = "the two radiologists who call most alike"


def apart(called: NDArray[np.bool_], there: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Return how likely one of two raters, drawn anew for each film, calls it and the other not.

    ``called`` is ``[N, R, F]``, ``there`` ``[N, R]``, true for two raters of a film at least. The
    second array ``[N, F]`` is how likely one of them calls it. Every film counts alike.
    """
    n = there.sum(axis=1)[:, None]
    k = (called & there[..., None]).sum(axis=1)
    return k * (n - k) / (n * (n - 1)), k / n


def above(rank: NDArray, there: NDArray[np.bool_], rate: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return what networks call ``[N, R, F]`` at the one threshold that calls ``rate`` ``[F]``.

    ``rank`` is the share of a network's own test films that it ranks higher. Of N films, each with
    as many networks as scored it, the share ``rate`` is called, as nearly as there are scores.
    """
    weight = np.where(there, 1 / there.sum(axis=1, keepdims=True) / len(there), 0)
    called = np.zeros(rank.shape, dtype=bool)
    for k, share in enumerate(rate):
        order = np.argsort(np.where(there, rank[..., k], np.inf), axis=None)
        last = order[np.abs(np.cumsum(weight.ravel()[order]) - share).argmin()]
        called[..., k] = there & (rank[..., k] <= rank[..., k].ravel()[last])
    return called


def readiness(reads: NDArray[np.bool_], draws: Resamples) -> Bootstrap:
    """Return calls ``[F]`` that two readers cannot share, since one of them calls more films."""
    by_film = reads.reshape(len(reads), -1)
    sums = np.vstack([by_film.sum(axis=0), draws.sums(by_film)]).reshape(-1, *reads.shape[1:])
    pairs = list(combinations(range(reads.shape[1]), 2))
    gap = np.mean([np.abs(sums[:, a] - sums[:, b]) for a, b in pairs], axis=0)
    with np.errstate(invalid="ignore"):
        found = gap / 2 / sums.mean(axis=1)
    return Bootstrap(found[0], found[1:], draws)


def most_alike(reads: NDArray[np.bool_], draws: Resamples) -> Bootstrap:
    """Return what two readers do not share ``[F]``, of the pair whose calls are closest in number.

    The pair is chosen once, on all films: where two readers have one operating point, or nearly.
    """
    n, shape = reads.sum(axis=0), (len(reads), reads.shape[2])
    differ, calls = np.zeros(shape), np.zeros(shape)
    for k in range(shape[1]):
        pairs = [pair for pair in combinations(range(len(n)), 2) if n[list(pair), k].any()]
        a, b = min(
            pairs, key=lambda pair: abs(n[pair[0], k] - n[pair[1], k]) / n[list(pair), k].sum()
        )
        differ[:, k] = reads[:, a, k] != reads[:, b, k]
        calls[:, k] = reads[:, a, k].astype(int) + reads[:, b, k]
    return ratio(differ, calls, draws)


@builds("reader_spread")
def reader_spread() -> Built:
    """On films that five radiologists read: how often two networks differ, and two radiologists."""
    films, calls, _ = five()
    place = pd.Index(tested()[0]["image"]).get_indexer(films["image"])
    reads = np.stack([calls[name] for name in FINDINGS], axis=-1)
    parts = list(networks(WOMEN))
    rank = np.full((len(films), len(parts), len(FINDINGS)), np.nan)
    for r, (at, values) in enumerate(parts):
        row = pd.Index(at).get_indexer(place)
        higher = 1 - rankdata(values, axis=0) / len(at)
        rank[row >= 0, r] = higher[row[row >= 0]]
    kept = (~np.isnan(rank[..., 0])).sum(axis=1) >= 2
    films, reads, rank = films[kept], reads[kept], rank[kept]
    there, draws = ~np.isnan(rank[..., 0]), Resamples(films["patient"], resamples=2000)
    judged = reads.any(axis=1).sum(axis=0) >= CALLED

    def shown(found: Bootstrap) -> Bootstrap:
        whole = Bootstrap(found.estimate[judged], found.replicates[:, judged], draws).mean()
        return Bootstrap(
            np.append(found.estimate, whole.estimate),
            np.column_stack([found.replicates, whole.replicates]),
            draws,
        )

    labelled = films[list(FINDINGS)].to_numpy().mean(axis=0)
    as_labels, their_calls = apart(above(rank, there, labelled), there)
    net, called = apart(above(rank, there, reads.mean(axis=(0, 1))), there)
    two, ready = apart(reads, np.ones(reads.shape[:2], dtype=bool))
    crossed, every = (called + ready - 2 * called * ready) / 2, np.ones_like(net)
    unshared = {
        TWO_NETWORKS: ratio(net, called, draws),
        TWO_READERS: ratio(two, ready, draws),
        ACROSS: ratio(crossed, (called + ready) / 2, draws),
    }
    found = {
        **unshared,
        f"{TWO_NETWORKS} less {TWO_READERS}": unshared[TWO_NETWORKS] - unshared[TWO_READERS],
        f"{ACROSS} less {TWO_READERS}": unshared[ACROSS] - unshared[TWO_READERS],
        READINESS: readiness(reads, draws),
        ALIKE: most_alike(reads, draws),
        f"{TWO_NETWORKS}, called as often as labelled": ratio(as_labels, their_calls, draws),
        f"{TWO_NETWORKS}, of all films": ratio(2 * net, every, draws),
        f"{TWO_READERS}, of all films": ratio(2 * two, every, draws),
    }
    n = {"n_films": len(films), "n_patients": films["patient"].nunique()}
    n["n_called"] = np.append(reads.any(axis=1).sum(axis=0), pd.NA)
    parts = [rows(shown(one), raters=name, **n, method=draws.method) for name, one in found.items()]
    note = "of one's calls the share that the other does not make, or, of all films, the share on "
    note += "which two differ; pairs drawn anew for each film with two networks or more; networks "
    note += "of one recipe, half women, call as many of their own test films each, so many that on "
    note += "these films they call as often as the five readers; readers, networks and thresholds "
    note += f"are held fixed; n_called: films that a reader at least calls; mean: of {judged.sum()}"
    note += f" findings with {CALLED} such films"
    table = pd.concat(parts, ignore_index=True)
    return table, about(note, [SCORES, LABELS, FIVE])


@builds("calls_at_f1")
def calls_at_f1() -> Built:
    """How many films a network calls, or keeps the label of, at its threshold of highest F1."""
    films, _ = tested()
    labels = films[list(FINDINGS)].to_numpy()
    found = []
    for at, scores in networks(WOMEN):
        called = scores >= choose(labels[at], scores, max_f1)
        found.append((called | labels[at]).sum(axis=0) / labels[at].sum(axis=0))
    found = np.stack(found)
    table = pd.DataFrame({"finding": FINDINGS, "estimate": found.mean(axis=0)})
    table["least"], table["most"] = found.min(axis=0), found.max(axis=0)
    table["n_networks"], table["n_labelled"] = len(found), labels.sum(axis=0)
    note = "films called or labelled, for each film labelled: mean, least and most of 20 networks "
    note += "on their own test films; thresholds of highest F1 against NIH's label of these films"
    return table, about(note) | {"note": note}  # no interval: nothing is drawn
