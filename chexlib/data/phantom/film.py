"""One simulated film: what it should show, and the picture with its truth.

The phantom is known by films that were rendered once and are committed. A comment, or code that
moves, changes nothing there; a film that looks different does, once ``python
data/phantom_reference.py`` has written the file again. Processors and library versions differ in
the last bit, so films are compared, not hashed: a test allows one grey level, and 0.1% of pixels
beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

import numpy as np

from chexlib.data.tables import table_folder
from chexlib.files import sha256
from chexlib.findings import FINDINGS, normalise

__all__ = ["DEVICES", "REFERENCE", "VERSION", "Film", "Rendering"]

REFERENCE = table_folder() / "phantom_reference.npz"
VERSION = sha256(REFERENCE)[:12]
"""Names the phantom in tables and in the folders of caches: of the file's SHA-256."""

DEVICES = (
    "marker",  # the side letter that radiographers put on the cassette
    "tube",  # endotracheal
    "line",  # central venous
    "nasogastric",
    "leads",  # ECG
    "drain",  # chest tube
    "pacemaker",
    "wires",  # sternal, after heart surgery
)


@dataclass(frozen=True)
class Film:
    """What a simulated frontal film is to show.

    Parameters
    ----------
    patient : int
        Seeds the anatomy: the same patient has the same bones, and lesions at the same places.
    follow_up : int
        Seeds positioning, inspiration, exposure and noise.
    view : {"PA", "AP"}
    sex : {"M", "F"}
    age : int
        Years, 16 to 100. Children are not simulated.
    severity : mapping of finding to float
        In (0, 1]; 0.1 is subtle, 1 is gross. A finding that is not named is not there.
    devices : frozenset of str
        A subset of ``DEVICES``.
    seed : int
        Seeds the population, so that two populations share no patient.

    Raises
    ------
    ValueError
        If a value is outside its range.
    """

    patient: int
    follow_up: int = 0
    view: str = "PA"
    sex: str = "M"
    age: int = 55
    severity: Mapping[str, float] = field(default_factory=dict)
    devices: frozenset[str] = frozenset()
    seed: int = 0

    def __post_init__(self) -> None:
        where = f"in the film of patient {self.patient}, follow-up {self.follow_up}"
        if self.view not in ("PA", "AP"):
            raise ValueError(f"Expected the view PA or AP {where}, got {self.view!r}.")
        if self.sex not in ("M", "F"):
            raise ValueError(f"Expected the sex M or F {where}, got {self.sex!r}.")
        if not 16 <= self.age <= 100:
            raise ValueError(
                f"Expected an age from 16 to 100 {where}, got {self.age}. "
                "The phantom has no children."
            )
        if min(self.patient, self.follow_up, self.seed) < 0:
            raise ValueError(f"Expected patient, follow_up and seed from 0 up {where}.")
        severity = {normalise(name): float(value) for name, value in self.severity.items()}
        for name, value in severity.items():
            if not 0 < value <= 1:
                raise ValueError(
                    f"Expected a severity above 0 and up to 1 for {name} {where}, got {value}. "
                    "Leave a finding out that is not there."
                )
        unknown = set(self.devices) - set(DEVICES)
        if unknown:
            raise ValueError(f"Expected devices among {DEVICES} {where}, got {sorted(unknown)}.")
        in_order = {name: severity[name] for name in FINDINGS if name in severity}
        object.__setattr__(self, "severity", MappingProxyType(in_order))
        object.__setattr__(self, "devices", frozenset(self.devices))

    def __reduce__(self) -> tuple:  # a mapping proxy cannot be pickled, a dict can
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return Film, tuple((values | {"severity": dict(self.severity)}).values())


@dataclass(frozen=True)
class Rendering:
    """A simulated film and its truth.

    Attributes
    ----------
    image : uint8 array, shape (size, size)
        Dense is bright; the patient's right side is on the image's left.
    masks : dict of finding to bool array, shape (size, size)
        Where the sign of each finding is.
    boxes : dict of finding to list of (x, y, width, height)
        Around each part of the mask, in pixels of a film of 1024 x 1024, as in NIH's box file.
    """

    image: np.ndarray
    masks: dict[str, np.ndarray]
    boxes: dict[str, list[tuple[float, float, float, float]]]
