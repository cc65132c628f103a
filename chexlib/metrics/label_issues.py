r"""Labels with errors: what they are worth, what they do to probabilities, which are wrong.

A labeller with sensitivity s and specificity t marks a film whose finding has probability p with
probability

.. math:: r = s p + (1 - t)(1 - p) = (1 - t) + (s + t - 1)\, p,

if errors depend on the truth alone. It rises with p as long as s + t > 1, so whoever learns r ranks
films as p would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from chexlib.metrics.resampling import Resamples

__all__ = ["find_issues", "label_worth", "precision_and_recall", "undo_noise"]


def label_worth(
    sensitivity: ArrayLike, specificity: ArrayLike, prevalence: ArrayLike
) -> dict[str, NDArray[np.float64]]:
    r"""Return what is left of a label with errors, for ranking and for learning.

    Parameters
    ----------
    sensitivity, specificity, prevalence : array_like
        Of the labels, and of the finding itself; prevalence between 0 and 1.

    Returns
    -------
    dict
        ``slope``, s + t - 1: how far the label's probability moves when the truth's does.
        ``shrink``, PPV + NPV - 1: what is left of an AUROC's distance from one half (Menon et al.
        2015). ``worth``, their product, the squared correlation of label and truth: how many films
        with right labels one film with this label is worth, where effects are weak.

    Notes
    -----
    Near no effect, the information in a label about the slope of a logistic model is
    :math:`(dr/dp)^2\, p (1 - p) / (r (1 - r))` of what the truth gives, which is that square.

    Examples
    --------
    >>> found = label_worth(0.5, 0.95, 0.2)
    >>> {name: round(float(value), 2) for name, value in found.items()}
    {'slope': 0.45, 'shrink': 0.6, 'worth': 0.27}
    """
    s, t, p = (np.asarray(x, dtype=float) for x in (sensitivity, specificity, prevalence))
    _check(s, t)
    if ((p <= 0) | (p >= 1)).any():
        raise ValueError(f"Expected prevalences between 0 and 1, got {p.tolist()}.")
    r = s * p + (1 - t) * (1 - p)
    slope = s + t - 1
    shrink = slope * p * (1 - p) / (r * (1 - r))
    return {"slope": slope, "shrink": shrink, "worth": slope * shrink}


def undo_noise(
    probabilities: ArrayLike, *, sensitivity: ArrayLike, specificity: ArrayLike
) -> NDArray[np.float64]:
    """Return the probability of the finding, from that of a label with known errors.

    Parameters
    ----------
    probabilities : array_like [N] or [N, F]
        Of the label.
    sensitivity, specificity : array_like [] or [F]
        Of the labels, with sensitivity + specificity > 1.

    Returns
    -------
    ndarray of float
        (r - (1 - t)) / (s + t - 1), cut off at 0 and 1: a probability below 1 - t, or above s,
        is none that such a label can have.

    Examples
    --------
    >>> undo_noise([0.05, 0.2, 0.5], sensitivity=0.5, specificity=0.95).round(2)
    array([0.  , 0.33, 1.  ])
    """
    r = np.asarray(probabilities, dtype=float)
    s, t = (np.asarray(x, dtype=float) for x in (sensitivity, specificity))
    _check(s, t)
    if (s + t <= 1).any():
        raise ValueError(
            "Expected sensitivity + specificity above 1, or labels that say nothing, got "
            f"{(s + t).tolist()}."
        )
    return np.clip((r - (1 - t)) / (s + t - 1), 0, 1)


def find_issues(labels: ArrayLike, probabilities: ArrayLike) -> NDArray[np.bool_]:
    """Return which labels of one finding ``cleanlab`` calls wrong, by its default filter.

    Parameters
    ----------
    labels : array_like of bool [N]
    probabilities : array_like [N]
        Of the label, from a model that was not trained on these films.

    Raises
    ------
    ModuleNotFoundError
        If ``cleanlab`` is not installed: it comes with the extra ``book``.

    References
    ----------
    Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels,
    Journal of Artificial Intelligence Research 70 (2021) 1373-1411.
    """
    from cleanlab.filter import find_label_issues

    labels = np.asarray(labels, dtype=int)
    p = np.asarray(probabilities, dtype=float)
    if labels.ndim != 1 or labels.shape != p.shape or len(np.unique(labels)) < 2:
        raise ValueError(
            "Expected labels of one finding, of both classes, and as many probabilities, got "
            f"shapes {labels.shape} and {p.shape}."
        )
    return find_label_issues(labels, np.column_stack([1 - p, p]), n_jobs=1)


def precision_and_recall(
    wrong: ArrayLike, flagged: ArrayLike, draws: Resamples, *, of: ArrayLike | bool = True
) -> dict[str, NDArray[np.float64]]:
    """Return how many flagged labels are wrong and how many wrong ones are flagged.

    Parameters
    ----------
    wrong, flagged : array_like of bool [N, F]
    draws : Resamples
        Patients drawn anew.
    of : array_like of bool [N, F], optional
        The labels looked at; all by default.

    Returns
    -------
    dict of ndarray [F + 1]
        ``n``, ``n_wrong``, ``n_flagged`` and ``n_found`` (counts), ``share_wrong``, ``precision``
        and ``recall`` with ``…_low`` and ``…_high``, and ``lift``, precision over the share wrong;
        last, of all findings' labels together. NaN where nothing is counted.
    """
    wrong, flagged = (np.asarray(x, dtype=bool) for x in (wrong, flagged))
    of = np.broadcast_to(np.asarray(of, dtype=bool), wrong.shape)
    if wrong.ndim != 2 or wrong.shape != flagged.shape:
        raise ValueError(
            f"Expected two arrays [N, F] of one shape, got {wrong.shape} and {flagged.shape}."
        )
    kinds = {"n": of, "n_wrong": wrong, "n_flagged": flagged, "n_found": wrong & flagged}
    out, drawn = {}, {}
    for name, kind in kinds.items():
        counts = kind.sum(axis=0)
        out[name] = np.append(counts, counts.sum())
        sums = draws.sums(kind)
        drawn[name] = np.column_stack([sums, sums.sum(axis=1)])
    ratios = {
        "share_wrong": ("n_wrong", "n"),
        "precision": ("n_found", "n_flagged"),
        "recall": ("n_found", "n_wrong"),
        "lift": ("precision", "share_wrong"),
    }
    for name, (top, bottom) in ratios.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            out[name] = out[top] / out[bottom]
            drawn[name] = drawn[top] / drawn[bottom]
        ends = np.full((2, len(out[name])), np.nan)
        for k, column in enumerate(drawn[name].T):
            defined = column[~np.isnan(column)]
            if len(defined):
                ends[:, k] = np.quantile(defined, [0.025, 0.975], method="inverted_cdf")
        out[f"{name}_low"], out[f"{name}_high"] = ends
    return out


def _check(sensitivity: NDArray[np.float64], specificity: NDArray[np.float64]) -> None:
    for name, values in (("sensitivity", sensitivity), ("specificity", specificity)):
        if ((values < 0) | (values > 1)).any() or np.isnan(values).any():
            raise ValueError(f"Expected a {name} from 0 to 1, got {values.tolist()}.")
