r"""Labels with errors: what they are worth, which are wrong, and whether they persist.

A labeller with sensitivity s and specificity t marks a film whose finding has probability p with
probability

.. math:: r = s p + (1 - t)(1 - p) = (1 - t) + (s + t - 1)\, p,

if errors depend on the truth alone. It rises with p as long as s + t > 1, so whoever learns r ranks
films as p would.

A condition that does not go away should be found again on the next film. Of pairs of consecutive
films of a patient whose first has the label, the share whose second has it too is its
*persistence*. It tests labels against themselves, without a reader. For a condition that truly
never goes away and labels that err independently from film to film,

    persistence = PPV * recall + (1 - PPV) * (1 - specificity)

since the first film's label is true with probability PPV, and the second film is then labelled
with probability recall, else with the false-positive rate. With few false labels among healthy
films this is close to PPV * recall. Errors that films share (the same mention copied on, a patient
whose disease is plain on every film) raise persistence above that; a finding that resolves lowers
it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from chexlib.metrics.agreement import ppv
from chexlib.metrics.inputs import check_patients, check_share
from chexlib.metrics.resampling import Estimate


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
    s, t = check_share("a sensitivity", sensitivity), check_share("a specificity", specificity)
    p = check_share("prevalences", prevalence, strict=True)
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
        (r - (1 - t)) / (s + t - 1), cut off at 0 and 1, since such a label cannot have a
        probability below 1 - t, or above s.

    Examples
    --------
    >>> undo_noise([0.05, 0.2, 0.5], sensitivity=0.5, specificity=0.95).round(2)
    array([0.  , 0.33, 1.  ])
    """
    r = np.asarray(probabilities, dtype=float)
    s, t = check_share("a sensitivity", sensitivity), check_share("a specificity", specificity)
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


def film_pairs(labels: pd.DataFrame, *, step: int = 1) -> pd.DataFrame:
    """Pair each film with the patient's film ``step`` films later, in order of ``follow_up``.

    NIH's ``Follow-up #`` of the 2020 label file counts a patient's films from 0 in order of age;
    the number in the file name does not follow age, so it must not be used for order. Ages are
    whole years, and no date is published.

    Parameters
    ----------
    labels : DataFrame
        From :func:`chexlib.data.load_labels` or some of its rows; columns ``patient``,
        ``follow_up``, ``age`` and ``view``.
    step : int
        1 pairs consecutive films; 2 skips one; and so on.

    Returns
    -------
    DataFrame
        ``first`` and ``second`` (positions of rows in ``labels``), ``patient``, ``years``
        (difference of the ages) and ``views`` (``"PA to AP"``).

    Raises
    ------
    ValueError
        If a film is there twice, or age falls from one film to the next.

    Examples
    --------
    >>> films = pd.DataFrame({"patient": [1, 1, 2], "follow_up": [1, 0, 0], "age": [61, 60, 50],
    ...                       "view": ["AP", "PA", "PA"]})
    >>> film_pairs(films)
       first  second  patient  years     views
    0      1       0        1      1  PA to AP
    """
    if step < 1:
        raise ValueError(f"Expected a step of at least 1, got {step}.")
    patient, number = labels["patient"].to_numpy(), labels["follow_up"].to_numpy()
    order = np.lexsort((number, check_patients(patient)))
    patient, number = patient[order], number[order]
    age, view = labels["age"].to_numpy()[order], labels["view"].to_numpy()[order]
    together = patient[1:] == patient[:-1]
    if (together & (number[1:] == number[:-1])).any():
        raise ValueError("Expected each follow-up number of a patient once, got one twice.")
    if (together & (age[1:] < age[:-1])).any():
        raise ValueError(
            "Expected age to rise with follow_up, got a film at a lower age than the one before. "
            "Use the label file of 2020, whose Follow-up # is in order."
        )
    same = np.flatnonzero(patient[step:] == patient[:-step])
    first, second = order[same], order[same + step]
    return pd.DataFrame(
        {
            "first": first,
            "second": second,
            "patient": patient[same],
            "years": age[same + step] - age[same],
            "views": [
                f"{one} to {two}" for one, two in zip(view[same], view[same + step], strict=True)
            ],
        }
    )


def persistence(positive: ArrayLike, pairs: pd.DataFrame, **options: object) -> Estimate:
    """Return the share of pairs whose second film has the label, among those whose first has it.

    Parameters
    ----------
    positive : array_like [N] of bool
        The label of each film.
    pairs : DataFrame
        From :func:`film_pairs`, of the same N films.
    **options
        ``level``, ``resamples`` and ``seed`` of :func:`chexlib.metrics.agreement.assess`.

    Returns
    -------
    Estimate
        ``n`` pairs whose first film has the label, ``k`` whose second has it too; patients are
        resampled.

    Examples
    --------
    >>> films = pd.DataFrame({"patient": 1, "follow_up": range(4), "age": 60, "view": "PA"})
    >>> persistence([True, True, False, True], film_pairs(films)).estimate
    0.5
    """
    positive = np.asarray(positive)
    return ppv(
        positive[pairs["first"].to_numpy()],
        positive[pairs["second"].to_numpy()],
        patient=pairs["patient"].to_numpy(),
        **options,
    )


def shuffled_persistence(
    positive: ArrayLike, labels: pd.DataFrame, *, shuffles: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Return persistence with the films of each patient put in random order.

    What is left is what a patient keeps whatever the order. Persistence above it means that labels
    cluster in time within patients, whether they are right or wrong. Films of several labels are
    shuffled together, so one shuffle serves them all.

    Parameters
    ----------
    positive : array_like [N, F] of bool
        F labels of each film.
    labels : DataFrame
        N rows, as for :func:`film_pairs`.
    shuffles, seed
        How many random orders, and where draws start.

    Returns
    -------
    DataFrame, F rows
        ``estimate`` (closed form), ``low`` and ``high`` (range of 95% of the shuffles). A patient
        of n films, m of them labelled, expects (n - 1) m / n pairs with a labelled first film and
        m (m - 1) / n with both; ``estimate`` is the ratio of their sums.
    """
    positive = np.asarray(positive, dtype=bool)
    pairs = film_pairs(labels)
    code = check_patients(labels["patient"])
    films = np.bincount(code)
    held = np.stack([np.bincount(code, column) for column in positive.T], axis=1)
    n = films[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = (held * (held - 1) / n).sum(axis=0) / (held * (n - 1) / n).sum(axis=0)

    order = np.lexsort((labels["follow_up"].to_numpy(), code))  # films by patient and time
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order))
    first, second = place[pairs["first"]], place[pairs["second"]]
    code, positive = code[order], positive[order]
    rng = np.random.default_rng(seed)
    values = np.empty((shuffles, positive.shape[1]))
    for row in range(shuffles):
        # Sorting by patient first and a random number second shuffles within every patient.
        shuffled = positive[np.argsort(code + rng.random(len(code)))]
        starts = shuffled[first]
        with np.errstate(invalid="ignore"):
            values[row] = (starts & shuffled[second]).sum(axis=0) / starts.sum(axis=0)
    share = np.array([1 - 0.95, 1 + 0.95]) / 2
    low, high = np.quantile(values, share, axis=0, method="inverted_cdf")
    return pd.DataFrame({"estimate": expected, "low": low, "high": high})


def expected_persistence(
    *, recall: float, specificity: float = 1.0, prevalence: float = 0.5
) -> float:
    """Return the persistence of independent noisy labels of a condition that never goes away.

    Parameters
    ----------
    recall : float
        P(label | condition), in (0, 1].
    specificity : float
        P(no label | no condition), in [0, 1].
    prevalence : float
        Share of pairs whose patient has the condition; without effect at specificity 1, where the
        persistence is the recall itself.

    Examples
    --------
    >>> expected_persistence(recall=0.3)
    0.3
    >>> round(expected_persistence(recall=0.3, specificity=0.99, prevalence=0.05), 3)
    0.188
    """
    rates = {"recall": recall, "specificity": specificity, "prevalence": prevalence}
    for name, value in rates.items():
        check_share(name, value)
    true, false = prevalence * recall, (1 - prevalence) * (1 - specificity)
    if true + false == 0:
        raise ValueError(
            "Expected labels on some films, got recall or prevalence 0 without errors."
        )
    predictive = true / (true + false)
    return predictive * recall + (1 - predictive) * (1 - specificity)


def simulate_chronic(
    patient: ArrayLike,
    affected: ArrayLike,
    *,
    recall: float,
    specificity: float = 1.0,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Draw labels of a condition that its patients have on every film.

    Parameters
    ----------
    patient : array_like [N]
        The patient of each film.
    affected : sequence
        Patients who have the condition; a patient not named has never had it.
    recall, specificity : float
        Of the labels, independent from film to film.
    seed : int

    Returns
    -------
    ndarray [N] of bool

    Examples
    --------
    >>> simulate_chronic([1, 1, 2], [1], recall=1)
    array([ True,  True, False])
    """
    truth = np.isin(np.asarray(patient), np.asarray(affected))
    draw = np.random.default_rng(seed).random(len(truth))
    return np.where(truth, draw < recall, draw < 1 - specificity)
