// Moves the robot's tool: by a phone or a headset in AR or VR, or by sticks and a phone's tilt.

import { choice, button, field, heldButton, make, say } from "./dom.js";
import { hold, letGo, operator } from "./operator.js";
import { doing } from "./notes.js";
import { axes, openSticks } from "./sticks.js";
import { known, on } from "./store.js";
import { mayTilt, openTilt } from "./tilt.js";
import { startXr, xrMode } from "./xr.js";

const TURN_MS = 20;
/** Metres a second at a stick's end. */
const SPEEDS = [["0.03", "Slow"], ["0.08", "Medium"], ["0.2", "Fast"]];
const SCALES = [["1", "As far as the hand"], ["0.5", "Half as far"], ["0.2", "A fifth as far"]];
/** What each axis of the sticks moves. */
const NAMES = ["left, right", "ahead, back", "", "up, down", "", "gripper"];

/** The tool of `known.robot` that one hand moves. */
function toolField() {
  const { tools } = known.robot, chosen = choice(tools.map(({ name }) => [name, name]), tools[0].name, {});
  return { tool: () => chosen.value, element: tools.length > 1 && field("Tool", chosen) };
}

/** What sticks, or a phone's tilt, want of the tool: one hand that is nowhere, and moves from where it is. */
function virtualHand() {
  let position = [0, 0, 0], isOn = false, at = 0;
  return (all, tilt, isTilted, speed, name) => {
    const now = performance.now(), isWanted = all !== null || isTilted;
    const { rotation, why } = tilt?.turn(isTilted) ?? { rotation: [1, 0, 0, 0], why: "" };
    if (!isWanted) {
      if (isOn) letGo();
      isOn = false;
      return "";
    }
    const [right, ahead, , up, , gripper] = all ?? [0, 0, 0, 0, 0, 0];
    // It is first said to be there, and then that it is held.
    const passed = isOn ? Math.min(0.1, (now - at) / 1000) : 0;
    position = [ahead, -right, up].map((share, k) => position[k] + share * speed * passed);
    hold([{ tool: name, position_m: position, rotation_wxyz: rotation, enabled: isOn, gripper: isOn ? gripper : 0 }], now);
    [isOn, at] = [true, now];
    return why;
  };
}

/** What this device offers, in words. */
function hintFor(mode) {
  if (!isSecureContext) return `AR, VR and tilt need HTTPS. Start the daemon with --https, and open https://${location.host} on this device; docs/daemon.md says how it comes to trust the certificate.`;
  if (mode) return "A phone: hold the button on the screen, and move the phone. A headset: squeeze a controller's grip, and move your hand; the trigger closes the gripper, A or X opens it, B or Y stops. What is ahead of you is ahead of the robot.";
  if (mayTilt()) return "This browser has no AR. Move the tool by the sticks, and turn it by the phone's tilt.";
  return "This browser has no AR or VR. Open this page on a phone or in a headset's browser to move the tool with it.";
}

/** Puts it into `root`. `begin()` takes control; `isChosen()` says whether it is shown. */
export function openTool(root, { begin, isChosen }, signal) {
  if (!known.robot.tools.length) {
    root.append(make("p", {}, "This robot's description has no tool whose arm is known, so a hand can't move it. Use the sliders or the sticks."));
    return;
  }
  const { tool, element } = toolField(), speed = choice(SPEEDS, SPEEDS[1][0], {}), scale = choice(SCALES, SCALES[0][0], {});
  const pads = make("div", { class: "sticks" }), hint = make("p", { class: "hint" }), told = make("p", { role: "status" });
  const turnTool = heldButton("Hold to turn by tilting", { hidden: true }, signal), turn = virtualHand();
  let mode = null, session = null, tilt = null;
  const enter = button("Drive in AR or VR", doing(async () => {
    await begin();
    session = await startXr(mode, { tool, scale: () => Number(scale.value), told: (words) => say(told, words) });
    const mine = session;
    mine.ended.then(() => {
      session = null;
      say(told, "");
    });
    if (signal.aborted) await mine.end();
  }), { class: "main", hidden: true });
  const allow = button("Use the phone's tilt", doing(async () => {
    tilt = await openTilt(signal);
    allow.hidden = true;
    turnTool.control.hidden = false;
  }), { hidden: true });
  openSticks(pads, signal)(NAMES);
  const scaleField = field("Motion", scale);
  root.append(make("div", { class: "bar" }, enter, allow), hint, pads, turnTool.control, told, make("div", { class: "fields" }, element, field("Speed", speed), scaleField));
  scaleField.hidden = true;
  const timer = setInterval(() => {
    if (session || !isChosen() || operator.is !== "mine") return;
    say(told, turn(axes(), tilt, turnTool.isHeld(), Number(speed.value), tool()));
  }, TURN_MS);
  const offer = async () => {
    mode = await xrMode();
    if (signal.aborted) return;
    enter.hidden = scaleField.hidden = !mode;
    say(enter, mode === "immersive-vr" ? "Drive in VR" : "Drive in AR");
    allow.hidden = Boolean(mode) || !mayTilt() || Boolean(tilt);
    say(hint, hintFor(mode));
  };
  offer();
  navigator.xr?.addEventListener?.("devicechange", offer, { signal });
  on("dropped", () => turnTool.letGo(), signal);
  signal.addEventListener("abort", () => {
    clearInterval(timer);
    letGo();
    session?.end();
  });
}
