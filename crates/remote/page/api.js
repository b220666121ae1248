// Requests to the daemon, and the token that goes with them.

import { tell } from "./store.js";

const KEY = "sinew.token";

export const token = {
  get: () => localStorage.getItem(KEY),
  set: (value) => localStorage.setItem(KEY, value),
  forget: () => localStorage.removeItem(KEY),
};

/** Takes the token out of the page's address, so that it stays in no history. */
export function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("t");
  if (!found) return;
  token.set(found);
  history.replaceState(null, "", location.pathname);
}

/** An answer with a status of 400 or more; 0 when there was none. */
export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

/** The operator's lease, which requests need while this device has it. */
export const lease = { id: null };

async function send(method, path, body, more = {}) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (lease.id) headers["Sinew-Lease"] = lease.id;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", ...more });
  } catch {
    throw new Refused(0, "The robot does not answer.");
  }
  if (answer.ok) return answer;
  let words = `The robot answered with the status ${answer.status}.`;
  try {
    words = (await answer.json()).error ?? words;
  } catch {
    // An answer without words of its own keeps those above.
  }
  if (answer.status === 401) tell("stranger", words);
  throw new Refused(answer.status, words);
}

export const get = async (path) => (await send("GET", `/api/v1/${path}`)).json();
export const post = async (path, body, more) => (await send("POST", `/api/v1/${path}`, body, more)).json();

/** A file of the robot's, or an image. */
export const getBytes = async (path) => (await send("GET", `/api/v1/${path}`)).arrayBuffer();

/** Calls `read` every `every_ms` while `signal` lasts and the page is looked at; what goes wrong is said by `fail`. */
export function poll(read, every_ms, signal, fail = () => {}) {
  const turn = async () => {
    if (signal.aborted) return;
    if (!document.hidden) {
      try {
        await read();
      } catch (problem) {
        if (!signal.aborted) fail(problem);
      }
    }
    if (!signal.aborted) setTimeout(turn, every_ms);
  };
  turn();
}
