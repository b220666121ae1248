// Cameras, the arm, what moves it, and what is measured.

import { openArm } from "./arm.js";
import { openCameras } from "./cameras.js";
import { make } from "./dom.js";
import { openDriver } from "./driver.js";
import { openPlots } from "./plots.js";
import { openWork } from "./work.js";

export function open(main, signal) {
  const seen = make("div", { class: "seen" }), side = make("div", { class: "side" }), below = make("div", { class: "below" });
  main.append(seen, side, below);
  openCameras(seen, signal);
  openWork(side, signal);
  openDriver(side, signal);
  openArm(side, signal);
  openPlots(below, signal);
}
