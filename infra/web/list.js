// All models, worst first: verdict, date on one shelf for all, quality, and what is open.
import { icon, make, renew } from "./make.js";
import { sources } from "./sources.js";
import {
  ACTIONS,
  count,
  day,
  distance,
  figure,
  headline,
  month,
  ms,
  now,
  path,
  plural,
  sentence,
  stamp,
  TONES,
  zone,
} from "./words.js";

const GROUPS = [
  ["all", "All"],
  ["bad", "Below or past"],
  ["act", "Asked for"],
  ["look", "Not as declared"],
  ["blind", "Unknown or silent"],
  ["good", "Good"],
  ["gone", "Out of service"],
];
const MONTH = 30.44 * 864e5;
const SOURCE = { labels: "labels", "label-free": "without labels", both: "labels + label-free" };

export const rank = (a, b) => {
  for (let i = 0; i < a.order.length; i++) {
    if (a.order[i] !== b.order[i]) return a.order[i] < b.order[i] ? -1 : 1;
  }
  return 0;
};

// From when to when the shelf reaches, so that most dates are on it.
function shelf(rows) {
  const from = Math.floor(now() / 6e4) * 6e4, // a row is drawn anew when it changed, or the minute did
    ends = [];
  for (const { state, forecast } of rows) {
    if (TONES[state] === "gone") continue;
    for (const end of [forecast.high, forecast.best_before, forecast.low])
      if (end && ms(end) > from) ends.push(ms(end));
  }
  ends.sort((a, b) => a - b);
  const far = ends.length ? ends[Math.min(ends.length - 1, Math.floor(ends.length * 0.95))] : from + MONTH;
  const span = Math.max((far - from) * 1.12, 7 * 864e5);
  return { from: from - span * 0.14, to: from + span };
}

const at = (scale, time) => ((time - scale.from) / (scale.to - scale.from)) * 100;

// Days, or the first days of months where the shelf is long.
function ticks(scale) {
  const span = scale.to - now(),
    found = [],
    put = (time, word) => {
      const left = at(scale, time);
      if (left > (found.at(-1)?.left ?? at(scale, now())) + 17 && left < 95) found.push({ left, word });
    };
  if (span < 2.5 * MONTH) for (let time = now() + 864e5; time < scale.to; time += 864e5) put(time, day(time));
  else
    for (let i = 1, start = new Date(now()); i < 240; i++)
      put(
        Date.UTC(start.getUTCFullYear(), start.getUTCMonth() + i, 1, 12),
        month(Date.UTC(start.getUTCFullYear(), start.getUTCMonth() + i, 1, 12)),
      );
  return found;
}

function bar(row, scale) {
  const { low, best_before: middle, high } = row.forecast,
    tone = TONES[row.state];
  const strip = make("div", { class: `strip tone-${tone}`, "aria-hidden": "true" });
  strip.append(make("span", { class: "today", place: { left: `${at(scale, now())}%` } }));
  if (row.state === "below")
    return (strip.append(make("span", { class: "middle", place: { left: `${at(scale, now())}%` } })), strip);
  if (tone === "gone" || (!low && !middle)) {
    if (tone !== "gone")
      strip.append(
        make("span", { class: "void" }, make("span", {}, row.state === "good" ? "beyond the horizon" : "no date")),
      );
    return strip;
  }
  const left = Math.max(at(scale, ms(low ?? middle)), 0),
    end = high ? at(scale, ms(high)) : 100,
    open = !high || end > 100;
  const width = Math.max(Math.min(end, 100) - left, 0.8);
  if (left < 100)
    strip.append(make("span", { class: `bar${open ? " open" : ""}`, place: { left: `${left}%`, width: `${width}%` } }));
  else strip.append(make("span", { class: "after" }, `${day(ms(low))} →`));
  if (middle && at(scale, ms(middle)) <= 99)
    strip.append(make("span", { class: "middle", place: { left: `${Math.max(at(scale, ms(middle)), 0.6)}%` } }));
  return strip;
}

function quality(row) {
  const { estimate, low, high, metric, basis, n } = row.quality;
  if (typeof estimate !== "number")
    return make("div", { class: "quality" }, make("span", { class: "none" }, "unknown"));
  const values = [low ?? estimate, high ?? estimate, row.threshold ?? estimate],
    pad = 0.02 + (Math.max(...values) - Math.min(...values)) * 0.15;
  const [from, to] = [Math.min(...values) - pad, Math.max(...values) + pad],
    x = (v) => `${((v - from) / (to - from)) * 100}%`;
  const track = make(
    "div",
    { class: "bullet", "aria-hidden": "true" },
    make("span", { class: "range", place: { left: x(low ?? estimate), right: `calc(100% - ${x(high ?? estimate)})` } }),
    make("span", { class: "point", place: { left: x(estimate) } }),
    typeof row.threshold === "number" && make("span", { class: "limit", place: { left: x(row.threshold) } }),
  );
  return make(
    "div",
    { class: "quality" },
    make("span", { class: "big" }, figure(estimate)),
    make("span", { class: "small" }, ` ${metric ?? ""}`),
    track,
    make("span", { class: "small" }, typeof low === "number" ? `${figure(low)} to ${figure(high)}` : "no interval"),
    make("span", { class: "small by" }, `${SOURCE[basis] ?? "not known"}, n\u00a0${count(Math.round(n ?? 0))}`),
  );
}

function chips(row) {
  const { mismatches: m, segments } = row,
    chip = (tone, text) => make("li", { class: `chip tone-${tone}` }, text);
  const worst = m.critical ? "bad" : m.warning ? "look" : "gone",
    found = m.critical + m.warning + m.info;
  const asked = row.state === "asked" || row.state === "fix" ? [] : row.triggers.filter((one) => !one.advice);
  return make(
    "ul",
    { class: "chips" },
    asked.map((one) => chip("act", `asked: ${(ACTIONS[one.action] ?? one.action).toLowerCase()}`)),
    found > 0 && chip(worst, plural(found, "mismatch", "mismatches")),
    segments.below > 0 && chip("bad", `${segments.below} of ${plural(segments.n, "segment")} below`),
    row.silent && row.state !== "silent" && chip("blind", "no new data"),
    row.lifecycle.candidate && chip("gone", `${row.lifecycle.candidate} on its way`),
    !row.registered && chip("blind", "not registered"),
  );
}

function line(row, scale) {
  const tone = TONES[row.state],
    date = row.forecast.best_before ?? row.forecast.low;
  const beyond = !row.forecast.best_before && row.forecast.low;
  const told =
    row.state === "below"
      ? [make("span", { class: "big" }, "passed"), make("span", { class: "small" }, "it is below already")]
      : tone === "gone" || !date
        ? make(
            "span",
            { class: "none" },
            tone === "gone" ? "–" : row.state === "good" ? "beyond the horizon" : "unknown",
          )
        : [
            make("span", { class: "big" }, beyond && "after ", stamp(date, day)),
            make("span", { class: "small" }, distance(ms(date))),
          ];
  return make(
    "li",
    { class: `row tone-${tone}` },
    icon(tone),
    make(
      "div",
      { class: "who" },
      make(
        "h2",
        {},
        make(
          "a",
          { href: path(row.model, row.version), "data-key": `${row.model}/${row.version}` },
          make("span", { class: "name" }, row.model),
          make("span", { class: "version" }, ` ${row.version}`),
        ),
      ),
      make("p", { class: "verdict" }, headline(row)),
      make("p", { class: "small clip" }, sentence(row)),
    ),
    make("div", { class: "date" }, make("span", { class: "label" }, "Best before "), told),
    bar(row, scale),
    make("div", { class: "known" }, make("span", { class: "label" }, "Quality "), quality(row)),
    chips(row),
  );
}

function axis(scale) {
  return make(
    "div",
    { class: "row axis", "aria-hidden": "true" },
    make("span"),
    make("span", {}, "Model"),
    make("span", {}, "Best before"),
    make(
      "div",
      { class: "ticks" },
      make("span", { place: { left: `${at(scale, now())}%` } }, "today"),
      ticks(scale).map(({ left, word }) => make("span", { place: { left: `${left}%` } }, word)),
    ),
    make("span", {}, "Quality now"),
    make("span", {}, "Open"),
  );
}

const STEP = 100; // rows at first, and with each press

export class List {
  constructor() {
    this.most = STEP;
    this.search = make("input", {
      id: "find",
      type: "search",
      placeholder: "Find a model",
      "aria-label": "Find a model",
      autocomplete: "off",
      "data-key": "find",
    });
    this.search.addEventListener("input", () => this.go({ find: this.search.value }));
    this.groups = make("div", { class: "groups", role: "group", "aria-label": "Show" });
    this.rows = make("ol", { class: "rows" });
    this.drawn = new Map(); // rows by the model version they show
    this.top = make("div", {});
    this.below = make("div", { class: "below" });
    this.sources = make("div", {});
    this.node = make(
      "div",
      { class: "list" },
      make("h1", { class: "spoken" }, "All models"),
      make("div", { class: "bar-top" }, this.groups, this.search),
      this.top,
      this.rows,
      this.below,
      this.sources,
    );
  }

  go(change) {
    const query = new URLSearchParams(location.hash.split("?")[1] ?? "");
    for (const [name, value] of Object.entries(change)) value ? query.set(name, value) : query.delete(name);
    history.replaceState(null, "", `#/${query.size ? `?${query}` : ""}`);
    this.most = STEP;
    this.show(this.state);
  }

  show(state) {
    this.state = state;
    const query = new URLSearchParams(location.hash.split("?")[1] ?? ""),
      group = query.get("show") ?? "all",
      find = query.get("find") ?? "";
    if (document.activeElement !== this.search) this.search.value = find;
    const all = [...state.models.values()].sort(rank);
    const named = all.filter((row) => `${row.model} ${row.version}`.toLowerCase().includes(find.toLowerCase()));
    const shown = named.filter((row) => group === "all" || TONES[row.state] === group);
    renew(this.groups, all.length > 0 && GROUPS.map(([tone, word]) => this.button(tone, word, named, group)));
    this.search.hidden = all.length < 8;
    const scale = shelf(all);
    renew(this.top, shown.length > 0 && axis(scale));
    this.lines(shown.slice(0, this.most), scale);
    renew(this.below, this.rest(state, all, shown));
    this.heard(state);
  }

  // Only what has changed is drawn anew, so that two hundred models cost no more than the one that changed.
  lines(rows, scale) {
    const how = JSON.stringify([scale, zone()]),
      old = this.drawn;
    this.drawn = new Map();
    for (const row of rows) {
      const name = JSON.stringify([row.model, row.version]),
        known = old.get(name);
      this.drawn.set(name, known?.row === row && known.how === how ? known : { row, how, node: line(row, scale) });
    }
    const nodes = [...this.drawn.values()].map((one) => one.node);
    if (nodes.length !== this.rows.children.length || nodes.some((node, i) => node !== this.rows.children[i]))
      renew(this.rows, nodes);
  }

  heard(state) {
    renew(this.sources, sources(state.beat, [...state.models.values()]));
  }

  button(tone, word, rows, group) {
    const n = tone === "all" ? rows.length : rows.filter((row) => TONES[row.state] === tone).length;
    if (!n && tone !== group && tone !== "all") return false;
    return make(
      "button",
      {
        type: "button",
        class: `group tone-${tone}`,
        "aria-pressed": String(tone === group),
        "data-key": `group-${tone}`,
        on: { click: () => this.go({ show: tone === "all" ? "" : tone }) },
      },
      tone !== "all" && icon(tone),
      `${word} `,
      make("b", {}, n),
    );
  }

  rest(state, all, shown) {
    const { limits } = state;
    if (!state.known) return false;
    if (!all.length) return empty();
    return [
      !shown.length &&
        make(
          "p",
          { class: "empty" },
          "No model matches. ",
          make(
            "button",
            { class: "plain", type: "button", on: { click: () => this.go({ show: "", find: "" }) } },
            "Show all",
          ),
        ),
      shown.length > this.most &&
        make(
          "p",
          {},
          make(
            "button",
            {
              type: "button",
              class: "main",
              "data-key": "more",
              on: {
                click: () => {
                  this.most += STEP;
                  this.show(state);
                },
              },
            },
            `Show ${Math.min(STEP, shown.length - this.most)} more of ${shown.length}`,
          ),
        ),
      limits.models > limits.most &&
        make(
          "p",
          { class: "note" },
          `The worst ${limits.most} of ${limits.models} model versions are shown; `,
          make("code", {}, "bestbefore status"),
          " lists all.",
        ),
      limits.more && make("p", { class: "note" }, "The store holds more segments or mismatches than this page reads."),
    ];
  }
}

function empty() {
  const step = (command, what) => make("li", {}, make("code", {}, command), make("span", {}, what));
  return make(
    "section",
    { class: "card start" },
    make("h2", {}, "No model yet"),
    make("p", {}, "A model appears here once it is registered, with a date once some windows of traffic are closed."),
    make(
      "ol",
      {},
      step("bestbefore register FOLDER", "what the model was accepted on: its descriptors"),
      step("bestbefore worker", "reads telemetry and assesses it"),
      step("bestbefore demo", "or see it work on real images, in a minute"),
    ),
  );
}
