// Quality over time with its interval, the threshold, and the fan of when it will be crossed.
import { draw, make } from "./make.js";
import { basis } from "./parts.js";
import { count, day, figure, ms, now, short, time } from "./words.js";

const DAY = 864e5, STEPS = [1 / 24, 1 / 8, 0.25, 0.5, 1, 2, 7, 14, 30.4375, 91.3125, 182.625, 365.25].map((days) => days * DAY);
const MARGIN = { top: 26, right: 16, bottom: 44, left: 46 };

const known = (point) => typeof point.estimate === "number";

// The part of time and of quality that is shown; the forecast takes at most as much room as the past.
function frame(width, data) {
  const { series, forecast, threshold } = data, height = width < 560 ? 280 : 340;
  const first = ms(series[0].window_start), last = ms(series.at(-1).window_end);
  const until = [forecast.high, forecast.best_before, forecast.low].filter(Boolean).map(ms), past = Math.max(last, now()) - first;
  const to = Math.min(Math.max(now(), last, ...until) + past * 0.05, Math.max(last, now()) + past);
  const values = series.filter(known).flatMap((p) => [p.low ?? p.estimate, p.high ?? p.estimate]);
  if (typeof threshold === "number") values.push(threshold);
  if (!values.length) values.push(0, 1);
  const low = Math.min(...values), high = Math.max(...values), pad = Math.max((high - low) * 0.12, 0.005);
  const unit = low >= 0 && high <= 1; // a share stays within its bounds
  const [bottom, top] = [unit ? Math.max(low - pad, 0) : low - pad, unit ? Math.min(high + pad, 1) : high + pad];
  const x = (at) => MARGIN.left + ((at - first) / (to - first)) * (width - MARGIN.left - MARGIN.right);
  const y = (value) => height - MARGIN.bottom - ((value - bottom) / (top - bottom)) * (height - MARGIN.top - MARGIN.bottom);
  return { width, height, first, last, to, bottom, top, x, y, left: MARGIN.left, right: width - MARGIN.right, floor: height - MARGIN.bottom, roof: MARGIN.top };
}

function round(span, most) {
  const rough = span / most, power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map((m) => m * power).find((step) => step >= rough);
}

function axes(f, metric) {
  const parts = [], step = round(f.top - f.bottom, 5);
  for (let value = Math.ceil(f.bottom / step) * step; value <= f.top + 1e-9; value += step) {
    parts.push(draw("line", { class: "grid", x1: f.left, x2: f.right, y1: f.y(value), y2: f.y(value) }),
      draw("text", { class: "tick", x: f.left - 8, y: f.y(value) + 4, "text-anchor": "end" }, short(Number(value.toFixed(6)))));
  }
  const room = Math.max(Math.floor((f.right - f.left) / 92), 2), span = STEPS.find((s) => (f.to - f.first) / s <= room) ?? 730.5 * DAY;
  const fine = span < DAY;
  for (let at = Math.ceil(f.first / span) * span; at <= f.to; at += span) {
    const x = f.x(at);
    if (x > f.right - 14) break;
    parts.push(draw("line", { class: "notch", x1: x, x2: x, y1: f.floor, y2: f.floor + 5 }),
      draw("text", { class: "tick", x, y: f.floor + 32, "text-anchor": x < f.left + 20 ? "start" : "middle" }, fine ? `${day(at)}, ${time(at)}` : day(at)));
  }
  parts.push(draw("line", { class: "axis-line", x1: f.left, x2: f.right, y1: f.floor, y2: f.floor }),
    draw("text", { class: "tick unit", x: f.left - 38, y: 13 }, `${metric ?? "quality"}${f.bottom >= 0 && f.top <= 1 ? " (share of 1)" : ""}`));
  return parts;
}

// Runs of windows with an estimate: between them nothing is drawn, because nothing is known.
function runs(series) {
  const found = [];
  for (const point of series) {
    if (!known(point)) found.push([]);
    else if (found.length) found.at(-1).push(point);
    else found.push([point]);
  }
  return found.filter((run) => run.length);
}

const centre = (point) => ms(point.window_end);
const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function past(f, series) {
  const parts = [];
  for (const run of runs(series)) {
    const band = [...run.map((p) => [f.x(centre(p)), f.y(p.high ?? p.estimate)]), ...run.toReversed().map((p) => [f.x(centre(p)), f.y(p.low ?? p.estimate)])];
    parts.push(draw("path", { class: "band", d: `${line(band)}Z` }), draw("path", { class: "estimate", d: line(run.map((p) => [f.x(centre(p)), f.y(p.estimate)])) }));
    if (run.length === 1) parts.push(draw("circle", { class: "dot-now", cx: f.x(centre(run[0])), cy: f.y(run[0].estimate), r: 3 }));
  }
  const strip = series.map((p) => draw("rect", { class: `basis basis-${p.basis ?? "none"}`, x: f.x(ms(p.window_start)) + 0.3, width: Math.max(f.x(ms(p.window_end)) - f.x(ms(p.window_start)) - 0.6, 0.5), y: f.floor + 8, height: 7 }));
  return [...parts, ...strip];
}

// Lines from the present interval to the dates: what is forecast are the dates, the lines only lead there.
function fan(f, { series, forecast, threshold }) {
  const last = series.findLast(known), { low, best_before: middle, high } = forecast;
  if (!last || typeof threshold !== "number" || (!low && !middle) || (last.high ?? last.estimate) < threshold) return [];
  const [x0, y0, floor] = [f.x(centre(last)), f.y(last.estimate), f.y(threshold)], early = f.x(ms(low ?? middle));
  const top = high ? [[f.x(ms(high)), floor]] : [[f.x(f.to), f.y(last.high ?? last.estimate)], [f.x(f.to), floor]];
  const start = [[x0, f.y(last.low ?? last.estimate)], [x0, f.y(last.high ?? last.estimate)]];
  const parts = [draw("path", { class: "fan", d: `${line([...start, ...top, [early, floor]])}Z`, "clip-path": "url(#plot)" })];
  if (middle) parts.push(draw("path", { class: "fan-middle", d: line([[x0, y0], [f.x(ms(middle)), floor]]), "clip-path": "url(#plot)" }));
  const end = high ? Math.min(f.x(ms(high)), f.right) : f.right;
  if (early < f.right) parts.push(draw("line", { class: "when", x1: early, x2: Math.max(end, early + 2), y1: floor, y2: floor }), draw("line", { class: "when-end", x1: early, x2: early, y1: floor - 6, y2: floor + 6 }));
  if (high && end < f.right) parts.push(draw("line", { class: "when-end", x1: end, x2: end, y1: floor - 6, y2: floor + 6 }));
  if (middle && f.x(ms(middle)) <= f.right) {
    const x = f.x(ms(middle));
    parts.push(draw("path", { class: "when-middle", d: `M${x - 6} ${floor}L${x} ${floor - 6}L${x + 6} ${floor}L${x} ${floor + 6}Z` }),
      draw("text", { class: "mark", x: Math.min(x, f.right - 4), y: floor - 12, "text-anchor": x > f.right - 60 ? "end" : "middle" }, `best before ${day(ms(middle))}`));
  } else if (middle) {
    parts.push(draw("text", { class: "mark", x: f.right - 4, y: floor - 12, "text-anchor": "end" }, `best before ${day(ms(middle))} →`));
  }
  return parts;
}

function marks(f, data) {
  const parts = [], told = [
    ...data.triggers.filter((one) => one.state !== "advice").map((one) => [one.created_at, one.action === "retrain" ? "retraining asked for" : `${one.action} asked for`, "asked"]),
    ...data.lifecycle.filter((one) => ["deployed", "promoted", "rolled-back", "retrained"].includes(one.kind)).map((one) => [one.time, `${one.kind} ${one.version}`, "life"]),
  ];
  let row = 0;
  for (const [text, word, kind] of told.slice(0, 20).sort((a, b) => ms(a[0]) - ms(b[0]))) {
    const x = f.x(ms(text));
    if (x < f.left || x > f.right) continue;
    const side = x > f.width * 0.6 ? "end" : "start", y = f.roof + 10 + (row++ % 3) * 15;
    parts.push(draw("line", { class: `mark-${kind}`, x1: x, x2: x, y1: f.roof - 2, y2: f.floor }),
      draw("text", { class: "mark", x: x + (side === "end" ? -5 : 5), y, "text-anchor": side }, word));
  }
  const x = f.x(now());
  if (x <= f.right) parts.push(draw("line", { class: "now-line", x1: x, x2: x, y1: f.roof - 8, y2: f.floor }), draw("text", { class: "mark now-word", x, y: f.roof - 12, "text-anchor": "middle" }, "now"));
  return parts;
}

export const saying = (p) => `${day(ms(p.window_end))}${ms(p.window_end) - ms(p.window_start) < DAY ? `, ${time(ms(p.window_end))}` : ""}: `
  + `${known(p) ? `${figure(p.estimate)}${typeof p.low === "number" ? `, 90% between ${figure(p.low)} and ${figure(p.high)}` : ""}` : "unknown"}; `
  + `${count(p.n)} inferences, ${count(p.n_labelled)} labels; ${basis(p.basis)}`;

function summary(data) {
  const points = data.series.filter(known), metric = data.metric ?? "quality";
  if (!points.length) return `No estimate of the ${metric} in ${data.series.length} windows.`;
  const [first, last] = [points[0], points.at(-1)];
  const date = data.forecast.best_before ? ` The median forecast crosses it on ${day(ms(data.forecast.best_before))}.` : "";
  return `${metric} from ${figure(first.estimate)} on ${day(ms(first.window_end))} to ${figure(last.estimate)} on ${day(ms(last.window_end))}`
    + `${typeof data.threshold === "number" ? `; threshold ${data.threshold}.${date}` : "; no threshold."} The numbers stand in a table below.`;
}

const KEYS = [
  ["estimate", "estimate"], ["band", "its 90% interval"], ["limit", "threshold"], ["fan", "when it may be crossed, 90%"], ["when", "date interval, median"],
  ["basis-both", "known from labels and without"], ["basis-labels", "from labels"], ["basis-label-free", "without labels"], ["basis-none", "unknown"],
];

function legend(data) {
  const used = new Set(data.series.map((p) => `basis-${p.basis ?? "none"}`)), dated = data.forecast.low || data.forecast.best_before;
  const skip = (key) => (key.startsWith("basis") ? !used.has(key) : (key === "fan" || key === "when") ? !dated : key === "limit" ? typeof data.threshold !== "number" : false);
  return make("ul", { class: "legend" }, KEYS.filter(([key]) => !skip(key)).map(([key, word]) => {
    const swatch = draw("svg", { viewBox: "0 0 26 12", width: 26, height: 12, "aria-hidden": "true" },
      key === "estimate" ? draw("path", { class: "estimate", d: "M1 6h24" })
      : key === "limit" ? draw("path", { class: "limit-line", d: "M1 6h24" })
      : key === "when" ? [draw("path", { class: "when", d: "M1 6h24" }), draw("path", { class: "when-middle", d: "M8 6l5-5 5 5-5 5z" })]
      : draw("rect", { class: key.startsWith("basis") ? `basis ${key}` : key, x: 1, y: 1, width: 24, height: 10 }));
    return make("li", {}, swatch, word);
  }));
}

// Patterns tell apart what colours alone would.
function patterns(f) {
  const stripes = (id, turn) => draw("pattern", { id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${turn})` },
    draw("rect", { class: `ground-${id}`, width: 6, height: 6 }), draw("line", { class: `stripe-${id}`, x1: 0, x2: 0, y1: 0, y2: 6 }));
  return draw("defs", {}, stripes("forecast", 45), stripes("free", 45), stripes("nothing", -45),
    draw("clipPath", { id: "plot" }, draw("rect", { x: f.left, y: f.roof - 6, width: Math.max(f.right - f.left, 1), height: f.floor - f.roof + 6 })));
}

function readout(box, f, data, output) {
  const { series } = data, needle = draw("g", { class: "needle", visibility: "hidden" }, draw("line", { y1: f.roof, y2: f.floor }), draw("circle", { r: 4.5 }));
  let chosen = series.length - 1;
  const point = (index) => {
    chosen = Math.min(Math.max(index, 0), series.length - 1);
    const p = series[chosen], x = f.x(centre(p));
    needle.setAttribute("visibility", "visible");
    needle.firstChild.setAttribute("x1", x);
    needle.firstChild.setAttribute("x2", x);
    needle.lastChild.setAttribute("cx", x);
    needle.lastChild.setAttribute("cy", known(p) ? f.y(p.estimate) : f.floor);
    output.textContent = saying(p);
    box.setAttribute("aria-valuenow", String(chosen + 1));
    box.setAttribute("aria-valuetext", saying(p));
  };
  box.addEventListener("pointermove", (event) => {
    const at = f.first + ((event.clientX - box.getBoundingClientRect().left - f.left) / (f.right - f.left)) * (f.to - f.first);
    const after = series.findIndex((p) => centre(p) >= at);
    point(after < 0 ? series.length - 1 : after > 0 && at - centre(series[after - 1]) < centre(series[after]) - at ? after - 1 : after);
  });
  box.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -1e6, End: 1e6 }[event.key];
    if (step) { event.preventDefault(); point(chosen + step); }
  });
  return needle;
}

export function chart(width, data) {
  if (!data.series.length) return make("p", { class: "empty" }, "No window is closed yet. A window closes by data of a later one, or by the clock when its partition is idle.");
  const f = frame(width, data), output = make("p", { class: "readout small" }, `${summary(data)}`);
  const box = make("div", { class: "plot", tabindex: "0", role: "slider", "aria-label": `${data.metric ?? "quality"} by window`, "aria-valuemin": "1", "aria-valuemax": String(data.series.length),
    "aria-valuenow": String(data.series.length), "aria-valuetext": saying(data.series.at(-1)), "data-key": "plot" });
  const limit = typeof data.threshold === "number" && [draw("line", { class: "limit-line", x1: f.left, x2: f.right, y1: f.y(data.threshold), y2: f.y(data.threshold) }),
    draw("text", { class: "mark", x: f.left + 4, y: f.y(data.threshold) + 15 }, `threshold ${data.threshold}`)];
  box.append(draw("svg", { viewBox: `0 0 ${f.width} ${f.height}`, width: f.width, height: f.height, "aria-hidden": "true" },
    patterns(f), axes(f, data.metric), fan(f, data), past(f, data.series), limit, marks(f, data), readout(box, f, data, output)));
  return make("figure", { class: "chart" }, make("figcaption", { class: "spoken" }, summary(data)), box, output, legend(data), table(data));
}

function table(data) {
  const rows = make("tbody"), fill = () => {
    if (rows.childElementCount) return;
    rows.append(...data.series.toReversed().map((p) => make("tr", {}, make("th", { scope: "row" }, day(ms(p.window_end)), ` ${time(ms(p.window_end))}`),
      [known(p) ? figure(p.estimate) : "unknown", typeof p.low === "number" ? `${figure(p.low)} to ${figure(p.high)}` : "–", count(p.n), count(p.n_labelled), p.basis ?? "none",
        p.best_before ? day(ms(p.best_before)) : "–"].map((value) => make("td", {}, value)))));
  };
  return make("details", { "data-key": "numbers", on: { toggle: fill } }, make("summary", { "data-key": "numbers-open" }, "The numbers"),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The numbers of every window" }, make("table", {},
      make("thead", {}, make("tr", {}, ["Window until", data.metric ?? "Quality", "90% interval", "Inferences", "Labels", "Basis", "Best before, as told then"].map((name) => make("th", { scope: "col" }, name)))), rows)));
}
