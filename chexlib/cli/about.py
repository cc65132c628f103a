"""``chexlib findings`` and ``chexlib info``."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from chexlib.cli.fetch import state_of
from chexlib.cli.shell import one_line_errors, terminal

__all__ = ["findings", "info"]


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
    terminal().print(table)


def info() -> None:
    """Show versions, the folders of data and of caches, and which files are in the first.

    Paste it into a bug report.
    """
    import platform

    with one_line_errors():
        from chexlib.data.home import cache_home, data_home
        from chexlib.data.registry import REGISTRY

        home = data_home()
        rows = [("python", platform.python_version()), ("system", platform.platform())]
        # Asked of the installed metadata: importing torch only to print its version is slow.
        for package in ("chexlib", "numpy", "pandas", "torch", "torchvision", "torchxrayvision"):
            try:
                rows.append((package, version(package)))
            except PackageNotFoundError:
                rows.append((package, "[red]not installed[/]"))
        for name, folder in (("cache folder", cache_home()), ("data folder", home)):
            rows.append((name, escape(str(folder)) + ("" if folder.is_dir() else " (not there)")))
        rows += [(f"  {item.name}", state_of(item, home)) for item in REGISTRY.values()]
        console = terminal()
        for name, value in rows:
            console.print(f"{name:26}{value}", soft_wrap=True)
