// One model version, or one segment of it: the verdict, the chart, what is open, what was asked.
import { chart } from "./chart.js";
import { icon, make, renew } from "./make.js";
import { checks, facts, life, mismatches, segments, triggers } from "./parts.js";
import {
  ACTIONS,
  basis,
  between,
  count,
  distance,
  headline,
  interval,
  ms,
  path,
  plural,
  segment,
  sentence,
  share,
  stamp,
  TONES,
} from "./words.js";

const past = ({ low, high }) => low && low === high;

function date({ forecast }) {
  if (forecast.reason || (!forecast.best_before && !forecast.low))
    return `unknown: ${forecast.reason ?? "nothing is forecast"}`;
  if (past(forecast)) return make("b", {}, "passed: it is below already");
  const range = between(forecast);
  const middle = forecast.best_before
    ? [stamp(forecast.best_before), ` (${distance(ms(forecast.best_before))})`]
    : "beyond the horizon";
  return [make("b", {}, middle), range && make("span", { class: "small" }, range)];
}

function labels({ expected, arrived, missing } = {}) {
  if (!arrived && !expected) return "none have come";
  return `${count(arrived)} have come${expected ? ` of ${count(Math.round(expected))} expected` : ""}${missing ? `, ${count(Math.round(missing))} are missing` : ""}`;
}

function figures(status) {
  const { quality = {}, forecast = {}, window: seen = {}, change } = status,
    chance = forecast.probability_within_lead_time;
  return facts(
    [
      ["Best before", date({ forecast })],
      [
        "Good for at least, 90% sure",
        past(forecast)
          ? null
          : forecast.low
            ? [stamp(forecast.low), ` (${distance(ms(forecast.low))})`]
            : forecast.reason
              ? "unknown"
              : "beyond the horizon",
      ],
      [
        `Quality now${quality.metric ? `, ${quality.metric}` : ""}`,
        typeof quality.estimate === "number"
          ? [
              make("b", {}, interval(quality)),
              make(
                "span",
                { class: "small" },
                `${basis(quality.basis)}; ${plural(Math.round(quality.n ?? 0), "observation")}`,
              ),
            ]
          : `unknown: ${quality.reason ?? "nothing is known"}`,
      ],
      ["Threshold", typeof forecast.threshold === "number" ? String(forecast.threshold) : "none is declared"],
      ["Below it within the lead time", typeof chance === "number" && share(chance)],
      [
        "Newest window",
        seen.end && [
          stamp(seen.start),
          " to ",
          stamp(seen.end),
          make("span", { class: "small" }, plural(seen.n ?? 0, "inference")),
        ],
      ],
      ["Labels", status.labels && labels(status.labels)],
      ["Dropped by clients", seen.dropped && count(seen.dropped)],
      ["Changes", change?.told],
      ["What the width rests on", forecast.levels],
    ],
    "facts wide",
  );
}

export class Model {
  constructor(model, version, part) {
    Object.assign(this, { model, version, part, data: null, state: "asking" });
    this.node = make("article", { class: "model" });
    this.watch = new ResizeObserver(() => this.data && Math.abs(this.width() - this.drawn) > 8 && this.show());
    this.watch.observe(this.node);
    this.show();
  }

  width() {
    return Math.max(this.node.clientWidth - (this.node.clientWidth < 560 ? 24 : 40), 280);
  }

  async load() {
    const query = new URLSearchParams({
      model: this.model,
      version: this.version,
      ...(this.part ? { segment: this.part } : {}),
    });
    try {
      const answer = await fetch(`model.json?${query}`, { headers: { Accept: "application/json" } });
      if (answer.status === 401 || answer.status === 403) return location.reload();
      this.state = answer.ok ? "known" : answer.status === 404 ? "none" : "trouble";
      if (answer.ok) this.data = await answer.json();
      else this.told = (await answer.text()).trim();
    } catch {
      this.state = "trouble";
      this.told = "the worker does not answer";
    }
    this.show();
  }

  // A segment has no verdict of its own: it does not decide.
  title() {
    const row = this.data?.row;
    const name = [make("span", { class: "name" }, this.model), make("span", { class: "version" }, ` ${this.version}`)];
    if (this.part)
      return make(
        "header",
        { class: "head" },
        make(
          "h1",
          { tabindex: "-1", id: "title", "data-key": "title" },
          name,
          make("span", { class: "part" }, ` ${segment(this.part)}`),
        ),
      );
    if (!row)
      return make("header", { class: "head" }, make("h1", { tabindex: "-1", id: "title", "data-key": "title" }, name));
    const tone = TONES[row.state],
      asked = row.triggers.filter((one) => !one.advice);
    return make(
      "header",
      { class: `head tone-${tone}` },
      make("h1", { tabindex: "-1", id: "title", "data-key": "title" }, name),
      make(
        "div",
        { class: "verdict-big" },
        icon(tone),
        make(
          "div",
          {},
          make("p", { class: "verdict" }, headline(row)),
          make("p", {}, sentence(row)),
          asked.length > (row.state === "fix" ? 1 : 0) &&
            row.state !== "asked" &&
            make(
              "p",
              { class: "small" },
              `Asked for: ${asked.map((one) => ACTIONS[one.action] ?? one.action).join(", ")}`,
            ),
        ),
      ),
    );
  }

  show() {
    const back = make(
      "nav",
      { class: "back", "aria-label": "Back" },
      make("a", { href: "#/", "data-key": "back" }, "← All models"),
      this.part &&
        make(
          "a",
          { href: path(this.model, this.version), "data-key": "whole" },
          `← All of ${this.model} ${this.version}`,
        ),
    );
    renew(this.node, back, this.title(), this.body());
  }

  body() {
    if (!this.data) {
      const told = {
        asking: "Asking the store …",
        none: "The store knows no model version of that name. It may have been misspelt in the address, or nothing has been heard of it yet.",
        trouble: this.told,
      };
      return make("p", { class: "empty" }, told[this.state]);
    }
    const { data } = this,
      status = data.status ?? {},
      { limits } = data;
    this.drawn = this.width();
    const plotted = {
      series: data.series,
      forecast: status.forecast ?? {},
      threshold: status.forecast?.threshold,
      metric: status.quality?.metric,
      triggers: this.part ? [] : data.triggers,
      lifecycle: data.lifecycle,
    };
    const unknown = data.checks.filter((one) => one.verdict === "unknown").length;
    return [
      this.state === "trouble" && make("p", { class: "banner" }, `This may be old: ${this.told}`),
      make(
        "section",
        { class: "card", "aria-labelledby": "head-quality" },
        make("h2", { id: "head-quality" }, "Quality over time"),
        chart(this.drawn, plotted),
        limits.windows[1] && make("p", { class: "note" }, `The newest ${limits.windows[0]} windows are shown.`),
      ),
      make(
        "section",
        { class: "card", "aria-labelledby": "head-now" },
        make("h2", { id: "head-now" }, "What is known now"),
        data.status ? figures(status) : make("p", { class: "empty" }, data.row?.why ?? "Nothing yet."),
      ),
      make(
        "div",
        { class: "columns" },
        make("div", {}, mismatches(data.mismatches, limits.mismatches, unknown)),
        make(
          "div",
          {},
          !this.part && triggers(data.triggers, data.lifecycle, limits.triggers),
          segments(data.segments, this.model, this.version, this.part, limits.segments),
          !this.part && life(data.lifecycle, limits.lifecycle),
        ),
      ),
      checks(data.checks),
    ];
  }

  end() {
    this.watch.disconnect();
  }
}
