"""``chexlib findings`` and ``chexlib info``."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from rich.markup import escape

from chexlib.cli.fetch import state_of
from chexlib.cli.shell import one_line_errors, table, terminal


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

    last = "Also written" if aliases else "On a frontal film"
    rows = [
        (str(k), x.name, x.english, x.chinese, ", ".join(x.aliases) if aliases else x.meaning)
        for k, x in enumerate(INFO.values(), start=1)
    ]
    terminal().print(table(">#", "Column name", "English", "繁體中文", last, rows=rows))


@one_line_errors()
def info() -> None:
    """Show versions, the folders of data and of caches, and which files are in the first.

    Fetched files lie in [cyan]CHEXLIB_DATA[/], what can be made again (image caches, simulated
    films) in [cyan]CHEXLIB_CACHE[/]; by default both in the user's cache folder. Paste it into a
    bug report.
    """
    import platform

    from chexlib.data.fetch import REGISTRY
    from chexlib.files import cache_home, data_home

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
