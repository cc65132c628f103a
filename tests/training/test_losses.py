"""Losses against their formulas, written once more in NumPy with 64 bits, and their gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize_scalar
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from torchvision.ops import sigmoid_focal_loss

from chexlib.data.phantom import noise_rates
from chexlib.findings import FINDINGS
from chexlib.metrics import undo_class_weights
from chexlib.training import LOSSES, RECIPES, make_loss
from chexlib.training.losses import (
    asymmetric,
    bce,
    corrected_bce,
    focal,
    smoothed_bce,
    weighted_bce,
)

F = 14
shapes = st.tuples(st.integers(1, 5), st.just(F))
cases = shapes.flatmap(
    lambda shape: st.tuples(
        arrays(np.float64, shape, elements=st.floats(-15, 15)),
        arrays(np.bool_, shape),
    )
)
shares = arrays(np.float64, (F,), elements=st.floats(0.01, 0.99))
good = arrays(np.float64, (F,), elements=st.floats(0.55, 1))


def p_of(x):
    return 1 / (1 + np.exp(-x))


def entropy(x, target, positive=1.0, negative=1.0):
    """-[w+ y log p + w- (1 - y) log (1 - p)], where 1 - p = 1 / (1 + e^x) loses no digits."""
    log_p, log_q = -np.log1p(np.exp(-x)), -np.log1p(np.exp(x))
    return -(positive * target * log_p + negative * (1 - target) * log_q).mean()


def value(loss, x, y):
    return float(loss(torch.from_numpy(x), torch.from_numpy(y).double()))


def close(found, expected):
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(cases)
def test_bce(case):
    x, y = case
    close(value(bce(), x, y), entropy(x, y))


@given(cases, shares)
def test_weighted_bce(case, prevalence):
    x, y = case
    found = value(weighted_bce(prevalence=prevalence), x, y)
    close(found, entropy(x, y, 1 - prevalence, prevalence))


@given(cases, st.floats(0, 5), st.one_of(st.just(-1.0), st.floats(0, 1)))
def test_focal(case, gamma, alpha):
    x, y = case
    p, q = p_of(x), p_of(-x)
    of_label, other = np.where(y, p, q), np.where(y, q, p)
    weight = 1 if alpha == -1 else np.where(y, alpha, 1 - alpha)
    expected = -(weight * other**gamma * np.log(of_label)).mean()
    close(value(focal(gamma=gamma, alpha=alpha), x, y), expected)
    reference = sigmoid_focal_loss(
        torch.from_numpy(x), torch.from_numpy(y).double(), alpha, gamma, reduction="mean"
    )
    assert float(reference) == pytest.approx(expected, rel=1e-6)


@given(cases, st.floats(0, 4), st.floats(0, 4), st.floats(0, 0.5))
def test_asymmetric(case, up, down, clip):
    x, y = case
    p, q = p_of(x), p_of(-x)
    shifted = np.maximum(p - clip, 0)
    kept = np.where(shifted > 0, np.minimum(1, q + clip), 1)  # 1 - shifted, with all its digits
    expected = -(y * q**up * np.log(p) + (1 - y) * shifted**down * np.log(kept)).mean()
    loss = asymmetric(gamma_positive=up, gamma_negative=down, clip=clip)
    assert value(loss, x, y) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(cases, st.floats(0, 0.9))
def test_smoothed_bce(case, smoothing):
    x, y = case
    target = y * (1 - smoothing) + smoothing / 2
    close(value(smoothed_bce(smoothing=smoothing), x, y), entropy(x, target))


@given(cases, good, good)
def test_corrected_bce(case, sensitivity, specificity):
    x, y = case
    p, q = p_of(x), p_of(-x)
    r = sensitivity * p + (1 - specificity) * q
    not_r = (1 - sensitivity) * p + specificity * q
    expected = -np.log(np.where(y, r, not_r)).mean()
    close(value(corrected_bce(sensitivity=sensitivity, specificity=specificity), x, y), expected)


LIMITS = {
    "focal, gamma 0": focal(gamma=0),
    "asymmetric, nothing asymmetric": asymmetric(gamma_positive=0, gamma_negative=0, clip=0),
    "smoothing 0": smoothed_bce(smoothing=0),
    "a perfect labeller": corrected_bce(sensitivity=np.ones(F), specificity=np.ones(F)),
}
HALF = {"half and half": weighted_bce(prevalence=np.full(F, 0.5))}


@pytest.mark.parametrize("name", LIMITS)
@given(case=cases)
def test_limits_are_cross_entropy(name, case):
    x, y = case
    assert value(LIMITS[name], x, y) == pytest.approx(value(bce(), x, y), rel=1e-9, abs=1e-12)
    close(value(HALF["half and half"], x, y), value(bce(), x, y) / 2)


RATES = {"sensitivity": np.linspace(0.6, 0.95, F), "specificity": np.linspace(0.97, 0.7, F)}
EVERY = {
    "bce": bce(),
    "weighted-bce": weighted_bce(prevalence=np.linspace(0.01, 0.5, F)),
    "focal": focal(),
    "focal, with alpha": focal(gamma=1.5, alpha=0.25),
    "asymmetric": asymmetric(),
    "asymmetric, both": asymmetric(gamma_positive=1.0, gamma_negative=3.0, clip=0.1),
    "focal, gamma below 1": focal(gamma=0.5),
    "asymmetric, gammas below 1": asymmetric(gamma_positive=0.5, gamma_negative=0.5),
    "smoothed-bce": smoothed_bce(),
    "corrected-bce": corrected_bce(**RATES),
    **LIMITS,
}


@pytest.mark.parametrize("name", EVERY)
def test_gradients(name):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(3, F, generator=draw, dtype=torch.float64) * 3  # none at the kink of a clip
    y = (torch.rand(3, F, generator=draw) < 0.5).double()
    assert torch.autograd.gradcheck(lambda x: EVERY[name](x, y), x.requires_grad_())


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EVERY)
def test_extreme_logits_are_finite(name, kind):
    x = torch.tensor([[-100.0, 100.0, -40.0, 40.0, 0.0, 17.0, -17.0] * 2] * 2, dtype=kind)
    y = torch.stack([torch.zeros(F), torch.ones(F)]).to(kind)
    x.requires_grad_()
    loss = EVERY[name](x, y)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", EVERY)
def test_what_is_not_known_adds_nothing(name):
    draw = torch.Generator().manual_seed(2)
    x = (torch.randn(4, F, generator=draw, dtype=torch.float64) * 3).requires_grad_()
    y = (torch.rand(4, F, generator=draw) < 0.4).double()
    known = torch.rand(4, F, generator=draw) < 0.6
    known[2] = False  # a film of which nothing is known
    # Each label by itself: what it costs, by the loss of all, which other tests hold to a formula.
    alone = torch.full((4, F), torch.nan, dtype=torch.float64)
    costs = torch.zeros(4, F, dtype=torch.float64)
    for place in np.ndindex(4, F):
        one = alone.clone()
        one[place] = y[place]
        costs[place] = EVERY[name](x, one).detach()
    assert float(costs.mean()) == pytest.approx(float(EVERY[name](x, y)), rel=1e-9)
    loss = EVERY[name](x, torch.where(known, y, torch.nan))
    assert float(loss) == pytest.approx(float(costs[known].mean()), rel=1e-9)
    loss.backward()
    assert bool((x.grad[~known] == 0).all())
    assert bool((x.grad[known] != 0).any())
    nothing = EVERY[name](x, alone)
    x.grad = None
    nothing.backward()
    assert float(nothing) == 0
    assert bool((x.grad == 0).all())


@pytest.mark.parametrize("shape", [(8, 14), (7, 3), (1, 1)])
def test_where_all_is_known_no_bit_changes(shape):
    draw = torch.Generator().manual_seed(3)
    x, y = torch.randn(shape, generator=draw) * 4, (torch.rand(shape, generator=draw) < 0.5).float()
    weight = torch.where(y > 0, 0.75, 0.25)
    pairs = {
        bce(): lambda x: binary_cross_entropy_with_logits(x, y),
        weighted_bce(prevalence=np.full(shape[1], 0.25)): lambda x: (
            binary_cross_entropy_with_logits(x, y, weight=weight)
        ),
        focal(gamma=0): lambda x: -logsigmoid(torch.where(y > 0, x, -x)).mean(),
    }
    for ours, plain in pairs.items():
        one, other = (x.clone().requires_grad_() for _ in range(2))
        ours(one, y).backward()
        plain(other).backward()
        assert ours(x, y).equal(plain(x))
        assert one.grad.equal(other.grad)


def test_weighted_bce_is_undone():
    truth, prevalence = 0.3, 0.1
    loss = weighted_bce(prevalence=np.full(F, prevalence))

    def expected(x):
        logits = torch.full((2, F), x, dtype=torch.float64)
        labels = torch.stack([torch.zeros(F), torch.ones(F)]).double()
        both = [float(loss(logits[k : k + 1], labels[k : k + 1])) for k in (0, 1)]
        return (1 - truth) * both[0] + truth * both[1]

    learned = p_of(minimize_scalar(expected, bounds=(-9, 9), method="bounded").x)
    assert learned == pytest.approx(0.3 * 0.9 / (0.3 * 0.9 + 0.7 * 0.1), abs=1e-4)
    undone = undo_class_weights(learned, positive=1 - prevalence, negative=prevalence)
    assert undone == pytest.approx(truth, abs=1e-4)


@given(st.floats(0.05, 0.95), st.floats(0.6, 1), st.floats(0.6, 1))
def test_corrected_bce_is_least_at_the_truth(truth, sensitivity, specificity):
    loss = corrected_bce(sensitivity=[sensitivity], specificity=[specificity])
    marked = sensitivity * truth + (1 - specificity) * (1 - truth)

    def expected(p):
        logit = torch.logit(torch.tensor([[p]], dtype=torch.float64))
        both = [float(loss(logit, torch.tensor([[y]]).double())) for y in (0, 1)]
        return (1 - marked) * both[0] + marked * both[1]

    found = minimize_scalar(expected, bounds=(1e-4, 1 - 1e-4), method="bounded").x
    assert found == pytest.approx(truth, abs=2e-3)


def test_make_loss_takes_what_the_recipe_says():
    recipe, prevalence = RECIPES["phantom-cpu"], np.linspace(0.1, 0.4, F)
    x, y = torch.randn(4, F), (torch.rand(4, F) < 0.3).float()
    for name in LOSSES:
        assert torch.isfinite(make_loss(recipe.with_values(loss=name), prevalence)(x, y))
    focused = recipe.with_values(["loss=focal", "loss_options.gamma=0.0"])
    torch.testing.assert_close(make_loss(focused, prevalence)(x, y), bce()(x, y))
    rates = noise_rates()
    assert rates["finding"].tolist() == list(FINDINGS)
    known = corrected_bce(sensitivity=rates["sensitivity"], specificity=rates["specificity"])
    found = make_loss(recipe.with_values(loss="corrected-bce"), prevalence)
    torch.testing.assert_close(found(x, y), known(x, y))
    weighted = make_loss(recipe.with_values(loss="weighted-bce"), prevalence)
    torch.testing.assert_close(weighted(x, y), weighted_bce(prevalence=prevalence)(x, y))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: weighted_bce(prevalence=[0.1, 0.0]), "a prevalence between 0 and 1"),
        (lambda: focal(gamma=-1), "gamma from 0 up"),
        (lambda: focal(alpha=2), "alpha from 0 to 1 or -1"),
        (lambda: asymmetric(clip=1), "clip from 0 to below 1"),
        (lambda: asymmetric(gamma_negative=-1), "gammas from 0 up"),
        (lambda: smoothed_bce(smoothing=1), "smoothing from 0 to below 1"),
        (lambda: corrected_bce(sensitivity=[1.2], specificity=[1]), "a sensitivity from 0 to 1"),
        (lambda: corrected_bce(sensitivity=[0.5], specificity=[0.5]), "above 1 for each finding"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        make()


def test_options_of_another_loss_are_refused():
    recipe = RECIPES["phantom-cpu"].with_values(loss="bce", loss_options={"gamma": 2})
    with pytest.raises(ValueError, match=r"Expected options of the loss 'bce', got \['gamma'\]"):
        make_loss(recipe, np.full(F, 0.5))
    half = RECIPES["phantom-cpu"].with_values(loss="corrected-bce", loss_options={"smoothing": 1})
    with pytest.raises(ValueError, match="Expected options of the loss 'corrected-bce'"):
        make_loss(half, np.full(F, 0.5))
