"""What every command shares: the terminal it writes to, and one-line errors."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chexlib.files import legible

if TYPE_CHECKING:
    from rich.text import Text

MOST_RESAMPLES = 100_000  # more take hours and memory, and move no decimal that is printed
NOTICE = "Not for clinical use."

LONGEST = 3000  # characters of an error

# Options that several commands have.
Checkpoint = Annotated[
    Path,
    typer.Option(
        help="The folder of a run of [cyan]chexlib train[/], or weights in any format that "
        "[cyan]load_checkpoint[/] reads."
    ),
]
Findings = Annotated[
    str | None,
    typer.Option(
        help="Names of the outputs, in order, with commas between, of weights that name none."
    ),
]
Method = Annotated[
    str,
    typer.Option(
        help="cam, gradcam, layercam, fine, integrated_gradients, smoothgrad or occlusion."
    ),
]
Size = Annotated[
    int | None,
    typer.Option(help="Pixels a side for the network. Default: as it was trained, or 224."),
]
Labelled = Annotated[str | None, typer.Option(help="Findings of your labels, by commas.")]
Separator = Annotated[
    str | None, typer.Option(help="Between names in one column of your labels. Default: |")
]
Uncertain = Annotated[
    str | None,
    typer.Option(help="What -1 in your labels means: positive, negative or missing."),
]
Resamples = Annotated[int, typer.Option(min=100, max=MOST_RESAMPLES, help="Resamples of patients.")]
Force = Annotated[bool, typer.Option("--force", help="Replace earlier files.")]


class Terminal(Console):
    """A console that prints every text :func:`~chexlib.files.legible`.

    A film or its name may hold characters that move the cursor or set the window's title. Ends of
    lines stay; styles of the console's own are not texts.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as it is printed, wherever it stands: alone, in a table, in a title."""
        return super().render_str("\n".join(map(legible, text.split("\n"))), **options)


class _Log(logging.Handler):
    """Prints what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        terminal(stderr=True).print(escape(self.format(record)), soft_wrap=True)


def names_in(text: str | None) -> list[str] | None:
    """Return names that stand in a text by commas; None for none."""
    return text.split(",") if text else None


def terminal(*, stderr: bool = False) -> Terminal:
    """Give a console made now, so that it writes to the standard output of the moment."""
    return Terminal(highlight=False, soft_wrap=False, stderr=stderr)


def table(*columns: str, rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """Return a table; a column whose name begins with ``>`` has its texts to the right."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for k, name in enumerate(columns):
        shown.add_column(
            name.removeprefix(">"),
            justify="right" if name.startswith(">") else "left",
            style=None if k else "cyan",
            no_wrap=k < len(columns) - 1,
        )
    for row in rows:
        shown.add_row(*map(escape, row))
    return shown


def keep_what_is_there(files: Iterable[Path], *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse to replace a file unless told to, and one that is read whatever is told."""
    for file in files:
        if not file.exists():
            continue
        if any(path.exists() and path.samefile(file) for path in inputs):
            raise ValueError(
                f"Expected another file than those that are read, got {file}. Take another --out."
            )
        if not force:
            raise ValueError(
                f"Expected a new file, got {file}, which is there. Take another --out, or --force."
            )


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """End with one plain message and a status, not with a traceback, on an expected failure.

    What is logged meanwhile, such as a warning about a film, is printed as well.
    """
    logging.basicConfig(format="%(message)s", handlers=[_Log()])
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        # soft_wrap: the message stays one line, to be read in a log or searched for.
        said = str(error).replace("\n", " ")
        if len(said) > LONGEST:
            said = f"{said[: LONGEST - 500]} … {said[-490:]}"
        terminal(stderr=True).print(f"[bold red]Error:[/] {escape(said)}", soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped. Repeat the command: what it kept is not done again.")
        raise typer.Exit(130) from None


def tell_films(
    console: Console, *, read: int, rejected: int, listed: Path, ignored: Sequence[tuple[str, str]]
) -> None:
    """Say what became of everything that was found, and end with an error if nothing was read.

    Parameters
    ----------
    console : Console
    read, rejected : int
        Films.
    listed : Path
        Where the rejected ones are.
    ignored : sequence of (str, str)
        What is no film, and why.
    """
    text = f"{read:,} films read, {rejected:,} rejected"
    text += f": see {listed};" if rejected else ","
    text += f" {len(ignored):,} files ignored"
    for k, (reason, count) in enumerate(Counter(why for _, why in ignored).most_common()):
        names = [Path(name).name for name, why in ignored if why == reason]
        some = ", ".join(names[:3]) + (", …" if count > 3 else "")
        text += f"{', ' if k else ': '}{count:,} {reason} ({some})"
    console.print(escape(text), soft_wrap=True)
    if not read:
        raise ValueError(
            f"Expected a film that can be read, found none among {rejected:,}. The reasons are in "
            f"{listed}."
        )


@contextlib.contextmanager
def bars(
    bad: str = "rejected", unit: str = "film", **options: Any
) -> Iterator[Callable[..., None]]:
    """Show bars on the standard error: how much is done, how fast, and how long it will take.

    In a file, such as a batch system keeps, there is a line a minute instead, and one at the end.

    Yields what to call with a label, which has a bar of its own after the last one's, and the
    numbers that are done, of all, and of ``bad`` ones. Other options are those of tqdm.
    """
    from tqdm import tqdm

    shown: dict[str, tqdm] = {}
    due: dict[str, float] = {}

    def report(label: str, done: int, total: int | None, wrong: int = 0) -> None:
        if not sys.stderr.isatty():
            now = time.monotonic()
            over = done == total and due.get(label) != math.inf
            if (over or now >= due.setdefault(label, now + 60)) and not options.get("disable"):
                text = f", {wrong:,} {bad}" if wrong else ""
                typer.echo(f"  {label} {done:,}/{total or 0:,} {unit}{text}", err=True)
                due[label] = math.inf if over else now + 60
            return
        if label not in shown:
            for bar in shown.values():
                bar.close()
            shown[label] = tqdm(
                desc=f"  {label}",
                unit=unit,
                dynamic_ncols=True,
                bar_format="{desc} {bar} {n_fmt}/{total_fmt} [{remaining}, "
                "{rate_noinv_fmt}{postfix}]",
                **options,
            )
        bar = shown[label]
        bar.total = total
        if wrong:
            bar.set_postfix_str(f"{wrong:,} {bad}", refresh=False)
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        for bar in shown.values():
            bar.close()
