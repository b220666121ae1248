// The 3D view: the arm where it is, a shadow of it where it is wanted, and an eye that goes around it.

import { button, make } from "./dom.js";
import { modelOf } from "./model.js";
import { trouble } from "./notes.js";
import { Renderer } from "./render.js";
import { at, look, perspective } from "./space.js";
import { known, onState } from "./store.js";

const FIELD = 0.6, START = { turn: -0.7, rise: 0.42 };
/** The arm is drawn no more often than this. */
const DRAWN_MS = 50;
/** Goals that are nearer to the arm than this have no shadow: radians or metres. */
const APART = 0.03;

/** Middle and radius of what the model fills. */
function extent({ solids }, frames) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  solids.forEach((link, index) => link.forEach(({ corners }) => {
    for (let first = 0; first < corners.length; first += 9) {
      at(frames[index], corners.subarray(first, first + 3)).forEach((value, k) => {
        low[k] = Math.min(low[k], value);
        high[k] = Math.max(high[k], value);
      });
    }
  }));
  return { middle: low.map((value, k) => (value + high[k]) / 2), radius: Math.hypot(...low.map((value, k) => high[k] - value)) / 2 };
}

export async function openArm(root, signal) {
  const canvas = make("canvas", { role: "img", tabindex: 0, "aria-label": "The robot in 3D, live. Arrow keys turn the view, plus and minus zoom, 0 puts it back." });
  const words = make("p", { class: "veil" }, "Loading the model…");
  const box = make("div", { class: "arm card" }, canvas, words);
  root.append(box);
  let model;
  try {
    model = await modelOf(known.description, known.robot);
  } catch (problem) {
    if (!signal.aborted) trouble(`The robot's model can't be shown. ${problem.message}`);
    words.textContent = "No 3D view";
    return;
  }
  if (signal.aborted) return;
  const renderer = model && new Renderer(canvas, model.solids);
  if (!renderer?.gl) {
    words.textContent = model ? "This browser has no WebGL 2, so there is no 3D view." : "The robot's description has no joint frames, so there is no 3D view.";
    canvas.remove();
    return;
  }
  words.remove();
  signal.addEventListener("abort", () => renderer.close());
  const eye = { ...START, zoom: 1 }, dark = matchMedia("(prefers-color-scheme: dark)");
  let bounds = null, shown = "", drawn = 0, isSeen = false;
  const home = button("Reset the view", () => { Object.assign(eye, START, { zoom: 1 }); again(); }, { class: "small reset" });
  box.append(home);

  const draw = (state) => {
    const position = state.position.map((value) => value ?? 0), frames = model.frames(position);
    bounds ??= extent(model, frames);
    const wanted = goalsAsState(state), isApart = wanted?.some((value, index) => Math.abs(value - position[index]) > APART);
    const width = Math.round(canvas.clientWidth * devicePixelRatio), height = Math.round(canvas.clientHeight * devicePixelRatio);
    const key = [position.map((value) => value.toFixed(4)), isApart && wanted.map((value) => value.toFixed(3)), Object.values(eye), width, height, dark.matches].join();
    if (key === shown || !width) return;
    shown = key;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const far = (Math.max(bounds.radius, 0.1) * 1.2 / Math.sin(FIELD / 2)) / eye.zoom, aspect = width / height;
    const away = far / Math.min(1, aspect), [x, y, z] = bounds.middle;
    const from = [x + away * Math.cos(eye.rise) * Math.cos(eye.turn), y + away * Math.cos(eye.rise) * Math.sin(eye.turn), z + away * Math.sin(eye.rise)];
    renderer.draw({ projection: perspective(FIELD, aspect, away / 50, away * 4), view: look(from, bounds.middle), frames, ghost: isApart && model.frames(wanted), line: dark.matches ? [0.09, 0.1, 0.13, 1] : [0.6, 0.63, 0.7, 1] });
  };
  const again = () => known.state && draw(known.state);
  steer(canvas, eye, again, signal);
  const sized = new ResizeObserver(again);
  sized.observe(canvas);
  signal.addEventListener("abort", () => sized.disconnect());
  canvas.addEventListener("webglcontextrestored", () => { shown = ""; again(); });
  dark.addEventListener("change", again, { signal });
  const seen = new IntersectionObserver(([entry]) => { isSeen = entry.isIntersecting; again(); });
  seen.observe(canvas);
  signal.addEventListener("abort", () => seen.disconnect());
  onState((state) => {
    if (!isSeen || performance.now() - drawn < DRAWN_MS) return;
    drawn = performance.now();
    draw(state);
  }, signal);
}

/** Goals in the order of state; nothing where there are none. */
function goalsAsState(state) {
  if (!state.goal.length) return null;
  const goals = new Map(known.robot.action.map(({ name }, index) => [name, state.goal[index]]));
  return known.robot.state.map(({ name }, index) => goals.get(name) ?? state.position[index] ?? 0);
}

/** Turns and zooms the eye by pointer, wheel, pinch and keys. */
function steer(canvas, eye, draw, signal) {
  const fingers = new Map();
  const turn = (across, up) => {
    eye.turn -= across;
    eye.rise = Math.min(1.5, Math.max(-0.3, eye.rise + up));
    draw();
  };
  const zoom = (factor) => {
    eye.zoom = Math.min(6, Math.max(0.4, eye.zoom * factor));
    draw();
  };
  const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.x - b.x, a.y - b.y) || 1; };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  }, { signal });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const was = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (was) zoom(spread() / was);
    else turn((event.clientX - before.x) * 0.008, (event.clientY - before.y) * 0.008);
  }, { signal });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => fingers.delete(event.pointerId), { signal });
  canvas.addEventListener("wheel", (event) => {
    // The page scrolls on, unless the person means the view.
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.001));
  }, { passive: false, signal });
  const keys = { ArrowLeft: () => turn(0.1, 0), ArrowRight: () => turn(-0.1, 0), ArrowUp: () => turn(0, 0.1), ArrowDown: () => turn(0, -0.1), "+": () => zoom(1.15), "=": () => zoom(1.15), "-": () => zoom(1 / 1.15), 0: () => { Object.assign(eye, START, { zoom: 1 }); draw(); } };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  }, { signal });
}
