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

/** byName sorts as people count: m2 before m10. */
const names = new Intl.Collator("en", { numeric: true });
export const byName = (a, b) => names.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);

/** Colours of groups: apart from one another for eyes of all kinds, calm on either ground. */
const palette = ["#4e79a7", "#e8903a", "#59a14f", "#b07aa1", "#3fa7a0", "#d1605e", "#c9a92c", "#8c6d55", "#7a86c8", "#c77c9b"];
const given = new Map();
export function setGroups(ids) { ids.forEach((id, i) => given.set(id, palette[i % palette.length])); }
export const colour = (group) => given.get(group) || "#9aa3af";

/** chip is a group's name with its colour. A long name breaks where it must. */
export const chip = (group) => h("span", { class: "name", title: group }, h("i", { class: "dot", style: { background: colour(group) } }), h("span", {}, group));

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export async function get(path) {
  return answer(await fetch(path, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(8000) }));
}

/**
 * run runs a verb of the gateway: its path, as migration/pause, and the fields of its arguments and
 * options. One that looks at every key may take long.
 */
export async function run(path, fields, long) {
  let r;
  try {
    r = await fetch("/api/v1/verbs/" + path, {
      method: "POST", headers: { "Content-Type": "application/json", "X-Keyferry": "1" },
      body: JSON.stringify(fields), signal: long ? undefined : AbortSignal.timeout(15000),
    });
  } catch (err) {
    throw new Error("No answer from the gateway (" + err.message + "). It may have been done all the same: look before you try again.");
  }
  return (await answer(r)).result;
}

async function answer(r) {
  if (r.status === 401) {
    dispatchEvent(new Event("signedout"));
    throw Object.assign(new Error("You are signed out. Sign in again in another tab, then come back to this one."), { signIn: true });
  }
  const body = await r.json().catch(() => ({ error: "HTTP " + r.status }));
  if (!r.ok) throw new Error(body.error || "HTTP " + r.status);
  return body;
}

/** signIn leads to the sign-in, and leaves this page as it is. */
export const signIn = () => h("a", { href: "/login?next=" + encodeURIComponent(location.pathname), target: "_blank" }, "Sign in");

/** complaint is an error as it stands in a page or a dialog. */
export function complaint(err, title) {
  return h("div", { class: "note bad", role: "alert" }, title ? h("b", {}, title + ": ") : null, err.message, err.signIn ? [" ", signIn()] : null);
}

export function toast(message, bad) {
  const t = h("div", { class: bad ? "toast bad" : "toast" }, message);
  $("toasts").append(t);
  setTimeout(() => t.remove(), bad ? 9000 : 4000);
}

/** told tells that a verb has worked, with what it said besides OK. */
export function told(what, result) {
  toast(typeof result === "string" && result.startsWith("OK ") ? what + ": " + result.slice(3) : what);
}

/** started tells of new jobs, whose ids may be many. */
export function started(ids) {
  const list = [ids].flat();
  toast(list.length > 5 ? "Started " + int(list.length) + " migrations, from " + list[0] + " to " + list.at(-1) : "Started " + list.join(", "));
}

// The question that the dialog is about: { title, run, done, worked }.
let question = null;

/**
 * ask asks, and on a yes calls `run` with the dialog's form. What that throws stays in the dialog, with
 * all that was typed; when it has worked the dialog closes, or shows the element that it returned.
 * ask answers whether it has worked.
 */
export function ask({ title, yes, body, danger, run }) {
  const d = $("ask"), go = $("ask-yes");
  over();
  text($("ask-title"), title);
  $("ask-body").replaceChildren(...[body].flat());
  $("ask-said").replaceChildren();
  text(go, yes);
  text($("ask-no"), "Not now");
  go.className = danger ? "danger" : "main";
  go.disabled = false;
  d.classList.remove("wide");
  d.showModal();
  ($("ask-body").querySelector("input, select") || go).focus();
  return new Promise((done) => { question = { title, run, done, worked: false }; });
}

function over() {
  question?.done(question.worked);
  question = null;
}

async function answered(e) {
  e.preventDefault();
  const q = question, d = $("ask"), go = $("ask-yes"), said = $("ask-said"), here = () => q === question && d.open;
  if (!q || go.disabled) return;
  go.disabled = true;
  said.replaceChildren(h("p", { class: "muted" }, "Asking the gateway …"));
  try {
    const result = await q.run?.(d.querySelector("form"));
    q.worked = true;
    if (!here()) { toast(q.title.replace(/\?$/, "") + ": done"); return; }
    if (!(result instanceof Node)) { d.close(); return; }
    said.replaceChildren(result);
    d.classList.add("wide");
    text($("ask-no"), "Close");
  } catch (err) { // the dialog may be gone, or about something else by now
    if (here()) said.replaceChildren(complaint(err)); else toast(err.message, true);
  } finally { if (here()) go.disabled = false; }
}
$("ask").querySelector("form").addEventListener("submit", answered);
$("ask-no").addEventListener("click", () => $("ask").close());
// The event comes later than the closing: another question may have been asked by then.
$("ask").addEventListener("close", () => { if (!$("ask").open) over(); });

/** rows fills a table's body, as keep does, or says that there is nothing. */
export function rows(table, list, cells, nothing) {
  keep(table.tBodies[0], list.length ? list.map((x) => h("tr", {}, cells(x))) : [h("tr", {}, h("td", { class: "none", colspan: table.tHead.rows[0].cells.length }, nothing))]);
}

/**
 * keep makes a place have these elements, and changes only what differs: what is focused or selected
 * there stays. So does what a button does while the button looks the same.
 */
export function keep(place, list) {
  list.forEach((e, i) => { if (place.children[i]) morph(place.children[i], e); else place.append(e); });
  while (place.children.length > list.length) place.lastElementChild.remove();
}

function morph(old, now) {
  if (old.isEqualNode(now)) return;
  const parts = [...now.childNodes];
  // A button that differs may do something else, too.
  if (old.nodeType !== 1 || old.nodeName !== now.nodeName || old.nodeName === "BUTTON" || old.childNodes.length !== parts.length) { old.replaceWith(now); return; }
  for (const { name } of [...old.attributes]) if (!now.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of [...now.attributes]) {
    if (name === "style") old.style.cssText = now.style.cssText; // the attribute is not ours to set, by the policy of the page
    else if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  [...old.childNodes].forEach((e, i) => morph(e, parts[i]));
}

// g and a letter goes to a page; ? is not taken.
let leader = 0;
addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, select, textarea, dialog")) return;
  if (e.key === "g") { leader = e.timeStamp; return; }
  const to = { o: "/", s: "/slots", m: "/migrations", g: "/groups", k: "/keys", v: "/verbs" }[e.key];
  if (to && e.timeStamp - leader < 1200) location.href = to;
  leader = 0;
});
