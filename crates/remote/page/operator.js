// The operator's lease and the goals that go with it, over the socket of commands.

import { lease, token } from "./api.js";
import { addressOf } from "./socket.js";
import { inDataset, isVelocity, known, on, present, rangeOf, speedOf, tell } from "./store.js";

/** How often goals are sent while there are any. */
const GOALS_MS = 33;
/** Goals go on for so long after the last touch, or until the arm is there. */
const LINGER_MS = 2500;
/** The arm is there: radians or metres. */
const NEAR = 0.01;
/** A stick's goal is never further ahead of the arm than this. */
const LEAD = 0.35;
const TAKE_MS = 5000, CLOSE_MS = 200;
/** Hands of which nothing new was said for so long are not enabled. */
const LATE_MS = 200;

/** Whether this device has control, and what it wants: `is` is `free`, `asking` or `mine`; `delay_ms` is how long a goal takes to be heard. */
export const operator = { is: "free", goals: null, delay_ms: null };

let line = null, timer = 0, touched = -Infinity, number = 0, rates = () => null, answer = null, held = null;
const sent = new Map();

const change = (to) => {
  operator.is = to;
  tell("operator");
};

const send = (message) => line.postMessage({ send: message });

/** The end of the line; what was said last is still sent. */
function over(words) {
  clearInterval(timer);
  const mine = line;
  setTimeout(() => mine?.terminate(), CLOSE_MS);
  line = lease.id = null;
  operator.goals = operator.delay_ms = held = null;
  touched = -Infinity;
  sent.clear();
  if (operator.is === "asking") answer?.reject(new Error(words || "Control was not given."));
  else if (operator.is === "mine" && words) tell("lost", words);
  answer = null;
  if (operator.is !== "free") change("free");
}

function hear(message) {
  if (message.type === "welcome") send({ type: "take" });
  else if (message.type === "lease") {
    lease.id = message.lease;
    timer = setInterval(turn, GOALS_MS);
    turn();
    change("mine");
    answer.resolve();
    answer = null;
  } else if (message.type === "heard") {
    if (sent.has(message.number)) operator.delay_ms = performance.now() - sent.get(message.number);
    sent.delete(message.number);
  } else if (message.type === "expired") over("Control was lost: the robot heard nothing of this page for too long.");
  else if (message.type === "refused" && operator.is === "asking") over(message.error);
  else if (message.type === "refused") {
    operator.goals = null;
    touched = -Infinity;
    if (held) tell("dropped", message.error);
    tell("lost", message.error);
  }
}

/** Sends what is answered by its number. */
function sendNumbered(message) {
  number += 1;
  sent.set(number, performance.now());
  if (sent.size > 100) sent.delete(sent.keys().next().value);
  send({ ...message, number });
}

/** Asks for the lease. Is rejected where somebody else has it. */
export function take() {
  if (operator.is === "mine") return Promise.resolve();
  if (operator.is === "asking") return Promise.reject(new Error("Control was asked for already."));
  change("asking");
  const mine = line = new Worker("operator-line.js");
  mine.onmessage = ({ data: { heard, ended } }) => {
    if (mine !== line) return;
    if (ended) over(ended);
    else hear(heard);
  };
  mine.postMessage({ open: addressOf("command"), token: token.get() });
  setTimeout(() => mine === line && operator.is === "asking" && over("The robot did not answer."), TAKE_MS);
  return new Promise((resolve, reject) => { answer = { resolve, reject }; });
}

export function release() {
  if (operator.is === "free") return;
  send({ type: "release" });
  over("");
}

/** Where goals begin: where the robot was sent last, else where it is. Nothing where that is not known. */
function begin() {
  const { state } = known;
  const goals = state.armed && state.goal.length === known.robot.action.length ? [...state.goal] : present(state);
  return goals.includes(null) ? null : goals;
}

/** Goals for now; those of a touch that is over are forgotten. */
function current() {
  if (performance.now() - touched > LINGER_MS) operator.goals = null;
  return operator.goals ??= begin();
}

/** What turns without end has no limits; what is a speed has. */
function within(channel, value) {
  const [low, high] = isVelocity(channel) ? rangeOf(channel) : [channel.lower ?? -Infinity, channel.upper ?? Infinity];
  return Math.min(high, Math.max(low, value));
}

/** Wants a channel of action to be at a value. Says whether that can be. */
export function aim(index, value) {
  const goals = operator.is === "mine" && current();
  if (!goals) return false;
  goals[index] = within(known.robot.action[index], value);
  touched = performance.now();
  return true;
}

/** `read()` gives how fast sticks want each channel to move, a share of −1 to 1, or nothing where none is touched. */
export function setSticks(read) {
  rates = () => read()?.map((share, index) => share * speedOf(known.robot.action[index]));
}

function jog(speeds, seconds) {
  const goals = current();
  if (!goals) return;
  const places = present(known.state);
  known.robot.action.forEach((channel, index) => {
    if (isVelocity(channel)) goals[index] = within(channel, speeds[index]);
    else if (speeds[index]) {
      const lead = within(channel, goals[index] + speeds[index] * seconds), place = places[index];
      goals[index] = place === null ? lead : Math.min(place + LEAD, Math.max(place - LEAD, lead));
    }
  });
  touched = performance.now();
}

/**
 * Says where devices in the hands are: `{ tool, position_m, rotation_wxyz, enabled, gripper }` of each, measured at the page's time
 * `time_ms`. Says whether that could be sent.
 */
export function hold(hands, time_ms) {
  if (operator.is !== "mine") return false;
  if (held && time_ms <= held.time_ms) return true;
  operator.goals = null;
  touched = -Infinity;
  held = { hands, time_ms, at: performance.now() };
  sendNumbered({ type: "hands", time_s: time_ms / 1000, hands });
  return true;
}

/** None of the devices that were held is enabled any more. */
export function letGo() {
  if (!held?.hands.some(({ enabled, gripper }) => enabled || gripper)) return;
  hold(held.hands.map((hand) => ({ ...hand, enabled: false, gripper: 0 })), Math.max(performance.now(), held.time_ms + 0.1));
}

/** Whether the arm is not yet where it is wanted. */
function isUnderWay() {
  const places = present(known.state);
  return operator.goals.some((goal, index) => isVelocity(known.robot.action[index]) || places[index] === null || Math.abs(goal - places[index]) > NEAR);
}

function turn() {
  const now = performance.now(), speeds = known.state && rates();
  if (held && now - held.at > LATE_MS) {
    letGo();
    held = null;
    tell("dropped", "");
  }
  if (speeds) jog(speeds, GOALS_MS / 1000);
  if (operator.goals && now - touched < LINGER_MS && (now - touched < GOALS_MS * 4 || isUnderWay())) {
    held = null;
    sendNumbered({ type: "goals", goals: operator.goals });
  } else line.postMessage({});
}

/** A goal as datasets have it. */
export const saidGoal = (index) => operator.goals && inDataset(known.robot.action[index], operator.goals[index]);

on("stop", (wish) => {
  operator.goals = null;
  touched = -Infinity;
  if (operator.is === "mine") letGo();
  if (operator.is === "mine") send({ type: "stop", stop: wish });
});
// Browsers slow down pages that nobody sees, and the lease would end by itself.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden || operator.is !== "mine") return;
  letGo();
  send({ type: "release" });
  over("Control was given back, as the page was hidden.");
});
addEventListener("pagehide", release);
