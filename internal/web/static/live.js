// What the gateway is like, kept up to date by its stream of events.
import { $, byName, get, setGroups, signIn, text } from "./ui.js";

export const state = { point: null, groups: new Map(), jobs: new Map(), slots: [], heat: null };
const listeners = new Map();

/** on calls f when a kind of news has come: point, groups, jobs, slots, heat. */
export function on(kind, f) {
  if (!listeners.has(kind)) listeners.set(kind, []);
  listeners.get(kind).push(f);
}

/** down says that a group's server does not answer. One that has not been asked yet is neither up nor down. */
export const down = (g) => !g.up && (g.seen_ms > 0 || !!g.error);

// On every page the menu says how many servers are down.
on("groups", () => {
  const n = [...state.groups.values()].filter(down).length, e = $("down-count");
  e.hidden = n === 0;
  text(e, String(n));
  e.title = n + (n === 1 ? " server is" : " servers are") + " down";
});

function tell(kind, news) { for (const f of listeners.get(kind) || []) f(news); }

function say(s, words) {
  const e = $("live");
  if (e.dataset.state !== s) e.dataset.state = s;
  text(e.lastElementChild, words);
}

/** merge puts the fields of a delta into the rows of m. */
function merge(m, delta) {
  for (const [id, fields] of Object.entries(delta)) {
    if (fields === null) { m.delete(id); continue; }
    const row = m.get(id) || {};
    for (const [k, v] of Object.entries(fields)) if (v === null) delete row[k]; else row[k] = v;
    m.set(id, row);
  }
}

const take = {
  point(p) { state.point = p; },
  groups(d) { merge(state.groups, d); setGroups([...state.groups.keys()].sort(byName)); },
  jobs(d) { merge(state.jobs, d); },
  slots(runs) { for (const r of runs) for (let i = r.first; i <= r.last; i++) state.slots[i] = r; },
  heat(packed) {
    const raw = atob(packed);
    if (!state.heat) state.heat = new Uint8Array(16384);
    for (let i = 0; i + 2 < raw.length; i += 3) state.heat[(raw.charCodeAt(i) << 8) | raw.charCodeAt(i + 1)] = raw.charCodeAt(i + 2);
    return true;
  },
};

/** hear takes one piece of news. */
export function hear(kind, news) {
  take[kind](news);
  tell(kind, news);
}

/** connect follows the stream. It comes back by itself; while it is away the page says so. */
export function connect({ heat = false } = {}) {
  let last = 0, s = null, out = false;
  function open() {
    s = new EventSource("/api/v1/events" + (heat ? "?heat=1" : ""));
    s.onopen = () => { // the server tells everything again
      state.groups.clear(); state.jobs.clear(); state.slots = []; state.heat = null;
      last = performance.now();
      out = false;
      say("on", "live");
    };
    s.onerror = () => {
      if (!out) say("off", "not connected");
      if (s.readyState === EventSource.CLOSED) setTimeout(again, 3000); // refused: the browser does not try again
    };
    for (const kind of Object.keys(take)) {
      s.addEventListener(kind, (e) => {
        last = performance.now();
        hear(kind, JSON.parse(e.data));
      });
    }
  }
  const again = () => get("/api/v1/overview").then(open, () => setTimeout(again, 3000));
  // What was typed stays: the page says that it is signed out, and goes nowhere.
  addEventListener("signedout", () => {
    if (out) return;
    out = true;
    say("off", "");
    $("live").lastElementChild.replaceChildren("signed out: ", signIn());
  });
  setInterval(() => {
    if (s.readyState !== EventSource.OPEN) return;
    if (performance.now() - last > 5000) say("off", "no news for " + Math.round((performance.now() - last) / 1000) + " s"); else say("on", "live");
  }, 1000);
  addEventListener("pagehide", () => s.close());
  open();
}
