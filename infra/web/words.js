// Dates, numbers and verdicts as people say them. Times are in the reader's zone, or in UTC where that is chosen.
import { make } from "./make.js";

const HOUR = 3.6e6,
  DAY = 24 * HOUR;
export const clock = { ahead: 0, utc: false };
export const now = () => Date.now() + clock.ahead;
export const zone = () => (clock.utc ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone);
export const ms = (text) => (text ? Date.parse(text) : null);

const parts = (at, options) => new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone() }).format(at);
export const time = (at) => parts(at, { hour: "2-digit", minute: "2-digit" });

export function day(at) {
  const year = parts(at, { year: "numeric" }) === parts(now(), { year: "numeric" }) ? {} : { year: "numeric" };
  return parts(at, { day: "numeric", month: "short", ...year });
}

export const month = (at) =>
  parts(at, {
    month: "short",
    ...(parts(at, { year: "numeric" }) === parts(now(), { year: "numeric" }) ? {} : { year: "2-digit" }),
  });

// A day, and the hour too where hours matter.
export const moment = (at) => (Math.abs(at - now()) < 2 * DAY ? `${day(at)}, ${time(at)}` : day(at));

export function distance(at) {
  const away = at - now(),
    size = Math.abs(away);
  const [unit, length] =
    size < 90 * 6e4
      ? ["minute", 6e4]
      : size < 36 * HOUR
        ? ["hour", HOUR]
        : size < 15 * DAY
          ? ["day", DAY]
          : size < 70 * DAY
            ? ["week", 7 * DAY]
            : size < 730 * DAY
              ? ["month", 30.44 * DAY]
              : ["year", 365.25 * DAY];
  if (size < 45e3) return "now";
  return new Intl.RelativeTimeFormat("en-GB", { numeric: "auto" }).format(Math.round(away / length), unit);
}

const exact = (at, utc) =>
  new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short", timeZone: utc ? "UTC" : zone() }).format(
    at,
  );

// An element for a time: short to see, exact in both zones on hover and for those who listen.
export function stamp(text, form = moment) {
  const at = ms(text);
  if (at === null || Number.isNaN(at)) return make("span", { class: "none" }, "–");
  return make("time", { datetime: text, title: `${exact(at, false)} (${zone()}) · ${exact(at, true)} UTC` }, form(at));
}

export const figure = (value) =>
  typeof value === "number" ? (Math.abs(value) < 10 ? value.toFixed(3) : short(value)) : "–";
export const short = (value) => new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 4 }).format(value);
export const count = (value) => new Intl.NumberFormat("en-GB").format(value ?? 0);
export const share = (value) =>
  value > 0.995 ? "over 99%" : value < 0.005 ? "under 1%" : `${Math.round(value * 100)}%`;
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

export function segment(text) {
  try {
    return Object.entries(JSON.parse(text))
      .map(([name, value]) => `${name} = ${value}`)
      .join(", ");
  } catch {
    return String(text);
  }
}

// What a fact of a descriptor or of telemetry looks like.
export function fact(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return short(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const BASIS = {
  labels: "known from labels",
  "label-free": "estimated without labels",
  both: "known from labels and from what the model says of itself",
  none: "not known",
};
export const basis = (name) => BASIS[name] ?? "not known";
export const ACTIONS = {
  retrain: "Retrain",
  recalibrate: "Recalibrate",
  "fix-pipeline": "Fix the pipeline",
  "roll-back": "Roll back",
  review: "Review",
};

export const TONES = {
  below: "bad",
  past: "bad",
  asked: "act",
  fix: "act",
  due: "act",
  silent: "blind",
  mismatch: "look",
  unknown: "blind",
  waiting: "blind",
  good: "good",
  replaced: "gone",
  retired: "gone",
};

// The verdict in a few words.
export function headline(row) {
  const { forecast, window: seen, mismatches, triggers } = row;
  switch (row.state) {
    case "asked":
      return ms(row.retrain_by) <= now() ? "Retrain now" : `Retrain by ${day(ms(row.retrain_by))}`;
    case "fix":
      return ACTIONS[triggers.find((one) => one.action !== "retrain" && !one.advice)?.action] ?? row.word;
    case "silent":
      return seen?.n ? `No data since ${day(ms(seen.end))}` : "No traffic";
    case "mismatch":
      return `${plural(mismatches.critical + mismatches.warning, "fact")} not as declared`;
    case "good":
      return forecast.low ? `Good until at least ${day(ms(forecast.low))}` : "Good beyond the horizon";
    case "unknown":
      return row.quality.estimate === null || row.quality.estimate === undefined ? "Quality unknown" : "Date unknown";
    case "replaced":
      return row.lifecycle.successor ? `Replaced by version ${row.lifecycle.successor}` : "Replaced";
    default:
      return row.word;
  }
}

// Between when and when the threshold is crossed, with 90% confidence; null where nobody can say.
export function between({ low, best_before: middle, high }) {
  if (!low && !middle) return null;
  const [from, to] = [low && ms(low), high && ms(high)];
  if (from && to && from === to) return null;
  if (to) return `between ${day(from)} and ${day(to)}`;
  return from ? `between ${day(from)} and beyond the horizon` : null;
}

// What somebody should know beside the verdict.
export function sentence(row) {
  const { forecast, quality } = row;
  if (row.state === "below") return `${interval(quality)}; the threshold is ${row.threshold}`;
  if (row.state === "waiting")
    return `registered on ${day(ms(row.registered_at))}; a status comes with its first closed window`;
  if (row.why) return row.why;
  if (forecast.reason) return `no date: ${forecast.reason}`;
  const range = between(forecast);
  const due = row.state === "asked" ? `asked for by ${day(ms(row.retrain_by))}; ` : "";
  if (forecast.best_before) return `${due}best before ${day(ms(forecast.best_before))}${range ? `, ${range}` : ""}`;
  return forecast.low ? "its date lies beyond the horizon" : "";
}

export function interval({ estimate, low, high }) {
  if (estimate === null || estimate === undefined) return "unknown";
  return typeof low === "number" && typeof high === "number"
    ? `${figure(estimate)} (${figure(low)} to ${figure(high)})`
    : figure(estimate);
}

export const path = (model, version, part) =>
  `#/${[model, version, ...(part ? [part] : [])].map(encodeURIComponent).join("/")}`;
