"""Simulated chest radiographs with known truth, for everybody without the 42 GB."""

from chexlib.data.phantom.film import DEVICES, VERSION, Film, Rendering
from chexlib.data.phantom.population import (
    PhantomSource,
    Shortcut,
    boxes_of,
    films_of,
    noise_rates,
    noisy_labels,
    population,
)
from chexlib.data.phantom.render import render

__all__ = [
    "DEVICES",
    "VERSION",
    "Film",
    "PhantomSource",
    "Rendering",
    "Shortcut",
    "boxes_of",
    "films_of",
    "noise_rates",
    "noisy_labels",
    "population",
    "render",
]
