// The list of episodes. Only the rows in sight exist, so it may have any number.

const ROW = 44;
const MARKS = { success: "✓ success", failure: "✕ failure", undecided: "undecided" };

class List {
  /** `episodes` are objects with `number`, `seconds`, `task`, `outcome` and `reason`; `open(number)` is called for one. */
  constructor(episodes, open) {
    this.episodes = episodes;
    this.open = open;
    this.list = document.getElementById("list");
    this.rows = document.getElementById("rows");
    this.search = document.getElementById("search");
    this.outcome = document.getElementById("outcome");
    this.outcome.hidden = !episodes.some((episode) => episode.outcome);
    for (const event of ["input", "change"]) [this.search, this.outcome].forEach((field) => field.addEventListener(event, () => this.filter()));
    this.list.addEventListener("scroll", () => this.draw(), { passive: true });
    this.rows.addEventListener("click", (event) => {
      const row = event.target.closest("[data-number]");
      if (row) this.open(Number(row.dataset.number));
    });
    new ResizeObserver(() => this.draw()).observe(this.list);
    this.filter();
  }

  filter() {
    const words = this.search.value.trim().toLowerCase(), outcome = this.outcome.value;
    const fits = ({ number, task, reason }) => /^\d+$/.test(words) ? String(number).startsWith(words) : `${task} ${reason}`.toLowerCase().includes(words);
    this.shown = this.episodes.filter((episode) => (!outcome || episode.outcome === outcome) && (!words || fits(episode)));
    this.place = new Map(this.shown.map((episode, index) => [episode.number, index]));
    const all = this.episodes.length, some = this.shown.length;
    document.getElementById("count").textContent = some === all ? `${all} episode${all === 1 ? "" : "s"}` : `${some} of ${all} episodes`;
    // Rows far down would keep the list as long as it was.
    this.rows.replaceChildren();
    this.rows.style.height = `${some * ROW}px`;
    this.select(this.current);
  }

  /** The episode so many rows on from the one that is open. */
  beside(by) {
    const at = this.place.get(this.current);
    const to = at === undefined ? 0 : Math.min(this.shown.length - 1, Math.max(0, at + by));
    return this.shown[to]?.number;
  }

  select(number) {
    this.current = number;
    const at = this.place.get(number);
    if (at !== undefined) {
      const top = at * ROW, { scrollTop, clientHeight } = this.list;
      if (top < scrollTop) this.list.scrollTop = top;
      else if (top + ROW > scrollTop + clientHeight) this.list.scrollTop = top + ROW - clientHeight;
    }
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - 4), count = Math.ceil(this.list.clientHeight / ROW) + 8;
    const rows = this.shown.slice(first, first + count).map((episode, index) => this.row(episode, first + index));
    this.rows.replaceChildren(...rows);
    const active = `row-${this.current}`;
    if (rows.some((row) => row.id === active)) this.list.setAttribute("aria-activedescendant", active);
    else this.list.removeAttribute("aria-activedescendant");
  }

  row({ number, seconds, task, outcome, reason }, at) {
    const row = make("div", { class: "row", role: "option", id: `row-${number}`, "aria-selected": String(number === this.current), "aria-setsize": this.shown.length, "aria-posinset": at + 1, title: [task, reason].filter(Boolean).join("\n") },
      make("div", {}, make("b", {}, `Episode ${number}`), make("i", { class: MARKS[outcome] ? outcome : "" }, MARKS[outcome] ?? outcome), make("i", {}, `${seconds.toFixed(1)} s`)),
      make("small", {}, task));
    row.dataset.number = number;
    row.style.top = `${at * ROW}px`;
    return row;
  }
}
