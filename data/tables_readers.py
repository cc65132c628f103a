"""Builders of the figures of chapter 4 on what radiologists agree on: `reader_votes`."""

from __future__ import annotations

import pandas as pd
from builders import LABELS, Built, builds, fetched

from chexlib.data import load_labels, load_readers
from chexlib.findings import FINDINGS

FIVE = fetched("google_readers", "all_findings_individual_readers.csv")
LICENCE = "figures CC BY 4.0; inputs: NIH free use with attribution, Google for research and study"


@builds("reader_votes")
def reader_votes() -> Built:
    """On how many films so many of five readers call each finding, and NIH's label does."""
    reads = load_readers("all")
    votes = reads.groupby("image")[list(FINDINGS)].sum()
    labels = load_labels().set_index("image").loc[votes.index]
    cells = pd.MultiIndex.from_product([FINDINGS, range(6)], names=["finding", "votes"])
    films = votes.melt(var_name="finding", value_name="votes", ignore_index=False)
    films["labelled"] = labels[list(FINDINGS)].melt(ignore_index=False)["value"]
    counts = films.groupby(["finding", "votes"])["labelled"].agg(["size", "sum"])
    counts = counts.reindex(cells, fill_value=0).set_axis(["n", "n_labelled"], axis=1)
    about = {
        "source": "reads of five radiologists on 810 PA films (Nabulsi et al., 2021); NIH's label",
        "licence": LICENCE,
        "inputs": [FIVE, LABELS],
        "note": "n films with so many votes of five, and those of them with NIH's label",
    }
    return counts.reset_index(), about
