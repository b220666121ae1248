// The socket of images, in a worker: it decodes and draws beside the page, which may be busy with plots and the arm.
//
// The page says `{ token, canvases }` once, names with their canvases, and `{ isSeen }` whenever that changes. It is told
// `{ camera, taken_ms }` for each image that is drawn, in milliseconds since 1970, and `{ stranger }` if the token is not good.

import { connect } from "./socket.js";

const decoder = new TextDecoder();

/** The head and the JPEG of a message. */
function split(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  return { ...JSON.parse(decoder.decode(new Uint8Array(buffer, 4, length))), jpeg: new Blob([new Uint8Array(buffer, 4 + length)], { type: "image/jpeg" }) };
}

class Screen {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false, desynchronized: true });
    this.isBusy = false;
    this.next = null;
  }

  /** Draws an image, unless a newer one comes while another is decoded. Then calls `drawn`. */
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
      postMessage({ camera: image.camera, taken_ms: image.taken_ms });
    } catch {
      // An image that can't be decoded is left out; its number is acknowledged, or the next would never come.
    }
    this.isBusy = false;
    drawn();
    const next = this.next;
    this.next = null;
    if (next) this.show(...next);
  }
}

const screens = new Map();
let token = null, line = null, socket = null, acknowledged = 0, connection = 0;

function hear(buffer) {
  const image = split(buffer), mine = connection;
  image.taken_ms = performance.timeOrigin + performance.now() - image.age_ms;
  screens.get(image.camera)?.show(image, () => {
    // Numbers of a connection that has ended mean nothing to the next one.
    if (mine !== connection || image.number <= acknowledged) return;
    acknowledged = image.number;
    socket.send({ ack: image.number });
  });
}

function up() {
  connection += 1;
  acknowledged = 0;
}

onmessage = ({ data }) => {
  if (data.canvases) {
    token = data.token;
    for (const [name, canvas] of data.canvases) screens.set(name, new Screen(canvas));
  }
  if ("isSeen" in data) {
    line?.abort();
    line = null;
    if (!data.isSeen) return;
    line = new AbortController();
    socket = connect("cameras/stream", token, { hello: () => ({ cameras: [...screens.keys()], rate_hz: 30 }), hear, up, stranger: (words) => postMessage({ stranger: words }) }, line.signal);
  }
};
