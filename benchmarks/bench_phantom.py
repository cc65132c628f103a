"""Images a second of the phantom, one core: healthy, with findings, and as data sets draw them.

The time is the processor's (``time.process_time``), so that other work on the machine takes little
from it.
"""

from __future__ import annotations

import statistics
import time

import cv2
import numpy as np

from chexlib.data.phantom import Film, films_of, population, render
from chexlib.findings import FINDINGS

REPEATS, COUNT = 5, 60
SIZES = (64, 128, 256)
DRAWN = {"as drawn, NIH's prevalence": "nih", "as drawn, enriched": "enriched"}


def _films(kind: str, start: int) -> list[Film]:
    if kind in DRAWN:
        return films_of(population(COUNT, first=start, prevalence=DRAWN[kind], max_films=1))
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
    kinds = ("healthy, fresh patients", "follow-ups", "two findings", *DRAWN)
    rates: dict[tuple[str, int], list[float]] = {}
    for repeat in range(REPEATS):
        for kind in kinds:
            for size in SIZES:
                films = _films(kind, 1000 * (repeat + 1))
                start = time.process_time()
                for film in films:
                    render(film, size=size)
                rates.setdefault((kind, size), []).append(COUNT / (time.process_time() - start))
    print(f"{'images/s, one core':28}" + "".join(f"{size:5} px" for size in SIZES))
    for kind in kinds:
        row = "".join(f"{statistics.median(rates[kind, size]):8.0f}" for size in SIZES)
        print(f"{kind:28}{row}")


if __name__ == "__main__":
    main()
