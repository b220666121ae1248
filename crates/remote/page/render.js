// Draws solids with WebGL 2: one light from above, one from the eye, and a grid on the floor.

import { normals } from "./solids.js";

const VERTEX = `#version 300 es
uniform mat4 projection, view, frame;
in vec3 corner, normal;
out vec3 facing, place;
void main() {
  vec4 seen = view * frame * vec4(corner, 1.0);
  facing = mat3(view) * mat3(frame) * normal;
  place = seen.xyz;
  gl_Position = projection * seen;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
uniform vec4 color;
uniform vec3 above;
uniform float flatness;
in vec3 facing, place;
out vec4 shown;
void main() {
  vec3 n = normalize(facing);
  vec3 eye = normalize(-place);
  if (dot(n, eye) < 0.0) n = -n;
  float light = 0.30 + 0.45 * max(dot(n, above), 0.0) + 0.35 * max(dot(n, eye), 0.0);
  float shine = 0.12 * pow(max(dot(reflect(-above, n), eye), 0.0), 24.0);
  vec3 lit = mix(color.rgb * light + shine, color.rgb, flatness);
  shown = vec4(pow(lit, vec3(1.0 / 2.2)) * color.a, color.a);
}`;

const HALF_GRID = 5, CELL_M = 0.1;

function gridLines() {
  const ends = [];
  for (let line = -HALF_GRID; line <= HALF_GRID; line += 1) {
    const [at, far] = [line * CELL_M, HALF_GRID * CELL_M];
    ends.push(at, -far, 0, at, far, 0, -far, at, 0, far, at, 0);
  }
  return Float32Array.from(ends);
}

function program(gl) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.bindAttribLocation(made, 0, "corner");
  gl.bindAttribLocation(made, 1, "normal");
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(`The 3D view can't be drawn: ${gl.getProgramInfoLog(made)}`);
  return made;
}

export class Renderer {
  /** `solids` has for each link a list of `{ corners, color }`. */
  constructor(canvas, solids) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { antialias: true, alpha: true, powerPreference: "low-power" });
    this.solids = solids;
    if (!this.gl) return;
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => this.load());
    this.load();
  }

  load() {
    const { gl } = this;
    this.program = program(gl);
    this.places = Object.fromEntries(["projection", "view", "frame", "color", "above", "flatness"].map((name) => [name, gl.getUniformLocation(this.program, name)]));
    this.grid = this.upload(gridLines(), false);
    this.meshes = this.solids.map((link) => link.map(({ corners, color }) => ({ ...this.upload(corners, true), color })));
  }

  upload(corners, isSolid) {
    const { gl } = this, array = gl.createVertexArray();
    gl.bindVertexArray(array);
    (isSolid ? [corners, normals(corners)] : [corners]).forEach((values, index) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(index);
      gl.vertexAttribPointer(index, 3, gl.FLOAT, false, 0, 0);
    });
    return { array, size: corners.length / 3 };
  }

  /** Gives back what the graphics hold. */
  close() {
    this.gl?.getExtension("WEBGL_lose_context")?.loseContext();
  }

  /** Draws the links at `frames`, and at `ghost` as well, where there is one, half seen through. */
  draw({ projection, view, frames, ghost, line }) {
    const { gl, places, canvas } = this;
    if (!gl || gl.isContextLost()) return;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.useProgram(this.program);
    gl.uniformMatrix4fv(places.projection, false, projection);
    gl.uniformMatrix4fv(places.view, false, view);
    // Straight up, as the eye sees it, and a little to the side.
    gl.uniform3f(places.above, view[8] * 0.9 + 0.3, view[9] * 0.9, view[10] * 0.9 + 0.2);
    gl.uniform1f(places.flatness, 1);
    gl.uniform4f(places.color, ...line);
    gl.uniformMatrix4fv(places.frame, false, frames[0]);
    gl.bindVertexArray(this.grid.array);
    gl.drawArrays(gl.LINES, 0, this.grid.size);
    gl.uniform1f(places.flatness, 0);
    this.links(frames, 1);
    if (ghost) this.links(ghost, 0.28);
  }

  links(frames, alpha) {
    const { gl, places } = this;
    this.meshes.forEach((link, index) => {
      if (!frames[index]) return;
      gl.uniformMatrix4fv(places.frame, false, frames[index]);
      for (const { array, size, color } of link) {
        // Black parts have shades, too.
        gl.uniform4f(places.color, ...color.map((value) => 0.035 + value * 0.965), alpha);
        gl.bindVertexArray(array);
        gl.drawArrays(gl.TRIANGLES, 0, size);
      }
    });
  }
}
