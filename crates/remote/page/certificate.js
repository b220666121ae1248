// The certificate, where the daemon has one: for who compares it with what the browser shows.

import { get } from "./api.js";
import { make } from "./dom.js";

const fact = (name, ...words) => make("div", {}, make("dt", {}, name), make("dd", {}, words));

/** A card, which stays away where there is none. */
export function certificateCard(signal) {
  const card = make("section", { class: "card", hidden: true }, make("h2", {}, "Certificate"));
  const fill = (certificate) => {
    if (!certificate || signal.aborted) return;
    const { fingerprint, authority_fingerprint, names, ends_s } = certificate;
    card.append(
      make("p", { class: "hint" }, "Compare the SHA-256 with the one that the daemon printed when it started, and with the one that this browser shows of the connection."),
      make("dl", { class: "facts" }, fact("SHA-256", make("code", {}, fingerprint)), fact("For", names.join(", ")), fact("Until", new Date(ends_s * 1000).toLocaleDateString("en-GB", { dateStyle: "medium" })), fact("Authority", make("code", {}, authority_fingerprint))),
      make("p", {}, make("a", { href: "/sinew-ca.crt", download: "sinew-ca.crt" }, "The authority's certificate"), ", for a device that is to trust this robot without a warning."),
    );
    card.hidden = false;
  };
  get("certificate").then(fill, () => {});
  return card;
}
