"""Tables of figures: small CSV files under ``data/``, each carrying where it comes from.

A table starts with header lines ``# key: value`` (source, licence, SHA-256 of each input, the
command that rebuilds it, date), followed by an ordinary CSV that ``pandas.read_csv(path,
comment="#")`` reads. A long table is compressed (``.csv.gz``); pandas reads that just as well.
"""

from __future__ import annotations

import gzip
import io
import itertools
from pathlib import Path

import pandas as pd


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
    text = read_text(tables[name])
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


def read_text(path: Path) -> str:
    """Return the text of a table, compressed or not."""
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
