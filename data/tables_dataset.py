"""Tables of chapter 1: the survey's labels, changed labels, the official split, Azure's lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.data import data_home, load_boxes, load_labels, package_file
from chexlib.data.prevalence import clustered_mean, prevalence, prevalence_ratio
from chexlib.data.splits import official_split
from chexlib.findings import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Callable

NIH = "ChestX-ray14 label table v2020 (Wang et al. 2017, NIH Clinical Center)"
NIH_LICENCE = "NIH: free use with attribution"
Z = 1.959964

AZURE_LISTS = {
    "not PA or AP": "blacklist_non_PA_AP_view.csv",
    "rotated": "blacklist_rotated_images.csv",
    "lower quality": "blacklist_other_images_with_lower_quality.csv",
}

AGES = {
    "0-9": (0, 9),
    "10-17": (10, 17),
    "18-39": (18, 39),
    "40-64": (40, 64),
    "65 and over": (65, 200),
}


def survey_labels() -> tuple[pd.DataFrame, dict]:
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
    return pd.DataFrame(rows, columns=["finding", "count", "percent"]), {
        "source": "Survey of CheXNet and ChestX-ray14, blog post in Traditional Chinese, 2020",
        "licence": "figures quoted",
        "inputs": [],
    }


def label_changes() -> tuple[pd.DataFrame, dict]:
    """How the label file of 2020 differs from the list of December 2017, counted once by image."""
    rows = [
        ("images that gained labels", 181),
        ("labels gained, all in the box file", 188),
        ("labels gained, Pneumonia", 78),
        ("Pneumonia in the list of 2017", 1353),
    ]
    return pd.DataFrame(rows, columns=["what", "count"]), {
        "source": "NIH's label list of December 2017, as kept by arnoweng/CheXNet, held against "
        "the label table v2020 and the boxes; the list itself is not read here",
        "licence": "figures quoted",
        "inputs": [],
    }


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


def split_table() -> tuple[pd.DataFrame, dict]:
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
            rows.append(counted.assign(part=half, estimate=counted["prevalence"], subset=subset))
        names = [name for name in names if name != "boxed"]  # all of them in the test part
        ratio = prevalence_ratio(films[chosen], names, where=part[chosen] == "test")
        rows.append(ratio.assign(part="test / train_val", estimate=ratio["ratio"], subset=subset))
    table = pd.concat(rows, ignore_index=True).rename(columns={"finding": "name"})
    table["kind"] = table["name"].map(kinds)
    table["statistic"] = np.where(table["part"] == "test / train_val", "ratio", "share")
    means = [
        _mean("age", "years", labels["age"][part == half], labels["patient"][part == half], half)
        for half in part.cat.categories
    ] + [
        _mean("films", "per patient", counts, counts.index, half)
        for half in part.cat.categories
        for counts in [labels["patient"][part == half].value_counts()]
    ]
    table = pd.concat([table, pd.DataFrame(means)], ignore_index=True)
    columns = ["kind", "name", "subset", "part", "statistic", "n_positive", "n_images"]
    columns += ["n_patients", "estimate", "low", "high", "design_effect"]
    counts = ["n_positive", "n_images", "n_patients"]
    folder = data_home() / "official_split"
    return table[columns].astype(dict.fromkeys(counts, "Int64")), {
        "source": f"{NIH}; official split lists (NIH); boxes (NIH)",
        "licence": NIH_LICENCE,
        "inputs": [
            package_file("torchxrayvision", "data", "Data_Entry_2017_v2020.csv.gz"),
            package_file("torchxrayvision", "data", "BBox_List_2017.csv.gz"),
            folder / "train_val_list.txt",
            folder / "test_list.txt",
        ],
        "note": "Intervals of 95% by patient; a ratio is that of the shares of the two parts.",
    }


def _mean(kind: str, name: str, values: pd.Series, cluster: pd.Series, part: str) -> dict:
    mean, error = clustered_mean(values.to_numpy()[:, None], cluster)
    return {
        "kind": kind,
        "name": name,
        "subset": "all",
        "part": part,
        "statistic": "mean",
        "n_images": len(values) if kind == "age" else int(values.sum()),
        "n_patients": cluster.nunique(),
        "estimate": mean[0],
        "low": mean[0] - Z * error[0],
        "high": mean[0] + Z * error[0],
    }


def azure_table() -> tuple[pd.DataFrame, dict]:
    """How often Azure's lists leave out films with a property and films without it."""
    labels = load_labels()
    part = official_split(labels)
    folder = data_home() / "azure_exclusions"
    lists = {}
    for name, file in AZURE_LISTS.items():
        if not (folder / file).is_file():
            raise FileNotFoundError(
                f"Expected Azure's list at {folder / file}, found none. Run `chexlib fetch azure`, "
                "or set CHEXLIB_DATA to the folder that has azure_exclusions/."
            )
        images = (folder / file).read_text(encoding="utf-8").split()
        lists[name] = labels["image"].isin(images)
        if lists[name].sum() != len(images):
            raise ValueError(
                f"Expected known films, each once, in {folder / file}, got {len(images)} lines for "
                f"{lists[name].sum()} films."
            )
    lists["any"] = np.logical_or.reduce(list(lists.values()))
    flags = attributes(labels) | {"part": {"test": part == "test", "train_val": part != "test"}}
    rows = []
    for name, excluded in lists.items():
        films = labels[["patient"]].assign(excluded=excluded)
        whole = {
            "list": name,
            "kind": "all",
            "name": "all",
            "n_excluded": int(excluded.sum()),
            "n_excluded_patients": labels["patient"][excluded].nunique(),
            "n_images": len(labels),
        }
        rows.append(whole | prevalence(films, ["excluded"]).iloc[0][_SHARE].to_dict())
        for kind, group in flags.items():
            for attribute, flag in group.items():
                share = prevalence(films[flag], ["excluded"]).iloc[0]
                ratio = prevalence_ratio(films, ["excluded"], where=flag).iloc[0]
                rows.append(
                    {
                        "list": name,
                        "kind": kind,
                        "name": attribute,
                        "n_excluded": share["n_positive"],
                        "n_excluded_patients": share["n_positive_patients"],
                        "n_images": share["n_images"],
                        **share[_SHARE],
                        "prevalence_others": ratio["outside"],
                        "ratio": ratio["ratio"],
                        "ratio_low": ratio["low"],
                        "ratio_high": ratio["high"],
                    }
                )
    names = {"prevalence": "share", "low": "share_low", "high": "share_high"}
    names["prevalence_others"] = "share_of_others"
    return pd.DataFrame(rows).rename(columns=names), {
        "source": f"{NIH}; exclusion lists of Azure/AzureChestXRay; official split lists (NIH)",
        "licence": f"{NIH_LICENCE}; lists MIT",
        "inputs": [
            package_file("torchxrayvision", "data", "Data_Entry_2017_v2020.csv.gz"),
            *(folder / file for file in AZURE_LISTS.values()),
            data_home() / "official_split" / "test_list.txt",
        ],
        "note": "share: of the films with the property, those on the list; ratio: that share over "
        "the share among films without it; intervals of 95% by patient.",
    }


_SHARE = ["prevalence", "low", "high"]

TABLES: dict[str, Callable[[], tuple[pd.DataFrame, dict]]] = {
    "survey_labels": survey_labels,
    "label_changes": label_changes,
    "official_split": split_table,
    "azure_exclusions": azure_table,
}
