// First page: guess what radiologists confirm of a label, then see it, film by film.
"use strict";
touch.define("guess", (place, { patients, findings }) => {
  const { html, svg, slider, select, radios, button, circle, round, status } = touch;
  const names = Object.keys(findings), first = findings.Pneumothorax;
  const WORDS = ["none", "one", "two", "three", "four", "five"];
  const films = (n) => `${n} film${n === 1 ? "" : "s"}`;
  const hundred = (k) => round(100 * k, 0);

  const question = html("p", {}, html("b", {}, `Of 100 films that NIH’s labels call a pneumothorax (air between lung and chest wall), on how many do radiologists see one? `), "Five of them read 810 films, each alone. A majority, three or more, counts as yes.");
  const yours = slider({ label: "Your guess:", values: Array.from({ length: 101 }, (_, k) => k), at: 50, text: (k) => `${k} of 100`, input: () => draw() });
  const show = button("Show what they saw", () => { answered = true; show.hidden = true; after.hidden = found.element.hidden = false; draw(); finding.element.lastChild.focus(); });
  const told = status();
  const finding = select({ label: "Another finding:", values: names, at: names.indexOf("Pneumothorax"), text: (n) => findings[n].english, input: () => draw() });
  const votes = radios({ label: "Seen by at least, of five radiologists:", values: [1, 2, 3, 4, 5], at: 2, input: () => draw() });
  const kept = status(), others = html("p");
  const groups = [["labelled", "with the label"], ["others", "without it"]].map(([key, words]) => {
    const dots = svg("svg", { role: "img", class: "touch-dots" }), head = html("p");
    return { key, words, dots, head };
  });
  const KINDS = [["found", "seen by so many", 4], ["few", "by fewer", 3], ["left-alone", "by none", 1.3]];
  const legend = html("ul", { class: "touch-legend" }, ...KINDS.map(([kind, words, r]) => html("li", {},
    svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("path", { class: kind, d: `M5 5${circle(r)}` })), ` ${words}`)));
  const after = html("div", { hidden: "" }, finding.element, votes.element, kept, legend,
    ...groups.flatMap(({ head, dots }) => [head, dots]), others);
  let answered = false;
  // A hundred labels, so many of them confirmed.
  const hundredDots = (words) => {
    const dots = svg("svg", { viewBox: "0 0 500 20", role: "img", class: "touch-dots" }), name = html("span", {}, words);
    const fill = (n) => {
      const some = (kind, r, from, to) => svg("path", { class: kind, d: Array.from({ length: to - from }, (_, j) =>
        `M${5 + 10 * Math.floor((from + j) / 2)} ${5 + 10 * ((from + j) % 2)}${circle(r)}`).join("") });
      dots.replaceChildren(some("found", 4, 0, n), some("left-alone", 1.3, n, 100));
      dots.setAttribute("aria-label", `${words} ${n} of 100.`);
    };
    return { element: html("div", { class: "touch-strip" }, name, dots), fill };
  };
  const guessed = hundredDots("You:"), found = hundredDots("They:");
  found.element.hidden = true;

  // A dot is a film; in rows of 45, from most votes to none.
  const sort = (counts) => counts.flatMap((n, k) => Array(n).fill(k)).reverse();
  function draw() {
    guessed.fill(yours.value);
    if (!answered) return;
    found.fill(Math.round(100 * first.confirmed[2][2]));
    const one = findings[finding.value], least = votes.value;
    const [k, n, share, low, high] = first.confirmed[2], off = yours.value - 100 * share;
    const inside = yours.value >= 100 * low && yours.value <= 100 * high;
    told.replaceChildren(html("b", {}, `You said ${yours.value}. A majority sees it on ${k} of ${n}: ${hundred(share)} of 100 (${hundred(low)} to ${hundred(high)}).`),
      ` ${inside ? "Your guess lies inside this 95% interval." : `Your guess is ${Math.abs(Math.round(off))} too ${off > 0 ? "high" : "low"}.`} On ${first.labelled[0]} of the ${n} none of the five sees one. Now choose pneumonia.`);
    const [seen, labels, part, from, to] = one.confirmed[least - 1];
    const few = labels < 30 ? " So few labels settle little." : "";
    kept.textContent = `${one.english}: ${films(labels)} with the label; at least ${WORDS[least]} of five see it on ${seen}. That is ${hundred(part)} of 100 (${hundred(from)} to ${hundred(to)}).${few}`;
    for (const { key, words, dots, head } of groups) {
      const all = sort(one[key]), rows = Math.ceil(all.length / 45);
      const kinds = KINDS.map(([kind, , r], j) => svg("path", { class: kind, d: all.map((v, f) =>
        ((v >= least ? 0 : v ? 1 : 2) === j ? `M${5 + 10 * (f % 45)} ${5 + 10 * Math.floor(f / 45)}${circle(r)}` : "")).join("") }));
      const yes = all.filter((v) => v >= least).length, some = all.filter((v) => v && v < least).length;
      head.textContent = `${films(all.length)} ${words}:`;
      dots.setAttribute("viewBox", `0 0 450 ${10 * rows}`);
      dots.setAttribute("aria-label", `${films(all.length)} ${words}, one dot each: ${yes} seen by at least ${WORDS[least]}, ${some} by fewer, ${all.length - yes - some} by none.`);
      dots.replaceChildren(...kinds);
    }
    const missed = one.others.slice(least).reduce((a, b) => a + b, 0);
    others.replaceChildren(`On ${missed} more films at least ${WORDS[least]} see it, and the label does not name it. Intervals are of 95%, by patient (${patients} of them). `,
      html("a", { href: "04_readers.html" }, "Chapter 4"), " asks what the five can agree on.");
  }

  place.append(question, yours.element, guessed.element, found.element, show, told, after);
  draw();
});
