// The chart of the losses of a run, as SVG that follows the width and the colours of the page.
"use strict";

const IN_LIMITS = ["trigram", "4-gram", "5-gram"];  // baselines that the chart always shows, as microgpt/plots/losses.py
const HEIGHT = 300, LEFT = 38, TOP = 22, BOTTOM = 40, LINE = 14;  // pixels

function svg(tag, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

// About `n` round numbers from low to high.
function ticks(low, high, n) {
  const rough = (high - low) / n, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough);
  return Array.from({ length: Math.floor(high / step) - Math.ceil(low / step) + 1 },
    (_, i) => (Math.ceil(low / step) + i) * step);
}

// The losses to show: those of validation, of training after its first 5 %, and of the baselines that are near.
function lossLimits(curves, baselines) {
  const ema = curves["train/loss_ema"][1], shown = [...curves["val/loss"][1], ...ema.slice(Math.floor(ema.length / 20))];
  const highest = Math.max(...shown);
  const near = Object.entries(baselines).filter(([name, loss]) => loss < highest || IN_LIMITS.includes(name));
  const all = [...shown, ...near.map(([, loss]) => loss)], low = Math.min(...all), high = Math.max(...all);
  const size = high - low || 1;
  return [low - 0.08 * size, high + 0.06 * size];
}

// The text beside a curve at `step`: its value there, or at the last step before it.
function valueAt([steps, values], step) {
  const i = steps.findLastIndex(s => s <= step);
  return i < 0 ? null : values[i];
}

class LossChart {
  // `place` is the element that holds the chart; `onPoint(step)` is called with the step under the pointer, or null.
  constructor(place, { curves, baselines }, onPoint) {
    Object.assign(this, { place, curves, baselines, onPoint, step: null });
    this.last = Math.max(1, ...Object.values(curves).flatMap(([steps]) => steps.slice(-1)));
    if (curves["val/loss"][1].length) new ResizeObserver(() => this.draw()).observe(place);
    else place.textContent = "This run has no losses.";
  }

  x(step) { return LEFT + step / this.last * (this.width - LEFT - this.right); }
  y(loss) { return TOP + (this.high - loss) / (this.high - this.low) * (HEIGHT - TOP - BOTTOM); }

  draw() {
    if (!this.place.isConnected || !this.place.clientWidth) return;
    this.width = this.place.clientWidth;
    this.right = Object.keys(this.baselines).length ? 86 : 10;
    [this.low, this.high] = lossLimits(this.curves, this.baselines);
    const chart = svg("svg", { viewBox: `0 0 ${this.width} ${HEIGHT}`, height: HEIGHT, role: "img" });
    chart.append(svg("title", {}, "losses in nats per token over the steps"));
    const clip = svg("clipPath", { id: "plot-area" });
    clip.append(svg("rect", { x: LEFT, y: TOP, width: this.width - LEFT - this.right, height: HEIGHT - TOP - BOTTOM }));
    chart.append(clip, ...this.axes(), ...this.lines(), ...this.baselineLines());
    this.marker = svg("line", { class: "marker", y1: TOP, y2: HEIGHT - BOTTOM });
    chart.append(this.marker);
    this.place.replaceChildren(chart);
    this.mark(this.step);
    const point = event => {
      const left = event.clientX - chart.getBoundingClientRect().left - LEFT;
      const step = Math.round(left / (this.width - LEFT - this.right) * this.last);
      this.onPoint(Math.min(this.last, Math.max(0, step)));
    };
    chart.onpointermove = point;
    chart.onpointerdown = point;
    chart.onpointerleave = () => this.onPoint(null);
  }

  axes() {
    const bottom = HEIGHT - BOTTOM, end = this.width - this.right;
    const found = ticks(this.low, this.high, 5).flatMap(loss => [
      svg("line", { class: "grid", x1: LEFT, x2: end, y1: this.y(loss), y2: this.y(loss) }),
      svg("text", { x: LEFT - 6, y: this.y(loss) + 4, "text-anchor": "end" }, String(Number(loss.toPrecision(4)))),
    ]);
    found.push(...ticks(0, this.last, this.width / 120).map(step => (
      svg("text", { x: this.x(step), y: bottom + 16, "text-anchor": "middle" }, step.toLocaleString("en")))));
    found.push(svg("text", { x: (LEFT + end) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "step"));
    const names = [["val-name", "validation"], ["ema-name", "training (EMA)"], ["raw-name", "training"]];
    const legend = svg("text", { x: LEFT, y: 12 });
    for (const [name, text] of names) legend.append(svg("tspan", { class: name, dx: name === "val-name" ? 0 : 14 }, text));
    for (const part of legend.children) part.style.fill = `var(--${{ "val-name": "val", "ema-name": "accent" }[part.getAttribute("class")] || "faint-ink"})`;
    return [...found, legend];
  }

  lines() {
    const classes = { "train/loss": "raw", "train/loss_ema": "ema", "val/loss": "val" };
    const drawn = Object.entries(classes).map(([name, kind]) => {
      const [steps, values] = this.curves[name];
      const points = steps.map((step, i) => `${this.x(step).toFixed(1)},${this.y(values[i]).toFixed(1)}`).join(" ");
      return svg("polyline", { class: kind, points, "clip-path": "url(#plot-area)" });
    });
    const [steps, values] = this.curves["val/loss"];
    const dots = steps.map((step, i) => (
      svg("circle", { cx: this.x(step), cy: this.y(values[i]), r: 2.6, "clip-path": "url(#plot-area)" })));
    return [...drawn, ...dots];
  }

  // A dashed line for each baseline in view, with its name and loss on the right; names do not overlap.
  baselineLines() {
    const inView = Object.entries(this.baselines).filter(([, loss]) => loss >= this.low && loss <= this.high);
    let above = -Infinity;
    return inView.sort((a, b) => b[1] - a[1]).flatMap(([name, loss]) => {
      const y = this.y(loss), end = this.width - this.right, label = Math.max(y + 4, above + LINE);
      above = label;
      return [
        svg("path", { class: "base", d: `M${LEFT},${y}H${end}` }),
        svg("text", { class: "base-name", x: end + 6, y: label }, `${name} ${loss.toFixed(3)}`),
      ];
    });
  }

  // Show a line at a step; null: none.
  mark(step) {
    this.step = step;
    if (!this.marker) return;
    this.marker.style.display = step === null ? "none" : "";
    this.marker.setAttribute("x1", this.x(step || 0));
    this.marker.setAttribute("x2", this.x(step || 0));
  }

  // The losses at a step, as a sentence.
  sentence(step) {
    const names = { "train/loss_ema": "training", "val/loss": "validation" };
    const parts = Object.entries(names).map(([curve, name]) => [name, valueAt(this.curves[curve], step)]);
    const losses = parts.filter(([, loss]) => loss !== null).map(([name, loss]) => `${name} ${loss.toFixed(3)}`);
    return `Step ${step.toLocaleString("en")}: ${losses.join(", ") || "no loss yet"} nats per token.`;
  }
}
