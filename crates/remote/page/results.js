// Results of tasks, as the verbs' --json has them, in a form to read.

import { count, make, said, saidBytes } from "./dom.js";

const FITS = { true: "fits", false: "does not fit", null: "not known" };
const STATES = { ok: "good", hint: "even", problem: "bad" };

/** The doctor's checks. */
const checks = (list) => make("ul", { class: "checks" }, list.map(({ name, state, found, advice }) => make("li", {},
  make("b", { class: `badge ${STATES[state] ?? "even"}` }, state), make("div", {}, make("b", {}, name), make("span", {}, found), advice && make("span", { class: "hint" }, advice)))));

function fit({ ok, error, fit: whole }) {
  const rows = whole?.rows ?? [];
  return [
    make("p", { class: `banner ${ok ? "good" : "bad"}` }, ok ? "It fits this robot." : error ?? "It does not fit this robot."),
    rows.length ? make("div", { class: "wide" }, make("table", {}, make("thead", {}, make("tr", {}, ["Feature", "Policy", "Robot", ""].map((words) => make("th", { scope: "col" }, words)))), make("tbody", {}, rows.map((row) => make("tr", { class: row.fits === false ? "bad" : "" }, make("th", { scope: "row" }, row.feature), make("td", {}, row.checkpoint), make("td", {}, row.robot), make("td", {}, FITS[row.fits] ?? String(row.fits))))))) : "",
  ];
}

/** Any value: a table of what it has, with what is in it below each other. */
function plain(value) {
  if (value === null || typeof value !== "object") return typeof value === "number" ? said(value, Number.isInteger(value) ? 0 : 3) : String(value ?? "–");
  const entries = Object.entries(value);
  return entries.length ? make("dl", {}, entries.map(([key, inner]) => make("div", {}, make("dt", {}, key.replaceAll("_", " ")), make("dd", {}, plain(inner))))) : "none";
}

/** Where something was published. */
function published({ repo, url, commit, files, total_bytes }) {
  const place = /^https?:/.test(url) ? make("a", { href: url, rel: "noreferrer", target: "_blank" }, repo) : repo;
  return make("p", {}, "Published as ", place, make("span", { class: "hint" }, ` · commit ${commit.slice(0, 8)} · ${count(files, "file")}, ${saidBytes(total_bytes)}`));
}

export function resultOf(task, result) {
  if (result === null) return make("p", {}, "Done.");
  if (task.kind.startsWith("publish_") && result.commit) return published(result);
  if (task.kind === "doctor" && Array.isArray(result.checks)) return checks(result.checks);
  if (task.kind === "check_policy" && "ok" in result) return make("div", {}, fit(result));
  return make("div", { class: "wide" }, plain(result));
}
