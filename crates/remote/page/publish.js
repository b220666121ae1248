// Publishing on the Hub, in the owner's name: where, who may see it, and whether it really is to be.

import { button, choice, field, make, say } from "./dom.js";
import { doing } from "./notes.js";
import { may } from "./store.js";
import { begin } from "./tasks.js";

const SEEN_BY = [["private", "Private: only the owner"], ["public", "Public: everybody"]];

/** A card that asks. It is not a dialog in front of the page, as the stop has to be in reach. */
export class Publish {
  /** `taskOf(name, repo, isPrivate)` is the task that publishes. */
  constructor(tasks, taskOf) {
    this.title = make("h2", { tabindex: -1 });
    this.repo = make("input", { type: "text", required: true, maxlength: 200, autocomplete: "off", spellcheck: "false", placeholder: "owner/name", pattern: "[^\\/@\\s]+\\/[^\\/@\\s]+", title: "owner/name" });
    this.seenBy = choice(SEEN_BY, "private");
    this.form = make("form", { class: "steps", submit: (event) => { event.preventDefault(); this.question(); } }, field("Repository on the Hub", this.repo, "It is made if there is none."), field("Who may see it", this.seenBy),
      make("div", { class: "row" }, button("Publish…", null, { type: "submit" }), button("Close", () => this.close())));
    this.words = make("p", { id: "publish-question", tabindex: -1 });
    const sure = doing(async () => {
      await begin(taskOf(this.name, this.repo.value.trim(), this.seenBy.value === "private"), tasks);
      this.close();
    });
    this.sure = make("div", { class: "steps", role: "group", "aria-labelledby": "publish-question", hidden: true }, this.words, make("div", { class: "row" }, button("Publish now", sure, { class: "main" }), button("Back", () => this.ask())));
    this.element = make("section", { class: "card publish", "aria-label": "Publish", hidden: true }, this.title, this.form, this.sure);
  }

  /** A button that opens the card, for those who may publish. */
  button(name, attributes = {}) {
    return may("administer") && button("Publish", () => this.open(typeof name === "function" ? name() : name), attributes);
  }

  open(name) {
    this.name = name;
    this.back = document.activeElement;
    this.element.hidden = false;
    say(this.title, `Publish ${name}`);
    this.ask();
    this.element.scrollIntoView({ block: "nearest" });
  }

  ask() {
    this.form.hidden = false;
    this.sure.hidden = true;
    this.repo.focus();
  }

  question() {
    const repo = this.repo.value.trim();
    say(this.words, this.seenBy.value === "private" ? `${this.name} goes to the Hub as ${repo}, in the name of this robot's owner, and only the owner sees it. Publish it?` : `${this.name} goes to the Hub as ${repo}, in the name of this robot's owner, and everybody sees it. What others have copied can't be taken back. Publish it?`);
    this.form.hidden = true;
    this.sure.hidden = false;
    this.words.focus();
  }

  close() {
    this.element.hidden = true;
    if (this.back?.isConnected) this.back.focus();
  }
}
