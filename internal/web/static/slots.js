import { $, byName, colour, css, h, int, keep, short, text } from "./ui.js";
import { connect, on, state } from "./live.js";
import { count, moveForm } from "./plan.js";
import { fraction } from "./job.js";
import { some } from "./list.js";
import { askAbout, freeNote } from "./verb.js";

// Two layers: one pixel for each slot, which the browser scales, and the lines, the selection
// and the cursor above it, which are drawn only when they change.
const canvas = $("map"), over = $("over"), tip = $("tip"), c = canvas.getContext("2d"), o = over.getContext("2d");
let total = 16384, columns = 128, lines = 128, image = null, theme = null;
let cursor = -1, from = -1, to = -1, dragging = false, dirty = true, moving = false;

const rgb = (hex) => [parseInt(hex.slice(1, 3), 16), parseInt(hex.slice(3, 5), 16), parseInt(hex.slice(5, 7), 16)];
const still = matchMedia("(prefers-reduced-motion: reduce)");

function layout() {
  total = state.slots.length || 16384;
  const wide = canvas.parentElement.clientWidth;
  columns = total === 1024 ? (wide > 700 ? 64 : 32) : wide > 700 ? 256 : 128;
  lines = total / columns;
  const ratio = Math.min(devicePixelRatio || 1, 2), cell = wide / columns;
  const height = Math.round(lines * Math.max(cell * (wide > 700 ? 1.75 : 1.25), 3.2));
  canvas.style.height = over.style.height = height + "px";
  canvas.width = columns;
  canvas.height = lines;
  over.width = Math.round(wide * ratio);
  over.height = Math.round(height * ratio);
  image = c.createImageData(columns, lines);
  theme = { ground: rgb(css("--sunk")), panel: css("--panel"), text: css("--text") };
  overlay();
  paint(performance.now()); // at once: an empty map would flash
}

/** paint makes the pixel of each slot. A moving slot is on its way from one colour to the other. */
function paint(time, onlyMoving) {
  const { ground } = theme, px = image.data;
  moving = false;
  let run = null, a = ground, b = null, part = 0;
  for (let i = 0; i < total; i++) {
    const s = state.slots[i];
    if (s !== run) {
      run = s;
      a = s && s.group ? rgb(colour(s.group)) : ground;
      b = s && s.state === "moving" ? rgb(colour(s.target)) : null;
      if (b) { moving = true; part = fraction(state.jobs.get(s.job) || {}); }
    }
    if (onlyMoving && !b) continue;
    // From two thirds to the full colour by how much the slot is used.
    const light = state.heat ? 0.64 + Math.min(state.heat[i], 9) / 25 : 0.8;
    let x = a[0], y = a[1], z = a[2];
    if (b) {
      const wave = still.matches ? 0.5 : 0.5 + 0.5 * Math.sin(time / 260 - i / 9);
      const k = Math.min(1, part + (1 - part) * 0.45 * wave);
      x += (b[0] - x) * k; y += (b[1] - y) * k; z += (b[2] - z) * k;
    }
    const p = i * 4;
    px[p] = ground[0] + (x - ground[0]) * light;
    px[p + 1] = ground[1] + (y - ground[1]) * light;
    px[p + 2] = ground[2] + (z - ground[2]) * light;
    px[p + 3] = 255;
  }
  c.putImageData(image, 0, 0);
}

/** overlay draws the lines between cells, the selection and the cursor. */
function overlay() {
  const w = over.width / columns, t = over.height / lines;
  o.clearRect(0, 0, over.width, over.height);
  o.fillStyle = theme.panel;
  o.globalAlpha = 0.55;
  if (w > 3.5) for (let i = 1; i < columns; i++) o.fillRect(Math.round(i * w) - 0.5, 0, 1, over.height);
  if (t > 5) for (let i = 1; i < lines; i++) o.fillRect(0, Math.round(i * t) - 0.5, over.width, 1);
  if (from >= 0) {
    const lo = Math.min(from, to), hi = Math.max(from, to);
    o.fillStyle = theme.text;
    o.globalAlpha = 0.32;
    for (let l = Math.floor(lo / columns); l <= Math.floor(hi / columns); l++) {
      const x0 = l === Math.floor(lo / columns) ? lo % columns : 0, x1 = l === Math.floor(hi / columns) ? hi % columns : columns - 1;
      o.fillRect(x0 * w, l * t, (x1 - x0 + 1) * w, t);
    }
  }
  o.globalAlpha = 1;
  if (cursor >= 0) {
    o.strokeStyle = theme.text;
    o.lineWidth = 2;
    o.strokeRect((cursor % columns) * w - 1, Math.floor(cursor / columns) * t - 1, w + 2, t + 2);
  }
}

// Pictures are made when something has changed, and four times a second while slots move:
// a timer rather than every frame, so that nothing is done in between.
let due = null;
function wake() {
  dirty = true;
  schedule(40);
}
function schedule(ms) {
  if (due === null) due = setTimeout(picture, ms);
}
function picture() {
  due = null;
  const time = performance.now();
  if (document.visibilityState === "visible") {
    paint(time, !dirty);
    performance.mark("slots-painted");
    dirty = false;
  }
  if (moving && !still.matches) schedule(250);
}
let drawn = false;
function redraw() {
  if (!drawn) { drawn = true; requestAnimationFrame(() => { drawn = false; overlay(); }); }
}

function describe(i) {
  const s = state.slots[i];
  if (!s) return "slot " + i;
  const parts = ["slot " + i];
  if (s.state === "moving") {
    const j = state.jobs.get(s.job);
    parts.push(s.group + " → " + s.target + " (" + s.job + ", " + Math.floor(fraction(j || {}) * 100) + " %)");
  } else parts.push(s.group || "nobody's");
  const g = state.groups.get(s.group);
  if (g && g.slots > 0) parts.push("≈ " + short(g.keys / g.slots) + " keys");
  if (state.heat) parts.push(state.heat[i] ? "≈ " + short(2 ** state.heat[i] / 5.6) + " ops/s" : "not used lately");
  return parts.join(" · ");
}

function point(i, x, y) {
  cursor = i;
  const words = describe(i);
  text($("tip-live"), from >= 0 && from !== to ? selection() : words);
  if (x === undefined) tip.hidden = true;
  else {
    tip.hidden = false;
    text(tip, words);
    const width = canvas.clientWidth;
    tip.style.left = Math.max(0, Math.min(x + 14, width - tip.offsetWidth)) + "px";
    tip.style.top = (y + 44 > canvas.clientHeight ? y - 40 : y + 16) + "px";
  }
  redraw();
}

function selection() {
  const lo = Math.min(from, to), hi = Math.max(from, to), of = new Map();
  for (let i = lo; i <= hi; i++) { const g = state.slots[i]?.group || "nobody"; of.set(g, (of.get(g) || 0) + 1); }
  return "slots " + lo + "–" + hi + ", " + int(hi - lo + 1) + " of them: " + some([...of].sort((a, b) => b[1] - a[1]).map(([g, n]) => g + " " + int(n)), 5);
}

function select(a, b) {
  from = a;
  to = b;
  $("move").elements.slots.value = Math.min(a, b) === Math.max(a, b) ? String(a) : Math.min(a, b) + "-" + Math.max(a, b);
  text($("tip-live"), selection());
  redraw();
}

function at(e) {
  const r = canvas.getBoundingClientRect();
  const x = Math.max(0, Math.min(columns - 1, Math.floor((e.clientX - r.left) / r.width * columns)));
  const y = Math.max(0, Math.min(lines - 1, Math.floor((e.clientY - r.top) / r.height * lines)));
  return [y * columns + x, e.clientX - r.left, e.clientY - r.top];
}

canvas.addEventListener("pointerdown", (e) => { dragging = true; canvas.setPointerCapture(e.pointerId); const [i] = at(e); select(i, i); });
canvas.addEventListener("pointermove", (e) => { const [i, x, y] = at(e); if (dragging) select(from, i); point(i, x, y); });
canvas.addEventListener("pointerup", () => { dragging = false; });
canvas.addEventListener("pointerleave", () => { if (!dragging) { tip.hidden = true; cursor = -1; redraw(); } });
canvas.addEventListener("blur", () => { cursor = -1; redraw(); });
canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible") && cursor < 0) point(0); });
canvas.addEventListener("keydown", (e) => {
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -8 * columns, PageDown: 8 * columns, Home: -total, End: total }[e.key];
  if (e.key === "Enter") { $("move").elements.slots.focus(); return; }
  if (e.key === "Escape") { from = to = -1; $("move").elements.slots.value = ""; redraw(); return; }
  if (step === undefined) return;
  e.preventDefault();
  const i = Math.max(0, Math.min(total - 1, (cursor < 0 ? 0 : cursor) + step));
  if (e.shiftKey) select(from < 0 ? Math.max(cursor, 0) : from, i); else from = to = -1;
  point(i);
});
$("clear").addEventListener("click", () => { from = to = -1; $("move").reset(); $("plan").replaceChildren(); redraw(); });
$("move").addEventListener("started", () => { from = to = -1; redraw(); });

function legend() {
  const of = new Map();
  let m = 0, none = 0;
  for (const s of state.slots) {
    if (!s) continue;
    if (s.state === "moving") m++;
    if (s.group) of.set(s.group, (of.get(s.group) || 0) + 1); else none++;
  }
  for (const g of state.groups.keys()) if (!of.has(g)) of.set(g, 0);
  const list = [...of].sort(([a], [b]) => byName(a, b)), shown = everyGroup ? list : list.slice(0, legendShown);
  const items = shown.map(([g, n]) => h("span", { "data-group": g, class: "name" }, h("i", { style: { background: colour(g) } }), h("span", {}, g + " " + int(n))));
  if (list.length > shown.length) items.push(h("button", { type: "button", class: "link", onclick: () => { everyGroup = true; legend(); } }, "and " + int(list.length - shown.length) + " more"));
  if (none) items.push(h("span", {}, h("i", { style: { background: css("--sunk") } }), "nobody's " + int(none)));
  if (m) items.push(h("span", {}, int(m) + " moving"));
  keep($("legend"), items);
  keep($("free"), freeNote());
}
const legendShown = 20;
let everyGroup = false;

on("slots", () => { if (state.slots.length !== total || !image) layout(); legend(); wake(); });
on("groups", () => { legend(); wake(); });
on("jobs", () => { if (moving) wake(); });
on("heat", wake);
new ResizeObserver(() => { if (over.width !== Math.round(canvas.parentElement.clientWidth * Math.min(devicePixelRatio || 1, 2))) layout(); }).observe(canvas.parentElement);
addEventListener("themechange", () => { layout(); legend(); });
addEventListener("visibilitychange", wake);
layout();
moveForm();
// What is selected is what a verb about slots begins with.
const selected = (more) => () => ({ values: { slots: $("move").elements.slots.value }, ...more });
askAbout({ "SLOT ASSIGN": selected({ yes: "Assign", done: "Assigned" }), "SLOT UNASSIGN": selected({ yes: "Take them", danger: true, done: "Taken" }), "SLOT CHECK": () => ({ yes: "Look" }) });
connect({ heat: true });

// What a test can ask the map.
window.slotMap = { colourAt: (i) => state.slots[i]?.group, painted: () => !dirty, state, count };
