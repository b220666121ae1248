// The stop: a button on every view, and the keys Space and Escape.

import { post } from "./api.js";
import { button, icon, make } from "./dom.js";
import { doing, note, trouble } from "./notes.js";
import { known, may, on, tell } from "./store.js";

const TRIES = 5, BETWEEN_MS = 150;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Stops the robot: over the socket of commands where it is open, and by a request in any case, until one is answered. */
export async function stop(wish) {
  tell("stop", wish);
  for (let tries = 1; ; tries += 1) {
    try {
      await post("stop", { stop: wish }, { keepalive: true });
      note(wish === "emergency" ? "Emergency stop." : "Stopped.");
      return;
    } catch (problem) {
      if (tries === TRIES || problem.status === 401) return trouble(`The stop did not reach the robot. ${problem.message} Use the switch at the robot.`);
      await pause(BETWEEN_MS);
    }
  }
}

const isText = (element) => element instanceof HTMLTextAreaElement || (element instanceof HTMLInputElement && ["text", "search", "number", "password"].includes(element.type));

/** In a text field a space is a space. Everywhere else it stops, on buttons, too: they are pressed by Enter. */
function key(event) {
  if (!known.me || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key !== "Escape" && !(event.key === " " && !isText(event.target))) return;
  event.preventDefault();
  event.stopPropagation();
  if (!event.repeat) stop("now");
}

/** A space that was let go presses a button, unless it is kept from that. */
function keyUp(event) {
  if (known.me && event.key === " " && !isText(event.target)) event.preventDefault();
}

export function startStop(root) {
  const clear = button("Clear the emergency", doing(() => post("emergency/clear", {})), { class: "clear", hidden: true });
  const big = make("button", { type: "button", class: "big-stop", "aria-keyshortcuts": "Space Escape", pointerdown: (event) => { event.preventDefault(); stop("now"); } }, icon("stop"), make("span", {}, "Stop"), make("small", { "aria-hidden": "true" }, "Space or Escape"));
  // A key, or a screen reader, presses without a pointer.
  big.addEventListener("click", (event) => { if (event.detail === 0) stop("now"); });
  const emergency = button("Emergency", () => stop("emergency"), { class: "emergency", title: "Stops, and nothing begins until the emergency is cleared" });
  root.replaceChildren(big, emergency, clear);
  addEventListener("keydown", key, { capture: true });
  addEventListener("keyup", keyUp, { capture: true });
  on("state", () => {
    const isEmergency = known.state.stop === "emergency";
    root.classList.toggle("is-emergency", isEmergency);
    emergency.hidden = isEmergency;
    clear.hidden = !isEmergency || !may("operate");
  });
}
