// A migration as people see it: its badge, how far it is, and what to do about an error.
import { h } from "./ui.js";

export const ended = (j) => ["done", "cancelled", "reverted"].includes(j.phase);

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
  const kind = kinds[j.phase];
  return h("span", { class: "badge " + (kind === undefined ? "busy" : kind) }, j.phase);
}

/** advice is what an operator can do about an error, by where it came from and its code. */
export function advice(e) {
  const t = e.text || "";
  if (e.code === "OOM" || /maxmemory/.test(t)) return "The " + e.origin + " is at its maxmemory. Raise it, or move fewer slots there; clients go on at the source and the job resumes by itself.";
  if (/holds key/.test(t)) return "The target has keys of these slots already. What it holds would win over the source, so remove them there, then resume.";
  if (/same server/.test(t)) return "Both groups lead to one server: mend the address of one of them.";
  if (/payload/.test(t)) return "The target is older than the source and can't read its dumps: upgrade it first.";
  if (["NOPERM", "NOAUTH", "WRONGPASS"].includes(e.code) || /NOPERM|NOAUTH|WRONGPASS/.test(t)) return "The gateway's user at the " + e.origin + " lacks a right or has another password. Mend it there, then resume.";
  if (/must be its primary|READONLY/.test(e.code + t)) return "That address is a replica. Point the group to its primary.";
  if (/loading/i.test(e.code + t)) return "The server is loading its data. The job tries again by itself.";
  if (/MISCONF/.test(e.code + t)) return "The " + e.origin + " can't write to its disk and refuses writes. Mend its disk.";
  if (/unknown command/.test(t)) return "The " + e.origin + " lacks or has renamed a command that a move needs.";
  if (["IO", "TIMEOUT"].includes(e.code) || /refused|reset|timeout|EOF/.test(t)) return "The gateway could not reach the " + e.origin + ", or it did not answer in time. The job tries again; look at that server and the network between.";
  return "The job tries again by itself as long as it has tries left; the log below tells what happened.";
}

export function errorNote(title, e) {
  return h("div", { class: "note bad" }, h("b", {}, title + " · " + e.origin + " " + (e.code || "")), " " + (e.text || ""), h("span", { class: "advice" }, advice(e)));
}
