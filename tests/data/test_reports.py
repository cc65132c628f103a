"""Reports: read whole, refused when damaged, and mined by rules that a sentence each shows."""

import io
import sys
import tarfile

import pandas as pd
import pytest

from chexlib.data import load_reports, package_file
from chexlib.data.reports import (
    CODES,
    RULES,
    WIDER_CODES,
    WORDS,
    called,
    coded,
    find_mentions,
)
from chexlib.findings import FINDINGS

XML = (
    '<eCitation><uId id="CXR{number}"/><Abstract><AbstractText Label="FINDINGS">{findings}'
    '</AbstractText><AbstractText Label="IMPRESSION"/></Abstract><MeSH><major>{code}</major></MeSH>'
    "{images}</eCitation>"
)


def xml(number=7, findings="Clear lungs.", code="normal", images="<parentImage/>"):
    return XML.format(number=number, findings=findings, code=code, images=images)


def archive(path, *texts, link=False):
    with tarfile.open(path, "w:gz") as packed:
        for place, text in enumerate(texts):
            member = tarfile.TarInfo(f"ecgen-radiology/{place}.xml")
            data = text.encode()
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
        if link:
            member = tarfile.TarInfo("ecgen-radiology/link.xml")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            packed.addfile(member)
    return path


def said(*findings, indication=""):
    """Reports that say a text each."""
    texts = {"comparison": "", "indication": indication, "findings": findings, "impression": ""}
    return pd.DataFrame({"report": range(1, len(findings) + 1), **texts})


@pytest.fixture(scope="module")
def reports():
    return load_reports()


@pytest.fixture(scope="module")
def mentions(reports):
    return find_mentions(reports)


def test_reports_are_those_published(reports):
    assert len(reports) == reports["report"].nunique() == 3_955
    assert reports["report"].is_monotonic_increasing
    empty = reports[["findings", "impression"]] == ""
    assert empty.sum().tolist() == [530, 34]
    assert empty.all(axis=1).sum() == 28
    assert (reports["n_images"] == 0).sum() == 104
    assert reports["codes"].map(lambda codes: codes == ("normal",)).sum() == 1_391


def test_archive_of_others(tmp_path):
    path = archive(tmp_path / "a.tgz", xml(9, code="Mass/left"), xml(2, images=""), link=True)
    found = load_reports(path)
    assert found["report"].tolist() == [2, 9]
    assert found["codes"].tolist() == [("normal",), ("Mass/left",)]
    assert found["n_images"].tolist() == [0, 1]
    assert found["findings"].tolist() == ["Clear lungs."] * 2
    assert (found[["comparison", "indication", "impression"]] == "").all(axis=None)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tgz"]


BOMB = "<!DOCTYPE a [<!ENTITY a0 'lol'>{}]>".format(
    "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 12))
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (xml()[:-3], "1.xml, got: "),
        (xml().replace("CXR7", "IM7"), r"CXR12 .*1.xml"),
        (xml().replace("uId", "u"), r"CXR12 .*1.xml"),
        (xml(code=""), r"codes in .*1.xml"),
        (xml().replace("FINDINGS", "DIAGNOSIS"), r"among comparison.*1.xml, got 'diagnosis'"),
        (xml(3), r"once, got 3 again in .*1.xml"),
        (xml(findings="x" * (1 << 20)), r"at most 1,048,576 bytes in .*1.xml"),
        (BOMB + xml(findings="&a11;"), r"1.xml, got: .*amplification"),
        ("<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>" + xml(findings="&b;"), "1.xml"),
    ],
)
def test_damaged_report(tmp_path, text, message):
    path = archive(tmp_path / "a.tgz", xml(3), text)
    with pytest.raises(ValueError, match=message) as error:
        load_reports(path)
    assert "root:" not in str(error.value)


def test_damaged_archive(tmp_path):
    path = tmp_path / "a.tgz"
    with pytest.raises(FileNotFoundError):
        load_reports(path)
    path.write_text("no archive")
    with pytest.raises(ValueError, match=r"archive of reports at .*a.tgz, got: .*fetch or install"):
        load_reports(path)
    published = package_file("torchxrayvision", "data", "NLMCXR_reports.tgz").read_bytes()
    for damaged in (published[:100_000], published[:90_000] + bytes(50) + published[90_050:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="The file is damaged or is "):
            load_reports(path)
    with pytest.raises(ValueError, match="Expected XML reports in .*found 0"):
        load_reports(archive(path))


def test_published_archive_that_is_cut(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.tgz", xml())
    monkeypatch.setattr("chexlib.data.reports.package_file", lambda *_: path)
    with pytest.raises(ValueError, match=r"Expected 3,955 reports in .*found 1\."):
        load_reports()


def test_codes(reports):
    found = coded(reports)
    counts = dict.fromkeys(FINDINGS) | found.sum().to_dict()
    assert [counts[name] for name in FINDINGS] == [
        *(332, 375, 162, 65, 17, 111, 42, 27, 30, 46, 102, 20, 47, 50),
    ]
    assert list(CODES) == list(WORDS) == list(FINDINGS)
    wider = coded(reports, WIDER_CODES)
    assert (wider >= found).all(axis=None)
    assert wider["Pneumonia"].sum() > 200


def test_qualifier_is_of_its_heading():
    reports = pd.DataFrame({"codes": [("Thickening/skin", "Pleura/left"), ("thickening/PLEURA",)]})
    assert coded(reports)["Pleural_Thickening"].tolist() == [False, True]


def flags(text):
    """Which flags the sentence's only mention has."""
    found = find_mentions(said(text))
    assert len(found) == 1, found
    return set(found.columns[found.iloc[0].map(lambda value: value is True or value == 1)]) & {
        *("plain", "negspacy", "denied", "guessed", "past"),
    }


PRESENT = set()
ALL = {"plain", "negspacy", "denied"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is a small left Pneumothorax.", PRESENT),
        ("Heart size is normal. Bibasilar atelectasis is present.", PRESENT),
        ("The heart is not large, however a nodule is seen.", {"plain"}),
        ("No acute fracture but a mass in the left lung.", {"plain"}),
        ("No pneumothorax.", ALL),
        ("The lungs are without focal consolidation.", ALL),
        ("Lungs are clear of focal airspace disease, pleural effusion.", ALL - {"negspacy"}),
        ("Lungs are free of infiltrate.", ALL),
        ("Pneumothorax is not seen.", {"denied"}),
        ("An effusion is absent.", {"denied"}),
        ("There is no change in the left effusion.", {"plain"}),
        ("Possible pneumonia.", {"guessed"}),
        ("Findings may represent edema.", {"guessed"}),
        ("This is consistent with atelectasis.", PRESENT),
        ("Opacity, rule out pneumonia.", {"negspacy", "guessed"}),
        ("Edema cannot be excluded.", {"guessed"}),
        ("Edema cannot be entirely excluded.", {"guessed"}),
        ("Edema is excluded.", {"denied"}),
        ("Resolution of the left effusion.", {"past"}),
        ("The pneumothorax has resolved.", {"past"}),
        ("History of emphysema.", {"past"}),
    ],
)
def test_sentences(text, expected):
    assert flags(text) == expected


def test_one_word_of_two_findings():
    found = find_mentions(said("Right hydropneumothorax.", "Clear lungs."))
    assert set(found["finding"]) == {"Effusion", "Pneumothorax"}
    assert found[["report", "section"]].drop_duplicates().to_numpy().tolist() == [[1, "findings"]]


def test_mentions_in_the_order_of_reports_each_its_own():
    same = said("A mass.", "No mass.", "A mass.", indication="nodule").iloc[::-1]
    found = find_mentions(same)
    assert found["report"].tolist() == [3, 3, 2, 2, 1, 1]
    assert found["section"].tolist() == ["indication", "findings"] * 3
    assert found["denied"].tolist() == [False, False, False, True, False, False]
    calls = called(found, same, rule="negation")
    assert calls.index.tolist() == same.index.tolist()
    assert calls["Mass"].tolist() == [True, False, True]
    assert not calls["Nodule"].any()
    assert called(found, same)["Nodule"].all()


def test_own_words_and_cues():
    cues = {"doubted": {"before": ["dubious"], "after": [], "not": []}}
    words = {"Hernia": ["Stomach in the chest"]}
    found = find_mentions(said("Dubious stomach in the chest."), words=words, cues=cues)
    assert found["doubted"].tolist() == [True]
    assert list(found.columns)[-1] == "doubted"


def test_nothing_found_is_nothing_called():
    reports = said("Clear lungs.")
    for rule in RULES:
        calls = called(find_mentions(reports), reports, rule=rule)
        assert calls.to_numpy().tolist() == [[False] * 14]
        assert list(calls.columns) == list(FINDINGS)
        assert (calls.dtypes == bool).all()


def test_rules_each_call_less_than_the_one_before(reports, mentions):
    found = {rule: called(mentions, reports, rule=rule) for rule in RULES}
    for earlier, later in (("word", "sections"), ("sections", "negation")):
        assert (found[earlier] >= found[later]).all(axis=None)
    for earlier, later in (("negation", "uncertainty"), ("uncertainty", "history")):
        assert (found[earlier] >= found[later]).all(axis=None)


def test_figures_of_a_search_for_the_word(reports, mentions):
    """By a search of plain text, without spaCy."""
    texts = reports["comparison"] + "\n" + reports["indication"]
    texts = (texts + "\n" + reports["findings"] + "\n" + reports["impression"]).str.lower()
    by_word = called(mentions, reports)
    for name in ("Pneumonia", "Pneumothorax", "Effusion", "Edema"):
        plain = texts.str.contains(rf"\b(?:{'|'.join(WORDS[name])})\b")
        assert (plain == by_word[name]).mean() > 0.999


def test_unknown_rule(mentions, reports):
    with pytest.raises(ValueError, match="a rule among word, sections, .*got 'hedges'"):
        called(mentions, reports, rule="hedges")


def test_without_spacy(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install chexlib\[book\]"):
        find_mentions(said("A mass."))
