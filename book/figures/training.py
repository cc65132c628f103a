"""Figures of chapter 6: a DenseNet drawn from the model itself, learning curves, what seeds do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.ticker import MaxNLocator
from torch import nn

from chexlib.plots import BLUE, GREY, HATCHES, INK, ORANGE, PALETTE, PANEL, marks, panels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from chexlib.models import CheXNet

__all__ = [
    "anatomy",
    "block_inputs",
    "deviations",
    "learning_curves",
    "profile",
    "promised_and_found",
    "stages",
]


def anatomy(model: CheXNet, *, size: int = 224) -> pd.DataFrame:
    """Return what each layer with weights, and each pooling, does to an image; nothing is computed.

    Parameters
    ----------
    model : CheXNet
    size : int
        Pixels a side of the input, from 29 up.

    Returns
    -------
    DataFrame
        A row a convolution, pooling or linear layer, in the order of computation: ``layer`` (its
        name), ``stage``, ``kind``, ``channels_in``, ``channels_out``, ``held`` (channels that are
        there afterwards, concatenated ones included), ``side`` (of what it gives, in cells),
        ``field`` and ``shortest`` (pixels of the input, a side, that one cell may depend on: along
        the longest path, and along the shortest, which passes by every dense layer), ``flops``
        (a multiply and an add are two) of one image.

    References
    ----------
    Huang et al., Densely connected convolutional networks, CVPR 2017.
    """
    with torch.device("meta"):
        twin = type(model)(**model.options, findings=model.findings).to("meta").eval()
        images = torch.empty(1, 1, size, size)
    names = {module: name for name, module in twin.network.named_modules()}
    seen: list[tuple[nn.Module, torch.Size, torch.Size]] = []
    for module in names:
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.Linear)):
            module.register_forward_hook(
                lambda layer, given, out: seen.append((layer, given[0].shape, out.shape))
            )
    twin(images)
    rows, field, shortest, jump = [], 1, 1, 1
    for layer, given, out in seen:
        name, side = names[layer], out[-1] if len(out) == 4 else 1
        kernel, stride = (
            1 if isinstance(layer, nn.Linear) else np.ravel(getattr(layer, what))[0]
            for what in ("kernel_size", "stride")
        )
        field += (kernel - 1) * jump
        dense = "denselayer" in name
        shortest += 0 if dense else (kernel - 1) * jump
        jump *= stride
        weights = sum(p.numel() for p in layer.parameters() if p.ndim > 1)
        # In a dense layer the first convolution reads all that is there, the second adds to it.
        before = rows[-1]["held"] if rows else given[1]
        held = before if name.endswith("conv1") else before + out[1] if dense else out[1]
        rows.append(
            {
                "layer": name.removeprefix("features."),
                "stage": _stage(name),
                "kind": type(layer).__name__,
                "channels_in": given[1],
                "channels_out": out[1],
                "held": held,
                "side": side,
                "field": field,
                "shortest": shortest,
                "flops": 2 * weights * side**2,
            }
        )
    return pd.DataFrame(rows)


def stages(model: CheXNet, *, size: int = 224) -> pd.DataFrame:
    """Return the anatomy of a network by stage: where its layers, parameters and operations are.

    Returns
    -------
    DataFrame
        Indexed by stage: ``layers`` (with weights), ``channels`` and ``side`` of what it gives,
        ``field`` and ``shortest`` (see :func:`anatomy`), ``parameters`` (normalisation included),
        ``flops``.
    """
    rows = anatomy(model, size=size)
    counted = rows["kind"].isin(["Conv2d", "Linear"]).groupby(rows["stage"], sort=False).sum()
    last = rows.groupby("stage", sort=False)[["held", "side", "field", "shortest"]].last()
    frame = last.rename(columns={"held": "channels"})
    frame.insert(0, "layers", counted)
    sizes = pd.Series({name: p.numel() for name, p in model.network.named_parameters()})
    frame["parameters"] = sizes.groupby(_stage).sum()
    frame["flops"] = rows.groupby("stage", sort=False)["flops"].sum()
    return frame.rename_axis(None)


def _stage(name: str) -> str:
    part = name.removeprefix("features.").partition(".")[0]
    for kind in ("denseblock", "transition"):
        if part.startswith(kind):
            return f"{kind.removeprefix('dense')} {part.removeprefix(kind)}"
    return "head" if part in ("norm5", "classifier") else "stem"


def block_inputs(ax: Axes, rows: pd.DataFrame, *, block: int = 1) -> None:
    """Draw what each layer of a dense block reads: a bar a layer, a part for each source.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        Of :func:`anatomy`.
    block : int
        From 1; one of six layers has as many colours as the palette.
    """
    inside = rows[rows["stage"] == f"block {block}"]
    reads = list(inside.loc[inside["layer"].str.endswith("conv1"), "channels_in"])
    gives = list(inside.loc[inside["layer"].str.endswith("conv2"), "channels_out"])
    parts = [reads[0], *gives]
    ends = np.cumsum([0, *parts])
    back = {"facecolor": PANEL, "edgecolor": "none", "pad": 1.0, "alpha": 0.85}
    for part in range(len(parts)):
        readers = np.arange(part, len(reads) + 1)  # the last bar is what leaves the block
        colour, hatch = PALETTE[part % len(PALETTE)], HATCHES[part % len(HATCHES)]
        look = {"facecolor": colour, "hatch": hatch, "alpha": 0.55, "edgecolor": PANEL}
        ax.barh(readers, parts[part], left=ends[part], height=0.72, **look)
        middle = ends[part] + parts[part] / 2
        text = f"{parts[part]}" if part else f"{parts[part]} from before"
        ax.text(middle, part, text, ha="center", va="center", fontsize=9, color=INK, bbox=back)
    labels = [f"layer {k + 1} reads" for k in range(len(reads))] + ["the block gives"]
    ax.set_yticks(range(len(labels)), labels)
    for place, total in enumerate([*reads, ends[-1]]):
        ax.text(total + 4, place, f"{total}", va="center", fontsize=9, color=INK)
    ax.set(xlabel="channels", xlim=(0, ends[-1] + 28), ylim=(len(labels) - 0.5, -0.5))
    ax.grid(visible=False, axis="y")


def profile(model: CheXNet, *, size: int = 224) -> Figure:
    """Draw a whole DenseNet: channels layer by layer, and where parameters and operations are.

    Parameters
    ----------
    model : CheXNet
    size : int
        Pixels a side of the input.
    """
    rows, parts = anatomy(model, size=size), stages(model, size=size)
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7.2, 6), height_ratios=[1.5, 1], layout="constrained"
    )
    layers = rows[rows["kind"] == "Conv2d"].reset_index(drop=True)
    number = np.arange(1, len(layers) + 1)
    above.step(number, layers["held"], where="post", color=BLUE)
    top = layers["held"].max()
    for name, part in layers.groupby("stage", sort=False):
        if name.startswith("block"):
            first, last = number[part.index[0]], number[part.index[-1]]
            above.axvspan(first - 0.5, last + 0.5, color=GREY, alpha=0.13, linewidth=0)
            side = part["side"].iloc[-1]
            text = f"{name}\n{side} × {side}"
            above.text((first + last) / 2, top * 1.08, text, ha="center", fontsize=9.5, color=INK)
    above.set(xlabel="convolution", ylabel="channels held", xlim=(0, len(layers) + 1))
    above.set_ylim(0, top * 1.26)
    above.yaxis.set_major_formatter("{x:,.0f}")
    shown = parts[["parameters", "flops"]] / parts[["parameters", "flops"]].sum()
    place = np.arange(len(shown))
    looks = (("parameters", BLUE, ""), ("flops", ORANGE, "///"))
    for offset, (column, colour, hatch) in zip((-0.2, 0.2), looks, strict=True):
        label = "operations" if column == "flops" else column
        look = {"facecolor": colour, "edgecolor": PANEL, "hatch": hatch, "alpha": 0.6}
        bars = below.bar(place + offset, shown[column], 0.38, label=label, **look)
        below.bar_label(bars, [f"{value:.0%}" for value in shown[column]], fontsize=8)
    names = shown.index.str.replace("transition ", "trans.\n").str.replace("block ", "block\n")
    below.set_xticks(place, names)
    below.set(ylabel="share", ylim=(0, shown.to_numpy().max() * 1.18))
    below.grid(visible=False, axis="x")
    below.legend(loc="upper right")
    return figure


def learning_curves(history: pd.DataFrame) -> Figure:
    """Draw losses and validation AUROC, epoch by epoch.

    Parameters
    ----------
    history : DataFrame
        Of a :class:`chexlib.training.Run`: ``epoch``, ``train_loss``, ``val_loss``, ``val_auroc``.
    """
    figure, (left, right) = panels(2, columns=2, width=7.2, height=3)
    epoch = history["epoch"] + 1
    left.plot(epoch, history["train_loss"], "o-", color=BLUE, label="training")
    left.plot(epoch, history["val_loss"], "s--", color=ORANGE, label="validation")
    left.set(xlabel="epoch", ylabel="cross-entropy")
    left.legend()
    right.plot(epoch, history["val_auroc"], "s--", color=ORANGE)
    right.set(xlabel="epoch", ylabel="mean AUROC, validation")
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def promised_and_found(ax: Axes, rows: pd.DataFrame, *, series: str = "probabilities") -> None:
    """Draw mean probability against share of positives, a mark a finding, on logarithmic axes.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        ``positives`` and ``promised`` (shares, above 0), and the column ``series``.
    series : str
        Column that names what is compared; each gets a colour and a marker.
    """
    for place, (name, part) in enumerate(rows.groupby(series, sort=False)):
        ax.plot(part["positives"], part["promised"], label=name, **marks(place))
    ends = np.array([rows["positives"].min() / 1.4, rows["positives"].max() * 1.4])
    ax.plot(ends, ends, color=GREY, linewidth=1, zorder=0)
    ax.annotate("as promised", (ends[1], ends[1]), ha="right", va="top", color=GREY, fontsize=9)
    top = rows["promised"].max() * 1.3
    ax.set(xscale="log", yscale="log", xlim=tuple(ends), ylim=(ends[0], top))
    ticks = [0.02, 0.05, 0.1, 0.2, 0.4]
    for axis, end in ((ax.xaxis, ends[1]), (ax.yaxis, top)):
        axis.set_ticks([t for t in ticks if ends[0] < t < end])
        axis.set_ticks([], minor=True)
        axis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    ax.set(xlabel="share of positives", ylabel="mean probability")
    ax.legend(loc="lower right")


def deviations(
    ax: Axes,
    groups: Mapping[str, ArrayLike],
    *,
    halves: Mapping[str, float],
    labels: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Draw groups of figures about their own means, and how far patients alone would scatter them.

    Parameters
    ----------
    ax : Axes
    groups : mapping, name to values
        One line a group, the first on top; each is centred on its mean.
    halves : mapping, name to float
        Half width of the interval that a group's line shows behind its marks.
    labels : mapping, name to sequence of str, optional
        A text for each value of a group.
    """
    for place, (name, values) in enumerate(groups.items()):
        away = np.asarray(values, dtype=float)
        away = away - away.mean()
        look = marks(place, markersize=9)
        if name in halves:
            half = halves[name]
            ax.barh(place, 2 * half, left=-half, height=0.42, color=look["color"], alpha=0.18)
        ax.plot(away, np.full(len(away), place), **look)
        order = np.argsort(away)
        for rank, k in enumerate(order if labels and name in labels else []):
            side, va = ((0, 13), "bottom") if rank % 2 == 0 else ((0, -13), "top")
            style = {"textcoords": "offset points", "ha": "center", "va": va, "fontsize": 8.5}
            ax.annotate(labels[name][k], (away[k], place), side, **style)
    ax.axvline(0, color=GREY, linewidth=1, zorder=0)
    end = 1.12 * max(map(abs, ax.get_xlim()))  # names of the outermost marks need room
    ax.set_xlim(-end, end)
    ax.set_yticks(range(len(groups)), list(groups))
    ax.set_ylim(len(groups) - 0.4, -0.6)
    ax.set_xlabel("mean AUROC, less the mean of its line")
    ax.grid(visible=False, axis="y")
