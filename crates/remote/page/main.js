// Starts the page: lets the person in, keeps the newest state, and opens the views.

import { get, takeToken, token } from "./api.js";
import { openDoor } from "./door.js";
import { icon, make, say } from "./dom.js";
import { record } from "./history.js";
import { Standing, trouble } from "./notes.js";
import { connect } from "./socket.js";
import { startStop } from "./stop.js";
import { known, on, tell } from "./store.js";
import * as datasets from "./view-datasets.js";
import * as drive from "./view-drive.js";
import * as log from "./view-log.js";
import * as policies from "./view-policies.js";
import * as recording from "./view-record.js";
import * as setup from "./view-setup.js";

const VIEWS = [["drive", "Drive", drive], ["record", "Record", recording], ["policies", "Policies", policies], ["datasets", "Datasets", datasets], ["setup", "Set-up", setup], ["log", "Log", log]];
/** Without a state for so long, the line is dead: the daemon sends one a second when nothing happens. */
const SILENCE_MS = 3000;
const MODES = { idle: "At rest", teleop: "Teleoperation", record: "Recording", rollout: "Policy runs", replay: "Replay", eval: "Evaluation", calibrate: "Calibration", limp: "Torque off" };
const STOPS = { run: "", stop: "ending", now: "stopped", emergency: "emergency" };

const byId = (id) => document.getElementById(id);
let view = null, viewName = null, session = null;

function show() {
  const name = location.hash.slice(1), [chosen, title, { open }] = VIEWS.find(([known]) => known === name) ?? VIEWS[0];
  if (chosen === viewName) return;
  view?.abort();
  view = new AbortController();
  viewName = chosen;
  document.title = `${title} – ${known.robot.title}`;
  for (const link of byId("nav").children) {
    if (link.getAttribute("href") === `#${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const main = byId("main");
  main.className = `view-${chosen}`;
  main.replaceChildren(make("h1", { class: "unseen" }, title));
  open(main, view.signal);
  main.scrollTop = 0;
  scrollTo(0, 0);
}

function startHead() {
  const banner = new Standing(byId("head"), "bad");
  say(byId("robot"), known.robot.title);
  const draw = () => {
    if (!known.state) return;
    const { mode, stop, armed, operator, trouble: why } = known.state;
    const words = [known.link !== "up" && "Last known", MODES[mode] ?? mode, STOPS[stop], armed ? "torque on" : "torque off", operator && `${operator} has control`];
    say(byId("status"), words.filter(Boolean).join(" · "));
    byId("status").dataset.tone = stop === "emergency" || why ? "bad" : mode === "idle" ? "even" : "good";
    banner.set(why && `Trouble with the robot: ${why}`);
  };
  on("state", draw);
  on("link", () => {
    draw();
    say(byId("link"), { up: "Connected", down: "Not connected", waiting: "Connecting…" }[known.link]);
    byId("link").dataset.tone = known.link === "up" ? "good" : "bad";
    document.body.classList.toggle("is-stale", known.link !== "up");
  });
}

const setLink = (to) => {
  known.link = to;
  tell("link");
};

/** Everything but the door, for those who have a token. */
async function enter() {
  known.me = await get("me");
  [known.robot, known.description] = await Promise.all([get("robot"), get("robot/description")]);
  session = new AbortController();
  for (const id of ["head", "nav", "stop"]) byId(id).hidden = false;
  startHead();
  startStop(byId("stop"));
  byId("nav").replaceChildren(...VIEWS.map(([name, title]) => make("a", { href: `#${name}` }, icon(name), make("span", {}, title))));
  const hear = (state) => {
    // Another daemon, perhaps of another robot.
    if (known.state && state.time_s < known.state.time_s) return location.reload();
    known.state = state;
    record(state);
    tell("state", state);
  };
  connect("state/stream", token.get(), { hello: () => ({ rate_hz: 30 }), hear, up: () => setLink("up"), down: () => setLink("down"), stranger: (words) => tell("stranger", words), silence_ms: SILENCE_MS }, session.signal);
  addEventListener("hashchange", show, { signal: session.signal });
  show();
}

function door(words) {
  if (byId("main").className === "view-door") return;
  token.forget();
  session?.abort();
  view?.abort();
  known.me = null;
  for (const id of ["head", "nav", "stop"]) byId(id).hidden = true;
  document.title = "Sinew";
  openDoor(byId("main"), words, () => location.reload());
}

async function start() {
  on("stranger", door);
  takeToken();
  // A link with a token that is opened where the page is already open.
  addEventListener("hashchange", () => new URLSearchParams(location.hash.slice(1)).has("t") && location.reload());
  if (!token.get()) return door("");
  const main = byId("main");
  for (let tries = 0; ; tries += 1) {
    try {
      return await enter();
    } catch (problem) {
      if (problem.status === 401) return;
      if (problem.status === 429) return openDoor(main, problem.message, () => location.reload());
      if (problem.status !== 0) return trouble(problem);
      main.replaceChildren(make("p", { class: "empty" }, "The robot does not answer. The page tries again by itself."));
      await new Promise((done) => setTimeout(done, Math.min(5000, 500 * 2 ** tries)));
    }
  }
}

start();
