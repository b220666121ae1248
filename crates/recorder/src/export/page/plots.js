// Lines over time, with axes, a time cursor, and a legend that is a table: a row for each channel, a column for each
// of what was observed, wanted and sent.

/** An element with attributes and children; text is text, never markup. */
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "line", "path"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const COLORS = 8;
// What was sent lies as a band under what was wanted, so that it is seen where both part.
const DASHES = { wanted: [6, 3] }, WIDTHS = { sent: 5 }, SHADES = { sent: 0.32 };
const MARGIN = { left: 56, right: 10, top: 8, bottom: 22 };
const WORDS = { pos: "Position", vel: "Velocity", eff: "Effort", effort: "Effort", torque: "Torque", current: "Current", temp: "Temperature" };

/** What is drawn together: channels of one unit, at most as many as there are colours. */
function groupsOf(tables) {
  const roles = new Map(), groups = new Map();
  const place = (kind, title, unit, name, column, at) => {
    const key = JSON.stringify([kind, title, unit]);
    if (!groups.has(key)) groups.set(key, { key, title, unit, rows: new Map(), columns: [] });
    const group = groups.get(key);
    if (!group.columns.includes(column)) group.columns.push(column);
    if (!group.rows.has(name)) group.rows.set(name, {});
    group.rows.get(name)[column] = at;
  };
  tables.forEach((table, number) => {
    const role = { "observation.state": "observed", action: "wanted", "sinew/sent": "sent" }[table.key];
    if (role) roles.set(role, { table, number });
  });
  for (const column of ["observed", "wanted", "sent"]) {
    const role = roles.get(column);
    role?.table.names.forEach((name, index) => {
      const [, stem, suffix] = name.match(/^(.*)\.([a-z]+)$/) ?? [, name, ""];
      const unit = role.table.units[index];
      const tool = !unit && /gripper/i.test(name) ? ", gripper" : "";
      // Numbers that nobody named are the same ones in each table, or of nothing alike.
      const same = /^\d+$/.test(name) && role.table.names.length !== roles.get("observed")?.table.names.length ? ` of ${column}` : "";
      place("motion", (WORDS[suffix] ?? (suffix || "Values")) + tool + same, unit, suffix ? stem : name, column, [role.number, index]);
    });
  }
  tables.forEach((table, number) => {
    if ([...roles.values()].some((role) => role.number === number)) return;
    const title = { "sinew/lateness": "Lateness", "sinew/gate": "Held back by limits, starved" }[table.key] ?? table.key;
    table.names.forEach((name, index) => place(table.key, title, table.units[index], table.names.length === 1 && name === "0" ? title : name, "value", [number, index]));
  });
  const parts = [];
  for (const group of groups.values()) {
    const rows = [...group.rows.entries()];
    for (let first = 0; first < rows.length; first += COLORS) {
      const more = rows.length > COLORS ? ` ${first + 1} to ${Math.min(first + COLORS, rows.length)} of ${rows.length}` : "";
      parts.push({ ...group, title: group.title + more, rows: rows.slice(first, first + COLORS) });
    }
  }
  return parts;
}

/** Round distances between the lines of a grid, about `count` of them. */
function steps(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const list = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) list.push(at * step);
  return { list, digits: Math.min(6, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))) };
}

/** A number as the legend says it, with so many digits behind the point. */
function said(value, digits) {
  if (value === undefined || Number.isNaN(value)) return "–";
  return (Math.abs(value) >= 1e7 ? value.toExponential(2) : value.toFixed(digits)).replace("-", "−");
}

class Plots {
  /** `seek(time, done)` is called when the pointer moves the time cursor. */
  constructor(root, tables, seek) {
    this.seek = seek;
    this.tables = tables;
    this.hidden = new Set();
    this.time = 0;
    this.hover = null;
    this.plots = groupsOf(tables).map((group) => this.build(group));
    root.replaceChildren(...this.plots.map((plot) => plot.element));
    const resized = new ResizeObserver(() => this.draw());
    this.plots.forEach((plot) => resized.observe(plot.lines));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  build(group) {
    const named = group.columns.length > 1 || group.columns[0] !== "value";
    const heads = group.columns.map((column) => {
      const sample = make("svg", { viewBox: "0 0 14 8", "aria-hidden": "true" }, make("line", { x1: 0, x2: 14, y1: 4, y2: 4, stroke: "currentColor", "stroke-width": WIDTHS[column] ?? 2, "stroke-opacity": SHADES[column] ?? 1, "stroke-dasharray": (DASHES[column] ?? []).join(" ") }));
      return make("th", { scope: "col" }, named ? this.toggle(`column:${column}`, sample, column) : "");
    });
    const cells = [];
    const rows = group.rows.map(([name], index) => {
      const sample = make("svg", { viewBox: "0 0 14 8", "aria-hidden": "true" }, make("path", { d: "M0 4h14", stroke: `var(--c${index})`, "stroke-width": 4 }));
      cells.push(group.columns.map(() => make("td")));
      return make("tr", {}, make("th", { scope: "row" }, this.toggle(`${group.key}:${name}`, sample, name)), ...cells[index]);
    });
    const table = make("table", { "aria-label": `${group.title} at the cursor` }, make("thead", {}, make("tr", {}, make("th"), ...heads)), make("tbody", {}, ...rows));
    const base = make("canvas", { role: "img" }), over = make("canvas", { "aria-hidden": "true" });
    const lines = make("div", { class: "lines" }, base, over);
    const title = make("h3", {}, group.title, make("span", {}, group.unit ? ` in ${group.unit}` : ""));
    const plot = { group, base, over, lines, cells, element: make("div", { class: "plot" }, title, lines, make("div", { class: "legend" }, table)) };
    const timeAt = (event) => {
      const box = lines.getBoundingClientRect(), width = box.width - MARGIN.left - MARGIN.right;
      return Math.min(1, Math.max(0, (event.clientX - box.left - MARGIN.left) / width)) * this.end;
    };
    lines.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      lines.setPointerCapture(event.pointerId);
      this.seek(timeAt(event), false);
    });
    lines.addEventListener("pointermove", (event) => {
      this.hover = timeAt(event);
      if (event.buttons & 1 && lines.hasPointerCapture(event.pointerId)) this.seek(this.hover, false);
      this.mark();
    });
    lines.addEventListener("pointerup", (event) => this.seek(timeAt(event), true));
    for (const away of ["pointerleave", "pointercancel"]) lines.addEventListener(away, () => { this.hover = null; this.mark(); });
    return plot;
  }

  toggle(key, sample, text) {
    const button = make("button", { type: "button", "aria-pressed": String(!this.hidden.has(key)), title: text }, sample, make("span", {}, text));
    button.dataset.key = key;
    button.addEventListener("click", () => {
      if (!this.hidden.delete(key)) this.hidden.add(key);
      document.querySelectorAll("[data-key]").forEach((one) => one.setAttribute("aria-pressed", String(!this.hidden.has(one.dataset.key))));
      this.draw();
    });
    return button;
  }

  /** Shows the values of another episode: of each table all rows one after another, or null. */
  show(values, length, fps) {
    Object.assign(this, { values, length, fps, end: Math.max(1, length - 1) / fps, hover: null });
    this.draw();
  }

  isShown(group, name, column) {
    return !this.hidden.has(`${group.key}:${name}`) && !this.hidden.has(`column:${column}`);
  }

  value(place, row) {
    const all = place && this.values[place[0]];
    return all ? all[row * this.tables[place[0]].names.length + place[1]] : undefined;
  }

  /** The lines that are shown: `[place, colour, column]`. */
  shownLines({ group }) {
    return group.rows.flatMap(([name, places], color) =>
      group.columns.filter((column) => places[column] && this.values[places[column][0]] && this.isShown(group, name, column)).map((column) => [places[column], color, column]));
  }

  draw() {
    if (!this.values) return;
    const style = getComputedStyle(document.documentElement);
    this.colors = Array.from({ length: COLORS }, (_, index) => style.getPropertyValue(`--c${index}`));
    [this.ink, this.grid, this.dim] = ["--mark", "--grid", "--dim"].map((name) => style.getPropertyValue(name));
    // Channels of one unit have one scale, in whatever plots they are.
    const scales = new Map();
    for (const plot of this.plots) {
      const scale = scales.get(plot.group.key) ?? [Infinity, -Infinity];
      for (const [place] of this.shownLines(plot)) {
        for (let row = 0; row < this.length; row++) {
          const value = this.value(place, row);
          if (value < scale[0] && value > -Infinity) scale[0] = value;
          if (value > scale[1] && value < Infinity) scale[1] = value;
        }
      }
      scales.set(plot.group.key, scale);
    }
    for (const plot of this.plots) this.drawLines(plot, scales.get(plot.group.key));
    this.mark();
  }

  drawLines(plot, [low, high]) {
    const none = !(low <= high);
    if (none) [low, high] = [0, 1];
    const pad = (high - low || Math.max(1e-6, Math.abs(high) * 0.1, high === 0 ? 1 : 0)) * 0.06;
    [low, high] = [low - pad, high + pad];
    const { context, width, height } = canvasOf(plot.base, plot.lines);
    const inner = { width: Math.max(1, width - MARGIN.left - MARGIN.right), height: height - MARGIN.top - MARGIN.bottom };
    plot.x = (time) => MARGIN.left + (time / this.end) * inner.width;
    plot.y = (value) => MARGIN.top + (1 - (value - low) / (high - low)) * inner.height;
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    const across = steps(0, this.end, Math.max(2, inner.width / 90)), up = steps(low, high, 4);
    plot.digits = Math.min(6, up.digits + (up.digits > 1 ? 1 : 2));
    for (const value of up.list) {
      const y = Math.round(plot.y(value)) + 0.5;
      context.strokeStyle = this.grid;
      line(context, MARGIN.left, y, width - MARGIN.right, y);
      context.fillStyle = this.dim;
      context.textAlign = "right";
      context.textBaseline = "middle";
      context.fillText(said(value, up.digits), MARGIN.left - 7, y);
    }
    for (const time of across.list) {
      const x = Math.round(plot.x(time)) + 0.5;
      context.strokeStyle = this.grid;
      line(context, x, MARGIN.top, x, height - MARGIN.bottom);
      context.fillStyle = this.dim;
      context.textAlign = x > width - 30 ? "right" : "center";
      context.textBaseline = "top";
      context.fillText(`${time.toFixed(across.digits)} s`, Math.min(x, width - MARGIN.right), height - MARGIN.bottom + 6);
    }
    context.save();
    context.beginPath();
    context.rect(MARGIN.left, 0, inner.width + 1, height);
    context.clip();
    context.lineJoin = "round";
    // What was observed lies on top of what was wanted.
    const order = ["sent", "wanted"];
    for (const [place, color, column] of this.shownLines(plot).sort((a, b) => (order.indexOf(a[2]) + 1 || 9) - (order.indexOf(b[2]) + 1 || 9))) {
      context.strokeStyle = this.colors[color];
      context.lineWidth = WIDTHS[column] ?? 1.5;
      context.globalAlpha = SHADES[column] ?? 1;
      context.setLineDash(DASHES[column] ?? []);
      this.trace(context, plot, place, inner.width);
    }
    context.restore();
    const { group } = plot;
    const range = none ? "nothing is shown" : `from ${up.list[0]?.toFixed(up.digits)} to ${up.list.at(-1)?.toFixed(up.digits)} ${group.unit}`;
    plot.base.setAttribute("aria-label", `${group.title} over ${this.end.toFixed(2)} s, ${range}; ${group.rows.length} channels, whose values at the cursor are in the table that follows`);
  }

  /** One line; where there are more rows than pixels, the lowest and highest of each pixel. */
  trace(context, plot, place, width) {
    const every = Math.max(1, Math.floor(this.length / (width * 2)));
    let pen = false;
    context.beginPath();
    const to = (row, value) => {
      if (!Number.isFinite(value)) { pen = false; return; }
      const x = plot.x(row / this.fps), y = plot.y(value);
      if (pen) context.lineTo(x, y); else context.moveTo(x, y);
      // A lone point is seen, too.
      if (!pen) context.lineTo(x + 0.01, y);
      pen = true;
    };
    for (let row = 0; row < this.length; row += every) {
      if (every === 1) { to(row, this.value(place, row)); continue; }
      let low = row, high = row;
      for (let next = row; next < Math.min(row + every, this.length); next++) {
        if (this.value(place, next) < this.value(place, low)) low = next;
        if (this.value(place, next) > this.value(place, high)) high = next;
      }
      for (const one of [Math.min(low, high), Math.max(low, high)]) to(one, this.value(place, one));
    }
    context.stroke();
  }

  /** Draws the cursor and says the values at it, or under the pointer. */
  mark(time = this.time) {
    this.time = time;
    if (!this.values) return;
    const shown = this.hover ?? time, row = Math.min(this.length - 1, Math.max(0, Math.round(shown * this.fps)));
    for (const plot of this.plots) {
      const { context, width, height } = canvasOf(plot.over, plot.lines);
      if (!plot.x) continue;
      context.strokeStyle = this.ink;
      context.lineWidth = 1.5;
      line(context, plot.x(time), MARGIN.top, plot.x(time), height - MARGIN.bottom);
      if (this.hover !== null) {
        const x = plot.x(row / this.fps);
        context.strokeStyle = this.dim;
        context.lineWidth = 1;
        line(context, x, MARGIN.top, x, height - MARGIN.bottom);
        for (const [place, color] of this.shownLines(plot)) {
          const value = this.value(place, row);
          if (!Number.isFinite(value)) continue;
          context.fillStyle = this.colors[color];
          context.beginPath();
          context.arc(x, plot.y(value), 3, 0, 7);
          context.fill();
        }
        context.font = "11px system-ui, sans-serif";
        context.fillStyle = this.dim;
        context.textBaseline = "top";
        context.textAlign = x > width - 70 ? "right" : "left";
        context.fillText(`${(row / this.fps).toFixed(2)} s`, x + (x > width - 70 ? -5 : 5), MARGIN.top);
      }
      plot.group.rows.forEach(([name, places], index) => plot.group.columns.forEach((column, at) => {
        const cell = plot.cells[index][at], text = said(this.value(places[column], row), plot.digits);
        if (cell.textContent !== text) cell.textContent = text;
        cell.classList.toggle("off", !this.isShown(plot.group, name, column));
      }));
    }
  }
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

/** A canvas as large as its box in the screen's pixels, blank. */
function canvasOf(canvas, box) {
  const scale = devicePixelRatio || 1, { clientWidth: width, clientHeight: height } = box;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}
