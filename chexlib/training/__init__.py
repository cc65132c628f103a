"""Training: recipes as data, losses, and one ``fit`` for a CPU, a GPU or many nodes.

>>> from chexlib.training import RECIPES
>>> RECIPES["chexnet-paper"].learning_rate
0.001
"""

import sys
from importlib import import_module
from types import ModuleType

from chexlib.training.recipes import RECIPES, Recipe

# A recipe can be read without loading torch.
_LATER = {
    "LOSSES": "chexlib.training.losses",
    "Run": "chexlib.training.run",
    "fit": "chexlib.training.fit",
    "make_loss": "chexlib.training.losses",
    "open_run": "chexlib.training.run",
    "predict": "chexlib.training.predict",
}

__all__ = ["LOSSES", "RECIPES", "Recipe", "Run", "fit", "make_loss", "open_run", "predict"]


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LATER[name]), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """A package whose ``fit`` and ``predict`` stay the functions.

    Python binds a module to its package when it is first imported, here over the function of the
    same name.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in _LATER and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
