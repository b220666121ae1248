// Datasets in the daemon's folder: their episodes, verify, replay, publish, and fetch from the Hub.

import { get, poll } from "./api.js";
import { button, count, field, make, said } from "./dom.js";
import { Episodes } from "./episodes.js";
import { LastWork } from "./last.js";
import { doing, trouble } from "./notes.js";
import { Publish } from "./publish.js";
import { may } from "./store.js";
import { begin, Tasks } from "./tasks.js";
import { openWork, start } from "./work.js";

export function open(main, signal) {
  const list = make("ul", { class: "items choices" }), side = make("div", { class: "side" }), seen = make("div", { class: "seen" });
  let chosen = null;
  const tasks = new Tasks(["fetch_dataset", "verify_dataset", "publish_dataset"], signal, () => read().catch(trouble));
  const episodes = new Episodes(signal, ({ index }) => may("operate") && button("Replay", doing(() => start({ kind: "replay", dataset: chosen, episode: index })), { class: "small", "aria-label": `Replay episode ${index}` }));
  const publish = new Publish(tasks, (dataset, repo, is_private) => ({ kind: "publish_dataset", dataset, repo, private: is_private }));
  const heading = make("h2"), verify = button("Verify", doing(() => begin({ kind: "verify_dataset", dataset: chosen }, tasks)), { hidden: !may("operate") });
  const detail = make("section", { class: "card", hidden: true }, make("div", { class: "bar" }, heading, verify, publish.button(() => chosen)), episodes.element);
  const choose = async (name) => {
    chosen = name;
    detail.hidden = false;
    heading.textContent = name;
    for (const control of list.querySelectorAll("button")) control.setAttribute("aria-pressed", String(control.dataset.name === name));
    await episodes.show(name);
  };
  const read = async () => {
    const all = await get("datasets");
    list.replaceChildren(...all.map((item) => make("li", {}, make("button", { type: "button", class: "choice", "data-name": item.name, "aria-pressed": String(item.name === chosen), click: doing(() => choose(item.name)) },
      make("b", {}, item.name),
      make("span", { class: "hint" }, `${count(item.episodes, "episode")} · ${count(item.frames, "frame")} · ${said(item.fps, 0)} Hz${item.robot_type ? ` · ${item.robot_type}` : ""}`),
      item.trouble && make("span", { class: "badge bad" }, item.trouble), item.is_unfinished && make("span", { class: "badge even" }, "an episode was not finished")))));
    if (!all.length) list.append(make("li", { class: "empty" }, "No datasets yet. Record one, or fetch one from the Hub."));
    if (chosen && all.some(({ name }) => name === chosen)) await episodes.show(chosen);
    else if (all.length) await choose(all[0].name);
  };
  const name = make("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false", placeholder: "owner/name" });
  const fetching = may("operate") && make("form", { class: "row", submit: doing(() => begin({ kind: "fetch_dataset", dataset: name.value.trim() }, tasks)) }, field("From the Hub", name), button("Fetch", null, { type: "submit" }));
  main.append(side, seen);
  openWork(side, signal);
  side.append(make("section", { class: "card" }, make("h2", {}, "In this folder"), list, fetching), tasks.element);
  seen.append(new LastWork(["replay"], signal).element, publish.element, detail);
  poll(read, 10000, signal, trouble);
}
