"""Random changes of a film that depend on (seed, epoch, row) alone.

Every random number here is a hash of what it is for: seed, epoch, row of the cache, and which of
the film's parameters. A generator such as ``torch.Generator`` is a sequence instead: what a film
gets depends on how many numbers the films before it took, so another batch size, worker or rank,
or a run resumed in the middle, changes everything; and its sequences on CPU and GPU differ. With a
counter-based hash, two ranks with half batches see what one rank sees, and resuming needs no
state.

Reference: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011 (counter-based
generators); Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014
(the mixing function).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Each parameter has a number of its own, so that turning one on leaves the draws of the others as
# they were.
FLIP, ANGLE, SHIFT_X, SHIFT_Y, SCALE, AREA, ASPECT, LEFT, TOP, BRIGHTNESS, CONTRAST = range(11)
N_PARAMETERS = 11
ORDER = 63

MOST = {
    "flip": 1, "degrees": 180, "translate": 0.999, "scale": 9, "aspect": 10, "brightness": 1,
    "contrast": 9,
}  # fmt: skip
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """Return the finaliser of splitmix64: a bijection, in which every bit moves every bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniforms(seed: int, epoch: int, items: ArrayLike, parameters: ArrayLike) -> np.ndarray:
    """Return random numbers that are a pure function of their coordinates.

    Parameters
    ----------
    seed, epoch : int
        From 0 up.
    items : array_like of int [n]
        Rows of a cache, from 0 up.
    parameters : array_like of int [k]
        Which random number of an item.

    Returns
    -------
    ndarray float64 [n, k]
        In [0, 1), with 53 random bits.

    Raises
    ------
    ValueError
        If the seed or the epoch is not an int from 0 up.

    Examples
    --------
    >>> a = uniforms(0, 3, [5, 7, 9], [0])
    >>> bool((uniforms(0, 3, [9, 5], [0, 1])[:, 0] == a[[2, 0], 0]).all())
    True
    """
    state = np.zeros(1, np.uint64)
    for name, value in (("seed", seed), ("epoch", epoch)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise ValueError(f"Expected the {name} as an int from 0 up, got {value!r}.")
        state = _mix(state + GOLDEN * (np.full(1, int(value) % 2**64, np.uint64) + np.uint64(1)))
    for coordinates in (np.asarray(items)[:, None], np.asarray(parameters)[None, :]):
        state = _mix(state + GOLDEN * (coordinates.astype(np.uint64) + np.uint64(1)))
    return (state >> np.uint64(11)) * 2.0**-53


def random_order(n: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return a permutation of ``range(n)``, int64, that is a pure function of its arguments."""
    return np.argsort(uniforms(seed, epoch, np.arange(n), [ORDER])[:, 0], kind="stable")


@dataclass(frozen=True)
class Draw:
    """What happens to each film of a batch.

    Attributes
    ----------
    flip : bool ndarray [B]
        Left and right exchanged.
    matrix : float64 ndarray [B, 2, 3] or None
        Where a point of the output is found in the film, flip included: both in coordinates from
        -1 to 1 (x to the right, y down), as ``torch.nn.functional.grid_sample`` has them with
        ``align_corners=False``. None where no film is moved.
    gain, bias : float64 ndarray [B] or None
        The new grey value is ``gain * (value - 127.5) + 127.5 + bias``. None where none is changed.
    """

    flip: np.ndarray
    matrix: np.ndarray | None
    gain: np.ndarray | None
    bias: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Which random changes are made, and how large they may be.

    Every change is uniform in its range. A film is rotated, scaled and shifted, then cropped, then
    flipped, in one resampling. What comes from outside the film is black. Labels do not change: no
    finding of ChestX-ray14 has a side.

    Parameters
    ----------
    flip : float
        Probability of exchanging left and right.
    degrees : float
        Largest rotation about the centre, either way; 0 to 180.
    translate : float
        Largest shift in each direction, as a share of the side; 0 to below 1.
    scale : float
        Largest relative change of size: 0.1 is from 1/1.1 to 1.1, uniform in its logarithm.
    crop : (float, float), optional
        Random resized crop: smallest and largest share of the area that is kept, above 0 to 1.
    aspect : float
        Largest ratio of the sides of the crop, from 1 up, uniform in its logarithm; narrowed where
        such a crop would not fit into the film.
    brightness : float
        Largest change of grey, as a share of the full range; 0 to 1.
    contrast : float
        Largest relative change of contrast about mid-grey: 0.1 is from 1/1.1 to 1.1. After both,
        what would be darker than black is black, and what would be lighter than white is white.

    Raises
    ------
    ValueError
        If a value is outside its range.

    Examples
    --------
    >>> Augment.chexnet()
    Augment(flip=0.5, degrees=0.0, translate=0.0, scale=0.0, crop=None, ...)
    >>> Augment.chexnet().draw([4, 8, 15], seed=0, epoch=0).flip.shape
    (3,)
    """

    flip: float = 0.0
    degrees: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    crop: tuple[float, float] | None = None
    aspect: float = 4 / 3
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        for name, high in MOST.items():
            low, value = int(name == "aspect"), getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"Expected {name} from {low} to {high}, got {value!r}.")
        if self.crop is not None:
            low, high = self.crop
            if not 0 < low <= high <= 1:
                raise ValueError(
                    "Expected crop as the smallest and the largest share of the area, "
                    f"0 < smallest <= largest <= 1, got {self.crop!r}."
                )

    @classmethod
    def none(cls) -> Augment:
        """Return no change at all: for validation and test films."""
        return cls()

    @classmethod
    def chexnet(cls) -> Augment:
        """Return horizontal flips, all that the CheXNet paper (arXiv:1711.05225) names."""
        return cls(flip=0.5)

    @classmethod
    def inception(cls) -> Augment:
        """Return flips and crops of 8% to 100% of the area, torchvision's default for ImageNet."""
        return cls(flip=0.5, crop=(0.08, 1.0))

    @classmethod
    def positioning(cls) -> Augment:
        """Return flips, and changes as small as another radiographer or exposure would make."""
        return cls(flip=0.5, degrees=7, translate=0.05, scale=0.1, brightness=0.05, contrast=0.1)

    @property
    def smallest_side(self) -> float:
        """The shortest side of a crop, as a share of the film's."""
        return math.sqrt(self.crop[0] / self.aspect) if self.crop else 1.0

    def draw(self, rows: ArrayLike, *, seed: int, epoch: int) -> Draw:
        """Return what happens to the films of these rows.

        Parameters
        ----------
        rows : array_like of int [B]
            Rows of the cache: the same row gets the same change in whatever company.
        seed, epoch : int
            From 0 up.

        Returns
        -------
        Draw
        """
        u = uniforms(seed, epoch, rows, range(N_PARAMETERS)).T
        spread = 2 * u - 1  # in [-1, 1)
        flip, matrix, gain, bias = u[FLIP] < self.flip, None, None, None
        if self.degrees or self.translate or self.scale or self.crop:
            matrix = self._matrix(u, spread, flip)
        if self.brightness or self.contrast:
            gain = (1 + self.contrast) ** spread[CONTRAST]
            bias = 255 * self.brightness * spread[BRIGHTNESS]
        return Draw(flip, matrix, gain, bias)

    def _matrix(self, u: np.ndarray, spread: np.ndarray, flip: np.ndarray) -> np.ndarray:
        width, height = np.ones_like(u[:2])
        if self.crop:
            area = self.crop[0] + (self.crop[1] - self.crop[0]) * u[AREA]
            # |log ratio| <= -log(area) is what fits: the area is then exact, and nothing is tried
            # twice.
            ratio = np.exp(spread[ASPECT] * np.minimum(math.log(self.aspect), -np.log(area)))
            width, height = np.sqrt(area * ratio), np.sqrt(area / ratio)
        # Output -> crop: a box of the film's coordinates; its x axis is turned round by a flip.
        centre_x = (2 * u[LEFT] - 1) * (1 - width)
        centre_y = (2 * u[TOP] - 1) * (1 - height)
        across = np.where(flip, -width, width)
        # Crop -> film: shift, rotation and scale undone.
        angle = np.deg2rad(self.degrees * spread[ANGLE])
        size = (1 + self.scale) ** spread[SCALE]
        cos, sin = np.cos(angle) / size, np.sin(angle) / size
        x = centre_x - 2 * self.translate * spread[SHIFT_X]
        y = centre_y - 2 * self.translate * spread[SHIFT_Y]
        return np.stack(
            [
                np.stack([cos * across, -sin * height, cos * x - sin * y], axis=-1),
                np.stack([sin * across, cos * height, sin * x + cos * y], axis=-1),
            ],
            axis=-2,
        )
