"""``chexlib localize``: does a network look at the right place? The table, with controls."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from chexlib.cli import shell
from chexlib.files import write_csv, write_json

SHOWN = ["hit", "overlap", "IoBB > 0.1", "IoU > 0.1", "IoU > 0.3"]


@shell.one_line_errors()
def localize(
    source: Annotated[
        str,
        typer.Argument(
            help="[cyan]phantom[/], or where the films are: a folder or archives, NIH's in any of "
            "its layouts. Only films with boxes are read."
        ),
    ],
    *,
    checkpoint: shell.Checkpoint,
    boxes: Annotated[
        Path | None, typer.Option(help="CSV of your own boxes, one a row. Default: NIH's.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder. Default: the name of CHECKPOINT with [cyan]-localization[/], here."
        ),
    ] = None,
    method: shell.Method = "cam",
    size: shell.Size = None,
    patients: Annotated[
        int | None, typer.Option(min=1, help="Simulated patients; of the phantom only.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Films at once.")] = 32,
    resamples: shell.Resamples = 2000,
    seed: Annotated[int, typer.Option(help="Of resamples and controls.")] = 0,
    force: shell.Force = False,
) -> None:
    """Score heat maps against boxes: the pointing game, IoU, IoBB, with intervals and controls.

    Of NIH's films those 880 that one radiologist drew boxes on, of the labelled findings only. All
    are in the official test set: a checkpoint trained on other splits has seen some. Boxes of your
    own have the columns [cyan]image[/] or [cyan]path, finding, x, y, width, height[/], in pixels of
    the film from its left top corner, and if wanted [cyan]patient[/]; those of findings that the
    network has not are left out. Written are
    [cyan]localization.csv[/] (the table), [cyan]cases.csv[/] (a row a film, finding and source of
    maps) and [cyan]about.json[/]; films that cannot be read are left out, and listed in
    [cyan]rejected.csv[/]. [bold]Not for clinical use.[/]

    [bold]Examples[/]

    [cyan]chexlib localize /data/chest-xray14/images --checkpoint model.safetensors[/]

    [cyan]chexlib localize films --boxes boxes.csv --checkpoint runs/mine[/]

    [cyan]chexlib localize phantom --checkpoint model.safetensors[/]
    """
    from importlib.metadata import version

    from chexlib import interpret
    from chexlib.data.sources import write_rejected
    from chexlib.inference import Preparation
    from chexlib.models import load_checkpoint

    if method not in interpret.METHODS:
        known = sorted(interpret.METHODS)
        raise ValueError(f"Expected a method among {known}, got {method!r}.")
    if patients is not None and source != "phantom":
        raise ValueError("Expected --patients with the phantom only. Leave it out.")
    if boxes is not None and source == "phantom":
        raise ValueError("Expected --boxes with films of your own only. Leave it out.")
    folder = out if out is not None else Path(f"{checkpoint.stem}-localization")
    listed = folder / "rejected.csv"
    files = [folder / name for name in ("localization.csv", "cases.csv", "about.json")]
    shell.keep_what_is_there(
        [*files, listed], force=force, inputs=[checkpoint, boxes or checkpoint]
    )
    model = load_checkpoint(checkpoint)
    preparation = Preparation.of(model, size=size)
    sizes = {name: value for name, value in asdict(preparation).items() if name != "ten_crop"}
    of = {"boxes": boxes, "findings": model.findings, "n_patients": patients}
    asked = {"method": method, "resamples": resamples, "seed": seed}
    with shell.bars(leave=False) as bar:
        films = interpret.open_boxed(source, **sizes, **of, progress=bar)
        rows, cases = interpret.localize(model, films, **asked, batch_size=batch_size, progress=bar)
    about = {
        "notice": shell.NOTICE,
        "films": films.about,
        "cases": len(films.cases),
        "maps": "of the whole film in one view",
        **sizes,
        **asked,
        "checkpoint": {"path": checkpoint.name, **model.provenance},
        "chexlib": version("chexlib"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(files[0], rows)
    write_csv(files[1], cases)
    write_json(files[2], about, strict=True)
    write_rejected(listed, films.rejected)
    console = shell.terminal()
    console.print(escape(films.about), soft_wrap=True)
    group = "mean of findings"
    means = rows[rows["group"] == group].set_index(["source", "metric"])["estimate"]
    shown = [
        [name, *(f"{means[name, metric]:.2f}" for metric in SHOWN)]
        for name in means.index.unique("source")
    ]
    console.print(shell.table("", *(f">{name}" for name in SHOWN), rows=shown, title=group))
    console.print(f"[green]ready[/] {escape(str(files[0]))}", soft_wrap=True)
    bad = len(films.rejected)
    shell.tell_films(console, read=films.read, rejected=bad, listed=listed, ignored=films.ignored)
    console.print(f"[bold]{shell.NOTICE}[/]")
