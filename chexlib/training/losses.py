"""Losses on logits, each the mean over films and findings of one formula.

Throughout, x is a logit, p = sigmoid(x) the probability, y the label, 0 or 1, or NaN where it is
not known: the mean is over the known ones, and 0 where there is none. Every loss is a function of
``logits`` and ``labels`` [B, F] that returns a number; what it needs to know of the training labels
(shares of positives, error rates) it gets when it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce_with_logits
from torch.nn.functional import logsigmoid

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from chexlib.training.recipes import Recipe

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def over_known(mean: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]) -> Loss:
    """Return the loss over known labels of a weighted mean of logits, labels and weights [B, F].

    The weights are 1, and 0 where a label is not known; 0 stands for that one. Where all are known
    nothing changes, to the last bit.
    """

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        known = (~labels.isnan()).to(logits)
        share = known.mean().clamp_min(torch.finfo(known.dtype).tiny)
        return mean(logits, labels.nan_to_num(0), known) / share

    return loss


def bce() -> Loss:
    """Return binary cross-entropy: -[y log p + (1 - y) log(1 - p)].

    The loss of CheXNet's 14 findings (arXiv:1711.05225, section 5).
    """
    return over_known(lambda x, y, known: bce_with_logits(x, y, weight=known))


def weighted_bce(*, prevalence: ArrayLike) -> Loss:
    """Return the weighted cross-entropy of CheXNet's pneumonia task.

    -[w+ y log p + w- (1 - y) log(1 - p)], where w+ = |N| / (|P| + |N|) and w- = |P| / (|P| + |N|),
    so that both classes weigh the same in total (arXiv:1711.05225, section 2.1).

    Parameters
    ----------
    prevalence : array_like [F]
        Share of positive training labels, in (0, 1).

    Notes
    -----
    A network that minimises it gives p' = p w+ / (p w+ + (1 - p) w-), no probability of disease:
    :func:`chexlib.metrics.undo_class_weights` turns it back.
    """
    share = _shares(prevalence, "a prevalence", strictly=True)

    def loss(logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        positive = share.to(logits)
        weight = torch.where(labels > 0, 1 - positive, positive)
        return bce_with_logits(logits, labels, weight=weight * known)

    return over_known(loss)


def focal(*, gamma: float = 2.0, alpha: float = -1.0) -> Loss:
    """Return the focal loss -(1 - q)^gamma log q, q the probability of the label given.

    Parameters
    ----------
    gamma : float
        From 0 (cross-entropy) up: how far easy films are discounted.
    alpha : float
        Weight of positives, with 1 - alpha for negatives; -1 for none.

    References
    ----------
    Lin et al., Focal loss for dense object detection, ICCV 2017 (arXiv:1708.02002), equation 5.
    torchvision's ``sigmoid_focal_loss`` is the same, but for its gradient at gamma between 0 and 1,
    which is no number where a film is very easy.
    """
    if gamma < 0 or not (alpha == -1 or 0 <= alpha <= 1):
        raise ValueError(
            f"Expected gamma from 0 up, and alpha from 0 to 1 or -1, got {gamma} and {alpha}."
        )

    def loss(logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        positive = labels > 0
        of_label = torch.where(positive, logits, -logits)
        loss = -(gamma * logsigmoid(-of_label)).exp() * logsigmoid(of_label)
        if alpha != -1:
            loss = loss * (alpha * labels + (1 - alpha) * (1 - labels))
        return (loss * known).mean()

    return over_known(loss)


def asymmetric(
    *, gamma_positive: float = 0.0, gamma_negative: float = 4.0, clip: float = 0.05
) -> Loss:
    """Return the asymmetric loss: easy negatives are discounted more than positives.

    -[y (1 - p)^g+ log p + (1 - y) q^g- log(1 - q)], q = max(p - clip, 0).

    Parameters
    ----------
    gamma_positive, gamma_negative : float
        From 0 up.
    clip : float
        From 0 to below 1: negatives with a probability below it cost nothing.

    References
    ----------
    Ridnik et al., Asymmetric loss for multi-label classification, ICCV 2021 (arXiv:2009.14119),
    equations 4 to 7. Written here, since no library that is kept has it.
    """
    if min(gamma_positive, gamma_negative) < 0 or not 0 <= clip < 1:
        raise ValueError(
            "Expected gammas from 0 up and clip from 0 to below 1, got "
            f"{gamma_positive}, {gamma_negative} and {clip}."
        )

    def loss(logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        p = logits.sigmoid()
        # log(1 - p) from the logit is exact where p rounds to 1; a clip moves p away from 1.
        shifted = (p - clip).clamp(min=0)
        negative = torch.log1p(-shifted) if clip else logsigmoid(-logits)
        # A power of 0 has no gradient below the first: by logarithms, and not where it counts none.
        easy = shifted == 0
        power = torch.where(easy, 1, shifted) ** gamma_negative
        gains = labels * (gamma_positive * logsigmoid(-logits)).exp() * logsigmoid(logits)
        gains = gains + (1 - labels) * torch.where(easy, 0, power * negative)
        return -(gains * known).mean()

    return over_known(loss)


def smoothed_bce(*, smoothing: float = 0.1) -> Loss:
    """Return cross-entropy with labels moved towards 1/2: y' = y (1 - s) + s / 2.

    Parameters
    ----------
    smoothing : float
        s, from 0 to below 1.

    References
    ----------
    Szegedy et al., Rethinking the Inception architecture, CVPR 2016, section 7, for two classes.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"Expected smoothing from 0 to below 1, got {smoothing}.")

    def loss(logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        smooth = labels * (1 - smoothing) + smoothing / 2
        return bce_with_logits(logits, smooth, weight=known)

    return over_known(loss)


def corrected_bce(*, sensitivity: ArrayLike, specificity: ArrayLike) -> Loss:
    """Return cross-entropy of the noisy label: forward correction for labels of known quality.

    A labeller with sensitivity s and specificity t marks a film with probability
    r = s p + (1 - t) (1 - p), when p is the probability that the finding is there. The loss is
    -[y log r + (1 - y) log(1 - r)]: its minimum is at the true p, if s and t are right and errors
    depend on the truth alone.

    Parameters
    ----------
    sensitivity, specificity : array_like [F]
        Of the training labels, from 0 to 1, with sensitivity + specificity > 1.

    References
    ----------
    Patrini et al., Making deep neural networks robust to label noise: a loss correction approach,
    CVPR 2017 (arXiv:1609.03683), theorem 2, for each finding by itself.
    """
    s = _shares(sensitivity, "a sensitivity")
    t = _shares(specificity, "a specificity")
    if not bool((s + t > 1).all()):
        raise ValueError(
            "Expected sensitivity + specificity above 1 for each finding, or labels that say "
            f"nothing, got {(s + t).tolist()}."
        )

    def loss(logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        sens, spec = s.to(logits), t.to(logits)
        log_p, log_q = logsigmoid(logits), logsigmoid(-logits)
        # log r and log(1 - r) of logarithms: finite even where p rounds to 0 or 1.
        log_r = torch.logaddexp(sens.log() + log_p, (1 - spec).log() + log_q)
        log_not_r = torch.logaddexp((1 - sens).log() + log_p, spec.log() + log_q)
        return -(torch.where(labels > 0, log_r, log_not_r) * known).mean()

    return over_known(loss)


LOSSES: dict[str, Callable[..., Loss]] = {
    "bce": bce,
    "weighted-bce": weighted_bce,
    "focal": focal,
    "asymmetric": asymmetric,
    "smoothed-bce": smoothed_bce,
    "corrected-bce": corrected_bce,
}


def make_loss(recipe: Recipe, prevalence: ArrayLike) -> Loss:
    """Return the loss of a recipe.

    Parameters
    ----------
    recipe : Recipe
        ``corrected-bce`` without rates takes those of :func:`chexlib.data.phantom.noise_rates`,
        which are of NIH's labels: films of one's own need rates of their own.
    prevalence : array_like [F]
        Share of positives among the known training labels of each finding; for the weighted loss.

    Raises
    ------
    ValueError
        If an option does not fit the loss, or a finding of a weighted loss has no positive.
    """
    options = dict(recipe.loss_options)
    if recipe.loss == "weighted-bce":
        options.setdefault("prevalence", prevalence)
    if recipe.loss == "corrected-bce" and not options:
        if recipe.dataset in ("own", "given"):
            raise ValueError(
                "Expected loss_options with sensitivity and specificity of the labels of the films "
                "themselves, got none. The rates that are known are of NIH's labels."
            )
        from chexlib.data.phantom import noise_rates

        rates = noise_rates()
        options = {name: rates[name].tolist() for name in ("sensitivity", "specificity")}
    nothing = torch.zeros(1, len(prevalence))
    try:
        loss = LOSSES[recipe.loss](**options)
        loss(nothing, nothing)  # as many rates as findings
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"Expected options of the loss {recipe.loss!r}, got {sorted(options)}: {error}."
        ) from error
    return loss


def _shares(values: ArrayLike, what: str, *, strictly: bool = False) -> torch.Tensor:
    shares = torch.as_tensor(values, dtype=torch.float64)
    inside = (shares > 0) & (shares < 1) if strictly else (shares >= 0) & (shares <= 1)
    if not bool(inside.all()):
        between = "between 0 and 1" if strictly else "from 0 to 1"
        raise ValueError(f"Expected {what} {between} for each finding, got {shares.tolist()}.")
    return shares
