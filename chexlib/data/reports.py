"""Radiology reports: 3,955 of Indiana University with what annotators coded, and a miner of them.

The miner is the kind of program that labelled ChestX-ray14: words for each finding, and rules that
say when a word is denied, guessed at or a thing of the past. Its parts are spaCy's blank English
pipeline and negspacy's NegEx (Chapman et al., J Biomed Inform 34 (2001) 301-310), once for each
kind of cue. Words, cues and codes are data: ``reports.toml`` beside this module.
"""

from __future__ import annotations

import re
import tarfile
import tomllib
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.files import brief, package_file
from chexlib.findings import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SECTIONS = ("comparison", "indication", "findings", "impression")
_BODY = SECTIONS[2:]

_DATA = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
CODES, _MORE, WORDS = (
    {name: tuple(row[kind]) for name, row in _DATA["findings"].items()}
    for kind in ("codes", "wider", "words")
)
"""MeSH headings, and words in lower case, that stand for each finding."""

WIDER_CODES = {name: codes + _MORE[name] for name, codes in CODES.items()}
"""The headings with those that might be counted too."""

CUES: dict[str, dict[str, list[str]]] = _DATA["cues"]
"""Words that deny a finding, guess at it, or put it into the past: ``before`` it, ``after`` it, and
phrases that hold such a word and do ``not`` count."""

RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "word": (SECTIONS, ()),
    "sections": (_BODY, ()),
    "sentence": (_BODY, ("plain",)),
    "negspacy": (_BODY, ("negspacy",)),
    "negation": (_BODY, ("denied",)),
    "uncertainty": (_BODY, ("denied", "guessed")),
    "history": (_BODY, ("denied", "guessed", "past")),
}
"""Rules of a miner: the sections whose mentions count, and the flags of those that do not."""

_DENIES = re.compile(
    r"\b(no|not|without|negative|free|clear|absent|absence|neither|nor|never|resolved)\b"
)
_STOPS = ["although", "apart from", "aside from", "but", "except", "however", "though", "yet"]
_MOST = 1 << 20  # bytes of one report; the longest published one has 9 kB


def load_reports(path: str | Path | None = None) -> pd.DataFrame:
    """Return the reports of Indiana University's collection (OpenI): one row a report, 3,955.

    Names, dates and some other words are replaced by ``XXXX`` in the release. The terms (CC
    BY-NC-ND 4.0) allow a report to be quoted with its source, and no changed copy to be passed on.

    Parameters
    ----------
    path : path, optional
        Another archive in the form of ``NLMCXR_reports.tgz``. By default the published one, which
        ships inside the package ``torchxrayvision``.

    Returns
    -------
    DataFrame
        ``report`` (int), ``comparison``, ``indication``, ``findings`` and ``impression`` (str,
        empty where the report has no such section), ``codes`` (tuple of str: what annotators coded,
        MeSH headings with qualifiers, as ``"Pleural Effusion/left/small"``), and ``n_images``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the archive is damaged or is another one: names the member and what is wrong there.

    References
    ----------
    Demner-Fushman et al., J Am Med Inform Assoc 23 (2016) 304-310.

    Examples
    --------
    >>> reports = load_reports()
    >>> len(reports), int((reports["findings"] == "").sum())
    (3955, 530)
    """
    published = path is None
    path = Path(path or package_file("torchxrayvision", "data", "NLMCXR_reports.tgz"))
    rows = {}
    try:
        with tarfile.open(path, "r:gz") as packed:  # read member by member; nothing is unpacked
            for member in packed:
                if not (member.isfile() and member.name.endswith(".xml")):
                    continue
                row = _parsed(packed.extractfile(member).read(_MOST + 1), f"{path}, {member.name}")
                if rows.setdefault(row["report"], row) is not row:
                    raise ValueError(
                        f"Expected each report once, got {row['report']} again in {path}, "
                        f"{member.name}. Remove one of them."
                    )
    except FileNotFoundError:
        raise
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"Expected an archive of reports at {path}, got: {error}. The file is damaged or is "
            "another file; fetch or install it again."
        ) from error
    if not rows or (published and len(rows) != 3_955):
        raise ValueError(
            f"Expected {'3,955' if published else 'XML'} reports in {path}, found {len(rows):,}. "
            "The file is cut off or is another release."
        )
    return pd.DataFrame([rows[number] for number in sorted(rows)])


def _parsed(text: bytes, where: str) -> dict[str, object]:
    if len(text) > _MOST:
        raise ValueError(f"Expected a report of at most {_MOST:,} bytes in {where}, got a longer.")
    try:
        root = ET.fromstring(text)  # noqa: S314 - expat stops entities that grow, and fetches none
        number = int(root.find("uId").get("id").removeprefix("CXR"))
        codes = tuple(code.text.strip() for code in root.iter("major"))
    except (ET.ParseError, AttributeError, ValueError) as error:
        raise ValueError(
            f"Expected XML with a number such as CXR12 and codes in {where}, got: {error}. The "
            "file is damaged or is no report."
        ) from error
    said = {part.get("Label", "").lower(): part.text or "" for part in root.iter("AbstractText")}
    if unknown := said.keys() - set(SECTIONS):
        raise ValueError(
            f"Expected sections among {', '.join(SECTIONS)} in {where}, got {brief(min(unknown))}. "
            "It is another release."
        )
    texts = {name: said.get(name, "").strip() for name in SECTIONS}
    return {"report": number, **texts, "codes": codes, "n_images": len(root.findall("parentImage"))}


def coded(reports: pd.DataFrame, codes: Mapping[str, Iterable[str]] = CODES) -> pd.DataFrame:
    """Return which findings annotators coded.

    Parameters
    ----------
    reports : DataFrame [N]
        From :func:`load_reports`.
    codes : mapping of finding to MeSH headings
        ``"Thickening/pleura"`` asks for the heading and for the qualifier. Case does not matter.

    Returns
    -------
    DataFrame [N, F] of bool

    Examples
    --------
    >>> int(coded(load_reports())["Pneumonia"].sum())
    42
    """
    parts = [[set(code.lower().split("/")) for code in row] for row in reports["codes"]]
    wanted = {name: [set(code.lower().split("/")) for code in some] for name, some in codes.items()}
    found = {
        name: [any(ask <= code for ask in some for code in row) for row in parts]
        for name, some in wanted.items()
    }
    return pd.DataFrame(found, index=reports.index)


def find_mentions(
    reports: pd.DataFrame,
    *,
    words: Mapping[str, Iterable[str]] = WORDS,
    cues: Mapping[str, Mapping[str, list[str]]] = CUES,
) -> pd.DataFrame:
    """Find every word for a finding, and what its sentence says of it.

    Parameters
    ----------
    reports : DataFrame [N]
        From :func:`load_reports`.
    words : mapping of finding to str
        Words or phrases; case does not matter.
    cues : mapping of flag to cues
        In the form of :data:`CUES`.

    Returns
    -------
    DataFrame [M]
        A row a mention, in the order of the reports: ``report``, ``section``, ``finding``,
        ``word``, ``sentence``, and bool ``plain`` (a word of negation stands before it in its
        sentence), ``negspacy`` (negated by the cues that negspacy comes with) and one column for
        each of ``cues``.

    Raises
    ------
    ModuleNotFoundError
        Without spaCy and negspacy, which ``pip install chexlib[book]`` brings.
    """
    said = reports.melt("report", SECTIONS, var_name="section", value_name="text")
    nlp, rows = _pipeline(words, cues), []
    # Many reports say the same: each text is read once.
    for document in nlp.pipe(said["text"].unique()):
        for found in document.spans["findings"]:
            before = document[found.sent.start : found.start].text.lower()
            flags = [getattr(found._, name) for name in ("negspacy", *cues)]
            plain = _DENIES.search(before) is not None
            sentence = found.sent.text.strip()
            rows.append((document.text, found.label_, found.text, sentence, plain, *flags))
    columns = ["text", "finding", "word", "sentence", "plain", "negspacy", *cues]
    mentions = said.merge(pd.DataFrame(rows, columns=columns), on="text").drop(columns="text")
    order = pd.Index(reports["report"]).get_indexer(mentions["report"])
    return mentions.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)


def _pipeline(words, cues):
    try:
        import spacy
        from negspacy.negation import default_ts
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Expected spaCy and negspacy, which mining reports needs, got: {error}. Install them: "
            "pip install chexlib[book]"
        ) from error
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    # Spans may overlap, as entities may not: a hydropneumothorax is two findings.
    where = {"spans_key": "findings", "phrase_matcher_attr": "LOWER"}
    nlp.add_pipe("span_ruler", config=where).add_patterns(
        [{"label": name, "pattern": word} for name, some in words.items() for word in some]
    )
    sets = {"negspacy": default_ts} | {
        name: {
            "preceding_negations": list(cue["before"]),
            "following_negations": list(cue["after"]),
            "pseudo_negations": list(cue["not"]),
            "termination": _STOPS,
        }
        for name, cue in cues.items()
    }
    for name, terms in sets.items():
        config = {"neg_termset": terms, "extension_name": name, "span_keys": ["findings"]}
        nlp.add_pipe("negex", name=name, config=config)
    return nlp


def called(mentions: pd.DataFrame, reports: pd.DataFrame, *, rule: str = "word") -> pd.DataFrame:
    """Return which findings a rule calls in each report.

    Parameters
    ----------
    mentions : DataFrame [M]
        From :func:`find_mentions`, or those of them that another rule leaves.
    reports : DataFrame [N]
        From :func:`load_reports`.
    rule : str
        One of :data:`RULES`: ``word`` (it stands anywhere in the report), ``sections`` (in findings
        or impression), ``sentence`` (with no word of negation before it in its sentence),
        ``negspacy`` (not negated by negspacy's own cues), ``negation`` (not denied by
        :data:`CUES`), ``uncertainty`` (nor guessed at), ``history`` (nor of the past).

    Returns
    -------
    DataFrame [N, 14] of bool
        Columns are :data:`chexlib.findings.FINDINGS`.

    Raises
    ------
    ValueError
        If the rule is unknown.
    """
    if rule not in RULES:
        raise ValueError(f"Expected a rule among {', '.join(RULES)}, got {rule!r}.")
    sections, refused = RULES[rule]
    left = mentions["section"].isin(sections) & ~mentions[list(refused)].any(axis=1)
    found = pd.crosstab(mentions["report"][left], mentions["finding"][left]) > 0
    found = found.reindex(index=reports["report"], columns=list(FINDINGS), fill_value=False)
    return found.set_axis(reports.index).rename_axis(columns=None)
