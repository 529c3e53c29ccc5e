import { $, complaint, h, rows } from "./ui.js";
import { connect } from "./live.js";
import { matches } from "./list.js";
import { table, verbDialog } from "./verb.js";

// The keyferry command's own verbs, and those of RESP alone, have no form.
const offered = table.then((list) => list.filter((r) => !r.only));

function draw(list) {
  const query = $("find").value;
  rows($("verbs"), list.filter((r) => matches(query, r.name, r.short, r.help)), (r) => [
    h("td", {}, h("button", { type: "button", class: "link mono", "data-verb": r.name, onclick: () => verbDialog(r.name, { title: r.name }) }, r.name)),
    h("td", { class: "cell" }, r.short), h("td", { class: "muted" }, r.role)], "No such verb.");
}

offered.then((list) => {
  $("find").addEventListener("input", () => { $("verbs").tBodies[0].replaceChildren(); draw(list); });
  draw(list);
}, (err) => $("verbs").replaceWith(complaint(err)));
connect();
