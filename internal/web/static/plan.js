// The form that moves slots: what would move, what was found, then the question, then the job.
import { $, ask, bytes, colour, h, int, run, span, toast } from "./ui.js";
import { on, state } from "./live.js";
import { optionField, given, verb } from "./verbs.js";

export const count = (ranges) => ranges.reduce((n, r) => n + r.last - r.first + 1, 0);
export const rangesText = (ranges) => ranges.map((r) => (r.first === r.last ? r.first : r.first + "-" + r.last)).join(",");

const chip = (g) => h("span", {}, h("i", { class: "dot", style: { background: colour(g) } }), g);

/** planTable shows plans, whatever the gateway could find out about them. */
export function planTable(plans) {
  const t = h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "From"), h("th", {}, "To"), h("th", { class: "n" }, "Slots"), h("th", { class: "n" }, "Keys"),
    h("th", { class: "n" }, "Bytes"), h("th", { class: "n" }, "Takes about"))), h("tbody", {}));
  for (const p of plans) {
    const keys = p.estimated_keys, size = p.estimated_bytes, s = p.estimated_seconds;
    t.tBodies[0].append(h("tr", {}, h("td", {}, chip(p.source)), h("td", {}, chip(p.target)),
      h("td", { class: "n", title: rangesText(p.slots) }, int(count(p.slots))), h("td", { class: "n" }, keys >= 0 ? "≈ " + int(keys) : "–"),
      h("td", { class: "n" }, size >= 0 ? "≈ " + bytes(size) : "–"), h("td", { class: "n" }, s >= 0 ? span(s) : "–")));
  }
  return h("div", { class: "scroll" }, t);
}

const rank = (f) => ({ error: 0, warning: 1 })[f.severity] ?? 2;

/** findingsOf are what a check of both ends has found, the worst first. */
function findingsOf(plans) {
  return plans.flatMap((p) => p.findings || []).sort((a, b) => rank(a) - rank(b));
}

/** findingNotes shows findings: what stops the job first, what is only worth knowing last and small. */
export function findingNotes(plans) {
  const all = findingsOf(plans), known = all.filter((f) => rank(f) === 2);
  const notes = all.filter((f) => rank(f) < 2).map((f) => h("div", { class: "note " + ["bad", "warn"][rank(f)], "data-severity": f.severity },
    h("b", {}, f.what + " · " + f.where + ": "), f.text, f.advice ? h("span", { class: "advice" }, f.advice) : null));
  if (known.length) notes.push(h("details", {}, h("summary", {}, known.length + " more found, nothing to do about"), h("ul", { class: "log" }, known.map((f) => h("li", {}, h("span", { class: "muted" }, f.what), h("span", {}, f.where + ": " + f.text))))));
  return notes;
}

/** moveOptions are the options of MIGRATE that the form offers: all but those that it says by itself. */
const moveOptions = (row) => row.options.filter((o) => o.name !== "TO" && o.name !== "DRYRUN");

/** moveForm wires the form #move and the place #plan below it. */
export function moveForm() {
  const form = $("move"), out = $("plan"), target = form.elements.target;
  let options = [];
  verb("MIGRATE").then((row) => {
    options = moveOptions(row);
    $("options").replaceChildren(...options.map((o) => optionField(o)));
  }, (err) => out.replaceChildren(refusal(err)));
  on("groups", () => {
    const ids = [...state.groups.keys()].sort();
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
      go.addEventListener("click", async () => {
        if (!await ask("Move " + int(list.reduce((n, p) => n + count(p.slots), 0)) + " slots to " + to + "?", "Move them",
          h("p", {}, "Clients go on meanwhile. You can pause, limit or cancel at any time."))) return;
        try {
          const ids = await run("migrate", fields);
          toast("Started " + [ids].flat().join(", "));
          out.replaceChildren();
          form.reset();
          form.dispatchEvent(new Event("started"));
        } catch (err) { out.replaceChildren(refusal(err)); }
      });
      if (notes.length === 0 && list.some((p) => p.findings)) notes.push(h("div", { class: "note good" }, "Both ends were checked: no findings."));
      out.replaceChildren(...notes, planTable(list), h("div", { class: "row" }, go,
        h("button", { type: "button", class: "quiet", onclick: () => out.replaceChildren() }, "Not now")));
    } catch (err) {
      out.replaceChildren(refusal(err));
    } finally { button.disabled = false; }
  });
}

function refusal(err) {
  return h("div", { class: "note bad", id: "refused" }, h("b", {}, "Not possible: "), err.message);
}

