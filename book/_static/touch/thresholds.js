// Chapter 9: a threshold, a prevalence and the price of a miss, on 1,000 films.
"use strict";
touch.define("thresholds", (place, { thresholds, findings }) => {
  const { html, svg, slider, select, button, nearest, circle, chart, round, interval, percent, probability } = touch;
  const PREVALENCES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
  const PRICES = [1, 2, 5, 10, 20, 50, 100, 200, 500];
  const KINDS = ["found", "missed", "false alarms", "left alone"];
  const logit = (p) => Math.log(p / (1 - p));
  const z = 1.959964;

  const names = Object.keys(findings);
  const update = () => draw();
  const finding = select({ label: "Finding", values: names, at: names.indexOf("Effusion"), text: (n) => findings[n].english,
    input: () => { prevalences(); draw(); } });
  const threshold = slider({ label: "Threshold:", values: thresholds, at: thresholds.indexOf(0.5), input: update });
  const own = () => findings[finding.value].prevalence;
  const prevalence = slider({ label: "Films with the label:", values: [0.5], input: update,
    text: (v) => percent(v) + (v === own() ? ", as here" : "") });
  const prevalences = () => {
    const list = [...PREVALENCES, own()].sort((a, b) => a - b);
    prevalence.replace(list, list.indexOf(own()));
  };
  const price = slider({ label: "One miss costs as much as", values: PRICES, at: 3, input: update,
    text: (c) => `${c} false alarm${c > 1 ? "s" : ""}` });

  const roc = chart({ x: { label: "false-positive rate" }, y: { label: "sensitivity" } });
  const recall = chart({ x: { label: "recall" }, y: { label: "precision" } });
  for (const one of [roc, recall]) {
    one.curve = svg("path", { class: "curve" });
    one.ends = svg("path", { class: "ends" });
    one.point = svg("path", { class: "point", d: "M0 -5L5 0L0 5L-5 0Z" });
    one.body.append(one.curve, one.ends, one.point);
  }
  // Drag along the ROC curve: the step of the grid that is nearest.
  touch.drag(roc.element, { move: (x, y) => {
    const far = ([s, f]) => Math.hypot(roc.x(f) - roc.width * x, roc.y(s) - roc.height * y);
    threshold.moved(nearest(findings[finding.value].rates, far));
  } });

  const dots = svg("svg", { viewBox: "0 0 500 200", role: "img", class: "touch-dots" });
  const marks = KINDS.map((kind) => svg("path", { class: kind.replace(" ", "-") }));
  dots.append(...marks);
  const SHAPES = [circle(3.6), circle(3), "m-3.4 3.2l3.4 -6.6l3.4 6.6z", circle(1.2)];
  const legend = html("ul", { class: "touch-legend" }, ...KINDS.map((kind, k) => html("li", {},
    svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("path", { class: kind.replace(" ", "-"), d: `M5 5${SHAPES[k]}` })), html("b"), ` ${kind}`)));
  const rates = touch.status(), cost = html("p"), chapter = html("p");
  const go = button("", () => threshold.moved(advised));
  let advised = 0;

  // Cost of 1,000 films at a step of the grid, in false alarms, with the ends of its interval.
  const billed = (one, k) => {
    const [sensitivity, alarms] = one.rates[k], [a, b, both] = one.variance[k];
    const miss = -1000 * price.value * prevalence.value, alarm = 1000 * (1 - prevalence.value);
    const value = -miss * (1 - sensitivity) + alarm * alarms;
    const width = z * Math.sqrt(Math.max(0, miss * miss * a + alarm * alarm * b + 2 * miss * alarm * both));
    return [value, Math.max(0, value - width), value + width];
  };
  // Where no film is called, a given prevalence leaves nothing to chance.
  const told = (bill) => (bill[2] - bill[1] < 0.01 ? round(bill[0], 0) : interval(...bill, 0));
  // Precision at a prevalence, from the false-positive rate over the sensitivity.
  const precision = (ratio) => prevalence.value / (prevalence.value + (1 - prevalence.value) * ratio);

  function draw() {
    const one = findings[finding.value], k = threshold.index, p = prevalence.value, c = price.value;
    const [sensitivity, alarms] = one.rates[k], called = sensitivity + alarms > 0;
    const [low, high] = one.sensitivity[k], specificity = one.specificity[k];
    const [dear, cheap] = called && one.ratio[k][0] !== null ? one.ratio[k].map(precision) : [0, 0];
    const exact = precision(alarms / sensitivity);
    const cross = (at, [left, right], [down, up], x, y) =>
      `M${at.x(left)} ${at.y(y)}H${at.x(right)}M${at.x(x)} ${at.y(down)}V${at.y(up)}`;
    roc.curve.setAttribute("d", roc.line(one.curve));
    roc.ends.setAttribute("d", cross(roc, [1 - specificity[1], 1 - specificity[0]], [low, high], alarms, sensitivity));
    roc.point.setAttribute("transform", `translate(${roc.x(alarms)} ${roc.y(sensitivity)})`);
    recall.curve.setAttribute("d", recall.line(one.curve.filter(([, s]) => s >= 0.02).map(([f, s]) => [s, precision(f / s)])));
    for (const part of [recall.ends, recall.point]) part.style.display = called ? "" : "none";
    if (called) {
      recall.ends.setAttribute("d", cross(recall, [low, high], [cheap, dear], sensitivity, exact));
      recall.point.setAttribute("transform", `translate(${recall.x(sensitivity)} ${recall.y(exact)})`);
    }
    const word = called ? `precision ${interval(exact, cheap, dear)}` : "precision undefined: no film is called";
    rates.textContent = `Sensitivity ${interval(sensitivity, low, high)}, specificity ${interval(1 - alarms, ...specificity)}, ${word}.`;
    roc.describe(`ROC curve of ${one.english}. At the threshold ${threshold.value} the sensitivity is ${round(sensitivity)}, the false-positive rate ${round(alarms)}.`);
    recall.describe(`Precision-recall curve of ${one.english}. Recall ${round(sensitivity)}, ${word}.`);

    const cells = [p * sensitivity, p * (1 - sensitivity), (1 - p) * alarms, (1 - p) * (1 - alarms)].map((share) => 1000 * share);
    const whole = cells.map(Math.floor); // dots are whole films: the largest remainders get the rest
    const order = [0, 1, 2, 3].sort((a, b) => (cells[b] - whole[b]) - (cells[a] - whole[a]));
    for (let left = 1000 - whole.reduce((a, b) => a + b), j = 0; j < left; j++) whole[order[j]]++;
    let film = 0;
    whole.forEach((n, kind) => {
      const path = Array.from({ length: n }, () => `M${5 + 10 * Math.floor(film / 20)} ${5 + 10 * (film++ % 20)}${SHAPES[kind]}`);
      marks[kind].setAttribute("d", path.join(""));
      legend.children[kind].querySelector("b").textContent = round(cells[kind], cells[kind] < 9.95 ? 1 : 0);
    });
    dots.setAttribute("aria-label", `1,000 films as dots: ${KINDS.map((kind, j) => `${whole[j]} ${kind}`).join(", ")}.`);

    const bills = one.rates.map((_, j) => billed(one, j));
    const least = nearest(bills, ([value]) => value);
    const yours = `1,000 films cost as much as ${told(bills[k])} false alarms.`;
    cost.replaceChildren(html("b", {}, "Your threshold: "), yours, least === k ? " No step of the slider is cheaper." : ` The cheapest step of the slider, ${thresholds[least]}: ${told(bills[least])}.`);
    // The chapter's rule: 1/(1 + c) on a calibrated score, at the prevalence chosen.
    const cut = 1 / (1 + c), [slope, shift] = one.platt;
    const score = probability((logit(cut) - logit(p) + logit(one.prevalence) - shift) / slope);
    advised = nearest(thresholds, (t) => Math.abs(logit(t) - logit(score)));
    const measured = c === 10 && p === own() ? ` The chapter measured ${interval(...one.chapter, 0)} with it, on the half of the patients that did not choose.` : "";
    chapter.replaceChildren(html("b", {}, "The rule: "), `call above 1/(1 + ${c}) = ${+cut.toPrecision(2)} once the score is calibrated; that is ${+score.toPrecision(2)} of this score.${measured} `, go);
    go.textContent = `Go to ${thresholds[advised]}`;
  }

  prevalences();
  place.append(finding.element, threshold.element,
    html("div", { class: "touch-row" }, roc.element, recall.element, html("div", { class: "wide" }, dots, legend)),
    rates, prevalence.element, price.element, cost, chapter);
  draw();
});
