"""Write `phantom_reference.npz`, the films that the phantom is known by.

Run it after the phantom's films were changed on purpose. The first digits of the file's SHA-256
are :data:`chexlib.data.phantom.VERSION`, which caches and tables of simulated films name. A test
renders the films again, so that a change that nobody meant is noticed.
"""

from __future__ import annotations

import dataclasses
import json
from itertools import cycle

import numpy as np

from chexlib.data.phantom import DEVICES, Film, render
from chexlib.data.phantom.film import REFERENCE
from chexlib.findings import FINDINGS


def films() -> list[tuple[Film, int]]:
    """Return films and their sizes: each finding faint and gross, both views, every device."""
    people = cycle([("PA", "M", 34), ("AP", "F", 71), ("PA", "F", 52), ("AP", "M", 88)])
    chosen: list[tuple[Film, int]] = []
    for k, name in enumerate(FINDINGS):
        view, sex, age = next(people)
        # A second finding of half the strength: signs overlap, and what they do there counts.
        other = FINDINGS[(k + 5) % len(FINDINGS)]
        severity = {name: (0.2, 1.0)[k % 2], other: 0.5}
        devices = frozenset({DEVICES[k % len(DEVICES)]})
        film = Film(100 + k, k % 3, view=view, sex=sex, age=age, severity=severity, devices=devices)
        chosen.append((film, 112))
    healthy = [Film(200 + k, view=view) for k, view in enumerate(("PA", "AP"))]
    crowded = Film(
        300, view="AP", severity=dict.fromkeys(FINDINGS, 0.6), devices=frozenset(DEVICES)
    )
    return [*chosen, *((film, size) for film in healthy for size in (64, 112)), (crowded, 224)]


def main() -> None:
    """Render the films and write them with their masks."""
    arrays: dict[str, np.ndarray] = {}
    said = []
    for k, (film, size) in enumerate(films()):
        shown = render(film, size=size)
        fields = {f.name: getattr(film, f.name) for f in dataclasses.fields(film)}
        fields |= {"severity": dict(film.severity), "devices": sorted(film.devices)}
        said.append({"film": fields, "size": size, "masks": list(shown.masks)})
        arrays[f"image{k}"] = shown.image
        arrays[f"masks{k}"] = np.packbits(np.array([*shown.masks.values()], bool))
    text = json.dumps(said).encode()
    np.savez_compressed(REFERENCE, films=np.frombuffer(text, np.uint8), **arrays)
    print(f"{REFERENCE.name}: {len(said)} films, {REFERENCE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
