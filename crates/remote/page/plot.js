// A plot of values over the last seconds, with a legend that has the newest values as text.

import { make, said, say } from "./dom.js";
import { each, newest } from "./history.js";
import { onState } from "./store.js";

const MARGIN = { left: 44, right: 8, top: 6, bottom: 18 };
const SLOWEST_MS = 1000, USUAL_MS = 100;
const COLORS = 8;

/** Round distances between about `count` lines of a grid. */
function steps(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const lines = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) lines.push(at * step);
  return { lines, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/**
 * `series` are `{ name, key, goal, turn }`: the name in the legend, the column in the history, the column of what was wanted if there is
 * one, and what turns a value into what is shown.
 */
export class Plot {
  constructor({ title, unit, series, least = 1, from = null, digits = 1, seconds }, signal) {
    Object.assign(this, { series, least, from, digits, seconds, hidden: new Set(), drawn: 0, isSeen: false });
    this.canvas = make("canvas", { role: "img", "aria-label": `${title}${unit ? ` in ${unit}` : ""}, the last ${seconds()} seconds` });
    this.cells = series.map(() => make("span"));
    const rows = series.map(({ name }, index) => make("li", {}, this.toggle(name, index), this.cells[index]));
    this.element = make("section", { class: "plot card" }, make("h3", {}, title, unit && make("span", {}, ` ${unit}`)), make("div", { class: "lines" }, this.canvas), make("ul", { class: "legend", "aria-label": `${title} now` }, rows));
    const seen = new IntersectionObserver(([entry]) => { this.isSeen = entry.isIntersecting; this.drawn = 0; });
    const sized = new ResizeObserver(() => { this.drawn = 0; this.draw(); });
    seen.observe(this.canvas);
    sized.observe(this.canvas);
    signal.addEventListener("abort", () => { seen.disconnect(); sized.disconnect(); });
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    onState(() => {
      const now = performance.now();
      if (!this.isSeen || now - this.drawn < (still.matches ? SLOWEST_MS : USUAL_MS)) return;
      this.drawn = now;
      this.draw();
    }, signal);
  }

  toggle(name, index) {
    const control = make("button", { type: "button", class: `series s${index % COLORS}`, "aria-pressed": "true", click: () => {
      const isHidden = !this.hidden.delete(index);
      if (isHidden) this.hidden.add(index);
      control.setAttribute("aria-pressed", String(!isHidden));
      this.draw();
    } }, name);
    return control;
  }

  /** The lowest and highest value that is seen, with room. */
  range() {
    let low = this.from ?? Infinity, high = -Infinity;
    this.series.forEach(({ key, goal, turn }, index) => {
      if (this.hidden.has(index)) return;
      for (const column of goal ? [key, goal] : [key]) each(column, this.seconds(), (_, value) => {
        if (Number.isNaN(value)) return;
        const shown = turn(value);
        low = Math.min(low, shown);
        high = Math.max(high, shown);
      });
    });
    if (!(high >= low)) [low, high] = [this.from ?? 0, (this.from ?? 0) + this.least];
    const lack = Math.max(0, this.least - (high - low));
    return this.from === null ? [low - lack / 2 - (high - low) * 0.05, high + lack / 2 + (high - low) * 0.05] : [low, high + lack + (high - low) * 0.05];
  }

  draw() {
    const { canvas } = this, ratio = devicePixelRatio, { clientWidth: width, clientHeight: height } = canvas, end = newest();
    if (!width || end === null) return;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const to = canvas.getContext("2d"), style = getComputedStyle(canvas), seconds = this.seconds();
    to.setTransform(ratio, 0, 0, ratio, 0, 0);
    to.clearRect(0, 0, width, height);
    const [low, high] = this.range(), box = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const x = (time) => MARGIN.left + (1 - (end - time) / seconds) * box.width, y = (value) => MARGIN.top + (1 - (value - low) / (high - low)) * box.height;
    this.axes(to, style, { low, high, seconds, box, x, y, end, width, height });
    to.save();
    to.beginPath();
    to.rect(MARGIN.left, 0, box.width, height);
    to.clip();
    this.series.forEach(({ key, goal, turn }, index) => {
      if (this.hidden.has(index)) return;
      to.strokeStyle = style.getPropertyValue(`--c${index % COLORS}`);
      if (goal) this.line(to, goal, turn, x, y, { width: 1, dash: [4, 3], alpha: 0.7 });
      this.line(to, key, turn, x, y, { width: 1.6, dash: [], alpha: 1 });
    });
    to.restore();
    this.series.forEach(({ key, turn }, index) => {
      let last = NaN;
      each(key, 0, (_, value) => { last = value; });
      say(this.cells[index], said(turn(last), this.digits));
    });
  }

  axes(to, style, { low, high, seconds, box, x, y, end, width, height }) {
    const grid = steps(low, high, Math.max(2, box.height / 34));
    Object.assign(to, { font: "11px system-ui, sans-serif", fillStyle: style.getPropertyValue("--dim"), strokeStyle: style.getPropertyValue("--grid"), lineWidth: 1, textAlign: "right", textBaseline: "middle" });
    for (const value of grid.lines) {
      const at = Math.round(y(value)) + 0.5;
      to.beginPath();
      to.moveTo(MARGIN.left, at);
      to.lineTo(width - MARGIN.right, at);
      to.stroke();
      to.fillText(said(value, grid.digits), MARGIN.left - 6, at);
    }
    to.textBaseline = "alphabetic";
    for (const ago of [seconds, seconds / 2, 0]) {
      to.textAlign = ago === seconds ? "left" : ago ? "center" : "right";
      to.fillText(ago ? `${said(-ago, 0)} s` : "now", x(end - ago), height - 4);
    }
  }

  line(to, key, turn, x, y, { width, dash, alpha }) {
    to.lineWidth = width;
    to.globalAlpha = alpha;
    to.setLineDash(dash);
    to.beginPath();
    let isDown = false;
    each(key, this.seconds(), (time, value) => {
      if (Number.isNaN(value)) isDown = false;
      else if (isDown) to.lineTo(x(time), y(turn(value)));
      else { to.moveTo(x(time), y(turn(value))); isDown = true; }
    });
    to.stroke();
    to.globalAlpha = 1;
    to.setLineDash([]);
  }
}
