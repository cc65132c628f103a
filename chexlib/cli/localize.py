"""``chexlib localize``: does a network look at the right place? The table, with controls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from chexlib.cli.shell import (
    MOST_RESAMPLES,
    NOTICE,
    Checkpoint,
    Force,
    Method,
    Size,
    keep_what_is_there,
    one_line_errors,
    tell_films,
    terminal,
    write_json,
)
from chexlib.files import write_csv

__all__ = ["localize"]

SHOWN = ["hit", "overlap", "IoBB > 0.1", "IoU > 0.1", "IoU > 0.3"]


def localize(
    source: Annotated[
        str,
        typer.Argument(
            help="[cyan]phantom[/], or where NIH's films are: a folder or archives in any of its "
            "layouts. Only films with boxes are read."
        ),
    ],
    *,
    checkpoint: Checkpoint,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder. Default: the name of CHECKPOINT with [cyan]-localization[/], here.",
            show_default=False,
        ),
    ] = None,
    method: Method = "cam",
    size: Size = None,
    patients: Annotated[
        int | None,
        typer.Option(min=1, help="Simulated patients; of the phantom only.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Films at once.")] = 32,
    resamples: Annotated[
        int, typer.Option(min=100, max=MOST_RESAMPLES, help="Resamples of patients.")
    ] = 2000,
    seed: Annotated[int, typer.Option(help="Of resamples and controls.")] = 0,
    force: Force = False,
) -> None:
    """Score heat maps against boxes: the pointing game, IoU, IoBB, with intervals and controls.

    Of NIH's films those 880 that one radiologist drew boxes on, of the labelled findings only. All
    are in the official test set: a checkpoint trained on other splits has seen some. Written are
    [cyan]localization.csv[/] (the table), [cyan]cases.csv[/] (a row a film, finding and source of
    maps) and [cyan]about.json[/]; films that cannot be read are left out, and listed in
    [cyan]rejected.csv[/]. [bold]Not for clinical use.[/]

    [bold]Examples[/]

    [cyan]chexlib localize /data/chest-xray14/images --checkpoint model.safetensors[/]

    [cyan]chexlib localize phantom --checkpoint model.safetensors[/]
    """
    with one_line_errors():
        from importlib.metadata import version

        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Table

        from chexlib import interpret
        from chexlib.data.sources import write_rejected
        from chexlib.inference import Preparation
        from chexlib.models import load_checkpoint

        if method not in interpret.METHODS:
            known = sorted(interpret.METHODS)
            raise ValueError(f"Expected a method among {known}, got {method!r}.")
        if patients is not None and source != "phantom":
            raise ValueError("Expected --patients with the phantom only. Leave it out.")
        folder = out if out is not None else Path(f"{checkpoint.stem}-localization")
        listed = folder / "rejected.csv"
        files = [folder / name for name in ("localization.csv", "cases.csv", "about.json")]
        keep_what_is_there([*files, listed], force=force, inputs=[checkpoint])
        model = load_checkpoint(checkpoint)
        preparation = Preparation.of(model, size=size)
        sizes = {"size": preparation.size, "cache_size": preparation.cache_size}
        columns = (TextColumn("  {task.description:24}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, int] = {}

            def progress(step: str, done: int, total: int) -> None:
                if step not in tasks:
                    tasks[step] = bar.add_task(step)
                bar.update(tasks[step], completed=done, total=total)

            films = interpret.open_boxed(source, **sizes, n_patients=patients, progress=progress)
            asked = {"method": method, "resamples": resamples, "seed": seed}
            table, cases = interpret.localize(
                model, films, **asked, batch_size=batch_size, progress=progress
            )
        folder.mkdir(parents=True, exist_ok=True)
        about = {
            "notice": NOTICE,
            "films": films.about,
            "cases": len(films.cases),
            "maps": "of the whole film in one view",
            **sizes,
            **asked,
            "checkpoint": {"path": checkpoint.name, **model.provenance},
            "chexlib": version("chexlib"),
        }
        write_csv(files[0], table)
        write_csv(files[1], cases)
        write_json(files[2], about)
        write_rejected(listed, films.rejected)
        console = terminal()
        console.print(escape(films.about), soft_wrap=True)
        shown = Table(box=None, pad_edge=False, title="mean of findings", title_justify="left")
        shown.add_column("", no_wrap=True)
        for metric in SHOWN:
            shown.add_column(escape(metric), justify="right", no_wrap=True)
        mean = table[table["group"] == "mean of findings"]
        for name, rows in mean.groupby("source", sort=False):
            values = rows.set_index("metric")["estimate"][SHOWN]
            shown.add_row(str(name), *values.map("{:.2f}".format))
        console.print(shown)
        console.print(f"[green]ready[/] {escape(str(files[0]))}", soft_wrap=True)
        tell_films(
            console,
            read=films.read,
            rejected=len(films.rejected),
            listed=listed,
            ignored=films.ignored,
        )
        console.print(f"[bold]{NOTICE}[/]")
