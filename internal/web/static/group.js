// A group as people see it: whether it is up, and what is wrong with it.
import { bytes, h, int, span } from "./ui.js";
import { down, state } from "./live.js";
import { ended } from "./job.js";

export function upBadge(g) {
  if (g.up) return h("span", { class: "badge good" }, "up");
  return h("span", { class: "badge" + (down(g) ? " bad" : "") }, down(g) ? "down" : "being asked");
}

/** inUse says why a group can't be removed; "": it can. */
export function inUse(g) {
  if (g.slots > 0) return "It still owns slots";
  return [...state.jobs.values()].some((j) => !ended(j) && (j.source === g.id || j.target === g.id)) ? "A migration uses it" : "";
}

/** troubles are what is wrong with a group: { bad, what, text, advice }. */
export function troubles(g) {
  const out = [], share = g.memory_limit > 0 ? g.memory / g.memory_limit : 0, links = g.links || {};
  if (down(g)) {
    out.push({ bad: true, what: "is down", text: g.addr + (g.seen_ms ? " has not answered for " + span((Date.now() - g.seen_ms) / 1000) : " has never answered") + (g.error ? ": " + g.error : ""),
      advice: g.slots > 0 ? "Commands on its " + int(g.slots) + " slots fail until it is back, or until Change gives the address of its new primary." : "" });
  } else if (g.error) { // connections that stand go on
    out.push({ bad: true, what: "takes no new connection", text: g.addr + ": " + g.error, advice: "Commands that need one fail until it does. Change gives another password." });
  } else if (links.down) {
    out.push({ bad: true, what: "refuses clients' connections", text: int(links.down) + " of this gateway's connections are down" + (links.error ? ": " + links.error : "") });
  }
  if (g.up && g.role && g.role !== "master") out.push({ bad: true, what: "is no primary", text: g.addr + " says that it is a " + g.role, advice: "Change gives the address of its primary." });
  if (share > 0.9) out.push({ bad: share > 0.97, what: "is nearly full", text: bytes(g.memory) + " of " + bytes(g.memory_limit) + " are used" });
  if (g.strangers > 0) {
    const list = (g.strangers_list || []).slice(0, 4);
    out.push({ bad: false, what: int(g.strangers) + " connected past the gateway", text: list.join("; ") + (g.strangers > list.length ? " …" : ""),
      advice: "What they write to slots that move can be lost. Point them to the gateway first." });
  }
  return out;
}

export const note = (t, title) => h("div", { class: "note " + (t.bad ? "bad" : "warn") }, h("b", {}, (title || t.what) + ": "), t.text, t.advice ? h("span", { class: "advice" }, t.advice) : null);
