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
)
from chexlib.files import sha256, write_atomically, write_json

if TYPE_CHECKING:
    import numpy as np

    from chexlib.interpret import Explanation


@one_line_errors()
def explain(
    image: Annotated[Path, typer.Argument(help="A frontal radiograph: PNG, JPEG or DICOM.")],
    *,
    checkpoint: Checkpoint,
    finding: Annotated[
        list[str] | None,
        typer.Option(help="A finding; repeat it for several. Default: the three most probable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder. Default: the name of IMAGE with [cyan]-explained[/], here."),
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
    write_json(summary, record, strict=True)
    console = terminal()
    for name in found.findings:
        line = f"{name:20}probability {found.probabilities[name]:.3f}   "
        line += f"{len(found.boxes[name])} boxes   {escape(', '.join(files[name].values()))}"
        console.print(line, soft_wrap=True)
    ready = f"[green]ready[/] {escape(str(folder))}; its JSON has all {len(FINDINGS)} findings"
    console.print(ready, soft_wrap=True)
    console.print(f"[bold]{NOTICE}[/]")


def _write_pictures(
    folder: Path,
    image: Path,
    pixels: np.ndarray,
    found: Explanation,
    files: dict[str, dict[str, str]],
) -> None:
    """Write a figure of each finding, and a secondary capture where it has a name."""
    from dataclasses import replace
    from functools import partial

    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import pydicom

    from chexlib.interpret import secondary_capture
    from chexlib.plots import images

    is_dicom = image.read_bytes()[128:132] == b"DICM"
    source = pydicom.dcmread(image, stop_before_pixels=True) if is_dicom else None
    series = pydicom.uid.generate_uid()
    for k, (name, named) in enumerate(files.items()):
        alone = replace(found, findings=(name,), heat=found.heat[k : k + 1])
        figure = images.explanation(pixels, alone)
        write_atomically(folder / named["png"], partial(figure.savefig, format="png", dpi=120))
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
            write_atomically(folder / named["dicom"], partial(Path.write_bytes, data=data))


def _record(
    image: Path, pixels: np.ndarray, found: Explanation, files: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """Return what is to be known of the pictures."""
    import datetime
    from dataclasses import asdict
    from importlib.metadata import version

    entries = {
        name: {
            "probability": found.probabilities[name],
            "logit": found.logits[name],
            "map": {
                "of": "the whole film in one view",
                "logit": found.map_logits[name],
                "cells": list(cells.shape),
                **{of: float(getattr(cells, of)()) for of in ("min", "mean", "max")},
            },
            "hottest": {k: round(v, 1) for k, v in zip("xy", found.peaks[name], strict=True)},
            "boxes": [
                dict(zip(("x", "y", "width", "height"), box, strict=True))
                for box in found.boxes[name].round(1).tolist()
            ],
            "files": files[name],
        }
        for name, cells in zip(found.findings, found.maps.values, strict=True)
    }
    height, width = pixels.shape
    units = (
        "boxes and places in pixels of the image as read; a cam adds to the logit of its map, mean "
        "of the map + bias = that logit"
    )
    if found.preparation.ten_crop:
        units += "; probability and logit are of ten crops: mean probability, and its log odds"
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    versions = {name: version(name) for name in ("chexlib", "torch", "torchvision", "captum")}
    return {
        "notice": NOTICE,
        "image": {"file": image.name, "sha256": sha256(image), "height": height, "width": width},
        "method": found.method,
        "preparation": asdict(found.preparation),
        "cut": found.cut,
        "units": units,
        "findings": entries,
        "probabilities": found.probabilities,
        "made": {"time": time, **versions},
    }
