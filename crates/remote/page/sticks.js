// Axes of −1 to 1: of a gamepad, and of sticks on the screen for fingers, mouse or arrow keys.

import { button, make } from "./dom.js";

export const AXES = ["Left stick ↔", "Left stick ↕", "Right stick ↔", "Right stick ↕", "Cross ↕", "Triggers"];
const DEAD_ZONE = 0.12;
/** Of the gamepad: the shoulder buttons, one of which is held while it moves the robot. */
const SHOULDERS = [4, 5];

const touched = new Float32Array(AXES.length);

const outside = (value) => (Math.abs(value) < DEAD_ZONE ? 0 : (value - Math.sign(value) * DEAD_ZONE) / (1 - DEAD_ZONE));

/** Some browsers have gamepads on https only. */
export const gamepad = () => [...(navigator.getGamepads?.() ?? [])].find((pad) => pad?.connected && pad.mapping === "standard") ?? null;

/** The axes as they are now, up and right positive; nothing where none is touched. */
export function axes() {
  const all = [...touched], pad = gamepad();
  if (pad && SHOULDERS.some((index) => pad.buttons[index].pressed)) {
    const pressed = (index) => pad.buttons[index].value;
    [outside(pad.axes[0]), -outside(pad.axes[1]), outside(pad.axes[2]), -outside(pad.axes[3]), pressed(12) - pressed(13), pressed(7) - pressed(6)]
      .forEach((value, index) => { all[index] = Math.max(-1, Math.min(1, all[index] + value)); });
  }
  return all.some((value) => value !== 0) ? all : null;
}

const KEYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 1], ArrowDown: [1, -1] };

/** A stick that moves the axes `across` and `up` while it is held. */
function stick(name, across, up, signal) {
  const knob = make("div", { class: "knob" });
  const pad = make("div", { class: "stick", tabindex: 0, role: "application" }, knob);
  const set = (x, y) => {
    [touched[across], touched[up]] = [outside(x), outside(y)];
    knob.style.transform = `translate(${x * 100}%, ${-y * 100}%)`;
  };
  const follow = (event) => {
    const box = pad.getBoundingClientRect(), radius = box.width / 3;
    const [x, y] = [(event.clientX - box.left - box.width / 2) / radius, -(event.clientY - box.top - box.height / 2) / radius], length = Math.max(1, Math.hypot(x, y));
    set(x / length, y / length);
  };
  pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); follow(event); }, { signal });
  pad.addEventListener("pointermove", (event) => pad.hasPointerCapture(event.pointerId) && follow(event), { signal });
  // Whatever ends a touch lets the stick go, also what takes the finger or the window away.
  for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) pad.addEventListener(end, () => set(0, 0), { signal });
  const held = new Set();
  const ofKeys = () => set(held.has("ArrowRight") - held.has("ArrowLeft"), held.has("ArrowUp") - held.has("ArrowDown"));
  pad.addEventListener("keydown", (event) => { if (KEYS[event.key]) { event.preventDefault(); held.add(event.key); ofKeys(); } }, { signal });
  pad.addEventListener("keyup", (event) => { if (held.delete(event.key)) ofKeys(); }, { signal });
  pad.addEventListener("blur", () => held.clear(), { signal });
  const words = make("small");
  const label = (names) => {
    words.textContent = [names[across] && `↔ ${names[across]}`, names[up] && `↕ ${names[up]}`].filter(Boolean).join("\n");
    pad.setAttribute("aria-label", `${name}: hold the arrow keys to move ${[names[across], names[up]].filter(Boolean).join(" and ") || "nothing"}`);
  };
  return { element: make("div", { class: "stick-box" }, pad, words), label };
}

/** Two buttons that move an axis up or down while they are held. */
function rocker(axis, signal) {
  const half = (sign, value) => {
    const control = button(sign, null, { class: "rocker" });
    const set = (to) => { touched[axis] = to; control.classList.toggle("held", to !== 0); };
    control.addEventListener("pointerdown", (event) => { control.setPointerCapture(event.pointerId); set(value); }, { signal });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) control.addEventListener(end, () => set(0), { signal });
    control.addEventListener("keydown", (event) => { if (event.key === "Enter") set(value); }, { signal });
    control.addEventListener("keyup", (event) => { if (event.key === "Enter") set(0); }, { signal });
    control.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
    return control;
  };
  const words = make("small"), halves = [half("+", 1), half("−", -1)];
  const label = (names) => {
    words.textContent = names[axis];
    halves.forEach((control, index) => control.setAttribute("aria-label", `${names[axis] || "Nothing"} ${index ? "down" : "up"}: hold`));
  };
  return { element: make("div", { class: "rockers" }, halves[0], words, halves[1]), label };
}

/** The sticks and rockers on the screen. Answers what tells them the names of what each axis moves. */
export function openSticks(root, signal) {
  touched.fill(0);
  const all = [stick("Left stick", 0, 1, signal), rocker(4, signal), rocker(5, signal), stick("Right stick", 2, 3, signal)];
  root.append(...all.map(({ element }) => element));
  addEventListener("blur", () => touched.fill(0), { signal });
  signal.addEventListener("abort", () => touched.fill(0));
  return (names) => all.forEach(({ label }) => label(names));
}
