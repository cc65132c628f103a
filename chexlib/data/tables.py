"""Tables of figures: small CSV files under ``data/``, each carrying where it comes from.

A table starts with header lines ``# key: value`` (source, licence, SHA-256 of each input, the
command that rebuilds it, date), followed by an ordinary CSV that ``pandas.read_csv(path,
comment="#")`` reads. A long table is compressed (``.csv.gz``); pandas reads that just as well.
"""

from __future__ import annotations

import datetime
import gzip
import io
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from chexlib.files import files_below, sha256, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["table", "table_folder", "write_table"]


def table_folder() -> Path:
    """Return the folder of the tables: ``data/`` of a checkout, or the installed package's copy."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_tables"
    return installed if installed.is_dir() else package.parent / "data"


def table(name: str) -> pd.DataFrame:
    """Return a table of ``data/``, its provenance in ``.attrs``.

    Parameters
    ----------
    name : str
        File name without ``.csv`` or ``.csv.gz``, such as ``"label_quality"``.

    Raises
    ------
    FileNotFoundError
        If there is no such table, with the names of those there are.
    ValueError
        If the file has no provenance header.
    """
    folder = table_folder()
    files = itertools.chain(folder.glob("*.csv"), folder.glob("*.csv.gz"))
    tables = {path.name.partition(".")[0]: path for path in files}
    if name not in tables:
        raise FileNotFoundError(
            f"Expected a table of figures among {sorted(tables)}, got {name!r}. Tables stand in "
            f"{folder} and are rebuilt by `make tables`."
        )
    text = _read(tables[name])
    header = itertools.takewhile(lambda line: line.startswith("# "), text.splitlines())
    provenance = dict(line[2:].partition(": ")[::2] for line in header)
    if "source" not in provenance:
        raise ValueError(
            f"Expected header lines such as '# source: …' at the top of {tables[name]}, found "
            "none. Rebuild the table with `make tables`."
        )
    frame = pd.read_csv(io.StringIO(text), skiprows=len(provenance))
    frame.attrs.update(provenance)
    return frame


def write_table(
    frame: pd.DataFrame,
    path: str | Path,
    *,
    source: str,
    licence: str,
    inputs: Iterable[str | Path],
    command: str,
    note: str | None = None,
) -> None:
    """Write a table of figures with its provenance, atomically.

    A table whose rows have not changed keeps its file, and so its date.

    Parameters
    ----------
    frame : DataFrame
        What to write; floats are written with all their digits.
    path : path
        Target, ending in ``.csv``, or in ``.csv.gz`` to be compressed.
    source, licence, command : str
        One line each: what it was computed from, under which licence, by which command.
    inputs : iterable of paths
        Files whose SHA-256 the header records; a folder has one for all that it holds.
    note : str, optional
        One more line.

    Raises
    ------
    ValueError
        If a text has a line break or a cell holds ``#``, which would read as a comment.
    """
    path = Path(path)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    header = {
        "source": source,
        "licence": licence,
        **{f"sha256 {_called(Path(file))}": sha256(file) for file in inputs},
        "command": command,
        "date": today,
        **({} if note is None else {"note": note}),
    }
    body = frame.to_csv(index=False, lineterminator="\n")
    if any("\n" in value for value in header.values()) or "#" in body:
        raise ValueError(
            f"Expected header values of one line and no '#' in the cells of {path.name}, got one."
        )
    text = "".join(f"# {key}: {value}\n" for key, value in header.items()) + body
    if path.is_file() and _without_date(_read(path)) == _without_date(text):
        return
    content = text.encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # the same rows give the same file
    write_atomically(path, lambda draft: draft.write_bytes(content))


def _called(path: Path) -> str:
    return f"{path.name}/ ({len(files_below(path))} files)" if path.is_dir() else path.name


def _read(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()


def _without_date(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("# date: ")]
