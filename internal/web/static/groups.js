import { $, act, ask, bytes, colour, h, int, run, short, toast, us } from "./ui.js";
import { connect, on, state } from "./live.js";
import { ended } from "./job.js";
import { count, findingNotes, planTable } from "./plan.js";
import { verb } from "./verbs.js";

function card(g) {
  const share = g.memory_limit > 0 ? g.memory / g.memory_limit : 0;
  const links = g.links || {};
  const inUse = g.slots > 0 ? "It still serves slots" : [...state.jobs.values()].some((j) => !ended(j) && (j.source === g.id || j.target === g.id)) ? "A migration uses it" : "";
  return h("article", { class: "panel card", id: "group-" + g.id, "aria-label": "Group " + g.id },
    h("header", { class: "row between" }, h("h2", {}, h("i", { class: "dot", style: { background: colour(g.id) } }), g.id),
      g.up ? h("span", { class: "badge good" }, "up") : h("span", { class: "badge bad" }, g.seen_ms ? "no answer" : "never seen")),
    h("dl", { class: "facts" }, [
      ["Primary", h("code", {}, g.addr)], ["Version", (g.version || "–") + (g.role && g.role !== "master" ? " · " + g.role : "")],
      ["Slots", int(g.slots)], ["Keys", int(g.keys)], ["Commands", short(g.ops) + "/s"], ["Ping", g.up ? us(g.ping_us) : "–"],
      ["Replicas", (g.replicas || []).length ? g.replicas.join(", ") : "none"],
      ["Connections", int(g.clients) + (g.strangers ? "" : ", all of them gateways'")],
    ].flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, v)])),
    h("div", {}, h("div", { class: "label" }, h("span", {}, "Memory"), h("span", {}, bytes(g.memory) + (g.memory_limit > 0 ? " of " + bytes(g.memory_limit) : ", no limit"))),
      h("div", { class: "meter" + (share > 0.9 ? " bad" : share > 0.75 ? " warn" : "") }, h("i", { style: { width: Math.min(100, share * 100) + "%" } }))),
    g.up ? null : h("div", { class: "note bad" }, h("b", {}, "Last try: "), g.error || "no answer yet"),
    links.down ? h("div", { class: "note bad" }, h("b", {}, "Clients' connections: "), int(links.down) + " down. " + (links.error || "")) : null,
    g.strangers > 0 ? h("div", { class: "note warn" }, h("b", {}, int(g.strangers) + " connected past the gateway: "), (g.strangers_list || []).slice(0, 4).join("; ") + (g.strangers > 4 ? " …" : ""),
      h("span", { class: "advice" }, "What they write to slots that move can be lost. Point them to the gateway first.")) : null,
    h("div", { class: "row end" }, h("button", { type: "button", class: "danger", disabled: inUse !== "", title: inUse, onclick: async (e) => {
      if (await ask("Remove " + g.id + "?", "Remove", h("p", {}, g.addr + " serves no slots. The server itself is left as it is."), true)) act(e.target, "Removed " + g.id, "group/del", { id: g.id });
    } }, "Remove")));
}

// A card that has the focus is not replaced under the hand.
on("groups", (delta) => {
  const box = $("cards");
  for (const e of [...box.children]) if (!state.groups.has(e.id.slice(6))) e.remove();
  for (const g of [...state.groups.values()].sort((a, b) => a.id.localeCompare(b.id))) {
    const old = $("group-" + g.id);
    if (old && (!delta[g.id] || old.contains(document.activeElement))) continue;
    if (old) old.replaceWith(card(g)); else box.append(card(g));
  }
  if (state.groups.size === 0) box.replaceChildren(h("div", { class: "empty" }, "No group yet. Add the server that you have, and assign it all slots."));
});

// The part that each group is to have; 1 unless one says otherwise.
on("groups", () => {
  const box = $("weights"), ids = [...state.groups.keys()].sort();
  if ([...box.querySelectorAll("input")].map((e) => e.name).join() === ids.join()) return;
  box.replaceChildren(...ids.map((id) => h("label", { class: "small" }, "Weight of " + id, h("input", { name: id, inputmode: "decimal", value: "1", pattern: "\\d+(\\.\\d+)?" }))));
});

// What can be made equal is what REBALANCE takes.
verb("REBALANCE").then((row) => {
  const by = row.options.find((o) => o.name === "BY");
  $("rebalance").elements.by.replaceChildren(...by.values[0].choices.map((c) => h("option", { value: c }, c === "OPS" ? "commands a second" : c.toLowerCase())));
}, (err) => toast(err.message, true));

$("add").addEventListener("submit", async (e) => {
  e.preventDefault();
  const f = e.target.elements;
  const ok = await act(e.target.querySelector("button"), "Added " + f.id.value, "group/add", { id: f.id.value.trim(), addr: f.addr.value.trim(), ...(f.password.value ? { password: f.password.value } : {}) });
  if (ok) e.target.reset();
});

$("rebalance").addEventListener("submit", async (e) => {
  e.preventDefault();
  const by = e.target.elements.by.value, weight = Object.fromEntries([...$("weights").querySelectorAll("input")].filter((i) => i.value !== "1").map((i) => [i.name, i.value || "1"])), out = $("plan"), button = e.target.querySelector("button");
  button.disabled = true;
  try {
    const plans = await run("rebalance", { by, weight, dryrun: true }) || [];
    if (plans.length === 0) { out.replaceChildren(h("p", { class: "note good" }, "Every group has its share of " + by.toLowerCase() + " already.")); return; }
    const apply = h("button", { type: "button", class: "main", onclick: async () => {
      if (!await ask("Move " + int(plans.reduce((n, p) => n + count(p.slots), 0)) + " slots?", "Rebalance", h("p", {}, plans.length + " migration" + (plans.length > 1 ? "s" : "") + " will begin. Clients go on meanwhile."))) return;
      try {
        const ids = await run("rebalance", { by, weight });
        toast("Started " + [ids].flat().join(", "));
        location.href = "/migrations";
      } catch (err) { toast(err.message, true); }
    } }, "Apply");
    out.replaceChildren(planTable(plans), ...findingNotes(plans), h("div", { class: "row" }, apply, h("button", { type: "button", class: "quiet", onclick: () => out.replaceChildren() }, "Not now")));
  } catch (err) {
    out.replaceChildren(h("div", { class: "note bad" }, h("b", {}, "No plan: "), err.message));
  } finally { button.disabled = false; }
});

connect();
