// Chapter 7: how often labels are right, and what that does to ranking, score and worth.
"use strict";
touch.define("noise", (place, { findings }) => {
  const { html, svg, slider, select, radios, nearest, circle, chart, round, interval, percent } = touch;
  const names = Object.keys(findings);
  const SHARES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5];
  const two = (v) => round(v);

  const finding = select({ label: "Finding", values: names, at: names.indexOf("Effusion"), text: (n) => findings[n].english, input: () => preset() });
  const times = radios({ label: "Errors of its labels, as a multiple of those measured", values: [0, 1, 2, 3], at: 1, text: (k) => `× ${[0.5, 1, 1.5, 2][k]}`, input: () => preset() });
  const sensitivity = slider({ label: "Sensitivity of the labels:", values: [0], text: two, input: () => draw() });
  const specificity = slider({ label: "Specificity of the labels:", values: [0], text: two, input: () => draw() });
  const share = slider({ label: "Films with the finding:", values: [0.5], text: percent, input: () => draw() });
  const run = () => findings[finding.value].runs[times.value];
  const among = (list, value) => {
    const values = [...new Set([...list, value])].sort((a, b) => a - b);
    return [values, values.indexOf(value)];
  };
  const steps = Array.from({ length: 51 }, (_, k) => k / 50);
  const preset = () => {
    sensitivity.replace(...among(steps, run().sensitivity));
    specificity.replace(...among(steps, run().specificity));
    share.replace(...among(SHARES, findings[finding.value].share));
    draw();
  };

  const plane = chart({ x: { label: "1 − specificity" }, y: { label: "sensitivity" } });
  const line = chart({ x: { label: "probability of the finding" }, y: { label: "of its label" } });
  const mark = svg("path", { class: "point", d: "M0 -7L7 0L0 7L-7 0Z" });
  const below = plane.line([[0, 0], [1, 1], [1, 0]]);
  plane.body.append(svg("path", { class: "soft", d: `${below}Z` }), svg("path", { class: "curve", d: plane.line([[0, 0], [1, 1]]) }),
    svg("text", { x: plane.x(0.97), y: plane.y(0.06), "text-anchor": "end" }, "turned round"), mark);
  const slope = svg("path", { class: "ends" });
  line.body.append(svg("path", { class: "curve", d: line.line([[0, 0], [1, 1]]), "stroke-dasharray": "4 4" }), slope);
  const step = (one, value) => nearest(one.all, (v) => Math.abs(v - value));
  touch.drag(plane.element, { move: (x, y) => {
    specificity.set(step(specificity, 1 - plane.x.back(plane.width * x)));
    sensitivity.moved(step(sensitivity, plane.y.back(plane.height * y)));
  } });

  const films = svg("svg", { viewBox: "0 0 100 100", role: "img", class: "touch-dots" });
  const dots = [svg("path", { class: "found" }), svg("path", { class: "left-alone" })];
  films.append(...dots);
  const said = touch.status(), seems = html("p"), worth = html("span"), chapter = html("p");

  function draw() {
    const one = findings[finding.value], s = sensitivity.value, t = specificity.value, p = share.value;
    const marked = s * p + (1 - t) * (1 - p); // of all films, labelled
    const rise = s + t - 1, shrink = marked > 0 && marked < 1 ? (rise * p * (1 - p)) / (marked * (1 - marked)) : 0;
    const value = rise * shrink, flat = Math.abs(rise) < 0.005;
    const taught = flat ? 0.5 : rise > 0 ? one.best : 1 - one.best;
    mark.setAttribute("transform", `translate(${plane.x(1 - t)} ${plane.y(s)})`);
    slope.setAttribute("d", line.line([[0, 1 - t], [1, s]]));
    plane.describe(`Labels in the ROC plane: sensitivity ${two(s)}, specificity ${two(t)}, ${flat ? "on" : rise > 0 ? "above" : "below"} the diagonal.`);
    line.describe(`The label’s probability goes from ${two(1 - t)} where the finding is not there to ${two(s)} where it is.`);
    const verdict = flat ? "there is nothing to learn." : rise > 0 ? "the ranking of films survives." : "the ranking is turned round.";
    said.textContent = `Sensitivity + specificity − 1 = ${two(rise).replace("-", "−")}: ${verdict}`;
    seems.textContent = `With endless films, a network taught these labels would have an AUROC of ${two(taught)} by the truth; one taught the truth has ${two(one.best)}. By these labels it would seem to have ${two(0.5 + shrink * (taught - 0.5))}.`;
    worth.textContent = `A film with this label is worth ${two(value)} of one with the truth.`;
    const many = Math.round(100 * value);
    films.setAttribute("aria-label", `100 films with this label do the work of ${many} with the truth.`);
    dots.forEach((path, k) => path.setAttribute("d", Array.from({ length: 100 }, (_, j) => j)
      .filter((j) => (j < many) === !k).map((j) => `M${5 + 10 * (j % 10)} ${5 + 10 * Math.floor(j / 10)}${circle(k ? 1.2 : 3.6)}`).join("")));
    const here = run(), untouched = s === here.sensitivity && t === here.specificity && p === one.share;
    chapter.replaceChildren(html("b", {}, "The chapter: "), untouched
      ? `taught such labels on the films of 4,000 simulated people, far from endless, a network reached ${interval(...here.truth)} by the truth and ${interval(...here.labels)} by its labels.`
      : "no network was trained at these rates. Choose a finding or a multiple to see one that was.");
  }

  place.append(finding.element, times.element,
    html("div", { class: "touch-row" }, plane.element, line.element, html("div", { class: "small" }, films, worth)),
    said, sensitivity.element, specificity.element, share.element, seems, chapter);
  preset();
});
