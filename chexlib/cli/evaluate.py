"""``chexlib evaluate``: a report on somebody's own predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from chexlib.cli import shell


@shell.one_line_errors()
def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(help="CSV: [cyan]Image Index[/] and a column of probabilities a finding."),
    ],
    *,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV of labels: image or path, findings as columns of 0, 1 or nothing or as one "
            "column of names, and what is known of patient, age, sex, view. Default: NIH's own.",
            show_default=False,
        ),
    ] = None,
    findings: shell.Labelled = None,
    separator: shell.Separator = "|",
    uncertain: shell.Uncertain = None,
    by: Annotated[list[str] | None, typer.Option(help="Column of groups; repeatable.")] = None,
    readers: Annotated[
        Path | None,
        typer.Option(
            help="CSV of reads, one a row: [cyan]image[/], [cyan]reader[/] and findings as 0 and 1 "
            "or NO and YES. Sets your model beside each reader.",
            show_default=False,
        ),
    ] = None,
    trained_on: Annotated[
        Path | None,
        typer.Option(
            help="The images that the model was trained on, one a line: looks for their patients.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to make. Default: the name of PREDICTIONS with [cyan]-report[/], here.",
            show_default=False,
        ),
    ] = None,
    resamples: shell.Resamples = 1000,
    seed: Annotated[int, typer.Option(help="Where the random draws start.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier report, if nothing was added to it.")
    ] = False,
) -> None:
    """Report on predictions: one HTML page and CSV tables, with intervals by patient.

    AUROC and average precision, thresholds chosen on half of the patients and reported on the
    other, calibration, and differences by sex, view, age and [cyan]--by[/] columns of your own;
    what may be wrong where an AUROC is strange. A film that has no label of a finding is left out
    of it; -1 is [cyan]positive[/], [cyan]negative[/] or [cyan]missing[/]. Predicted patients whose
    [cyan]split[/] is train are named. [bold]Not for clinical use.[/]

    [bold]Examples[/]

    [cyan]chexlib evaluate predictions.csv[/]

    [cyan]chexlib evaluate predictions.csv --labels my_labels.csv --by site --out report[/]

    [cyan]chexlib evaluate predictions.csv --readers reads.csv --trained-on train_list.txt[/]
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from chexlib import data, evaluation, report
    from chexlib.findings import FINDINGS, own_name
    from chexlib.text import estimate_text

    folder = out if out is not None else Path(f"{predictions.stem}-report")
    inputs = {"predictions": predictions, "labels": labels, "readers": readers}
    inputs = {name: path for name, path in (inputs | {"list": trained_on}).items() if path}
    report.check_folder(folder, force=force, inputs=inputs.values())
    columns = (TextColumn("  {task.description:14}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=len(evaluation.STEPS) + 2)
        step = lambda name: bar.update(task, advance=1, description=name)  # noqa: E731
        names, trained = shell.names_in(findings), None
        options = {"findings": names, "separator": separator, "uncertain": uncertain}
        if labels:
            known, own = data.read_labels(labels, **options)
        else:
            known, own = data.load_labels(), tuple(map(own_name, names or FINDINGS))
        films = data.read_predictions(predictions, findings=names if labels else own)
        if trained_on:
            trained = data.patients_of(trained_on, known)
        elif "split" in known:
            trained = known["patient"][known["split"].str.lower().str.startswith("train")]
        truth = data.match_labels(films, known, source=str(predictions))
        found = evaluation.evaluate(
            films,
            truth,
            findings=own,
            by=by or (),
            readers=data.read_readers(readers, findings=own) if readers else None,
            trained_on=trained,
            resamples=resamples,
            seed=seed,
            step=step,
        )
        step("writing")
        settings = {"resamples": resamples, "seed": seed}
        settings |= {} if labels else {"labels": "NIH, Data_Entry_2017_v2020"}
        files = report.write_report(found, folder, inputs=inputs, settings=settings, force=force)
    mean = estimate_text(*found.mean["auroc"], decimals=3)
    console = shell.terminal()
    console.print(f"mean AUROC {mean}, {len(films):,} films")
    for row in found.tables["checks"].itertuples():
        seen = f"{row.column}: {row.seen}"
        console.print(f"  [yellow]strange[/] {escape(seen)}", soft_wrap=True)
    for note in found.notes:
        console.print(f"  [yellow]not computed[/] {escape(note)}", soft_wrap=True)
    console.print(f"  [green]ready[/] {escape(str(files[0]))}", soft_wrap=True)
