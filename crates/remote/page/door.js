// Lets a device in: six digits that the robot shows, or the token itself.

import { post, Refused, token } from "./api.js";
import { button, field, make, say } from "./dom.js";

/** What this device calls itself, unless the person says otherwise. */
function nameOfDevice() {
  const found = [["iPhone", /iPhone/], ["iPad", /iPad/], ["Android phone", /Android.*Mobile/], ["Android tablet", /Android/], ["Mac", /Macintosh/], ["Windows PC", /Windows/], ["Linux PC", /Linux/]].find(([, mark]) => mark.test(navigator.userAgent));
  return found?.[0] ?? "browser";
}

export function openDoor(main, words, enter) {
  const code = make("input", { type: "text", inputmode: "numeric", autocomplete: "one-time-code", maxlength: 6, pattern: "[0-9]{6}", required: true, class: "code", placeholder: "000000" });
  const name = make("input", { type: "text", maxlength: 64, required: true, value: nameOfDevice(), autocomplete: "off" });
  const whole = make("input", { type: "password", autocomplete: "off", spellcheck: "false" });
  const problem = make("p", { class: "banner bad", role: "alert", hidden: !words }, words);
  const fail = (what) => {
    problem.hidden = false;
    say(problem, what);
  };
  const pair = async (event) => {
    event.preventDefault();
    if (!/^[0-9]{6}$/.test(code.value)) return fail("The code has six digits.");
    try {
      token.set((await post("pair", { code: code.value, name: name.value })).token);
      enter();
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
      fail(why.message);
      code.select();
    }
  };
  const useToken = (event) => {
    event.preventDefault();
    if (!whole.value.trim()) return fail("The token is empty.");
    token.set(whole.value.trim());
    enter();
  };
  main.className = "view-door";
  main.replaceChildren(
    make("h1", {}, "Pair this device"),
    problem,
    make("form", { submit: pair, class: "card", novalidate: true },
      make("p", {}, "Type the six digits that the robot's owner sees. They come from this page's set-up on another device, or from ", make("code", {}, "sinew daemon pair"), " in a terminal on the robot."),
      field("Six digits", code),
      field("Name of this device", name),
      button("Pair", null, { type: "submit", class: "main" })),
    make("details", { class: "card" }, make("summary", {}, "I have a token"),
      make("form", { submit: useToken }, field("Token", whole, "Printed by `sinew daemon token`."), button("Use the token", null, { type: "submit" }))));
  code.focus();
}
