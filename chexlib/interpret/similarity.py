"""How alike two maps are: by rank, and by structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["KINDS", "similarity"]

KINDS = ("spearman", "pearson", "ssim")


def similarity(
    a: ArrayLike | torch.Tensor, b: ArrayLike | torch.Tensor, *, kind: str = "spearman"
) -> NDArray[np.float64]:
    """Return how alike maps are, pair by pair.

    Parameters
    ----------
    a, b : array_like or Tensor [..., H, W]
        Of one shape.
    kind : {"spearman", "pearson", "ssim"}
        Correlation of ranks (ties share theirs); correlation of values; or structural similarity,
        of maps scaled to [0, 1] each by its own range, with a normal window of sigma 1.5 pixels as
        published. Correlations do not see how strong a map is, and SSIM, scaled so, neither.

    Returns
    -------
    ndarray float64 [...]
        From -1 to 1. NaN for a correlation with a constant map.

    Raises
    ------
    ValueError
        If the kind is unknown, shapes differ, or maps are below 11 px a side for SSIM.

    References
    ----------
    Wang et al., Image quality assessment, IEEE Transactions on Image Processing 13 (2004) 600-612:
    the index and its constants. Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018:
    maps compared in these ways.

    Examples
    --------
    >>> a = np.arange(9.0).reshape(3, 3)
    >>> similarity(a, np.exp(a)).round(6), similarity(a, -a, kind="pearson").round(6)
    (np.float64(1.0), np.float64(-1.0))
    """
    if kind not in KINDS:
        raise ValueError(f"Expected a similarity among {KINDS}, got {kind!r}.")
    a, b = (
        np.asarray(m.detach().cpu() if isinstance(m, torch.Tensor) else m, float) for m in (a, b)
    )
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"Expected maps [..., H, W] of one shape, got {a.shape} and {b.shape}.")
    if kind == "ssim":
        return _ssim(a, b)
    flat = [m.reshape(*m.shape[:-2], -1) for m in (a, b)]
    if kind == "spearman":
        from scipy.stats import rankdata

        flat = [rankdata(m, axis=-1) for m in flat]
    centred = [m - m.mean(-1, keepdims=True) for m in flat]
    spread = [np.sqrt((m**2).sum(-1)) for m in centred]
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((centred[0] * centred[1]).sum(-1) / (spread[0] * spread[1]))[()]


def _ssim(a: NDArray, b: NDArray) -> NDArray:
    from scipy.ndimage import gaussian_filter

    if min(a.shape[-2:]) < 11:
        raise ValueError(
            f"Expected maps of at least 11 px a side for SSIM, got {a.shape[-2:]}. Enlarge them: "
            "chexlib.interpret.upsample."
        )
    a, b = (_unit(m) for m in (a, b))

    def mean(values: NDArray) -> NDArray:
        sigma = (0,) * (values.ndim - 2) + (1.5, 1.5)
        return gaussian_filter(values, sigma, truncate=3.5)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    shared = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    index = ((2 * mean_a * mean_b + c1) * (2 * shared + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    # As published: only where the window of 11 px fits into the map.
    return index[..., 5:-5, 5:-5].mean((-2, -1))[()]


def _unit(maps: NDArray) -> NDArray:
    low, high = maps.min((-2, -1), keepdims=True), maps.max((-2, -1), keepdims=True)
    width = high - low
    return (maps - low) / np.where(width > 0, width, 1)
