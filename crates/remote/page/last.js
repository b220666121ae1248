// How the last work came out.

import { get } from "./api.js";
import { count, make, said } from "./dom.js";
import { trouble } from "./notes.js";
import { known, onState } from "./store.js";

const NAMES = { teleop: "Teleoperation", record: "Recording", rollout: "The policy's run", replay: "The replay", eval: "The evaluation", calibrate: "The calibration", limp: "Switching the torque off" };

/** One line for an episode: only what every verb's report has. */
function lineOf(episode, index) {
  const ticks = Number(episode.ticks), outcome = "success" in episode ? (episode.success ? "success" : "failure") : episode.outcome ?? "";
  const facts = [Number.isFinite(ticks) && `${said(ticks / known.robot.rate_hz)} s`, episode.kept === false && "not kept", episode.missed_ticks > 0 && `${count(episode.missed_ticks, "tick")} missed`, episode.starved_ticks > 0 && `${episode.starved_ticks} starved`, episode.reason];
  return make("li", { class: outcome === "success" ? "good" : outcome === "failure" ? "bad" : "" }, make("b", {}, `${index + 1}. ${outcome}`), make("span", { class: "hint" }, facts.filter(Boolean).join(" · ")));
}

/** What a calibration has found. */
const jointsOf = ({ joints, written, files, used_file }) => [
  ...joints.map(({ name, homing_offset, range_min, range_max }) => make("li", { class: "joint" }, make("b", {}, name), make("span", { class: "hint" }, `ticks ${range_min} to ${range_max}, offset ${said(homing_offset, 0)}`))),
  make("li", {}, make("span", { class: "hint" }, `${count(written, "register")} written; ${used_file ? "used" : "saved"} ${files.join(", ")}`)),
];

export class LastWork {
  constructor(modes, signal) {
    this.modes = modes;
    this.title = make("h2", {}, "Last time");
    this.words = make("p");
    this.list = make("ol", { class: "ends" });
    this.element = make("section", { class: "card", hidden: true }, this.title, this.words, this.list);
    let isBusy = false;
    const read = () => this.read().catch((problem) => signal.aborted || trouble(problem));
    read();
    onState(({ mode }) => {
      if (isBusy && mode === "idle") read();
      isBusy = mode !== "idle";
    }, signal);
  }

  async read() {
    const end = await get("work");
    this.element.hidden = !end || !this.modes.includes(end.mode);
    if (this.element.hidden) return;
    const runs = end.episodes.filter((episode) => "ticks" in episode), wins = runs.filter(({ success }) => success).length;
    this.words.className = end.error ? "banner bad" : "";
    this.words.textContent = end.error ?? `${NAMES[end.mode]} ${end.is_interrupted ? "was stopped before its end" : "ended"}${end.mode === "eval" ? `: ${wins} of ${runs.length} succeeded` : ""}.`;
    this.list.replaceChildren(...runs.map(lineOf), ...(end.mode === "calibrate" && end.result ? jointsOf(end.result) : []));
  }
}
