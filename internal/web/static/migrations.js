import { $, act, ask, bytes, clock, colour, get, h, int, short, span, text, us } from "./ui.js";
import { connect, on, state } from "./live.js";
import { chart } from "./chart.js";
import { badge, ended, errorNote, fraction, rests } from "./job.js";
import { findingNotes, moveForm } from "./plan.js";
import { optionField, verb } from "./verbs.js";

const cards = new Map();

const phases = ["queued", "preflight", "preparing", "bulk", "tail", "verifying", "done"];

/** at is the phase that a job is in or goes on with. */
const at = (j) => (phases.includes(j.phase) ? j.phase : j.resume_to || (j.phase === "failed" ? "bulk" : "queued"));

function phaseBar(j) {
  const back = j.back || j.phase.startsWith("revert");
  const list = back ? ["bulk", "reverting", "reverted"] : phases;
  const now = back ? (j.phase === "reverted" ? "reverted" : "reverting") : at(j);
  const held = ["paused", "backoff"].includes(j.phase) ? " held" : j.phase === "failed" ? " stuck" : "";
  return list.map((p, i) => h("span", { class: p === now ? "now" + held : i < list.indexOf(now) ? "past" : "" }, p === now && held ? p + " · " + (rests(j) ? "resting" : j.phase) : p));
}

class Card {
  constructor(j) {
    this.id = j.id;
    this.fill = h("i");
    this.percent = h("b");
    this.title = h("div", { class: "title" });
    this.phases = h("div", { class: "phases", "aria-hidden": "true" });
    this.meter = h("div", { class: "meter", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": "Progress of " + j.id }, this.fill);
    this.numbers = h("div", { class: "numbers" });
    this.notes = h("div");
    this.chartBox = h("div", { class: "chart" });
    this.log = h("ol", { class: "log" });
    this.more = h("details", { ontoggle: () => this.story() }, h("summary", {}, "What happened"), this.log);
    this.el = h("section", { class: "panel job", id: "job-" + j.id, "aria-label": "Migration " + j.id }, this.title, this.phases,
      h("div", { class: "progress" }, this.meter, this.percent), this.numbers, this.notes, this.chartBox, this.more);
    this.chart = chart(this.chartBox, [{ label: "keys/s", colour: "--c1", value: short, fill: true }, { label: "clients' p99", colour: "--c2", value: us, scale: "us" }], { window: 300 });
    this.key = "";
    this.update(j);
    this.story();
  }

  update(j) {
    this.j = j;
    const p = Math.floor(fraction(j) * 100);
    this.fill.style.width = p + "%";
    this.meter.setAttribute("aria-valuenow", p);
    this.meter.className = "meter" + ({ done: " good", paused: " warn", backoff: " warn", failed: " bad" }[rests(j) ? "" : j.phase] || "");
    text(this.percent, p + "%");
    const key = JSON.stringify([j.phase, j.reason, j.resume_to, j.first_error, j.last_error, j.attempt_first_error, j.resolver_error, j.advice, j.throttle, j.doing, j.stalled && Math.round(j.stalled.for_ms / 5000), (j.keys_in_doubt || []).length, j.rate_keys_per_s, j.slice, j.back, j.onward, j.published, j.findings]);
    if (key !== this.key) {
      this.key = key;
      this.heading(j);
      this.noting(j);
      this.phases.replaceChildren(...phaseBar(j));
      this.story();
    }
    this.counting(j);
  }

  heading(j) {
    this.title.replaceChildren(
      h("h2", {}, j.id, h("span", {}, h("i", { class: "dot", style: { background: colour(j.source) } }), j.source), h("span", { class: "arrow" }, "→"),
        h("span", {}, h("i", { class: "dot", style: { background: colour(j.target) } }), j.target)),
      badge(j), h("span", { class: "muted", title: j.slots_text }, int(j.slot_count) + " slots" + (j.slots_text.length < 40 ? " (" + j.slots_text + ")" : "")),
      h("div", { class: "acts row" }, this.buttons(j)));
  }

  buttons(j) {
    const b = (label, title, yes, body, danger, path, options) => h("button", { type: "button", class: danger ? "danger" : "", "data-verb": label.toUpperCase(),
      onclick: async (e) => { if (await ask(title, yes, h("p", {}, body), danger)) act(e.target, label + ": " + j.id, "migration/" + path, { id: j.id, ...options }); } }, label);
    if (ended(j)) return [];
    const out = [];
    const held = ["paused", "failed", "backoff"].includes(j.phase);
    if (held) out.push(b("Resume", "Resume " + j.id + "?", "Resume", "It goes on where it was.", false, "resume"));
    if (!j.onward && (j.phase === "reverting" || j.resume_to === "reverting")) out.push(b("Forward", "Send " + j.id + " forward again?", "Move on", "It moves on to " + j.target + ", with what has been moved back already.", false, "resume", { forward: true }));
    if ((j.phase !== "paused" || rests(j)) && j.phase !== "failed") out.push(b("Pause", "Pause " + j.id + "?", "Pause", "Keys that have moved stay at the target, the others at the source; clients are served from both.", false, "pause"));
    out.push(this.limit(j));
    if (j.published && !j.back && j.phase !== "reverting") out.push(b("Revert", "Move everything of " + j.id + " back to " + j.source + "?", "Move back", "What has moved returns to the source, key by key, while clients go on.", true, "cancel", { revert: true }));
    if (!j.back && j.phase !== "reverting") out.push(b("Cancel", "Cancel " + j.id + "?", "Cancel it", "A job that has moved nothing ends. Another is left paused as it is: nothing is lost either way.", true, "cancel"));
    return out;
  }

  /** limit asks for the limits that MIGRATION LIMIT takes, and says those that were changed. */
  limit(j) {
    const p99 = { "-1": "off", "-2": "auto" }[j.max_p99_ms] || j.max_p99_ms;
    const now = { rate: j.rate_keys_per_s, bytes: j.rate_bytes_per_s, parallel: j.parallel, maxp99: p99, slice: j.slice };
    return h("button", { type: "button", "data-verb": "LIMIT", onclick: async (e) => {
      const { options } = await verb("MIGRATION LIMIT"), was = (o) => String(now[o.name.toLowerCase()] || "");
      const fields = options.map((o) => optionField(o, was(o)));
      if (!await ask("Limit " + j.id, "Set", [h("p", {}, "An empty field is no limit of this job's own."), ...fields])) return;
      const changed = {};
      options.forEach((o, i) => {
        const value = fields[i].querySelector("input").value.trim();
        if (value !== was(o)) changed[o.name.toLowerCase()] = value || o.none;
      });
      if (Object.keys(changed).length) act(e.target, "Limits of " + j.id, "migration/limit", { id: j.id, ...changed });
    } }, "Limit");
  }

  noting(j) {
    const first = j.first_error, last = j.last_error, notes = [];
    if (j.stalled) notes.push(h("div", { class: "note bad" }, h("b", {}, "Stalled: "), "no key has moved for " + span(j.stalled.for_ms / 1000) +
      (j.stalled.silent ? "; the " + j.stalled.silent + " does not answer" : "") + (j.stalled.oldest_lock ? "; key " + j.stalled.oldest_lock + " is locked longest" : "")));
    if (j.doing) notes.push(h("div", { class: "note" }, j.doing));
    if (j.throttle && !ended(j)) notes.push(h("div", { class: "note" }, h("b", {}, "Held back: "), j.throttle));
    if (j.reason && !rests(j)) notes.push(h("div", { class: "note " + (j.phase === "failed" ? "bad" : j.phase === "done" ? "" : "warn") }, h("b", {}, j.phase + ": "), j.reason));
    if (j.phase !== "done") {
      if (first) notes.push(errorNote(last && last.at_ms !== first.at_ms ? "First error" : "Error", first));
      if (last && first && last.at_ms !== first.at_ms) notes.push(errorNote("Last error", last));
      else if (last && !first) notes.push(errorNote("Error", last));
      if (j.attempt_first_error && !first) notes.push(errorNote("In this attempt", j.attempt_first_error));
      if (j.resolver_error) notes.push(errorNote("Keys in doubt", j.resolver_error));
    }
    if (j.advice) notes.push(h("div", { class: "note" }, h("b", {}, "What to do: "), j.advice));
    if (["queued", "preflight", "preparing", "failed", "backoff"].includes(j.phase)) notes.push(...findingNotes([{ findings: (j.findings || []).filter((f) => f.severity !== "info") }]));
    const doubt = j.keys_in_doubt || [];
    if (doubt.length) notes.push(h("div", { class: "note warn" }, h("b", {}, int(doubt.length) + " keys in doubt: "), doubt.slice(0, 20).join(", ")));
    this.notes.replaceChildren(...notes);
  }

  counting(j) {
    const all = [["Keys moved", int(j.keys_moved)], ["Left", j.estimated_keys_left >= 0 ? "≈ " + int(j.estimated_keys_left) : "–"], ["Bytes", bytes(j.bytes_moved)],
      ["Rate", ended(j) ? "–" : short(j.keys_per_s) + " keys/s"], ["Limit", j.rate_keys_per_s ? short(j.rate_keys_per_s) + " keys/s" : "none"], ["Speed", j.live && j.flow ? (j.flow.work_per_s ? "≤ " + short(j.flow.work_per_s) + "/s" : Math.round(j.flow.share * 100) + "%") : "–"],
      ["Time left", j.eta_s >= 0 && !ended(j) ? span(j.eta_s) : "–"], ["Pass", j.pass || "–"], ["Key lock p99", j.lock_hold_p99_us ? us(j.lock_hold_p99_us) : "–"], ["Longest", j.lock_hold_max_us ? us(j.lock_hold_max_us) : "–"],
      ["Waited for", int(j.keys_waited_for)], ["On touch", int(j.keys_moved_on_touch)], ["Big keys", int(j.big_keys)], ["Attempts", (j.attempt || 0) + (j.max_attempts ? " of " + j.max_attempts : "")], ...(j.slice || j.slices ? [["Slices", int(j.slices || 0) + (j.slice ? " of " + j.slice : "")]] : [])];
    if (this.numbers.children.length !== all.length) this.numbers.replaceChildren(...all.map(([k]) => h("div", {}, h("span", {}, k), h("b"))));
    all.forEach(([, v], i) => text(this.numbers.children[i].lastChild, String(v)));
  }

  /** story asks for the chart's points and the log. */
  async story() {
    try {
      const s = await get("/api/v1/migrations/" + encodeURIComponent(this.id));
      this.chart.set([s.points.map((p) => p.t / 1000), s.points.map((p) => p.keys), s.points.map((p) => p.p99)]);
      this.chartBox.hidden = s.points.length === 0;
      this.log.replaceChildren(...s.events.slice().reverse().map((e) => h("li", {}, h("time", {}, clock(e.at_ms)), h("span", {},
        h("b", {}, (e.from && e.from !== e.to ? e.from + " → " : "") + e.to), " " + e.event + (e.reason ? " · " + e.reason : "") + (e.keys_moved ? " · " + int(e.keys_moved) + " keys" : "") +
        (e.error ? " · " + e.error.origin + " " + e.error.code + ": " + e.error.text : "")))));
    } catch { /* the job may be gone; the list will say so */ }
  }
}

function list() {
  const jobs = [...state.jobs.values()].sort((a, b) => b.created_at_ms - a.created_at_ms || b.id.localeCompare(a.id, undefined, { numeric: true }));
  // Cards are for what is open, and for what has ended while one looked on.
  const open = jobs.filter((j) => !ended(j) || cards.has(j.id)), past = jobs.filter((j) => ended(j) && !cards.has(j.id));
  for (const j of open) {
    const c = cards.get(j.id);
    if (c) c.update(j); else cards.set(j.id, new Card(j));
  }
  for (const [id, c] of cards) if (!state.jobs.has(id)) { c.el.remove(); cards.delete(id); }
  const want = open.map((j) => cards.get(j.id).el), have = [...$("open").children];
  if (want.length !== have.length || want.some((e, i) => e !== have[i])) $("open").replaceChildren(...want);
  $("none").hidden = jobs.length > 0;
  $("past-box").hidden = past.length === 0;
  $("past").replaceChildren(h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["Job", "From", "To", ""].map((x) => h("th", {}, x)), ["Slots", "Keys", "Bytes", "Took"].map((x) => h("th", { class: "n" }, x)), h("th", { class: "n" }, "Ended"))),
    h("tbody", {}, past.map((j) => h("tr", {}, h("td", {}, j.id), h("td", {}, h("i", { class: "dot", style: { background: colour(j.source) } }), j.source),
      h("td", {}, h("i", { class: "dot", style: { background: colour(j.target) } }), j.target), h("td", {}, badge(j)), h("td", { class: "n" }, int(j.slot_count)),
      h("td", { class: "n" }, int(j.keys_moved)), h("td", { class: "n" }, bytes(j.bytes_moved)), h("td", { class: "n" }, j.ended_at_ms ? span((j.ended_at_ms - (j.started_at_ms || j.created_at_ms)) / 1000) : "–"),
      h("td", { class: "n" }, j.ended_at_ms ? clock(j.ended_at_ms) : "–")))))));
}

on("jobs", list);
on("groups", () => { for (const c of cards.values()) { c.key = ""; } });
setInterval(() => { for (const c of cards.values()) if (!ended(c.j)) c.story(); }, 2000);
moveForm();
connect();
