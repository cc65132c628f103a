// Chapter 4: ten simulated films read by the reader, beside a text label and the network.
"use strict";
touch.define("ten", (place, { findings, truth, label, network, boxes, rates, known, chapter, n, drawn, films }) => {
  const { html, check, button, status, film, interval, round, percent } = touch;
  const calls = films.map(() => findings.map(() => 0));
  let at = 0, done = false;
  const shown = film(), said = status(), result = html("div", { class: "touch-result" });
  const checks = findings.map((name, j) => check({ label: name, input: (on) => { calls[at][j] = +on; } }));
  const back = button("Back", () => go(at - 1)), next = button("Next film", () => (at < films.length - 1 || done ? go(at + 1) : compare()));
  const again = button("Read them again", () => { done = false; calls.forEach((row) => row.fill(0)); result.replaceChildren(); go(0); });

  // Cohen's kappa of all answers, and the ends of its interval, films being drawn again.
  const kappa = ([tp, fp, fn, tn]) => ([tp, fp, fn, tn].filter((v) => v > 0).length > 1
    ? (2 * (tp * tn - fp * fn)) / ((tp + fp) * (fp + tn) + (tp + fn) * (fn + tn)) : NaN);
  const cells = (rows) => rows.map((row, k) => row.reduce((sum, call, j) => {
    sum[2 * !call + !truth[k][j]] += 1; // found, false alarm, missed, rightly left alone
    return sum;
  }, [0, 0, 0, 0]));
  const judged = (rows) => {
    const of = cells(rows), sums = (weights) => [0, 1, 2, 3].map((c) => of.reduce((sum, one, k) => sum + weights[k] * one[c], 0));
    const [tp, fp, fn, tn] = sums(of.map(() => 1));
    if (!(tp + fp) || !(fn + tn)) return { tp, fp, fn, tn, text: `${round(kappa([tp, fp, fn, tn]))}, no interval: the same answer everywhere` };
    const values = drawn.map((one) => kappa(sums(one))).filter((v) => !Number.isNaN(v)).sort((a, b) => a - b);
    const rank = Math.ceil((values.length + 1) * 0.025 - 1e-9) - 1;
    const ends = [values[rank], values.at(-1 - rank)];
    return { tp, fp, fn, tn, wide: ends[1] - ends[0], text: interval(kappa([tp, fp, fn, tn]), ...ends).replaceAll("-", "−").replace("\u00a0", " ") };
  };

  function go(k) {
    at = (k + films.length) % films.length;
    shown.show({ film: films[at], boxes: done ? boxes[at].flat() : [], alt: `Simulated film ${at + 1} of ${films.length}${done && truth[at].some(Boolean) ? ", findings outlined" : ""}` });
    checks.forEach((one, j) => { one.set(calls[at][j]); one.element.firstChild.disabled = done; });
    back.hidden = at === 0 && !done;
    next.textContent = at < films.length - 1 || done ? "Next film" : "Compare";
    const names = (row) => findings.filter((_, j) => row[j]).join(", ") || "none of the three";
    said.textContent = `Film ${at + 1} of ${films.length}. ${done ? `True: ${names(truth[at])}. You: ${names(calls[at])}. Text label: ${names(label[at])}. Network: ${names(network[at])}.` : "Tick what you see, if anything."}`;
  }
  function compare() {
    done = true;
    const who = { You: calls, "Text label": label, Network: network };
    const rows = Object.entries(who).map(([name, of]) => {
      const { tp, fp, fn, tn, text } = judged(of);
      return html("tr", {}, html("th", { scope: "row" }, name), ...[tp + tn, fn, fp, text].map((cell) => html("td", {}, `${cell}`)));
    });
    const wide = judged(calls).wide, theirs = chapter.reduce((sum, [, low, high]) => sum + high - low, 0) / chapter.length;
    const head = ["", "right", "missed", "false alarms", "kappa"].map((one) => (one ? html("th", { scope: "col" }, one) : html("td")));
    result.replaceChildren(
      html("div", { class: "touch-scroll" }, html("table", {}, html("caption", {}, "30 answers against the truth, with 95% intervals: films drawn again and again"), html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...rows))),
      html("p", {}, `The text label is simulated with error rates of chapter 3: it finds ${findings.map((name, j) => `${percent(rates[j][0])} of ${name} (${known[j]})`).join(", ")}. A rate is mapped where readers judged a group of findings as one.`),
      html("p", {}, html("b", {}, `The chapter, five radiologists on ${n} films: `), `kappa of two of them is ${findings.map((name, j) => `${interval(...chapter[j])} for ${name}`).join(", ")}. They are held against one another, for films of patients have no known truth.${wide ? ` Ten films tell little: your interval is ${round(wide / theirs, 0)} times as wide as theirs.` : ""}`), again);
    go(0);
  }
  place.append(html("div", { class: "touch-row" }, html("div", { class: "wide" }, shown.element),
    html("div", {}, said, html("fieldset", {}, html("legend", {}, "I see"), ...checks.map((one) => one.element)), html("div", { class: "touch-buttons" }, back, next))), result);
  go(0);
});
