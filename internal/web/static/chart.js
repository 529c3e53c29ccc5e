// Charts over time: uPlot with the page's colours, its width and a legend that does not jump.
import { css } from "./ui.js";

const HOUR = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/**
 * chart draws series over the last `window` seconds, which may be a function.
 * series: [{ label, colour: "--c1", value: (n) => text, fill, scale }]
 */
export function chart(el, series, { height = 190, window = 900, axes } = {}) {
  let plot = null, data = [[], ...series.map(() => [])], due = false;
  const scales = [...new Set(series.map((s) => s.scale || "y"))];
  function options() {
    const grid = { stroke: css("--line"), width: 1 };
    const axis = { stroke: css("--muted"), font: "11px " + css("--font"), grid, ticks: { show: false } };
    return {
      width: Math.max(el.clientWidth, 120), height: height - 26,
      padding: [8, scales.length > 1 ? 0 : 8, 0, 0],
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      legend: { live: true, isolate: false, markers: { width: 0, fill: (_, i) => css(series[i - 1].colour) } },
      scales: Object.fromEntries([["x", { time: true, range: () => { const now = last(); return [now - Math.min(typeof window === "function" ? window() : window, Math.max(60, now - (data[0][0] || now))), now]; } }],
        ...scales.map((k) => [k, { range: (_, lo, hi) => [0, Math.max(hi * 1.1 || 0, 1)] }])]),
      axes: [
        { ...axis, grid: { show: false }, space: 70, size: 22, values: (_, at) => at.map((t) => (at[1] - at[0] < 60 ? CLOCK : HOUR).format(t * 1000)) },
        ...scales.map((k, i) => {
          const s = series.find((x) => (x.scale || "y") === k);
          return { ...axis, scale: k, side: i ? 1 : 3, size: 58, space: 34, grid: i ? { show: false } : grid, values: (_, at) => at.map(s.value) };
        }),
      ],
      series: [{ value: (_, t) => (t ? new Date(t * 1000).toLocaleTimeString("en-GB") : "") , label: "" },
        ...series.map((s) => ({
          label: s.label, scale: s.scale || "y", stroke: css(s.colour), width: 1.6, points: { show: false },
          fill: s.fill ? css(s.colour) + "1f" : undefined,
          // Without a cursor the legend tells the newest.
          value: (u, v, i) => { const d = u.data[i]; const n = v ?? d[d.length - 1]; return n === null || n === undefined ? "–" : s.value(n); },
        }))],
    };
  }
  const last = () => (data[0].length ? data[0][data[0].length - 1] : Date.now() / 1000);
  function build() {
    plot?.destroy();
    plot = new uPlot(options(), data, el);
  }
  function draw() {
    due = false;
    if (!plot) build(); else plot.setData(data);
  }
  new ResizeObserver(() => { if (plot && plot.width !== el.clientWidth) plot.setSize({ width: Math.max(el.clientWidth, 120), height: height - 26 }); }).observe(el);
  addEventListener("themechange", () => { if (plot) build(); });
  return {
    /** set takes columns: seconds, then one array for each series. */
    set(columns) {
      data = columns;
      if (!due) { due = true; requestAnimationFrame(draw); }
    },
  };
}
