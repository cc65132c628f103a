"""Simulated chest radiographs with known truth, for everybody without the 42 GB."""

from chexlib.data.phantom.film import DEVICES, Film, Rendering
from chexlib.data.phantom.render import VERSION, render

__all__ = ["DEVICES", "VERSION", "Film", "Rendering", "render"]
