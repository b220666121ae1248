// Triangles: out of STL files, and of cylinders where a robot has no files. Three corners of three numbers each, in metres.

import { cross, minus, unit } from "./space.js";

const HEAD = 80, FACET = 50;

/** The triangles of a binary STL file. */
export function ofStl(buffer, name) {
  const view = new DataView(buffer), facets = buffer.byteLength >= HEAD + 4 ? view.getUint32(HEAD, true) : -1;
  if (buffer.byteLength !== HEAD + 4 + facets * FACET) throw new Error(`${name} is no binary STL file.`);
  const corners = new Float32Array(facets * 9);
  for (let facet = 0; facet < facets; facet += 1) {
    for (let k = 0; k < 9; k += 1) corners[facet * 9 + k] = view.getFloat32(HEAD + 4 + facet * FACET + 12 + k * 4, true);
  }
  return corners;
}

const SIDES = 16;

/** A closed cylinder from one point to another. */
export function cylinder(from, to, radius) {
  const along = unit(minus(to, from)), across = unit(cross(along, Math.abs(along[2]) < 0.9 ? [0, 0, 1] : [1, 0, 0])), beside = cross(along, across);
  const rim = (middle, side) => {
    const angle = (side / SIDES) * 2 * Math.PI;
    return middle.map((value, k) => value + radius * (Math.cos(angle) * across[k] + Math.sin(angle) * beside[k]));
  };
  const corners = [];
  for (let side = 0; side < SIDES; side += 1) {
    const [a, b, c, d] = [rim(from, side), rim(from, side + 1), rim(to, side), rim(to, side + 1)];
    corners.push(a, b, c, b, d, c, from, b, a, to, c, d);
  }
  return Float32Array.from(corners.flat());
}

/** The normal of each triangle, for each of its corners. */
export function normals(corners) {
  const out = new Float32Array(corners.length);
  for (let first = 0; first < corners.length; first += 9) {
    const point = (corner) => [corners[first + corner * 3], corners[first + corner * 3 + 1], corners[first + corner * 3 + 2]];
    const normal = unit(cross(minus(point(1), point(0)), minus(point(2), point(0))));
    for (let k = 0; k < 9; k += 1) out[first + k] = normal[k % 3];
  }
  return out;
}
