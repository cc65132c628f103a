// Chapter 2: rules of a text miner on and off, on made-up phrases and on all reports.
"use strict";
touch.define("sentences", (place, { rules, phrases, n, coded, sets, chapter, english }) => {
  const { html, svg, select, check, chart, round, interval, status } = touch;
  const RULES = {
    sections: "Read findings and impression only",
    denied: "Drop what is denied: no, not, clear of …",
    guessed: "Drop what is guessed at: may, concerning for …",
    past: "Drop what is past: resolved, history of …",
  };
  const WHY = { sections: "not in findings or impression", denied: "denied", guessed: "guessed at", past: "of the past" };
  const named = (name) => english[name] ?? "All 14 findings";
  const names = ["all", ...Object.keys(sets).filter((name) => name !== "all")];
  let before = 0;

  const switches = rules.map((rule) => check({ label: RULES[rule], input: () => draw(rule) }));
  const bits = () => switches.reduce((sum, one, k) => sum + (one.value << k), 0);
  const finding = select({ label: "Counted for", values: names, at: names.indexOf("Pneumothorax"), text: named, input: () => draw() });

  // Each phrase: what the program finds in it, and what becomes of that.
  const verdicts = phrases.map(() => html("span"));
  const list = html("ol", { class: "touch-phrases" }, ...phrases.map(({ section, text, mentions }, k) => {
    const [one] = mentions;
    const words = one ? [text.slice(0, one.start), html("mark", {}, text.slice(one.start, one.end)), text.slice(one.end)] : [text];
    return html("li", {}, ...words, html("small", {}, ` (${section}) `), verdicts[k]);
  }));
  const judge = ({ section, mentions: [one] }) => {
    if (!one) return [false, "no word of the list"];
    const why = rules.find((rule, k) => switches[k].value && (rule === "sections" ? section === "indication" : rule in one));
    return why ? [false, WHY[why] + (one[why] ? ` (“${one[why]}”)` : "")] : [true, named(one.finding)];
  };

  const plot = chart({ x: { label: "recall" }, y: { label: "precision" } });
  const others = svg("g"), ends = svg("path", { class: "ends" }), point = svg("path", { class: "point", d: "M0 -5L5 0L0 5L-5 0Z" });
  plot.body.append(others, ends, point);
  const said = status(), moved = html("p"), told = html("p");

  function draw(rule) {
    phrases.forEach((phrase, k) => {
      const [yes, words] = judge(phrase);
      verdicts[k].className = yes ? "yes" : "no";
      verdicts[k].textContent = yes ? `→ ${words}` : `no label: ${words}`;
    });
    const name = finding.value, now = bits(), all = sets[name];
    const [calls, both, p, low, high, r, from, to] = all[now];
    others.replaceChildren(...all.map((one) => svg("circle", { cx: plot.x(one[5]), cy: plot.y(one[2]), r: 2.5, class: "left-alone" })));
    ends.setAttribute("d", `M${plot.x(from)} ${plot.y(p)}H${plot.x(to)}M${plot.x(r)} ${plot.y(low)}V${plot.y(high)}`);
    point.setAttribute("transform", `translate(${plot.x(r)} ${plot.y(p)})`);
    plot.describe(`${named(name)}: precision ${round(p)}, recall ${round(r)}. Dots: the other 15 sets of rules.`);
    said.textContent = `${named(name)}, all ${round(n, 0)} reports: ${round(calls, 0)} labels, ${round(both, 0)} of them coded by annotators. Precision ${interval(p, low, high)}, recall ${interval(r, from, to)} of ${round(coded[name], 0)}.`;
    if (rule) {
      const was = all[before];
      moved.textContent = `This switch moved precision of ${name === "all" ? "all 14 findings" : named(name)} from ${round(was[2])} to ${round(p)} and recall from ${round(was[5])} to ${round(r)}.`;
    } else moved.textContent = "Switch a rule on, and see what it does to the phrases and to the point.";
    before = now;
    const held = chapter[now]?.[name];
    told.replaceChildren(html("b", {}, "The chapter: "), held
      ? `with these rules, on the half of the reports that had no part in choosing words, the precision is ${interval(...held)}.`
      : "it has no row for this set of rules; switch them on from the top.");
  }

  place.append(html("div", { class: "touch-row" }, html("div", { class: "wide" }, ...switches.map((one) => one.element)), html("div", {}, plot.element)),
    moved, html("p", {}, "Ten phrases, made up for this book, and the label that each would get:"), list, finding.element, said, told);
  draw();
});
