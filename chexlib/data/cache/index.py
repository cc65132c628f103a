"""The index of an image cache: one SQLite file, a row a film.

SQLite brings transactions that outlive a kill and a power cut; a journal of our own would have to
earn that trust.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd

__all__ = ["OK", "PENDING", "REJECTED", "connect", "create", "read_index", "size_of"]

FORMAT = 1
PENDING, OK, REJECTED = "pending", "ok", "rejected"
META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID"
FILMS = """
CREATE TABLE films (
    row INTEGER PRIMARY KEY, image TEXT UNIQUE NOT NULL, patient INTEGER, source TEXT NOT NULL,
    source_height INTEGER, source_width INTEGER, spacing_x REAL, spacing_y REAL, view TEXT,
    sha256 TEXT, crc32 INTEGER, status TEXT NOT NULL, reason TEXT
)
"""


def connect(folder: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the index in a folder; it is made where it is to be written."""
    uri = (folder / "index.sqlite").resolve().as_uri() + ("?mode=ro" if read_only else "")
    db = sqlite3.connect(uri, uri=True)
    if not read_only:
        db.execute("PRAGMA synchronous = FULL")  # a promise of the index survives a power cut
    return db


def create(db: sqlite3.Connection, size: int) -> None:
    """Make the tables, where there are none."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'films'").fetchone():
        db.execute(META)
        db.execute(FILMS)
        db.executemany("INSERT INTO meta VALUES (?, ?)", [("format", FORMAT), ("size", size)])


def size_of(db: sqlite3.Connection, folder: Path) -> int:
    """Return the films' pixels a side."""
    try:
        meta = dict(db.execute("SELECT key, value FROM meta"))
    except sqlite3.DatabaseError as error:
        raise _foreign(folder, error) from None
    if meta.get("format") != FORMAT:
        raise ValueError(
            f"Expected an image cache of format {FORMAT} in {folder}, found {meta.get('format')}. "
            "Build it again in another folder."
        )
    return int(meta["size"])


def read_index(folder: Path) -> tuple[int, pd.DataFrame]:
    """Return the films' pixels a side, and the table of films in their order.

    Raises
    ------
    ValueError
        If the file is another, or damaged.
    """
    with closing(connect(folder, read_only=True)) as db:
        size = size_of(db, folder)
        try:
            index = pd.read_sql_query("SELECT * FROM films ORDER BY row", db)
        except pd.errors.DatabaseError as error:
            raise _foreign(folder, error) from None
    return size, index.drop(columns="row").astype({"patient": "Int64", "crc32": "Int64"})


def _foreign(folder: Path, error: Exception) -> ValueError:
    return ValueError(
        f"Expected the index of an image cache in {folder / 'index.sqlite'}, found none that can "
        f"be read ({error}). If a build was stopped, repeat it; else build into another folder."
    )
