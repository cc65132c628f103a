"""Tables of chapter 1: the survey's labels, changed labels, the official split, Azure's lists."""

from __future__ import annotations

import numpy as np
import pandas as pd
from builders import BOXES, LABELS, Built, builds, fetched, quoted

from chexlib.data import load_boxes, load_labels
from chexlib.data.prevalence import clustered_mean, prevalence, prevalence_ratio
from chexlib.data.splits import official_split
from chexlib.findings import FINDINGS

NIH = "ChestX-ray14 label table v2020 (Wang et al. 2017, NIH Clinical Center)"
NIH_LICENCE = "NIH: free use with attribution"
Z = 1.959964

AZURE_LISTS = {
    "not PA or AP": "blacklist_non_PA_AP_view.csv",
    "rotated": "blacklist_rotated_images.csv",
    "lower quality": "blacklist_other_images_with_lower_quality.csv",
}

AGES = {"0-9": (0, 9), "10-17": (10, 17), "18-39": (18, 39), "40-64": (40, 64)}
AGES["65 and over"] = (65, 200)


@builds("survey_labels")
def survey_labels() -> Built:
    """Label table as the survey of 2020 prints it: count and share in percent of each label."""
    rows = [
        ("Atelectasis", 11559, 10.31),
        ("Hernia", 227, 0.20),
        ("Cardiomegaly", 2776, 2.48),
        ("Infiltration", 19894, 17.74),
        ("Consolidation", 4667, 4.16),
        ("Mass", 5782, 5.16),
        ("Edema", 2303, 2.05),
        ("Nodule", 6331, 5.65),
        ("Effusion", 13317, 11.88),
        ("Pleural_Thickening", 3385, 3.02),
        ("Emphysema", 2516, 2.24),
        ("Pneumonia", 1431, 1.28),
        ("Fibrosis", 1686, 1.50),
        ("Pneumothorax", 5302, 4.73),
        ("no_finding", 60361, 53.84),
    ]
    return pd.DataFrame(rows, columns=["finding", "count", "percent"]), quoted(
        "Survey of CheXNet and ChestX-ray14, blog post in Traditional Chinese, 2020"
    )


@builds("label_changes")
def label_changes() -> Built:
    """How the label file of 2020 differs from the list of December 2017, counted once by image."""
    rows = [
        ("images that gained labels", 181),
        ("labels gained, all in the box file", 188),
        ("labels gained, Pneumonia", 78),
        ("Pneumonia in the list of 2017", 1353),
    ]
    return pd.DataFrame(rows, columns=["what", "count"]), quoted(
        "NIH's label list of December 2017, as kept by arnoweng/CheXNet, held against the label "
        "table v2020 and the boxes; the list itself is not read here"
    )


def attributes(labels: pd.DataFrame) -> dict[str, dict[str, pd.Series]]:
    """Yes/no properties of a film, by kind and name."""
    adult = labels["age"] >= 18
    ap = labels["view"] == "AP"
    return {
        "finding": {name: labels[name] for name in (*FINDINGS, "no_finding")},
        "view": {"AP": ap, "PA": ~ap},
        "sex": {"F": labels["sex"] == "F", "M": labels["sex"] == "M"},
        "age": {
            "under 18": ~adult,
            **{name: labels["age"].between(*ends) for name, ends in AGES.items()},
        },
        "view and age": {
            "AP, under 18": ap & ~adult,
            "AP, adult": ap & adult,
            "PA, under 18": ~ap & ~adult,
            "PA, adult": ~ap & adult,
        },
    }


@builds("official_split")
def split_table() -> Built:
    """Shares of films with each property in both parts of the official split, and their ratio."""
    labels = load_labels()
    part = official_split(labels)
    boxed = labels["image"].isin(load_boxes()["image"])
    flags = attributes(labels) | {"boxes": {"boxed": boxed}}
    kinds = {name: kind for kind, group in flags.items() for name in group}
    flags = {name: flag for group in flags.values() for name, flag in group.items()}
    films = pd.DataFrame(flags).assign(patient=labels["patient"])
    subsets = {
        "all": np.ones(len(labels), dtype=bool),
        "PA": labels["view"] == "PA",
        "AP": labels["view"] == "AP",
        "first film": labels["follow_up"] == 0,
    }
    rows = []
    for subset, chosen in subsets.items():
        names = [
            name for name in flags if subset == "all" or kinds[name] in ("finding", "sex", "age")
        ]
        for half in part.cat.categories:
            counted = prevalence(films[chosen & (part == half)], names)
            rows.append(counted.assign(part=half, subset=subset))
        names = [name for name in names if name != "boxed"]  # all of them in the test part
        ratio = prevalence_ratio(films[chosen], names, where=part[chosen] == "test")
        rows.append(ratio.assign(part="test / train_val", subset=subset))
    table = pd.concat(rows, ignore_index=True).rename(columns={"finding": "name"})
    table["kind"] = table["name"].map(kinds)
    table["statistic"] = np.where(table["part"] == "test / train_val", "ratio", "share")
    means = []
    for half in part.cat.categories:
        mine = labels[part == half]
        films = mine["patient"].value_counts()
        for kind, name, values, patients in (
            ("age", "years", mine["age"], mine["patient"]),
            ("films", "per patient", films, films.index),
        ):
            (mean,), (error,) = clustered_mean(values.to_numpy()[:, None], patients)
            n = len(mine), patients.nunique()
            ends = mean, mean - Z * error, mean + Z * error
            means.append((kind, name, "all", half, "mean", *n, *ends))
    names = ["kind", "name", "subset", "part", "statistic", "n_images", "n_patients"]
    means.sort(key=lambda row: row[0])
    means = pd.DataFrame(means, columns=[*names, "estimate", "low", "high"])
    table = pd.concat([table, means], ignore_index=True)
    columns = ["kind", "name", "subset", "part", "statistic", "n_positive", "n_images"]
    columns += ["n_patients", "estimate", "low", "high", "design_effect"]
    counts = ["n_positive", "n_images", "n_patients"]
    lists = [fetched("official_split", f"{name}_list.txt") for name in ("train_val", "test")]
    return table[columns].astype(dict.fromkeys(counts, "Int64")), {
        "source": f"{NIH}; official split lists (NIH); boxes (NIH)",
        "licence": NIH_LICENCE,
        "inputs": [LABELS, BOXES, *lists],
        "note": "Intervals of 95% by patient; a ratio is that of the shares of the two parts.",
    }


@builds("azure_exclusions")
def azure_table() -> Built:
    """How often Azure's lists leave out films with a property and films without it."""
    labels = load_labels()
    part = official_split(labels)
    lists = {}
    for name, file in AZURE_LISTS.items():
        path = fetched("azure_exclusions", file)
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected Azure's list at {path}, found none. Run `chexlib fetch azure`, or set "
                "CHEXLIB_DATA to the folder that has azure_exclusions/."
            )
        images = path.read_text(encoding="utf-8").split()
        lists[name] = labels["image"].isin(images)
        if (n := lists[name].sum()) != len(images):
            raise ValueError(
                f"Expected known films, each once, in {path}, got {len(images)} lines for "
                f"{n} films."
            )
    lists["any"] = np.logical_or.reduce(list(lists.values()))
    groups = attributes(labels) | {"part": {"test": part == "test", "train_val": part != "test"}}
    flags = [(kind, name, flag) for kind, group in groups.items() for name, flag in group.items()]
    rows = []
    for name, excluded in lists.items():
        films = labels[["patient"]].assign(excluded=excluded)
        n = excluded.sum(), labels["patient"][excluded].nunique(), len(labels)
        every = prevalence(films, ["excluded"]).iloc[0][_ENDS]
        rows.append((name, "all", "all", *n, *every, *[np.nan] * 4))
        for kind, attribute, flag in flags:
            share = prevalence(films[flag], ["excluded"]).iloc[0]
            ratio = prevalence_ratio(films, ["excluded"], where=flag).iloc[0]
            n = share[["n_positive", "n_positive_patients", "n_images"]]
            others = ratio[["outside", *_ENDS]]
            rows.append((name, kind, attribute, *n, *share[_ENDS], *others))
    columns = ["list", "kind", "name", "n_excluded", "n_excluded_patients", "n_images", "share"]
    columns += ["share_low", "share_high", "share_of_others", "ratio", "ratio_low", "ratio_high"]
    return pd.DataFrame(rows, columns=columns), {
        "source": f"{NIH}; exclusion lists of Azure/AzureChestXRay; official split lists (NIH)",
        "licence": f"{NIH_LICENCE}; lists MIT",
        "inputs": [
            LABELS,
            *(fetched("azure_exclusions", file) for file in AZURE_LISTS.values()),
            fetched("official_split", "test_list.txt"),
        ],
        "note": "share: of the films with the property, those on the list; ratio: that share over "
        "the share among films without it; intervals of 95% by patient.",
    }


_ENDS = ["estimate", "low", "high"]
