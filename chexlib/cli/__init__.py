"""The command line. One module a command; every import that takes time stands inside it.

So ``--help`` is quick, and what a command needs is found beside it.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from chexlib.cli import about, cache, evaluate, explain, export, fetch, localize, predict, train

__all__ = ["app"]

app = typer.Typer(
    name="chexlib",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""
Data, training, metrics and figures behind the CheXNet book. [bold]Not for clinical use.[/]

The book needs nothing from here: its label tables come with the package. Fetch files to rebuild
the derived tables, to see the NIH films, or to work with published weights.

[bold]Begin with[/]

[cyan]chexlib info[/]              versions, the data folder, and what is in it

[cyan]chexlib findings[/]          the 14 findings and their names

[cyan]chexlib fetch --list[/]      what can be fetched, how large it is, under which licence

[cyan]chexlib cache SOURCE[/]      decode films once, for training

[cyan]chexlib train[/]             a network by a recipe, on one CPU, one GPU or many nodes

[cyan]chexlib predict FILM[/]      a network's probabilities of a film, or of a folder of them

[cyan]chexlib evaluate FILE[/]     a report on your own model's predictions

[cyan]chexlib explain FILM[/]      where a network looks

[cyan]chexlib export RUN OUT[/]    a network as ONNX, for other programs
""",
)


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


for command in (
    fetch.fetch, cache.cache, train.train, predict.predict, evaluate.evaluate, explain.explain,
    localize.localize, export.export, about.findings, about.info,
):  # fmt: skip
    app.command()(command)
