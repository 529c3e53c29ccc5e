// A migration as people see it: its badge, how far it is, and an error.
import { byName, h } from "./ui.js";

export const ended = (j) => ["done", "cancelled", "reverted"].includes(j.phase);

/** rests says that a job is between two slices: it goes on by itself. */
export const rests = (j) => j.phase === "paused" && j.reason === "slice";

/** stuck says that a job moves nothing until somebody or something lets it go on. */
export const stuck = (j) => ["failed", "backoff"].includes(j.phase) || j.phase === "paused" && !rests(j);

/** byNeed sorts jobs: those that are stuck, those that move, those that are queued, those that have ended; of each the newest first. */
const need = (j) => (stuck(j) ? 0 : ended(j) ? 3 : j.phase === "queued" ? 2 : 1);
export const byNeed = (a, b) => need(a) - need(b) || byName(b.id, a.id);

/** fraction of a job that is done, 0 to 1. It is 1 only when the job is done. */
export function fraction(j) {
  if (j.phase === "done" || j.phase === "reverted") return 1;
  if (["queued", "preflight", "preparing", "cancelled"].includes(j.phase)) return 0;
  const left = j.estimated_keys_left;
  if (left === undefined || left < 0) return j.keys_moved > 0 ? 0.5 : 0;
  return Math.min(0.99, j.keys_moved / Math.max(1, j.keys_moved + left));
}

const kinds = { done: "good", reverted: "good", cancelled: "", queued: "", paused: "warn", backoff: "warn", failed: "bad" };

export function badge(j) {
  const kind = rests(j) ? "busy" : kinds[j.phase];
  return h("span", { class: "badge " + (kind === undefined ? "busy" : kind) }, rests(j) ? "resting" : j.phase);
}

export function errorNote(title, e) {
  return h("div", { class: "note bad" }, h("b", {}, title + " · " + e.origin + " " + (e.code || "")), " " + (e.text || ""));
}
