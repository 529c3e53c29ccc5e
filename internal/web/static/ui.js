// What every page uses: elements, numbers, questions, commands.

/** h makes an element. Text is text: nothing from a server is ever read as HTML. */
export function h(tag, attrs, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (k === "style") Object.assign(e.style, v);
    else if (k === "class") e.className = v;
    else e.setAttribute(k, v === true ? "" : v);
  }
  for (const c of children.flat()) if (c !== undefined && c !== null && c !== false) e.append(c);
  return e;
}

export const $ = (id) => document.getElementById(id);

/** text changes an element's text only when it differs, so that nothing is laid out for nothing. */
export function text(e, s) { if (e.textContent !== s) e.textContent = s; }

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
export const int = (n) => (n === undefined || n === null || n < 0 ? "–" : whole.format(n));

/** short is a number in at most four digits and a letter. */
export function short(n) {
  if (n === undefined || n === null || Number.isNaN(n)) return "–";
  const a = Math.abs(n);
  if (a < 10 && a % 1 > 0.05) return n.toFixed(1);
  if (a < 10000) return whole.format(n);
  for (const [d, u] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (a >= d) return (n / d).toFixed(a / d < 100 ? 1 : 0) + u;
  return whole.format(n);
}

export function bytes(n) {
  if (n === undefined || n === null || n < 0) return "–";
  for (const [d, u] of [[2 ** 40, "TB"], [2 ** 30, "GB"], [2 ** 20, "MB"], [2 ** 10, "KB"]]) {
    if (n >= d) return (n / d).toFixed(n / d < 10 ? 2 : n / d < 100 ? 1 : 0) + " " + u;
  }
  return whole.format(n) + " B";
}

/** us is a time in µs in the unit that suits it. */
export function us(n) {
  if (n === undefined || n === null) return "–";
  if (n < 1000) return n.toFixed(0) + " µs";
  if (n < 1e6) return (n / 1000).toFixed(n < 1e4 ? 2 : n < 1e5 ? 1 : 0) + " ms";
  return (n / 1e6).toFixed(n < 1e7 ? 2 : 1) + " s";
}

export function span(s) {
  if (s === undefined || s === null || s < 0) return "–";
  s = Math.round(s);
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + String(s % 60).padStart(2, "0") + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + String(Math.floor((s % 3600) / 60)).padStart(2, "0") + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

/** Colours of groups: apart from one another for eyes of all kinds, calm on either ground. */
const palette = ["#4e79a7", "#e8903a", "#59a14f", "#b07aa1", "#3fa7a0", "#d1605e", "#c9a92c", "#8c6d55", "#7a86c8", "#c77c9b"];
const given = new Map();
export function setGroups(ids) { ids.forEach((id, i) => given.set(id, palette[i % palette.length])); }
export const colour = (group) => given.get(group) || "#9aa3af";

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export async function get(path) {
  const r = await fetch(path, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(8000) });
  return answer(r);
}

/** run runs a verb of the gateway: its path, as migration/pause, and the fields of its arguments and options. */
export async function run(path, fields) {
  const r = await fetch("/api/v1/verbs/" + path, {
    method: "POST", headers: { "Content-Type": "application/json", "X-Keyferry": "1" },
    body: JSON.stringify(fields), signal: AbortSignal.timeout(15000),
  });
  return (await answer(r)).result;
}

async function answer(r) {
  if (r.status === 401) { location.href = "/login?next=" + encodeURIComponent(location.pathname); throw new Error("sign in first"); }
  const body = await r.json().catch(() => ({ error: "HTTP " + r.status }));
  if (!r.ok) throw new Error(body.error || "HTTP " + r.status);
  return body;
}

export function toast(message, bad) {
  const t = h("div", { class: bad ? "toast bad" : "toast" }, message);
  $("toasts").append(t);
  setTimeout(() => t.remove(), bad ? 9000 : 4000);
}

/** ask asks once, and answers whether it was a yes. body may be elements. */
export function ask(title, yes, body, danger) {
  const d = $("ask");
  text($("ask-title"), title);
  $("ask-body").replaceChildren(...[body].flat());
  text($("ask-yes"), yes);
  $("ask-yes").className = danger ? "danger" : "main";
  d.returnValue = "no";
  d.showModal();
  ($("ask-body").querySelector("input") || $("ask-yes")).focus();
  return new Promise((done) => d.addEventListener("close", () => done(d.returnValue === "yes"), { once: true }));
}

/** act runs a verb behind a button and tells how it went. */
export async function act(button, what, path, fields) {
  if (button) button.disabled = true;
  try {
    const r = await run(path, fields);
    toast(typeof r === "string" && r.startsWith("OK ") ? what + ": " + r.slice(3) : what);
    return true;
  } catch (e) {
    toast(e.message, true);
    return false;
  } finally {
    if (button) button.disabled = false;
  }
}

/** rows fills a table's body, or says that there is nothing. */
export function rows(table, list, cells, nothing) {
  const body = table.tBodies[0];
  if (list.length === 0) {
    body.replaceChildren(h("tr", {}, h("td", { class: "none", colspan: table.tHead.rows[0].cells.length }, nothing)));
    return;
  }
  body.replaceChildren(...list.map((x) => h("tr", {}, cells(x))));
}

// g and a letter goes to a page; ? is not taken.
let leader = 0;
addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, select, textarea, dialog")) return;
  if (e.key === "g") { leader = e.timeStamp; return; }
  const to = { o: "/", s: "/slots", m: "/migrations", g: "/groups", k: "/keys" }[e.key];
  if (to && e.timeStamp - leader < 1200) location.href = to;
  leader = 0;
});
