// How a phone is tilted, where it says so: for phones without AR.

import { headingOfTilt, ofTilt, turnBetween, turnedBy } from "./hand.js";

/** How long the first angles may take. */
const FIRST_MS = 1500;

/** Whether this may be a device that is tilted, and whose browser tells pages. */
export const mayTilt = () => isSecureContext && navigator.maxTouchPoints > 0 && typeof DeviceOrientationEvent !== "undefined";

/** Hears the angles until `signal` ends it. Rejects where nobody allows it, or there are none. */
export async function openTilt(signal) {
  // Safari asks the person, and only when a touch has asked for it.
  const answer = await DeviceOrientationEvent.requestPermission?.() ?? "granted";
  if (answer !== "granted") throw new Error("This browser was not allowed to tell how the phone is tilted. Reload the page to be asked again.");
  let now = null;
  await new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error("This device does not tell how it is tilted.")), FIRST_MS);
    addEventListener("deviceorientation", ({ alpha, beta, gamma }) => {
      if (![alpha, beta, gamma].every(Number.isFinite)) return;
      now = ofTilt(alpha, beta, gamma);
      clearTimeout(timer);
      done();
    }, { signal });
  });
  let start = null, rotation = [1, 0, 0, 0];
  return {
    /** How the tool is to be turned: on from where it was, as long as it is wanted that it follows. */
    turn(isWanted) {
      if (!isWanted) start = null;
      else {
        const ahead = headingOfTilt(now);
        if (!start && ahead === null) return { rotation, why: "Point ahead, not up or down." };
        start ??= { now, ahead, rotation };
        rotation = turnedBy(turnBetween(start.now, now, start.ahead), start.rotation);
      }
      return { rotation, why: "" };
    },
  };
}
