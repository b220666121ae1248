// Set-up: what the robot is, its calibration, the doctor, and which devices may come in.

import { get, post } from "./api.js";
import { calibrationCards } from "./calibration.js";
import { certificateCard } from "./certificate.js";
import { button, choice, field, make, said, saidTime } from "./dom.js";
import { doing, note, trouble } from "./notes.js";
import { inDataset, known, may, shortName, unitOf } from "./store.js";
import { begin, Tasks } from "./tasks.js";

const ROLES = [["look", "Look and stop"], ["operate", "Operate"], ["administer", "Administer"]];
const roleWords = (role) => ROLES.find(([name]) => name === role)[1];

function robotCard() {
  const { robot } = known;
  const facts = [["Model", `${robot.title} (${robot.name})`], ["Kind", robot.is_simulated ? `simulated${robot.task ? `, task ${robot.task}` : ""}` : "real"], ["Loop", `${robot.rate_hz} Hz`], ["Leader", robot.teleoperator ?? "none of its own"], ["Cameras", robot.cameras.map(({ name, width, height, fps }) => `${name} ${width}×${height}${fps ? ` at ${fps} Hz` : ""}`).join(", ") || "none"], ["Sinew", robot.version]];
  const end = (channel, value) => (value === null ? "–" : said(inDataset(channel, value)));
  return make("section", { class: "card" }, make("h2", {}, "Robot"), make("dl", { class: "facts" }, facts.map(([name, words]) => make("div", {}, make("dt", {}, name), make("dd", {}, words)))),
    make("div", { class: "wide" }, make("table", { class: "numbers" }, make("caption", { class: "unseen" }, "Channels"), make("thead", {}, make("tr", {}, ["Channel", "From", "To", "Unit"].map((words) => make("th", { scope: "col" }, words)))),
      make("tbody", {}, robot.action.map((channel) => make("tr", {}, make("th", { scope: "row" }, shortName(channel.name)), make("td", {}, end(channel, channel.lower)), make("td", {}, end(channel, channel.upper)), make("td", {}, unitOf(channel) || "of its range")))))));
}

function doctorCard(signal) {
  const tasks = new Tasks(["doctor"], signal);
  const card = make("section", { class: "card" }, make("div", { class: "bar" }, make("h2", {}, "Doctor"), may("operate") && button("Check the machine", doing(() => begin({ kind: "doctor" }, tasks)))), make("p", { class: "hint" }, "Looks at the system, the disk, the encoder, the Hub, ports and cameras."));
  return [card, tasks.element];
}

function devicesCard(signal) {
  const list = make("ul", { class: "items" }), role = choice(ROLES, "operate"), code = make("output", { class: "digits", hidden: true }), left = make("p", { class: "hint", role: "timer", hidden: true });
  let until = 0;
  const read = async () => {
    const devices = await get("devices");
    list.replaceChildren(...devices.map(({ id, name, role: may_do, paired_s }) => make("li", {}, make("div", {}, make("b", {}, name), make("span", { class: "hint" }, `${roleWords(may_do)} · paired ${new Date(paired_s * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" })}`)), button("Revoke", doing(async () => {
      await post("devices/revoke", { id });
      note(`${name} may no longer come in.`);
      await read();
    }), { "aria-label": `Revoke ${name}` }))));
    if (!devices.length) list.append(make("li", { class: "empty" }, "No other device is paired."));
  };
  const pair = doing(async () => {
    const { code: digits, seconds_left } = await post("pairing", { role: role.value });
    code.hidden = left.hidden = false;
    code.textContent = `${digits.slice(0, 3)} ${digits.slice(3)}`;
    until = performance.now() + seconds_left * 1000;
  });
  const timer = setInterval(() => {
    if (left.hidden) return;
    const rest = (until - performance.now()) / 1000;
    code.hidden = left.hidden = rest <= 0;
    left.textContent = `Type it on the device at ${location.host}. Good for ${saidTime(rest)}.`;
    // A device that was paired meanwhile is in the list.
    if (rest > 0) read().catch(() => {});
  }, 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
  read().catch((problem) => signal.aborted || trouble(problem));
  return make("section", { class: "card" }, make("h2", {}, "Devices"), make("form", { class: "row", submit: pair }, field("A new device may", role), button("Show six digits", null, { type: "submit" })), code, left, list);
}

function meCard() {
  return make("section", { class: "card" }, make("h2", {}, "This device"), make("p", {}, `${known.me.name}: ${roleWords(known.me.role).toLowerCase()}.`));
}

export function open(main, signal) {
  const seen = make("div", { class: "seen" }), side = make("div", { class: "side" });
  main.append(seen, side);
  seen.append(...calibrationCards(signal), robotCard(), ...doctorCard(signal));
  side.append(meCard(), certificateCard(signal), ...(may("administer") ? [devicesCard(signal)] : []));
}
