"""``chexlib predict``: probabilities of one's own films."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from chexlib.cli.shell import (
    NOTICE,
    films_bar,
    keep_what_is_there,
    one_line_errors,
    table,
    tell_films,
    terminal,
)

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from chexlib.models import CheXNet

__all__ = ["predict"]


def predict(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A film (PNG, JPEG, DICOM), a folder or an archive of films, or a CSV with a "
            "column [cyan]path[/].",
        ),
    ],
    *,
    checkpoint: Annotated[
        Path,
        typer.Option(
            help="The folder of a run of [cyan]chexlib train[/], or weights in any format that "
            "[cyan]load_checkpoint[/] reads."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="CSV to write. Default: predictions.csv for several films, none for one.",
            show_default=False,
        ),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            help="CSV of [cyan]finding[/] and [cyan]threshold[/], such as operating_points.csv of "
            "[cyan]chexlib evaluate[/]. Default: the run's own, chosen on its validation films.",
            show_default=False,
        ),
    ] = None,
    rule: Annotated[
        str, typer.Option(help="Which thresholds: youden, max_f1 or sensitivity_0.90.")
    ] = "youden",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier CSV.")] = False,
) -> None:
    """Predict the 14 findings of films: a table for one, a CSV for several.

    Films are brought to the network as in its training. Stopped at any moment, the same command
    goes on with the films that are left. A name that a spreadsheet would compute, such as
    [cyan]=1.png[/], is written with a [cyan]'[/] before it. [bold]Not for clinical use.[/]

    [bold]Examples[/]

    [cyan]chexlib predict film.png --checkpoint runs/phantom-cpu-1a2b3c[/]

    [cyan]chexlib predict /data/films --checkpoint model.safetensors --out films.csv[/]

    [cyan]chexlib predict film.dcm --checkpoint runs/mine --rule sensitivity_0.90[/]
    """
    with one_line_errors():
        from chexlib.data.sources import find_radiographs
        from chexlib.files import legible
        from chexlib.inference import device_named
        from chexlib.models import load_checkpoint
        from chexlib.training.evaluate import (
            part_of,
            predict_files,
            read_thresholds,
            rejected_of,
        )

        films = find_radiographs(source)
        several = list(films.origins) != [legible(str(source.absolute()))]
        if several and out is None:
            out = Path("predictions.csv")
        if out is not None:
            made = [out]
            if several and not part_of(out).exists():  # of a job that was stopped, both are its own
                made.append(rejected_of(out))
            weights = (checkpoint, checkpoint / "best.safetensors")
            read = (source, *weights, *([thresholds] if thresholds else []))
            keep_what_is_there(made, force=force, inputs=read)
        chosen = None if thresholds is None else read_thresholds(thresholds, rule=rule)
        place = device_named(device)
        model = load_checkpoint(checkpoint).to(place)
        own = checkpoint / "thresholds.csv"
        if chosen is None and own.is_file():
            chosen = read_thresholds(own, rule=rule)
        console = terminal()
        if not several:
            _one(model, source, out, chosen, console)
        else:
            with films_bar("predicted", "rejected") as progress:
                good, bad = predict_files(model, films, out, progress=progress)
            _several(out, good, chosen, console)
            listed = rejected_of(out)
            tell_films(console, read=good, rejected=bad, listed=listed, ignored=films.ignored)
        if chosen is None:
            way = (
                "the run has no thresholds.csv: give --thresholds FILE"
                if checkpoint.is_dir()
                else "give the folder of a run, or --thresholds FILE"
            )
            console.print(f"No thresholds; {way}.", soft_wrap=True)
        console.print(f"[bold]{NOTICE}[/]")


def _one(
    model: CheXNet, source: Path, out: Path | None, thresholds: np.ndarray | None, console: Console
) -> None:
    import pandas as pd

    from chexlib.data.radiographs import read_radiograph
    from chexlib.files import write_csv
    from chexlib.findings import FINDINGS, INFO
    from chexlib.inference import Preparation

    preparation = Preparation.of(model)
    film = preparation.shrunk(read_radiograph(source))
    batcher = preparation.batcher(film[None], device=next(model.parameters()).device)
    scores = preparation.logits(model, batcher, [0])[0].sigmoid().tolist()
    columns = ["Finding", ">Probability"]
    rows = [[INFO[name].english, f"{p:.3f}"] for name, p in zip(FINDINGS, scores, strict=True)]
    if thresholds is not None:
        columns += [">Threshold", ""]
        for row, p, t in zip(rows, scores, thresholds, strict=True):
            row += [_shown(t), "at or above" if p >= t else ""]
    console.print(table(*columns, rows=rows, title=escape(source.name)))
    if out is not None:
        frame = pd.DataFrame([scores], columns=list(FINDINGS)).map("{:.6g}".format)
        frame.insert(0, "Image Index", source.name)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_csv(out, frame)
        console.print(f"[green]ready[/] {escape(str(out))}", soft_wrap=True)


def _several(out: Path, good: int, thresholds: np.ndarray | None, console: Console) -> None:
    from chexlib.data import read_predictions
    from chexlib.findings import FINDINGS, INFO

    console.print(f"[green]ready[/] {good:,} films in {escape(str(out))}", soft_wrap=True)
    if not good or thresholds is None:
        return
    scores = read_predictions(out)
    rows = [
        (INFO[name].english, _shown(t), "" if math.isnan(t) else f"{(scores[name] >= t).sum():,}")
        for name, t in zip(FINDINGS, thresholds, strict=True)
    ]
    console.print(table("Finding", ">Threshold", ">Films at or above", rows=rows))


def _shown(threshold: float) -> str:
    """Return a threshold as text; there is none for what no validation film had."""
    return "none" if math.isnan(threshold) else f"{threshold:.3f}"
