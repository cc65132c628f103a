"""Reading films in processes of their own, which may crash or be killed."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chexlib.data.radiographs import RadiographError

if TYPE_CHECKING:
    import numpy as np

    from chexlib.data.sources import Item, Source, Task

__all__ = ["LARGEST", "Result", "cores", "processes", "read_all", "resized"]

LARGEST = 2048  # pixels a side of a film in a cache; a file that asks for 100,000 asks for 10 GB
HELD = 32 * 2**20  # bytes of files that wait for each worker, beyond which none is added
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What became of one film: its pixels, shrunk, or the reason why there are none."""

    position: int
    sha256: str
    pixels: bytes = b""
    shape: tuple[int, int] | None = None  # of the source
    spacing: tuple[float, float] | None = None
    view: str | None = None
    reason: str | None = None


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return a film [H, W] as [size, size]: averaged over areas, or interpolated where it grows."""
    import cv2

    if pixels.shape == (size, size):
        return pixels
    shrinks = min(pixels.shape) >= size
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(pixels, (size, size), interpolation=way)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_all(
    source: Source, positions: Sequence[int], *, size: int, workers: int
) -> Iterator[list[Result]]:
    """Yield what became of the films of a task, one task after the other, in any order.

    A film whose reading ends the process (a decoder's crash, or memory that ran out) is rejected
    like any other bad film; with one worker, films are read in this process, which it would end.
    """
    if workers == 1:
        for task in source.tasks(positions):
            yield _run(task, size)
        return
    left = list(positions)
    while left:
        pool = _Pool(source, size, workers)
        done: set[int] = set()
        try:
            for results in pool.run(left):
                done.update(result.position for result in results)
                yield results
        except BrokenProcessPool:
            log.warning("A process that read films ended; its films are read one by one")
            suspects = [task.positions for task in pool.flying.values()]
            every = sorted(i for task in suspects for i in task)
            found = {result.position: result for result in _one_by_one(source, every, size)}
            yield from ([found[i] for i in task] for task in suspects)
            done.update(every)
            left = [i for i in left if i not in done]
        else:
            return


class _Pool:
    """Processes that run a source's tasks, and what is under way in them."""

    def __init__(self, source: Source, size: int, workers: int) -> None:
        self.source, self.size, self.workers = source, size, workers
        self.flying: dict[Future, Task] = {}

    def run(self, positions: Sequence[int]) -> Iterator[list[Result]]:
        tasks = self.source.tasks(positions)
        with processes(self.workers) as pool:
            try:
                while True:
                    while self._has_room() and self._submit(pool, tasks):
                        pass
                    if not self.flying:
                        return
                    for future in wait(self.flying, return_when=FIRST_COMPLETED).done:
                        results = future.result()
                        del self.flying[future]
                        yield results
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _has_room(self) -> bool:
        """Two tasks a worker keep it busy; more, or larger ones, would only pile up in memory."""
        held = sum(getattr(task, "n_bytes", 0) for task in self.flying.values())
        return len(self.flying) < 2 * self.workers and held < HELD * self.workers

    def _submit(self, pool: ProcessPoolExecutor, tasks: Iterator[Task]) -> bool:
        """Start the next task, where there is one, and keep no hold on it when it is done."""
        if (task := next(tasks, None)) is None:
            return False
        self.flying[pool.submit(_run, task, self.size)] = task
        return True


def _one_by_one(source: Source, suspects: list[int], size: int) -> Iterator[Result]:
    """Read films in one process, one at a time: if it ends, the film is to blame."""
    waiting = list(suspects)
    while waiting:
        with processes(1) as pool:
            for i in [*waiting]:
                (task,) = source.tasks([i])
                waiting.remove(i)
                try:
                    yield from pool.submit(_run, task, size).result()
                except BrokenProcessPool:
                    expected, found = "a file that can be decoded", "one that ends its reader"
                    do = "Copy or download it again."
                    error = RadiographError(source.origins[i], expected, found, do)
                    yield Result(i, "", reason=str(error))
                    break


def _run(task: Callable[[], Iterator[Item]], size: int) -> list[Result]:
    return [_result(item, size) for item in task()]


def _result(item: Item, size: int) -> Result:
    film = item.radiograph
    if isinstance(film, RadiographError):
        return Result(item.position, item.sha256, reason=str(film))
    pixels = resized(film.pixels, size).tobytes()
    return Result(item.position, item.sha256, pixels, film.pixels.shape, film.spacing, film.view)


GUARD = (
    'Expected a script that does its work under `if __name__ == "__main__":`, got one that does it '
    "when it is imported, as every process that helps it does first. Put the work into a function "
    '`main()`, and end the script with\n\n    if __name__ == "__main__":\n        main()\n'
)


def refuse_unguarded() -> None:
    """Raise in a child that runs its parent's script again on its way up.

    It would do what the parent does, and wait for the parent, which waits for it.

    Raises
    ------
    RuntimeError
        Naming the guard that the script lacks.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(GUARD)


def processes(count: int) -> ProcessPoolExecutor:
    """Return a pool whose workers use one core each and end with this process.

    Raises
    ------
    RuntimeError
        If they end before they have begun, as they do where a script is without a guard.
    """
    refuse_unguarded()
    # Forking would copy the locks of threads, such as torch's, in whatever state they are.
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        pool.shutdown(wait=False)
        script = getattr(sys.modules["__main__"], "__file__", None)
        raise RuntimeError(
            f"Expected processes that help this one, got ones that ended as they began; they run "
            f"{script} first. {GUARD}"
        ) from None
    return pool


def _begin() -> None:
    """Use one core, and end with the parent: after a kill a worker would wait for ever."""
    import cv2

    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
