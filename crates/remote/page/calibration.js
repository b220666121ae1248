// Calibration, step by step: what is to be done now, and how far each joint was moved. Nothing moves by itself in it.

import { post } from "./api.js";
import { button, field, make, said, say } from "./dom.js";
import { LastWork } from "./last.js";
import { doing } from "./notes.js";
import { known, may, onState } from "./store.js";
import { start } from "./work.js";

const TITLES = {
  meet: "Looking for the motors", found: "There is a calibration", replace: "The calibration can't be used", release: "Hold the arm", rest: "Let the arm rest",
  sweep: "Move every joint", middle: "Hold the middle", write: "Writing", rewrite: "Not kept yet", failed: "It did not work",
};
const WAY = [["Hold the arm", ["meet", "found", "replace", "release"]], ["Move every joint", ["rest", "sweep"]], ["Hold the middle", ["middle"]], ["Keep it", ["write", "rewrite"]]];
const REPLIES = [["next", "Next"], ["again", "Again"], ["cancel", "Cancel"]];
const ARMS = { robot: "Robot", leader: "Leader arm" };

const degrees = (radians) => said(radians * 180 / Math.PI, 0);

/** A bar of what a joint was moved through, with a mark for where it is. */
function bar({ name }) {
  const fill = make("i", { class: "fill", "aria-hidden": "true" }), mark = make("i", { class: "mark", "aria-hidden": "true" }), words = make("span", { class: "hint" });
  const track = make("div", { class: "range", role: "meter", "aria-label": name, "aria-valuemin": 0 }, fill, mark);
  const element = make("li", {}, make("b", {}, name), track, words);
  const draw = ({ position, lower, upper, least, is_enough }) => {
    const isKnown = position !== null, moved = isKnown ? upper - lower : 0, width = Math.max(least, moved);
    // What is missing is on both sides of what was seen.
    const begin = isKnown ? (lower + upper - width) / 2 : 0, share = (value) => `${100 * (value - begin) / width}%`;
    fill.hidden = mark.hidden = !isKnown;
    if (isKnown) {
      fill.style.left = share(lower);
      fill.style.width = `${100 * moved / width}%`;
      mark.style.left = share(position);
    }
    element.className = is_enough ? "good" : "";
    const told = isKnown ? `${degrees(moved)}° of ${is_enough ? "" : `at least ${degrees(least)}°`}`.replace(/ of $/, "") : "not heard yet";
    say(words, is_enough ? `${told} ✓` : told);
    track.setAttribute("aria-valuemax", Math.round(Math.max(least, moved) * 180 / Math.PI));
    track.setAttribute("aria-valuenow", Math.round(moved * 180 / Math.PI));
    track.setAttribute("aria-valuetext", `${told}${is_enough ? ", enough" : ", move it"}`);
  };
  return { element, draw };
}

/** What starts the calibration of one arm. */
function beginning({ arm, name, id }) {
  const words = ARMS[arm], named = make("input", { type: "text", maxlength: 100, autocomplete: "off", spellcheck: "false", placeholder: "the only one" });
  const begin = doing(() => start({ kind: "calibrate", arm, ...(id === null && named.value.trim() && { id: named.value.trim() }) }));
  // Whoever presses it once has read what to do.
  const holds = `Hold the ${words.toLowerCase()}: it may sink. Press again`, limp = `Make the ${words.toLowerCase()} limp`;
  const relax = button(limp, doing(async () => {
    if (relax.textContent !== holds) {
      say(relax, holds);
      setTimeout(() => say(relax, limp), 5000);
      return;
    }
    say(relax, limp);
    await start({ kind: "limp", arm });
  }));
  return make("form", { class: "row", submit: begin }, make("p", {}, make("b", {}, words), " ", make("span", { class: "hint" }, [name, id].filter(Boolean).join(" · "))),
    id === null && field(`Name of the ${words.toLowerCase()}'s calibration`, named, "Needed if there is none yet"), button(`Calibrate the ${words.toLowerCase()}`, null, { type: "submit" }), relax);
}

/** The card of calibration, where there is an arm that can be calibrated. */
export function calibrationCards(signal) {
  const { calibrate } = known.robot;
  if (!calibrate.length) return [];
  const begin = make("div", { class: "begin" }, calibrate.map(beginning));
  const title = make("h3", { tabindex: -1 }), text = make("p"), problem = make("p", { class: "banner bad", role: "alert", hidden: true }), missing = make("p", { class: "hint", role: "status" });
  const way = make("ol", { class: "way", "aria-label": "Steps" }, WAY.map(([words]) => make("li", {}, words)));
  const list = make("ul", { class: "ranges", "aria-label": "Joints" }), hint = make("p", { class: "hint" }, "Press buttons with Enter: Space stops, which ends the calibration.");
  let bars = new Map(), shown = null, ours = null;
  const reply = (answer) => doing(() => shown && post("calibration", { number: shown.number, answer }));
  const buttons = REPLIES.map(([name, words]) => [name, button(words, reply(name))]);
  const answers = make("div", { class: "wishes" }, buttons.map(([, control]) => control));
  const told = make("div", { "aria-live": "polite" }, title, text);
  const steps = make("div", { class: "steps", hidden: true }, way, told, problem, list, missing, answers, hint);
  const last = make("div", { class: "last" }, new LastWork(["calibrate", "limp"], signal).element);
  const card = make("section", { class: "card calibration", "aria-label": "Calibration" }, make("h2", {}, "Calibration"), begin, steps);

  const drawJoints = (joints) => {
    list.hidden = !joints.length;
    const names = joints.map(({ name }) => name).join(" ");
    if (ours !== names) {
      ours = names;
      bars = new Map(joints.map((joint) => [joint.name, bar(joint)]));
      list.replaceChildren(...[...bars.values()].map(({ element }) => element));
    }
    for (const joint of joints) bars.get(joint.name).draw(joint);
    const left = joints.filter(({ is_enough }) => !is_enough).map(({ name }) => name);
    missing.hidden = !joints.length;
    say(missing, left.length ? `Still to be moved: ${left.join(", ")}.` : "All were moved enough. Next, when each was at both of its ends.");
  };

  onState(({ mode, calibration }) => {
    begin.hidden = mode !== "idle" || !may("operate");
    const hadFocus = steps.contains(document.activeElement);
    steps.hidden = !calibration;
    last.hidden = Boolean(calibration);
    shown = calibration;
    if (!calibration) {
      if (hadFocus) begin.querySelector("button")?.focus();
      return;
    }
    const { step } = calibration;
    say(title, `${ARMS[calibration.arm]} ${calibration.name}: ${TITLES[step] ?? step}`);
    say(text, calibration.text);
    problem.hidden = !calibration.problem;
    say(problem, calibration.problem ?? "");
    WAY.forEach(([, of], index) => {
      if (of.includes(step)) way.children[index].setAttribute("aria-current", "step");
      else way.children[index].removeAttribute("aria-current");
    });
    drawJoints(calibration.joints);
    answers.hidden = hint.hidden = !may("operate");
    // While nothing can be answered the buttons stay where they are, so that whoever has answered can go on with the keyboard.
    const isBusy = !calibration.answers.length;
    for (const [name, control] of buttons) {
      control.setAttribute("aria-disabled", String(isBusy));
      if (!isBusy) control.hidden = !calibration.answers.includes(name);
    }
    const first = buttons.find(([, control]) => !control.hidden)?.[1];
    buttons.forEach(([, control]) => control.classList.toggle("main", control === first));
    if (hadFocus && !steps.contains(document.activeElement)) first?.focus();
  }, signal);
  return [card, last];
}
