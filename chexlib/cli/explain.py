"""``chexlib explain``: where a network looks in one film."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from chexlib.cli.shell import (
    NOTICE,
    Checkpoint,
    Force,
    Method,
    Size,
    keep_what_is_there,
    one_line_errors,
    terminal,
    write_json,
)
from chexlib.files import sha256, write_atomically

if TYPE_CHECKING:
    import numpy as np

    from chexlib.interpret import Explanation

__all__ = ["explain"]


def explain(
    image: Annotated[Path, typer.Argument(help="A frontal radiograph: PNG, JPEG or DICOM.")],
    *,
    checkpoint: Checkpoint,
    finding: Annotated[
        list[str] | None,
        typer.Option(
            help="A finding; repeat it for several. Default: the three most probable.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder. Default: the name of IMAGE with [cyan]-explained[/], here.",
            show_default=False,
        ),
    ] = None,
    method: Method = "cam",
    size: Size = None,
    cut: Annotated[
        str, typer.Option(help="Where maps are cut for boxes: wang, otsu, or 0 to 254.")
    ] = "180",
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom", help="Write DICOM secondary captures, too, of the study IMAGE is from."
        ),
    ] = False,
    force: Force = False,
) -> None:
    """Show where a network looks in a film: overlays, boxes, and a JSON with what they are.

    Probabilities are those of [cyan]chexlib predict[/], unless --size asks for another size. A map
    has a hottest place whatever the probability is: read the two together. Where probabilities are
    means over ten crops, a map is of the whole film in one view, and the JSON has that view's own
    logit beside it. [bold]Not for clinical use.[/]

    [bold]Examples[/]

    [cyan]chexlib explain film.png --checkpoint model.safetensors[/]

    [cyan]chexlib explain film.dcm --checkpoint model.safetensors --finding Mass --dicom[/]
    """
    with one_line_errors():
        from chexlib.data import read_radiograph
        from chexlib.findings import FINDINGS, normalise
        from chexlib.interpret import explain_film
        from chexlib.models import load_checkpoint

        names = list(dict.fromkeys(normalise(name) for name in finding or ()))
        folder = out if out is not None else Path(f"{image.stem}-explained")
        summary = folder / f"{image.stem}.json"
        keep_what_is_there([summary], force=force)
        pixels = read_radiograph(image)
        model = load_checkpoint(checkpoint)
        edge = int(cut) if cut.isdecimal() else cut
        found = explain_film(model, pixels, names or 3, method=method, size=size, cut=edge)
        kinds = {"png": "png", "dicom": "dcm"} if dicom else {"png": "png"}
        files = {
            name: {kind: f"{image.stem}-{name}-{method}.{end}" for kind, end in kinds.items()}
            for name in found.findings
        }
        pictures = [folder / name for named in files.values() for name in named.values()]
        keep_what_is_there([summary, *pictures], force=force, inputs=[image, checkpoint])
        folder.mkdir(parents=True, exist_ok=True)
        _write_pictures(folder, image, pixels, found, files)
        record = _record(image, pixels, found, files)
        record["checkpoint"] = {"path": checkpoint.name, **model.provenance}
        write_json(summary, record)
        console = terminal()
        for name in found.findings:
            console.print(
                f"{name:20}probability {found.probabilities[name]:.3f}   "
                f"{len(found.boxes[name])} boxes   {escape(', '.join(files[name].values()))}",
                soft_wrap=True,
            )
        console.print(
            f"[green]ready[/] {escape(str(folder))}; its JSON has all {len(FINDINGS)} findings",
            soft_wrap=True,
        )
        console.print(f"[bold]{NOTICE}[/]")


def _write_pictures(
    folder: Path,
    image: Path,
    pixels: np.ndarray,
    found: Explanation,
    files: dict[str, dict[str, str]],
) -> None:
    """Write a figure of each finding, and a secondary capture where it has a name."""
    import dataclasses
    import functools

    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import pydicom

    from chexlib.interpret import secondary_capture
    from chexlib.plots import images

    with image.open("rb") as file:
        source = None
        if file.read(132)[128:] == b"DICM":
            source = pydicom.dcmread(image, stop_before_pixels=True)
    series = pydicom.uid.generate_uid()
    for k, (name, named) in enumerate(files.items()):
        figure = images.explanation(
            pixels, dataclasses.replace(found, findings=(name,), heat=found.heat[k : k + 1])
        )
        save = functools.partial(figure.savefig, format="png", dpi=120)
        write_atomically(folder / named["png"], save)
        plt.close(figure)
        if "dicom" in named:
            said = f"{name} {found.probabilities[name]:.3f}, {found.method}"
            data = secondary_capture(
                images.overlay_picture(
                    pixels, found.heat[k], boxes=found.boxes[name], text=f"{said}: {NOTICE}"
                ),
                title=f"{found.method} {name.replace('_', ' ')}",
                derivation=f"Heat map of a neural network over the film: {said}. {NOTICE}",
                source=source,
                series_uid=series,
                number=k + 1,
            )
            write_atomically(
                folder / named["dicom"], lambda draft, data=data: draft.write_bytes(data)
            )


def _record(
    image: Path, pixels: np.ndarray, found: Explanation, files: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """Return what is to be known of the pictures."""
    import dataclasses
    import datetime
    from importlib.metadata import version

    entries = {
        name: {
            "probability": found.probabilities[name],
            "logit": found.logits[name],
            "map": {
                "of": "the whole film in one view",
                "logit": found.map_logits[name],
                "cells": list(values.shape),
                **{of: float(getattr(values, of)()) for of in ("min", "mean", "max")},
            },
            "hottest": {k: round(v, 1) for k, v in zip("xy", found.peaks[name], strict=True)},
            "boxes": [
                dict(zip(("x", "y", "width", "height"), box, strict=True))
                for box in found.boxes[name].round(1).tolist()
            ],
            "files": files[name],
        }
        for name, values in zip(found.findings, found.maps.values, strict=True)
    }
    size = dict(zip(("height", "width"), pixels.shape, strict=True))
    versions = {name: version(name) for name in ("chexlib", "torch", "torchvision", "captum")}
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "notice": NOTICE,
        "image": {"file": image.name, "sha256": sha256(image), **size},
        "method": found.method,
        "preparation": dataclasses.asdict(found.preparation),
        "cut": found.cut,
        "units": "boxes and places in pixels of the image as read; a cam adds to the logit of its "
        "map, mean of the map + bias = that logit"
        + "; probability and logit are of ten crops: mean probability, and its log odds"
        * found.preparation.ten_crop,
        "findings": entries,
        "probabilities": found.probabilities,
        "made": {"time": time, **versions},
    }
