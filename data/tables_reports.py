"""Builders of the figures of chapter 2: `reports`, and `report_labels` of two other collections."""

from __future__ import annotations

import ast
from itertools import product

import numpy as np
import pandas as pd
from builders import Built, builds, carried, listed, named, ratio

from chexlib.data import load_reports
from chexlib.data.reports import CODES, RULES, WIDER_CODES, called, coded, find_mentions
from chexlib.findings import FINDINGS
from chexlib.metrics import Resamples, wilson
from chexlib.metrics.resampling import proportions

REPORTS = carried("NLMCXR_reports.tgz")
CHEXPERT = carried("chexpert_train.csv.gz")
PADCHEST = carried("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz")
RATES = ("precision", "recall")
OPENI = {
    "source": "3,955 reports of Indiana University (OpenI, Demner-Fushman et al., 2016) and "
    "what annotators coded in MeSH",
    "licence": "figures CC BY 4.0; input: CC BY-NC-ND 4.0",
    "inputs": [REPORTS],
}
PADCHEST_NAMES = {
    **{
        "atelectasis": "Atelectasis",
        "cardiomegaly": "Cardiomegaly",
        "pleural effusion": "Effusion",
    },
    **{"infiltrates": "Infiltration", "pulmonary mass": "Mass", "nodule": "Nodule"},
    **{"pneumonia": "Pneumonia", "pneumothorax": "Pneumothorax", "consolidation": "Consolidation"},
    **{"pulmonary edema": "Edema", "emphysema": "Emphysema", "pulmonary fibrosis": "Fibrosis"},
    **{"pleural thickening": "Pleural_Thickening", "hiatal hernia": "Hernia"},
    "unchanged": "unchanged",
}


@builds("reports")
def reports() -> Built:
    """Count each rule's calls against what annotators coded."""
    texts = load_reports()
    mentions = find_mentions(texts)
    calls = {rule: called(mentions, texts, rule=rule) for rule in RULES}
    odd = texts["report"].to_numpy() % 2 == 1
    halves = {"tuned on": odd, "held out": ~odd, "both": odd | ~odd}
    rows = []
    for (mapping, codes), (half, held) in product(
        {"narrow": CODES, "wider": WIDER_CODES}.items(), halves.items()
    ):
        truth = coded(texts, codes)[list(FINDINGS)].to_numpy()[held]
        draws = Resamples(np.arange(held.sum()))
        for rule in RULES:
            for k, finding in enumerate((*FINDINGS, "all")):
                row = {"finding": finding, "rule": rule, "half": half, "mapping": mapping}
                rows.append(row | counted(calls[rule].to_numpy()[held], truth, k, draws))
    return pd.DataFrame(rows), {
        **OPENI,
        "note": "cues were tuned on reports with odd numbers; intervals are 95%, Wilson's, and for "
        "'all', which pools findings, a bootstrap by report",
    }


def counted(said: np.ndarray, truth: np.ndarray, k: int, draws: Resamples) -> dict:
    """Count the calls of the finding in column k, or of all where there is none, against codes."""
    some, ask, hits = (
        cells[:, k] if k < len(FINDINGS) else cells.sum(axis=1)
        for cells in (said, truth, said & truth)
    )
    counts = [int(cells.sum()) for cells in (ask, some, hits)]
    row = {"n_reports": len(said)} | dict(
        zip(("n_coded", "n_called", "n_both"), counts, strict=True)
    )
    for name, base in zip(RATES, (some, ask), strict=True):
        if k < len(FINDINGS):  # one patient a report, as far as the release tells
            share = wilson(counts[2], int(base.sum()))
            row |= named(name, share.estimate, share.low, share.high)
        else:
            share = ratio(hits, base, draws)
            row |= named(name, share.estimate, *share.interval())
    return row


@builds("report_labels")
def report_labels() -> Built:
    """Count answers of CheXpert's labeller and of PadChest's two makers."""
    films = pd.read_csv(CHEXPERT)
    films = films.rename(columns={"Pleural Effusion": "Effusion"})
    names = [name for name in FINDINGS if name in films]
    draws = Resamples(films["Path"].str.extract(r"(patient\d+)")[0], resamples=1000)
    answers = films[names].to_numpy()
    yes, maybe, silent = answers == 1, answers == -1, np.isnan(answers)
    whole = np.ones_like(yes)
    parts = [
        _rows("CheXpert", "all films", statistic, names, proportions(top, base, draws, name="s"))
        for statistic, top, base in (
            ("labelled", yes, whole),
            ("uncertain", maybe, yes | maybe),
            ("silent", silent, whole),
        )
    ]
    table = pd.read_csv(PADCHEST, low_memory=False).drop_duplicates("ReportID")
    said = [
        {label.strip() for label in ast.literal_eval(text)} if isinstance(text, str) else set()
        for text in table["Labels"]
    ]
    flags = pd.DataFrame(
        {name: [label in labels for labels in said] for label, name in PADCHEST_NAMES.items()}
    )
    flags["unchanged alone"] = [labels == {"unchanged"} for labels in said]
    year = table["StudyDate_DICOM"].astype(str).str[:4]
    flags["dated before 2014"] = (year < "2014").to_numpy()
    for maker, (subset, held) in product(
        ("Physician", "RNN_model"), {"all years": year.notna(), "2014": year == "2014"}.items()
    ):
        kept = (held & (table["MethodLabel"] == maker)).to_numpy()
        draws = Resamples(table["PatientID"][kept], resamples=1000)
        top = flags.to_numpy()[kept]
        found = proportions(top, np.ones_like(top), draws, name="labelled")
        parts.append(_rows(f"PadChest, {maker}", subset, "labelled", flags.columns, found))
    return pd.concat(parts, ignore_index=True), {
        "source": "labels of CheXpert (Irvin et al., 2019) and PadChest (Bustos et al., 2020)",
        "licence": "figures CC BY 4.0; inputs: research use, on the publishers' terms",
        "inputs": [CHEXPERT, PADCHEST],
        "note": "n counts films (CheXpert) or reports (PadChest, each once, exact labels without "
        "their kinds); 'uncertain' is of films called yes or uncertain; 95% intervals by patient",
    }


def _rows(source: str, subset: str, statistic: str, names: object, found: list) -> pd.DataFrame:
    """Return one statistic's rows: ``source subset finding statistic k n estimate …``."""
    where = {"source": source, "subset": subset, "finding": list(names), "statistic": statistic}
    counts = pd.DataFrame({"k": [one.k for one in found], "n": [one.n for one in found]})
    return pd.concat([pd.DataFrame(where), counts, listed(found)], axis=1)
