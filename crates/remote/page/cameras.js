// Live cameras: the newest JPEG of each, drawn on a canvas and acknowledged.

import { button, make, say } from "./dom.js";
import { connect } from "./socket.js";
import { known, onState } from "./store.js";

/** Older images than this are marked, so that nobody steers by one. */
const STALE_S = 1;
const decoder = new TextDecoder();

/** The head and the JPEG of a message. */
function split(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  return { ...JSON.parse(decoder.decode(new Uint8Array(buffer, 4, length))), jpeg: new Blob([new Uint8Array(buffer, 4 + length)], { type: "image/jpeg" }) };
}

class Tile {
  constructor({ name, width, height }) {
    this.name = name;
    this.canvas = make("canvas", { role: "img", "aria-label": `Camera ${name}`, width, height });
    this.context = this.canvas.getContext("2d");
    this.age = make("span");
    this.veil = make("p", { class: "veil" }, "No image yet");
    const larger = button("Larger", () => {
      const isLarge = this.element.classList.toggle("large");
      larger.setAttribute("aria-pressed", String(isLarge));
      say(larger, isLarge ? "Smaller" : "Larger");
    }, { "aria-pressed": "false", "aria-label": `Larger image of ${name}`, class: "small" });
    this.element = make("figure", { class: "camera" }, make("div", { class: "image" }, this.canvas, this.veil, larger), make("figcaption", {}, make("b", {}, name), this.age));
    this.isBusy = false;
    this.next = null;
    this.taken = null;
  }

  /** Draws an image, unless a newer one comes while another is decoded. Calls `drawn` with its number. */
  async show(image, drawn) {
    if (this.isBusy) {
      this.next = [image, drawn];
      return;
    }
    this.isBusy = true;
    try {
      const picture = await createImageBitmap(image.jpeg);
      if (this.canvas.width !== picture.width || this.canvas.height !== picture.height) Object.assign(this.canvas, { width: picture.width, height: picture.height });
      this.context.drawImage(picture, 0, 0);
      picture.close();
      this.taken = image.taken;
    } catch {
      // An image that can't be decoded is left out; its number is acknowledged, or the next would never come.
    }
    this.isBusy = false;
    drawn(image.number);
    const next = this.next;
    this.next = null;
    if (next) this.show(...next);
  }

  /** Says how old the image is that is seen here. */
  mark(isUp) {
    const age_s = this.taken === null ? null : (performance.now() - this.taken) / 1000, isStale = !isUp || age_s === null || age_s > STALE_S;
    this.element.classList.toggle("is-stale", isStale);
    say(this.veil, !isUp ? "Not connected" : age_s === null ? "No image yet" : isStale ? `No image for ${Math.floor(age_s)} s` : "");
    say(this.age, isStale ? "" : `${Math.round(age_s * 100) * 10} ms old`);
  }
}

/** Puts the robot's cameras into `root`. */
export function openCameras(root, signal) {
  const { cameras } = known.robot;
  const tiles = new Map(cameras.map((camera) => [camera.name, new Tile(camera)]));
  const grid = make("div", { class: "cameras", "data-count": cameras.length }, [...tiles.values()].map((tile) => tile.element));
  if (!cameras.length) grid.append(make("p", { class: "empty" }, "This robot has no cameras. Give the daemon one with --camera."));
  root.append(grid);
  if (!cameras.length) return;
  let socket = null, line = null, acknowledged = 0, connection = 0;
  const hear = (buffer) => {
    const image = split(buffer), mine = connection;
    image.taken = performance.now() - image.age_ms;
    tiles.get(image.camera)?.show(image, (number) => {
      // Numbers of a connection that has ended mean nothing to the next one.
      if (mine !== connection || number <= acknowledged) return;
      acknowledged = number;
      socket.send({ ack: number });
    });
  };
  const up = () => {
    connection += 1;
    acknowledged = 0;
  };
  // A page that nobody looks at takes no images.
  const follow = () => {
    line?.abort();
    line = null;
    if (document.hidden || signal.aborted) return;
    line = new AbortController();
    socket = connect("cameras/stream", { hello: () => ({ cameras: [...tiles.keys()], rate_hz: 30 }), hear, up }, line.signal);
  };
  document.addEventListener("visibilitychange", follow, { signal });
  signal.addEventListener("abort", follow);
  follow();
  onState(() => tiles.forEach((tile) => tile.mark(known.link === "up")), signal);
}
