"""What every command shares: the terminal it writes to, and one-line errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer
from rich.console import Console
from rich.markup import escape

__all__ = ["one_line_errors", "terminal"]


def terminal() -> Console:
    """Give a console made now, so that it writes to the standard output of the moment."""
    return Console(highlight=False, soft_wrap=False)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
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
