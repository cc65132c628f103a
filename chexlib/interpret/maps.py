r"""Maps on a scale for the eye: three scales, which say three different things.

``"map"``
    :math:`(M - \min M) / (\max M - \min M)`, each map by its own range. Every map then has a
    hottest place, also that of a finding with a probability of 0.001. Scores of localisation are
    computed on it; pictures made with it look confident whatever the network says.
``"shared"``
    The same with the minimum and maximum over all findings of a film. Findings can be compared
    within the film, not films with one another.
``"ratio"``
    :math:`\sigma(M + b_f) / \pi_f`: the probability that the network would give a film that looked
    like this cell everywhere, over the prevalence of the finding. 1 is an average film; it can be
    compared between findings and films, and stays dark where there is nothing to see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["normalise", "positive"]

Array = TypeVar("Array", np.ndarray, torch.Tensor)
SCALES = ("map", "shared", "ratio")


def normalise(
    maps: Array,
    *,
    how: str = "map",
    bias: ArrayLike | torch.Tensor | None = None,
    prevalence: ArrayLike | torch.Tensor | None = None,
) -> Array:
    """Bring maps to a scale.

    Parameters
    ----------
    maps : Tensor or ndarray [..., F, h, w]
        For "shared" and "ratio" the third axis from the end is that of findings.
    how : {"map", "shared", "ratio"}
        See :mod:`chexlib.interpret.maps`.
    bias : array_like [F], optional
        Of the head, for "ratio": ``model.classifier.bias``.
    prevalence : array_like [F], optional
        Above 0 to 1, for "ratio": share of films with the finding among those that the network was
        trained on, or for which it is used.

    Returns
    -------
    Tensor or ndarray, as ``maps``
        In [0, 1], where a constant map becomes 0; for "ratio" from 0 to ``1 / prevalence``.

    Raises
    ------
    ValueError
        If the scale is unknown, or bias and prevalence are not given with "ratio" and only with it.

    Examples
    --------
    >>> two = np.array([[[0.0, 1.0]], [[0.0, 4.0]]])
    >>> normalise(two)[:, 0, 1], normalise(two, how="shared")[:, 0, 1]
    (array([1., 1.]), array([0.25, 1.  ]))
    >>> normalise(two, how="ratio", bias=[0, -4], prevalence=[0.5, 0.1])[:, 0].round(2)
    array([[1.  , 1.46],
           [0.18, 5.  ]])
    """
    if how not in SCALES:
        raise ValueError(f"Expected a scale among {SCALES}, got {how!r}.")
    given = bias is not None and prevalence is not None
    if given != (how == "ratio") or (bias is None) != (prevalence is None):
        raise ValueError(
            f'Expected bias and prevalence with "ratio" and only with it, got how={how!r}.'
        )
    if isinstance(maps, torch.Tensor):
        given_as = {"dtype": torch.float64, "device": maps.device}
        values = [None if v is None else torch.as_tensor(v, **given_as) for v in (bias, prevalence)]
        scaled = _scaled(maps.double(), how, *values, torch)
        return scaled.to(maps.dtype)
    values = [None if v is None else np.asarray(v, float) for v in (bias, prevalence)]
    maps = np.asarray(maps)
    scaled = _scaled(maps.astype(float), how, *values, np)
    return scaled.astype(maps.dtype if maps.dtype.kind == "f" else float)


def _scaled(maps, how, bias, prevalence, library):
    if how == "ratio":
        if not ((prevalence > 0) & (prevalence <= 1)).all():
            raise ValueError(f"Expected prevalences above 0 to 1, got {prevalence}.")
        cell = 1 / (1 + library.exp(-(maps + bias[:, None, None])))
        return cell / prevalence[:, None, None]
    axes = (-2, -1) if how == "map" else (-3, -2, -1)
    torch_like = library is torch
    low = maps.amin(axes, keepdim=True) if torch_like else maps.min(axes, keepdims=True)
    high = maps.amax(axes, keepdim=True) if torch_like else maps.max(axes, keepdims=True)
    width = high - low
    return (maps - low) / library.where(width > 0, width, library.ones_like(width))


def positive(maps: Array) -> Array:
    """Return what speaks for a finding: maps with negative values set to 0.

    Examples
    --------
    >>> positive(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """
    return maps.clamp_min(0) if isinstance(maps, torch.Tensor) else np.maximum(maps, 0)
