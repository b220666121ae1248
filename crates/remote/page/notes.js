// What the page tells the person once: something was done, or went wrong.

import { button, make, say } from "./dom.js";

const SHOWN_MS = 6000;

/** Says something at the edge of the page for a while. */
export function note(words) {
  const line = make("p", { class: "note" }, words);
  document.getElementById("notes").append(line);
  setTimeout(() => line.remove(), SHOWN_MS);
}

/** Says what went wrong until it is read. */
export function trouble(problem) {
  const words = problem instanceof Error ? problem.message : String(problem), root = document.getElementById("alarm");
  if ([...root.children].some((line) => line.firstChild.textContent === words)) return;
  const line = make("div", { class: "trouble" }, make("p", {}, words), button("Close", () => line.remove()));
  root.append(line);
  while (root.children.length > 3) root.firstChild.remove();
}

/** Does something that a button asks for, once at a time, and says how it failed. */
export function doing(work) {
  return async (event) => {
    const control = event?.currentTarget ?? null;
    if (control?.getAttribute("aria-disabled") === "true") return;
    event?.preventDefault();
    control?.setAttribute("aria-disabled", "true");
    try {
      await work(event);
    } catch (problem) {
      if (problem.status !== 401) trouble(problem);
    } finally {
      control?.removeAttribute("aria-disabled");
    }
  };
}

/** A line that is there as long as something is so. */
export class Standing {
  constructor(root, kind) {
    this.element = make("p", { class: `banner ${kind}`, hidden: true });
    root.append(this.element);
  }

  set(words) {
    this.element.hidden = !words;
    say(this.element, words || "");
  }
}
