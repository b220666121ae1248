// A robot's own description as something to draw: links that hang on joints.

import { getBytes } from "./api.js";
import { cylinder, ofStl } from "./solids.js";
import { identity, ofPose, ofSlide, ofTurn, times, unit } from "./space.js";

const LINK_COLOR = [0.35, 0.4, 0.5], JOINT_COLOR = [0.9, 0.5, 0.1];

const isMoved = ({ translation_m }) => translation_m.some((value) => value !== 0);

/** A file that is used twice is fetched once. */
async function meshesOf(links, files) {
  const loaded = new Map();
  const solids = await Promise.all(links.map((link) => Promise.all((link.visual ?? []).filter(({ mesh }) => files.includes(mesh)).map(async ({ mesh, color }) => {
    if (!loaded.has(mesh)) loaded.set(mesh, getBytes(`robot/${mesh.split("/").map(encodeURIComponent).join("/")}`).then((bytes) => ofStl(bytes, mesh)));
    return { corners: await loaded.get(mesh), color };
  }))));
  return solids;
}

/** Cylinders from each joint to those that hang on it, for a robot that has no files. */
function sticksOf(parts, parents) {
  const farthest = Math.max(0.05, ...parts.map((part) => Math.hypot(...part.parent_from_part.translation_m)));
  const thin = farthest * 0.06;
  const solids = [[], ...parts.map(({ axis }) => {
    const along = unit(axis).map((value) => value * thin * 2);
    return [{ corners: cylinder(along.map((value) => -value), along, thin * 1.4), color: JOINT_COLOR }];
  })];
  parts.forEach((part, index) => {
    const to = part.parent_from_part.translation_m;
    if (isMoved(part.parent_from_part)) solids[parents[index] + 1].push({ corners: cylinder([0, 0, 0], to, thin), color: LINK_COLOR });
  });
  // What hangs on nothing ends in a tip, so that its turn is seen.
  parts.forEach((_, index) => {
    if (!parents.includes(index)) solids[index + 1].push({ corners: cylinder([0, 0, 0], [0, 0, farthest * 0.3], thin * 0.7), color: LINK_COLOR });
  });
  return solids;
}

/**
 * The model of a robot, or nothing where its description says not where its joints are. `solids` has for the base, and then for each
 * part, what is drawn in its frame; `frames(position)` has the frame of each in the world's.
 */
export async function modelOf(description, robot) {
  const parts = (description.part ?? []).filter(({ kind }) => kind !== "wheel").map((part) => ({ axis: [0, 0, 1], ...part, parent_from_part: part.parent_from_part ?? { translation_m: [0, 0, 0], rotation_wxyz: [1, 0, 0, 0] } }));
  if (!parts.some((part) => isMoved(part.parent_from_part))) return null;
  const parents = parts.map((part) => parts.findIndex(({ name }) => name === part.parent));
  const places = parts.map((part) => robot.state.findIndex(({ name }) => name === (part.feature ?? `${part.name}.pos`)));
  const links = description.simulation?.link;
  const solids = links && robot.meshes.length ? await meshesOf(links, robot.meshes) : sticksOf(parts, parents);
  const fixed = parts.map((part) => ofPose(part.parent_from_part));

  const frames = (position) => {
    const out = [identity()];
    const frameOf = (index) => {
      if (index < 0) return out[0];
      if (out[index + 1]) return out[index + 1];
      const { kind, axis } = parts[index], value = position[places[index]] ?? 0;
      const moved = kind === "prismatic" ? ofSlide(axis, value) : ofTurn(axis, value);
      return out[index + 1] = times(times(frameOf(parents[index]), fixed[index]), moved);
    };
    parts.forEach((_, index) => frameOf(index));
    return out;
  };
  return { solids, frames };
}
