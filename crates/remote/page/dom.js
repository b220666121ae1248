// Elements, icons, and how numbers are written.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children. Text is text, never markup. An attribute that is a function listens to the event of
 * its name; one that is `true` is there; one that is `false`, `null` or `undefined` is not.
 */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const ICONS = {
  drive: "M5 20h8M9 20v-5l5-5M14 10l-2-5M17 4l3 3-3 3",
  record: "M12 4a8 8 0 1 0 0 16a8 8 0 1 0 0-16M12 9a3 3 0 1 0 0 6a3 3 0 1 0 0-6",
  policies: "M7 4l12 8-12 8z",
  datasets: "M4 6h16v4H4zM4 14h16v4H4zM8 8h.1M8 16h.1",
  setup: "M5 6h8M17 6h2M5 12h2M11 12h8M5 18h8M17 18h2M15 4v4M9 10v4M15 16v4",
  log: "M5 6h14M5 10h10M5 14h14M5 18h8",
  stop: "M8 3h8l5 5v8l-5 5H8l-5-5V8z",
};

/** A small drawing beside words that say the same. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg"), path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export function button(words, press, attributes = {}) {
  return make("button", { type: "button", click: press, ...attributes }, words);
}

/** A button that is pressed while a finger, or Enter, holds it. */
export function heldButton(words, attributes, signal) {
  const control = button(words, null, { ...attributes, "aria-pressed": "false" });
  const set = (to) => control.setAttribute("aria-pressed", String(to));
  control.addEventListener("pointerdown", (event) => { event.preventDefault(); control.setPointerCapture(event.pointerId); set(true); }, { signal });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) control.addEventListener(end, () => set(false), { signal });
  control.addEventListener("keydown", (event) => event.key === "Enter" && set(true), { signal });
  control.addEventListener("keyup", (event) => event.key === "Enter" && set(false), { signal });
  // Nor does a long touch open a menu, or a touch over the image of AR count as one of the world.
  for (const kept of ["contextmenu", "beforexrselect"]) control.addEventListener(kept, (event) => event.preventDefault(), { signal });
  addEventListener("blur", () => set(false), { signal });
  return { control, isHeld: () => control.getAttribute("aria-pressed") === "true", letGo: () => set(false) };
}

let fields = 0;

/** A labelled control, with a hint below it where there is one. */
export function field(label, control, hint) {
  control.id ||= `field-${fields += 1}`;
  const note = hint && make("small", { id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute("aria-describedby", note.id);
  return make("div", { class: "field" }, make("label", { for: control.id }, label), control, note);
}

/** A list to choose from; `choices` are pairs of a value and its words. */
export function choice(choices, chosen, attributes = {}) {
  return make("select", attributes, choices.map(([value, words]) => make("option", { value, selected: value === chosen }, words)));
}

/** Sets an element's text if it is another one, so that a screen reader is not told the same again. */
export function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** A number with so many digits behind the point, and a true minus; a dash for what is not known. */
export function said(value, digits = 1) {
  return Number.isFinite(value) ? value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−") : "–";
}

export function saidBytes(bytes) {
  const [size, unit] = bytes >= 1e9 ? [bytes / 1e9, "GB"] : bytes >= 1e6 ? [bytes / 1e6, "MB"] : [bytes / 1e3, "kB"];
  return `${said(size, size < 10 ? 1 : 0)} ${unit}`;
}

/** Seconds as 0:07 or 1:02:33. */
export function saidTime(seconds) {
  const whole = Math.max(0, Math.ceil(seconds)), two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** "1 episode", "3 episodes". */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
