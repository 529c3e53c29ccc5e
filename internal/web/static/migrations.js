import { $, ask, byName, bytes, chip, clock, get, h, int, keep, rows, run, short, span, text, told, toast, us } from "./ui.js";
import { connect, on, state } from "./live.js";
import { chart } from "./chart.js";
import { badge, byNeed, ended, errorNote, fraction, rests, stuck } from "./job.js";
import { few, matches, pager, some } from "./list.js";
import { findingNotes, moveForm } from "./plan.js";
import { askAbout, optionField, verb, verbButton } from "./verb.js";

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
    this.chartBox = h("div", { class: "chart", hidden: true });
    this.without = h("p", { class: "muted", hidden: true }, "No chart: the job was over within a second or two, or the gateway has been started since.");
    this.log = h("ol", { class: "log" });
    this.more = h("details", { open: ended(j), ontoggle: () => this.story() }, h("summary", {}, "What happened"), this.log);
    this.el = h("section", { class: "panel job", id: "job-" + j.id, "aria-label": "Migration " + j.id }, this.title, this.phases,
      h("div", { class: "progress" }, this.meter, this.percent), this.numbers, this.notes, this.chartBox, this.without, this.more);
    this.chart = chart(this.chartBox, [{ label: "keys/s", colour: "--c1", value: short, fill: true }, { label: "clients' p99", colour: "--c2", value: us, scale: "us" }], { window: () => (ended(this.j) ? 900 : 300) });
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
      h("h2", {}, j.id, chip(j.source), h("span", { class: "arrow" }, "→"), chip(j.target)),
      badge(j), h("span", { class: "muted", title: j.slots_text }, int(j.slot_count) + " slots" + (j.slots_text.length < 40 ? " (" + j.slots_text + ")" : "")),
      h("div", { class: "acts row" }, this.buttons(j)));
  }

  buttons(j) {
    const b = (label, name, title, yes, intro, danger, options) => verbButton(label, "MIGRATION " + name,
      () => ({ title, yes, intro, danger, done: label + ": " + j.id, fixed: { id: j.id, ...options } }), { class: danger ? "danger" : "", "data-act": label });
    const out = [], close = opened.has(j.id) && h("button", { type: "button", class: "quiet", "data-act": "Close", onclick: () => { opened.delete(j.id); cards.delete(j.id); draw(); } }, "Close");
    if (ended(j)) {
      return [b("Verify", "VERIFY", "Look for keys that " + j.id + " has left behind?", "Look", "Every key of the groups is looked at, which can take long. Nothing is changed. Leave this page open until it has ended."), close];
    }
    // Options that a button stands for, FORWARD, STAY and REVERT, are not asked for again.
    if (stuck(j)) out.push(b("Resume", "RESUME", "Resume " + j.id + "?", "Resume", "It goes on where it was.", false, { forward: undefined }));
    if (!j.onward && (j.phase === "reverting" || j.resume_to === "reverting")) out.push(b("Forward", "RESUME", "Send " + j.id + " forward again?", "Move on", "It moves on to " + j.target + ", with what has been moved back already.", false, { forward: true }));
    if ((j.phase !== "paused" || rests(j)) && j.phase !== "failed") out.push(b("Pause", "PAUSE", "Pause " + j.id + "?", "Pause", "Keys that have moved stay at the target, the others at the source; clients are served from both."));
    out.push(this.limit(j));
    if (j.published && !j.back && j.phase !== "reverting") out.push(b("Revert", "CANCEL", "Move everything of " + j.id + " back to " + j.source + "?", "Move back", "What has moved returns to the source, key by key, while clients go on.", true, { revert: true, stay: undefined }));
    if (!j.back && j.phase !== "reverting") out.push(b("Cancel", "CANCEL", "Cancel " + j.id + "?", "Cancel it", "A job that has moved nothing ends. Another is left paused as it is: nothing is lost either way.", true, { revert: undefined, stay: undefined }));
    return [...out, close];
  }

  /** limit asks for the limits that MIGRATION LIMIT takes, and says those that were changed. */
  limit(j) {
    const p99 = { "-1": "off", "-2": "auto" }[j.max_p99_ms] || j.max_p99_ms;
    const now = { rate: j.rate_keys_per_s, bytes: j.rate_bytes_per_s, parallel: j.parallel, maxp99: p99, slice: j.slice };
    return h("button", { type: "button", "data-verb": "MIGRATION LIMIT", "data-act": "Limit", onclick: async () => {
      let options;
      try { ({ options } = await verb("MIGRATION LIMIT")); } catch (err) { toast(err.message, true); return; }
      const was = (o) => String(now[o.name.toLowerCase()] || ""), fields = options.map((o) => optionField(o, was(o)));
      ask({ title: "Limit " + j.id, yes: "Set", body: [h("p", {}, "An empty field is no limit of this job's own."), ...fields], run: async () => {
        const changed = {};
        options.forEach((o, i) => {
          const value = fields[i].querySelector("input").value.trim();
          if (value !== was(o)) changed[o.name.toLowerCase()] = value || o.none;
        });
        if (Object.keys(changed).length) told("Limits of " + j.id, await run("migration/limit", { id: j.id, ...changed }));
      } });
    } }, "Limit");
  }

  noting(j) {
    const first = j.first_error, last = j.last_error, notes = [];
    if (j.stalled) notes.push(h("div", { class: "note bad" }, h("b", {}, "Stalled: "), "no key has moved for " + span(j.stalled.for_ms / 1000) +
      (j.stalled.silent ? "; the " + j.stalled.silent + " does not answer" : "") + (j.stalled.oldest_lock ? "; key " + j.stalled.oldest_lock + " is locked longest" : "")));
    if (j.doing) notes.push(h("div", { class: "note" }, j.doing));
    if (j.throttle && !ended(j)) notes.push(h("div", { class: "note" }, h("b", {}, "Held back: "), j.throttle));
    if (j.reason && !rests(j)) notes.push(h("div", { class: "note " + (j.phase === "failed" ? "bad" : j.phase === "done" ? "" : "warn") }, h("b", {}, j.phase + ": "), j.reason));
    const again = (e) => e && j.reason && j.reason.includes(e.text); // it stands there already
    if (j.phase !== "done" && !again(first || last)) {
      if (first) notes.push(errorNote(last && last.at_ms !== first.at_ms ? "First error" : "Error", first));
      if (last && first && last.at_ms !== first.at_ms) notes.push(errorNote("Last error", last));
      else if (last && !first) notes.push(errorNote("Error", last));
      if (j.attempt_first_error && !first) notes.push(errorNote("In this attempt", j.attempt_first_error));
      if (j.resolver_error) notes.push(errorNote("Keys in doubt", j.resolver_error));
    }
    if (j.advice) notes.push(h("div", { class: "note" }, h("b", {}, "What to do: "), j.advice));
    if (["queued", "preflight", "preparing", "failed", "backoff"].includes(j.phase)) notes.push(...findingNotes([{ findings: (j.findings || []).filter((f) => f.severity !== "info") }]));
    const doubt = j.keys_in_doubt || [];
    if (doubt.length) notes.push(h("div", { class: "note warn" }, h("b", {}, int(doubt.length) + " keys in doubt: "), some(doubt, 20)));
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

  /** story asks for the chart's points and the log: those of an ended job too, which the gateway keeps. */
  async story() {
    try {
      const s = await get("/api/v1/migrations/" + encodeURIComponent(this.id));
      this.chart.set([s.points.map((p) => p.t / 1000), s.points.map((p) => p.keys), s.points.map((p) => p.p99)]);
      this.chartBox.hidden = s.points.length === 0;
      this.without.hidden = s.points.length > 0 || !ended(this.j);
      keep(this.log, s.events.slice().reverse().map((e) => h("li", {}, h("time", {}, clock(e.at_ms)), h("span", {},
        h("b", {}, (e.from && e.from !== e.to ? e.from + " → " : "") + e.to), " " + e.event + (e.reason ? " · " + e.reason : "") + (e.keys_moved ? " · " + int(e.keys_moved) + " keys" : "") +
        (e.error ? " · " + e.error.origin + " " + e.error.code + ": " + e.error.text : "")))));
    } catch { /* the job may be gone; the list will say so */ }
  }
}

// The first jobs by need have a card with everything; so has each that was opened, ended ones too, also
// after the page is loaded again. The others are lines of tables.
const cards = new Map(), cardsShown = 4, openedMost = 8;
const opened = new Set(JSON.parse(sessionStorage.getItem("jobs") || "[]"));
const find = $("find"), show = $("show"), morePages = pager(20, draw), pastPages = pager(20, draw);
$("more").append(morePages.el);
$("past").append(pastPages.el);
const wanted = { all: () => true, open: (j) => !ended(j), stuck, ended };

function draw() {
  const all = [...state.jobs.values()], jobs = all.filter((j) => wanted[show.value](j) && matches(find.value, j.id, j.source, j.target, j.phase, j.reason || "")).sort(byNeed);
  for (const j of all) if (ended(j) && cards.has(j.id) && !opened.has(j.id)) open(j.id); // ended while one looked on
  const first = new Set(jobs.filter((j) => !ended(j)).slice(0, cardsShown).map((j) => j.id));
  const full = jobs.filter((j) => first.has(j.id) || opened.has(j.id)), rest = jobs.filter((j) => !full.includes(j));
  for (const j of full) {
    const c = cards.get(j.id);
    if (c) c.update(j); else cards.set(j.id, new Card(j));
  }
  const shown = new Set(full.map((j) => j.id));
  for (const id of cards.keys()) if (!shown.has(id)) cards.delete(id);
  const want = full.map((j) => cards.get(j.id).el), have = [...$("open").children];
  if (want.length !== have.length || want.some((e, i) => e !== have[i])) $("open").replaceChildren(...want);
  const more = rest.filter((j) => !ended(j)), past = rest.filter(ended).sort((a, b) => byName(b.id, a.id));
  $("none").hidden = all.length > 0;
  $("nothing").hidden = all.length === 0 || jobs.length > 0;
  $("tools").hidden = all.length === 0;
  few(all.length <= 6, find, show);
  $("more-box").hidden = more.length === 0;
  $("past-box").hidden = past.length === 0;
  text($("how-many"), (jobs.length < all.length ? int(jobs.length) + " of " : "") + int(all.length) + (all.length === 1 ? " job, " : " jobs, ") + int(all.filter((j) => !ended(j)).length) + " under way");
  const who = (j) => [h("td", {}, h("a", { href: "#" + j.id }, j.id)), h("td", { class: "cell" }, chip(j.source)), h("td", { class: "cell" }, chip(j.target)),
    h("td", { class: "cell" }, badge(j), j.reason && !rests(j) ? h("div", { class: "muted clip", title: j.reason }, j.reason) : null), h("td", { class: "n" }, int(j.slot_count)), h("td", { class: "n" }, int(j.keys_moved))];
  rows($("more-jobs"), morePages.cut(more), (j) => [...who(j), h("td", { class: "n" }, Math.floor(fraction(j) * 100) + "%")], "None.");
  rows($("past-jobs"), pastPages.cut(past), (j) => [...who(j), h("td", { class: "n" }, bytes(j.bytes_moved)),
    h("td", { class: "n" }, j.ended_at_ms ? span((j.ended_at_ms - (j.started_at_ms || j.created_at_ms)) / 1000) : "–"), h("td", { class: "n" }, j.ended_at_ms ? clock(j.ended_at_ms) : "–")], "None.");
  sessionStorage.setItem("jobs", JSON.stringify([...opened]));
}

/** open shows everything of a job; of those that are open already the one that was opened first goes. */
function open(id) {
  opened.delete(id);
  opened.add(id);
  for (const first of opened) if (opened.size > openedMost) opened.delete(first);
}

/** go opens the job that the address names, as #m3. */
function go(id) {
  if (!state.jobs.has(id)) { toast("There is no job " + id + ", or none any more.", true); return; }
  open(id);
  cards.delete(id); // its buttons change
  find.value = "";
  show.value = "all";
  draw();
  $("job-" + id).scrollIntoView({ block: "start" });
}
addEventListener("click", (e) => {
  const a = e.target.closest("a[href^='#m']");
  if (!a) return;
  e.preventDefault();
  history.replaceState(null, "", a.hash);
  go(a.hash.slice(1));
});
addEventListener("hashchange", () => go(location.hash.slice(1)));
let named = location.hash.slice(1);
on("jobs", () => {
  draw();
  if (named) { const id = named; named = ""; go(id); }
});

for (const e of [find, show]) e.addEventListener("input", () => { morePages.first(); pastPages.first(); draw(); });
on("groups", () => { for (const c of cards.values()) c.key = ""; });
setInterval(() => { if (document.visibilityState === "visible") for (const c of cards.values()) if (!ended(c.j)) c.story(); }, 2000);
moveForm();
askAbout();
connect();
