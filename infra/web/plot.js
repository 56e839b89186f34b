// The shapes of the chart: axes, what was, the fan of when the threshold will be crossed, and what happened on the way.
import { draw } from "./make.js";
import { ACTIONS, day, ms, month, now, short, time } from "./words.js";

const DAY = 864e5,
  STEPS = [1 / 24, 1 / 8, 0.25, 0.5, 1, 2, 3, 7, 14, 21, 28].map((days) => days * DAY),
  MONTHS = [1, 2, 3, 6, 12, 24, 60];
const MARGIN = { top: 26, right: 16, bottom: 44, left: 46 };

export const known = (point) => typeof point.estimate === "number";

// The part of time and of quality that is shown; the forecast takes at most as much room as the past.
export function frame(width, data) {
  const { series, forecast, threshold } = data,
    height = width < 560 ? 280 : 340;
  const first = ms(series[0].window_start),
    last = ms(series.at(-1).window_end);
  const until = [forecast.high, forecast.best_before, forecast.low].filter(Boolean).map(ms),
    past = Math.max(last, now()) - first;
  const to = Math.min(Math.max(now(), last, ...until) + past * 0.05, Math.max(last, now()) + past);
  const values = series.filter(known).flatMap((p) => [p.low ?? p.estimate, p.high ?? p.estimate]);
  if (typeof threshold === "number") values.push(threshold);
  if (!values.length) values.push(0, 1);
  const low = Math.min(...values),
    high = Math.max(...values),
    pad = Math.max((high - low) * 0.12, 0.005);
  const unit = low >= 0 && high <= 1; // a share stays within its bounds
  const [bottom, top] = [unit ? Math.max(low - pad, 0) : low - pad, unit ? Math.min(high + pad, 1) : high + pad];
  const x = (at) => MARGIN.left + ((at - first) / (to - first)) * (width - MARGIN.left - MARGIN.right);
  const y = (value) =>
    height - MARGIN.bottom - ((value - bottom) / (top - bottom)) * (height - MARGIN.top - MARGIN.bottom);
  return {
    width,
    height,
    first,
    last,
    to,
    bottom,
    top,
    x,
    y,
    left: MARGIN.left,
    right: width - MARGIN.right,
    floor: height - MARGIN.bottom,
    roof: MARGIN.top,
  };
}

function round(span, most) {
  const rough = span / most,
    power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map((m) => m * power).find((step) => step >= rough);
}

// Where the axis of time has its ticks: hours or days, or the first days of months.
function times(f) {
  const wide = f.right - f.left,
    span = STEPS.find((step) => (f.to - f.first) / step <= wide / (step < DAY ? 104 : 72)),
    found = [];
  if (span) {
    for (let at = Math.ceil(f.first / span) * span; at <= f.to; at += span)
      found.push({ at, word: span < DAY ? `${day(at)}, ${time(at)}` : day(at) });
    return found;
  }
  const months = MONTHS.find((n) => (f.to - f.first) / (n * 30.44 * DAY) <= wide / 64) ?? 120,
    start = new Date(f.first);
  for (
    let n = months - (start.getUTCMonth() % months), at = 0;
    (at = Date.UTC(start.getUTCFullYear(), start.getUTCMonth() + n, 1, 12)) <= f.to;
    n += months
  )
    found.push({ at, word: month(at) });
  return found;
}

export function axes(f, metric) {
  const parts = [],
    step = round(f.top - f.bottom, 5);
  for (let value = Math.ceil(f.bottom / step) * step; value <= f.top + 1e-9; value += step) {
    parts.push(
      draw("line", { class: "grid", x1: f.left, x2: f.right, y1: f.y(value), y2: f.y(value) }),
      draw(
        "text",
        { class: "tick", x: f.left - 8, y: f.y(value) + 4, "text-anchor": "end" },
        short(Number(value.toFixed(6))),
      ),
    );
  }
  for (const { at, word } of times(f)) {
    const x = f.x(at);
    parts.push(
      draw("line", { class: "notch", x1: x, x2: x, y1: f.floor, y2: f.floor + 5 }),
      draw(
        "text",
        {
          class: "tick",
          x,
          y: f.floor + 32,
          "text-anchor": x < f.left + 24 ? "start" : x > f.right - 24 ? "end" : "middle",
        },
        word,
      ),
    );
  }
  parts.push(
    draw("line", { class: "axis-line", x1: f.left, x2: f.right, y1: f.floor, y2: f.floor }),
    draw(
      "text",
      { class: "tick unit", x: f.left - 38, y: 13 },
      `${metric ?? "quality"}${f.bottom >= 0 && f.top <= 1 ? " (share of 1)" : ""}`,
    ),
  );
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

export const centre = (point) => ms(point.window_end);
const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

export function past(f, series) {
  const parts = [];
  for (const run of runs(series)) {
    const band = [
      ...run.map((p) => [f.x(centre(p)), f.y(p.high ?? p.estimate)]),
      ...run.toReversed().map((p) => [f.x(centre(p)), f.y(p.low ?? p.estimate)]),
    ];
    parts.push(
      draw("path", { class: "band", d: `${line(band)}Z` }),
      draw("path", { class: "estimate", d: line(run.map((p) => [f.x(centre(p)), f.y(p.estimate)])) }),
    );
    if (run.length === 1)
      parts.push(draw("circle", { class: "dot-now", cx: f.x(centre(run[0])), cy: f.y(run[0].estimate), r: 3 }));
  }
  const strip = series.map((p) =>
    draw("rect", {
      class: `basis basis-${p.basis ?? "none"}`,
      x: f.x(ms(p.window_start)) + 0.3,
      width: Math.max(f.x(ms(p.window_end)) - f.x(ms(p.window_start)) - 0.6, 0.5),
      y: f.floor + 8,
      height: 7,
    }),
  );
  return [...parts, ...strip];
}

// Lines from the present interval to the dates: what is forecast are the dates, the lines only lead there.
export const dated = ({ series, forecast, threshold }) => {
  const last = series.findLast(known);
  return (
    last &&
    typeof threshold === "number" &&
    (forecast.low || forecast.best_before) &&
    (last.high ?? last.estimate) >= threshold
  );
};

export function fan(f, data) {
  if (!dated(data)) return [];
  const { series, forecast, threshold } = data,
    last = series.findLast(known),
    { low, best_before: middle, high } = forecast;
  const [x0, y0, floor] = [f.x(centre(last)), f.y(last.estimate), f.y(threshold)],
    early = f.x(ms(low ?? middle));
  const top = high
    ? [[f.x(ms(high)), floor]]
    : [
        [f.x(f.to), f.y(last.high ?? last.estimate)],
        [f.x(f.to), floor],
      ];
  const start = [
    [x0, f.y(last.low ?? last.estimate)],
    [x0, f.y(last.high ?? last.estimate)],
  ];
  const parts = [
    draw("path", { class: "fan", d: `${line([...start, ...top, [early, floor]])}Z`, "clip-path": "url(#plot)" }),
  ];
  if (middle)
    parts.push(
      draw("path", {
        class: "fan-middle",
        d: line([
          [x0, y0],
          [f.x(ms(middle)), floor],
        ]),
        "clip-path": "url(#plot)",
      }),
    );
  const end = high ? Math.min(f.x(ms(high)), f.right) : f.right;
  if (early < f.right)
    parts.push(
      draw("line", { class: "when", x1: early, x2: Math.max(end, early + 2), y1: floor, y2: floor }),
      draw("line", { class: "when-end", x1: early, x2: early, y1: floor - 6, y2: floor + 6 }),
    );
  if (high && end < f.right)
    parts.push(draw("line", { class: "when-end", x1: end, x2: end, y1: floor - 6, y2: floor + 6 }));
  const x = middle && f.x(ms(middle));
  if (middle && x <= f.right)
    parts.push(
      draw("path", {
        class: "when-middle",
        d: `M${x - 6} ${floor}L${x} ${floor - 6}L${x + 6} ${floor}L${x} ${floor + 6}Z`,
      }),
    );
  return parts;
}

// The date in words, over everything else.
export function dateWord(f, data) {
  const middle = dated(data) && data.forecast.best_before;
  if (!middle) return [];
  const x = f.x(ms(middle)),
    beyond = x > f.right,
    below = f.floor - f.y(data.threshold) > 24, // room under the threshold, where no estimate is in the way
    y = f.y(data.threshold) + (below ? 18 : -13),
    word = `best before ${day(ms(middle))}`;
  const end = beyond || x - 5 + word.length * 6.6 > f.right; // else it would run out of the picture
  return draw(
    "text",
    { class: "mark strong", x: end ? Math.min(x + 4, f.right - 4) : x - 5, y, "text-anchor": end ? "end" : "start" },
    beyond ? `${word} →` : word,
  );
}

export function marks(f, data) {
  const parts = [],
    told = [
      ...data.triggers
        .filter((one) => one.state !== "advice")
        .map((one) => [one.created_at, `asked: ${(ACTIONS[one.action] ?? one.action).toLowerCase()}`, "asked"]),
      ...data.lifecycle
        .filter((one) => ["deployed", "promoted", "rolled-back", "retrained"].includes(one.kind))
        .map((one) => [one.time, `${one.kind} ${one.version}`, "life"]),
    ];
  let row = 0;
  for (const [text, word, kind] of told.slice(0, 20).sort((a, b) => ms(a[0]) - ms(b[0]))) {
    const x = f.x(ms(text));
    if (x < f.left || x > f.right) continue;
    const side = x > f.width * 0.6 ? "end" : "start",
      y = f.roof + 10 + (row++ % 3) * 15;
    parts.push(
      draw("line", { class: `mark-${kind}`, x1: x, x2: x, y1: f.roof - 2, y2: f.floor }),
      draw("text", { class: "mark", x: x + (side === "end" ? -5 : 5), y, "text-anchor": side }, word),
    );
  }
  const x = f.x(now());
  if (x <= f.right)
    parts.push(
      draw("line", { class: "now-line", x1: x, x2: x, y1: f.roof - 8, y2: f.floor }),
      draw("text", { class: "mark now-word", x, y: f.roof - 12, "text-anchor": "middle" }, "now"),
    );
  return parts;
}

// Patterns tell apart what colours alone would.
export function patterns(f) {
  const stripes = (id, turn) =>
    draw(
      "pattern",
      { id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${turn})` },
      draw("rect", { class: `ground-${id}`, width: 6, height: 6 }),
      draw("line", { class: `stripe-${id}`, x1: 0, x2: 0, y1: 0, y2: 6 }),
    );
  return draw(
    "defs",
    {},
    stripes("forecast", 45),
    stripes("free", 45),
    stripes("nothing", -45),
    draw(
      "clipPath",
      { id: "plot" },
      draw("rect", { x: f.left, y: f.roof - 6, width: Math.max(f.right - f.left, 1), height: f.floor - f.roof + 6 }),
    ),
  );
}
