// Long lists: a page of them at a time, and only what is asked for.
import { h, int, text } from "./ui.js";

/**
 * pager cuts a list into pages of `size`. changed is called when another page is asked for. Its
 * element is hidden while one page is enough.
 */
export function pager(size, changed) {
  let at = 0, total = 0;
  const words = h("span", { class: "muted", "aria-live": "polite" });
  const step = (by, label, sign) => h("button", { type: "button", class: "quiet", "aria-label": label, onclick: () => { at += by * size; changed(); } }, sign);
  const back = step(-1, "Previous page", "‹"), on = step(1, "Next page", "›");
  const el = h("div", { class: "row end pager", hidden: true }, back, words, on);
  return {
    el,
    /** cut is the page of list that is looked at; list may have become shorter. */
    cut(list) {
      total = list.length;
      at = Math.max(0, Math.min(at, Math.ceil(total / size) * size - size));
      el.hidden = total <= size;
      back.disabled = at === 0;
      on.disabled = at + size >= total;
      text(words, int(at + 1) + "–" + int(Math.min(at + size, total)) + " of " + int(total));
      return list.slice(at, at + size);
    },
    first() { at = 0; },
  };
}

/** matches says whether every word of the query is somewhere in the texts. */
export function matches(query, ...texts) {
  const all = texts.join(" ").toLowerCase();
  return query.toLowerCase().split(/\s+/).every((w) => all.includes(w));
}

/** few hides the search and the filter of a list that is short, unless they are in use. */
export function few(short, find, show) {
  for (const e of [find, show]) e.parentElement.hidden = short && find.value === "" && show.value === "all";
}

/** some names a few things and says how many more there are. */
export const some = (list, n) => list.slice(0, n).join(", ") + (list.length > n ? " and " + int(list.length - n) + " more" : "");
