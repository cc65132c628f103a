"""Sources of films that are slow, or end their reader; run as a program, it builds a cache."""

import hashlib
import os
import sys
import time
from dataclasses import dataclass

import numpy as np

from chexlib.data.cache import ImageCache
from chexlib.data.sources import Result, batched

SIDE = 48


def film(number):
    return np.random.default_rng(number).integers(0, 255, (SIDE, SIDE), dtype=np.uint8)


@dataclass(frozen=True)
class Noise:
    """Films of noise; reading one takes a while, and some end the process."""

    count: int
    seconds: float = 0.0
    deadly: tuple[int, ...] = ()

    @property
    def names(self):
        return [f"{i:08d}_000.png" for i in range(self.count)]

    @property
    def origins(self):
        return [f"noise/{name}" for name in self.names]

    @property
    def stamps(self):
        return ["noise"] * self.count

    @property
    def patients(self):
        return list(range(self.count))

    def tasks(self, positions):
        for part in batched(positions, of=8):
            yield NoiseTask(part, self)


@dataclass(frozen=True)
class NoiseTask:
    positions: tuple[int, ...]
    source: Noise

    def __call__(self):
        for i in self.positions:
            time.sleep(self.source.seconds)
            if i in self.source.deadly:
                os._exit(9)
            pixels = film(i)
            yield Result(i, hashlib.sha256(pixels).hexdigest(), pixels, pixels.shape)


if __name__ == "__main__":
    folder, count, seconds = sys.argv[1:]
    built = ImageCache.build(Noise(int(count), float(seconds)), folder, size=32, workers=2)
    print(len(built))
