"""Localisation accuracies of the network for eight labels, as Wang et al. published them."""

from __future__ import annotations

import pandas as pd

__all__ = ["published_localization"]

_FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
_ACCURACY = {
    "IoBB > 0.1": (0.728, 0.993, 0.712, 0.789, 0.435, 0.165, 0.750, 0.459),
    "IoBB > 0.25": (0.550, 0.979, 0.542, 0.577, 0.282, 0.051, 0.558, 0.347),
    "IoBB > 0.5": (0.283, 0.877, 0.333, 0.423, 0.141, 0.013, 0.383, 0.184),
    "IoU > 0.1": (0.689, 0.938, 0.660, 0.707, 0.400, 0.139, 0.633, 0.378),
    "IoU > 0.3": (0.244, 0.459, 0.301, 0.276, 0.153, 0.038, 0.167, 0.133),
    "IoU > 0.5": (0.050, 0.178, 0.111, 0.065, 0.012, 0.013, 0.033, 0.031),
}


def published_localization() -> pd.DataFrame:
    """Return the accuracies of ChestX-ray8's network, on the boxes that one radiologist drew.

    The network for 14 labels is in another table of the same paper (Table 19), which is not here.
    Accuracy is all that is returned: the paper prints false positives beside it, and a map that
    draws many boxes passes the accuracy alone.

    Returns
    -------
    DataFrame
        ``finding``, ``metric`` (named as in :data:`chexlib.interpret.METRICS`), ``estimate``. No
        intervals were published.

    References
    ----------
    Wang et al., ChestX-ray8, arXiv:1705.02315 v5, Tables 4 and 7. IoBB there is the intersection
    over the detected box.

    Examples
    --------
    >>> table = published_localization()
    >>> table[(table["finding"] == "Nodule") & (table["metric"] == "IoU > 0.1")]["estimate"].item()
    0.139
    """
    return pd.DataFrame(
        [
            (finding, metric, value)
            for metric, values in _ACCURACY.items()
            for finding, value in zip(_FINDINGS, values, strict=True)
        ],
        columns=["finding", "metric", "estimate"],
    )
