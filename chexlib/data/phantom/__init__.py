"""Simulated chest radiographs with known truth, for everybody without the 42 GB."""

from chexlib.data.phantom.film import DEVICES, Film, Rendering
from chexlib.data.phantom.noise import noise_rates, noisy_labels
from chexlib.data.phantom.population import Shortcut, films_of, population
from chexlib.data.phantom.reference import VERSION
from chexlib.data.phantom.render import render
from chexlib.data.phantom.source import PhantomSource, boxes_of

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
