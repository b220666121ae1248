// The episodes of a dataset, the newest first, each with an image from its middle.

import { get, getBytes } from "./api.js";
import { button, count, make, said } from "./dom.js";

const AT_ONCE = 24;

/** An image that is fetched when it comes into sight. */
function thumbnail(path, signal) {
  const canvas = make("canvas", { class: "thumb", width: 160, height: 120, "aria-hidden": "true" });
  const seen = new IntersectionObserver(async ([entry]) => {
    if (!entry.isIntersecting) return;
    seen.disconnect();
    try {
      const picture = await createImageBitmap(new Blob([await getBytes(path)], { type: "image/jpeg" }));
      Object.assign(canvas, { width: picture.width, height: picture.height });
      canvas.getContext("2d").drawImage(picture, 0, 0);
      picture.close();
    } catch {
      // A dataset without images has none to show.
      canvas.classList.add("none");
    }
  });
  seen.observe(canvas);
  signal.addEventListener("abort", () => seen.disconnect());
  return canvas;
}

/** A list that shows a dataset's episodes. `actions(episode)` gives buttons for one. */
export class Episodes {
  constructor(signal, actions = () => []) {
    this.signal = signal;
    this.actions = actions;
    this.items = new Map();
    this.shown = AT_ONCE;
    this.list = make("ol", { class: "episodes", reversed: true });
    this.words = make("p", { class: "hint" });
    this.more = button("Show more", () => { this.shown += AT_ONCE; this.draw(); }, { hidden: true });
    this.element = make("div", {}, this.words, this.list, this.more);
    this.all = [];
  }

  async show(dataset) {
    if (dataset !== this.dataset) {
      this.dataset = dataset;
      this.items.clear();
      this.shown = AT_ONCE;
    }
    const all = await get(`datasets/${encodeURIComponent(dataset)}`);
    if (dataset !== this.dataset || this.signal.aborted) return;
    this.all = all;
    this.draw();
  }

  draw() {
    const newest = [...this.all].reverse().slice(0, this.shown);
    this.words.textContent = count(this.all.length, "episode");
    this.list.replaceChildren(...newest.map((episode) => {
      const key = `${episode.index}/${episode.frames}`;
      if (!this.items.has(key)) this.items.set(key, this.item(episode));
      return this.items.get(key);
    }));
    this.more.hidden = this.all.length <= this.shown;
  }

  item(episode) {
    const { index, seconds, frames, instructions } = episode;
    return make("li", {}, thumbnail(`datasets/${encodeURIComponent(this.dataset)}/episodes/${index}.jpg`, this.signal),
      make("div", {}, make("b", {}, `Episode ${index}`), make("span", { class: "hint" }, `${said(seconds)} s, ${count(frames, "frame")}`), make("span", { class: "words" }, instructions.join(" / ")), this.actions(episode)));
  }
}
