"""Table `clean_subgroups` of chapter 10: sex, view and age, by radiologists and by text labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
from builders import Built, builds
from numpy.typing import ArrayLike, NDArray
from reference_films import RAW, Judged, judged, provenance, score, shared_films

from chexlib.findings import FINDINGS
from chexlib.metrics import Bootstrap, Resamples, age_band, auroc, by_subgroup, resampled, roc

RESAMPLES = 2000


@builds("clean_subgroups")
def clean_subgroups() -> Built:
    """Figures by sex, view and age, by both judges, each table a family of comparisons."""
    films = shared_films()
    parts = [
        _by_groups(
            films,
            films[list(FINDINGS)],
            pd.DataFrame({name: score(name, films["image"]) for name in FINDINGS}),
        ).assign(subset="shared_test", weighting=RAW)
    ]
    for one in judged():
        if not one.main:
            continue
        labels = pd.DataFrame({"radiologists": one.truth, "text labels": one.text()})
        found = _by_groups(one.frame, labels, one.score, weight=one.weight)
        parts.append(found.rename(columns={"finding": "judge"}).assign(**_where(one)))
        parts.append(_gaps(one))
        if one.reference == "rsna":
            parts += [_at_one_threshold(one, judge, y) for judge, y in labels.items()]
    table = pd.concat(parts, ignore_index=True)
    table["judge"] = table["judge"].fillna("text labels")
    counts = ["n_films", "n_patients", "n_positive", "comparisons"]
    table[counts] = table[counts].astype("Int64")
    first = ["metric", "finding", "judge", "subset", "weighting"]
    note = (
        "difference: the group less the films outside it; p inverts its interval; "
        "p_adjusted: for the comparisons counted beside it, on the same resamples; rows of metric "
        "'auroc gap' hold the difference itself, and as judge "
        "'change of judge' how far the two judges' gaps differ; sensitivity and "
        "false-positive rate at one threshold, at which the score raises as many false alarms in "
        "all as the text label does (n_positive: films called); intervals of 95% by patient"
    )
    return table[[*first, *(c for c in table.columns if c not in first)]], provenance(note)


def _groups(films: pd.DataFrame) -> dict[str, ArrayLike]:
    return {"sex": films["sex"], "view": films["view"], "age": age_band(films["age"])}


def _by_groups(
    films: pd.DataFrame,
    labels: pd.DataFrame,
    scores: ArrayLike,
    *,
    weight: ArrayLike | None = None,
) -> pd.DataFrame:
    found = by_subgroup(
        labels.reset_index(drop=True),
        scores,
        _groups(films),
        patient=films["patient"].to_numpy(),
        sample_weight=weight,
        resamples=RESAMPLES,
    )
    return found.assign(metric="auroc")


def _gaps(films: Judged) -> pd.DataFrame:
    """AUROC of PA less that of AP films, by either judge, and how far the two gaps differ."""
    draws = Resamples(films.patient, resamples=RESAMPLES, seed=0)
    labels = np.stack([films.truth, films.text()], axis=1)
    tables = []
    for attribute, first, second in (("view", "PA", "AP"), ("sex", "M", "F")):
        value = films.frame[attribute].to_numpy()
        one, other = (
            resampled(
                *(auroc, labels[value == group], films.score[value == group]),
                draws.select(value == group),
                sample_weight=None if films.weight is None else films.weight[value == group],
            )
            for group in (first, second)
        )
        gap = one - other
        both = Bootstrap(
            np.append(gap.estimate, gap.estimate[0] - gap.estimate[1]),
            np.column_stack([gap.replicates, gap.replicates[:, 0] - gap.replicates[:, 1]]),
            draws,
        )
        low, high = both.interval()
        rows = {
            "metric": "auroc gap",
            "judge": ["radiologists", "text labels", "change of judge"],
            **_where(films),
            "attribute": attribute,
            "group": f"{first} less {second}",
            "estimate": both.estimate,
        }
        tables.append(pd.DataFrame(rows | {"low": low, "high": high}))
    return pd.concat(tables, ignore_index=True)


def _where(films: Judged) -> dict[str, str]:
    return {name: getattr(films, name) for name in ("finding", "subset", "weighting")}


def _at_one_threshold(films: Judged, judge: str, labels: NDArray[np.bool_]) -> pd.DataFrame:
    """Sensitivity and false-positive rate of each group at one threshold for all."""
    rate = films.counts(films.text())["false_positive_rate"]
    curve = roc(films.truth, films.score, sample_weight=films.weight)
    threshold = curve.threshold[np.searchsorted(curve.false_positive_rate, rate, side="right") - 1]
    called = films.score >= threshold
    parts = []
    for metric, kind in (("sensitivity", labels), ("false-positive rate", ~labels)):
        chosen = films.frame[kind]
        weight = None if films.weight is None else films.weight[kind]
        found = by_subgroup(
            called[kind],
            called[kind].astype(float),
            _groups(chosen),
            metric=_share,
            patient=chosen["patient"].to_numpy(),
            sample_weight=weight,
            resamples=RESAMPLES,
        )
        parts.append(found.assign(metric=metric, judge=judge))
    return pd.concat(parts, ignore_index=True).assign(**_where(films))


def _share(
    labels: ArrayLike, _: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> NDArray[np.float64]:
    weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, float)
    with np.errstate(invalid="ignore"):  # a resample may have none of a small group's patients
        return weight @ np.asarray(labels, dtype=float) / weight.sum()
