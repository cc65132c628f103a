"""One bar for a whole run: films, films a second, the time left, the last validation."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytorch_lightning import Trainer

    from chexlib.training.module import Training

__all__ = ["FilmsBar", "judging_bar"]


class FilmsBar(ProgressBar):
    """A bar over all epochs, on the standard error of the first process.

    Speed and the time left are those of the run as a whole, validation included; what an earlier
    call trained counts as done, not as fast.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enabled, self.bar = True, None

    def disable(self) -> None:
        """Show nothing; asked of every process but the first."""
        self.enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self.enabled = True

    def on_train_start(self, trainer: Trainer, module: Training) -> None:
        """Open the bar where the run stands."""
        films, steps = module.recipe.batch_size, int(trainer.num_training_batches)
        self.bar = Tqdm(
            total=trainer.max_epochs * steps * films,
            initial=trainer.global_step * films,
            unit="film",
            disable=not self.enabled,
            dynamic_ncols=True,
            mininterval=0.1 if _is_watched() else 30,
            smoothing=0,
            bar_format="{desc} {bar} {n_fmt}/{total_fmt} films "
            "[{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]",
        )
        self._say(trainer, module)

    def on_train_epoch_start(self, trainer: Trainer, module: Training) -> None:
        """Say which epoch it is."""
        self._say(trainer, module)

    def on_train_batch_end(
        self, _trainer: Trainer, module: Training, _outputs: Any, _batch: Any, _batch_idx: int
    ) -> None:
        """Go on by a batch."""
        if self.bar is not None:
            self.bar.update(module.recipe.batch_size)

    def on_validation_start(self, trainer: Trainer, module: Training) -> None:
        """Say why the bar stands still."""
        self._say(trainer, module, "validating")

    def on_train_end(self, trainer: Trainer, module: Training) -> None:
        """Show the last validation, and leave the bar."""
        self._say(trainer, module, "done")
        self._close()

    def on_exception(self, _trainer: Trainer, _module: Training, _error: BaseException) -> None:
        """Leave the bar where it stopped."""
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _say(self, trainer: Trainer, module: Training, what: str = "") -> None:
        if self.bar is None:
            return
        epoch = min(trainer.current_epoch + 1, trainer.max_epochs)
        text = f"epoch {epoch}/{trainer.max_epochs}"
        self.bar.set_description_str(f"{text} {what}".rstrip(), refresh=False)
        if module.history:
            last = module.history[-1]
            loss, area = last["val_loss"], last["val_auroc"]
            self.bar.set_postfix_str(f"val loss {loss:.4f}, AUROC {area:.3f}", refresh=False)
        self.bar.refresh()


def _is_watched() -> bool:
    """Return whether somebody looks on: a file of a batch system need not hold every step."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextmanager
def judging_bar() -> Iterator[Callable[[int, int], None]]:
    """Give what to call with the numbers of films judged and of all."""
    with Tqdm(
        desc="judging",
        unit="film",
        leave=False,
        dynamic_ncols=True,
        bar_format="{desc} {bar} {n_fmt}/{total_fmt} films [{elapsed}<{remaining}]",
    ) as bar:

        def step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield step
        bar.refresh()  # the last number, however soon after the one before
