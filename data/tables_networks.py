"""Builders of the figures of chapter 12: for whom networks trained on women and men work."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from builders import FIVE, GOOGLE, LABELS, Built, builds, fetched, majority_of_five, ratio
from numpy.typing import NDArray
from tables_readers import COMMON

from chexlib.data import load_adjudicated, load_labels, load_networks
from chexlib.data.networks import WOMEN_PERCENT
from chexlib.findings import FINDINGS
from chexlib.metrics import Bootstrap, Resamples, age_band, share
from figures.label_quality import GOOGLE_READS, label_columns

SCORES = fetched("networks", "predictions.npz")
RESAMPLES = 2000
PATIENTS = 10
"""With a finding and without, in every fold: with fewer a group has no figure."""
FREQUENT = ("Atelectasis", "Effusion", "Infiltration", "Nodule")
"""What groups are compared by: the four most frequent labels."""
SPECIFICITY = 0.9
GAP = "F less M"


def about(note: str, inputs: list | None = None) -> dict:
    """Return a table's provenance."""
    drawn = "intervals of 95%: patients are drawn, and all their films in all folds follow"
    return {
        "source": "scores of 80 DenseNet-121 on 52,011 NIH films (after Larrazabal et al., 2020)",
        "licence": "figures CC BY 4.0; inputs: NIH free use with attribution, scores: none stated",
        "inputs": inputs or [SCORES, LABELS],
        "note": f"{note}; {drawn}",
    }


@cache
def tested() -> tuple[pd.DataFrame, Resamples]:
    """Return the films that networks were tested on, in the order of their codes, and resamples."""
    names = load_networks(women_percent=50)["image"].cat.categories
    films = load_labels().set_index("image").loc[names].reset_index()
    films["age_band"] = age_band(films["age"])
    return films, Resamples(films["patient"], resamples=RESAMPLES)


def networks(women: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Yield, for each fold's network, the positions of its test films and scores ``[N, 14]``."""
    scores = load_networks(women_percent=women)
    codes, values = scores["image"].cat.codes.to_numpy(), scores[list(FINDINGS)].to_numpy()
    for rows in scores.groupby("fold").indices.values():
        yield codes[rows].astype(np.intp), values[rows]


def influence(
    label: NDArray[np.bool_], score: NDArray, weight: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return an AUROC, and how far each film moves it: DeLong's placements less their mean."""
    out, area = np.zeros(len(label)), 0.5
    for kind in (label, ~label):
        order = np.argsort(score[~kind], kind="stable")
        other, below = score[~kind][order], np.append(0, np.cumsum(weight[~kind][order]))
        ends = (below[np.searchsorted(other, score[kind], side)] for side in ("left", "right"))
        won = sum(ends) / 2 / below[-1]
        part = weight[kind] / weight[kind].sum()
        won = won if kind is label else 1 - won
        area = part @ won
        out[kind] = part * (won - area)
    return area, out


class Areas:
    """AUROC of 14 findings for several groups of films at once, as means over folds.

    A resample of patients moves an AUROC by the sum of its films' influences, to first order. So
    films are ranked once a network, whatever is drawn, and every fold's films follow the patients.
    """

    def __init__(self, women: int, groups: list[NDArray[np.bool_]], weights: list | None = None):
        films, draws = tested()
        labels, who, ones = films[list(FINDINGS)].to_numpy(), draws.code, np.ones(len(films))
        shape = (len(groups), len(FINDINGS))
        moved, folds, self.fewest = np.zeros((len(films), *shape)), [], np.full(shape, np.inf)
        for at, scores in networks(women):
            area = np.full(shape, np.nan)
            for g, k in product(*map(range, shape)):
                weight = ones if weights is None else weights[g][:, k]
                chosen = groups[g][at] & (weight[at] > 0)
                film, y = at[chosen], labels[at[chosen], k]
                least = min(len(np.unique(who[film[kind]])) for kind in (y, ~y))
                self.fewest[g, k] = min(self.fewest[g, k], least)
                if least:
                    area[g, k], one = influence(y, scores[chosen, k], weight[film])
                    moved[film, g, k] += one  # a network is tested on a film once
            folds.append(area)
        self.folds = np.stack(folds)  # [20, G, 14]
        self.found = []
        for g in range(shape[0]):
            estimate = self.folds[:, g].mean(axis=0)
            centre = moved[:, g].sum(axis=0)  # 0, but for rounding
            sums = (draws.sums(moved[:, g]) - centre) / len(folds)
            self.found.append(Bootstrap(estimate, estimate + sums, draws))


def with_mean(found: Bootstrap) -> Bootstrap:
    """Return the 14 findings and their mean."""
    whole = found.mean()
    return Bootstrap(
        np.append(found.estimate, whole.estimate),
        np.column_stack([found.replicates, whole.replicates]),
        found.draws,
    )


def rows(found: Bootstrap, names: tuple[str, ...] = (*FINDINGS, "mean"), **more: object):
    """Return a row a finding, with its interval."""
    low, high = found.interval(fixed=True)
    figures = {"finding": names, "estimate": found.estimate, "low": low, "high": high}
    return pd.DataFrame({**figures, **more})


def counts(films: pd.DataFrame, inside: NDArray[np.bool_]) -> dict[str, object]:
    """Return films, patients, and patients with each finding and with any of them."""
    part = films[inside]
    ill = [part.loc[part[name], "patient"].nunique() for name in FINDINGS]
    ill.append(part.loc[~part["no_finding"], "patient"].nunique())
    n = {"n_films": len(part), "n_patients": part["patient"].nunique()}
    return {**n, "n_patients_positive": ill}


@cache
def by_sex() -> dict[int, Areas]:
    """Return AUROC of women and of men, for each share of women in training."""
    sex = tested()[0]["sex"].to_numpy()
    return {women: Areas(women, [sex == one for one in "FM"]) for women in WOMEN_PERCENT}


@builds("for_whom")
def for_whom() -> Built:
    """AUROC on women's and on men's films, by the share of women in training."""
    films, draws = tested()
    parts = []
    for (women, areas), (g, sex) in product(by_sex().items(), enumerate("FM")):
        folds = areas.folds[:, g]
        folds = np.column_stack([folds, folds.mean(axis=1)])
        more = {"fold_sd": folds.std(axis=0, ddof=1), "n_folds": len(folds)}
        more |= {**counts(films, (films["sex"] == sex).to_numpy()), "method": draws.method}
        parts.append(rows(with_mean(areas.found[g]), women_percent=women, sex=sex, **more))
    table = pd.concat(parts, ignore_index=True)
    first = ["women_percent", "sex"]
    note = "mean over 20 networks; fold_sd: standard deviation over them"
    return table[[*first, *(c for c in table if c not in first)]], about(note)


@builds("for_whom_differences")
def differences() -> Built:
    """Women less men at each share of women in training, and one share less another for each."""
    areas = by_sex()
    held = {
        (women, sex): (areas[women].found[g], areas[women].folds[:, g])
        for women, (g, sex) in product(areas, enumerate("FM"))
    }
    pairs = {(str(women), GAP): ((women, "F"), (women, "M")) for women in areas}
    for (more, less), sex in product([(50, 0), (50, 100), (100, 0)], "FM"):
        pairs[f"{more} less {less}", sex] = (more, sex), (less, sex)
    parts = []
    for (women, sex), (one, other) in pairs.items():
        gap, folds = (a - b for a, b in zip(held[one], held[other], strict=True))
        above = np.append((folds > 0).sum(axis=0), (folds.mean(axis=1) > 0).sum())
        found = with_mean(gap)
        p = {"p": found.p_value(), "p_adjusted": np.append(gap.p_adjusted(), np.nan)}
        more = {"n_folds_above": above, "n_folds": len(folds), "method": gap.draws.method}
        parts.append(rows(found, women_percent=women, sex=sex, **p, **more))
    table = pd.concat(parts, ignore_index=True)
    first = ["women_percent", "sex"]
    note = "n_folds_above: folds with a difference above 0; p_adjusted: for the 14 findings"
    return table[[*first, *(c for c in table if c not in first)]], about(note)


MATCHES = {
    "nothing": [],
    "view": ["view"],
    "view and age": ["view", "decade"],
    "view, age and other findings": ["view", "decade", "others"],
}
ALIKE = "view, age and other findings"


@cache
def how_often() -> NDArray[np.float64]:
    """Return in how many folds each film is tested."""
    tests = np.zeros(len(tested()[0]))
    for at, _ in networks(50):
        tests[at] += 1
    return tests


def matched(films: pd.DataFrame, columns: list[str]) -> NDArray[np.float64]:
    """Return weights ``[N, 14]``: where one sex has more films of a kind, it counts for as many.

    A kind is a stratum, with the finding or without. Without columns, all weights are 1.
    """
    if not columns:
        return np.ones((len(films), len(FINDINGS)))
    labels, out = films[list(FINDINGS)].to_numpy(), np.zeros((len(films), len(FINDINGS)))
    for k in range(len(FINDINGS)):
        others = np.minimum(labels.sum(axis=1) - labels[:, k], 2)
        frame = films.assign(
            decade=films["age"] // 10, others=others, y=labels[:, k], n=how_often()
        )
        kind = [frame[name] for name in ("y", *columns)]
        own = frame["n"].groupby([*kind, frame["sex"]]).transform("sum")
        both = frame["n"].groupby(kind).transform("sum")
        out[:, k] = np.minimum(own, both - own) / own
    return out


@builds("for_whom_films")
def drawn_films() -> Built:
    """How many films with a finding have no other one: of all films, and of those tested."""
    everyone, parts = load_labels(), []
    everyone = everyone.assign(tested=everyone["image"].isin(tested()[0]["image"]))
    labels = everyone[list(FINDINGS)].sum(axis=1)
    for name, sex in product((*FINDINGS, "any"), "FM"):
        ill = ~everyone["no_finding"] if name == "any" else everyone[name]
        for subset, kept in (("all", ill), ("tested", ill & everyone["tested"])):
            part = everyone[kept & (everyone["sex"] == sex)]
            found = share(labels[part.index] == 1, patient=part["patient"])
            figures = found.k, found.n, found.estimate, found.low, found.high, found.method
            parts.append((name, sex, subset, *figures))
    columns = ["finding", "sex", "subset", "k", "n", "estimate", "low", "high", "method"]
    note = (
        "k of n films with the finding have no other of the 14; finding 'any': with any of the 14"
    )
    return pd.DataFrame(parts, columns=columns), about(note)


@builds("for_whom_matched")
def matching() -> Built:
    """AUROC of women and men, raw and with films made alike; step by step at half women."""
    films, draws = tested()
    sexes = [(films["sex"] == one).to_numpy() for one in "FM"]
    asked = [(50, name) for name in MATCHES]
    asked += [(women, name) for women in (0, 25, 100) for name in ("nothing", ALIKE)]
    parts = []
    for women, name in asked:
        weight = matched(films, MATCHES[name])
        areas = Areas(women, sexes, [weight] * 2) if MATCHES[name] else by_sex()[women]
        one, other = areas.found
        for sex, found in {"F": one, "M": other, GAP: one - other}.items():
            own = films["sex"].isin(list("FM") if sex == GAP else [sex])
            ill = films[list(FINDINGS)].to_numpy()[own] * how_often()[own, None]
            left = (weight[own] * ill).sum(axis=0) / ill.sum(axis=0)
            more = {"share_left": np.append(left, left.mean()), "method": draws.method}
            parts.append(rows(with_mean(found), women_percent=women, matched=name, sex=sex, **more))
    table = pd.concat(parts, ignore_index=True)
    first = ["women_percent", "matched", "sex"]
    note = "films with and without the finding are matched apart; ages in tens of years; other "
    note += "findings: none, one, more; weights are held fixed; share_left: what is left of the "
    note += "weight of films with the finding"
    return table[[*first, *(c for c in table if c not in first)]], about(note)


@builds("for_whom_groups")
def groups() -> Built:
    """AUROC by view, age and sex and where they cross, of networks trained on half women."""
    films, draws = tested()
    sex, view, age = (films[name].astype(str) for name in ("sex", "view", "age_band"))
    parts = {
        "view": view,
        "age": age,
        "sex and view": sex + ", " + view,
        "sex and age": sex + ", " + age,
        "sex, view and age": sex + ", " + view + ", " + age,
    }
    lines = [(kind, one) for kind, values in parts.items() for one in sorted(values.unique())]
    inside = [(parts[kind] == one).to_numpy() for kind, one in lines]
    areas = Areas(50, inside)
    tables, frequent = [], [FINDINGS.index(name) for name in FREQUENT]
    for g, (kind, one) in enumerate(lines):
        found = areas.found[g]
        enough = areas.fewest[g] >= PATIENTS
        whole = Bootstrap(
            found.estimate[frequent].mean(), found.replicates[:, frequent].mean(axis=1), draws
        )
        told = Bootstrap(
            np.append(found.estimate, whole.estimate),
            np.column_stack([found.replicates, whole.replicates]),
            draws,
        )
        table = rows(told, attribute=kind, group=one, **counts(films, inside[g]))
        few = ~np.append(enough, enough[frequent].all())
        table.loc[few, ["estimate", "low", "high"]] = np.nan
        tables.append(table.assign(method=np.where(few, "too few patients", draws.method)))
    table = pd.concat(tables, ignore_index=True)
    first = ["attribute", "group"]
    note = f"mean: of {', '.join(FREQUENT)}; a figure needs {PATIENTS} patients with the finding "
    note += "and as many without in every fold"
    return table[[*first, *(c for c in table if c not in first)]], about(note)


@builds("for_whom_rates")
def rates() -> Built:
    """Missed findings and false alarms at one threshold for all, and calibration, by group."""
    films, draws = tested()
    labels = films[list(FINDINGS)].to_numpy()
    named = {"sex": films["sex"].astype(str), "view": films["view"].astype(str)}
    named["age"] = films["age_band"].astype(str)
    tables = []
    for women in (0, 50, 100):
        missed, alarms, summed, tests = (np.zeros(labels.shape) for _ in range(4))
        for at, scores in networks(women):
            y = labels[at]
            for k in range(len(FINDINGS)):
                cut = np.quantile(scores[~y[:, k], k], SPECIFICITY, method="higher")
                called = scores[:, k] > cut
                missed[at, k] += ~called & y[:, k]
                alarms[at, k] += called & ~y[:, k]
            summed[at] += scores
            tests[at] += 1
        ill, well = tests * labels, tests * ~labels
        kinds = {"false-negative rate": (missed, ill), "false-positive rate": (alarms, well)}
        kinds["predicted over labelled"] = summed, ill
        asked = [(attribute, values, "nothing") for attribute, values in named.items()]
        asked = asked[: 3 if women == 50 else 1] + [("sex", named["sex"], ALIKE)]
        for attribute, values, alike in asked:
            weight = matched(films, MATCHES[alike])
            for kind, (top, base) in kinds.items():
                if alike == ALIKE and kind.startswith("predicted"):
                    continue  # films with and without are matched apart, so their ratio is lost
                held = {}
                for one in sorted(values.unique()):
                    inside = (values == one).to_numpy()
                    w = weight[inside]
                    found = ratio(w * top[inside], w * base[inside], draws.select(inside))
                    found = Bootstrap(found.estimate, found.replicates, draws)  # to be subtracted
                    held[one] = found, counts(films, inside)
                if attribute != "age":
                    one, other = held
                    held[f"{one} less {other}"] = held[one][0] - held[other][0], {}
                for one, (found, n) in held.items():
                    few = n and np.array(n["n_patients_positive"][:-1]) < PATIENTS
                    told = with_mean(found)
                    table = rows(told, women_percent=women, attribute=attribute, group=one, **n)
                    if n:
                        table.loc[np.append(few, few.any()), ["estimate", "low", "high"]] = np.nan
                    tables.append(table.assign(statistic=kind, matched=alike, method=draws.method))
    table = pd.concat(tables, ignore_index=True)
    whole = [name for name in table if name.startswith("n_")]
    table[whole] = table[whole].astype("Int64")
    first = ["women_percent", "attribute", "matched", "group", "statistic"]
    note = "one threshold a network and finding, at which 90% of all its test films without the "
    note += "label are below it; thresholds are held fixed; rates: sums over 20 networks; empty: "
    note += f"fewer than {PATIENTS} patients with the label"
    return table[[*first, *(c for c in table if c not in first)]], about(note)


@builds("for_whom_labels")
def label_quality_by_sex() -> Built:
    """NIH's label on women's and on men's films, by Google's and by five readers."""
    labels, statistics = load_labels().set_index("image"), ("ppv", "sensitivity", "shrink")
    google = load_adjudicated().query("subset == 'test'").set_index("image")
    majority = majority_of_five()
    judged = {
        "google_test": {n: (mapped[0], google[c]) for n, (c, mapped) in GOOGLE_READS.items()},
        "five_readers": {name: (name, majority[name]) for name in COMMON},
    }
    tables = []
    for source, asked in judged.items():
        films = labels.loc[(google if source == "google_test" else majority).index].reset_index()
        draws, held, n = Resamples(films["patient"], resamples=RESAMPLES), {}, {}
        for sex in "FM":
            own = (films["sex"] == sex).to_numpy()
            cells = []
            for mapping, read in asked.values():
                says, truth = label_columns(films, mapping)[own], read.to_numpy(dtype=bool)[own]
                cells += [says & truth, says & ~truth, ~says & truth, ~says & ~truth]
            cells = np.stack(cells, axis=1)
            values = _worth(cells.sum(axis=0)[None])[0], _worth(draws.select(own).sums(cells))
            held[sex] = Bootstrap(*values, draws)  # [3, findings], the last being their mean
            tp, fp, fn, _ = cells.sum(axis=0).reshape(-1, 4).T
            n[sex] = {"n_films": own.sum(), "n_labelled": tp + fp, "n_positive": tp + fn}
        held[GAP] = held["F"] - held["M"]
        names = (*asked, "mean")
        # Shrink follows from the cells of the other two, so that it is no further comparison.
        family = held[GAP][:2, : len(asked)]
        flat = family.replicates.reshape(RESAMPLES, -1)
        adjusted = Bootstrap(family.estimate.ravel(), flat, draws).p_adjusted().reshape(2, -1)
        for at, (sex, found) in product(range(3), held.items()):
            table = rows(found[at], names, source=source, sex=sex, statistic=statistics[at])
            for name, values in n.get(sex, {}).items():
                table[name] = np.append(np.broadcast_to(values, len(asked)), 0)
            if sex == GAP:
                table["p"] = found[at].p_value()
                if at < 2:
                    table["p_adjusted"] = np.append(adjusted[at], np.nan)
            tables.append(table.assign(method=draws.method))
    table = pd.concat(tables, ignore_index=True)
    whole = ["n_films", "n_labelled", "n_positive"]
    table[whole] = table[whole].where(table["finding"] != "mean").astype("Int64")
    first = ["source", "finding", "sex", "statistic"]
    note = "shrink: PPV + NPV - 1; nodule or mass: either label; opacity: the first mapping of "
    note += "chapter 3; p_adjusted: for PPV and sensitivity of all findings of a source; intervals "
    note += "of 95% by patient"
    source = "NIH's label, by sex, against Google's adjudicated labels (Majkowska et al., 2020) "
    source += "and the majority of five radiologists (Nabulsi et al., 2021)"
    licence = "figures CC BY 4.0; inputs: NIH free use with attribution, Google for research"
    inputs = [LABELS, GOOGLE, FIVE]
    shown = table[[*first, *(c for c in table if c not in first)]]
    return shown, {"source": source, "licence": licence, "inputs": inputs, "note": note}


def _worth(cells: NDArray) -> NDArray[np.float64]:
    """Return PPV, sensitivity and PPV + NPV - 1 ``[B, 3, F + 1]`` of F findings and their mean."""
    tp, fp, fn, tn = np.moveaxis(cells.reshape(len(cells), -1, 4).astype(float), 2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ppv, npv = tp / (tp + fp), tn / (tn + fn)
        found = np.stack([ppv, tp / (tp + fn), ppv + npv - 1], axis=1)
    return np.concatenate([found, found.mean(axis=2, keepdims=True)], axis=2)
