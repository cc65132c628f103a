"""``chexlib predict``: probabilities of one's own films."""

from __future__ import annotations

from functools import partial
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from chexlib.cli.shell import (
    NOTICE,
    Checkpoint,
    Force,
    bars,
    keep_what_is_there,
    one_line_errors,
    table,
    tell_films,
    terminal,
)

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from chexlib.models import CheXNet


@one_line_errors()
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
    checkpoint: Checkpoint,
    out: Annotated[
        Path | None,
        typer.Option(
            help="CSV to write. Default: predictions.csv for several films, none for one."
        ),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            help="CSV of [cyan]finding[/] and [cyan]threshold[/], such as operating_points.csv of "
            "[cyan]chexlib evaluate[/]. Default: the run's own, chosen on its validation films."
        ),
    ] = None,
    rule: Annotated[
        str, typer.Option(help="Which thresholds: youden, max_f1 or sensitivity_0.90.")
    ] = "youden",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    force: Force = False,
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
    from chexlib.data import read_predictions
    from chexlib.data.sources import find_radiographs
    from chexlib.files import legible
    from chexlib.findings import FINDINGS
    from chexlib.inference import device_named, part_of, predict_files, read_thresholds, rejected_of
    from chexlib.models import load_checkpoint

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
    if several:
        with bars() as bar:
            good, bad = predict_files(model, films, out, progress=partial(bar, "predicted"))
        console.print(f"[green]ready[/] {good:,} films in {escape(str(out))}", soft_wrap=True)
        if good and chosen is not None:
            counts = (read_predictions(out)[list(FINDINGS)] >= chosen).sum()
            called = ["" if isnan(t) else f"{n:,}" for t, n in zip(chosen, counts, strict=True)]
            columns = {">Threshold": _shown(chosen), ">Films at or above": called}
            console.print(_by_finding(columns))
        listed = rejected_of(out)
        tell_films(console, read=good, rejected=bad, listed=listed, ignored=films.ignored)
    else:
        _one(model, source, out, chosen, console)
    if chosen is None:
        way = "give the folder of a run, or --thresholds FILE"
        if checkpoint.is_dir():
            way = "the run has no thresholds.csv: give --thresholds FILE"
        console.print(f"No thresholds; {way}.", soft_wrap=True)
    console.print(f"[bold]{NOTICE}[/]")


def _one(
    model: CheXNet, source: Path, out: Path | None, chosen: np.ndarray | None, console: Console
) -> None:
    import pandas as pd

    from chexlib.data import read_radiograph
    from chexlib.files import write_csv
    from chexlib.findings import FINDINGS
    from chexlib.inference import Preparation

    preparation = Preparation.of(model)
    film = preparation.shrunk(read_radiograph(source))
    batcher = preparation.batcher(film[None], device=next(model.parameters()).device)
    scores = preparation.logits(model, batcher, [0])[0].sigmoid().tolist()
    columns = {">Probability": [f"{p:.3f}" for p in scores]}
    if chosen is not None:
        called = ["at or above" if p >= t else "" for p, t in zip(scores, chosen, strict=True)]
        columns |= {">Threshold": _shown(chosen), "": called}
    console.print(_by_finding(columns, title=escape(source.name)))
    if out is not None:
        frame = pd.DataFrame([scores], columns=list(FINDINGS)).map("{:.6g}".format)
        frame.insert(0, "Image Index", source.name)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_csv(out, frame)
        console.print(f"[green]ready[/] {escape(str(out))}", soft_wrap=True)


def _shown(thresholds: np.ndarray) -> list[str]:
    """Return thresholds as texts; there is none for what no validation film had."""
    return ["none" if isnan(t) else f"{t:.3f}" for t in thresholds]


def _by_finding(columns: dict[str, list[str]], **options: str) -> Table:
    """Return a table of a row a finding."""
    from chexlib.findings import INFO

    names = [finding.english for finding in INFO.values()]
    rows = zip(names, *columns.values(), strict=True)
    return table("Finding", *columns, rows=rows, **options)
