// Forms made of the table of verbs, so that they offer what the gateway takes.
import { ask, byName, complaint, get, h, int, run, told } from "./ui.js";
import { state } from "./live.js";
import { pager, some } from "./list.js";

export const table = get("/api/v1/verbs");
table.catch(() => {}); // told to whoever asks for a verb

/** verb is one row of the table. */
export async function verb(name) {
  return (await table).find((r) => r.name === name);
}

const pathOf = (row) => row.name.toLowerCase().replaceAll(" ", "/");
const groups = () => [...state.groups.keys()].sort(byName);

/** input is the field for a value; each kind has its own. */
function input(v, name, value, required) {
  const attrs = { name, required, value: value ?? "", placeholder: v.meta || v.name, autocomplete: "off", spellcheck: "false" };
  switch (v.kind) {
    case "choice":
      return h("select", { name, required }, h("option", { value: "" }, required ? "" : "default"), v.choices.map((c) => h("option", { value: c, selected: c === value }, c.toLowerCase())));
    case "group":
      return h("select", { name, required }, h("option", { value: "" }, ""), groups().map((g) => h("option", { value: g, selected: g === value }, g)));
    case "job": {
      const list = h("datalist", { id: "jobs-" + name }, [...state.jobs.keys()].sort(byName).map((id) => h("option", { value: id })));
      return h("span", {}, h("input", { ...attrs, list: list.id }), list);
    }
    case "secret":
      return h("input", { ...attrs, type: "password", placeholder: "", autocomplete: "new-password" });
    case "integer": case "number":
      return h("input", { ...attrs, inputmode: "decimal" });
  }
  return h("input", attrs);
}

/** optionField is a labelled field for an option; its name is that of the API's field. */
export function optionField(o, value) {
  const name = o.name.toLowerCase(), v = (o.values || [])[0];
  if (o.values?.length === 2) return pairs(o, name);
  const field = v ? input(v, name, value, o.required) : h("input", { type: "checkbox", name, checked: value === true });
  return h("label", { class: v ? "option" : "option check" }, h("span", { class: "mono" }, o.name), field, h("small", {}, o.help));
}

/** pairs is the field of an option with two values, which may be given many times: a line for each. */
function pairs(o, name) {
  const [first, second] = o.values, lines = h("div", { class: "lines" });
  const add = () => {
    const line = h("div", { class: "row pair" }, input(first, null, "", true), input({ ...second, meta: "1" }, null, "", true),
      h("button", { type: "button", class: "quiet", "aria-label": "Leave this one out", onclick: () => line.remove() }, "×"));
    line.firstChild.setAttribute("aria-label", first.name);
    line.children[1].setAttribute("aria-label", second.name);
    lines.append(line);
    line.firstChild.focus();
  };
  return h("div", { class: "option", "data-pairs": name }, h("span", { class: "mono" }, o.name), lines,
    h("div", {}, h("button", { type: "button", "data-add": name, onclick: add }, "Add one")), h("small", {}, o.help));
}

function argField(a, value) {
  return h("label", { class: "option" }, h("span", { class: "mono" }, a.name), input(a, a.name, value, !a.optional), h("small", {}, a.help));
}

/** words takes a line apart as a shell does: at blanks, but not in quotes. */
const words = (line) => [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map((m) => m[1] ?? m[2] ?? m[3]);

/** given are the fields that were filled in, of arguments and options. */
export function given(form, options, args = []) {
  const fields = {};
  for (const a of args) {
    const e = form.elements.namedItem(a.name);
    if (e && e.value.trim() !== "") fields[a.name] = a.kind === "words" ? words(e.value) : ["key", "text"].includes(a.kind) ? e.value : e.value.trim();
  }
  for (const o of options) {
    const name = o.name.toLowerCase(), several = form.querySelector("[data-pairs=" + name + "]"), e = form.elements.namedItem(name);
    if (several) {
      const list = [...several.querySelectorAll(".pair")].map((l) => [l.children[0].value, l.children[1].value.trim()]);
      if (new Set(list.map(([k]) => k)).size < list.length) throw new Error(o.name + ": one of them is given twice");
      if (list.length) fields[name] = Object.fromEntries(list);
    } else if (e?.type === "checkbox") { if (e.checked) fields[name] = true; } else if (e && e.value.trim()) fields[name] = o.values[0].kind === "secret" ? e.value : e.value.trim();
  }
  return fields;
}

/**
 * verbDialog asks for what a verb takes, but for what is fixed, and runs it. values are what the
 * fields begin with. What the verb answers is shown, if it is more than OK. An error stays in the
 * dialog, with what was typed.
 */
export async function verbDialog(name, { title, yes, done, intro, danger, fixed = {}, values = {} } = {}) {
  let row;
  try {
    row = await verb(name);
  } catch (err) { return ask({ title: title || name, yes: "Try again", body: complaint(err), run: () => location.reload() }); }
  const args = (row.args || []).filter((a) => !(a.name in fixed)), options = (row.options || []).filter((o) => !(o.name.toLowerCase() in fixed));
  return ask({
    title: title || row.short, yes: yes || "Run", danger,
    body: [h("p", {}, intro || row.help), ...args.map((a) => argField(a, values[a.name])), ...options.map((o) => optionField(o, values[o.name.toLowerCase()]))],
    run: async (form) => {
      const result = await run(pathOf(row), { ...fixed, ...given(form, options, args) }, row.long);
      if (typeof result === "string" && /^OK\b/.test(result) && !result.includes("\n")) { told(done || row.name, result); return null; }
      return answerOf(result, row.columns);
    },
  });
}

const plain = (v) => (v === null || v === undefined ? "–" : typeof v === "object" ? JSON.stringify(v) : typeof v === "number" ? (Number.isInteger(v) && v > 99999 ? int(v) : String(v)) : String(v));

/** cell is a field of an answer as a column of the table of verbs shows it. */
function cell(v, how) {
  const ranges = (v || []).length && typeof v[0] === "object" ? v : [];
  switch (how) {
    case "known": return v < 0 ? "?" : plain(v);
    case "whole": return int(v);
    case "percent": return Math.round(v * 100) + "%";
    case "quoted": return (v || []).map((x) => JSON.stringify(x)).join(" ");
    case "count": return int(ranges.reduce((n, r) => n + r.last - r.first + 1, 0));
    case "ranges": return some(ranges.map((r) => (r.first === r.last ? r.first : r.first + "-" + r.last)), 10);
  }
  return v === undefined || v === null ? "" : plain(v);
}

/** answerOf shows what a verb answered: a list of objects by the verb's columns. */
function answerOf(v, columns) {
  if (typeof v === "string") return h("pre", { class: "answer" }, v);
  if (Array.isArray(v) && v.length === 0) return h("p", { class: "note" }, "Nothing.");
  if (Array.isArray(v) && v.every((x) => x && typeof x === "object" && !Array.isArray(x))) return tableOf(v, columns);
  if (Array.isArray(v)) return h("pre", { class: "answer" }, v.map(plain).join("\n"));
  if (v && typeof v === "object") return h("dl", { class: "facts answer" }, Object.entries(v).flatMap(([k, x]) => [h("dt", {}, k), h("dd", {}, plain(x))]));
  return h("pre", { class: "answer" }, plain(v));
}

function tableOf(list, columns) {
  if (!columns) return h("div", { class: "answer" }, list.slice(0, 20).map((x) => h("dl", { class: "facts" }, Object.entries(x).flatMap(([k, y]) => [h("dt", {}, k), h("dd", {}, plain(y))]))));
  const body = h("tbody"), p = pager(50, () => draw());
  const draw = () => body.replaceChildren(...p.cut(list).map((x) => h("tr", {}, columns.map((c) => h("td", { class: "cell" }, c.format.replace(/\{(\w+):?(\w*)\}/g, (_, f, how) => cell(x[f], how)))))));
  draw();
  return h("div", { class: "answer" }, h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, columns.map((c) => h("th", {}, c.head.toLowerCase())))), body)), p.el);
}

/** verbButton is a button that asks for what a verb takes. of makes the dialog's options when it is pressed. */
export function verbButton(label, name, of, attrs = {}) {
  return h("button", { type: "button", "data-verb": name, ...attrs, onclick: () => verbDialog(name, of()) }, label);
}

/** free are the slots that nobody owns, as a verb takes them; "": there are none. */
export function free() {
  const runs = [];
  state.slots.forEach((s, i) => {
    if (!s || s.group) return;
    if (runs.length && runs.at(-1)[1] === i - 1) runs.at(-1)[1] = i; else runs.push([i, i]);
  });
  return { text: runs.map(([a, b]) => (a === b ? a : a + "-" + b)).join(","), count: runs.reduce((n, [a, b]) => n + b - a + 1, 0) };
}

/** freeNote says that slots have no owner, and offers to give them one. */
export function freeNote() {
  const f = free();
  if (f.count === 0 || state.groups.size === 0) return [];
  const all = f.count === state.slots.length;
  return [h("div", { class: "note warn between row" }, h("span", {}, h("b", {}, all ? "No slot has an owner: " : int(f.count) + (f.count === 1 ? " slot has no owner: " : " slots have no owner: ")), "commands on their keys are refused."),
    verbButton("Assign them …", "SLOT ASSIGN", () => ({ yes: "Assign", done: "Assigned", values: { slots: free().text } })))];
}

/** askAbout wires buttons of a page's HTML: those with data-verb. of makes the options of their dialogs. */
export function askAbout(of = {}) {
  for (const b of document.querySelectorAll("main button[data-verb]")) b.addEventListener("click", () => verbDialog(b.dataset.verb, of[b.dataset.verb]?.() || {}));
}
