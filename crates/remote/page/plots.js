// Which plots a robot has: positions by unit, loads, temperatures, and how the control loop does.

import { choice, make } from "./dom.js";
import { Plot } from "./plot.js";
import { inDataset, known, shortName, unitOf } from "./store.js";

const MOST_SERIES = 8;
let shown_s = 20;

function* inGroups(series) {
  for (let first = 0; first < series.length; first += MOST_SERIES) yield series.slice(first, first + MOST_SERIES);
}

/** Channels of state with one unit together, each beside the goal of the same name. */
function positions() {
  const goals = new Map(known.robot.action.map((channel, index) => [channel.name, `goal/${index}`]));
  const units = new Map();
  known.robot.state.forEach((channel, index) => {
    const unit = unitOf(channel) || "of its range";
    if (!units.has(unit)) units.set(unit, []);
    units.get(unit).push({ name: shortName(channel.name), key: `position/${index}`, goal: goals.get(channel.name), turn: (value) => inDataset(channel, value) });
  });
  return [...units].flatMap(([unit, all]) => [...inGroups(all)].map((series) => ({ title: "Position", unit, series, least: 5 })));
}

function ofParts(kind, more, turn = (value) => value) {
  const all = known.robot.parts.map((name, index) => ({ name, key: `${kind}/${index}`, turn }));
  return [...inGroups(all)].map((series) => ({ ...more, series }));
}

const ofLoop = (title, unit, keys, more) => ({ title, unit, series: keys.map(([name, kind]) => ({ name, key: `loop/${kind}`, turn: (value) => value })), from: 0, ...more });

/** Puts the plots of the robot into `root`. */
export function openPlots(root, signal) {
  const seconds = () => shown_s;
  const all = [
    ...positions(),
    ...ofParts("effort", { title: "Load", unit: "% of stall", least: 20, digits: 0 }, (share) => share * 100),
    ...ofParts("temperature_c", { title: "Temperature", unit: "°C", least: 10, digits: 0 }),
    ofLoop("Loop", "ticks a second", [["rate", "rate_hz"]], { least: known.robot.rate_hz }),
    ofLoop("Lateness", "ms", [["tick", "late_ms"]], { least: 1, digits: 2 }),
  ];
  const grid = make("div", { class: "plots" });
  const draw = () => grid.replaceChildren(...all.map((plot) => new Plot({ ...plot, seconds }, signal).element));
  const span = choice([["10", "10 s"], ["20", "20 s"], ["60", "1 min"], ["110", "2 min"]], String(shown_s), { "aria-label": "Time that is plotted", change: () => { shown_s = Number(span.value); draw(); } });
  root.append(make("div", { class: "bar" }, make("h2", {}, "Measured"), span), grid);
  draw();
}
