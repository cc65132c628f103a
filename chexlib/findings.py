"""The 14 findings of ChestX-ray14: their order, names, meaning and colours.

The order is CheXNet's (Rajpurkar et al. 2017, arXiv 1711.05225 version 3, Table 2) and is the
order of every array, table and network output of this project. The Chinese names are those in use
in Taiwan; where the survey that this project grew from uses another word, that word is kept beside
it.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from chexlib.files import brief

__all__ = ["FINDINGS", "INFO", "NO_FINDING", "Finding", "normalise"]


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
    chinese: str
    chinese_survey: str
    meaning: str
    chronic: bool
    colour: str
    aliases: tuple[str, ...] = ()


_ALL = (
    Finding(
        name="Atelectasis",
        english="Atelectasis",
        chinese="肺塌陷",
        chinese_survey="肺陷落／肺不張",
        meaning="Lung that lost volume: a band or wedge of density, neighbours pulled towards it.",
        chronic=False,
        colour="#0072b2",
    ),
    Finding(
        name="Cardiomegaly",
        english="Cardiomegaly",
        chinese="心臟擴大",
        chinese_survey="心臟肥大",
        meaning="A heart wider than half of the chest on a PA film.",
        chronic=True,
        colour="#e69f00",
        aliases=("enlarged heart",),
    ),
    Finding(
        name="Effusion",
        english="Pleural effusion",
        chinese="肋膜積液",
        chinese_survey="滲出",
        meaning="Fluid in the pleural space: a blunted costophrenic angle, a meniscus upright.",
        chronic=False,
        colour="#56b4e9",
        aliases=("pleural effusion", "pleural fluid"),
    ),
    Finding(
        name="Infiltration",
        english="Infiltration",
        chinese="浸潤",
        chinese_survey="滲透",
        meaning="Ill-defined added density in the lung; an old word that names no one disease.",
        chronic=False,
        colour="#782717",
        aliases=("infiltrate", "infiltrates"),
    ),
    Finding(
        name="Mass",
        english="Mass",
        chinese="腫塊",
        chinese_survey="腫塊",
        meaning="An opacity more than 3 cm across, whatever its outline.",
        chronic=True,
        colour="#009e73",
        aliases=("lung mass",),
    ),
    Finding(
        name="Nodule",
        english="Nodule",
        chinese="結節",
        chinese_survey="結節",
        meaning="A rounded opacity of at most 3 cm.",
        chronic=True,
        colour="#c3b863",
        aliases=("lung nodule", "pulmonary nodule"),
    ),
    Finding(
        name="Pneumonia",
        english="Pneumonia",
        chinese="肺炎",
        chinese_survey="肺炎",
        meaning="Infection of the lung: a diagnosis, which a film can suggest by an opacity.",
        chronic=False,
        colour="#d55e00",
    ),
    Finding(
        name="Pneumothorax",
        english="Pneumothorax",
        chinese="氣胸",
        chinese_survey="氣胸",
        meaning="Air in the pleural space: a thin pleural line with no lung vessels beyond it.",
        chronic=False,
        colour="#cc79a7",
        aliases=("ptx",),
    ),
    Finding(
        name="Consolidation",
        english="Consolidation",
        chinese="實質化",
        chinese_survey="實變",
        meaning="Air spaces filled: a dense opacity that hides vessels; often air bronchograms.",
        chronic=False,
        colour="#30349b",
    ),
    Finding(
        name="Edema",
        english="Pulmonary edema",
        chinese="肺水腫",
        chinese_survey="浮腫／水腫",
        meaning="Fluid in the lung, mostly from the heart: hazy vessels, perihilar, on both sides.",
        chronic=False,
        colour="#9a8cff",
        aliases=("oedema", "pulmonary edema", "pulmonary oedema"),
    ),
    Finding(
        name="Emphysema",
        english="Emphysema",
        chinese="肺氣腫",
        chinese_survey="氣腫／肺氣腫",
        meaning="Enlarged air spaces with destroyed walls: dark large lungs, flat diaphragms.",
        chronic=True,
        colour="#54385b",
    ),
    Finding(
        name="Fibrosis",
        english="Fibrosis",
        chinese="肺纖維化",
        chinese_survey="纖維化",
        meaning="Scarred lung: coarse lines and lost volume that stay, and may progress.",
        chronic=True,
        colour="#6c68fc",
        aliases=("pulmonary fibrosis",),
    ),
    Finding(
        name="Pleural_Thickening",
        english="Pleural thickening",
        chinese="肋膜增厚",
        chinese_survey="胸膜增厚",
        meaning="A scarred pleura: a smooth or nodular density along the chest wall or the apex.",
        chronic=True,
        colour="#2b2b2b",
        aliases=("thickened pleura",),
    ),
    Finding(
        name="Hernia",
        english="Hernia",
        chinese="橫膈疝氣",
        chinese_survey="疝氣／脫腸",
        meaning="Mostly a sliding hiatal hernia: stomach above the diaphragm, behind the heart.",
        chronic=True,
        colour="#777777",
        aliases=("hiatal hernia", "hiatus hernia", "diaphragmatic hernia"),
    ),
)

FINDINGS: tuple[str, ...] = tuple(finding.name for finding in _ALL)
"""Names of the 14 findings in CheXNet's order."""

INFO: dict[str, Finding] = {finding.name: finding for finding in _ALL}
"""Everything known about each finding, by name."""

NO_FINDING = "No Finding"
"""NIH's text for a film in whose report text mining met none of the 14; not a claim of health."""


def _key(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())


_BY_KEY = {
    _key(spelling): finding.name
    for finding in _ALL
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
    if isinstance(name, str):
        found = _BY_KEY.get(_key(name))
        if found is not None:
            return found
        near = difflib.get_close_matches(_key(name)[:100], _BY_KEY, n=1)
        hint = (
            f"Did you mean {_BY_KEY[near[0]]!r}?" if near else f"Known are {', '.join(FINDINGS)}."
        )
    else:
        hint = f"Known are {', '.join(FINDINGS)}."
    raise ValueError(f"Expected one of the 14 findings, got {brief(name)}. {hint}")
