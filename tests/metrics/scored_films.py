"""Random films for the tests of scores: ties, weights, rare positives, several films a patient."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def films(draw, *, max_size=24, both=True):
    """Labels, tied scores in [0, 1], weights with zeros among them, patients."""
    n = draw(st.integers(4, max_size))
    labels = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    if both:  # rare positives are the usual case: often one only
        labels[draw(st.integers(0, n - 1))] = True
        labels[: n // 2] &= draw(st.booleans())
        labels[0], labels[1] = True, False
    scores = np.array(draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))) / 8
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=float)
    weights[:2] += 1
    patients = np.array(draw(st.lists(st.integers(0, 6), min_size=n, max_size=n)))
    return labels, scores, weights, patients


def clustered(n_patients=200, *, seed=0, shift=1.0, prevalence=0.3, shared=1.0):
    """Films of patients who resemble themselves: labels, scores, patients."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), rng.integers(1, 6, n_patients))
    ill = rng.random(n_patients) < prevalence
    own = rng.normal(size=n_patients) * shared
    labels = np.where(rng.random(len(patients)) < 0.8, ill[patients], ~ill[patients])
    scores = shift * labels + own[patients] + rng.normal(size=len(patients))
    return labels, scores, patients
