"""Lorenz curves and the order of a patient's films."""

import numpy as np
import pytest

from chexlib.data import load_labels
from chexlib.data.patients import age_reversals, lorenz, top_share


def test_lorenz_of_equal_counts_is_the_diagonal():
    patients, share = lorenz([3, 3, 3, 3])
    assert share == pytest.approx(patients)
    assert top_share([3, 3, 3, 3], 0.25) == pytest.approx(0.25)


def test_lorenz_rises_ever_more_slowly():
    counts = np.random.default_rng(0).integers(1, 50, 100)
    _, share = lorenz(counts)
    assert share[0] == 0
    assert share[-1] == pytest.approx(1)
    assert (np.diff(share, 2) <= 1e-12).all()
    assert top_share(counts, 0.1) == pytest.approx(np.sort(counts)[-10:].sum() / counts.sum())


@pytest.mark.parametrize("counts", [[], [0, 0], [-1, 2]])
def test_lorenz_refuses(counts):
    with pytest.raises(ValueError, match="sum above 0"):
        lorenz(counts)


def test_follow_up_of_the_real_table_is_an_order_in_which_nobody_grows_younger():
    labels = load_labels()
    suffix = labels["image"].str[9:12].astype(int)
    assert age_reversals(labels, labels["follow_up"]) == 0
    assert age_reversals(labels, suffix) > 2000


def test_reversals_do_not_depend_on_the_order_of_rows():
    labels = load_labels().sample(20_000, random_state=0)
    shuffled = labels.sample(frac=1, random_state=1)
    suffix = labels["image"].str[9:12].astype(int)
    assert age_reversals(labels, suffix) == age_reversals(shuffled, suffix[shuffled.index]) > 0
