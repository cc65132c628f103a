"""Builders of the figures of chapter 4 on what radiologists agree on, and label_quality's part."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
from builders import (
    BOXES,
    CHESTX_DET,
    FIVE,
    GOOGLE,
    LABELS,
    Built,
    builds,
    carried,
    fetched,
    listed,
    ratio,
)

from chexlib.data import (
    load_adjudicated,
    load_boxes,
    load_chestx_det,
    load_labels,
    load_readers,
    load_vinbigdata,
)
from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.interpret import iobb, iou
from chexlib.metrics import (
    Estimate,
    Resamples,
    assess,
    dawid_skene,
    krippendorff_alpha,
    panel_agreement,
    reader_agreement,
    share,
)
from chexlib.metrics.resampling import percentile_ends
from figures.label_quality import ANY_FINDING, COLUMNS, label_columns

FOUR = fetched("google_readers", "four_findings_individual_readers.csv")
VINBIGDATA = carried("vinbigdata-train.csv.gz")
LICENCE = "figures CC BY 4.0; inputs: NIH free use with attribution, Google for research and study"
OPEN = "figures CC BY 4.0; inputs: VinBigData as carried by torchxrayvision"
SOURCE = "reads of five radiologists on 810 PA films (Nabulsi et al., 2021)"
# Words for what may be one sign, and for what readers may split differently.
TOGETHER = ("Consolidation|Infiltration", "Consolidation|Infiltration|Pneumonia")
TOGETHER += ("Atelectasis|Consolidation|Edema|Infiltration|Pneumonia", "Mass|Nodule")
COMMON = ("Atelectasis", "Effusion", "Mass", "Nodule", "Pneumothorax", "Consolidation")
"""Findings that at least 50 of the 810 films have by the majority of five."""


@cache
def five() -> tuple[pd.DataFrame, dict[str, np.ndarray], Resamples]:
    """Return the 810 films with NIH's labels, reads ``[810, 5]`` by finding, and the resamples."""
    reads = load_readers("all").set_index(["image", "reader"]).sort_index()
    wide = {name: reads[name].unstack() for name in ("abnormal", *FINDINGS)}
    films = load_labels().set_index("image").loc[wide["abnormal"].index].reset_index()
    calls = {name: frame.to_numpy() for name, frame in wide.items()}
    for names in TOGETHER:
        calls[names] = np.logical_or.reduce([calls[name] for name in names.split("|")])
    return films, calls, Resamples(films["patient"])


def rows(where: tuple[str, ...], found: dict[str, Estimate]) -> list[tuple]:
    """Return rows of label_quality."""
    return [
        (*where, name, one.k, one.n, one.estimate, one.low, one.high, one.method)
        for name, one in found.items()
    ]


def reader_evidence() -> pd.DataFrame:
    """Return label_quality's rows from five readers, ChestX-Det and VinBigData."""
    films, calls, draws = five()
    patient = films["patient"].to_numpy()
    wanted, found = ("ppv", "sensitivity", "specificity", "kappa"), []
    for name in ("abnormal", *FINDINGS):
        label = ANY_FINDING if name == "abnormal" else name
        votes = calls[name].sum(axis=1)
        held = assess(label_columns(films, label), votes > 2, patient=patient, statistics=wanted)
        found += rows(("five_readers", name, label, "majority of five", "five_readers"), held)
        agreed = reader_agreement(calls[name], draws)
        agreed = {kind: agreed[kind] for kind in ("pairwise_kappa", "fleiss_kappa")}
        for kind, least in {"majority": 3, "any": 1, "all": 5}.items():
            agreed[kind] = share(votes >= least, patient=patient)
        found += rows(("readers", name, name, "each other", "five_readers"), agreed)
    drawn = load_chestx_det()
    labels = load_labels().set_index("image").loc[drawn["image"]].reset_index()
    judges = {name: drawn[name] for name in FINDINGS if name in drawn}
    judges["Nodule or diffuse nodule"] = drawn["Nodule"] | drawn["Diffuse Nodule"]
    for name, judge in judges.items():
        label, wanted = name.split(" ")[0], ("ppv", "sensitivity", "kappa")
        held = assess(labels[label], judge, patient=labels["patient"], statistics=wanted)
        found += rows(("chestx_det", name, label, "ChestX-Det", "chestx_det"), held)
    everyone, three = vinbigdata()
    for subset, reads in {"all": everyone, "R8-R10": three}.items():
        draws = by_film(len(reads["Effusion"]))
        for name, calls in reads.items():
            agreed = reader_agreement(calls, draws)["fleiss_kappa"]
            where = ("vinbigdata", name, name, "each other", subset)
            found += rows(where, {"fleiss_kappa": agreed})
    return pd.DataFrame(found, columns=list(COLUMNS))


def by_film(n: int | pd.Series) -> Resamples:
    """Return resamples of films: VinBigData names no patients."""
    draws = Resamples(np.arange(n) if isinstance(n, int) else n)
    draws.unit = "film"
    return draws


@cache
def vinbigdata() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return reads ``[N, 3]`` by finding: of all 15,000 films, and of those R8, R9 and R10 read."""
    marks = load_vinbigdata()
    calls = pd.crosstab([marks["image"], marks["reader"]], marks["finding"]).gt(0)
    films = calls.index.get_level_values("image")
    whole = calls.drop(columns=NO_FINDING)
    readers = calls.index.get_level_values("reader").isin(["R8", "R9", "R10"])
    three = pd.Series(readers).groupby(np.asarray(films)).transform("sum").to_numpy() == 3
    shaped = [
        {name: part[name].to_numpy().reshape(-1, 3) for name in part}
        for part in (whole, whole[three])
    ]
    return shaped[0], shaped[1]


def about(note: str, inputs: list, source: str = SOURCE, licence: str = LICENCE) -> dict:
    """Return a table's provenance."""
    return {"source": source, "licence": licence, "inputs": inputs, "note": note}


@builds("reader_votes")
def reader_votes() -> Built:
    """On how many films so many of five readers call each finding, and NIH's label does."""
    films, calls, _ = five()
    found = [
        (name, votes, (held := calls[name].sum(axis=1) == votes).sum(), films[name][held].sum())
        for name in FINDINGS
        for votes in range(6)
    ]
    note = "n films with so many votes of five, and those of them with NIH's label"
    frame = pd.DataFrame(found, columns=["finding", "votes", "n", "n_labelled"])
    return frame, about(note, [FIVE, LABELS], f"{SOURCE}; NIH's label")


@builds("reader_agreement")
def agreement() -> Built:
    """How far the readers agree, on all films and on those that all five call abnormal."""
    films, calls, draws = five()
    parts = {"five_readers": np.ones(len(films), bool)}
    parts["all five abnormal"] = calls["abnormal"].all(axis=1)
    everyone, three = vinbigdata()
    ill = np.logical_or.reduce(list(three.values())).all(axis=1)
    found = []
    for subset, part in parts.items():
        for name, reads in calls.items():
            if subset != "five_readers" and name == "abnormal":
                continue  # all of them, by the choice of the films
            for kind, one in reader_agreement(reads[part], draws.select(part)).items():
                found.append((subset, name, kind, one.n, reads[part].any(axis=1).sum(), one))
    vin = {"VinBigData, all": (everyone, slice(None)), "VinBigData, R8-R10": (three, slice(None))}
    vin["VinBigData, R8-R10, with findings"] = three, ill
    for subset, (sets, part) in vin.items():
        draws = by_film(len(sets["Effusion"][part]))
        for name, reads in sets.items():
            if name in FINDINGS or name == "Nodule/Mass":
                agreed = reader_agreement(reads[part], draws)
                for kind in ("fleiss_kappa", "positive_agreement"):
                    one, any_call = agreed[kind], reads[part].any(axis=1).sum()
                    found.append((subset, name, kind, one.n, any_call, one))
    frame = pd.DataFrame(
        found, columns=["subset", "finding", "statistic", "n", "n_called", "found"]
    )
    frame = frame.join(listed(list(frame.pop("found"))))
    note = "n films, of which n_called by a reader at least; VinBigData names no patients"
    return frame, about(note, [FIVE, LABELS, VINBIGDATA], f"{SOURCE}; VinBigData")


@builds("reader_rates")
def rates() -> Built:
    """How often each of the five calls each finding."""
    _, calls, draws = five()
    ones = np.ones(len(calls["abnormal"]))
    found = []
    for name in ("abnormal", *FINDINGS):
        rate = ratio(calls[name], np.repeat(ones[:, None], 5, axis=1), draws)
        for reader, k, *one in zip(
            "ABCDE", calls[name].sum(axis=0), rate.estimate, *rate.interval(), strict=True
        ):
            found.append((name, reader, k, len(ones), *one))
    columns = ["finding", "reader", "k", "n", "estimate", "low", "high"]
    note = f"k of n films called; readers in the order of their numbers; {draws.method}"
    return pd.DataFrame(found, columns=columns), about(note, [FIVE, LABELS])


@builds("reader_pneumonia")
def pneumonia() -> Built:
    """Count calls on films that one reader calls Pneumonia, or that NIH labels so."""
    films, calls, draws = five()
    said, given = calls["Pneumonia"], {}
    for name in ("abnormal", *FINDINGS, *TOGETHER[:3]):
        count = calls[name].sum(axis=1)
        others = (said * (count[:, None] - calls[name])).sum(axis=1)
        given["the same reader", name] = (said & calls[name]).sum(axis=1), said.sum(axis=1)
        given["another reader", name] = others, 4 * said.sum(axis=1)
        given["any reader, on all films", name] = count, np.full(len(films), 5)
        labelled = films["Pneumonia"].to_numpy()
        given["any reader, on NIH's Pneumonia", name] = count * labelled, 5 * labelled
    found = []
    for (who, name), (k, n) in given.items():
        one = ratio(k, n, draws)
        found.append((who, name, k.sum(), n.sum(), one.estimate, *one.interval(fixed=True)))
    columns = ["who", "finding", "k", "n", "estimate", "low", "high"]
    note = f"k of n reads; the first two: on films that a reader calls Pneumonia; {draws.method}"
    return pd.DataFrame(found, columns=columns), about(note, [FIVE, LABELS])


@builds("reader_words")
def words() -> Built:
    """Kappa of "either of two findings", for all pairs, and its gain over the better of the two."""
    _, calls, draws = five()
    pairs = list(combinations(FINDINGS, 2))
    votes = [calls[name].sum(axis=1) for name in FINDINGS]
    votes = np.stack(votes + [(calls[a] | calls[b]).sum(axis=1) for a, b in pairs], axis=1)
    columns = np.hstack([np.ones((len(votes), 1)), votes, votes * (5 - votes)])
    sums = np.vstack([columns.sum(axis=0), draws.sums(columns)])
    rate, split = np.split(sums[:, 1:] / sums[:, :1], 2, axis=1)
    kappa = 1 - split / 10 / (2 * rate / 5 * (1 - rate / 5))  # [1 + B, singles and pairs]
    single, both = kappa[:, : len(FINDINGS)], kappa[:, len(FINDINGS) :]
    at = np.array([[FINDINGS.index(name) for name in pair] for pair in pairs])
    gain = both - single[:, at].max(axis=2)
    frame = pd.DataFrame(pairs, columns=["finding", "other"])
    for name, value in {"": both, "gain_": gain}.items():
        frame[name.removesuffix("_") or "estimate"] = value[0]
        frame[[f"{name}low", f"{name}high"]] = percentile_ends(value[1:]).T
    note = f"Fleiss' kappa of reads that call either; {draws.method}"
    return frame.sort_values("gain", ascending=False), about(note, [FIVE, LABELS])


@builds("reader_majority")
def silent_majority() -> Built:
    """Hold votes of five who never talked against the adjudicated label of the same films."""
    films, calls, _ = five()
    final = load_adjudicated().set_index("image").loc[films["image"]]
    found = []
    for name, words in {
        "pneumothorax": "Pneumothorax",
        "nodule_or_mass": "Mass|Nodule",
        "airspace_opacity": "Consolidation|Infiltration|Pneumonia",
    }.items():
        for least in (1, 2, 3):
            held = assess(
                calls[words].sum(axis=1) >= least,
                final[name],
                patient=films["patient"],
                statistics=("sensitivity", "ppv", "kappa"),
            )
            found += [(name, words, least, kind, one.k, one.n, one) for kind, one in held.items()]
    columns = ["finding", "words", "votes", "statistic", "k", "n", "found"]
    frame = pd.DataFrame(found, columns=columns)
    frame = frame.join(listed(list(frame.pop("found"))))
    note = "a film is called where at least so many of five call one of the words"
    source = f"{SOURCE}; adjudicated labels (Majkowska et al., 2020)"
    return frame, about(note, [FIVE, LABELS, GOOGLE], source)


@builds("reader_panels")
def panels() -> Built:
    """Majorities of one and of three readers as references, beside the majority of five."""
    _, calls, draws = five()
    found = [
        (name, size, kind, one.k, one.n, one)
        for name in (*COMMON, "abnormal")
        for size in (1, 3)
        for kind, one in panel_agreement(calls[name], size, draws).items()
    ]
    frame = pd.DataFrame(found, columns=["finding", "size", "statistic", "k", "n", "found"])
    frame = frame.join(listed(list(frame.pop("found"))))
    note = "over all panels of that size; k of n films have the majority of five"
    return frame, about(note, [FIVE, LABELS])


@builds("reader_model")
def model() -> Built:
    """Dawid and Skene's model beside the majority, for findings common enough."""
    _, calls, draws = five()
    found = []
    for name in COMMON:
        reads = calls[name]
        majority = reads.sum(axis=1) > 2
        one, all_ = dawid_skene(reads), dawid_skene(reads, weight=draws.drawn[draws.code])
        figures = {
            ("all", "n_positive"): (one.prevalence * len(reads), all_.prevalence * len(reads))
        }
        truth = np.where(one.truth > 0.5, 1, 0)
        figures["all", "n_majority"] = majority.sum(), draws.sums(majority[:, None])[:, 0]
        added, dropped = (truth > majority).sum(), (truth < majority).sum()
        against = [(reads[majority].mean(axis=0)), (~reads[~majority]).mean(axis=0)]
        for k, reader in enumerate("ABCDE"):
            for kind, simple in zip(("sensitivity", "specificity"), against, strict=True):
                figures[reader, kind] = getattr(one, kind)[k], getattr(all_, kind)[:, k]
                figures[reader, f"{kind} by majority"] = simple[k], None
        for (reader, kind), (value, drawn) in figures.items():
            ends = (
                [np.nan] * 2 if drawn is None else percentile_ends(np.asarray(drawn)[:, None])[:, 0]
            )
            found.append((name, reader, kind, added, dropped, float(value), *ends))
    columns = ["finding", "reader", "statistic", "n_added", "n_dropped", "estimate", "low", "high"]
    note = f"films the model adds to the majority and drops from it; {draws.method}"
    return pd.DataFrame(found, columns=columns), about(note, [FIVE, LABELS])


FINAL = ("fracture", "pneumothorax", "airspace_opacity", "nodule_or_mass")


@cache
def four() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return the final labels of 4,376 films, and by finding how many reads said each value."""
    reads = load_readers("four").drop_duplicates(["image", "reader"], keep="last")
    final = load_adjudicated().set_index("image").sort_index()
    counts = {}
    for name in FINAL:
        value = reads[name].replace({True: "YES", False: "NO"})
        table = pd.crosstab(reads["image"], value).reindex(
            columns=["NO", "HEDGE", "YES"], fill_value=0
        )
        counts[name] = table.loc[final.index]
    return final, counts


@builds("adjudication")
def adjudication() -> Built:
    """Films by what the single reads said, and how many of them the final word calls positive."""
    final, counts = four()
    found = []
    for name, said in counts.items():
        whole = said.assign(final=final[name].to_numpy(), n=1)
        part = whole.groupby(["YES", "HEDGE", "NO"])[["n", "final"]].sum().reset_index()
        part.insert(0, "finding", name)
        found.append(part)
    frame = pd.concat(found, ignore_index=True)
    frame = frame.set_axis(["finding", "yes", "hedge", "no", "n", "n_final"], axis=1)
    source = "single reads and adjudicated labels of Google's radiologists (Majkowska et al., 2020)"
    note = "reads that said so before adjudication; a reader's second read of a film counts"
    return frame, about(note, [FOUR, GOOGLE], source)


@builds("reader_alpha")
def alphas() -> Built:
    """Krippendorff's alpha of the reads before adjudication, hedges taken three ways."""
    final, counts = four()
    draws, found = Resamples(final["patient"]), []
    for name, said in counts.items():
        ways = {"no hedges": said[["NO", "YES"]]}
        if said["HEDGE"].any():
            ways = {
                "hedge between": said,
                "hedge as yes": said[["NO"]].assign(YES=said["HEDGE"] + said["YES"]),
                "hedge as no": said[["YES"]].assign(NO=said["HEDGE"] + said["NO"])[["NO", "YES"]],
            }
        for way, table in ways.items():
            scale = "ordinal" if table.shape[1] == 3 else "nominal"
            found.append((name, way, krippendorff_alpha(table.to_numpy(), draws, scale=scale)))
    frame = pd.DataFrame(found, columns=["finding", "hedges", "found"])
    some = frame.pop("found")
    frame = frame.assign(k=[one.k for one in some], n=[one.n for one in some]).join(
        listed(list(some))
    )
    source = "single reads of Google's radiologists (Majkowska et al., 2020)"
    return frame, about("k of n films had one value from all", [FOUR, GOOGLE], source)


@builds("reader_boxes")
def boxes() -> Built:
    """How far boxes of two radiologists overlap where both call, beside another film's boxes."""
    marks = load_vinbigdata().dropna(subset="x")
    marks["box"] = list(marks[["x", "y", "width", "height"]].to_numpy())
    rng, parts = np.random.default_rng(0), []
    for name, part in marks.groupby("finding"):
        if name not in FINDINGS and name != "Nodule/Mass":
            continue
        drawn = part.groupby(["image", "reader"])["box"].agg(np.stack).reset_index()
        pairs = drawn.merge(drawn, on="image", suffixes=("", "_other"))
        pairs = pairs[pairs["reader"] != pairs["reader_other"]]
        strange = rng.permutation(len(drawn))
        for against in ("the same film", "another film"):
            for at, row in enumerate(pairs.itertuples()):
                truth = row.box_other
                if (
                    against == "another film"
                ):  # of another reader's boxes the next that are not here
                    k = at
                    while drawn["image"].iat[strange[k % len(drawn)]] == row.image:
                        k += 1
                    truth = drawn["box"].iat[strange[k % len(drawn)]]
                over, inside = iou(row.box, truth).max(), iobb(row.box, truth).max()
                parts.append((name, against, row.image, over, inside))
    frame = pd.DataFrame(parts, columns=["finding", "against", "image", "iou", "iobb"])
    found = []
    for (name, against), part in frame.groupby(["finding", "against"], sort=False):
        draws = by_film(part["image"])
        values = {"mean IoU": part["iou"]}
        values |= {f"IoU > {t}": part["iou"] > t for t in (0.1, 0.3, 0.5)}
        values |= {f"IoBB > {t}": part["iobb"] > t for t in (0.1, 0.25, 0.5)}
        for kind, value in values.items():
            one = ratio(value.to_numpy(float), np.ones(len(part)), draws)
            ends = one.interval(fixed=True)
            counts = part["image"].nunique(), len(part) // 2
            found.append((name, against, kind, *counts, one.estimate, *ends, draws.method))
    columns = ["finding", "against", "statistic", "n_films", "n_pairs", "estimate", "low", "high"]
    note = "the best of two readers' boxes of a finding that both call, each judged by the other"
    return pd.DataFrame(found, columns=[*columns, "method"]), about(
        note, [VINBIGDATA], "boxes of VinBigData's radiologists", OPEN
    )


@builds("two_box_sets")
def two_box_sets() -> Built:
    """NIH's and ChestX-Det's boxes of one finding on one film: counted, too few to estimate."""
    nih = load_boxes()
    nih = nih.assign(box=list(nih[["x", "y", "width", "height"]].to_numpy(float)))
    other = load_chestx_det().explode("boxes").dropna(subset="boxes")
    other = pd.DataFrame(
        {
            "image": other["image"],
            "finding": [mark[0] for mark in other["boxes"]],
            "box": [np.array(mark[1:], float) for mark in other["boxes"]],
        }
    )
    one, two = (
        part.groupby(["image", "finding"])["box"].agg(np.stack).reset_index()
        for part in (nih, other)
    )
    both = one.merge(two, on=["image", "finding"], suffixes=("", "_other"))
    best = [iou(row.box, row.box_other).max() for row in both.itertuples()]
    films = both.assign(above=np.digitize(best, [0.1, 0.3, 0.5]))
    counts = pd.crosstab(films["finding"], films["above"]).reindex(columns=range(4), fill_value=0)
    frame = counts.set_axis(["n_below_0.1", "n_0.1", "n_0.3", "n_0.5"], axis=1).reset_index()
    frame.insert(1, "n", counts.sum(axis=1).to_numpy())
    note = "n pairs by the IoU of the best two boxes: below 0.1, from 0.1, from 0.3, from 0.5"
    return frame, about(
        note,
        [BOXES, *CHESTX_DET],
        "NIH's boxes; ChestX-Det (Lian et al., 2021)",
        "figures CC BY 4.0; inputs: NIH free use with attribution, ChestX-Det Apache-2.0",
    )
