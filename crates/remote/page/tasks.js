// What takes long and is done beside the robot: fetching, publishing, checking, verifying, the doctor.

import { get, poll, post } from "./api.js";
import { button, make, saidBytes, say } from "./dom.js";
import { doing } from "./notes.js";
import { resultOf } from "./results.js";
import { may } from "./store.js";

const TITLES = { fetch_policy: "Fetch policy", check_policy: "Check policy", fetch_dataset: "Fetch dataset", verify_dataset: "Verify dataset", publish_dataset: "Publish dataset", publish_policy: "Publish policy", doctor: "Doctor" };
const EVERY_MS = 700;

const titleOf = ({ kind, policy, dataset, repo }) => [TITLES[kind] ?? kind, [policy ?? dataset ?? (kind === "check_policy" ? "the demonstration policy" : ""), repo].filter(Boolean).join(" as ")].filter(Boolean).join(": ");

const endOf = ({ is_done, is_cancelled, error }) => (!is_done ? "running…" : is_cancelled ? "cancelled" : error ? "failed" : "done");

/** Begins a task, and shows the list at once. */
export const begin = async (task, tasks) => {
  await post("tasks", task);
  await tasks.read();
  tasks.element.scrollIntoView({ block: "nearest" });
};

/** One that runs: how far it is, and its end before that. */
function running({ number, task }, tasks) {
  const title = titleOf(task), bar = make("progress", { "aria-label": `How far: ${title}`, max: 1, hidden: true }), words = make("span", { class: "hint" });
  const cancel = may("operate") && button("Cancel", doing(async () => {
    await post("tasks/cancel", { number });
    await tasks.read();
  }), { class: "small", "aria-label": `Cancel: ${title}` });
  const element = make("li", { class: "busy" }, make("div", { class: "task" }, make("span", { class: "title" }, title), words, cancel), bar);
  const draw = ({ progress }) => {
    bar.hidden = !progress?.total_bytes;
    if (!progress) return say(words, "running…");
    const { step, done_bytes, total_bytes, silent_s } = progress;
    if (total_bytes) bar.value = done_bytes / total_bytes;
    say(words, step === "ask" ? `asking the Hub${silent_s > 0 ? `, which has said nothing for ${silent_s} s` : ""}` : silent_s > 0 ? `nothing moves for ${silent_s} s` : `${step === "read" ? "reading" : "transferring"}, ${saidBytes(done_bytes)} of ${saidBytes(total_bytes)}`);
  };
  return { element, draw };
}

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
      if (!this.items.has(key)) {
        const before = this.items.get(`${state.number}/false`), item = state.is_done ? this.over(state) : running(state, this);
        this.items.set(key, item);
        if (before) before.element.replaceWith(item.element);
        else this.list.prepend(item.element);
        ended ||= state.is_done && !this.isFirst;
      }
      if (!state.is_done) this.items.get(key).draw(state);
    }
    this.isFirst = false;
    if (ended) this.done();
  }

  /** One that has ended. */
  over(state) {
    const { task, error, is_cancelled, result } = state, title = make("summary", {}, titleOf(task), make("span", { class: "hint" }, endOf(state)));
    if (is_cancelled) return { element: make("li", { class: "busy" }, make("div", { class: "task" }, make("span", { class: "title" }, titleOf(task)), make("span", { class: "hint" }, endOf(state)))) };
    return { element: make("li", { class: error ? "bad" : "good" }, make("details", { open: !this.isFirst }, title, error ? make("p", { class: "banner bad" }, error) : resultOf(task, result))) };
  }
}
