"""What the phantom is known by: films that were rendered once and are committed.

A comment, or code that moves, changes nothing here; a film that looks different does, once
``python data/phantom_reference.py`` has written the file again. Processors and library versions
differ in the last bit, so films are compared, not hashed: a test allows one grey level, and 0.1% of
pixels beyond it.
"""

from __future__ import annotations

from chexlib.data.tables import sha256, table_folder

__all__ = ["REFERENCE", "VERSION"]

REFERENCE = table_folder() / "phantom_reference.npz"
VERSION = sha256(REFERENCE)[:12]
"""Names the phantom in tables and in the folders of caches: of the file's SHA-256."""
