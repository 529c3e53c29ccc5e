// The form that moves slots: what would move, what was found, then the question, then the job.
import { $, ask, bytes, colour, command, h, int, span, toast } from "./ui.js";
import { on, state } from "./live.js";

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

/** findings of a preflight, the worst first; [] if the gateway found nothing. */
function findingsOf(plans) {
  const list = plans.flatMap((p) => (p.findings || []).map((f) => ({ ...f, from: p.source, to: p.target })));
  const rank = (f) => ({ error: 0, refuse: 0, blocker: 0, bad: 0, warning: 1, warn: 1 })[String(f.severity || f.level).toLowerCase()] ?? 2;
  return list.map((f) => ({ ...f, rank: rank(f) })).sort((a, b) => a.rank - b.rank);
}

export function findingNotes(plans) {
  return findingsOf(plans).map((f) => h("div", { class: "note " + ["bad", "warn", ""][f.rank] }, h("b", {}, (f.origin ? f.origin + ": " : "") + (f.check || f.code || f.name || "") + " "),
    f.text || f.message || "", f.advice ? h("span", { class: "advice" }, f.advice) : null));
}

/** moveForm wires the form #move and the place #plan below it. */
export function moveForm() {
  const form = $("move"), out = $("plan"), target = form.elements.target;
  on("groups", () => {
    const ids = [...state.groups.keys()].sort();
    if ([...target.options].map((o) => o.value).join() === ids.join()) return;
    const was = target.value;
    target.replaceChildren(...ids.map((id) => h("option", { value: id }, id)));
    if (ids.includes(was)) target.value = was;
  });
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    const slots = form.elements.slots.value.replace(/\s/g, ""), to = target.value, rate = form.elements.rate.value.trim();
    const args = ["MIGRATE", slots, "TO", to, ...(rate ? ["RATE", rate] : [])];
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      const plans = await command(...args, "DRYRUN", "JSON");
      const list = Array.isArray(plans) ? plans : plans.plans;
      const notes = findingNotes(list), refused = findingsOf(list).some((f) => f.rank === 0);
      const go = h("button", { type: "button", class: "main", id: "start", disabled: refused }, "Start moving");
      go.addEventListener("click", async () => {
        if (!await ask("Move " + int(list.reduce((n, p) => n + count(p.slots), 0)) + " slots to " + to + "?", "Move them",
          h("p", {}, "Clients go on meanwhile. You can pause, limit or cancel at any time."))) return;
        try {
          const ids = await command(...args, "JSON");
          toast("Started " + [ids].flat().join(", "));
          out.replaceChildren();
          form.reset();
          form.dispatchEvent(new Event("started"));
        } catch (err) { out.replaceChildren(refusal(err)); }
      });
      out.replaceChildren(planTable(list), ...notes, h("div", { class: "row" }, go,
        h("button", { type: "button", class: "quiet", onclick: () => out.replaceChildren() }, "Not now")));
    } catch (err) {
      out.replaceChildren(refusal(err));
    } finally { button.disabled = false; }
  });
}

function refusal(err) {
  return h("div", { class: "note bad", id: "refused" }, h("b", {}, "Not possible: "), err.message);
}

