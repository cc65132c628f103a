"""Training: recipes as data, losses, and one ``fit`` for a CPU, a GPU or many nodes.

>>> from chexlib.training import RECIPES
>>> RECIPES["chexnet-paper"].learning_rate
0.001
"""

from importlib import import_module

from chexlib.training.recipes import RECIPES, Recipe

# A recipe can be read without loading torch.
_LATER = {
    "LOSSES": "training.losses",
    "Run": "training.run",
    "fit": "training.loop",
    "make_loss": "training.losses",
    "open_run": "training.run",
    "predict": "inference",
}

__all__ = ["LOSSES", "RECIPES", "Recipe", "Run", "fit", "make_loss", "open_run", "predict"]


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"chexlib.{_LATER[name]}"), name)
