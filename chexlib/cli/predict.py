"""``chexlib predict``: probabilities of one's own films."""

from __future__ import annotations

from functools import partial
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from chexlib.cli import shell
from chexlib.files import legible, write_atomically
from chexlib.findings import describe

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from rich.table import Table

    from chexlib.data.sources import Films
    from chexlib.models import CheXNet


@shell.one_line_errors()
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
    checkpoint: shell.Checkpoint,
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
    findings: shell.Findings = None,
    identify: Annotated[
        bool,
        typer.Option(
            "--identify",
            help="Write each film's path from INPUT, too, and of DICOM its SOP instance and study "
            "UID and its patient's ID. [bold]The file is then as identifying as the films.[/]",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=32,
            help="Films at once in the network. Default: on a CPU 8 of 224 px, more of smaller and "
            "fewer of larger ones, which is fastest; elsewhere 32.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that read films. Default: the cores, at least 2."),
    ] = None,
    force: shell.Force = False,
) -> None:
    """Predict a network's findings of films: a table for one, a CSV for several.

    Films are brought to the network as in its training. Stopped at any moment, the same command
    goes on with the films that are left. A name that a spreadsheet would compute, such as
    [cyan]=1.png[/], is written with a [cyan]'[/] before it.

    The CSV holds the names of the files and probabilities; what a header says of a patient is in
    it with --identify alone. [bold]Not for clinical use.[/]

    [bold]Examples[/]

    [cyan]chexlib predict film.png --checkpoint runs/phantom-cpu-1a2b3c[/]

    [cyan]chexlib predict /data/films --checkpoint model.safetensors --out films.csv[/]

    [cyan]chexlib predict film.dcm --checkpoint runs/mine --rule sensitivity_0.90[/]

    [cyan]chexlib predict /pacs --checkpoint other.pth --findings "Mass,Rib fracture" --identify[/]
    """
    from chexlib.data.predictions import IDENTIFY
    from chexlib.data.sources import find_radiographs
    from chexlib.inference import device_named, part_of, read_thresholds, rejected_of
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
        shell.keep_what_is_there(made, force=force, inputs=read)
    place = device_named(device)
    model = load_checkpoint(checkpoint, findings=shell.names_in(findings)).to(place)
    table_of = thresholds or checkpoint / "thresholds.csv"
    chosen = None
    if thresholds or table_of.is_file():
        chosen = read_thresholds(table_of, rule=rule, findings=model.findings)
    console, how = shell.terminal(), {"batch_size": batch_size, "identify": identify}
    with shell.bars() as bar:
        how |= {"workers": workers, "progress": partial(bar, "predicted")} if several else {}
        good, bad, scores = _predicted(model, films, out, alone=not several, **how)
    if out is not None:
        console.print(f"[green]ready[/] {good:,} films in {escape(str(out))}", soft_wrap=True)
    title = "" if several else films.names[0]
    if good and (chosen is not None or not several):
        console.print(_shown(scores, chosen, title=title))
    if several:
        listed = rejected_of(out)
        shell.tell_films(console, read=good, rejected=bad, listed=listed, ignored=films.ignored)
    if out is not None:
        held = "names of files and probabilities, and nothing of a header"
        if identify:
            held = f"[bold]{', '.join(IDENTIFY)}[/]: it is as identifying as the films"
        console.print(f"In the CSV: {held}.", soft_wrap=True)
    if chosen is None:
        way = "give the folder of a run, or --thresholds FILE"
        if checkpoint.is_dir():
            way = "the run has no thresholds.csv: give --thresholds FILE"
        console.print(f"No thresholds; {way}.", soft_wrap=True)
    console.print(f"[bold]{shell.NOTICE}[/]")


def _predicted(
    model: CheXNet, films: Films, out: Path | None, *, alone: bool, **how: Any
) -> tuple[int, int, pd.DataFrame]:
    """Return numbers of films predicted and rejected, and probabilities; one film by this process.

    One that cannot be read is an error, and leaves nothing behind.
    """
    import shutil
    import tempfile

    import pandas as pd

    from chexlib.data import read_predictions
    from chexlib.inference import predict_files, rejected_of

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "one.csv" if alone else out
        good, bad = predict_files(model, films, path, **({"workers": 1} if alone else {}), **how)
        if alone and not good:
            raise ValueError(pd.read_csv(rejected_of(path))["reason"][0])
        scores = read_predictions(path, findings=model.findings) if good else pd.DataFrame()
        if alone and out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, partial(shutil.copyfile, path))
    return good, bad, scores.reindex(columns=model.findings)


def _shown(scores: pd.DataFrame, chosen: np.ndarray | None, *, title: str) -> Table:
    """Return a table of a row a finding: of one film, which then has a title, or of several."""
    columns = {">Probability": [f"{p:.3f}" for p in scores.iloc[0]]} if title else {}
    if chosen is not None:
        columns[">Threshold"] = ["none" if isnan(t) else f"{t:.3f}" for t in chosen]
        counts = (scores >= chosen).sum()
        if title:
            columns[""] = ["at or above" if n else "" for n in counts]
        else:
            called = ["" if isnan(t) else f"{n:,}" for t, n in zip(chosen, counts, strict=True)]
            columns[">Films at or above"] = called
    rows = zip((describe(name).english for name in scores), *columns.values(), strict=True)
    return shell.table("Finding", *columns, rows=rows, title=escape(title) or None)
