import { $, ask, byName, bytes, chip, complaint, h, int, keep, run, short, started, us } from "./ui.js";
import { connect, down, on, state } from "./live.js";
import { inUse, note, troubles, upBadge } from "./group.js";
import { few, matches, pager } from "./list.js";
import { count, findingNotes, planTable } from "./plan.js";
import { askAbout, free, freeNote, given, optionField, verb, verbButton } from "./verb.js";

// Each part of a card is replaced only when it differs, and the buttons never: nothing moves away
// under the hand, and what is shown is never old.
class Card {
  constructor(g) {
    this.id = g.id;
    this.head = h("header", { class: "row" });
    this.facts = h("dl", { class: "facts" });
    this.memory = h("div");
    this.notes = h("div");
    this.assign = verbButton("Assign …", "SLOT ASSIGN", () => ({ title: "Assign slots to " + this.id, yes: "Assign", done: "Assigned to " + this.id, fixed: { group: this.id }, values: { slots: free().text } }));
    this.remove = verbButton("Remove …", "GROUP DEL", () => ({ title: "Remove " + this.id + "?", yes: "Remove", danger: true, done: "Removed " + this.id, fixed: { id: this.id },
      intro: this.g.addr + " owns no slots. The server itself is left as it is." }), { class: "danger" });
    this.el = h("article", { class: "panel card", id: "group-" + g.id, "aria-label": "Group " + g.id }, this.head, this.notes, this.facts, this.memory,
      h("div", { class: "row end" }, this.assign, verbButton("Change …", "GROUP SET", () => ({ title: "Change " + this.id, yes: "Change", done: "Changed " + this.id, fixed: { id: this.id } })), this.remove));
    this.update(g);
  }

  update(g) {
    this.g = g;
    const share = g.memory_limit > 0 ? g.memory / g.memory_limit : 0;
    keep(this.head, [h("h2", {}, chip(g.id)), upBadge(g)]);
    keep(this.facts, [
      ["Primary", h("code", {}, g.addr)], ["Version", (g.version || "–") + (g.role && g.role !== "master" ? " · " + g.role : "")],
      ["Slots", int(g.slots)], ["Keys", int(g.keys)], ["Commands", short(g.ops) + "/s"], ["Ping", g.up ? us(g.ping_us) : "–"],
      ["Replicas", (g.replicas || []).length ? g.replicas.join(", ") : "none"],
      ["Connections", g.seen_ms ? int(g.clients) + (g.strangers ? "" : ", all of them gateways'") : "–"],
    ].flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]));
    keep(this.memory, [h("div", { class: "label" }, h("span", {}, "Memory"), h("span", {}, bytes(g.memory) + (g.memory_limit > 0 ? " of " + bytes(g.memory_limit) : ", no limit"))),
      h("div", { class: "meter" + (share > 0.9 ? " bad" : share > 0.75 ? " warn" : "") }, h("i", { style: { width: Math.min(100, share * 100) + "%" } }))]);
    keep(this.notes, troubles(g).map((t) => note(t)));
    this.assign.hidden = !state.slots.some((s) => s && !s.group);
    this.remove.title = inUse(g);
    this.remove.disabled = this.remove.title !== "";
  }
}

// Those that need somebody come first, then by name.
const cards = new Map(), find = $("find"), show = $("show"), pages = pager(12, draw);
$("cards").after(pages.el);
show.value = new URLSearchParams(location.search).get("show") || "all";
const wanted = { all: () => true, trouble: (g) => troubles(g).length > 0, down, empty: (g) => g.slots === 0 };

function draw() {
  const all = [...state.groups.values()], bad = new Map(all.map((g) => [g.id, troubles(g).some((t) => t.bad)]));
  const list = all.filter((g) => wanted[show.value](g) && matches(find.value, g.id, g.addr)).sort((a, b) => bad.get(b.id) - bad.get(a.id) || byName(a.id, b.id));
  const seen = pages.cut(list), shown = new Set(seen.map((g) => g.id)), away = all.filter(down).length;
  for (const id of cards.keys()) if (!shown.has(id)) cards.delete(id);
  for (const g of seen) { const c = cards.get(g.id); if (c) c.update(g); else cards.set(g.id, new Card(g)); }
  const want = seen.map((g) => cards.get(g.id).el), have = [...$("cards").children];
  if (want.length !== have.length || want.some((e, i) => e !== have[i])) $("cards").replaceChildren(...want);
  $("none").hidden = all.length > 0;
  few(all.length <= 6, find, show);
  $("nothing").hidden = all.length === 0 || list.length > 0;
  keep($("how-many"), [h("span", {}, (list.length < all.length ? int(list.length) + " of " : "") + int(all.length) + (all.length === 1 ? " group" : " groups") + (away ? ", " : "")), ...(away ? [h("b", { class: "bad" }, int(away) + " down")] : [])]);
}
for (const e of [find, show]) e.addEventListener("input", () => { pages.first(); draw(); });
on("groups", draw);
on("jobs", draw);
on("slots", () => { draw(); keep($("free"), freeNote()); });
on("groups", () => keep($("free"), freeNote()));
askAbout({ "GROUP ADD": () => ({ title: "Add a group", yes: "Add", done: "Added" }) });

// What can be made equal, and by which weights, is what REBALANCE takes. Its form waits for the groups, of which it makes a list.
let options = [];
verb("REBALANCE").then((row) => {
  options = row.options.filter((o) => o.name !== "DRYRUN");
  $("shares").replaceChildren(...options.map((o) => optionField(o, o.name === "BY" ? o.values[0].choices[0] : "")));
}, (err) => $("plan").replaceChildren(complaint(err)));

$("rebalance").addEventListener("submit", async (e) => {
  e.preventDefault();
  const out = $("plan"), button = e.target.querySelector("[type=submit]");
  button.disabled = true;
  try {
    const fields = given(e.target, options);
    const plans = await run("rebalance", { ...fields, dryrun: true }) || [];
    if (plans.length === 0) { out.replaceChildren(h("p", { class: "note good" }, "Every group has its share of " + (fields.by || "slots").toLowerCase() + " already.")); return; }
    const apply = h("button", { type: "button", class: "main", onclick: () => ask({
      title: "Move " + int(plans.reduce((n, p) => n + count(p.slots), 0)) + " slots?", yes: "Rebalance",
      body: h("p", {}, plans.length + " migration" + (plans.length > 1 ? "s" : "") + " will begin. Clients go on meanwhile."),
      run: async () => { started(await run("rebalance", fields)); location.href = "/migrations"; },
    }) }, "Apply");
    out.replaceChildren(planTable(plans), ...findingNotes(plans), h("div", { class: "row" }, apply, h("button", { type: "button", class: "quiet", onclick: () => out.replaceChildren() }, "Not now")));
  } catch (err) {
    out.replaceChildren(complaint(err, "No plan"));
  } finally { button.disabled = false; }
});

connect();
