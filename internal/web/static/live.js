// What the gateway is like, kept up to date by its stream of events.
import { $, setGroups, text } from "./ui.js";

export const state = { point: null, groups: new Map(), jobs: new Map(), slots: [], heat: null };
const listeners = new Map();

/** on calls f when a kind of news has come: point, groups, jobs, slots, heat. */
export function on(kind, f) {
  if (!listeners.has(kind)) listeners.set(kind, []);
  listeners.get(kind).push(f);
}

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
  groups(d) { merge(state.groups, d); setGroups([...state.groups.keys()].sort()); },
  jobs(d) { merge(state.jobs, d); },
  slots(runs) { for (const r of runs) for (let i = r.first; i <= r.last; i++) state.slots[i] = r; },
  heat(packed) {
    const raw = atob(packed);
    if (!state.heat) state.heat = new Uint8Array(16384);
    for (let i = 0; i + 2 < raw.length; i += 3) state.heat[(raw.charCodeAt(i) << 8) | raw.charCodeAt(i + 1)] = raw.charCodeAt(i + 2);
    return true;
  },
};

/** connect follows the stream. It comes back by itself; while it is away the page says so. */
export function connect({ heat = false } = {}) {
  let last = 0;
  const s = new EventSource("/api/v1/events" + (heat ? "?heat=1" : ""));
  s.onopen = () => { // the server tells everything again
    state.groups.clear(); state.jobs.clear(); state.slots = []; state.heat = null;
    last = performance.now();
    say("on", "live");
  };
  s.onerror = () => say("off", "not connected");
  for (const kind of Object.keys(take)) {
    s.addEventListener(kind, (e) => {
      last = performance.now();
      const news = JSON.parse(e.data);
      take[kind](news);
      tell(kind, news);
    });
  }
  setInterval(() => {
    if (s.readyState === EventSource.OPEN && performance.now() - last > 5000) say("off", "no news for " + Math.round((performance.now() - last) / 1000) + " s");
    else if (s.readyState === EventSource.OPEN) say("on", "live");
  }, 1000);
  addEventListener("pagehide", () => s.close());
}
