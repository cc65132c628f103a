// Chapter 14: the letter in the corner taken away and put back, for two networks.
"use strict";
touch.define("marker", (place, { films, grid, chapter, n }) => {
  const { html, radios, select, check, status, film, round, interval, probability } = touch;
  const RUNS = { default: "the book's", shortcut: "trained with the letter as a clue" };
  // One scale for all maps of both networks.
  const high = Math.max(...films.flatMap((one) => ["with", "without"].flatMap((state) => Object.keys(RUNS).flatMap((run) => one[state][run].map))));
  const which = select({ label: "Film with a nodule", values: films, text: (one) => films.indexOf(one) + 1, input: () => draw() });
  const run = radios({ label: "Network", values: Object.keys(RUNS), at: 1, text: (name) => RUNS[name], input: () => draw() });
  const letter = check({ label: "letter in the corner", input: () => draw() });
  const map = check({ label: "heat map", on: true, input: () => draw() });
  const boxed = check({ label: "outline the nodule", on: true, input: () => draw() });
  const shown = film(), said = status(), measured = html("p");
  function draw() {
    const one = which.value, state = letter.value ? "with" : "without", now = one[state], told = now[run.value];
    const top = told.map.indexOf(Math.max(...told.map)), across = Math.sqrt(told.map.length);
    shown.show({ film: now.film, grid, boxes: boxed.value ? one.boxes : [], heat: map.value && { values: told.map, low: 0, high },
      alt: `Simulated film ${which.index + 1} with a nodule, ${state} a letter in the corner. The map of Nodule is strongest in row ${Math.floor(top / across) + 1}, column ${top % across + 1} of ${across}.` });
    const [before, after] = ["without", "with"].map((s) => round(probability(one[s][run.value].logit)));
    said.replaceChildren("Nodule: ", html("b", {}, letter.value ? after : before), letter.value ? ` with the letter, ${before} without it.` : " without the letter. Put it in.");
    measured.replaceChildren(html("b", {}, `The chapter, ${n} films with a nodule: `), `the letter adds ${interval(...chapter[run.value])} to the logit of this network.`);
  }
  place.append(run.element, html("div", { class: "touch-row" }, html("div", { class: "wide" }, shown.element),
    html("div", {}, which.element, letter.element, said, map.element, boxed.element)), measured);
  draw();
});
