"""The 14 findings: order, spellings, and colours that stay apart for colour-blind readers."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from chexlib.findings import FINDINGS, INFO, normalise

ROOT = Path(__file__).resolve().parent.parent


def test_order_is_that_of_chexnet_table_2():
    table = "Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax "
    table += "Consolidation Edema Emphysema Fibrosis Pleural_Thickening Hernia"
    assert tuple(table.split()) == FINDINGS
    assert tuple(INFO) == FINDINGS


@pytest.mark.parametrize("field", ["english", "chinese", "chinese_survey", "meaning", "colour"])
def test_every_finding_is_described(field):
    values = [getattr(finding, field) for finding in INFO.values()]
    assert all(values)
    assert len(set(values)) == 14


def test_meanings_are_those_of_the_fleischner_society():
    """Hansell et al. 2008: a nodule is rounded, a mass of any contour; emphysema has no walls."""
    assert "round" in INFO["Nodule"].meaning
    assert "round" not in INFO["Mass"].meaning
    assert "destroyed walls" in INFO["Emphysema"].meaning
    assert "progress" in INFO["Fibrosis"].meaning
    assert "sliding" in INFO["Hernia"].meaning


def test_chinese_is_chinese():
    for finding in INFO.values():
        assert all("\u4e00" <= letter <= "\u9fff" for letter in finding.chinese)


def test_the_glossary_has_these_chinese_names():
    glossary = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    names = [finding.chinese for finding in INFO.values()]
    assert [name for name in (*names, "報告未標出這 14 項") if f"**{name}**" not in glossary] == []


@given(st.sampled_from(FINDINGS), st.sampled_from(["_", " ", "-", "", "  "]), st.booleans())
def test_spelling_does_not_matter(name, joint, upper):
    spelt = name.replace("_", joint)
    assert normalise(spelt.upper() if upper else spelt.lower()) == name


@pytest.mark.parametrize("finding", INFO.values(), ids=lambda finding: finding.name)
def test_names_and_aliases_are_known(finding):
    for spelling in (finding.name, finding.english, *finding.aliases):
        assert normalise(spelling) == finding.name


def test_unknown_spelling_names_the_nearest():
    with pytest.raises(ValueError, match="'Pneumotorax'. Did you mean 'Pneumothorax'"):
        normalise("Pneumotorax")


@pytest.mark.parametrize("name", ["", "qqq", None, 3])
def test_hopeless_spelling_lists_what_is_known(name):
    with pytest.raises(ValueError, match="Known are Atelectasis, "):
        normalise(name)


def _seen_by(colour: str, kind: str) -> np.ndarray:
    """CIE Lab of a colour as a dichromat sees it (Viénot, Brettel and Mollon 1999, Table 1)."""
    from skimage.color import rgb2lab

    matrices = {
        "all": np.eye(3),
        "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    linear = np.asarray(to_rgb(colour)) ** 2.2
    seen = np.clip(np.asarray(matrices[kind]) @ linear, 0, 1) ** (1 / 2.2)
    return rgb2lab(seen.reshape(1, 1, 3)).ravel()


@pytest.mark.parametrize("kind", ["all", "protan", "deutan"])
def test_colours_differ(kind):
    lab = {name: _seen_by(finding.colour, kind) for name, finding in INFO.items()}
    distance = {
        pair: float(np.linalg.norm(lab[pair[0]] - lab[pair[1]]))
        for pair in itertools.combinations(FINDINGS, 2)
    }
    nearest = min(distance, key=distance.get)
    assert distance[nearest] > 10, nearest  # 2.3 is just noticeable
