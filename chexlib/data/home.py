"""Where files are: the fetched ones, and those that other packages carry."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

__all__ = ["cache_home", "data_home", "package_file"]


def data_home() -> Path:
    """Return the folder of fetched files: ``CHEXLIB_DATA``, or a folder of the user's cache.

    The folder need not exist. ``chexlib fetch`` lays files out below it.
    """
    return _named("CHEXLIB_DATA")


def cache_home() -> Path:
    """Return the folder of what can be made again: ``CHEXLIB_CACHE``, or the user's cache.

    Image caches and simulated films are kept there, apart from fetched files, which may lie on a
    disk that is only read. The folder need not exist.
    """
    return _named("CHEXLIB_CACHE", "made")


def _named(variable: str, *default: str) -> Path:
    if named := os.environ.get(variable):
        return Path(named).expanduser()
    import pooch  # only here: it takes a quarter of a second to import

    return Path(pooch.os_cache("chexlib"), *default)


def package_file(package: str, *parts: str) -> Path:
    """Return the path of a file inside an installed package, without importing the package.

    ``torchxrayvision`` carries the label tables, and importing it would load torch and silence
    every warning of the process.

    Raises
    ------
    FileNotFoundError
        If the package or the file is not there.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"Expected the package {package!r}, which carries {'/'.join(parts)}, and did not find "
            f"it. Install it: pip install {package}"
        )
    path = Path(spec.submodule_search_locations[0], *parts)
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the file {'/'.join(parts)} inside the package {package!r}, found none at "
            f"{path}. Install the release that requirements.lock names."
        )
    return path
