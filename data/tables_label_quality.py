"""Builders of the figures of chapters 3 and 7 on labels: `label_quality`, and `label_sampling`."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from builders import (
    CHESTX_DET,
    FIVE,
    GOOGLE,
    LABELS,
    RSNA,
    Built,
    builds,
    carried,
    fetched,
    majority_of_five,
)
from numpy.typing import ArrayLike, NDArray
from tables_readers import VINBIGDATA, reader_evidence

from chexlib.data import load_adjudicated, load_labels, load_relabelled, load_rsna
from chexlib.data.splits import official_split
from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics import Bootstrap, Resamples
from figures.label_quality import (
    COLUMNS,
    GOOGLE_READS,
    OPACITY,
    RSNA_STRATA,
    WORST_MATCH,
    google_evidence,
    label_columns,
    persistence_evidence,
    rsna_evidence,
    rsna_films,
    rsna_stratum,
)

LICENCE = "figures CC BY 4.0; inputs: NIH free use with attribution, Google and RSNA as published"
SOURCE = (
    "NIH ChestX-ray14 label table of 2020; Google adjudicated labels (Majkowska et al., 2020); "
    "RSNA pneumonia labels of 2018 (Shih et al., 2019), matched to NIH films by the "
    "torchxrayvision authors"
)
WEIGHTED = "_weighted", ", weighted by inverse sampling fraction"
RELABELLED = fetched("chexnext", "default.json.bz2")


@builds("label_quality")
def label_quality() -> Built:
    """All figures on the quality of labels, unrounded: of NIH's, and of readers themselves."""
    labels = load_labels()
    parts = [
        google_evidence(labels, load_adjudicated()),
        rsna_evidence(labels, load_rsna()),
        persistence_evidence(labels),
        reader_evidence(),
        relabelled_evidence(labels),
    ]
    rows = pd.concat(parts, ignore_index=True).astype({"k": "Int64", "n": "Int64"})
    note = "intervals are 95%; k and n count films (persistence: pairs) before weighting; "
    note += (
        "relabelled: by a network, of the films that it was trained or chosen on; _before: NIH's "
    )
    note += "label of the same films; _gain: the one less the other, paired by patient"
    read = "; five radiologists (Nabulsi et al., 2021); ChestX-Det (Lian et al., 2021); VinBigData"
    read += "; training labels of CheXNeXt (Rajpurkar et al., 2018), as carried by mednet"
    inputs = [*_inputs(), FIVE, *CHESTX_DET, VINBIGDATA, RELABELLED]
    return rows, _provenance(SOURCE + read, inputs, note)


def label_figures(cells: ArrayLike) -> dict[str, tuple]:
    """Return estimate, count and base of what a label is worth.

    ``cells`` is ``[…, 4]``: films with label and finding, label alone, finding alone, neither.
    """
    hit, alarm, miss, none = np.moveaxis(np.asarray(cells, dtype=float), -1, 0)
    n = hit + alarm + miss + none
    parts = {"ppv": (hit, hit + alarm), "sensitivity": (hit, hit + miss)}
    parts |= {"specificity": (none, none + alarm)}
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {name: (k / of, k, of) for name, (k, of) in parts.items()}
        ppv, s, t = (found[name][0] for name in parts)
        chance = ((hit + alarm) * (hit + miss) + (none + miss) * (none + alarm)) / n**2
        kappa = ((hit + none) / n - chance) / (1 - chance)
        worth = (s + t - 1) * (ppv + none / (none + miss) - 1)
    return found | {"kappa": (kappa, hit + none, n), "worth": (worth, hit + none, n)}


def beside(
    labels: dict[str, NDArray], truth: NDArray, draws: Resamples, weight: ArrayLike = 1.0
) -> dict[str, tuple[Bootstrap, object, int]]:
    """Return the figures of two labels ``[N]`` against one truth, and of their differences.

    Each comes with the films counted, before weighting.
    """
    sides, out = [], {}
    for suffix, label in labels.items():
        kinds = [label & truth, label & ~truth, ~label & truth, ~label & ~truth]
        films = np.stack(kinds, axis=1)
        seen, own = label_figures(films.sum(axis=0)), films * np.reshape(weight, (-1, 1))
        drawn = label_figures(np.vstack([own.sum(axis=0), draws.sums(own)]))
        sides.append({name: Bootstrap(v[0], v[1:], draws) for name, (v, *_) in drawn.items()})
        for name, one in sides[-1].items():
            out[name + suffix] = one, int(seen[name][1]), int(seen[name][2])
    for name, one in sides[0].items():
        out[f"{name}_gain"] = one - sides[1][name], pd.NA, len(truth)
    return out


def relabelled_evidence(labels: pd.DataFrame) -> pd.DataFrame:
    """Hold a network's labels of its own training films against readers, beside NIH's of them."""
    new = load_relabelled().query("part != 'test'").set_index("image")
    old, rows = labels.set_index("image").loc[new.index], []
    for name in FINDINGS:  # how many there are, and what became of NIH's
        where = ("relabelled", name, name, "NIH's label", "all_relabelled")
        n, was = len(new), old[name].sum()
        counts = {"share": (new[name].sum(), n), "share_before": (was, n)}
        counts["share_kept"] = ((new[name] & old[name]).sum(), was)
        rows += [(*where, one, k, of, *3 * [k / of], "count") for one, (k, of) in counts.items()]
    test = labels.loc[official_split(labels) == "test", "image"]
    majority, read = majority_of_five(), load_adjudicated().set_index("image")
    films = rsna_films(labels, load_rsna()).set_index("image")
    google = {label: read[column] for column, (label, *_) in GOOGLE_READS.values()}
    judges = (
        ("majority of five", "five_relabelled", dict(majority.items()), None),
        ("Google adjudication", "google_relabelled", google, None),
        ("RSNA radiologists", "rsna_relabelled", {OPACITY: films["target"]}, films["weight"]),
    )
    films_of = {subset: next(iter(reads.values())).index for _, subset, reads, _ in judges}
    for subset, images in (("official test", test), *films_of.items()):
        part = load_relabelled().set_index("image")["part"].loc[images]
        n = len(part) if subset == "official test" else (part != "test").sum()
        own = (part == "train").sum()
        where = ("relabelled", "all films", "all films", "the network's lists", subset)
        rows.append((*where, "in_training", own, n, *3 * [own / n], "count"))
    for judge, subset, reads, weight in judges:
        suffix, note = ("", "") if weight is None else WEIGHTED
        for label, read in reads.items():
            at = read.index[read.index.isin(new.index)]
            both = {"": new.loc[at], "_before": old.loc[at]}
            both = {key: label_columns(frame, label) for key, frame in both.items()}
            own, draws = 1.0 if weight is None else weight[at], Resamples(old.loc[at, "patient"])
            found = beside(both, read[at].to_numpy(dtype=bool), draws, own)
            for statistic, (one, k, n) in found.items():
                figures = (k, n, one.estimate, *one.interval(), one.draws.method + note)
                rows.append(
                    ("relabelled", label, label, judge, subset, statistic + suffix, *figures)
                )
    return pd.DataFrame(rows, columns=list(COLUMNS))


@builds("label_sampling")
def label_sampling() -> Built:
    """How Google's and RSNA's films were chosen, as far as NIH's labels and views show it."""
    labels = load_labels()
    part = official_split(labels)
    adjudicated = load_adjudicated().set_index("image")["subset"]
    subset_of = labels["image"].map(adjudicated.astype(str))
    flags = labels[list(FINDINGS)].assign(**{NO_FINDING: labels["no_finding"]})
    flags["AP"] = labels["view"] == "AP"
    rows = []
    for subset, split in (("google_test", "test"), ("google_val", "train_val")):
        where = subset, f"official {split}"
        population, chosen = part == split, subset_of == subset[7:]
        n = chosen.sum(), population.sum()
        for group, holds in flags.items():
            counts = (holds[chosen].sum(), n[0], holds[population].sum(), n[1])
            rows.append((*where, group, *counts))
        patients = [labels["patient"][films].nunique() for films in (chosen, population)]
        rows.append((*where, "patients", patients[0], n[0], patients[1], n[1]))
    rsna = load_rsna()
    films = rsna_films(labels, rsna)
    where, read = ("rsna", "all"), labels["image"].isin(films["image"])
    for group, k in (
        ("kept", len(films)),
        ("left out: NIH films matched twice", rsna["image"].value_counts().gt(1).sum()),
        ("left out: images differ", (rsna["pixel_mse"] > WORST_MATCH).sum()),
    ):
        rows.append((*where, group, k, len(rsna), pd.NA, pd.NA))
    groups = {}
    for place, group in enumerate(RSNA_STRATA):
        for view, split in product(("PA", "AP"), ("train_val", "test")):
            held = (rsna_stratum(labels) == place) & (labels["view"] == view) & (part == split)
            groups[f"{group}; {view}; official {split}"] = held
    alone = labels[list(FINDINGS)].sum(axis=1) == 1
    groups |= {f"{name} alone": label_columns(labels, name) & alone for name in OPACITIES}
    for group, held in groups.items():
        rows.append((*where, group, (held & read).sum(), len(films), held.sum(), len(labels)))
    columns = ["subset", "population", "group", "k", "n", "population_k", "population_n"]
    frame = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[3:], "Int64"))
    lists = [fetched("official_split", f"{name}_list.txt") for name in ("train_val", "test")]
    note = "k of n chosen films and population_k of population_n films belong to the group"
    return frame, _provenance(SOURCE + "; NIH's official split", [*_inputs(), *lists], note)


OPACITIES = ("Consolidation", "Infiltration", "Pneumonia")


def _inputs() -> list[Path]:
    headers = carried("kaggle_stage_2_train_images_dicom_headers.csv.gz")
    return [LABELS, GOOGLE, RSNA, headers, fetched("rsna", "rsna_to_nih.csv")]


def _provenance(source: str, inputs: list[Path], note: str) -> dict:
    return {"source": source, "licence": LICENCE, "inputs": inputs, "note": note}
