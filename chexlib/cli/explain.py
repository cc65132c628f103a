"""``chexlib explain``: where a network looks in films."""

from __future__ import annotations

import hashlib
import io
import re
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from chexlib.cli import shell
from chexlib.files import Journal, legible, remove_drafts, write_atomically, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from rich.console import Console

    from chexlib.data.radiographs import RadiographError
    from chexlib.data.sources import Films
    from chexlib.interpret import Explanation


@shell.one_line_errors()
def explain(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A frontal radiograph (PNG, JPEG, DICOM), or as for predict a folder, an archive "
            "or a list of them.",
        ),
    ],
    *,
    checkpoint: shell.Checkpoint,
    finding: Annotated[
        list[str] | None,
        typer.Option(help="A finding; repeat it for several. Default: the three most probable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder. Default: the name of INPUT with [cyan]-explained[/], here."),
    ] = None,
    method: shell.Method = "cam",
    size: shell.Size = None,
    cut: Annotated[
        str, typer.Option(help="Where maps are cut for boxes: wang, otsu, or 0 to 254.")
    ] = "180",
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom",
            help="Write DICOM, too, of the study a film is from: secondary captures, and where the "
            "film is DICOM a structured report of all probabilities.",
        ),
    ] = False,
    findings: shell.Findings = None,
    force: shell.Force = False,
) -> None:
    """Show where a network looks in films: overlays, boxes, and a JSON with what they are.

    Of several films each has a folder; those that cannot be read are listed in rejected.csv.
    Stopped at any moment, the same command goes on with the films that are left.

    Probabilities are those of [cyan]chexlib predict[/], unless --size asks for another size. A map
    has a hottest place whatever the probability is: read the two together. Where probabilities are
    means over ten crops, a map is of the whole film in one view, and the JSON has that view's own
    logit beside it. [bold]Not for clinical use.[/]

    [bold]Examples[/]

    [cyan]chexlib explain film.png --checkpoint model.safetensors[/]

    [cyan]chexlib explain film.dcm --checkpoint model.safetensors --finding Mass --dicom[/]
    """
    from chexlib.data.sources import find_radiographs, write_rejected
    from chexlib.inference import Preparation, mark_of
    from chexlib.interpret import explain_film
    from chexlib.interpret.cam import rows_of
    from chexlib.models import load_checkpoint

    films = find_radiographs(source)
    alone = list(films.origins) == [legible(str(source.absolute()))]
    folder = out if out is not None else Path(f"{source.stem}-explained")
    places = [folder if alone else folder / name for name in films.names]
    stems, listed = [Path(name).stem for name in films.names], folder / "rejected.csv"
    summaries = [place / f"{stem}.json" for place, stem in zip(places, stems, strict=True)]
    part = folder / "explained.part"
    force |= not alone and part.exists()  # of a job that was stopped, what is there is its own
    shell.keep_what_is_there([*summaries, *([] if alone else [listed])], force=force)
    model = load_checkpoint(checkpoint, findings=shell.names_in(findings))
    asked = list(dict.fromkeys(model.findings[row] for row in rows_of(finding or None, model)))
    how = {"method": method, "size": size, "cut": int(cut) if cut.isdecimal() else cut}
    console, about = shell.terminal(), {"path": checkpoint.name, **model.provenance}
    keep = partial(shell.keep_what_is_there, force=force, inputs=[source, checkpoint])

    def journal() -> Journal:
        folder.mkdir(parents=True, exist_ok=True)
        question = (finding and asked, method, cut, dicom)
        mark = mark_of(model, Preparation.of(model, size=size), films, question)
        return Journal(part, mark, sound=lambda task: task[1] or summaries[task[0]].is_file())

    with nullcontext() if alone else journal() as job:
        done = {} if alone else dict(job.tasks)
        left = [i for i in range(len(stems)) if i not in done]
        for i, data, pixels, error in _opened(films, left):
            if error and alone:
                raise error
            done[i] = error and str(error)
            if not error:
                found = explain_film(model, pixels, asked if finding else 3, **how)
                files = _files(stems[i], found, dicom=dicom)
                film = (films.names[i], data, pixels)
                _write_film(summaries[i], film, found, files, keep=keep, about=about, dicom=dicom)
                _tell(console, places[i], found, files)
            if not alone:
                job.add([i, done[i]])
        bad = [[films.names[i], films.origins[i], why] for i, why in sorted(done.items()) if why]
        if not alone:
            write_rejected(listed, bad)
    if dicom and find_spec("highdicom") is None:
        console.print("No structured reports: they need pip install 'chexlib\\[export]'")
    if not alone:
        left = {"rejected": len(bad), "listed": listed, "ignored": films.ignored}
        shell.tell_films(console, read=len(stems) - len(bad), **left)
    console.print(f"[bold]{shell.NOTICE}[/]")


def _opened(
    films: Films, positions: list[int]
) -> Iterator[tuple[int, bytes, np.ndarray | None, RadiographError | None]]:
    """Yield of each film its position, its bytes, and its pixels or why there are none."""
    from chexlib.data.radiographs import RadiographError, open_radiograph, read_file

    for i, origin, content in (film for task in films.tasks(positions) for film in task.films):
        data = b""
        try:
            data = content if isinstance(content, bytes) else read_file(content, origin)
            yield i, data, open_radiograph(data, name=origin).pixels, None
        except RadiographError as error:
            yield i, data, None, error


def _tell(console: Console, place: Path, found: Explanation, files: dict[str, dict]) -> None:
    for name in found.findings:
        line = f"{name:20}probability {found.probabilities[name]:.3f}   "
        line += f"{len(found.boxes[name])} boxes   {escape(', '.join(files[name].values()))}"
        console.print(line, soft_wrap=True)
    line = f"[green]ready[/] {escape(str(place))}; its JSON has all {len(found.probabilities)}"
    console.print(f"{line} findings", soft_wrap=True)


def _write_film(
    summary: Path,
    film: tuple[str, bytes, np.ndarray],
    found: Explanation,
    files: dict[str, dict[str, str]],
    *,
    keep: Callable[[list[Path]], None],
    about: dict[str, str],
    dicom: bool,
) -> None:
    """Write a film's pictures, its report and, last, what they are: with it the film is done."""
    place, (name, data, pixels) = summary.parent, film
    made = [place / one for named in files.values() for one in named.values()]
    report = place / f"{summary.stem}-report.dcm"
    keep([summary, *made, *([report] if dicom else [])])
    place.mkdir(parents=True, exist_ok=True)
    remove_drafts(place)
    _write_pictures(place, data, pixels, found, files)
    record = _record(name, data, pixels, found, files)
    if dicom and data[128:132] == b"DICM" and find_spec("highdicom"):
        record["report"] = _write_report(report, data, made[1], found, about)
    write_json(summary, record | {"checkpoint": about}, strict=True)


def _files(stem: str, found: Explanation, *, dicom: bool) -> dict[str, dict[str, str]]:
    """Return the names of a finding's pictures; a finding may be called as no file can be."""
    kinds = {"png": "png", "dicom": "dcm"} if dicom else {"png": "png"}
    shown = [re.sub(r"[^\w.+-]+", "_", name) for name in found.findings]
    shown = [f"{name}-{k}" if shown.count(name) > 1 else name for k, name in enumerate(shown)]
    return {
        name: {kind: f"{stem}-{short}-{found.method}.{end}" for kind, end in kinds.items()}
        for name, short in zip(found.findings, shown, strict=True)
    }


def _write_pictures(
    folder: Path, data: bytes, pixels: np.ndarray, found: Explanation, files: dict[str, dict]
) -> None:
    """Write a figure of each finding, and a secondary capture where it has a name."""
    from dataclasses import replace

    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import pydicom

    from chexlib.interpret import secondary_capture
    from chexlib.plots import images

    is_dicom = data[128:132] == b"DICM"
    source = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True) if is_dicom else None
    series = pydicom.uid.generate_uid()
    for k, (name, named) in enumerate(files.items()):
        alone = replace(found, findings=(name,), heat=found.heat[k : k + 1])
        figure = images.explanation(pixels, alone)
        write_atomically(folder / named["png"], partial(figure.savefig, format="png", dpi=120))
        plt.close(figure)
        if "dicom" in named:
            said = f"{name} {found.probabilities[name]:.3f}, {found.method}"
            shown = {"boxes": found.boxes[name], "text": f"{said}: {shell.NOTICE}"}
            capture = secondary_capture(
                images.overlay_picture(pixels, found.heat[k], **shown),
                title=f"{found.method} {name.replace('_', ' ')}",
                derivation=f"Heat map of a neural network over the film: {said}. {shell.NOTICE}",
                **{"source": source, "series_uid": series, "number": k + 1},
            )
            write_atomically(folder / named["dicom"], partial(Path.write_bytes, data=capture))


def _write_report(
    path: Path, film: bytes, capture: Path, found: Explanation, about: dict[str, str]
) -> str | None:
    """Write a structured report of a film that has UIDs, and return its name."""
    from chexlib.interpret.structured import structured_report

    network = f"{about['file']}, SHA-256 {about['sha256']}"
    given = {"film": film, "network": network}
    report = structured_report(capture.read_bytes(), found.probabilities, **given)
    if report is not None:
        write_atomically(path, partial(Path.write_bytes, data=report))
    return report and path.name


def _record(
    name: str, data: bytes, pixels: np.ndarray, found: Explanation, files: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """Return what is to be known of the pictures."""
    import datetime
    from dataclasses import asdict
    from importlib.metadata import version

    import pandas as pd

    corners = ["x", "y", "width", "height"]
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
            "boxes": pd.DataFrame(found.boxes[name].round(1), columns=corners).to_dict("records"),
            "files": files[name],
        }
        for name, cells in zip(found.findings, found.maps.values, strict=True)
    }
    sides = dict(zip(("height", "width"), pixels.shape, strict=True))
    units = (
        "boxes and places in pixels of the image as read; a cam adds to the logit of its map, mean "
        "of the map + bias = that logit"
    )
    if found.preparation.ten_crop:
        units += "; probability and logit are of ten crops: mean probability, and its log odds"
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    versions = {name: version(name) for name in ("chexlib", "torch", "torchvision", "captum")}
    return {
        "notice": shell.NOTICE,
        "image": {"file": name, "sha256": hashlib.sha256(data).hexdigest(), **sides},
        "method": found.method,
        "preparation": asdict(found.preparation),
        "cut": found.cut,
        "units": units,
        "findings": entries,
        "probabilities": found.probabilities,
        "made": {"time": time, **versions},
    }
