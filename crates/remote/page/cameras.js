// Live cameras: a worker draws the newest image of each; here is what stands around it.

import { token } from "./api.js";
import { button, make, say } from "./dom.js";
import { known, onState, tell } from "./store.js";

/** Older images than this are marked, so that nobody steers by one. */
const STALE_MS = 1000;

const now_ms = () => performance.timeOrigin + performance.now();

class Tile {
  constructor({ name, width, height }) {
    this.canvas = make("canvas", { role: "img", "aria-label": `Camera ${name}`, width, height });
    this.age = make("span");
    this.veil = make("p", { class: "veil" }, "No image yet");
    const larger = button("Larger", () => {
      const isLarge = this.element.classList.toggle("large");
      larger.setAttribute("aria-pressed", String(isLarge));
      say(larger, isLarge ? "Smaller" : "Larger");
    }, { "aria-pressed": "false", "aria-label": `Larger image of ${name}`, class: "small" });
    this.element = make("figure", { class: "camera" }, make("div", { class: "image" }, this.canvas, this.veil, larger), make("figcaption", {}, make("b", {}, name), this.age));
    this.taken_ms = null;
  }

  /** Says how old the image is that is seen here. */
  mark(isUp) {
    const age_ms = this.taken_ms === null ? null : now_ms() - this.taken_ms, isStale = !isUp || age_ms === null || age_ms > STALE_MS;
    this.element.classList.toggle("is-stale", isStale);
    say(this.veil, !isUp ? "Not connected" : age_ms === null ? "No image yet" : isStale ? `No image for ${Math.floor(age_ms / 1000)} s` : "");
    say(this.age, isStale ? "" : `${Math.round(age_ms / 10) * 10} ms old`);
  }
}

/** Puts the robot's cameras into `root`. */
export function openCameras(root, signal) {
  const { cameras } = known.robot;
  if (!cameras.length) {
    root.append(make("p", { class: "empty" }, "This robot has no cameras. Give the daemon one with --camera."));
    return;
  }
  if (!HTMLCanvasElement.prototype.transferControlToOffscreen) {
    root.append(make("p", { class: "empty" }, "This browser is too old to show the cameras: it has no OffscreenCanvas."));
    return;
  }
  const tiles = new Map(cameras.map((camera) => [camera.name, new Tile(camera)]));
  root.append(make("div", { class: "cameras" }, [...tiles.values()].map((tile) => tile.element)));
  const worker = new Worker("camera-line.js", { type: "module" });
  worker.onmessage = ({ data: { camera, taken_ms, stranger } }) => {
    if (stranger) tell("stranger", stranger);
    else tiles.get(camera).taken_ms = taken_ms;
  };
  const canvases = [...tiles].map(([name, { canvas }]) => [name, canvas.transferControlToOffscreen()]);
  worker.postMessage({ token: token.get(), canvases, isSeen: !document.hidden }, canvases.map(([, canvas]) => canvas));
  // A page that nobody looks at takes no images.
  document.addEventListener("visibilitychange", () => worker.postMessage({ isSeen: !document.hidden }), { signal });
  signal.addEventListener("abort", () => worker.terminate());
  onState(() => tiles.forEach((tile) => tile.mark(known.link === "up")), signal);
}
