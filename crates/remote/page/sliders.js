// A slider for each channel of action: where it is wanted, with a mark for where it is.

import { make, said, say } from "./dom.js";
import { aim, operator, saidGoal } from "./operator.js";
import { inDataset, isVelocity, known, onState, present, rangeOf, shortName, unitOf } from "./store.js";

const STEPS = 200;
/** How wide a slider's thumb is, in pixels. */
const THUMB = 16;

function slider(channel, index, signal) {
  const [low, high] = rangeOf(channel), unit = unitOf(channel), isHeld = { now: false };
  const words = (value) => `${said(inDataset(channel, value))}${unit && ` ${unit}`}`;
  const input = make("input", { type: "range", min: low, max: high, step: (high - low) / STEPS, "aria-label": shortName(channel.name), disabled: true });
  const mark = make("i", { class: "mark", "aria-hidden": "true" }), value = make("output", {}, "–");
  const read = () => {
    if (!aim(index, Number(input.value))) return;
    input.setAttribute("aria-valuetext", words(Number(input.value)));
  };
  input.addEventListener("input", read, { signal });
  input.addEventListener("pointerdown", () => { isHeld.now = true; }, { signal });
  const let_go = () => {
    isHeld.now = false;
    // What is a speed ends with the touch.
    if (isVelocity(channel)) { input.value = 0; aim(index, 0); }
  };
  for (const end of ["pointerup", "pointercancel", "blur"]) input.addEventListener(end, let_go, { signal });
  const draw = (place, isMine) => {
    input.disabled = !isMine;
    mark.hidden = place === null;
    if (place !== null) mark.style.left = `calc(${THUMB / 2}px + ${Math.min(1, Math.max(0, (place - low) / (high - low)))} * (100% - ${THUMB}px))`;
    const goal = saidGoal(index);
    say(value, place === null ? "–" : words(place));
    if (isHeld.now || document.activeElement === input && goal !== null) return;
    const shown = operator.goals?.[index] ?? place;
    if (shown !== null) { input.value = shown; input.setAttribute("aria-valuetext", words(shown)); }
  };
  return { draw, element: make("div", { class: "slider" }, make("span", { "aria-hidden": "true" }, shortName(channel.name)), make("div", { class: "track" }, input, mark), value) };
}

export function openSliders(root, signal) {
  const all = known.robot.action.map((channel, index) => slider(channel, index, signal));
  root.append(...all.map(({ element }) => element));
  onState((state) => {
    const places = present(state);
    all.forEach(({ draw }, index) => draw(places[index], operator.is === "mine"));
  }, signal);
}
