"""``chexlib explain``: where a network looks in one film."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from chexlib.cli.shell import as_json, keep_what_is_there, one_line_errors, terminal
from chexlib.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

    from chexlib.interpret import Explanation

__all__ = ["explain"]

NOTICE = "Not for clinical use."


def explain(
    image: Annotated[Path, typer.Argument(help="A frontal radiograph: PNG, JPEG or DICOM.")],
    *,
    checkpoint: Annotated[
        Path,
        typer.Option(help="A run, or weights in any format that [cyan]load_checkpoint[/] reads."),
    ],
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
    method: Annotated[
        str,
        typer.Option(
            help="cam, gradcam, layercam, fine, integrated_gradients, smoothgrad or occlusion."
        ),
    ] = "cam",
    size: Annotated[
        int | None,
        typer.Option(
            help="Pixels a side for the network. Default: as it was trained, or 224.",
            show_default=False,
        ),
    ] = None,
    cut: Annotated[
        str, typer.Option(help="Where maps are cut for boxes: wang, otsu, or 0 to 254.")
    ] = "180",
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom", help="Write DICOM secondary captures, too, of the study IMAGE is from."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier files.")] = False,
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
        from chexlib.interpret import METHODS, explain_film
        from chexlib.models import load_checkpoint

        names = [normalise(name) for name in finding or ()]
        if method not in METHODS:
            raise ValueError(f"Expected a method among {sorted(METHODS)}, got {method!r}.")
        folder = out if out is not None else Path(f"{image.stem}-explained")
        summary = folder / f"{image.stem}.json"
        keep_what_is_there([summary], force=force)
        pixels = read_radiograph(image)
        model = load_checkpoint(checkpoint)
        found = explain_film(
            model,
            pixels,
            list(dict.fromkeys(names)) or 3,
            method=method,
            size=size,
            cut=int(cut) if cut.isdecimal() else cut,
        )
        files = _names(image, found, dicom=dicom)
        pictures = [folder / name for named in files.values() for name in named.values()]
        keep_what_is_there([summary, *pictures], force=force, inputs=[image, checkpoint])
        folder.mkdir(parents=True, exist_ok=True)
        _write_pictures(folder, image, pixels, found, files)
        size = {"height": pixels.shape[0], "width": pixels.shape[1]}
        record = _record(image, found, files, size) | {
            "checkpoint": {"path": checkpoint.name, **model.provenance}
        }
        text = as_json(record)
        write_atomically(summary, lambda draft: draft.write_text(text, "utf-8"))
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


def _names(image: Path, found: Explanation, *, dicom: bool) -> dict[str, dict[str, str]]:
    """Return the files of each finding: a figure, and a secondary capture."""
    kinds = {"png": "png", "dicom": "dcm"} if dicom else {"png": "png"}
    return {
        name: {kind: f"{image.stem}-{name}-{found.method}.{end}" for kind, end in kinds.items()}
        for name in found.findings
    }


def _write_pictures(
    folder: Path,
    image: Path,
    pixels: np.ndarray,
    found: Explanation,
    files: dict[str, dict[str, str]],
) -> None:
    """Write a figure of each finding, and a secondary capture."""
    import dataclasses
    import functools

    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from pydicom.uid import generate_uid

    from chexlib.interpret import secondary_capture
    from chexlib.plots import images

    dicom = any("dicom" in named for named in files.values())
    source, series = (_header(image), generate_uid()) if dicom else (None, None)
    for k, name in enumerate(found.findings):
        one = dataclasses.replace(found, findings=(name,), heat=found.heat[k : k + 1])
        figure = images.explanation(pixels, one)
        save = functools.partial(figure.savefig, format="png", dpi=120)
        write_atomically(folder / files[name]["png"], save)
        plt.close(figure)
        if dicom:
            said = f"{name} {found.probabilities[name]:.3f}, {found.method}"
            title = f"{found.method} {name.replace('_', ' ')}"
            overlay = images.overlay_picture(
                pixels, found.heat[k], boxes=found.boxes[name], text=f"{said}: {NOTICE}"
            )
            data = secondary_capture(
                overlay,
                title=title,
                derivation=f"Heat map of a neural network over the film: {said}. {NOTICE}",
                source=source,
                series_uid=series,
                number=k + 1,
            )
            write_atomically(
                folder / files[name]["dicom"], lambda draft, data=data: draft.write_bytes(data)
            )
    return files


def _header(image: Path) -> Any:
    """Return the header of a DICOM file, None for any other."""
    with image.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return None
    import pydicom

    return pydicom.dcmread(image, stop_before_pixels=True)


def _record(
    image: Path, found: Explanation, files: dict[str, dict[str, str]], size: dict[str, int]
) -> dict[str, Any]:
    """Return what is to be known of the pictures."""
    import dataclasses
    import datetime
    import hashlib
    from importlib.metadata import version

    def entry(row: int, name: str) -> dict[str, Any]:
        values = found.maps[row]
        return {
            "probability": found.probabilities[name],
            "logit": found.logits[name],
            "map": {
                "of": "the whole film in one view",
                "logit": found.map_logits[name],
                "cells": list(values.shape),
                "min": float(values.min()),
                "mean": float(values.mean()),
                "max": float(values.max()),
            },
            "hottest": {k: round(v, 1) for k, v in zip("xy", found.peaks[name], strict=True)},
            "boxes": [
                dict(zip(("x", "y", "width", "height"), box, strict=True))
                for box in found.boxes[name].round(1).tolist()
            ],
            "files": files[name],
        }

    return {
        "notice": NOTICE,
        "image": {
            "file": image.name,
            "sha256": hashlib.sha256(image.read_bytes()).hexdigest(),
            **size,
        },
        "method": found.method,
        "preparation": dataclasses.asdict(found.preparation),
        "cut": found.cut,
        "units": "boxes and places in pixels of the image as read; a cam adds to the logit of its "
        "map, mean of the map + bias = that logit"
        + "; probability and logit are of ten crops: mean probability, and its log odds"
        * found.preparation.ten_crop,
        "findings": {name: entry(k, name) for k, name in enumerate(found.findings)},
        "probabilities": found.probabilities,
        "made": {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **{name: version(name) for name in ("chexlib", "torch", "torchvision", "captum")},
        },
    }
