"""Lightning without its chatter."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["quiet_lightning"]

LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning_utilities")

# Warnings that say nothing to whoever asked for a run, by how they begin.
SAYS_NOTHING = (
    r".*isinstance\(treespec, LeafSpec\).* is deprecated",  # Lightning's use of torch
    r"The number of training batches .* is smaller than the logging interval",
    r"It is recommended to use `self\.log\(.*sync_dist=True",  # the values are the same on all
    r"The `srun` command is available",  # Slurm's head node, where one process is meant
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's remarks from the terminal; its warnings and errors still come through.

    Levels and filters are afterwards as they were.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(max(logging.WARNING, logger.level))
        with warnings.catch_warnings():
            for text in SAYS_NOTHING:
                warnings.filterwarnings("ignore", message=text)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
