import { $, bytes, chip, clock, complaint, get, h, int, rows, short, span, us } from "./ui.js";
import { connect, on } from "./live.js";

async function fill(path, f) {
  try { f(await get(path)); } catch { /* the mark above says that there is no news */ }
}

const name = (k, db) => h("td", { class: "key" }, k, db ? h("span", { class: "muted" }, "  db " + db) : null);

function refresh() {
  fill("/api/v1/hotkeys", (list) => rows($("hot"), list, (k) => [name(k.key + (k.length > 128 ? "…" : ""), k.db), h("td", { class: "n" }, k.slot >= 0 ? k.slot : "–"),
    h("td", { class: "n" }, "≈ " + short(k.per_s)), h("td", { class: "n" }, Math.round(k.writes * 100) + "%")], "No key stands out."));
  fill("/api/v1/bigkeys", (list) => rows($("big"), list, (k) => [name(k.key, k.db), h("td", { class: "n" }, bytes(k.bytes)), h("td", {}, k.by)], "None has come by."));
  fill("/api/v1/slowlog?n=50", (list) => rows($("slow"), list, slow, "No command was slow."));
}

function slow(e) {
  const parts = [["q", "queue", e.queue_us], ["l", "lock wait", e.lock_wait_us], ["b", "server", e.backend_us], ["w", "write", e.write_us]];
  const sum = parts.reduce((n, p) => n + p[2], 0) || 1;
  return [h("td", {}, clock(e.at_ms)), h("td", { class: "n" }, us(e.total_us)),
    h("td", {}, h("div", { class: "times", role: "img", "aria-label": parts.map((p) => p[1] + " " + us(p[2])).join(", "), title: parts.map((p) => p[1] + " " + us(p[2])).join("\n") },
      parts.map((p) => h("i", { class: p[0], style: { width: p[2] / sum * 100 + "%" } })))),
    h("td", { class: "key one", title: e.args.join(" ").slice(0, 500) }, e.args.join(" ").slice(0, 200)), h("td", { class: "cell" }, e.group ? chip(e.group) : "–"),
    h("td", { class: "cell" }, h("span", { class: "mono" }, e.client), e.client_name ? h("div", { class: "muted clip", title: e.client_name }, e.client_name) : null)];
}

$("look").addEventListener("submit", async (e) => {
  e.preventDefault();
  const f = e.target.elements, out = $("found");
  try {
    const k = await get("/api/v1/key?" + new URLSearchParams({ key: f.key.value, db: f.db.value || "0" }));
    const facts = [["Slot", k.slot], ["State", k.state + (k.job ? " (" + k.job + ")" : "")]];
    for (const a of k.at) {
      facts.push([a.role === "owner" ? "Group" : a.role, chip(a.group)]);
      if (a.error) facts.push([a.group + " says", h("span", { class: "bad" }, a.error)]);
      else if (!a.exists) facts.push(["At " + a.group, "not there"]);
      else facts.push(["Type", a.type + (a.encoding ? " · " + a.encoding : "")], [a.type === "string" ? "Length" : "Elements", int(a.elements)], ["Size", bytes(a.bytes)], ["Expires", a.ttl_ms < 0 ? "never" : "in " + span(a.ttl_ms / 1000)]);
    }
    out.replaceChildren(h("div", { class: "numbers" }, facts.map(([t, v]) => h("div", {}, h("span", {}, t), h("b", {}, v)))),
      ...(k.explain ? [h("p", { class: "muted" }, "GET of it: " + k.explain.why.join("; ") + ".")] : []));
  } catch (err) { out.replaceChildren(complaint(err)); }
});

// The first time when the groups have come, and with them their colours.
let begun = false;
on("groups", () => { if (!begun) { begun = true; refresh(); } });
setInterval(refresh, 2000);
connect();
