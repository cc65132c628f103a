"""What every method needs of a network: its evaluation mode, and findings as rows of the head."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from chexlib.findings import FINDINGS, normalise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

__all__ = ["evaluating", "rows_of"]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Use a network as for testing, with constant parameters; afterwards it is as it was.

    Batch normalisation then uses the statistics of training and does not change them, and a
    gradient with respect to an image does not pay for those of seven million parameters.
    """
    was_training = model.training
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in learns:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learns:
            parameter.requires_grad_(True)
        model.train(was_training)


def rows_of(findings: str | Sequence[str] | None) -> list[int]:
    """Return the rows of the head that findings have; all 14 for None.

    Raises
    ------
    ValueError
        If a name is unknown, or there is none.

    Examples
    --------
    >>> rows_of(["mass", "Infiltrate"]), rows_of("Hernia"), len(rows_of(None))
    ([4, 3], [13], 14)
    """
    if findings is None:
        return list(range(len(FINDINGS)))
    names = [findings] if isinstance(findings, str) else list(findings)
    if not names:
        raise ValueError("Expected at least one finding, got none. Leave it out for all 14.")
    return [FINDINGS.index(normalise(name)) for name in names]
