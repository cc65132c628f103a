"""Images a second of the phantom, one core: fresh patients, follow-ups, and with findings."""

from __future__ import annotations

import statistics
import time

import cv2
import numpy as np

from chexlib.data.phantom import Film, render
from chexlib.findings import FINDINGS

REPEATS, COUNT = 5, 60


def _films(kind: str, start: int) -> list[Film]:
    rng = np.random.default_rng(start)
    films = []
    for k in range(COUNT):
        names = rng.choice(FINDINGS, 2, replace=False) if kind == "two findings" else ()
        patient, follow_up = (start + k, 0) if kind != "follow-ups" else (start, k)
        severity = {str(name): float(rng.uniform(0.2, 1)) for name in names}
        view = "AP" if k % 3 == 0 else "PA"
        films.append(Film(patient=patient, follow_up=follow_up, view=view, severity=severity))
    return films


def main() -> None:
    """Print a table of images a second; the median of interleaved repeats."""
    cv2.setNumThreads(1)
    for film in _films("two findings", 1):  # textures are made once
        render(film)
    kinds = ("healthy, fresh patients", "follow-ups", "two findings")
    rates: dict[tuple[str, int], list[float]] = {}
    for repeat in range(REPEATS):
        for kind in kinds:
            for size in (64, 128, 256):
                films = _films(kind, 1000 * (repeat + 1))
                start = time.perf_counter()
                for film in films:
                    render(film, size=size)
                rates.setdefault((kind, size), []).append(COUNT / (time.perf_counter() - start))
    print(f"{'images/s, one core':26}{'64 px':>8}{'128 px':>8}{'256 px':>8}")
    for kind in kinds:
        row = "".join(f"{statistics.median(rates[kind, size]):8.0f}" for size in (64, 128, 256))
        print(f"{kind:26}{row}")


if __name__ == "__main__":
    main()
