"""Recipes: everything that decides a training run, as plain values.

What a paper or a repository did not say is this project's choice, and its comment says so.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chexlib.data.dataset import Dataset

from chexlib.data.cache import LARGEST

LEAST = {"plateau_patience": 0, "seed": 0}  # of whole numbers; the others begin at 1
MOST = {"cache_size": LARGEST, "size": LARGEST}
SAID: dict[Any, str] = {
    float: "as a number",
    bool: "true or false",
    dict: "as a dict",
    str: "as text",
    "weights": "as imagenet, the folder of a run, a file, or null",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run, but for the machine it runs on.

    Parameters
    ----------
    name, about : str
        What it is called, and where its values are from.
    dataset : {"phantom", "chest-xray14", "own", "given"}
        *own*: a file of labels and a folder of films. *given*: what was handed to
        :func:`chexlib.training.fit`; see :meth:`on_given_data`.
    data_options : dict
        For :func:`chexlib.data.open_dataset`; of the phantom: patients, noise of labels, shortcuts.
        Of one's own films: ``labels`` and ``images``, their paths, and what else
        :func:`chexlib.data.own_data` takes; its seed is the recipe's unless it is here.
    cache_size, size : int
        Pixels a side of the image cache, and of the network's input.
    fit : {"squash", "pad"}
        How a film that is no square becomes one.
    arch, growth_rate
        As for :class:`chexlib.models.CheXNet`.
    weights : str, optional
        From where training starts, instead of random weights: ``imagenet`` or a file of ImageNet's
        weights (see ``CheXNet.from_imagenet``), the folder of a run, or any file of
        :func:`chexlib.models.load_checkpoint`. The head is random but for findings that both have.
    freeze : bool
        The head alone learns; the body, with the statistics of its normalisation, stays as it was.
    body_rate : float
        Learning rate of the body as a share of the head's.
    loss, loss_options
        As for :func:`chexlib.training.make_loss`.
    augment : {"none", "chexnet", "inception", "positioning"}
        A method of :class:`chexlib.data.Augment`.
    augment_validation : bool
        Validation films are augmented as training films are. No reason to; one repository did.
    batch_size : int
        Films that go through the network together, over all processes.
    accumulate : int
        Batches whose gradients, averaged, make a step; at the end of an epoch, those that are left.
    optimizer, learning_rate, weight_decay, momentum
        ``adam`` with betas ``momentum`` and 0.999; ``adamw`` decouples the decay; ``sgd``.
    schedule : {"constant", "plateau", "one-cycle"}
        *plateau*: a tenth when the validation loss has not fallen for more than
        ``plateau_patience`` epochs. *one-cycle*: up to the learning rate in the first fifth of all
        steps, then down to nothing, while the momentum goes from 0.95 to 0.85 and back (Smith and
        Topin, arXiv:1708.07120).
    epochs : int
        At most.
    patience : int, optional
        End after so many epochs without a better one; never by default.
    keep : {"lowest loss", "highest auroc", "last"}
        Which epoch's weights are the result, by the validation films.
    ten_crop : bool
        Test by the mean probability of ten crops instead of the whole film.
    precision, channels_last, compile
        ``auto``: on a GPU bf16 (or fp16) mixed, channels last and compiled; float32 and not
        compiled on a CPU.
    sync_batchnorm : bool
        Normalise over the films of all processes: on GPUs only.
    seed : int
        Of weights, order and augmentation.

    Raises
    ------
    ValueError
        If a value is not among those known, or outside its range.
    """

    name: str
    about: str = ""
    dataset: Literal["phantom", "chest-xray14", "own", "given"] = "phantom"
    data_options: dict[str, Any] = field(default_factory=dict)
    cache_size: int = 256
    size: int = 224
    fit: Literal["squash", "pad"] = "squash"
    arch: str = "densenet121"
    growth_rate: int | None = None
    weights: str | None = None
    freeze: bool = False
    body_rate: float = 1.0
    loss: Literal["bce", "weighted-bce", "focal", "asymmetric", "smoothed-bce", "corrected-bce"] = (
        "bce"
    )
    loss_options: dict[str, Any] = field(default_factory=dict)
    augment: Literal["none", "chexnet", "inception", "positioning"] = "chexnet"
    augment_validation: bool = False
    batch_size: int = 16
    accumulate: int = 1
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: Literal["constant", "plateau", "one-cycle"] = "plateau"
    plateau_patience: int = 0
    epochs: int = 10
    patience: int | None = None
    keep: Literal["lowest loss", "highest auroc", "last"] = "lowest loss"
    ten_crop: bool = False
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    channels_last: Literal["auto", True, False] = "auto"
    compile: Literal["auto", True, False] = "auto"
    sync_batchnorm: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value, options = getattr(self, name), get_args(hint)
            kind = dict if get_origin(hint) is dict else (options or (hint,))[0]
            if get_origin(hint) is Literal:
                said, fits = f"among {options}", value in options
            elif kind is int:
                least, most = LEAST.get(name, 1), MOST.get(name, math.inf)
                said = (
                    f"as a whole number from {least} {'up' if most == math.inf else f'to {most}'}"
                )
                fits = type(value) is int and least <= value <= most
            else:
                said = SAID.get(name, SAID[kind])
                kinds = (int, float) if kind is float else kind
                fits = isinstance(value, kinds) and isinstance(value, bool) == (kind is bool)
            if not fits and not (value is None and NoneType in options):
                raise ValueError(f"Expected {name} {said}, got {value!r}.")
        # A value that another one makes meaningless is refused, not passed over.
        own = self.dataset in ("own", "given")
        cycles = self.schedule == "one-cycle"
        narrow = self.growth_rate not in (None, 32)
        for said, fits in {
            "learning_rate above 0": 0 < self.learning_rate < math.inf,
            "weight_decay from 0 up": 0 <= self.weight_decay < math.inf,
            "body_rate above 0": 0 < self.body_rate < math.inf,
            "body_rate 1 with freeze": self.body_rate == 1 or not self.freeze,
            "freeze with weights to start from": self.weights or not self.freeze,
            "momentum from 0 to below 1": 0 <= self.momentum < 1,
            "momentum 0.9 with one-cycle, which moves it": self.momentum == 0.9 or not cycles,
            "growth_rate null with ImageNet's weights": not (narrow and self.weights == "imagenet"),
            "fit=squash of films that are squares": self.fit == "squash" or own,
        }.items():
            if not fits:
                name = re.match(r"\w+", said)[0]
                raise ValueError(f"Expected {said}, got {name}={getattr(self, name)!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain Python, for JSON."""
        return json.loads(json.dumps(asdict(self)))

    def differences(self, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """Return by name what another recipe has and what this one has, where they differ.

        What they say about themselves does not count.
        """
        theirs = other.to_dict()
        return {
            name: (theirs[name], value)
            for name, value in self.to_dict().items()
            if name != "about" and value != theirs[name]
        }

    def on_given_data(self) -> Recipe:
        """Return the recipe without what it says of its data: a run on other films is of them."""
        if self.dataset == "given":
            return self
        about = (
            f"The values of {self.name}, on films that were given to fit: environment.json and the "
            "weights describe them."
        )
        return replace(self, dataset="given", data_options={}, about=about)

    def with_values(self, values: Iterable[str] = (), **named: Any) -> Recipe:
        """Return a recipe with other values.

        Parameters
        ----------
        values : iterable of str
            ``name=value`` as on a command line; the value is read as JSON, and as text where that
            fails. A dict's entry is ``loss_options.gamma=1``.
        **named
            The same from Python.

        Raises
        ------
        ValueError
            If a name is unknown or a value does not fit.

        Examples
        --------
        >>> recipe = RECIPES["phantom-cpu"].with_values(["epochs=2", "loss=focal"], seed=3)
        >>> recipe.epochs, recipe.loss, recipe.seed
        (2, 'focal', 3)
        """
        known = {f.name: f.type for f in fields(self)}
        changed: dict[str, Any] = dict(named)
        for text in values:
            name, equals, value = text.partition("=")
            try:
                parsed = json.loads(value)
            except json.JSONDecodeError:
                parsed = value
            name, _, entry = name.strip().partition(".")
            if not equals or name not in known or (entry and "dict" not in known[name]):
                raise ValueError(
                    f"Expected NAME=VALUE with a name among {', '.join(known)}, got {text!r}."
                )
            if entry:
                parsed = {**changed.get(name, getattr(self, name)), entry: parsed}
            changed[name] = parsed
        unknown = set(changed) - set(known)
        if unknown:
            raise ValueError(f"Expected names among {', '.join(known)}, got {sorted(unknown)}.")
        if changed.get("dataset") == "own":
            changed.setdefault("about", f"The values of {self.name}, on films of one's own.")
        return replace(self, **changed)


def data_options(recipe: Recipe) -> dict[str, Any]:
    """Return the options of :func:`chexlib.data.open_dataset` that a recipe's JSON stands for.

    Of one's own films, those of :func:`chexlib.data.own_data`.
    """
    options = {"size": recipe.cache_size, **recipe.data_options}
    if recipe.dataset == "own":
        options = {"fit": recipe.fit, "seed": recipe.seed, **options}
    if isinstance(options.get("shortcut"), dict):
        from chexlib.data.phantom import Shortcut

        try:
            options["shortcut"] = Shortcut(**options["shortcut"])
        except TypeError as error:
            raise ValueError(
                f"Expected a shortcut of finding, cue, with_finding and without, got "
                f"{options['shortcut']}: {error}."
            ) from error
    return options


def open_data(
    recipe: Recipe, *, progress: Callable[..., object] = lambda *_: None
) -> dict[str, Dataset]:
    """Open the films that a recipe names: ``train``, ``val`` and ``test``.

    Parameters
    ----------
    recipe : Recipe
    progress : callable, optional
        Called with what is done, and the numbers of films done, of all, and of rejected ones:
        while films are simulated, or decoded, where nobody has asked for them before.

    Raises
    ------
    ValueError, FileNotFoundError
        As for :func:`chexlib.data.open_dataset` and :func:`chexlib.data.own_data`.
    """
    from chexlib.data import open_dataset, own_data

    options = data_options(recipe)
    if recipe.dataset != "own":
        each = {
            split: partial(progress, f"simulated, {split}") for split in ("train", "val", "test")
        }
        return {s: open_dataset(recipe.dataset, s, progress=each[s], **options) for s in each}
    try:
        data = own_data(**options, progress=partial(progress, "decoded"))
    except TypeError as error:
        raise ValueError(f"Expected options of own_data, got {options}: {error}.") from error
    for split, films in data.items():
        object.__setattr__(films, "opened", {"name": "own", "split": split, **options})
    return data


_ALL = (
    Recipe(
        name="chexnet-paper",
        about="Rajpurkar et al., arXiv:1711.05225 v3, the 14-finding network; epochs, split and "
        "patience of the plateau are this project's, since the paper does not give them.",
        dataset="chest-xray14",
        weights="imagenet",
        epochs=20,
        plateau_patience=0,
    ),
    Recipe(
        name="zoogzog",
        about="zoogzog/chexnet, Main.py and ChexnetTrainer.py; the split is NIH's own.",
        dataset="chest-xray14",
        weights="imagenet",
        augment="inception",
        augment_validation=True,
        learning_rate=1e-4,
        weight_decay=1e-5,
        plateau_patience=5,
        epochs=100,
        ten_crop=True,
    ),
    Recipe(
        name="phantom-cpu",
        about="A narrow DenseNet-121 on simulated films, for two cores and ten minutes.",
        cache_size=112,
        size=112,
        growth_rate=12,
        batch_size=32,
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=1e-4,
        schedule="one-cycle",
        epochs=3,
        keep="last",
        channels_last=True,
    ),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
"""Recipes by name: the paper's, the most copied repository's, and the book's own."""
