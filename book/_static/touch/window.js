// Chapter 5: the window and the polarity of a real film.
"use strict";
touch.define("window", (place, { film, aspect, ends, window: header, narrow, bits, step, counts }) => {
  const { html, svg, slider, check, button, status, nearest, source, round } = touch;
  const range = (from, to) => Array.from({ length: (to - from) / 500 + 1 }, (_, k) => from + 500 * k);
  const stored = (v) => round(v, 0).replace("-", "−"), percent = (share) => `${round(100 * share, 1)}%`;
  const centre = slider({ label: "Centre of the window:", values: range(0, 2 ** bits - 768), text: stored, input: () => draw() });
  const width = slider({ label: "Width:", values: range(1000, 2 ** bits - 768), text: stored, input: () => draw() });
  const turned = check({ label: "small values are bright (MONOCHROME1)", input: () => draw() });
  const parts = ["R", "G", "B"].map((one) => svg(`feFunc${one}`, { type: "linear" }));
  const filter = svg("filter", { id: "touch-window", "color-interpolation-filters": "sRGB" }, svg("feComponentTransfer", {}, ...parts));
  const image = html("img", { src: source(film), width: aspect[0], height: aspect[1], style: "filter: url(#touch-window)" });
  const said = status();
  const set = (c, w, on) => {
    centre.set(nearest(centre.all, (one) => Math.abs(one - c)));
    width.set(nearest(width.all, (one) => Math.abs(one - w)));
    turned.set(+on);
    draw();
  };
  // Pixels below a stored value, as a share of all.
  const total = counts.reduce((a, b) => a + b);
  const below = (v) => counts.reduce((sum, n, k) => sum + n * Math.min(1, Math.max(0, v / step - k)), 0) / total;
  function draw() {
    const [c, w] = [centre.value, width.value], low = c - w / 2, sign = turned.value ? -1 : 1;
    const slope = (ends[1] - ends[0]) / w, start = (ends[0] - low) / w;
    for (const part of parts) {
      part.setAttribute("slope", sign * slope);
      part.setAttribute("intercept", turned.value ? 1 - start : start);
    }
    const [small, large] = [below(low), 1 - below(low + w)];
    const [black, white] = turned.value ? [large, small] : [small, large];
    image.alt = `Real chest film, ${turned.value ? "bone bright" : "bone dark"}, stored values from ${stored(low)} to ${stored(low + w)}`;
    said.textContent = `Values from ${stored(low)} to ${stored(low + w)} get the 256 greys: ${percent(black)} of the pixels are black, ${percent(white)} white. Bone is ${turned.value ? "bright, as a radiologist expects" : "dark"}.`;
  }
  place.append(html("div", { class: "touch-row" }, html("div", { class: "wide" }, image, svg("svg", { width: 0, height: 0, "aria-hidden": "true", style: "position: absolute; width: 0" }, filter)),
    html("div", {}, centre.element, width.element, turned.element, said,
      html("div", { class: "touch-buttons" }, button("stored values", () => set(ends[1] / 2, ends[1], false)), button("the header's window", () => set(...header, turned.value)), button("as read_radiograph", () => set(...header, true)),
        button("a narrower window", () => set((narrow[0] + narrow[1]) / 2, narrow[1] - narrow[0], true))))));
  set(ends[1] / 2, ends[1], false);
});
