"""CheXNet on ChestX-ray14, re-examined: labels, metrics and figures behind the CheXNet book.

Importing :mod:`chexlib` loads nothing heavy and fetches nothing. Start with
:func:`chexlib.data.load_labels`. Not for clinical use.
"""

from importlib.metadata import version

__version__ = version("chexlib")
