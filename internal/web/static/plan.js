// The form that moves slots: what would move, what was found, then the question, then the job.
import { $, ask, byName, bytes, chip, complaint, h, int, run, span, started } from "./ui.js";
import { on, state } from "./live.js";
import { pager } from "./list.js";
import { optionField, given, verb } from "./verb.js";

export const count = (ranges) => ranges.reduce((n, r) => n + r.last - r.first + 1, 0);
export const rangesText = (ranges) => ranges.map((r) => (r.first === r.last ? r.first : r.first + "-" + r.last)).join(",");

/** planTable shows plans, whatever the gateway could find out about them. */
export function planTable(plans) {
  const body = h("tbody"), pages = pager(20, draw);
  function draw() {
    body.replaceChildren(...pages.cut(plans).map((p) => {
      const keys = p.estimated_keys, size = p.estimated_bytes, s = p.estimated_seconds, slots = rangesText(p.slots);
      return h("tr", {}, h("td", { class: "cell" }, chip(p.source)), h("td", { class: "cell" }, chip(p.target)),
        h("td", { class: "n", title: slots.slice(0, 300) }, int(count(p.slots))), h("td", { class: "n" }, keys >= 0 ? "≈ " + int(keys) : "–"),
        h("td", { class: "n" }, size >= 0 ? "≈ " + bytes(size) : "–"), h("td", { class: "n" }, s >= 0 ? span(s) : "–"));
    }));
  }
  draw();
  return h("div", {}, h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "From"), h("th", {}, "To"), h("th", { class: "n" }, "Slots"), h("th", { class: "n" }, "Keys"),
    h("th", { class: "n" }, "Bytes"), h("th", { class: "n" }, "Takes about"))), body)), pages.el);
}

const rank = (f) => ({ error: 0, warning: 1 })[f.severity] ?? 2;

/** findingsOf are what a check of both ends has found, the worst first. */
function findingsOf(plans) {
  return plans.flatMap((p) => p.findings || []).sort((a, b) => rank(a) - rank(b));
}

const notesShown = 6;

/** findingNotes shows findings: what stops the job first, what is only worth knowing last and small. */
export function findingNotes(plans) {
  const all = findingsOf(plans), known = all.filter((f) => rank(f) === 2);
  const notes = all.filter((f) => rank(f) < 2).map((f) => h("div", { class: "note " + ["bad", "warn"][rank(f)], "data-severity": f.severity },
    h("b", {}, f.what + " · " + f.where + ": "), f.text, f.advice ? h("span", { class: "advice" }, f.advice) : null));
  if (notes.length > notesShown) notes.push(h("details", {}, h("summary", {}, int(notes.length - notesShown) + " more like these"), h("div", { class: "tall" }, notes.splice(notesShown))));
  if (known.length) notes.push(h("details", {}, h("summary", {}, int(known.length) + " more found, nothing to do about"), h("ul", { class: "log" }, known.map((f) => h("li", {}, h("span", { class: "muted" }, f.what), h("span", {}, f.where + ": " + f.text))))));
  return notes;
}

/** moveOptions are the options of MIGRATE that the form offers: all but those that it says by itself, or asks for when it has counted. */
const moveOptions = (row) => row.options.filter((o) => !["TO", "DRYRUN", "PURGE"].includes(o.name));

/** inWay is the finding of keys at the target, if nothing else stops the only job. */
function inWay(plans) {
  const fatal = findingsOf(plans).filter((f) => rank(f) === 0);
  return plans.length === 1 && fatal.length === 1 && fatal[0].keys > 0 ? fatal[0] : null;
}

/** purgeButton offers to remove the keys in the way, for who types how many they are. */
function purgeButton(found, move) {
  const keys = int(found.keys) + (found.keys === 1 ? " key" : " keys");
  return h("button", { type: "button", class: "danger", id: "purge", onclick: () => ask({
    title: "Remove " + keys + " at " + found.where + "?", yes: "Remove them and move", danger: true,
    body: [h("p", {}, found.text), h("p", { class: "advice" }, found.advice),
      h("label", { class: "option" }, h("span", {}, "How many keys are removed for good: type " + found.keys), h("input", { name: "purge", required: true, inputmode: "numeric", autocomplete: "off" }))],
    run: (form) => {
      const typed = form.elements.purge.value.trim();
      if (typed !== String(found.keys)) throw new Error(keys + (found.keys === 1 ? " is" : " are") + " there: type that number, or leave them where they are");
      return move({ purge: typed });
    },
  }) }, "Remove " + keys + " …");
}

/** moveForm wires the form #move and the place #plan below it. */
export function moveForm() {
  const form = $("move"), out = $("plan"), target = form.elements.target;
  let options = [];
  verb("MIGRATE").then((row) => {
    options = moveOptions(row);
    $("options").replaceChildren(...options.map((o) => optionField(o)));
  }, (err) => out.replaceChildren(complaint(err, "Not possible")));
  on("groups", () => {
    const ids = [...state.groups.keys()].sort(byName);
    if ([...target.options].map((o) => o.value).join() === ids.join()) return;
    const was = target.value;
    target.replaceChildren(...ids.map((id) => h("option", { value: id }, id)));
    if (ids.includes(was)) target.value = was;
  });
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    const to = target.value, fields = { slots: form.elements.slots.value.replace(/\s/g, ""), to, ...given(form, options) };
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      const list = await run("migrate", { ...fields, dryrun: true });
      const notes = findingNotes(list), refused = findingsOf(list).some((f) => rank(f) === 0);
      const go = h("button", { type: "button", class: "main", id: "start", disabled: refused }, "Start moving");
      const move = async (more) => {
        started(await run("migrate", { ...fields, ...more }));
        out.replaceChildren();
        form.reset();
        form.dispatchEvent(new Event("started"));
      };
      go.addEventListener("click", () => ask({
        title: "Move " + int(list.reduce((n, p) => n + count(p.slots), 0)) + " slots to " + to + "?", yes: "Move them",
        body: h("p", {}, "Clients go on meanwhile. You can pause, limit or cancel at any time."),
        run: () => move(),
      }));
      if (notes.length === 0 && list.some((p) => p.findings)) notes.push(h("div", { class: "note good" }, "Both ends were checked: no findings."));
      out.replaceChildren(...notes, planTable(list), h("div", { class: "row" }, go, inWay(list) && purgeButton(inWay(list), move),
        h("button", { type: "button", class: "quiet", onclick: () => out.replaceChildren() }, "Not now")));
    } catch (err) {
      out.replaceChildren(complaint(err, "Not possible"));
    } finally { button.disabled = false; }
  });
}
