// The motion of a device in a hand, as the robot's base frame has it: x ahead, y left, z up.

/** Quaternions are w, x, y, z. */
const product = ([a, b, c, d], [w, x, y, z]) => [a * w - b * x - c * y - d * z, a * x + b * w + c * z - d * y, a * y - b * z + c * w + d * x, a * z + b * y - c * x + d * w];
const inverse = ([w, x, y, z]) => [w, -x, -y, -z];
const aboutZ = (angle) => [Math.cos(angle / 2), 0, 0, Math.sin(angle / 2)];

/** A vector, turned by a quaternion. */
function turned(q, [x, y, z]) {
  const [, ...out] = product(product(q, [0, x, y, z]), inverse(q));
  return out;
}

/** No hand is faster, metres a second; trackers tremble by so much, metres. What does more has found another place. */
const FASTEST = 4, TREMBLE = 0.05;
/** A device of which nothing is heard for so long is let go of. */
const GAP_MS = 200;
/** A device points somewhere, where so much of its direction is level. */
const LEVEL = 0.3;

/** A pose of WebXR, whose x is right, y up and z back. */
export const ofXr = ({ transform: { position, orientation } }) => ({ position: [-position.z, -position.x, position.y], rotation: [orientation.w, -orientation.z, -orientation.x, orientation.y] });

/** How a phone is turned by its angles in degrees; its own x is right, y its top edge, and z out of the screen. */
export function ofTilt(alpha, beta, gamma) {
  const half = (degrees) => (degrees * Math.PI) / 360, about = (degrees, axis) => [Math.cos(half(degrees)), ...axis.map((value) => value * Math.sin(half(degrees)))];
  return product(product(about(alpha, [0, 0, 1]), about(beta, [1, 0, 0])), about(gamma, [0, 1, 0]));
}

/** Where what a device shows as `up` and `ahead` of its own points over the ground, radians; nothing where it points up or down. */
function heading(rotation, up, ahead) {
  const [x, y] = turned(rotation, up.map((value, k) => value + ahead[k]));
  return Math.hypot(x, y) < LEVEL ? null : Math.atan2(y, x);
}

/** Of a head, or a phone that is looked at, by its pose from [ofXr]: lying flat it points with its top edge, upright with its back. */
export const headingOfXr = ({ rotation }) => heading(rotation, [0, 0, 1], [1, 0, 0]);
/** Of a phone by its angles. */
export const headingOfTilt = (rotation) => heading(rotation, [0, 1, 0], [0, 0, -1]);

/** How far a device was turned from `before` to `now`, as seen by somebody who looks towards `ahead`. */
export const turnBetween = (before, now, ahead) => product(product(aboutZ(-ahead), product(now, inverse(before))), aboutZ(ahead));
export const turnedBy = (turn, rotation) => product(turn, rotation);

/**
 * A device that is held while somebody wants to move the tool. What is ahead of him when he begins is ahead of the robot. What was wanted
 * before it was first not wanted, and after its device was lost, moves nothing.
 */
export class Hold {
  constructor() {
    this.drop();
  }

  /** It is over until it is not wanted. */
  drop() {
    this.start = this.last = null;
    this.isFree = false;
  }

  /**
   * `device` is its pose, or nothing where it is lost; `ahead` is a heading or nothing; `scale` is what the tool moves for a metre. Answers
   * `enabled`, `position_m`, `rotation_wxyz`, and `why` it is not enabled though it is wanted.
   */
  turn(device, ahead, isWanted, scale, time_ms) {
    const last = this.last, still = { enabled: false, position_m: [0, 0, 0], rotation_wxyz: [1, 0, 0, 0] };
    if (!device) {
      this.drop();
      return { ...still, why: "It does not know where it is." };
    }
    this.last = { position: device.position, time_ms };
    if (!isWanted) {
      this.start = null;
      this.isFree = true;
      return { ...still, why: "" };
    }
    if (!this.isFree) return { ...still, why: "Let go, and hold again." };
    const passed = last ? time_ms - last.time_ms : 0, way = last ? Math.hypot(...device.position.map((value, k) => value - last.position[k])) : 0;
    if (this.start && (passed > GAP_MS || way > TREMBLE + (FASTEST * Math.max(passed, 0)) / 1000)) {
      this.drop();
      return { ...still, why: "It lost where it is. Let go, and hold again." };
    }
    if (!this.start && ahead === null) return { ...still, why: "Point ahead, not up or down." };
    this.start ??= { position: device.position, ahead, scale };
    const { position, ahead: from, scale: by } = this.start, level = aboutZ(-from);
    return { enabled: true, position_m: turned(level, device.position.map((value, k) => (value - position[k]) * by)), rotation_wxyz: product(level, device.rotation), why: "" };
  }
}
