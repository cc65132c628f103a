"""What wrong labels are worth; persistence against loops, closed forms and simulation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from chexlib.data import load_labels
from chexlib.metrics import (
    auroc,
    expected_persistence,
    film_pairs,
    persistence,
    shuffled_persistence,
    simulate_chronic,
)
from chexlib.metrics.label_noise import find_issues, label_worth, undo_noise

rate = st.floats(0.02, 0.98)


def noisy(truth, sensitivity, specificity, rng):
    wrong = np.where(truth, 1 - sensitivity, 1 - specificity)
    return truth ^ (rng.random(truth.shape) < wrong)


@given(rate, rate, rate)
def test_worth_is_the_squared_correlation_of_label_and_truth(sensitivity, specificity, prevalence):
    found = label_worth(sensitivity, specificity, prevalence)
    cells = [prevalence * sensitivity, prevalence * (1 - sensitivity)]
    cells += [(1 - prevalence) * (1 - specificity), (1 - prevalence) * specificity]
    phi = matthews_corrcoef([1, 1, 0, 0], [1, 0, 1, 0], sample_weight=cells)
    assert found["worth"] == pytest.approx(phi**2, abs=1e-12)
    called = cells[0] + cells[2]
    shrink = cells[0] / called + cells[3] / (1 - called) - 1
    assert found["shrink"] == pytest.approx(shrink, abs=1e-12)
    assert np.sign(found["slope"]) == np.sign(found["shrink"])


def test_auroc_shrinks_as_the_labels_say():
    rng = np.random.default_rng(0)
    truth = rng.random(200_000) < 0.2
    score = truth + rng.normal(size=len(truth))
    for sensitivity, specificity in ((0.5, 0.95), (0.85, 0.85), (0.1, 0.8)):
        label = noisy(truth, sensitivity, specificity, rng)
        shrink = label_worth(sensitivity, specificity, 0.2)["shrink"]
        expected = 0.5 + shrink * (auroc(truth, score) - 0.5)
        assert auroc(label, score) == pytest.approx(expected, abs=0.01)


def test_worth_is_how_many_films_a_label_counts_for():
    # The slope of a weak effect scatters as it would with so many fewer films.
    rng = np.random.default_rng(1)
    x = rng.choice([-0.5, 0.5], (2000, 1000))
    truth = rng.random(x.shape) < 0.25 + 0.03 * x
    label = noisy(truth, 0.5, 0.95, rng)

    def signal(y):
        slope = (x * y).mean(axis=1)
        return (slope.mean() / slope.std()) ** 2

    worth = label_worth(0.5, 0.95, 0.25)["worth"]
    assert signal(label) / signal(truth) == pytest.approx(worth, rel=0.25)


@given(rate, rate, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_what_noise_did_to_a_probability_is_undone(sensitivity, specificity, probabilities):
    p = np.array(probabilities)
    seen = sensitivity * p + (1 - specificity) * (1 - p)
    rates = {"sensitivity": sensitivity, "specificity": specificity}
    if sensitivity + specificity <= 1.01:
        return
    np.testing.assert_allclose(undo_noise(seen, **rates), p, atol=1e-9)
    own = {name: [rate, 1] for name, rate in rates.items()}  # each finding has its own
    np.testing.assert_allclose(undo_noise(np.c_[seen, seen], **own), np.c_[p, seen], atol=1e-9)
    back = undo_noise(np.sort(np.random.default_rng(0).random(50)), **rates)
    assert (np.diff(back) >= 0).all()
    assert ((back >= 0) & (back <= 1)).all()


def test_cleanlab_finds_labels_that_a_sure_model_contradicts():
    rng = np.random.default_rng(3)
    truth = rng.random(1000) < 0.4
    probability = np.where(truth, 0.95, 0.05)
    labels = truth.copy()
    labels[:40] ^= True
    flagged = find_issues(labels, probability)
    np.testing.assert_array_equal(np.flatnonzero(flagged), np.arange(40))


def patients(sizes, *, seed=0):
    """Return a label table of patients with so many films each, in shuffled row order."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "patient": np.repeat(np.arange(len(sizes)), sizes),
            "follow_up": np.concatenate([np.arange(size) for size in sizes]),
        }
    )
    frame["age"] = 50 + frame["follow_up"] // 3
    frame["view"] = rng.choice(["PA", "AP"], len(frame))
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(1, 3), st.integers(0, 9))
@settings(deadline=None)
def test_pairs_are_those_of_a_loop(sizes, step, seed):
    films = patients(sizes, seed=seed)
    where = {(row.patient, row.follow_up): index for index, row in films.iterrows()}
    expected = [
        (where[patient, number], where[patient, number + step])
        for patient, size in enumerate(sizes)
        for number in range(size - step)
    ]
    pairs = film_pairs(films, step=step)
    assert list(zip(pairs["first"], pairs["second"], strict=True)) == expected
    for row in pairs.itertuples():
        one, two = films.loc[row.first], films.loc[row.second]
        assert (row.patient, row.years) == (one["patient"], two["age"] - one["age"])
        assert row.views == f"{one['view']} to {two['view']}"


def test_persistence_counts_pairs_and_resamples_patients():
    films = patients([5, 4, 1, 3], seed=1)
    positive = np.random.default_rng(1).random(len(films)) < 0.6
    pairs = film_pairs(films)
    starts = positive[pairs["first"]]
    found = persistence(positive, pairs, resamples=50)
    assert found.n == starts.sum()
    assert found.k == (starts & positive[pairs["second"]]).sum()
    assert found.method == "bootstrap by patient, 50 resamples"


def test_shuffles_agree_with_their_closed_form():
    films = patients(np.random.default_rng(3).integers(1, 12, 400), seed=3)
    rng = np.random.default_rng(4)
    rate = rng.beta(0.4, 0.8, 400)
    positive = rate[films["patient"], None] > rng.random((len(films), 2))
    found = shuffled_persistence(positive, films, shuffles=300)
    assert found["estimate"].between(found["low"], found["high"], inclusive="neither").all()
    assert (found["high"] - found["low"] < 0.1).all()
    # Labels that do not depend on time are themselves one of the shuffles.
    for column, row in zip(positive.T, found.itertuples(), strict=True):
        seen = persistence(column, film_pairs(films), resamples=1).estimate
        assert row.low - 0.02 < seen < row.high + 0.02


def test_labels_that_cluster_in_time_stand_above_their_shuffles():
    films = patients([10] * 60).sort_values(["patient", "follow_up"], ignore_index=True)
    positive = (films["follow_up"] < 4).to_numpy()
    found = shuffled_persistence(positive[:, None], films, shuffles=100)
    assert persistence(positive, film_pairs(films), resamples=1).estimate > found["high"].item()


@pytest.mark.parametrize("recall", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("specificity", [1.0, 0.95])
def test_simulation_agrees_with_the_closed_form(recall, specificity):
    films = patients([6] * 8000)
    pairs = film_pairs(films)
    affected = np.arange(0, 8000, 10)
    label = simulate_chronic(
        films["patient"], affected, recall=recall, specificity=specificity, seed=1
    )
    expected = expected_persistence(recall=recall, specificity=specificity, prevalence=0.1)
    assert persistence(label, pairs, resamples=1).estimate == pytest.approx(expected, abs=0.02)
    if specificity == 1:
        assert expected == pytest.approx(recall)


def test_follow_up_of_the_published_table_is_in_order_and_complete():
    labels = load_labels()
    assert len(film_pairs(labels)) == 112_120 - 30_805
    numbers = labels.groupby("patient")["follow_up"]
    assert (numbers.max() + 1 == numbers.size()).all()
    assert (labels.groupby("patient")["age"].diff().dropna() >= 0).all()
    # The number in the file name is no such order.
    name = labels["image"].str[9:12].astype(int)
    assert 0.78 < (name == labels["follow_up"]).mean() < 0.79
    by_name = labels.assign(name=name).sort_values(["patient", "name"])
    assert (by_name.groupby("patient")["age"].diff() < 0).sum() > 2000


TURNED = pd.DataFrame({"patient": [1, 1], "follow_up": [0, 1], "age": [60, 59], "view": "PA"})


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: undo_noise([0.5], sensitivity=0.1, specificity=0.9), r"y \+ specificity above 1"),
        (lambda: undo_noise([0.5], sensitivity=1.1, specificity=0.9), "a sensitivity between 0"),
        (lambda: label_worth(0.9, 0.9, 0.0), "prevalences strictly between 0 and 1"),
        (lambda: find_issues(np.ones(4), np.full(4, 0.5)), "one finding, of both classes"),
        (lambda: film_pairs(TURNED), "age"),
        (lambda: film_pairs(TURNED.assign(follow_up=0)), "once"),
        (lambda: film_pairs(TURNED, step=0), "step"),
        (lambda: expected_persistence(recall=1.5), "recall"),
        (lambda: expected_persistence(recall=0), "some films"),
    ],
)
def test_what_cannot_be_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
