import { $, byName, bytes, chip, get, h, int, keep, rows, short, span, text, toast, us } from "./ui.js";
import { connect, down, on, state } from "./live.js";
import { chart } from "./chart.js";
import { badge, byNeed, ended, fraction, rests, stuck } from "./job.js";
import { note, troubles, upBadge } from "./group.js";
import { freeNote, verbButton } from "./verb.js";

const tiles = [
  ["Commands", (p) => [short(p.ops), "/s"]],
  ["p50", (p) => us(p.p50).split(" ")],
  ["p99", (p) => us(p.p99).split(" ")],
  ["p99.9", (p) => us(p.p999).split(" ")],
  ["Errors", (p) => [short(p.errors), "/s"], (p) => p.errors > 0],
  ["Clients", (p) => [int(p.clients), ""]],
  ["Memory", (p) => bytes(p.memory).split(" ")],
  ["Keys moved", (p) => [short(p.moved), "/s"]],
].map(([name, f, bad]) => {
  const b = h("b", {}, "–"), unit = h("small");
  const el = h("div", { class: "tile" }, h("span", {}, name), b, unit);
  $("tiles").append(el);
  return (p) => { const [v, u] = f(p); text(b, v); text(unit, u || ""); el.classList.toggle("bad", !!bad && bad(p)); };
});

const ms = (v) => us(v);
const charts = [
  [chart($("c-ops"), [{ label: "commands/s", colour: "--c1", value: short, fill: true }]), ["ops"]],
  [chart($("c-lat"), [{ label: "p50", colour: "--c4", value: ms }, { label: "p99", colour: "--c1", value: ms }, { label: "p99.9", colour: "--c2", value: ms }]), ["p50", "p99", "p999"]],
  [chart($("c-err"), [{ label: "errors/s", colour: "--c3", value: short, fill: true }, { label: "waiting", colour: "--c2", value: short }]), ["errors", "parked"]],
  [chart($("c-mov"), [{ label: "keys/s", colour: "--c4", value: short, fill: true }]), ["moved"]],
];
let points = [];
function draw() { for (const [c, keys] of charts) c.set([points.map((p) => p.t / 1000), ...keys.map((k) => points.map((p) => p[k]))]); }

on("point", (p) => {
  for (const t of tiles) t(p);
  if (points.length && points[points.length - 1].t >= p.t) return;
  points.push(p);
  if (points.length > 900) points.shift();
  draw();
});

// What is wrong comes first, before any number. Of many groups those that need somebody, then those that do most.
const alertsShown = 4, groupsShown = 8, jobsShown = 4;
on("groups", () => {
  const list = [...state.groups.values()].sort((a, b) => byName(a.id, b.id)), wrong = list.filter((g) => troubles(g).some((t) => t.bad)).sort((a, b) => down(b) - down(a) || b.slots - a.slots);
  const away = wrong.filter(down).length;
  keep($("alerts"), [
    ...(away > 1 ? [h("h2", {}, int(away) + " of " + int(list.length) + " servers are down")] : []),
    ...wrong.slice(0, alertsShown).map((g) => { const t = troubles(g).find((x) => x.bad); return note(t, g.id + " " + t.what); }),
    ...(wrong.length > alertsShown ? [h("a", { href: "/groups?show=trouble" }, "and " + int(wrong.length - alertsShown) + " more")] : []),
  ]);
  const most = [...wrong, ...list.filter((g) => !wrong.includes(g)).sort((a, b) => (list.length > groupsShown ? b.ops - a.ops : 0))].slice(0, groupsShown);
  if (list.length <= groupsShown) most.sort((a, b) => byName(a.id, b.id));
  rows($("g-table"), most, (g) => [
    h("td", { class: "cell" }, chip(g.id), g.up ? null : [" ", upBadge(g)]),
    h("td", { class: "n" }, int(g.slots)), h("td", { class: "n" }, int(g.keys)), h("td", { class: "n" }, bytes(g.memory)),
    h("td", { class: "n" }, short(g.ops)), h("td", { class: "n" }, g.up ? us(g.ping_us) : "–"),
  ], "No groups yet.");
  text($("g-all"), list.length > groupsShown ? "all " + int(list.length) : "all of them");
});

on("slots", () => keep($("free"), freeNote()));
on("groups", () => keep($("free"), freeNote()));

const moves = (j) => j.phase !== "failed" && (j.phase !== "paused" || rests(j));
const all = (label, name, act) => verbButton(label, "MIGRATION " + name, () => ({ title: label.replace(" …", " migrations?"), yes: label.replace(" …", ""), done: "All migrations", fixed: { id: "ALL", forward: undefined } }), { "data-act": act + "-all" });
on("jobs", () => {
  const open = [...state.jobs.values()].filter((j) => !ended(j)).sort(byNeed);
  keep($("jobs-now"), open.length === 0 ? [] : [h("section", { class: "panel" },
    h("header", {}, h("h2", {}, "Under way" + (open.length > 1 ? ": " + int(open.length) : "")), h("span", { class: "row" }, open.some(moves) ? all("Pause all …", "PAUSE", "pause") : null,
      open.some((j) => j.phase === "paused" && !rests(j)) ? all("Resume all …", "RESUME", "resume") : null, h("a", { href: "/migrations" }, open.length > jobsShown ? "all of them" : "all migrations"))),
    h("div", { class: "grid" }, open.slice(0, jobsShown).map((j) => h("div", { class: "job" },
      h("div", { class: "title" }, h("h2", {}, h("a", { href: "/migrations#" + j.id }, j.id), h("span", { class: "muted name" }, j.source + " → " + j.target)), badge(j),
        h("span", { class: "muted" }, short(j.keys_per_s) + " keys/s · " + (j.eta_s >= 0 ? span(j.eta_s) + " left" : int(j.keys_moved) + " keys moved"))),
      j.reason && stuck(j) ? h("p", { class: "muted clip" }, j.reason) : null,
      h("div", { class: "progress" }, h("div", { class: "meter" }, h("i", { style: { width: fraction(j) * 100 + "%" } })), h("b", {}, Math.floor(fraction(j) * 100) + "%")),
    ))))]);
});

// Who lags behind the newest epoch holds up the beginning of migrations.
function gateways(o) {
  const list = o.gateways || [];
  $("gateways").hidden = list.length < 2;
  rows($("gw-table"), list, (g) => [
    h("td", { class: "cell" }, chip(g.name), g.this ? h("span", { class: "muted" }, " this one") : null),
    h("td", {}, h("span", { class: "badge " + (g.state === "serving" ? "good" : g.state === "draining" ? "warn" : "bad") }, g.state)),
    h("td", { class: "n" }, g.epoch ? g.epoch + (g.epoch < o.epoch ? " (" + (o.epoch - g.epoch) + " behind)" : "") : "–"),
    h("td", { class: "n" }, int(g.jobs)), h("td", {}, g.clients || "–"), h("td", {}, g.peers || "–"), h("td", {}, g.version || "–"),
  ], "None.");
}

async function facts() {
  try {
    const o = await get("/api/v1/overview");
    gateways(o);
    keep($("refused"), o.writes_refused ? [note({ bad: true, text: o.writes_refused }, "Writes are refused, and no keys are moved"),
      verbButton("Accept this store …", "STORE ACCEPT", () => ({ title: "Go on with this store?", yes: "Accept", done: "Store accepted" }), { "data-act": "accept-store" })] : []);
    const e = Object.entries(o.errors || {}).sort((a, b) => b[1] - a[1]).slice(0, 4).map(([k, n]) => k + " " + int(n)).join(", ");
    $("facts").replaceChildren(...[
      ["Up for", span((o.at_ms - o.started_ms) / 1000)], ["Event loops", int(o.plane.loops)], ["Topology epoch", o.epoch + (o.epoch === o.epoch_acknowledged ? "" : " (in force: " + o.epoch_acknowledged + ")")],
      ["Slots", int(o.slots) + ", scheme " + o.scheme], ["Commands so far", int(o.plane.commands)], ["Connections so far", int(o.plane.connections_received) + (o.plane.connections_rejected ? ", refused " + int(o.plane.connections_rejected) : "")],
      ["Error replies", int(o.plane.error_replies) + (e ? " (" + e + ")" : "")], ["Waited for a moving key", int(o.plane.parked_ever)], ["Replies lost", int(o.plane.lost_replies)],
    ].flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]));
  } catch (err) { toast(err.message, true); }
}

draw();
get("/api/v1/history").then((r) => { points = r.points.concat(points.filter((p) => !r.points.some((q) => q.t === p.t))); draw(); }, (e) => toast(e.message, true));
facts();
setInterval(facts, 5000);
connect();
