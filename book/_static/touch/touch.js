// What the things to touch have in common. Each takes the place of a picture of the class
// "touch NAME": NAME.js says touch.define("NAME", build), NAME.data.js touch.data("NAME", {…}),
// and build(place, data) fills the place. Without scripts the picture stays.
"use strict";
const touch = (() => {
  const builders = {}, contents = {};

  const fill = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name.slice(2), value);
      else if (value !== false && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };
  // An element: html("p", { class: "x", onclick: f }, "text", child). The same of SVG.
  const html = (tag, attributes = {}, ...children) =>
    fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  // Controls. Each is { element, index, value, set(index) }; input() is called when it is moved.
  const control = (values, input, build) => {
    const made = {
      index: 0,
      all: values,
      get value() { return values[made.index]; },
      set(index) { made.index = index; made.show(); },
      moved(index) { made.set(index); input(made.value); },
    };
    return Object.assign(made, build(made));
  };
  // A slider over a list of values; text(value) is what is seen and read aloud.
  const slider = ({ label, values, at = 0, text = String, input }) => {
    const made = control(values, input, (self) => {
      const shown = html("span", { class: "touch-value", "aria-hidden": "true" });
      const range = html("input", { type: "range", min: 0, max: values.length - 1 });
      range.oninput = () => self.moved(+range.value);
      const show = () => {
        range.value = self.index;
        shown.textContent = range.ariaValueText = text(self.value);
      };
      return { element: html("label", { class: "touch-slider" }, `${label} `, shown, range), show };
    });
    made.replace = (list, index) => { // other values, such as those of another finding
      values.splice(0, values.length, ...list);
      made.element.lastChild.max = list.length - 1;
      made.set(index);
    };
    made.set(at);
    return made;
  };
  const select = ({ label, values, at = 0, text = String, input }) => {
    const made = control(values, input, (self) => {
      const options = values.map((value) => html("option", {}, text(value)));
      const list = html("select", {}, ...options);
      list.onchange = () => self.moved(list.selectedIndex);
      const show = () => { list.selectedIndex = self.index; };
      return { element: html("label", { class: "touch-select" }, `${label} `, list), show };
    });
    made.set(at);
    return made;
  };
  let groups = 0;
  // One of a few, all in sight. at = -1: none is chosen yet.
  const radios = ({ label, values, at = 0, text = String, input }) => {
    const made = control(values, input, (self) => {
      const name = `touch-${groups++}`;
      const buttons = values.map(() => html("input", { type: "radio", name }));
      buttons.forEach((button, k) => { button.onchange = () => self.moved(k); });
      const labels = buttons.map((button, k) => html("label", {}, button, ` ${text(values[k])}`));
      const show = () => buttons.forEach((button, k) => { button.checked = k === self.index; });
      const element = html("fieldset", { class: "touch-radios" }, html("legend", {}, label), ...labels);
      return { element, show };
    });
    made.set(at);
    return made;
  };
  // On or off: value is true or false.
  const check = ({ label, on = false, input }) => {
    const made = control([false, true], input, (self) => {
      const box = html("input", { type: "checkbox" });
      box.onchange = () => self.moved(+box.checked);
      const show = () => { box.checked = self.value; };
      return { element: html("label", { class: "touch-check" }, box, ` ${label}`), show };
    });
    made.set(+on);
    return made;
  };
  const button = (label, onclick) => html("button", { type: "button", onclick }, label);
  // What changes is read aloud from here once the reader rests.
  const status = () => html("p", { role: "status", class: "touch-status" });

  // Drag on an element: move(x, y) gets shares of its width and height, from the upper left.
  // With a step, arrow keys do the same from where(), which returns [x, y], and it takes the focus;
  // so does one with keys(right, down), which gets -1, 0 or 1.
  const drag = (element, { move, where, step, keys }) => {
    const inside = (share) => Math.min(1, Math.max(0, share));
    const at = (event) => {
      const box = element.getBoundingClientRect();
      move(inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height));
    };
    element.classList.add("touch-drag");
    element.addEventListener("pointerdown", (event) => { element.setPointerCapture(event.pointerId); at(event); });
    element.addEventListener("pointermove", (event) => element.hasPointerCapture(event.pointerId) && at(event));
    if (!step && !keys) return;
    element.setAttribute("tabindex", 0);
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    element.addEventListener("keydown", (event) => {
      if (!(event.key in ways)) return;
      event.preventDefault();
      const [right, down] = ways[event.key];
      if (keys) return keys(right, down);
      const [x, y] = where();
      move(inside(x + step * right), inside(y + step * down));
    });
  };

  // The place of the value that is least far off, the first of several.
  const nearest = (values, far) => {
    const all = values.map(far);
    return all.indexOf(Math.min(...all));
  };
  // A disc around the point where a path is.
  const circle = (r) => `m${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;

  // A small chart with axes from 0 to 1 or of other ends, linear or by the logarithm.
  // x(v) and y(v) place a value; line(points) is the path through [x, y]; put your own into .body.
  const chart = ({ alt, x, y, width = 220, height = 205 }) => {
    const left = 40, right = 10, top = 10, bottom = 38;
    const scale = ({ ends: [a, b] = [0, 1], log }, from, to) => {
      const f = log ? Math.log : (v) => v;
      const place = (v) => from + ((f(v) - f(a)) / (f(b) - f(a))) * (to - from);
      place.back = (at) => a + ((at - from) / (to - from)) * (b - a); // of a linear axis
      return place;
    };
    const X = scale(x, left, width - right), Y = scale(y, height - bottom, top);
    const middle = (top + height - bottom) / 2;
    const text = (words, attributes) => svg("text", attributes, words);
    const body = svg("g");
    const element = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": alt, class: "touch-chart" },
      ...(x.ticks ?? [0, 0.5, 1]).flatMap((v) => [
        svg("path", { class: "grid", d: `M${X(v)} ${top}V${height - bottom}` }),
        text(x.text?.(v) ?? v, { x: X(v), y: height - bottom + 16, "text-anchor": "middle" }),
      ]),
      ...(y.ticks ?? [0, 0.5, 1]).flatMap((v) => [
        svg("path", { class: "grid", d: `M${left} ${Y(v)}H${width - right}` }),
        text(y.text?.(v) ?? v, { x: left - 5, y: Y(v) + 4.5, "text-anchor": "end" }),
      ]),
      text(x.label, { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }),
      text(y.label, { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }),
      body);
    const line = (points) => points.map(([a, b], k) => `${k ? "L" : "M"}${X(a).toFixed(1)} ${Y(b).toFixed(1)}`).join("");
    return { element, body, width, height, x: X, y: Y, line, describe(words) { element.setAttribute("aria-label", words); } };
  };

  const source = (film) => `data:image/webp;base64,${film}`;
  // A film on a canvas: show({ film, alt, heat, cells, boxes, grid }). A film is a WebP in base64;
  // heat has { values, low, high } of a map of n × n cells, the first at the share grid[0] of the
  // film, the others grid[1] apart; cells are numbers to write there; boxes are shares x, y, w, h.
  const PLASMA = ["0d0887", "4c02a1", "7e03a8", "aa2395", "cc4778", "e66c5c", "f89540", "fdc527", "f0f921"]
    .map((one) => [0, 2, 4].map((k) => parseInt(one.slice(k, k + 2), 16)));
  const film = () => {
    const side = 448, element = html("canvas", { width: side, height: side, role: "img", class: "touch-film" });
    const paint = element.getContext("2d"), pictures = {};
    let latest;
    const heated = ({ values, low, high }, [first, stride]) => {
      const n = Math.sqrt(values.length), m = 112, layer = html("canvas", { width: m, height: m });
      const picture = new ImageData(m, m);
      const weigh = (k) => { // the two cells between which a pixel lies, and how far on
        const at = Math.min(n - 1, Math.max(0, ((k + 0.5) / m - first) / stride)), i = Math.min(n - 2, Math.floor(at));
        return [i, at - i];
      };
      for (let k = 0; k < m * m; k++) {
        const [i, down] = weigh(Math.floor(k / m)), [j, right] = weigh(k % m);
        const row = (r) => values[r * n + j] * (1 - right) + values[r * n + j + 1] * right;
        const share = Math.min(1, Math.max(0, (row(i) * (1 - down) + row(i + 1) * down - low) / (high - low)));
        const c = Math.min(7, Math.floor(8 * share)), t = 8 * share - c;
        picture.data.set([...PLASMA[c].map((v, q) => v + t * (PLASMA[c + 1][q] - v)), 166 * share], 4 * k);
      }
      layer.getContext("2d").putImageData(picture, 0, 0);
      return layer;
    };
    const show = async ({ film: wanted, alt, heat, cells, boxes = [], grid }) => {
      element.setAttribute("aria-label", alt);
      latest = wanted;
      const picture = (pictures[wanted] ??= Object.assign(new Image(), { src: source(wanted) }));
      await picture.decode();
      if (latest !== wanted) return; // another film was asked for meanwhile
      paint.drawImage(picture, 0, 0, side, side);
      if (heat) paint.drawImage(heated(heat, grid), 0, 0, side, side);
      paint.lineWidth = 2;
      paint.setLineDash([8, 5]);
      paint.strokeStyle = "#56b4e9";
      for (const box of boxes) paint.strokeRect(...box.map((v) => v * side));
      paint.setLineDash([]);
      const n = Math.sqrt(cells?.length ?? 0), width = (grid?.[1] ?? 0) * side;
      paint.font = `${Math.min(22, width / 3.2)}px system-ui, sans-serif`;
      Object.assign(paint, { textAlign: "center", textBaseline: "middle", lineWidth: 1 });
      for (let k = 0; k < n * n; k++) {
        const [x, y] = [k % n, Math.floor(k / n)].map((q) => (grid[0] + q * grid[1]) * side);
        paint.strokeStyle = "#ffffffaa";
        paint.strokeRect(x - width / 2, y - width / 2, width, width);
        Object.assign(paint, { strokeStyle: "#000", lineWidth: 4, fillStyle: "#fff" });
        paint.strokeText(cells[k], x, y);
        paint.fillText(cells[k], x, y);
        paint.lineWidth = 1;
      }
    };
    return { element, show };
  };

  // Numbers as the book writes them.
  const round = (value, decimals = 2) => value.toLocaleString("en-US",
    { minimumFractionDigits: decimals, maximumFractionDigits: decimals, roundingMode: "halfEven" });
  const interval = (value, low, high, decimals = 2) =>
    `${round(value, decimals)} (${round(low, decimals)} to ${round(high, decimals)})`.replaceAll(" ", "\u00a0");
  const percent = (share) => `${+(100 * share).toPrecision(2)}%`;
  const probability = (logit) => 1 / (1 + Math.exp(-logit));

  addEventListener("DOMContentLoaded", () => {
    for (const picture of document.querySelectorAll("img.touch")) {
      const name = [...picture.classList].find((one) => one in builders && one in contents);
      if (!name) continue;
      const number = picture.closest("figure")?.querySelector(".caption-number")?.textContent.trim();
      const place = html("div", { class: `touched ${name}`, role: "group", "aria-label": `To try: ${number ?? name}` });
      builders[name](place, contents[name]);
      (picture.closest("a") ?? picture).replaceWith(place); // a picture of a given width is a link
    }
  });
  return {
    define(name, build) { builders[name] = build; },
    data(name, content) { contents[name] = content; },
    html, svg, slider, select, radios, check, button, status, drag, nearest, circle, chart, source, film,
    round, interval, percent, probability,
  };
})();
