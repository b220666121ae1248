// Recording: a form to begin with, the running episode, and what was recorded.

import { get } from "./api.js";
import { openCameras } from "./cameras.js";
import { button, choice, field, make } from "./dom.js";
import { openDriver } from "./driver.js";
import { Episodes } from "./episodes.js";
import { doing, trouble } from "./notes.js";
import { operator, release, take } from "./operator.js";
import { known, may, onState } from "./store.js";
import { openWork, start, whileIdle } from "./work.js";

/** What was typed last stays while the page is open. */
const typed = { dataset: "", instruction: "", episodes: "10", episode_s: "30", reset_s: "10", leader: "" };

export function open(main, signal) {
  const { robot } = known;
  const leaders = [["remote", "This page"], robot.teleoperator && ["own", robot.teleoperator], robot.is_simulated && ["scripted", "A script"]].filter(Boolean);
  const keep = (name, control) => {
    if (typed[name]) control.value = typed[name];
    control.addEventListener("input", () => { typed[name] = control.value; });
    return control;
  };
  const number = (name, least, most) => keep(name, make("input", { type: "number", min: least, max: most, step: "any", required: true, inputmode: "decimal" }));
  const names = make("datalist", { id: "datasets" });
  const dataset = keep("dataset", make("input", { type: "text", list: names.id, required: true, maxlength: 100, autocomplete: "off", spellcheck: "false", placeholder: "cubes" }));
  const instruction = keep("instruction", make("input", { type: "text", maxlength: 500, placeholder: robot.task ? "the task's own words" : "Put the cube into the bin.", required: !robot.task }));
  const [episodes, episode_s, reset_s] = [number("episodes", 1, 100000), number("episode_s", 1, 36000), number("reset_s", 0, 36000)];
  episodes.step = 1;
  const leader = keep("leader", choice(leaders, leaders[0][0]));

  const begin = doing(async () => {
    const work = { kind: "record", leader: leader.value, dataset: dataset.value.trim(), episodes: Number(episodes.value), episode_s: Number(episode_s.value), reset_s: Number(reset_s.value) };
    if (instruction.value.trim()) work.instruction = instruction.value.trim();
    const isMine = operator.is === "mine";
    if (work.leader === "remote") await take();
    try {
      await start(work);
    } catch (problem) {
      if (work.leader === "remote" && !isMine) release();
      throw problem;
    }
  });
  const form = whileIdle(make("form", { class: "card", submit: begin },
    make("h2", {}, "Record episodes"),
    field("Dataset", dataset, "In the daemon's folder. Where there is one of this name, the recording goes on with it."), names,
    field("Instruction", instruction, "What is to be done, in words. A policy learns it with the frames."),
    make("div", { class: "fields" }, field("Episodes", episodes), field("Seconds each", episode_s), field("Seconds between", reset_s), field("Led by", leader)),
    button("Start recording", null, { type: "submit", class: "main" })), signal);

  const list = new Episodes(signal), heading = make("h2", {}, "Recorded"), card = make("section", { class: "card", hidden: true }, heading, list.element);
  const seen = make("div", { class: "seen" }), side = make("div", { class: "side" }), drive = make("div");
  main.append(seen, side, make("div", { class: "below" }, card));
  openCameras(seen, signal);
  openWork(side, signal);
  side.append(form);
  openDriver(drive, signal);
  side.append(drive);

  // The list is that of the dataset that is recorded to, or else of the one that is typed.
  let taken = new Set(), shown = "";
  const show = (name) => {
    card.hidden = false;
    heading.textContent = `Recorded in ${name}`;
    list.show(name).catch((problem) => signal.aborted || trouble(problem));
  };
  const showTyped = () => {
    const name = dataset.value.trim();
    if (taken.has(name)) show(name);
    else card.hidden = true;
  };
  const read = async () => {
    taken = new Set((await get("datasets")).map(({ name }) => name));
    names.replaceChildren(...[...taken].map((value) => make("option", { value })));
  };
  dataset.addEventListener("change", () => known.state?.work || showTyped(), { signal });
  onState(({ mode, work }) => {
    drive.hidden = !may("operate") || (mode !== "record" && operator.is !== "mine");
    const key = work?.dataset ? `${work.dataset}/${work.kept}/${work.phase}` : "";
    if (key === shown) return;
    shown = key;
    // The first episode makes the dataset.
    if (key && (work.kept > 0 || taken.has(work.dataset))) show(work.dataset);
    if (!key) read().then(showTyped).catch((problem) => signal.aborted || trouble(problem));
  }, signal);
  read().then(() => known.state?.work || showTyped()).catch((problem) => signal.aborted || trouble(problem));
}
