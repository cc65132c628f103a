"""Things to touch, in a browser: moved by keys and by pointer, they show the package's numbers."""

import io
import re
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from browsing import DESKTOP, PHONE, ROOT, SITE, SPILLED, needs_site, save, violations
from PIL import Image
from tables_operating_points import shared
from tables_readers import five
from tables_touch_films import ACROSS, ROWS, SIZE, moved
from tables_touch_films import thresholds as cuts
from visibility import contrast

from chexlib.data import Batcher, load_reports, package_file, read_radiograph, table
from chexlib.data.phantom import Film, noise_rates, render
from chexlib.data.reports import called, coded, find_mentions
from chexlib.findings import FINDINGS
from chexlib.interpret import class_activation_maps
from chexlib.metrics import (
    Resamples,
    operating_point,
    per_films,
    ppv,
    ppv_at_prevalence,
    sensitivity,
)
from chexlib.metrics.agreement import kappa
from chexlib.metrics.label_noise import label_worth
from chexlib.metrics.resampling import percentile_ends
from chexlib.models import load_checkpoint, phantom_checkpoint
from chexlib.text import estimate_text, interval_text
from figures.maps import film_of
from figures.reports import phrase_reports
from figures.touch import content

THINGS = {
    "guess": "book/intro.html",
    "noise": "book/07_noisy_labels.html",
    "sentences": "book/02_reports.html",
    "thresholds": "book/09_thresholds.html",
    "ten": "book/04_readers.html",
    "sick": "book/05_images.html",
    "window": "book/05_images.html",
    "lesion": "book/13_cam.html",
    "marker": "book/14_localization.html",
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
    assert f"moved precision of Pneumothorax from {was:.2f} to {now:.2f}" in words(found)
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


@pytest.fixture(scope="module")
def network():
    return load_checkpoint(phantom_checkpoint())


def answer(network, image, finding):
    return float(network.predict_proba(Batcher(image[None])([0]))[0, FINDINGS.index(finding)])


def grey(canvas):
    """What a canvas shows, [H, W, 3], once it has drawn."""
    canvas.page.wait_for_timeout(300)
    return np.asarray(Image.open(io.BytesIO(canvas.screenshot())).convert("RGB"), float)


def peak(found):
    """Row and column of the strongest cell, from 1, as a film says it."""
    alt = found.get_by_role("img", name="Simulated film").get_attribute("aria-label")
    return tuple(map(int, re.search(r"row (\d+), column (\d+)", alt).groups()))


@pytest.fixture
def lesion(thing):
    found = thing("lesion")
    found.film = found.get_by_role("img", name="Simulated film")
    return found


def test_a_mass_is_moved_by_keys_and_by_pointer(lesion, network):
    place = "e => +e.getAttribute('aria-label').match(/place (\\d+)/)[1] - 1"
    before = lesion.film.evaluate(place)
    lesion.film.focus()
    lesion.film.press("ArrowDown")
    below = lesion.film.evaluate(place)
    assert below == before + 6  # six places in a row
    lesion.film.press("ArrowLeft")
    assert lesion.film.evaluate(place) == below - 1
    lesion.film.press("ArrowLeft")  # across the midline, to the place that is as high
    across = lesion.film.evaluate(place)
    at = np.array([film["at"] for film in content("lesion")["films"]["Mass"]])
    away = np.where(at[:, 0] < 0.5, np.abs(at[:, 1] - at[below, 1]), np.inf)
    assert away[across] == away.min()
    box = lesion.film.bounding_box()
    lesion.page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4)
    lesion.page.mouse.down()
    lesion.page.mouse.move(box["x"] + box["width"] * 0.56, box["y"] + box["height"] * 0.65)
    lesion.page.mouse.up()
    k = lesion.film.evaluate(place)
    side, u = (-1 if k % 6 < 3 else 1), ACROSS[k % 6 if k % 6 < 3 else 5 - k % 6]
    healthy = Film(patient=content("lesion")["patient"])
    seen = moved(replace(healthy, severity={"Mass": 0.5}), "Mass", side, u, ROWS[k // 6])[SIZE]
    p, cut = answer(network, seen.image, "Mass"), cuts()["Mass"]
    said = words(lesion.get_by_role("status"))
    assert said.startswith(f"Mass: {p:.2f}, {'called' if p >= cut else 'missed'}")
    assert f"chest has {answer(network, render(healthy, size=SIZE).image, 'Mass'):.2f}" in said
    maps = class_activation_maps(network, Batcher(seen.image[None])([0]))
    cam = maps[0, FINDINGS.index("Mass")].detach().numpy()
    assert peak(lesion) == tuple(1 + i for i in np.unravel_index(cam.argmax(), cam.shape))
    tried = re.search(r"(\d+) of 42 places tried", words(lesion))
    assert int(tried[1]) >= 5


def test_the_copied_map_is_one_for_all_findings_and_the_own_map_is_not(lesion):
    def shown(finding):
        lesion.get_by_role("group", name="The map of").get_by_text(finding).click()
        return grey(lesion.film)

    own = [shown(finding) for finding in ("Nodule", "Mass")]
    assert np.abs(own[0] - own[1]).max() > 50
    lesion.get_by_role("checkbox", name="as the copied").check()
    copied = [shown(finding) for finding in ("Nodule", "Mass", "Effusion")]
    assert np.array_equal(copied[0], copied[1])
    assert np.array_equal(copied[0], copied[2])
    methods = table("cam_methods").query("metric == 'hit' and finding == 'mean of findings'")
    row = methods[methods["source"] == "copied"].iloc[0]
    assert f"in {100 * row['estimate']:.0f}% (" in words(lesion)


@pytest.mark.parametrize("finding", ["Nodule", "Mass", "Effusion"])
def test_every_place_is_counted_beside_the_chapter(lesion, finding):
    lesion.get_by_role("group", name="Put into").get_by_text(finding.lower()).click()
    lesion.get_by_role("button", name="Try every place").click()
    said = words(lesion)
    n = 16 if finding == "Effusion" else 42
    assert f"{n} of {n} places tried" in said
    called, missed = re.search(r"Called at (\d+) .*missed at (\d+) ", said).groups()
    assert int(called) + int(missed) == n
    verdicts = table("cam_verdicts").query("finding == @finding").set_index("share")["estimate"]
    for answer_ in ("called", "missed"):
        share = 100 * verdicts[f"elsewhere, of {answer_}"]
        assert f"{float(f'{share:.2g}'):g}% (" in said


def test_cells_are_those_of_the_network(lesion, network):
    """As many cells as its map has, with the greys of the film between their frames."""
    lesion.get_by_role("group", name="Show").get_by_text("cells").click()
    cells = network.features(Batcher(np.zeros((1, SIZE, SIZE), np.uint8))([0])).shape[-1]
    alt = lesion.film.get_attribute("aria-label")
    assert alt.endswith(f"of {cells}.")
    lesion.get_by_role("group", name="Show").get_by_text("film alone").click()
    plain = grey(lesion.film)
    lesion.get_by_role("group", name="Show").get_by_text("heat map").click()
    assert np.abs(grey(lesion.film) - plain).max() > 40


@pytest.mark.parametrize("run", ["default", "shortcut"])
def test_the_letter_makes_one_network_jump(thing, network, run):
    found = thing("marker")
    names = {"default": "the book's", "shortcut": "trained with the letter"}
    found.get_by_text(names[run]).click()
    rows = table("localization_shortcut_films").query("run == @run")
    letter = found.get_by_role("checkbox", name="letter in the corner")
    for k in range(len(rows) // 2):
        found.get_by_role("combobox").select_option(str(k + 1))
        two = rows.iloc[2 * k : 2 * k + 2].set_index("marker")
        given = 1 / (1 + np.exp(-two["logit"]))
        if run == "default":  # the table is of the network and the films that there are
            for state in ("with", "without"):
                image = render(film_of(two.iloc[0], marker=state == "with"), size=SIZE).image
                assert answer(network, image, "Nodule") == pytest.approx(given[state], abs=0.01)
        letter.uncheck()
        without = words(found.get_by_role("status"))
        assert without == f"Nodule: {given['without']:.2f} without the letter. Put it in."
        letter.focus()
        letter.press("Space")
        said = words(found.get_by_role("status"))
        ends = f"{given['with']:.2f} with the letter, {given['without']:.2f} without it"
        assert said == f"Nodule: {ends}."
        cells = two.filter(regex=r"^m\d+").loc["with"].to_numpy(float)
        across = round(len(cells) ** 0.5)
        assert peak(found) == (1 + cells.argmax() // across, 1 + cells.argmax() % across)
    measured = table("localization_shortcut_maps").query("measure == 'logit, change'")
    (text,) = interval_text(measured[measured["run"] == run], decimals=2)
    assert text.replace("\N{NO-BREAK SPACE}", " ") in words(found)


@pytest.mark.parametrize(("finding", "k"), [("Nodule", 12), ("Pneumothorax", 3)])
def test_a_finding_is_wiped_over_its_healthy_film(thing, network, finding, k):
    found = thing("sick")
    found.get_by_role("combobox").select_option(finding)
    severity = found.get_by_role("slider", name="Severity")
    move_to(severity, "1, gross" if finding == "Nodule" else "0.1, subtle")
    strength = 1.0 if finding == "Nodule" else 0.1
    place = FINDINGS.index(finding)
    person = Film(patient=1 + place, sex="MF"[place % 2], age=35 + 3 * place)
    films = [person, replace(person, severity={finding: strength})]
    healthy, sick = (render(film, size=224) for film in films)
    p = [answer(network, render(film, size=SIZE).image, finding) for film in films]
    said = words(found.get_by_role("status"))
    added = contrast(sick.image, healthy.image, sick.masks[finding])
    assert f"film is {abs(added):.1f} grey" in said
    assert f"gives it {p[1]:.2f}, and {p[0]:.2f} to the healthy film" in said
    verdict = "misses" if p[1] < cuts()[finding] else "finds"
    assert f"it {verdict} this one" in said
    stage = found.locator(".touch-swipe")
    wipe = found.get_by_role("slider", name="Healthy up to")
    pictures = []
    for end in ("Home", "End"):
        wipe.press(end)
        pictures.append(
            np.asarray(
                Image.fromarray(grey(stage)[..., 0].astype(np.uint8)).resize((224, 224)), float
            )
        )
    for picture, other in zip(pictures, (sick.image, healthy.image), strict=True):
        assert np.corrcoef(picture[:, 6:-6].ravel(), other[:, 6:-6].ravel())[0, 1] > 0.98
    box = stage.bounding_box()
    found.page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5)
    assert wipe.evaluate("s => s.ariaValueText") == "30% of the width"
    found.get_by_role("checkbox", name="outline").check()
    drawn = found.locator(".touch-swipe path").evaluate("p => p.getBBox().width")
    columns = np.flatnonzero(sick.masks[finding].any(axis=0))
    assert drawn == pytest.approx(np.ptp(columns), abs=2)


def test_the_real_film_is_windowed_as_its_header_says(thing):
    path = package_file("data_store", "data", "RG1_UNCR.dcm")
    stored = pydicom.dcmread(path).pixel_array.astype(float)
    found = thing("window")
    film = found.locator("img")
    found.get_by_role("button", name="as read_radiograph").click()
    shown = grey(film)[..., 0]
    expected = Image.fromarray(read_radiograph(path)).resize(shown.shape[::-1], Image.BOX)
    inside = np.s_[20:-20, 20:-20]
    apart = np.abs(shown - np.asarray(expected, float))[inside]
    assert apart.mean() < 4  # steps of 500 stored values are four greys
    width = found.get_by_role("slider", name="Width")
    move_to(width, "5,000")
    low, high = 15_000 - 2_500, 15_000 + 2_500
    said = words(found.get_by_role("status"))
    black, white = re.search(r"([\d.]+)% of the pixels are black, ([\d.]+)% white", said).groups()
    assert float(black) == pytest.approx(100 * (stored > high).mean(), abs=1)
    assert float(white) == pytest.approx(100 * (stored < low).mean(), abs=1)
    before = grey(film)[..., 0]
    turned = found.get_by_role("checkbox", name="small values are bright")
    turned.focus()
    turned.press("Space")
    assert np.abs(grey(film)[..., 0] + before - 255)[inside].mean() < 3
    assert "Bone is dark" in words(found)


def test_ten_films_are_read_and_compared(thing):
    found = thing("ten")
    rng, calls = np.random.default_rng(0), np.zeros((10, 3), int)
    boxes = found.get_by_role("checkbox")
    for k in range(10):
        for j in range(3):
            if rng.random() < 0.3:
                calls[k, j] = 1
                boxes.nth(j).focus()
                boxes.nth(j).press("Space")
        found.get_by_role("button", name="Compare" if k == 9 else "Next film").press("Enter")
    truth = np.zeros_like(calls)
    names = ["Pneumothorax", "Nodule", "Consolidation"]
    who = {"You": calls, "Text label": truth.copy(), "Network": truth.copy()}
    for k in range(10):
        said = words(found.get_by_role("status"))
        for one, rows in {"True": truth, **who}.items():
            text = re.search(rf"{one}: ([^.]*)\.", said)[1]
            if one == "You":
                assert text == (
                    ", ".join(n for j, n in enumerate(names) if calls[k, j]) or "none of the three"
                )
            rows[k] = [name in text for name in names]
        assert boxes.nth(0).is_disabled()
        found.get_by_role("button", name="Next film").click()
    assert truth.sum() >= 5
    films = np.repeat(np.arange(10), 3)
    for one, rows in who.items():
        cells = [words(c) for c in found.get_by_role("row", name=one).get_by_role("cell").all()]
        right, flat = (rows == truth).sum(), (rows.ravel(), truth.ravel())
        missed, alarms = ((truth > rows).sum(), (rows > truth).sum())
        assert cells[:3] == [str(v) for v in (right, missed, alarms)]
        of = kappa(*flat, patient=films)
        expected = estimate_text(of.estimate, of.low, of.high)
        assert cells[3] == expected.replace("\N{NO-BREAK SPACE}", " ").replace("-", "−")
    rates = noise_rates().set_index("finding").loc[names]
    for name, rate, known in zip(names, rates["sensitivity"], rates["status"], strict=True):
        assert f"{float(f'{100 * rate:.2g}'):g}% of {name} ({known})" in words(found)
    agreement = table("reader_agreement").query("subset == 'five_readers'")
    row = agreement.query("finding == 'Nodule' and statistic == 'pairwise_kappa'")
    (text,) = interval_text(row, decimals=2)
    assert f"{text} for Nodule".replace("\N{NO-BREAK SPACE}", " ") in words(found)
    found.get_by_role("button", name="Read them again").click()
    assert "Tick what you see" in words(found)
    assert not boxes.nth(0).is_disabled()
