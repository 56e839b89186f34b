// Quality over time: the plot with a reading for pointer and keyboard, its legend, and its numbers in a table.
import { draw, grid, make } from "./make.js";
import { axes, centre, dated, dateWord, fan, frame, known, marks, past, patterns } from "./plot.js";
import { basis, count, day, figure, ms, time } from "./words.js";

const DAY = 864e5;

export const saying = (p) =>
  `${day(ms(p.window_end))}${ms(p.window_end) - ms(p.window_start) < DAY ? `, ${time(ms(p.window_end))}` : ""}: ` +
  `${known(p) ? `${figure(p.estimate)}${typeof p.low === "number" ? `, 90% between ${figure(p.low)} and ${figure(p.high)}` : ""}` : "unknown"}; ` +
  `${count(p.n)} inferences, ${count(p.n_labelled)} labels; ${basis(p.basis)}`;

function summary(data) {
  const points = data.series.filter(known),
    metric = data.metric ?? "quality";
  if (!points.length) return `No estimate of the ${metric} in ${data.series.length} windows.`;
  const [first, last] = [points[0], points.at(-1)];
  const date =
    data.forecast.best_before && dated(data)
      ? ` The median forecast crosses it on ${day(ms(data.forecast.best_before))}.`
      : "";
  return (
    `${metric} from ${figure(first.estimate)} on ${day(ms(first.window_end))} to ${figure(last.estimate)} on ${day(ms(last.window_end))}` +
    `${typeof data.threshold === "number" ? `; threshold ${data.threshold}.${date}` : "; no threshold."} The numbers stand in a table below.`
  );
}

const KEYS = [
  ["estimate", "estimate"],
  ["band", "its 90% interval"],
  ["limit", "threshold"],
  ["fan", "when it may be crossed, 90%"],
  ["when", "date interval, median"],
  ["basis-both", "known from labels and without"],
  ["basis-labels", "from labels"],
  ["basis-label-free", "without labels"],
  ["basis-none", "unknown"],
];

function legend(data) {
  const used = new Set(data.series.map((p) => `basis-${p.basis ?? "none"}`));
  const skip = (key) =>
    key.startsWith("basis")
      ? !used.has(key)
      : key === "fan" || key === "when"
        ? !dated(data)
        : key === "limit"
          ? typeof data.threshold !== "number"
          : false;
  return make(
    "ul",
    { class: "legend" },
    KEYS.filter(([key]) => !skip(key)).map(([key, word]) => {
      const swatch = draw(
        "svg",
        { viewBox: "0 0 26 12", width: 26, height: 12, "aria-hidden": "true" },
        key === "estimate"
          ? draw("path", { class: "estimate", d: "M1 6h24" })
          : key === "limit"
            ? draw("path", { class: "limit-line", d: "M1 6h24" })
            : key === "when"
              ? [
                  draw("path", { class: "when", d: "M1 6h24" }),
                  draw("path", { class: "when-middle", d: "M8 6l5-5 5 5-5 5z" }),
                ]
              : draw("rect", {
                  class: key.startsWith("basis") ? `basis ${key}` : key,
                  x: 1,
                  y: 1,
                  width: 24,
                  height: 10,
                }),
      );
      return make("li", {}, swatch, word);
    }),
  );
}

function readout(box, f, data, output) {
  const { series } = data,
    needle = draw(
      "g",
      { class: "needle", visibility: "hidden" },
      draw("line", { y1: f.roof, y2: f.floor }),
      draw("circle", { r: 4.5 }),
    );
  let chosen = series.length - 1;
  const point = (index) => {
    chosen = Math.min(Math.max(index, 0), series.length - 1);
    const p = series[chosen],
      x = f.x(centre(p));
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
    const at =
      f.first + ((event.clientX - box.getBoundingClientRect().left - f.left) / (f.right - f.left)) * (f.to - f.first);
    const after = series.findIndex((p) => centre(p) >= at);
    point(
      after < 0
        ? series.length - 1
        : after > 0 && at - centre(series[after - 1]) < centre(series[after]) - at
          ? after - 1
          : after,
    );
  });
  box.addEventListener("keydown", (event) => {
    const step = {
      ArrowLeft: -1,
      ArrowDown: -1,
      ArrowRight: 1,
      ArrowUp: 1,
      PageDown: -10,
      PageUp: 10,
      Home: -1e6,
      End: 1e6,
    }[event.key];
    if (step) {
      event.preventDefault();
      point(chosen + step);
    }
  });
  return needle;
}

export function chart(width, data) {
  if (!data.series.length)
    return make(
      "p",
      { class: "empty" },
      "No window is closed yet. A window closes by data of a later one, or by the clock when its partition is idle.",
    );
  const f = frame(width, data),
    output = make("p", { class: "readout small" }, `${summary(data)}`);
  const box = make("div", {
    class: "plot",
    tabindex: "0",
    role: "slider",
    "aria-label": `${data.metric ?? "quality"} by window`,
    "aria-valuemin": "1",
    "aria-valuemax": String(data.series.length),
    "aria-valuenow": String(data.series.length),
    "aria-valuetext": saying(data.series.at(-1)),
    "data-key": "plot",
  });
  const limit = typeof data.threshold === "number" && [
    draw("line", { class: "limit-line", x1: f.left, x2: f.right, y1: f.y(data.threshold), y2: f.y(data.threshold) }),
    draw("text", { class: "mark", x: f.left + 4, y: f.y(data.threshold) + 15 }, `threshold ${data.threshold}`),
  ];
  box.append(
    draw(
      "svg",
      { viewBox: `0 0 ${f.width} ${f.height}`, width: f.width, height: f.height, "aria-hidden": "true" },
      patterns(f),
      axes(f, data.metric),
      fan(f, data),
      past(f, data.series),
      limit,
      marks(f, data),
      dateWord(f, data),
      readout(box, f, data, output),
    ),
  );
  return make(
    "figure",
    { class: "chart" },
    make("figcaption", { class: "spoken" }, summary(data)),
    box,
    output,
    legend(data),
    table(data),
  );
}

function table(data) {
  const rows = make("tbody"),
    fill = () => {
      if (rows.childElementCount) return;
      rows.append(
        ...data.series.toReversed().map((p) =>
          make(
            "tr",
            {},
            make("th", { scope: "row" }, day(ms(p.window_end)), ` ${time(ms(p.window_end))}`),
            [
              known(p) ? figure(p.estimate) : "unknown",
              typeof p.low === "number" ? `${figure(p.low)} to ${figure(p.high)}` : "–",
              count(p.n),
              count(p.n_labelled),
              p.basis ?? "none",
              p.best_before ? day(ms(p.best_before)) : "–",
            ].map((value) => make("td", {}, value)),
          ),
        ),
      );
    };
  return make(
    "details",
    { "data-key": "numbers", on: { toggle: fill } },
    make("summary", { "data-key": "numbers-open" }, "The numbers"),
    grid(
      "numbers-all",
      "The numbers of every window",
      [
        "Window until",
        data.metric ?? "Quality",
        "90% interval",
        "Inferences",
        "Labels",
        "Basis",
        "Best before, as told then",
      ],
      rows,
    ),
  );
}
