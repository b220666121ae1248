// What takes long and is done beside the robot: fetching, checking, verifying, the doctor.

import { get, poll, post } from "./api.js";
import { make, say } from "./dom.js";
import { resultOf } from "./results.js";

const TITLES = { fetch_policy: "Fetch policy", check_policy: "Check policy", fetch_dataset: "Fetch dataset", verify_dataset: "Verify dataset", doctor: "Doctor" };
const EVERY_MS = 700;

const titleOf = ({ kind, policy, dataset }) => [TITLES[kind] ?? kind, policy ?? dataset ?? (kind === "check_policy" ? "the demonstration policy" : "")].filter(Boolean).join(": ");

/** Begins a task, and shows the list at once. */
export const begin = async (task, tasks) => {
  await post("tasks", task);
  await tasks.read();
  tasks.element.scrollIntoView({ block: "nearest" });
};

/** The newest tasks of some kinds, the last one first. `done` is called when one has ended since the page is open. */
export class Tasks {
  constructor(kinds, signal, done = () => {}) {
    this.kinds = kinds;
    this.done = done;
    this.items = new Map();
    this.list = make("ul", { class: "tasks", "aria-live": "polite" });
    this.words = make("p", { class: "hint", hidden: true });
    this.element = make("section", { class: "card", hidden: true }, make("h2", {}, "Tasks"), this.words, this.list);
    this.isFirst = true;
    poll(() => this.read(), EVERY_MS, signal, (problem) => { this.words.hidden = false; say(this.words, problem.message); });
  }

  async read() {
    const all = (await get("tasks")).filter(({ task }) => this.kinds.includes(task.kind));
    this.words.hidden = true;
    this.element.hidden = !all.length;
    let ended = false;
    for (const state of all) {
      const key = `${state.number}/${state.is_done}`;
      if (this.items.has(key)) continue;
      const before = this.items.get(`${state.number}/false`);
      const item = make("li", { class: state.is_done ? (state.error ? "bad" : "good") : "busy" },
        make("details", { open: state.is_done && !this.isFirst }, make("summary", {}, titleOf(state.task), make("span", { class: "hint" }, state.is_done ? (state.error ? "failed" : "done") : "running…")), state.is_done && (state.error ? make("p", { class: "banner bad" }, state.error) : resultOf(state.task, state.result))));
      this.items.set(key, item);
      if (before) before.replaceWith(item);
      else this.list.prepend(item);
      ended ||= state.is_done && !this.isFirst;
    }
    this.isFirst = false;
    if (ended) this.done();
  }
}
