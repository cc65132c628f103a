// Chapter 5: a healthy film and the same with a finding, from subtle to gross, wiped across.
"use strict";
touch.define("sick", (place, { size, severities, chapter, findings }) => {
  const { html, svg, select, slider, check, status, drag, source, round, interval } = touch;
  const STRENGTHS = ["subtle", "mild", "moderate", "marked", "gross"];
  const names = Object.keys(findings), shares = Array.from({ length: 21 }, (_, k) => k / 20);
  const finding = select({ label: "Finding", values: names, at: names.indexOf("Effusion"), text: (name) => findings[name].english, input: () => draw() });
  const severity = slider({ label: "Severity:", values: severities, at: 2, text: (s) => `${s}, ${STRENGTHS[severities.indexOf(s)]}`, input: () => draw() });
  const wipe = slider({ label: "Healthy up to", values: shares, at: 10, text: (s) => `${round(100 * s, 0)}% of the width`, input: () => draw() });
  const outlined = check({ label: "outline the finding", input: () => draw() });
  const healthy = html("img"), sick = html("img"), line = html("i");
  const outline = svg("path"), layer = svg("svg", { viewBox: `0 0 ${size} ${size}`, "aria-hidden": "true" }, outline);
  const stage = html("div", { class: "touch-swipe" }, healthy, sick, layer, line);
  drag(stage, { move: (x) => wipe.moved(Math.round(20 * x)) });
  const said = status(), measured = html("p");
  function draw() {
    const one = findings[finding.value], k = severity.index, p = one.answers[k + 1];
    healthy.src = source(one.films[0]);
    sick.src = source(one.films[k + 1]);
    healthy.alt = "Simulated film of a healthy patient";
    sick.alt = `The same film with ${one.english}, severity ${severity.value}`;
    sick.style.clipPath = `inset(0 0 0 ${100 * wipe.value}%)`;
    line.style.left = `${100 * wipe.value}%`;
    outline.setAttribute("d", outlined.value ? one.outlines[k] : "");
    const added = one.adds[k], much = `${round(Math.abs(added), 1)} grey values of 255 ${added < 0 ? "darker" : "brighter"}`;
    said.textContent = `${one.english}, ${STRENGTHS[k]}: where it is, the film is ${much}. The book's network gives it ${round(p)}, and ${round(one.answers[0])} to the healthy film; it calls from ${round(one.threshold)} up, so it ${p < one.threshold ? "misses" : "finds"} this one.`;
  }
  measured.append(html("b", {}, "The chapter, 40 patients: "), Object.entries(chapter).map(([name, [value, ...ends]]) => `${name} ${interval(value, ...ends, 0).replaceAll("-", "−")}`).join(", "), " grey values.");
  place.append(finding.element, severity.element, html("div", { class: "touch-row" }, stage,
    html("div", {}, wipe.element, outlined.element, said, measured)));
  draw();
});
