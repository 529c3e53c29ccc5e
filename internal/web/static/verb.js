// Forms made of the table of verbs, so that they offer what the gateway takes.
import { get, h } from "./ui.js";

const table = get("/api/v1/verbs");
table.catch(() => {}); // told to whoever asks for a verb

/** verb is one row of the table. */
export async function verb(name) {
  return (await table).find((r) => r.name === name);
}

/** optionField is a labelled field for an option; its name is that of the API's field. */
export function optionField(o, value) {
  const name = o.name.toLowerCase(), v = (o.values || [])[0];
  const input = !v ? h("input", { type: "checkbox", name, checked: value === true })
    : v.kind === "choice" ? h("select", { name }, h("option", { value: "" }, "default"), v.choices.map((c) => h("option", { value: c, selected: c === value }, c.toLowerCase())))
      : h("input", { name, value: value || "", placeholder: v.meta || v.name, autocomplete: "off", spellcheck: "false", inputmode: ["integer", "number"].includes(v.kind) ? "decimal" : null });
  return h("label", { class: v ? "option" : "option check" }, h("span", { class: "mono" }, o.name), input, h("small", {}, o.help));
}

/** given are the fields that were filled in. */
export function given(form, options) {
  const fields = {};
  for (const o of options) {
    const name = o.name.toLowerCase(), e = form.elements[name];
    if (e.type === "checkbox") { if (e.checked) fields[name] = true; } else if (e.value.trim()) fields[name] = e.value.trim();
  }
  return fields;
}
