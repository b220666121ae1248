// What the page knows: who it is, the robot, and the newest state. Views listen to what changes.

export const known = {
  /** Your role and name. */
  me: null,
  /** Names, units, limits, cameras. */
  robot: null,
  /** The robot's description, with the frames of its joints. */
  description: null,
  /** The newest state. */
  state: null,
  /** Whether states come in: `up`, `down` or `waiting`. */
  link: "waiting",
};

const listeners = new Map();

/** Calls `hear` whenever `topic` is told, until `signal` ends it. */
export function on(topic, hear, signal) {
  if (!listeners.has(topic)) listeners.set(topic, new Set());
  listeners.get(topic).add(hear);
  signal?.addEventListener("abort", () => listeners.get(topic).delete(hear), { once: true });
}

export function tell(topic, value) {
  for (const hear of [...(listeners.get(topic) ?? [])]) hear(value);
}

/** Calls `draw` with the newest state, at most once a picture of the screen, and at once if there is one. */
export function onState(draw, signal) {
  let asked = false;
  const turn = () => {
    asked = false;
    if (!signal.aborted && known.state) draw(known.state);
  };
  const ask = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(turn);
  };
  on("state", ask, signal);
  on("link", ask, signal);
  turn();
}

const RANKS = ["look", "operate", "administer"];

/** Whether this device may do what `role` may. */
export const may = (role) => RANKS.indexOf(known.me?.role) >= RANKS.indexOf(role);

/** What a channel's value is in a dataset: degrees, or 0 to 100. */
export const inDataset = (channel, value) => value * channel.scale + channel.offset;

/** The unit of those. */
export function unitOf(channel) {
  if (Math.abs(channel.scale - 180 / Math.PI) < 1e-6) return channel.unit === "rad/s" ? "°/s" : "°";
  if (Math.abs(channel.scale) === 1) return channel.unit === "si" ? "" : channel.unit;
  return "";
}

/** A channel's name without LeRobot's `.pos`. */
export const shortName = (name) => name.replace(/\.(pos|vel|value)$/, "");

/** A goal for each channel of action that keeps the robot where it is; nothing where that is not known. */
export function present(state) {
  const places = new Map(known.robot.state.map((channel, index) => [channel.name, state.position[index]]));
  return known.robot.action.map((channel, index) => (isVelocity(channel) ? 0 : places.get(channel.name) ?? state.goal[index] ?? null));
}

export const isVelocity = (channel) => channel.unit === "rad/s" || channel.unit === "m/s";

/** The range that is shown where a robot has no limit: half a turn each way. */
const ENDLESS = Math.PI;
/** The speed of what nobody limits: radians or metres a second. */
const USUAL_SPEED = 1, USUAL_BASE_SPEED = 0.1;

const partOf = ({ name }) => known.description.part?.find((part) => (part.feature ?? `${part.name}.pos`) === name || `${part.name}.vel` === name);

/** The greatest speed of a channel, as the description limits it. */
export function speedOf(channel) {
  const limit = partOf(channel)?.limits?.velocity;
  if (!isVelocity(channel)) return limit ?? USUAL_SPEED;
  const { linear, angular } = known.description.base ?? {};
  return limit ?? (channel.unit === "m/s" ? linear : angular)?.velocity ?? USUAL_BASE_SPEED;
}

/** From where to where a channel of action goes. */
export function rangeOf(channel) {
  const { lower, upper } = channel, speed = isVelocity(channel) ? speedOf(channel) : ENDLESS;
  return [lower ?? -speed, upper ?? speed];
}
