"""A pass of a network on one core, with and without the memory of earlier layers kept.

Making a `CheXNet` on Linux tells glibc to keep what layers free, unless a MALLOC_* variable is set.
Each way is a process of its own, in turn; beside seconds stand the pages that the system had to
fault in.

Run: python benchmarks/bench_memory.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch

from chexlib.interpret import class_activation_maps
from chexlib.models import CheXNet

OFF = {"MALLOC_ARENA_MAX": "8"}  # glibc's default on one core; any such variable switches it off


def measure() -> None:
    """Print seconds and page faults of each kind of pass, as JSON."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    narrow, wide = CheXNet(growth_rate=12).eval(), CheXNet().eval()
    films = torch.rand(64, 1, 224, 224)
    labels = torch.rand(16, 14).round()

    def train() -> None:
        loss = torch.nn.functional.binary_cross_entropy_with_logits
        loss(narrow.train()(films[:16]), labels).backward()

    ways = {
        "64 films, growth 12": lambda: narrow.eval().predict_proba(films),
        "8 films, growth 32": lambda: wide.predict_proba(films[:8]),
        "maps of 16 films, growth 12": lambda: class_activation_maps(narrow.eval(), films[:16]),
        "training step, 16 films, growth 12": train,
    }
    found = {}
    for name, way in ways.items():
        way()
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(3):
            way()
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        found[name] = (time.perf_counter() - start) / 3, faults / 3
    found["peak, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 0
    print(json.dumps(found))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure()
        return
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    seen: dict[str, dict[str, list]] = {"kept": {}, "given back": {}}
    for _ in range(options.repeats):
        for way, more in (("kept", {}), ("given back", OFF)):
            command = [sys.executable, __file__, "--measure"]
            done = subprocess.run(command, env=plain | more, capture_output=True, check=True)
            for name, pair in json.loads(done.stdout).items():
                seen[way].setdefault(name, []).append(pair)
    print(
        f"{'seconds a pass, 224 px':36}{'kept':>8}{'given back':>12}{'ratio':>7}   pages faulted in"
    )
    for name, kept in seen["kept"].items():
        one, two = (
            [statistics.median(values) for values in zip(*pairs, strict=True)]
            for pairs in (kept, seen["given back"][name])
        )
        print(
            f"{name:36}{one[0]:8.2f}{two[0]:12.2f}{two[0] / one[0]:7.2f}   "
            f"{one[1]:,.0f} and {two[1]:,.0f}"
        )


if __name__ == "__main__":
    main()
