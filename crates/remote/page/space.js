// Places and turns in space: 4x4 matrices, column after column, as WebGL takes them.

export const identity = () => Float32Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1);

export function times(a, b) {
  const out = new Float32Array(16);
  for (let column = 0; column < 4; column += 1) {
    for (let row = 0; row < 4; row += 1) {
      let sum = 0;
      for (let k = 0; k < 4; k += 1) sum += a[k * 4 + row] * b[column * 4 + k];
      out[column * 4 + row] = sum;
    }
  }
  return out;
}

/** A translation in metres and a rotation w, x, y, z of any length. */
export function ofPose({ translation_m: [tx, ty, tz], rotation_wxyz }) {
  const length = Math.hypot(...rotation_wxyz), [w, x, y, z] = rotation_wxyz.map((value) => value / length);
  return Float32Array.of(
    1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y), 0,
    2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x), 0,
    2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y), 0,
    tx, ty, tz, 1);
}

export function ofTurn(axis, angle) {
  const half = angle / 2, sine = Math.sin(half) / Math.hypot(...axis);
  return ofPose({ translation_m: [0, 0, 0], rotation_wxyz: [Math.cos(half), axis[0] * sine, axis[1] * sine, axis[2] * sine] });
}

export const ofSlide = (axis, way) => ofPose({ translation_m: axis.map((value) => value * way), rotation_wxyz: [1, 0, 0, 0] });

export const at = (matrix, [x, y, z]) => [0, 1, 2].map((row) => matrix[row] * x + matrix[4 + row] * y + matrix[8 + row] * z + matrix[12 + row]);

export const minus = (a, b) => a.map((value, index) => value - b[index]);
export const cross = ([a, b, c], [x, y, z]) => [b * z - c * y, c * x - a * z, a * y - b * x];
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

export function unit(vector) {
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
}

/** From the world to an eye that looks at a point, z up. */
export function look(eye, point) {
  const back = unit(minus(eye, point)), right = unit(cross([0, 0, 1], back)), up = cross(back, right);
  return Float32Array.of(right[0], up[0], back[0], 0, right[1], up[1], back[1], 0, right[2], up[2], back[2], 0, -dot(right, eye), -dot(up, eye), -dot(back, eye), 1);
}

export function perspective(field, aspect, near, far) {
  const f = 1 / Math.tan(field / 2);
  return Float32Array.of(f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0);
}
