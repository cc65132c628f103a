"""``chexlib fetch``: public files by name, verified and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.padding import Padding

from chexlib.cli.shell import bars, one_line_errors, terminal

if TYPE_CHECKING:
    from chexlib.data.fetch import Entry


@one_line_errors()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="What to fetch; [cyan]--list[/] shows the names.")
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--list", help="List what can be fetched; with NAMES, in full. No network."),
    ] = False,
    dest: Annotated[
        Path | None,
        typer.Option(
            help="The data folder. Default: [cyan]CHEXLIB_DATA[/], or the user's cache folder."
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
            "--hash", help="sha256:… of a file whose author published none; such a file needs it."
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
    from chexlib.data.fetch import REGISTRY, entry
    from chexlib.data.fetch import fetch as fetch_entry
    from chexlib.files import data_home

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
    console, options = terminal(), {"home": home, "force": force, "known_hash": known_hash}
    for item in entries:
        console.print(
            f"[bold]{item.name}[/]  {escape(item.title)}\n"
            f"  licence: {item.licence}. Cite: {escape(item.citation)}"
        )
        with bars(unit="B", unit_scale=True) as bar:
            paths = fetch_entry(item, progress=bar, **options)
        for path in paths:
            console.print(f"  [green]ready[/] {escape(str(path))}", soft_wrap=True)


def _size(item: Entry) -> str:
    from rich.filesize import decimal

    if item.size is not None:
        return decimal(item.size)
    return f"about {decimal(item.about_bytes)}" if item.about_bytes else "not published"


def state_of(item: Entry, home: Path) -> str:
    """Return whether the files of an entry are in a folder, coloured."""
    from chexlib.data.fetch import is_present

    present = sum(is_present(file, home) for file in item.files)
    if present == len(item.files):
        checked = all(file.hash for file in item.files)
        return "[green]present[/]" if checked else "[yellow]present, unchecked[/]"
    return f"[yellow]{present} of {len(item.files)}[/]" if present else "[dim]not here[/]"


def _list(entries: list[Entry], home: Path) -> None:
    console = terminal()
    console.print(f"In {escape(str(home))}", soft_wrap=True)
    for item in entries:
        state = state_of(item, home)
        console.print(f"[bold cyan]{item.name:24}[/]{_size(item):>16}   {state}")
        console.print(Padding(escape(f"{item.title}. Licence: {item.licence}"), (0, 0, 0, 2)))
    console.print("\nSources, hashes and notes of one: [cyan]chexlib fetch --list NAME[/]")


def _list_in_full(entries: list[Entry], home: Path) -> None:
    console = terminal()
    for item in entries:
        console.print(f"[bold cyan]{item.name}[/]  {escape(item.title)}  {state_of(item, home)}")
        rows = [("size", _size(item)), ("licence", item.licence), ("cite", item.citation)]
        rows += [("from", item.homepage), ("note", item.note)]
        for file in item.files:
            size = f"{file.size:,} bytes" if file.size is not None else "size not published"
            rows += [("file", f"{file.unpack_to}/" if file.unpack_to else file.path)]
            rows += [("", file.url), ("", f"{file.hash or 'no published hash'}, {size}")]
        for label, text in rows:
            if text:
                console.print(f"  {label:8}{escape(text)}", soft_wrap=True)
