"""Tables of chapters 8 to 10: counts by score, AUROC, average precision, curves, published figures.

Everything is computed from the reference model's probability of each film, which is fetched, not
shipped; what ships are counts and figures. Intervals are of 95% and by patient.
"""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pandas as pd
from builders import Built, builds, listed, quoted
from numpy.typing import NDArray
from published import published
from reference_films import Films, every_subset, provenance, shared_films
from scipy.stats import norm

from chexlib.findings import FINDINGS
from chexlib.metrics import (
    Bootstrap,
    Resamples,
    UndefinedWarning,
    auroc,
    average_precision,
    delong,
    holm,
    operating_points,
    resampled,
    share,
)
from chexlib.metrics.ranking import RocCurve

MEAN = "Mean of 14"
# Few patients have the finding: what holds with it has to hold without it.
MEANS = {MEAN: FINDINGS, "Mean without Hernia": tuple(f for f in FINDINGS if f != "Hernia")}
SURVEY_HERNIA = 0.0019557325
RESAMPLES = 1000
GRID = np.linspace(0, 1, 41)
TOLERANCE = 1e-4  # between the AUROC of counts and the exact one; the tests allow twice this
_NESTED = {"official_in_shared": "shared_test", "google_test": "google_all"}


@builds("score_tables")
def score_tables() -> Built:
    """Positives and negatives by score: the films of every subset in fine bins, by stratum.

    Each finding and label source has bins of its own, shared by the subsets that are part of one
    another. ``score`` is the mean score of the bin's films.
    """
    subsets = [part for part in every_subset() if part.subset != "rest_of_shared"]
    bins: dict[tuple[str, str, str], tuple[NDArray, NDArray]] = {}
    tables = []
    for part in subsets:
        family = (part.source, _NESTED.get(part.subset, part.subset))
        sharing = [p for p in subsets if (p.source, _NESTED.get(p.subset, p.subset)) == family]
        for name in part.labels.columns:
            if (*family, name) not in bins:
                bins[*family, name] = _bins(sharing, name)
            tables.append(_counted(part, name, *bins[*family, name]))
    note = (
        "score: mean score of the bin's films; bins are fine enough for the AUROC of the counts to "
        "be within 2e-4 of the exact one; half: patients split once, to choose and to report"
    )
    return pd.concat(tables, ignore_index=True), provenance(note, suffix=".csv.gz")


@builds("auroc")
def auroc_table() -> Built:
    """AUROC of each finding, label source and subset, and the means with and without Hernia."""
    tables = []
    for part in every_subset():
        found, names = delong(part.labels, part.scores, patient=part.patient), list(part.labels)
        figures = listed(found.estimates())
        figures["method"] += ", logit scale"
        if set(FINDINGS) <= set(names):
            weights = [[(c in chosen) / len(chosen) for c in names] for chosen in MEANS.values()]
            means = listed([found.contrast(weight) for weight in weights])
            means["method"] += ", linear scale"
            figures, names = pd.concat([figures, means], ignore_index=True), [*names, *MEANS]
        tables.append(_where(part, names).join(figures))
    return pd.concat(tables, ignore_index=True), provenance(
        "estimate: AUROC; intervals of 95% by patient; n_positive of the means is left empty"
    )


@builds("average_precision")
def average_precision_table() -> Built:
    """Average precision of each finding, label source and subset."""
    tables = []
    for part in every_subset():
        draws = Resamples(part.patient, resamples=RESAMPLES, seed=0)
        found = resampled(average_precision, part.labels, part.scores, draws)
        low, high = found.interval()
        table = _where(part, list(part.labels)).assign(
            n_positive_patients=[
                part.frame["patient"][y].nunique() for _, y in part.labels.items()
            ],
            estimate=found.estimate,
            low=low,
            high=high,
        )
        tables.append(table.assign(method=f"bootstrap by patient, {RESAMPLES} resamples"))
    return pd.concat(tables, ignore_index=True), provenance("intervals of 95% by patient")


@builds("hernia_thresholds")
def hernia_thresholds() -> Built:
    """2x2 tables and figures of six thresholds for one rare finding."""
    part = every_subset()[0]
    label, score = part.labels[["Hernia"]], part.scores[["Hernia"]]
    tables = []
    for threshold in (0.5, 0.1, 0.02, 0.005, SURVEY_HERNIA, 0.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedWarning)  # no film called: no precision
            row = operating_points(label, score, [threshold], patient=part.patient)
        right = (score["Hernia"] >= threshold) == label["Hernia"]
        accuracy = share(right, patient=part.patient)
        row["accuracy"] = accuracy.estimate
        row["accuracy_low"], row["accuracy_high"] = accuracy.low, accuracy.high
        tables.append(row)
    return pd.concat(tables, ignore_index=True), provenance(
        "shared test set, NIH labels; intervals of 95%, bootstrap by patient; the threshold of "
        f"{SURVEY_HERNIA} is the survey's"
    )


@builds("curve_bands")
def curve_bands() -> Built:
    """ROC and precision-recall curves of the 14 findings with bands, on the shared test set.

    ``x`` is the false-positive rate (``roc``) or the recall (``pr``); ``estimate`` the sensitivity,
    or the precision at the highest threshold that reaches the recall.
    """
    part = every_subset()[0]
    draws = Resamples(part.patient, resamples=RESAMPLES, seed=0)
    tables = []
    for name in FINDINGS:
        y, s = part.labels[name].to_numpy(), part.scores[name].to_numpy()
        order = np.argsort(-s, kind="stable")
        y, s, draw = y[order], s[order], draws.select(order)
        whole = _curves(y, s, np.ones(len(y)))
        found = [_curves(y, s, draw.weight(b)) for b in range(len(draw))]
        for curve, x in (("roc", GRID), ("pr", GRID[1:])):  # no film called: no precision
            replicates = np.stack([one[curve] for one in found])
            low, high = Bootstrap(whole[curve], replicates, draw).interval(fixed=True)
            columns = {"x": x, "estimate": whole[curve], "low": low, "high": high}
            tables.append(pd.DataFrame({"finding": name, "curve": curve, **columns}).round(5))
    note = (
        "x: false-positive rate, or recall; estimate: sensitivity, or precision; bands of 95%, "
        f"point by point; bootstrap by patient, {RESAMPLES} resamples"
    )
    return pd.concat(tables, ignore_index=True), provenance(note)


@builds("auroc_parts")
def auroc_parts() -> Built:
    """AUROC of pairs within and across the two parts of the shared test set.

    A pair is a film with the finding, from one part, and a film without it, from one part. The
    AUROC of the whole is the mean of the four, weighted by ``pair_share``.
    """
    official = shared_films()["official"].to_numpy()
    return _pairs({"official": official, "rest": ~official})


@builds("auroc_views")
def auroc_views() -> Built:
    """AUROC of pairs within and across the two views, on the shared test set."""
    view = every_subset()[0].frame["view"].astype(str).to_numpy()
    return _pairs({name: view == name for name in ("AP", "PA")})


def _pairs(parts: dict[str, NDArray[np.bool_]]) -> Built:
    """Return AUROCs of pairs by the parts of the shared test set that their two films are from."""
    part, rows, found = every_subset()[0], [], []
    for name, one, other in product(FINDINGS, parts, parts):
        y, s = part.labels[name].to_numpy(), part.scores[name].to_numpy()
        films = (y & parts[one]) | (~y & parts[other])
        found += delong(y[films], s[films], patient=part.patient[films]).estimates()
        k, n = found[-1].k, found[-1].n - found[-1].k
        rows.append((name, one, other, k, n, k * n / (y.sum() * (~y).sum())))
    columns = ["finding", "positives_from", "negatives_from", "n_positive", "n_negative"]
    table = pd.DataFrame(rows, columns=[*columns, "pair_share"])
    return table.join(listed(found)), provenance("estimate: AUROC; intervals of 95% by patient")


@builds("auroc_differences")
def auroc_differences() -> Built:
    """AUROC on the official films of the shared test set, less that on the rest of it."""
    _, official, rest = every_subset()[:3]
    both = [delong(p.labels, p.scores, patient=p.patient) for p in (official, rest)]
    rows = []
    for name in (*FINDINGS, *MEANS):
        chosen = MEANS.get(name, (name,))
        weight = [(n in chosen) / len(chosen) for n in official.labels]
        first, second = (found.contrast(weight) for found in both)
        error = np.hypot(first.standard_error, second.standard_error)  # no patient is in both
        gap, half = first.estimate - second.estimate, norm.ppf(0.975) * error
        ends, p = (gap - half, gap + half), 2 * norm.sf(abs(gap) / error)
        rows.append((name, first.estimate, second.estimate, gap, *ends, p, first.method))
    columns = ["finding", "official", "rest", "estimate", "low", "high", "p", "method"]
    table = pd.DataFrame(rows, columns=columns)
    findings = table["finding"].isin(FINDINGS)
    table.loc[findings, "p_adjusted"] = holm(table.loc[findings, "p"])
    return table, provenance(
        "estimate: official less rest; intervals of 95% by patient; no patient is in both parts; "
        "p_adjusted: adjusted for 14 findings"
    )


@builds("published_auroc")
def published_auroc() -> Built:
    """AUROCs as published, each with its split, certainty and citation."""
    note = (
        "certainty A: read in the primary text or computed from released files; B: quoted by "
        "another source; an empty citation: known from other papers' tables alone"
    )
    source = "papers and repositories as cited, keys of book/references.bib"
    return published(), quoted(source, note=note)


def _bins(sharing: list[Films], name: str) -> tuple[NDArray, NDArray]:
    """Return lower edges and mean scores of the fewest bins that are enough for every subset.

    The first of ``sharing`` holds the films of the others. Bins have equal shares of its positives
    and negatives together, so that both tails are resolved; their number is a power of two.
    """
    y, s = sharing[0].labels[name].to_numpy(), sharing[0].scores[name].to_numpy()
    order = np.argsort(s, kind="stable")
    weight = np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum())[order]
    middle = np.cumsum(weight) - weight / 2
    for n_bins in 2 ** np.arange(8, 16):
        start = np.searchsorted(middle, np.arange(n_bins) / n_bins)
        edges = np.unique(s[order][np.minimum(start, len(s) - 1)])
        if all(
            abs(_binned_auroc(p, name, edges) - auroc(p.labels[name], p.scores[name])) <= TOLERANCE
            for p in sharing
        ):
            break
    place = np.searchsorted(edges, s, side="right") - 1
    means = np.bincount(place, weights=s) / np.bincount(place)
    return edges, np.array([float(f"{mean:.5g}") for mean in means])


def _binned_auroc(part: Films, name: str, edges: NDArray) -> float:
    return auroc(part.labels[name], np.searchsorted(edges, part.scores[name], side="right"))


def _counted(part: Films, name: str, edges: NDArray, means: NDArray) -> pd.DataFrame:
    place = np.searchsorted(edges, part.scores[name], side="right") - 1
    strata = ["half", "sex", "view", "score"]
    films = part.frame[strata[:3]].assign(score=means[place], positive=part.labels[name])
    films = films.astype({"sex": str, "view": str, "half": str})
    counts = films.groupby(strata)["positive"].agg(["sum", "size"]).reset_index()
    counts["n_positive"], counts["n_negative"] = counts["sum"], counts["size"] - counts["sum"]
    counts = counts.assign(finding=name, label_source=part.source, subset=part.subset)
    return counts[["finding", "label_source", "subset", *strata, "n_positive", "n_negative"]]


def _where(part: Films, names: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "finding": names,
            "label_source": part.source,
            "subset": part.subset,
            "n_images": len(part.frame),
            "n_patients": part.frame["patient"].nunique(),
            "n_positive": part.labels.sum().reindex(names).astype("Int64").to_numpy(),
        }
    )


def _curves(y: NDArray, s: NDArray, weight: NDArray) -> dict[str, NDArray[np.float64]]:
    """Return sensitivities and precisions on the grid, of films by falling score."""
    last = np.flatnonzero(np.diff(s, append=-np.inf))  # tied films are called together
    tp = np.concatenate([[0], np.cumsum(weight * y)[last]])
    fp = np.concatenate([[0], np.cumsum(weight * ~y)[last]])
    recall = tp / tp[-1]
    roc = RocCurve(fp / fp[-1], recall, np.concatenate([[np.inf], s[last]]))
    first = np.searchsorted(recall, GRID[1:] - 1e-12)
    precision = tp[first] / (tp[first] + fp[first])
    return {"roc": roc.at_false_positive_rate(GRID), "pr": precision}
