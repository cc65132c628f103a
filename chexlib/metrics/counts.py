"""The 2 x 2 table of a yes/no label against a reference, from checked inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chexlib.metrics.inputs import check_weight

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["FN", "FP", "TN", "TP", "TwoByTwo", "film_cells", "two_by_two"]

TP, FP, FN, TN = range(4)


@dataclass(frozen=True)
class TwoByTwo:
    """Films by label and reference: ``tp`` both, ``fp`` label only, ``fn`` reference only, ``tn``.

    Whole numbers, or sums of weights where films are weighted.
    """

    tp: float
    fp: float
    fn: float
    tn: float

    @property
    def n(self) -> float:
        """All films."""
        return self.tp + self.fp + self.fn + self.tn


def two_by_two(
    label: ArrayLike, reference: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> TwoByTwo:
    """Count films by label and reference.

    Parameters
    ----------
    label, reference : array_like [N]
        bool, or numbers that are 0 or 1.
    sample_weight : array_like [N], optional
        Non-negative weight of each film.

    Raises
    ------
    ValueError
        If lengths differ, a value is not 0 or 1, or a weight is negative or missing.

    Examples
    --------
    >>> two_by_two([1, 1, 0, 0], [1, 0, 0, 0])
    TwoByTwo(tp=1, fp=1, fn=0, tn=2)
    """
    cells = film_cells(label, reference)
    if sample_weight is None:
        return TwoByTwo(*(int(count) for count in cells.sum(axis=0)))
    return TwoByTwo(*(float(total) for total in check_weight(sample_weight, len(cells)) @ cells))


def film_cells(label: ArrayLike, reference: ArrayLike) -> NDArray[np.bool_]:
    """Return bool ``[N, 4]``: which of tp, fp, fn, tn each film is."""
    label, reference = _boolean("label", label), _boolean("reference", reference)
    if len(label) != len(reference):
        raise ValueError(
            f"Expected as many labels as reference reads, got {len(label)} and {len(reference)}."
        )
    if not len(label):
        raise ValueError("Expected at least one film, got none.")
    return np.stack(
        [label & reference, label & ~reference, ~label & reference, ~label & ~reference], axis=1
    )


def _boolean(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"Expected {name} of shape [N], got shape {values.shape}.")
    if values.dtype == bool:
        return values
    if values.dtype.kind not in "iuf" or not np.isin(values, (0, 1)).all():
        odd = next((value for value in values.tolist() if value not in (0, 1)), values.dtype)
        raise ValueError(
            f"Expected {name} of bool, or of numbers that are 0 or 1, got {odd!r}. "
            "Choose a threshold or drop missing reads first."
        )
    return values.astype(bool)
