"""The 14 findings of ChestX-ray14: their order, names, meaning and colours.

The order is CheXNet's (Rajpurkar et al. 2017, arXiv 1711.05225 version 3, Table 2) and is the
order of every array, table and network output of this project. The Chinese names are those in use
in Taiwan; where the survey that this project grew from uses another word, that word is kept beside
it. The table itself is ``findings.toml`` beside this module.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from chexlib.files import brief

__all__ = ["FINDINGS", "INFO", "NO_FINDING", "Finding", "describe", "normalise", "own_name"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding: what it is called, what it looks like, how it is drawn.

    Attributes
    ----------
    name : str
        Column name: the spelling of NIH's label file, with underscores.
    english, chinese, chinese_survey : str
        Names for people: English, Traditional Chinese (Taiwan), and the survey's Chinese.
    meaning : str
        One line on how it shows on a frontal radiograph.
    chronic : bool
        Whether it usually persists for months, so that a second film should show it again.
    colour : str
        Hex colour; any two stay apart for readers with protanopia and deuteranopia too.
    aliases : tuple of str
        Other spellings met in published files and papers.
    """

    name: str
    english: str
    chinese: str = ""
    chinese_survey: str = ""
    meaning: str = ""
    chronic: bool = False
    colour: str = "#595959"
    aliases: tuple[str, ...] = ()


_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))

INFO: dict[str, Finding] = {
    name: Finding(name=name, **row | {"aliases": tuple(row.get("aliases", ()))})
    for name, row in _TABLE.items()
}
"""Everything known about each finding, by name."""

FINDINGS: tuple[str, ...] = tuple(INFO)
"""Names of the 14 findings in CheXNet's order."""

NO_FINDING = "No Finding"
"""NIH's text for a film in whose report text mining met none of the 14; not a claim of health."""


def _key(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())


_BY_KEY = {
    _key(spelling): finding.name
    for finding in INFO.values()
    for spelling in (finding.name, finding.english, *finding.aliases)
}


def normalise(name: str) -> str:
    """Return a finding's name as it stands in :data:`FINDINGS`, from any known spelling.

    Case, spaces, underscores and hyphens do not matter; published aliases are known.

    Parameters
    ----------
    name : str
        A spelling, such as ``"Pleural Thickening"`` or NIH's box file's ``"Infiltrate"``.

    Returns
    -------
    str
        One of :data:`FINDINGS`.

    Raises
    ------
    ValueError
        For an unknown spelling, with the nearest known one.

    Examples
    --------
    >>> normalise("pleural thickening"), normalise("Infiltrate")
    ('Pleural_Thickening', 'Infiltration')
    >>> normalise("Emphasema")
    Traceback (most recent call last):
        ...
    ValueError: Expected one of the 14 findings, got 'Emphasema'. Did you mean 'Emphysema'?
    """
    hint = f"Known are {', '.join(FINDINGS)}."
    if isinstance(name, str):
        if _key(name) in _BY_KEY:
            return _BY_KEY[_key(name)]
        for near in difflib.get_close_matches(_key(name)[:100], _BY_KEY, n=1):
            hint = f"Did you mean {_BY_KEY[near]!r}?"
    raise ValueError(f"Expected one of the 14 findings, got {brief(name)}. {hint}")


def own_name(name: str) -> str:
    """Return the name of a finding of anybody's list: as :func:`normalise` where it is known.

    Any other text is a name of its own, without the spaces around it.

    Examples
    --------
    >>> own_name("Pleural Thickening"), own_name(" Rib fracture ")
    ('Pleural_Thickening', 'Rib fracture')
    """
    try:
        return normalise(name)
    except ValueError:
        return name.strip()


def describe(name: str) -> Finding:
    """Return what is known about a finding; of one that is not among the 14, its name alone.

    Examples
    --------
    >>> describe("Pleural_Thickening").english, describe("rib_fracture").english
    ('Pleural thickening', 'rib fracture')
    """
    return INFO.get(name) or Finding(name=name, english=name.replace("_", " "))
