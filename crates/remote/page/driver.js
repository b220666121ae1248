// Teleoperation from the page: takes control, and moves the robot by sliders, by sticks on the screen, or by a gamepad.

import { post } from "./api.js";
import { button, choice, field, make, said, say } from "./dom.js";
import { doing, trouble } from "./notes.js";
import { operator, release, setSticks, take } from "./operator.js";
import { openSliders } from "./sliders.js";
import { axes, AXES, gamepad, openSticks } from "./sticks.js";
import { openTool } from "./tool.js";
import { known, may, on, onState, shortName } from "./store.js";

const SPEEDS = [["0.1", "Slow"], ["0.25", "Medium"], ["0.6", "Fast"]];

/** What this person chose for this robot, kept by the browser. */
const kept = () => {
  const key = `sinew.sticks.${known.robot.name}`, usual = AXES.map((_, axis) => (axis < known.robot.action.length ? String(axis) : ""));
  let map = usual;
  try {
    const found = JSON.parse(localStorage.getItem(key));
    if (Array.isArray(found) && found.length === AXES.length) map = found;
  } catch {
    // What somebody else wrote there is not a choice.
  }
  return { map, keep: () => localStorage.setItem(key, JSON.stringify(map)) };
};

/** Takes control, and begins teleoperation where nothing runs that the operator leads. */
async function begin() {
  await take();
  if (known.state.mode !== "idle") return;
  try {
    await post("work", { kind: "teleop", leader: "remote" });
  } catch (problem) {
    release();
    throw problem;
  }
}

/** Gives control back, and ends the teleoperation that it was for. */
async function end() {
  if (known.state.mode === "teleop") await post("stop", { stop: "stop" });
  release();
}

function stickMap({ map, keep }, changed) {
  const channels = [["", "nothing"], ...known.robot.action.flatMap(({ name }, index) => [[String(index), shortName(name)], [`-${index}`, `${shortName(name)}, reversed`]])];
  return make("details", {}, make("summary", {}, "What the sticks move"), make("div", { class: "fields" }, AXES.map((name, axis) => {
    const chosen = choice(channels, map[axis], { change: () => { map[axis] = chosen.value; keep(); changed(); } });
    return field(name, chosen);
  })));
}

/** The speed that each channel is asked for by the axes, as a share of its greatest. */
function sharesOf(map, speed) {
  const all = axes();
  if (!all) return null;
  const shares = known.robot.action.map(() => 0);
  all.forEach((value, axis) => {
    if (map[axis] === "") return;
    const index = Math.abs(Number(map[axis]));
    if (index < shares.length) shares[index] += value * (map[axis].startsWith("-") ? -1 : 1) * speed();
  });
  return shares;
}

/** Puts what moves the robot into `root`. */
export function openDriver(root, signal) {
  if (!may("operate")) {
    root.append(make("section", { class: "card driver" }, make("h2", {}, "Control"), make("p", {}, "This device may look and stop. Pair it as one that may operate to move the robot.")));
    return;
  }
  const start = button("Take control", doing(begin), { class: "main" }), finish = button("Give control back", doing(end), { hidden: true });
  const who = make("p", { class: "hint" });
  const speed = choice(SPEEDS, SPEEDS[1][0], {}), stored = kept();
  const sliders = make("div", { class: "sliders" }), pads = make("div", { class: "sticks" }), padHint = make("p", { class: "hint" });
  const label = openSticks(pads, signal), named = () => label(stored.map.map((index) => (index === "" ? "" : shortName(known.robot.action[Math.abs(index)]?.name ?? ""))));
  const sticks = make("div", { class: "by-sticks" }, pads, padHint, make("div", { class: "fields" }, field("Speed", speed)), stickMap(stored, named));
  const tool = make("div", { class: "by-tool" });
  const ways = [["Sliders", sliders], ["Sticks", sticks], ["Tool", tool]].map(([name, panel]) => {
    const control = button(name, () => choose(control), { "aria-pressed": "false" });
    return { control, panel };
  });
  const choose = (chosen) => ways.forEach(({ control, panel }) => {
    control.setAttribute("aria-pressed", String(control === chosen));
    panel.hidden = control !== chosen;
  });
  const isTool = () => !tool.hidden;
  root.append(make("section", { class: "card driver", "aria-label": "Control" }, make("div", { class: "bar" }, make("h2", {}, "Control"), make("div", { class: "segments", role: "group", "aria-label": "Move it by" }, ways.map(({ control }) => control))), make("div", { class: "bar" }, start, finish, who), sliders, sticks, tool));
  choose(ways[0].control);
  openSliders(sliders, signal);
  openTool(tool, { begin, isChosen: isTool }, signal);
  named();
  setSticks(() => (isTool() ? null : sharesOf(stored.map, () => Number(speed.value))));
  signal.addEventListener("abort", () => setSticks(() => null));

  const draw = (state) => {
    const isMine = operator.is === "mine", isLed = state.mode === "teleop" || state.mode === "record" || state.mode === "rollout";
    start.hidden = isMine;
    finish.hidden = !isMine;
    root.classList.toggle("has-control", isMine);
    say(finish, state.mode === "teleop" ? "End and give back" : "Give control back");
    say(who, !isMine ? (state.operator ? `${state.operator} has control.` : "") : !isLed ? "Nothing runs that you could lead." : `You have control${operator.delay_ms === null ? "" : `, ${said(operator.delay_ms, 0)} ms to the robot and back`}. It ends when this page is hidden or the line breaks.`);
    say(padHint, gamepad() ? "Gamepad: hold a shoulder button while you move the sticks." : "Hold a stick to move. Connect a gamepad and press a button on it to use that.");
  };
  onState(draw, signal);
  on("operator", () => known.state && draw(known.state), signal);
}

on("lost", trouble);
