// What the robot is doing: countdown, episode, instruction, and what can be wished of the running episode.

import { post } from "./api.js";
import { button, make, said, saidTime, say } from "./dom.js";
import { doing, note } from "./notes.js";
import { known, may, onState } from "./store.js";

const WISHES = [
  ["keep", "Keep", "k", "main"], ["drop", "Drop and redo", "d", ""], ["mark", "Mark", "m", ""], ["pause", "Pause", "p", ""],
  ["resume", "Resume", "r", ""], ["correct", "Take over or give back", "c", ""], ["finish", "Finish after this one", "f", ""],
];
const NAMES = { teleop: "Teleoperation", record: "Recording", rollout: "Policy", replay: "Replay", eval: "Evaluation", calibrate: "Calibration", limp: "Torque off" };
const PHASES = { starting: "Starting", running: "Running", resetting: "Set up the next one", ending: "Ending" };
const ACTING = { policy: "The policy acts", human: "A human acts", nobody: "Nobody acts" };

/** Works that have no episodes. */
const ONE = ["teleop", "replay", "calibrate", "limp"];

const wish = (name) => post("episode", { wish: name });

const isText = (element) => ["INPUT", "TEXTAREA", "SELECT"].includes(element.tagName);

/** Starts a work, and says so. */
export async function start(work) {
  await post("work", work);
  note(`${NAMES[work.kind]} starts.`);
}

/** Puts the running work into `root`; it is hidden at rest. */
export function openWork(root, signal) {
  const title = make("h2"), phase = make("p", { class: "phase" }), clock = make("p", { class: "clock", role: "timer" }), bar = make("progress", { "aria-label": "Time of the episode", max: 1 });
  const what = make("p", { class: "instruction" }), facts = make("p", { class: "hint" });
  const buttons = WISHES.map(([name, words, key, kind]) => [name, make("button", { type: "button", class: kind, "aria-keyshortcuts": key, click: doing(() => wish(name)) }, words, make("kbd", { "aria-hidden": "true" }, key.toUpperCase()))]);
  const end = button("End", doing(() => post("stop", { stop: "stop" })), { title: "Ends in order; an episode that may be kept is" });
  const words = make("input", { type: "text", maxlength: 500, "aria-label": "New instruction", placeholder: "New instruction" });
  const instruct = make("form", { class: "row", submit: doing(async () => {
    await post("episode", { wish: "instruct", instruction: words.value });
    words.value = "";
  }) }, words, button("Instruct", null, { type: "submit" }));
  const controls = make("div", { class: "wishes" }, buttons.map(([, control]) => control), end);
  const card = make("section", { class: "card work", "aria-label": "What runs", hidden: true }, make("div", { class: "work-head" }, make("div", {}, title, phase), clock), bar, what, facts, controls, instruct);
  root.append(card);
  onState((state) => {
    const { mode, work, loop } = state;
    card.hidden = !work;
    if (!work) return;
    const isTimed = work.max_ticks !== null && work.max_ticks > 0, left_s = (work.max_ticks - work.tick) / known.robot.rate_hz, done_s = work.tick / known.robot.rate_hz;
    Object.assign(card.dataset, { phase: work.phase, mode });
    say(title, NAMES[mode] ?? mode);
    say(phase, [PHASES[work.phase], work.phase === "running" && !ONE.includes(mode) && `episode ${work.episode + 1}${work.episodes ? ` of ${work.episodes}` : ""}`].filter(Boolean).join(" · "));
    say(clock, mode === "calibrate" || mode === "limp" ? "" : work.phase === "running" || work.phase === "resetting" ? saidTime(isTimed ? left_s : done_s) : "");
    bar.hidden = !isTimed;
    bar.value = isTimed ? Math.min(1, work.tick / work.max_ticks) : 0;
    what.hidden = !work.instruction;
    say(what, work.instruction ?? "");
    say(facts, [work.waits_for && `waits for ${work.waits_for}`, work.dataset && `${work.kept} recorded in ${work.dataset}`, mode === "rollout" && (work.policy ?? "the demonstration policy"), !["replay", "eval", "calibrate", "limp"].includes(mode) && ACTING[work.acting], loop && loop.inference_ms > 0 && `inference ${said(loop.inference_ms, 0)} ms`, loop && loop.starved > 0 && `${loop.starved} ticks starved`].filter(Boolean).join(" · "));
    controls.hidden = !may("operate");
    for (const [name, control] of buttons) control.hidden = !work.wishes.includes(name);
    instruct.hidden = !may("operate") || !work.wishes.includes("instruct");
    say(buttons[0][1].firstChild, work.phase === "resetting" ? "Begin the next" : "Keep");
    say(buttons.at(-1)[1].firstChild, work.phase === "resetting" ? "Finish" : "Finish after this one");
    say(buttons[1][1].firstChild, work.phase === "resetting" ? "Redo the last" : "Drop and redo");
  }, signal);
  const press = doing(async (event) => {
    const found = buttons.find(([, control]) => control.getAttribute("aria-keyshortcuts") === event.key);
    if (found && !found[1].hidden && !card.hidden && may("operate")) await wish(found[0]);
  });
  addEventListener("keydown", (event) => {
    if (!isText(event.target) && !event.ctrlKey && !event.altKey && !event.metaKey && !event.repeat && WISHES.some(([, , key]) => key === event.key)) press({ key: event.key, preventDefault() {} });
  }, { signal });
}

/** A card for what starts something: it is there while nothing runs and this device may start it. */
export function whileIdle(card, signal) {
  onState((state) => { card.hidden = state.mode !== "idle" || !may("operate"); }, signal);
  return card;
}
