"""Things to touch, in a browser: moved by keys and by pointer, they show the package's numbers."""

import re

import numpy as np
import pytest
from browsing import DESKTOP, PHONE, ROOT, SITE, SPILLED, needs_site, save, violations
from tables_operating_points import shared
from tables_readers import five

from chexlib.data import load_reports, table
from chexlib.data.phantom import noise_rates
from chexlib.data.reports import called, coded, find_mentions
from chexlib.metrics import (
    Resamples,
    operating_point,
    per_films,
    ppv,
    ppv_at_prevalence,
    sensitivity,
)
from chexlib.metrics.label_noise import label_worth
from chexlib.metrics.resampling import percentile_ends
from chexlib.text import interval_text
from figures.reports import phrase_reports

THINGS = {
    "guess": "book/intro.html",
    "noise": "book/07_noisy_labels.html",
    "sentences": "book/02_reports.html",
    "thresholds": "book/09_thresholds.html",
}
SCRIPTS = ROOT / "book/_static/touch"
each_thing = pytest.mark.parametrize("name", THINGS)
pytestmark = [pytest.mark.browser, needs_site]


@pytest.fixture
def thing(visit):
    """Open the page of a thing, and return the thing."""

    def open_thing(name, **options):
        page = visit(THINGS[name], **options)
        found = page.locator(f".touched.{name}")
        found.scroll_into_view_if_needed()
        return found

    return open_thing


def move(slider, steps):
    """Move a slider by its keys."""
    slider.focus()
    for _ in range(abs(steps)):
        slider.press("ArrowRight" if steps > 0 else "ArrowLeft")


def move_to(slider, text):
    """Move a slider by its keys until it says so."""
    slider.focus()
    slider.press("Home")
    for _ in range(int(slider.get_attribute("max"))):
        if slider.evaluate("s => s.ariaValueText") == text:
            return
        slider.press("ArrowRight")
    assert slider.evaluate("s => s.ariaValueText") == text


def words(element):
    return element.inner_text().replace("\N{NO-BREAK SPACE}", " ")


def test_scripts_and_data_are_small():
    scripts = {path.stem for path in SCRIPTS.glob("*.js")}
    assert scripts == {"touch", *THINGS}
    assert sum(path.stat().st_size for path in SCRIPTS.iterdir()) < 60_000
    for path in (ROOT / "data/touch").iterdir():
        assert path.stat().st_size < 400_000


@each_thing
def test_without_scripts_the_picture_stays(browser, name):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{SITE.as_uri()}/{THINGS[name]}")
    picture = page.locator(f"img.touch.{name}")
    assert len(picture.get_attribute("alt")) > 60
    assert picture.evaluate("i => i.naturalWidth") > 100
    assert page.locator(".touched").count() == 0


@each_thing
@pytest.mark.parametrize(("scheme", "viewport"), [("light", DESKTOP), ("dark", PHONE)])
def test_everybody_can_use_it(thing, name, scheme, viewport):
    found = thing(name, scheme=scheme, viewport=viewport)
    page = found.page
    assert page.locator(f"img.touch.{name}").count() == 0
    for control in found.locator("input, select, button, [tabindex='0']").all():
        if not control.is_visible():
            continue
        control.focus()
        assert control.evaluate("c => getComputedStyle(c).outlineStyle") == "solid"
        target = "c => Math.max(...[c, c.closest('label') ?? c].map((e) => e.clientHeight))"
        assert control.evaluate(target) >= 40
    assert violations(page) == []
    assert page.evaluate(SPILLED) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    save(page, name, scheme)


def choose(menu, name):
    """Choose of a menu by its keys."""
    menu.focus()
    menu.press("Home")
    for _ in range(menu.locator("option").count()):
        if menu.evaluate("s => s.value") == name:
            return
        menu.press("ArrowDown")
    raise AssertionError(f"no {name} in the menu")


@pytest.fixture
def guess(thing):
    found = thing("guess")
    found.guess = found.get_by_role("slider", name="Your guess")
    found.finding = found.get_by_role("combobox", name="Another finding")
    return found


def votes(finding):
    rows = table("reader_votes")
    rows = rows[rows["finding"] == finding].set_index("votes")
    return rows["n_labelled"], rows["n"] - rows["n_labelled"]


def test_a_guess_comes_before_the_answer(guess):
    assert "63" not in words(guess)
    assert not guess.finding.is_visible()
    box = guess.guess.bounding_box()
    guess.guess.click(position={"x": 0.8 * box["width"], "y": box["height"] / 2})
    assert 77 <= int(guess.guess.input_value()) <= 83
    move_to(guess.guess, "90 of 100")
    guess.get_by_role("button", name="Show").press("Enter")
    labels = table("label_quality").query("evidence == 'five_readers' and statistic == 'ppv'")
    row = labels[labels["finding"] == "Pneumothorax"].iloc[0]
    share, low, high = (f"{100 * row[name]:.0f}" for name in ("estimate", "low", "high"))
    k, n = int(row["k"]), int(row["n"])
    said = f"You said 90. A majority sees it on {k} of {n}: {share} of 100 ({low} to {high})."
    assert said in words(guess)
    assert f"{90 - round(100 * row['estimate'])} too high" in words(guess)
    assert f"On {votes('Pneumothorax')[0][0]} of the {n} none" in words(guess)
    assert guess.finding.evaluate("s => s === document.activeElement")
    move_to(guess.guess, "60 of 100")
    assert "lies inside this 95% interval" in words(guess)
    assert guess.get_by_role("img", name=f"They: {share} of 100.").is_visible()


@pytest.mark.parametrize("finding", ["Pneumonia", "Effusion"])
def test_dots_are_the_votes_of_five_radiologists(guess, finding):
    guess.get_by_role("button", name="Show").click()
    choose(guess.finding, {"Effusion": "Pleural effusion"}.get(finding, finding))
    for group, name in zip(votes(finding), ("with the label", "without it"), strict=True):
        kinds = (group[3:].sum(), group[1:3].sum(), group[0])
        alt = guess.get_by_role("img", name=f"{group.sum()} films {name}").get_attribute(
            "aria-label"
        )
        assert tuple(map(int, re.findall(r"\d+", alt)[1:])) == kinds
        dots = guess.get_by_role("img", name=f"{group.sum()} films {name}").locator("path")
        drawn = [len(re.findall("M", path.get_attribute("d"))) for path in dots.all()]
        assert tuple(drawn) == kinds
    guess.get_by_role("radio", name="3").focus()
    guess.page.keyboard.press("ArrowRight")
    more = f"On {votes(finding)[1][4:].sum()} more films at least four see it"
    assert more in words(guess)


@pytest.mark.real_data("google_readers/all_findings_individual_readers.csv")
def test_what_is_confirmed_carries_its_interval(guess):
    """Every finding and number of votes, against the package on the reads themselves."""
    films, calls, _ = five()
    guess.get_by_role("button", name="Show").click()
    for finding, least in (("Nodule", 2), ("Hernia", 5)):
        choose(guess.finding, finding)
        guess.get_by_role("radio", name=str(least)).check()
        seen = calls[finding].sum(axis=1) >= least
        found = ppv(films[finding], seen, patient=films["patient"])
        share, low, high = (f"{100 * x:.0f}" for x in (found.estimate, found.low, found.high))
        said = f"see it on {found.k}. That is {share} of 100 ({low} to {high})."
        assert said in words(guess)
        assert ("So few labels settle little" in words(guess)) == (found.n < 30)


@pytest.fixture(scope="module")
def reports():
    """All reports, their mentions, what annotators coded; and the same of the made-up phrases."""
    texts, phrases = load_reports(), phrase_reports()
    return texts, find_mentions(texts), coded(texts), phrases, find_mentions(phrases)


@pytest.mark.parametrize("rule", ["word", "sections", "negation", "uncertainty", "history"])
def test_switched_on_from_the_top_rules_are_those_of_the_chapter(thing, rule, reports):
    found, (texts, mentions, truth, phrases, heard) = thing("sentences"), reports
    on = {"word": 0, "sections": 1, "negation": 2, "uncertainty": 3, "history": 4}[rule]
    for box in found.get_by_role("checkbox").all()[:on]:
        box.press("Space")
    choose(found.get_by_role("combobox", name="Counted for"), "Consolidation")
    calls = called(mentions, texts, rule=rule)["Consolidation"]
    counts = f"{calls.sum():,} labels, {(calls & truth['Consolidation']).sum():,} of them coded"
    status = words(found.get_by_role("status"))
    assert counts in status
    for name, figure in (("Precision", ppv), ("recall", sensitivity)):
        assert f"{name} {figure(calls, truth['Consolidation'])}" in status
    held = table("reports").query(
        "half == 'held out' and mapping == 'narrow' and finding == 'Consolidation'"
    )
    ends = ("precision", "precision_low", "precision_high")
    chapter = interval_text(held[held["rule"] == rule], ends, decimals=2)[0]
    assert f"the precision is {chapter}".replace("\N{NO-BREAK SPACE}", " ") in words(found)
    given = called(heard, phrases, rule=rule).any(axis=1)
    shown = ["→" in words(phrase) for phrase in found.get_by_role("listitem").all()]
    assert shown == given.tolist()


def test_any_set_of_rules_can_be_switched(thing, reports):
    """Denials and the past, without the others: no rule of the chapter."""
    found, (texts, mentions, truth, *_) = thing("sentences"), reports
    found.get_by_role("checkbox", name="Drop what is past").click()
    box = found.get_by_role("checkbox", name="Drop what is denied").bounding_box()
    found.page.mouse.click(box["x"] + 5, box["y"] + 5)
    left = mentions[~mentions[["denied", "past"]].any(axis=1)]
    calls, before = (
        called(kept, texts)["Pneumothorax"] for kept in (left, mentions[~mentions["past"]])
    )
    assert f"{calls.sum()} labels" in words(found.get_by_role("status"))
    was, now = (ppv(one, truth["Pneumothorax"]).estimate for one in (before, calls))
    assert f"moved precision from {was:.2f} to {now:.2f}" in words(found)
    assert "no row for this set" in words(found)
    phrase = found.get_by_role("listitem").filter(has_text="There is no pneumothorax")
    assert "denied (“no”)" in words(phrase)
    choose(found.get_by_role("combobox", name="Counted for"), "All 14 findings")
    both = called(left, texts)
    assert f"{both.to_numpy().sum():,} labels" in words(found.get_by_role("status"))


@pytest.mark.parametrize("times", [1, 2])
def test_the_dial_starts_at_labels_that_a_network_was_taught(thing, times):
    found = thing("noise")
    if times == 2:
        found.get_by_role("radio", name="× 1", exact=True).focus()
        for _ in range(2):
            found.page.keyboard.press("ArrowRight")
    rates = noise_rates().set_index("finding").loc["Effusion"]
    s, t = (1 - times * (1 - rates[name]) for name in ("sensitivity", "specificity"))
    share = table("noise_calibration").query(
        "training == 'true' and measure == 'true share' and finding == 'Effusion'"
    )
    worth = label_worth(max(s, 0.05), t, share["estimate"].iloc[0])
    said = words(found)
    assert f"− 1 = {worth['slope']:.2f}:".replace("= -", "= −") in said
    assert ("turned round." in words(found.get_by_role("status"))) == (times == 2)
    assert f"is worth {worth['worth']:.2f} of one with the truth" in said
    scored = table("noise_auroc").query("finding == 'Effusion'").set_index(["training", "judge"])
    best = scored.loc[("true", "truth"), "estimate"]
    taught = best if times == 1 else 1 - best
    assert f"an AUROC of {taught:.2f} by the truth" in said
    assert f"it would seem to have {0.5 + worth['shrink'] * (taught - 0.5):.2f}." in said
    name = {1: "measured", 2: "doubled"}[times]
    for judge, words_for in (("truth", "the truth"), ("labels", "its labels")):
        row = interval_text(scored.loc[[(name, judge)]], decimals=2)[0]
        assert f"{row} by {words_for}".replace("\N{NO-BREAK SPACE}", " ") in said


def test_the_dial_is_turned_by_keys_and_by_a_finger(thing):
    found = thing("noise")
    move_to(found.get_by_role("slider", name="Sensitivity of the labels"), "0.30")
    move_to(found.get_by_role("slider", name="Specificity of the labels"), "0.74")
    move_to(found.get_by_role("slider", name="Films with the finding"), "20%")
    worth = label_worth(0.30, 0.74, 0.2)
    assert f"− 1 = {worth['slope']:.2f}: the ranking of films survives" in words(found)
    assert f"is worth {worth['worth']:.2f} of" in words(found)
    assert "no network was trained at these rates" in words(found)
    plane = found.get_by_role("img", name="Labels in the ROC plane")
    box, mouse = plane.bounding_box(), found.page.mouse
    mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.2 * box["height"])
    mouse.down()
    mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.6 * box["height"])
    mouse.up()
    assert "the ranking is turned round" in words(found.get_by_role("status"))
    assert "below the diagonal" in plane.get_attribute("aria-label")


@pytest.fixture
def explorer(thing):
    found = thing("thresholds")
    found.finding = found.get_by_role("combobox", name="Finding")
    found.threshold = found.get_by_role("slider", name="Threshold")
    found.prevalence = found.get_by_role("slider", name="Films with the label")
    found.price = found.get_by_role("slider", name="One miss")
    return found


def grid_row(finding, threshold):
    grid = table("threshold_grid")
    return grid[(grid["finding"] == finding) & (grid["threshold"] == threshold)]


@pytest.mark.parametrize(("finding", "threshold"), [("Hernia", 0.002), ("Pneumothorax", 0.09)])
def test_the_explorer_says_what_the_grid_says(explorer, finding, threshold):
    choose(explorer.finding, finding)
    move_to(explorer.threshold, f"{threshold:g}")
    row = grid_row(finding, threshold)
    said = words(explorer.get_by_role("status"))
    for name in ("sensitivity", "specificity"):
        text = interval_text(row, (name, f"{name}_low", f"{name}_high"), decimals=2)[0]
        assert f"{name} {text}".replace("\N{NO-BREAK SPACE}", " ").lower() in said.lower()
    assert f"precision {row['ppv'].iloc[0]:.2f} (" in said
    n = 22433
    positives = round(row["prevalence"].iloc[0] * n)
    cells = row[["tp", "fp"]].assign(fn=positives - row["tp"], tn=n - positives - row["fp"])
    expected = per_films(cells).iloc[0]
    shown = dict(
        re.match(r"([\d,.]+) (.*)", words(one)).groups()[::-1]
        for one in explorer.get_by_role("listitem").all()
    )
    for kind in ("found", "missed", "false alarms"):
        assert float(shown[kind]) == pytest.approx(expected[kind], abs=0.51), kind
    alt = explorer.get_by_role("img", name="1,000 films as dots").get_attribute("aria-label")
    assert sum(map(int, re.findall(r"(\d+) [a-z]", alt.partition(":")[2]))) == 1000


def test_the_explorer_ends_in_the_number_of_the_chapter(explorer):
    costs = (
        table("miss_costs").set_index(["way", "finding"]).loc[[("1/11 after Platt", "Effusion")]]
    )
    chapter = interval_text(costs, decimals=0)[0].replace("\N{NO-BREAK SPACE}", " ")
    assert f"The chapter measured {chapter}" in words(explorer)
    move(explorer.price, 1)
    assert "The chapter measured" not in words(explorer)
    move(explorer.price, -1)
    explorer.get_by_role("button", name="Go to").click()
    at = float(explorer.threshold.evaluate("s => s.ariaValueText"))
    row = grid_row("Effusion", at).iloc[0]
    positives = row["prevalence"] * 22433
    cost = 1000 * (10 * (positives - row["tp"]) + row["fp"]) / 22433
    assert f"1,000 films cost as much as {cost:.0f} (" in words(explorer)


def test_the_explorer_follows_a_finger_on_its_curve(explorer):
    curve = explorer.get_by_role("img", name="ROC curve")
    before = explorer.threshold.input_value()
    box = curve.bounding_box()
    mouse = explorer.page.mouse
    mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.1)
    mouse.up()
    assert int(explorer.threshold.input_value()) < int(before) - 5
    assert curve.get_attribute("aria-label").startswith("ROC curve of Pleural effusion. At the thr")


@pytest.mark.real_data("reference_predictions/preds.csv", "official_split", "rsna/rsna_to_nih.csv")
def test_the_explorer_knows_how_sure_it_is_at_another_prevalence(explorer):
    """Precision and cost at a prevalence of 2%, against resamples of the patients themselves."""
    films, at, price, share = shared(), 0.05, 50, 0.02
    y = films.labels["Effusion"].to_numpy(dtype=bool)
    call = films.scores["Effusion"].to_numpy() >= at
    draws = Resamples(films.patient, resamples=1000, seed=0)
    n, rest, tp, fp = draws.sums(np.column_stack([y, ~y, y & call, ~y & call])).T
    precision = ppv_at_prevalence((tp / n).mean(), 1 - (fp / rest).mean(), share)
    values = share * tp / n / (share * tp / n + (1 - share) * fp / rest)
    low, high = percentile_ends(values[:, None])[:, 0]
    cost = 1000 * (price * share * (1 - tp / n) + (1 - share) * fp / rest)
    point = operating_point(y, films.scores["Effusion"], at, patient=draws)
    bill = price * share * (1 - point.sensitivity.estimate)
    bill = 1000 * (bill + (1 - share) * (1 - point.specificity.estimate))
    move_to(explorer.threshold, f"{at:g}")
    move_to(explorer.prevalence, "2%")
    move_to(explorer.price, f"{price} false alarms")
    said = words(explorer)
    shown = re.search(r"precision ([\d.]+) \(([\d.]+) to ([\d.]+)\)", said).groups()
    assert list(map(float, shown)) == pytest.approx([precision, low, high], abs=0.006)
    shown = re.search(r"cost as much as ([\d,]+) \(([\d,]+) to ([\d,]+)\)", said).groups()
    ends = [bill, bill - 1.96 * cost.std(ddof=1), bill + 1.96 * cost.std(ddof=1)]
    assert [float(one.replace(",", "")) for one in shown] == pytest.approx(ends, abs=0.6)
