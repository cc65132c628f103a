// Chapter 13: a lesion moved over a chest; the network's answer and its map follow.
"use strict";
touch.define("lesion", (place, data) => {
  const { html, radios, check, button, status, film, drag, nearest, round, percent, probability } = touch;
  const { findings, sizes, thresholds, grid, where } = data;
  const CALLED = { Nodule: `a nodule of ${sizes.Nodule} cm`, Mass: `a mass of ${sizes.Mass} cm`, Effusion: "an effusion" };
  const n = data.healthy.copied.length;
  // One scale for all places, so that a weak map looks weak; the copied program has its own each.
  const high = findings.map((_, f) => Math.max(...findings.flatMap((name) => data.films[name].flatMap((one) => one.maps[f]))));
  const tried = Object.fromEntries(findings.map((name) => [name, new Set()]));
  let at = 22;

  const lesion = radios({ label: "Put into the chest", values: findings, at: 1, text: (name) => CALLED[name],
    input: () => { at = Math.min(at, films().length - 1); map.set(lesion.index); draw(); } });
  const look = radios({ label: "Show", values: ["heat map", "cells", "film alone"], input: () => draw() });
  const map = radios({ label: "The map of", values: findings, at: 1, input: () => draw() });
  const copied = check({ label: "as the copied program draws it", input: () => draw() });
  const boxed = check({ label: "outline the lesion", on: true, input: () => draw() });
  const films = () => data.films[lesion.value];
  const shown = film(), said = status();
  const move = (k) => { if (k !== at) { at = k; draw(); } };
  drag(shown.element, {
    move: (x, y) => move(nearest(films(), ({ at: [u, v] }) => Math.hypot(u - x, v - y))),
    keys: (right, down) => { // the nearest place that way
      const [x, y] = films()[at].at, far = ({ at: [u, v] }) => {
        const on = (u - x) * right + (v - y) * down, off = Math.abs((u - x) * down) + Math.abs((v - y) * right);
        return on > 0.01 ? on + 2 * off : Infinity;
      };
      const next = nearest(films(), far);
      if (far(films()[next]) < Infinity) move(next);
    },
  });

  const bars = findings.map((name, f) => {
    const bar = html("i"), number = html("b"), cut = html("u", { style: `left: ${100 * thresholds[f]}%` });
    return { row: html("li", {}, `${name} `, html("span", {}, bar, cut), number), show(p) { bar.style.width = `${100 * p}%`; number.textContent = round(p); } };
  });
  const list = html("ul", { class: "touch-bars" }, ...bars.map((one) => one.row));
  const tally = html("p"), chapter = html("p");
  const all = button("Try every place", () => { films().forEach((_, k) => tried[lesion.value].add(k)); draw(); });

  const share = ([value, low, high]) => `${percent(value)} (${percent(low)} to ${percent(high)})`;
  function draw() {
    const one = films()[at], name = lesion.value, f = lesion.index, seen = tried[name];
    const called = (film) => probability(film.logits[f]) >= thresholds[f];
    seen.add(at);
    const values = copied.value ? one.copied : one.maps[map.index];
    const own = copied.value ? [Math.min(...values), Math.max(...values)] : [0, high[map.index]];
    const top = values.indexOf(Math.max(...values)), across = Math.sqrt(n);
    const heat = look.index === 0 && { values, low: own[0], high: own[1] };
    const cells = look.index === 1 && values.map((v) => (v / n > 0 ? "+" : "") + round(v / n, 1).replace("-", "−"));
    shown.show({ film: one.film, heat, cells: cells || undefined, boxes: boxed.value ? one.boxes : [], grid,
      alt: `Simulated film with ${CALLED[name]}, place ${at + 1} of ${films().length}. Arrow keys move it. ${copied.value ? "The copied map" : `The map of ${map.value}`} is strongest in row ${Math.floor(top / across) + 1}, column ${top % across + 1} of ${across}.` });
    one.logits.forEach((logit, k) => bars[k].show(probability(logit)));
    const points = where[one.places[+copied.value]];
    said.textContent = `${name}: ${round(probability(one.logits[f]))}, ${called(one) ? "called" : "missed"} (called from ${round(thresholds[f])} up; without it the chest has ${round(probability(data.healthy.logits[f]))}). ${copied.value ? "The copied map" : Math.max(...one.maps[f]) > 0 ? "Its map" : "No cell speaks for it; stretched to its own range, its map"} is ${points}.`;
    const count = (answer, off) => [...seen].filter((k) => called(films()[k]) === answer && (!off || films()[k].places[+copied.value] === where.length - 1)).length;
    const row = (answer) => `${count(answer)} (map elsewhere at ${count(answer, true)})`;
    tally.replaceChildren(html("b", {}, "You: "), `${seen.size} of ${films().length} places tried. Called at ${row(true)}, missed at ${row(false)}. Elsewhere: hot nowhere on the lesion. `, seen.size < films().length ? all : "");
    const [found, missed] = data.chapter[name], [cam, copy] = data.hits;
    chapter.replaceChildren(html("b", {}, "The chapter, many patients: "), copied.value
      ? `the copied map, the same picture for every finding, is hottest in a box in ${share(copy)} of cases of all findings, the network's own map in ${share(cam)}.`
      : `the map is elsewhere in ${share(found)} of the cases of ${name} that are called, and in ${share(missed)} of those that are missed.`);
  }
  place.append(lesion.element, html("div", { class: "touch-row" }, html("div", { class: "wide" }, shown.element, html("p", {}, "Drag the lesion, or press the arrow keys. Where is it missed?")),
    html("div", {}, list, said, look.element, map.element, copied.element, boxed.element)), tally, chapter);
  draw();
});
