// Policies on this machine: fetch one, check it, run it, measure it, publish it.

import { get, poll } from "./api.js";
import { openCameras } from "./cameras.js";
import { button, choice, field, make, saidBytes } from "./dom.js";
import { doing, trouble } from "./notes.js";
import { known, may } from "./store.js";
import { LastWork } from "./last.js";
import { Publish } from "./publish.js";
import { begin, Tasks } from "./tasks.js";
import { openWork, start, whileIdle } from "./work.js";

const STRATEGIES = [["base", "One run"], ["episodic", "Episodes, with time between"], ["highlight", "Keep what is marked"], ["dagger", "Keep what the human corrects"]];

function runForm(choose, signal) {
  const { robot } = known;
  const instruction = make("input", { type: "text", maxlength: 500, placeholder: robot.task ? "the task's own words" : "" });
  const seconds = make("input", { type: "number", min: 0, step: "any", value: 60, inputmode: "decimal" });
  const dataset = make("input", { type: "text", maxlength: 100, autocomplete: "off", spellcheck: "false", placeholder: "nothing is recorded" });
  const strategy = choice(STRATEGIES, "base");
  const episodes = make("input", { type: "number", min: 1, step: 1, value: 20, inputmode: "numeric" });
  const run = doing(() => {
    const work = { kind: "rollout", strategy: strategy.value, seconds: Number(seconds.value) };
    if (choose.value) work.policy = choose.value;
    if (instruction.value.trim()) work.instruction = instruction.value.trim();
    if (dataset.value.trim()) work.dataset = dataset.value.trim();
    return start(work);
  });
  const measure = doing(() => start({ kind: "eval", ...(choose.value && { policy: choose.value }), ...(robot.task && { task: robot.task }), episodes: Number(episodes.value) }));
  const warning = !robot.is_simulated && make("p", { class: "banner even" }, "The arm moves by itself. Keep clear of it, and a hand near the stop.");
  return [
    whileIdle(make("form", { class: "card", submit: run }, make("h2", {}, "Run"), warning, field("Policy", choose), field("Instruction", instruction),
      make("div", { class: "fields" }, field("Seconds", seconds, "0: until it is stopped"), field("How", strategy)), field("Record to", dataset), button("Run the policy", null, { type: "submit", class: "main" })), signal),
    whileIdle(make("form", { class: "card", submit: measure }, make("h2", {}, "Measure"), make("p", { class: "hint" }, "Runs the chosen policy in the simulator of this machine; the robot itself does not move."),
      field("Episodes", episodes), button("Measure success", null, { type: "submit" })), signal),
  ];
}

/** What a name stands for, where that is worth a word. */
const stands = ({ name, commit, instead_of, failed_starts, trouble }) => failed_starts > 0 && make("span", { class: "hint" },
  instead_of ? `${name} is ${commit.slice(0, 8)}, which was good: ${instead_of.slice(0, 8)} failed to start ${failed_starts} times. Fetch it again to try anew. ` : `${name}: ${commit.slice(0, 8)} failed to start ${failed_starts === 1 ? "once" : `${failed_starts} times`}. `, trouble ?? "");

export function open(main, signal) {
  const list = make("ul", { class: "items" }), choose = make("select");
  const tasks = new Tasks(["fetch_policy", "check_policy", "publish_policy"], signal, () => read().catch(trouble));
  const publish = new Publish(tasks, (policy, repo, is_private) => ({ kind: "publish_policy", policy, repo, private: is_private }));
  const read = async () => {
    const all = await get("policies"), chosen = choose.value;
    choose.replaceChildren(...all.map(({ policy, title }) => make("option", { value: policy ?? "" }, policy ?? title)));
    if (all.some(({ policy }) => (policy ?? "") === chosen)) choose.value = chosen;
    list.replaceChildren(...all.map((item) => make("li", {},
      make("div", {}, make("b", {}, item.policy ?? item.title), make("span", { class: "hint" }, [item.policy && item.title !== item.policy && item.title, item.size_bytes > 0 && saidBytes(item.size_bytes), item.commits.map((commit) => commit.slice(0, 8)).join(", ")].filter(Boolean).join(" · ")), item.names.map(stands)),
      may("operate") && make("div", { class: "row" }, button("Check", doing(() => begin({ kind: "check_policy", ...(item.policy && { policy: item.policy }) }, tasks)), { "aria-label": `Check ${item.policy ?? item.title}` }), button("Choose", () => { choose.value = item.policy ?? ""; choose.focus(); }, { "aria-label": `Choose ${item.policy ?? item.title}` }), item.policy && publish.button(item.policy, { "aria-label": `Publish ${item.policy}` })))));
    if (!all.length) list.append(make("li", { class: "empty" }, "No policies on this machine."));
  };
  const name = make("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false", placeholder: "owner/name" });
  const fetching = may("operate") && make("form", { class: "row", submit: doing(() => begin({ kind: "fetch_policy", policy: name.value.trim() }, tasks)) }, field("From the Hub", name), button("Fetch", null, { type: "submit" }));
  const seen = make("div", { class: "seen" }), side = make("div", { class: "side" }), below = make("div", { class: "below" });
  main.append(seen, side, below);
  openWork(side, signal);
  side.append(...runForm(choose, signal));
  openCameras(seen, signal);
  below.append(new LastWork(["rollout", "eval"], signal).element, make("section", { class: "card" }, make("h2", {}, "On this machine"), list, fetching), publish.element, tasks.element);
  poll(read, 15000, signal, trouble);
}
