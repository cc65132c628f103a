"""The command line: ``chexlib fetch``, ``evaluate``, ``findings`` and ``info``.

Every import that takes time stands inside the command that needs it, so that ``--help`` is quick.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from chexlib.data.registry import Entry

__all__ = ["app"]

app = typer.Typer(
    name="chexlib",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""
Data, metrics and figures behind the CheXNet book. [bold]Not for clinical use.[/]

The book needs nothing from here: its label tables come with the package. Fetch files to rebuild
the derived tables, to see the NIH films, or to work with published weights.

[bold]Begin with[/]

[cyan]chexlib info[/]              versions, the data folder, and what is in it

[cyan]chexlib findings[/]          the 14 findings and their names

[cyan]chexlib fetch --list[/]      what can be fetched, how large it is, under which licence

[cyan]chexlib evaluate FILE[/]     a report on your own model's predictions
""",
)


def _out() -> Console:
    """Give a console made now, so that it writes to the standard output of the moment."""
    return Console(highlight=False, soft_wrap=False)


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """End with one plain message and a status, not with a traceback, on an expected failure."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        # soft_wrap: the message stays one line, to be read in a log or searched for.
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]Error:[/] {escape(str(error))}"
        )
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped. Repeat the command to go on where it stopped.")
        raise typer.Exit(130) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"chexlib {version('chexlib')}")
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Hold the options of the program itself; its help text is that of ``app``."""


@app.command()
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="What to fetch; [cyan]--list[/] shows the names.", show_default=False),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--list", help="List what can be fetched; with NAMES, in full. No network."),
    ] = False,
    dest: Annotated[
        Path | None,
        typer.Option(
            help="The data folder. Default: [cyan]CHEXLIB_DATA[/], or the user's cache folder.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Download again what is there; it stays until the new is verified."
        ),
    ] = False,
    known_hash: Annotated[
        str | None,
        typer.Option(
            "--hash",
            help="sha256:… of a file whose author published none; such a file needs it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch data files: verified by hash, resumed where a download broke off.

    What is there already is checked and not downloaded again. A file appears under its name only
    when it is complete and its hash is right.

    [bold]Examples[/]

    [cyan]chexlib fetch --list[/]

    [cyan]chexlib fetch --list weights[/]

    [cyan]chexlib fetch predictions rsna split azure[/]

    [cyan]chexlib fetch images --dest /data/chest-xray14[/]      42 GB, 12 archives
    """
    with _one_line_errors():
        from chexlib.data.home import data_home
        from chexlib.data.registry import REGISTRY, entry

        home = dest.expanduser() if dest else data_home()
        entries = [entry(name) for name in names or ()]
        if show:
            _list_in_full(entries, home) if entries else _list(list(REGISTRY.values()), home)
            return
        if not entries:
            raise ValueError(
                f"Expected at least one of {', '.join(REGISTRY)}, got none. "
                "See them with: chexlib fetch --list"
            )
        _fetch_all(entries, home, force=force, known_hash=known_hash)


def _fetch_all(entries: list[Entry], home: Path, *, force: bool, known_hash: str | None) -> None:
    from chexlib.data.fetch import fetch as fetch_entry

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    out = _out()
    for item in entries:
        out.print(
            f"[bold]{item.name}[/]  {escape(item.title)}\n"
            f"  licence: {item.licence}. Cite: {escape(item.citation)}"
        )
        with _bars() as progress:
            paths = fetch_entry(
                item, home=home, force=force, known_hash=known_hash, progress=progress
            )
        for path in paths:
            out.print(f"  [green]ready[/] {escape(str(path))}", soft_wrap=True)


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a progress bar for each label that is reported."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, int] = {}
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def report(label: str, done: int, total: int | None) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done, total=total)

        yield report


def _size(item: Entry) -> str:
    if item.size is not None:
        return _bytes(item.size)
    return f"about {_bytes(item.about_bytes)}" if item.about_bytes else "not published"


def _bytes(count: int) -> str:
    from rich.filesize import decimal

    return decimal(count)


def _state(item: Entry, home: Path) -> str:
    from chexlib.data.fetch import is_present

    present = sum(is_present(file, home) for file in item.files)
    if present == len(item.files):
        checked = all(file.hash for file in item.files)
        return "[green]present[/]" if checked else "[yellow]present, unchecked[/]"
    return f"[yellow]{present} of {len(item.files)}[/]" if present else "[dim]not here[/]"


def _list(entries: list[Entry], home: Path) -> None:
    table = Table(title=f"In {escape(str(home))}", title_justify="left", box=None, pad_edge=False)
    table.add_column("Name", style="bold cyan", no_wrap=True)
    table.add_column("What", ratio=1)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Licence")
    table.add_column("State")
    for item in entries:
        table.add_row(item.name, escape(item.title), _size(item), item.licence, _state(item, home))
    out = _out()
    out.print(table)
    out.print("\nSources, hashes and notes of one: [cyan]chexlib fetch --list NAME[/]")


def _list_in_full(entries: list[Entry], home: Path) -> None:
    out = _out()
    for item in entries:
        out.print(f"[bold cyan]{item.name}[/]  {escape(item.title)}  {_state(item, home)}")
        rows = [
            ("size", _size(item)),
            ("licence", item.licence),
            ("cite", item.citation),
            ("from", item.homepage),
            ("note", item.note),
        ]
        for file in item.files:
            size = f"{file.size:,} bytes" if file.size is not None else "size not published"
            rows += [
                ("file", f"{file.unpack_to}/" if file.unpack_to else file.path),
                ("", file.url),
                ("", f"{file.hash or 'no published hash'}, {size}"),
            ]
        for label, text in rows:
            if text:
                out.print(f"  {label:8}{escape(text)}", soft_wrap=True)


@app.command()
def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(help="CSV: [cyan]Image Index[/] and a column of probabilities a finding."),
    ],
    *,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Labels, in the format of NIH's Data_Entry_2017_v2020.csv. Default: NIH's own.",
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
    resamples: Annotated[int, typer.Option(min=100, help="Resamples of patients.")] = 1000,
    seed: Annotated[int, typer.Option(help="Where the random draws start.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier report.")] = False,
) -> None:
    """Report on predictions: one HTML page and CSV tables, with intervals by patient.

    AUROC and average precision, thresholds chosen on half of the patients and reported on the
    other, calibration, and differences by sex, view and age. [bold]Not for clinical use.[/]

    [bold]Examples[/]

    [cyan]chexlib evaluate predictions.csv[/]

    [cyan]chexlib evaluate predictions.csv --labels my_labels.csv --out report[/]
    """
    with _one_line_errors():
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        from chexlib.data import load_labels, match_labels, read_predictions
        from chexlib.report.evaluation import STEPS
        from chexlib.report.evaluation import evaluate as evaluate_predictions
        from chexlib.report.page import check_folder, write_report

        folder = out if out is not None else Path(f"{predictions.stem}-report")
        check_folder(folder, force=force)
        columns = (TextColumn("  {task.description:14}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("reading", total=len(STEPS) + 2)
            step = lambda name: bar.update(task, advance=1, description=name)  # noqa: E731
            films = read_predictions(predictions)
            truth = match_labels(films, load_labels(labels), source=str(predictions))
            found = evaluate_predictions(films, truth, resamples=resamples, seed=seed, step=step)
            step("writing")
            inputs = {"predictions": predictions} | ({"labels": labels} if labels else {})
            settings = {"resamples": resamples, "seed": seed}
            settings |= {} if labels else {"labels": "NIH, Data_Entry_2017_v2020"}
            files = write_report(found, folder, inputs=inputs, settings=settings, force=force)
        mean, low, high = found.mean["auroc"]
        out_ = _out()
        out_.print(f"mean AUROC {mean:.3f} ({low:.3f} to {high:.3f}), {len(films):,} films")
        for note in found.notes:
            out_.print(f"  [yellow]not computed[/] {escape(note)}", soft_wrap=True)
        out_.print(f"  [green]ready[/] {escape(str(files[0]))}", soft_wrap=True)


@app.command()
def findings(
    aliases: Annotated[
        bool, typer.Option("--aliases", help="Show the other spellings that are understood.")
    ] = False,
) -> None:
    """List the 14 findings in the project's order, with their names in English and Chinese.

    [bold]Example[/]

    [cyan]chexlib findings --aliases[/]
    """
    from chexlib.findings import INFO

    table = Table(box=None, pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("Column name", style="bold cyan", no_wrap=True)
    table.add_column("English", no_wrap=True)
    table.add_column("繁體中文", no_wrap=True)
    table.add_column("Also written" if aliases else "On a frontal film", ratio=1)
    for number, info in enumerate(INFO.values(), start=1):
        last = ", ".join(info.aliases) if aliases else info.meaning
        table.add_row(str(number), info.name, info.english, info.chinese, escape(last))
    _out().print(table)


@app.command()
def info() -> None:
    """Show versions, the data folder, and which files are in it. Paste it into a bug report."""
    import platform

    with _one_line_errors():
        from chexlib.data.home import data_home
        from chexlib.data.registry import REGISTRY

        home = data_home()
        rows = [("python", platform.python_version()), ("system", platform.platform())]
        # Asked of the installed metadata: importing torch only to print its version is slow.
        for package in ("chexlib", "numpy", "pandas", "torch", "torchvision", "torchxrayvision"):
            try:
                rows.append((package, version(package)))
            except PackageNotFoundError:
                rows.append((package, "[red]not installed[/]"))
        rows.append(("data folder", escape(str(home)) + ("" if home.is_dir() else " (not there)")))
        rows += [(f"  {item.name}", _state(item, home)) for item in REGISTRY.values()]
        out = _out()
        for name, value in rows:
            out.print(f"{name:26}{value}", soft_wrap=True)
