// What the daemon said, as it says it.

import { get, poll } from "./api.js";
import { button, make, say } from "./dom.js";

const KEPT = 2000, EVERY_MS = 1000;

export function open(main, signal) {
  const list = make("div", { class: "log card", role: "log", "aria-label": "Log", tabindex: 0 }), words = make("p", { class: "hint" });
  const search = make("input", { type: "search", "aria-label": "Show lines with", placeholder: "Show lines with…", input: () => filter() });
  let after = 0, isFollowed = true;
  const follow = button("Follow", () => set(!isFollowed), { "aria-pressed": "true" });
  const set = (to) => {
    isFollowed = to;
    follow.setAttribute("aria-pressed", String(to));
    if (to) list.scrollTop = list.scrollHeight;
  };
  const matches = (line) => line.textContent.toLowerCase().includes(search.value.toLowerCase());
  const filter = () => { for (const line of list.children) line.hidden = !matches(line); };
  const lineOf = ({ time_ms, text }) => {
    const line = make("div", {}, make("time", { datetime: new Date(time_ms).toISOString() }, new Date(time_ms).toLocaleTimeString("en-GB")), make("span", {}, text));
    line.hidden = !matches(line);
    return line;
  };
  list.addEventListener("scroll", () => {
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    if (isAtEnd !== isFollowed) set(isAtEnd);
  }, { signal });
  main.append(make("div", { class: "bar" }, make("h2", {}, "Log"), search, follow), words, list);
  poll(async () => {
    const lines = await get(`log?after=${after}`);
    say(words, "");
    if (!lines.length) return;
    after = lines.at(-1).number;
    list.append(...lines.map(lineOf));
    while (list.children.length > KEPT) list.firstChild.remove();
    if (isFollowed) list.scrollTop = list.scrollHeight;
  }, EVERY_MS, signal, (problem) => say(words, problem.message));
}
