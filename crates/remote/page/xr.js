// WebXR: a phone that is held as if it were the tool, or the controllers of a headset.

import { button, heldButton, make, say } from "./dom.js";
import { headingOfXr, Hold, ofXr } from "./hand.js";
import { hold, letGo, operator } from "./operator.js";
import { stop } from "./stop.js";
import { known, on } from "./store.js";

const MODES = ["immersive-ar", "immersive-vr"];
/** Buttons of controllers, as xr-standard counts them. */
const TRIGGER = 0, SQUEEZE = 1, LOWER = 4, UPPER = 5;
/** Works that the operator leads. */
const LED = ["teleop", "record", "rollout"];
/** What a headset shows all around: at rest, while it drives, and while something is wrong; nothing of it in front of the real world. */
const REST = [0.06, 0.08, 0.11, 1], DRIVES = [0.04, 0.14, 0.3, 1], WRONG = [0.35, 0.07, 0.05, 1];

/** The first kind of session that this device has; nothing where it has none. */
export async function xrMode() {
  if (!isSecureContext || !navigator.xr) return null;
  for (const mode of MODES) if (await navigator.xr.isSessionSupported(mode).catch(() => false)) return mode;
  return null;
}

/** What lies over the camera's image of a phone. */
function overlay(signal, end) {
  const move = heldButton("Hold to move", { class: "hold" }, signal), open = heldButton("Open", {}, signal), close = heldButton("Close", {}, signal);
  const words = make("p", { role: "status" }), halt = make("button", { type: "button", class: "big-stop", pointerdown: (event) => { event.preventDefault(); stop("now"); } }, "Stop");
  halt.addEventListener("click", (event) => { if (event.detail === 0) stop("now"); });
  halt.addEventListener("beforexrselect", (event) => event.preventDefault());
  const root = make("div", { class: "xr", role: "region", "aria-label": "Drive in AR" }, make("div", { class: "xr-top" }, halt, button("End", end)), words, make("div", { class: "xr-grip" }, close.control, open.control), move.control);
  return { root, words, move, gripper: () => Number(open.isHeld()) - Number(close.isHeld()), letGo: () => [move, open, close].forEach((one) => one.letGo()) };
}

/**
 * Drives until the session ends. `tool()` is the name of the tool that a phone moves, or that one hand moves; `scale()` is what it moves
 * for a metre. `told` gets what there is to say. Rejects where there is no session.
 */
export async function startXr(mode, { tool, scale, told }) {
  const over = new AbortController(), { signal } = over, canvas = make("canvas");
  let session = null;
  const shown = overlay(signal, () => session?.end());
  document.body.append(shown.root);
  const clean = () => {
    letGo();
    over.abort();
    shown.root.remove();
  };
  let gl, space;
  try {
    session = await navigator.xr.requestSession(mode, { optionalFeatures: ["dom-overlay", "local-floor"], domOverlay: { root: shown.root } });
    gl = canvas.getContext("webgl2", { xrCompatible: true }) ?? canvas.getContext("webgl", { xrCompatible: true });
    if (!gl) throw new Error("This browser has no WebGL, which AR and VR need.");
    session.updateRenderState({ baseLayer: new XRWebGLLayer(session, gl) });
    space = await session.requestReferenceSpace("local");
    if (session.interactionMode === "screen-space" && !session.domOverlayState) throw new Error("This browser shows no buttons in AR, so there would be no stop. Use Chrome.");
  } catch (problem) {
    clean();
    await session?.end().catch(() => {});
    throw problem;
  }
  const isPhone = session.interactionMode ? session.interactionMode === "screen-space" : Boolean(session.domOverlayState);
  shown.root.hidden = !isPhone;
  // A phone has one; of controllers each its own.
  const holds = new Map(), holdOf = (name) => holds.get(name) ?? holds.set(name, new Hold()).get(name);
  const drop = () => {
    holds.forEach((one) => one.drop());
    shown.letGo();
    letGo();
  };
  const upper = new Set();
  let isOver = false, why = "";
  space.addEventListener("reset", drop);
  session.addEventListener("visibilitychange", () => session.visibilityState !== "visible" && drop());
  document.addEventListener("visibilitychange", () => document.hidden && session.end().catch(() => {}), { signal });
  on("dropped", (words) => { why = words; drop(); }, signal);
  // A session goes on without control, so that its stop stays in reach; but it moves nothing.
  on("operator", () => operator.is !== "mine" && drop(), signal);
  on("stop", () => session.end().catch(() => {}), signal);

  const phone = (viewer, time) => {
    const device = viewer && !viewer.emulatedPosition ? ofXr(viewer) : null;
    const { why: wrong, ...pose } = holdOf("phone").turn(device, device && headingOfXr(device), shown.move.isHeld(), scale(), time);
    return [{ tool: tool(), ...pose, gripper: shown.gripper(), wrong }];
  };

  const controllers = (frame, viewer, time) => {
    const ahead = viewer ? headingOfXr(ofXr(viewer)) : null, found = [];
    for (const source of session.inputSources) {
      if (!source.gripSpace || !source.gamepad) continue;
      const { buttons } = source.gamepad, pressed = (index) => Boolean(buttons[index]?.pressed);
      if (pressed(UPPER) && !upper.has(source.handedness)) stop("now");
      upper[pressed(UPPER) ? "add" : "delete"](source.handedness);
      const grip = frame.getPose(source.gripSpace, space), device = grip && !grip.emulatedPosition ? ofXr(grip) : null;
      const { why: wrong, ...pose } = holdOf(source.handedness).turn(device, ahead, pressed(SQUEEZE), scale(), time);
      const gripper = pose.enabled ? Number(pressed(LOWER)) - (buttons[TRIGGER]?.value ?? 0) : 0;
      found.push({ side: source.handedness, isWanted: pressed(SQUEEZE), ...pose, gripper, wrong });
    }
    // One that was switched off is not there: when it comes back, it has to be let go of first.
    for (const [side, one] of holds) if (!found.some((hand) => hand.side === side)) one.drop();
    const strip = ({ side, isWanted, ...hand }, name) => ({ tool: name, ...hand });
    const { tools } = known.robot;
    if (tools.length > 1 && tools.every(({ side }) => side)) return tools.flatMap(({ name, side }) => found.filter((hand) => hand.side === side).map((hand) => strip(hand, name)));
    // One tool: the hand that holds has it, and nobody else until that one lets go.
    const chosen = found.find(({ enabled }) => enabled) ?? found.find(({ isWanted }) => isWanted) ?? found[0];
    for (const { side } of found) if (chosen?.enabled && side !== chosen.side) holdOf(side).drop();
    return chosen ? [strip(chosen, tool())] : [];
  };

  const draw = (hands) => {
    const drives = hands.some(({ enabled }) => enabled), wrong = hands.some(({ wrong: words }) => words);
    const layer = session.renderState.baseLayer;
    gl.bindFramebuffer(gl.FRAMEBUFFER, layer.framebuffer);
    const isSeenThrough = session.environmentBlendMode && session.environmentBlendMode !== "opaque";
    gl.clearColor(...(isSeenThrough ? [0, 0, 0, 0] : wrong ? WRONG : drives ? DRIVES : REST));
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const words = operator.is !== "mine" ? "You have no control any more. End, and take it again." : !LED.includes(known.state.mode) ? "Nothing runs that you could lead." : why || hands.find(({ wrong: one }) => one)?.wrong || (drives ? "The tool follows." : "");
    say(shown.words, words);
    shown.root.classList.toggle("drives", drives);
    told(words);
  };

  const turn = (_, frame) => {
    if (isOver) return;
    const time = performance.now();
    session.requestAnimationFrame(turn);
    const isSeen = session.visibilityState === "visible" && !document.hidden;
    const viewer = isSeen ? frame.getViewerPose(space) ?? null : null;
    const hands = isPhone ? phone(viewer, time) : isSeen ? controllers(frame, viewer, time) : [];
    if (hands.some(({ enabled }) => enabled)) why = "";
    if (hands.length && LED.includes(known.state.mode)) hold(hands.map(({ wrong, ...hand }) => hand), time);
    else letGo();
    draw(hands);
  };
  session.requestAnimationFrame(turn);
  const ended = new Promise((done) => session.addEventListener("end", () => {
    isOver = true;
    drop();
    clean();
    done();
  }, { once: true }));
  return { ended, end: () => session.end().catch(() => {}) };
}
