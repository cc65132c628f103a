"""Films that radiologists read for a finding, with the model's score and NIH's text label of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from reference_films import (
    LICENCE,
    SOURCE,
    UNIONS,
    google_films,
    google_label,
    inputs,
    rsna_read_films,
    score,
)

from chexlib.metrics.label_quality import label_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RAW, WEIGHTED = "none", "inverse sampling fraction"
_GOOGLE = ("Pneumothorax", "Nodule or mass", "Airspace opacity", "Airspace opacity (wide)")
_RSNA = ("Lung opacity", "Lung opacity (wide)")


@dataclass(frozen=True, eq=False)
class Judged:
    """Films that radiologists read for one finding, with the model's score of it.

    ``truth`` is what the radiologists say; ``finding`` names the score (1 - prod(1 - p) of its
    parts); ``frame`` has NIH's labels.
    """

    finding: str
    reference: str
    subset: str
    weighting: str
    frame: pd.DataFrame
    truth: NDArray[np.bool_]
    score: NDArray[np.float64]

    @property
    def main(self) -> bool:
        """Whether this is a main analysis: all films read, weighted if sampled by label."""
        chosen = "google_all" if self.reference == "google" else "rsna"
        weighting = RAW if self.reference == "google" else WEIGHTED
        return (self.subset, self.weighting) == (chosen, weighting) and "wide" not in self.finding

    @property
    def read_by(self) -> str:
        """Whose reads of which films, and whether weighted, in words."""
        return {
            ("google_all", RAW): "Google, all films",
            ("google_test", RAW): "Google, test set",
            ("rsna", RAW): "RSNA, as sampled",
            ("rsna", WEIGHTED): "RSNA, weighted",
            ("rsna_outside", WEIGHTED): "RSNA, without Google's patients",
        }[self.subset, self.weighting]

    @property
    def mapping(self) -> str:
        """NIH's labels that stand for the finding, joined by ``|``."""
        return UNIONS.get(self.finding, self.finding)

    @property
    def patient(self) -> NDArray:
        """Patient of each film."""
        return self.frame["patient"].to_numpy()

    @property
    def weight(self) -> NDArray[np.float64] | None:
        """Sampling weights, or None."""
        return self.frame["weight"].to_numpy() if self.weighting == WEIGHTED else None

    @property
    def where(self) -> dict[str, str]:
        """What a row says of where it comes from."""
        names = ("finding", "reference", "subset", "weighting", "read_by")
        return {name: getattr(self, name) for name in names}

    def text(self, label: str | None = None) -> NDArray[np.bool_]:
        """Return NIH's label by a mapping, by default the finding's own."""
        return label_columns(self.frame, label or self.mapping)

    def counts(self, text: NDArray[np.bool_]) -> dict[str, Any]:
        """Return how many films and patients stand behind a row, and the text label's false alarms.

        Films are counted unweighted; the false-positive rate is weighted.
        """
        weight = np.ones(len(text)) if self.weight is None else self.weight
        return {
            "n_images": len(text),
            "n_patients": len(np.unique(self.patient)),
            "n_positive": self.truth.sum(),
            "n_positive_patients": len(np.unique(self.patient[self.truth])),
            "n_labelled": text.sum(),
            "n_both": (self.truth & text).sum(),
            "false_positive_rate": weight @ (text & ~self.truth) / (weight @ ~self.truth),
        }


def judged() -> Iterator[Judged]:
    """Yield every finding on every set of films that radiologists read for it."""
    for subset in ("google_all", "google_test"):
        films = google_films(subset)
        for name in _GOOGLE:
            truth, scores = google_label(name, films), score(name, films["image"])
            yield Judged(name, "google", subset, RAW, films, truth, scores)
    films = rsna_read_films()
    for weighting in (RAW, WEIGHTED):
        for name in _RSNA:
            truth, scores = films["target"].to_numpy(), score(name, films["image"])
            yield Judged(name, "rsna", "rsna", weighting, films, truth, scores)
    # Google's patients are mostly among RSNA's: what both say is said twice only by the others.
    films = rsna_read_films(without=google_films()["patient"])
    truth, scores = films["target"].to_numpy(), score(_RSNA[0], films["image"])
    yield Judged(_RSNA[0], "rsna", "rsna_outside", WEIGHTED, films, truth, scores)


def provenance(note: str) -> dict[str, Any]:
    """Return what every table of chapter 8 says of where it comes from."""
    return {"source": SOURCE, "licence": LICENCE, "inputs": inputs(), "note": note}
