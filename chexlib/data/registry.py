"""Every file that ``chexlib fetch`` can bring: what ``registry.toml`` beside this module says.

A file without a known hash is never accepted on trust: its entry says so, and
:func:`chexlib.data.fetch.fetch` refuses it until the caller names a hash.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["REGISTRY", "Entry", "RemoteFile", "entry"]


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file to download.

    Attributes
    ----------
    path : str
        Where it stands in the end, relative to the data folder. For an archive, where a copy that
        the user downloaded by other means is looked for.
    url : str
        Its address.
    hash : str or None
        ``"sha256:…"`` of what is downloaded, or ``"md5:…"`` where only that is published.
    size : int or None
        Bytes of what is downloaded, where known.
    most : int
        Bytes beyond which it is not taken, where the size is not known.
    convert : str, optional
        Which of :data:`chexlib.data.fetch.CONVERSIONS` writes the finished file.
    converted_hash : str, optional
        Hash of the finished file, where it is converted.
    unpack_to : str, optional
        For an archive: the folder, relative to the data folder, that its files go to.
    """

    path: str
    url: str
    hash: str | None = None
    size: int | None = None
    most: int = 1 << 30
    convert: str | None = None
    converted_hash: str | None = None
    unpack_to: str | None = None

    @property
    def finished_hash(self) -> str | None:
        """Hash of the file that stands at ``path`` in the end."""
        return self.converted_hash if self.convert else self.hash


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What ``chexlib fetch NAME`` brings: one or more files of one source."""

    name: str
    title: str
    files: tuple[RemoteFile, ...]
    licence: str
    citation: str
    homepage: str
    note: str = ""
    about_bytes: int | None = None

    @property
    def size(self) -> int | None:
        """Bytes to download in all, or None where a part of it is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(sizes)


_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))

# An unknown or a missing key is a TypeError that names it.
REGISTRY: dict[str, Entry] = {
    name: Entry(name=name, **row | {"files": tuple(RemoteFile(**file) for file in row["files"])})
    for name, row in _TABLES.items()
}


def entry(name: str) -> Entry:
    """Return the entry of that name.

    Raises
    ------
    ValueError
        For an unknown name, with the nearest one.

    Examples
    --------
    >>> entry("split").size
    1906038
    """
    if name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(name.lower(), REGISTRY, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"Expected one of {', '.join(REGISTRY)}, got {name!r}.{hint}")
