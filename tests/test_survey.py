"""The page that answers the survey: every statement judged once, in both languages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "book" / "survey.md").read_text(encoding="utf-8")
ITEMS = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
COLUMNS = re.compile(
    r":::\{grid-item\}\n(?P<english>.*?)\n:::\n\n"
    r':::\{grid-item\}\n<div lang="zh-Hant-TW">\n\n(?P<chinese>.*?)\n\n</div>\n:::\n',
    re.DOTALL,
)
each_item = pytest.mark.parametrize("number", range(1, len(ITEMS) + 1))


def test_every_statement_has_a_verdict():
    verdicts = re.search(r"^VERDICTS = \{(.*?)^\}", PAGE, re.MULTILINE | re.DOTALL)[1]
    parts = re.findall(r'"(\w+)": "([hpxn]+)"', verdicts)
    sections = re.split(r"^\(survey-(\w+)\)=$", PAGE, flags=re.MULTILINE)
    counts = [
        (name, text.count("\n### "))
        for name, text in zip(sections[1::2], sections[2::2], strict=True)
    ]
    assert counts == [(name, len(letters)) for name, letters in parts]


@each_item
def test_a_statement_is_answered_in_both_languages(number):
    item = ITEMS[number - 1]
    assert item.startswith(f"{number}. ")
    english, chinese = COLUMNS.search(item).groups()
    assert english.startswith(f"**{{glue:text}}`v{number}`**. ")
    assert chinese.startswith(f"**{{glue:text}}`z{number}`**。")
    targets = [re.findall(r"\]\(([^)]+)\)|\{cite\}`(\w+)`", text) for text in (english, chinese)]
    assert targets[0]
    assert set(targets[0]) == set(targets[1])
    assert max(len(paragraph.split()) for paragraph in english.split("\n\n")) <= 90


@each_item
def test_chinese_has_its_own_punctuation(number):
    chinese = COLUMNS.search(ITEMS[number - 1])["chinese"]
    assert not re.search(r"[\u4e00-\u9fff][,;:!?]|[,;:!?.][\u4e00-\u9fff]", chinese)
    assert not re.search(r"[\u4e00-\u9fff]\n[\u4e00-\u9fff]", chinese)  # would show as a space


@pytest.mark.parametrize(
    "quoted",
    [
        "不知道病人先前的病史對於判斷正確有幫助",
        "which has been shown to decrease radiologist diagnostic performance",
    ],
)
def test_the_introduction_quotes_the_survey_on_history_as_this_page_does(quoted):
    introduction = (ROOT / "book" / "intro.md").read_text(encoding="utf-8")
    for page in (introduction, PAGE):
        assert quoted in " ".join(page.split())
