// Cards of one model: mismatches, triggers, segments, checks, life.
import { grid, icon, make } from "./make.js";
import { ACTIONS, count, day, distance, fact, interval, ms, path, plural, segment, short, stamp } from "./words.js";

const SEVERITY = { critical: "bad", warning: "look", info: "gone" };

export const card = (key, title, ...children) =>
  make(
    "section",
    { class: "card", "aria-labelledby": `head-${key}` },
    make("h2", { id: `head-${key}` }, title),
    ...children,
  );

export const more = ([most, is], what) =>
  is && make("p", { class: "note" }, `Only the newest ${most} ${what} are shown.`);

// A definition list of those pairs that have something to say.
export const facts = (pairs, name = "facts") =>
  make(
    "dl",
    { class: name },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "")
      .map(([term, value]) => make("div", {}, make("dt", {}, term), make("dd", {}, value))),
  );

function side(title, { path: where, value, unit, low, high, n, place } = {}) {
  return make(
    "div",
    { class: "side" },
    make("h4", {}, title),
    make(
      "p",
      { class: "value" },
      fact(value),
      unit && ` ${unit}`,
      typeof low === "number" &&
        typeof high === "number" &&
        make("span", { class: "small" }, ` (${short(low)} to ${short(high)})`),
    ),
    make(
      "p",
      { class: "small where" },
      where,
      place && ` · ${place}`,
      typeof n === "number" && ` · ${plural(Math.round(n), "observation")}`,
    ),
  );
}

function effect({ statistic, estimate, low, high, threshold }) {
  const range =
    typeof low === "number" && typeof high === "number" ? `, 90% between ${short(low)} and ${short(high)}` : "";
  return `${statistic} ${short(estimate)}${range}${typeof threshold === "number" ? `; matters from ${short(threshold)}` : ""}`;
}

export function mismatch(found) {
  const tone = SEVERITY[found.severity] ?? "look",
    key = `mismatch-${found.id}`;
  return make(
    "li",
    { class: `mismatch tone-${tone}` },
    make(
      "h3",
      {},
      icon(tone),
      make("span", {}, found.field ? `${found.check}: ${found.field}` : found.check),
      make("span", { class: `chip tone-${tone}` }, found.severity),
    ),
    make("p", {}, found.message),
    (found.left || found.right) &&
      make("div", { class: "sides" }, side("Declared", found.left ?? {}), side("Seen", found.right ?? {})),
    facts([
      ["What to do", found.remedy],
      ["Owner", found.owner],
      ["How large", found.effect && effect(found.effect)],
      ["Since", found.first_seen && [stamp(found.first_seen), ` (${distance(ms(found.first_seen))})`]],
      ["Segment", found.segment && segment(found.segment)],
      ["All versions", !found.version && "it is about all versions together"],
    ]),
    make(
      "details",
      { "data-key": key },
      make("summary", { "data-key": `${key}-open` }, "Evidence"),
      facts([
        ["Events to look at", found.evidence?.length ? found.evidence.join(", ") : "none named"],
        ["Explained by", make("code", {}, `bestbefore check --explain ${found.check}`)],
        ["Incident", found.incident],
        ["Judged by descriptors", found.descriptors?.slice(0, 12)],
        ["Aliases", found.aliases?.join(", ")],
      ]),
    ),
  );
}

export function mismatches(found, limit, unknown) {
  const also = unknown ? ` ${plural(unknown, "check")} cannot tell; they are listed below.` : "";
  return card(
    "mismatches",
    `Open mismatches (${found.length})`,
    found.length
      ? make("ol", { class: "plain-list" }, found.map(mismatch))
      : make("p", { class: "empty" }, `Nothing is known to differ from what was declared.${also}`),
    more(limit, "mismatches"),
  );
}

function asked(trigger, life) {
  const open = trigger.state === "open",
    tone = open ? "act" : trigger.state === "advice" ? "good" : "gone",
    held = trigger.reason?.withheld;
  const told = life.filter((event) => event.trigger_id === trigger.trigger_id && event.kind === "forecast-outcome");
  const title =
    trigger.state === "advice"
      ? "Advice: the scheduled retraining is not needed"
      : `${ACTIONS[trigger.action] ?? trigger.action}, by `;
  return make(
    "li",
    { class: `trigger tone-${tone}` },
    make(
      "h3",
      {},
      icon(tone),
      make("span", {}, title, trigger.state !== "advice" && stamp(trigger.retrain_by)),
      make(
        "span",
        { class: `chip tone-${tone}` },
        open ? `open, ${trigger.severity}` : trigger.state === "advice" ? "advice" : trigger.resolved.resolution,
      ),
    ),
    make(
      "ul",
      { class: "steps" },
      make("li", {}, stamp(trigger.created_at), make("span", {}, `asked: ${why(trigger.reason ?? {})}`)),
      held &&
        make(
          "li",
          {},
          make("span", {}, "withheld"),
          make(
            "span",
            {},
            `a retraining, until this is resolved: ${held.because.map((one) => one.message).join("; ")}`,
          ),
        ),
      life
        .filter(
          (event) =>
            ["retrained", "deployed", "promoted", "rolled-back"].includes(event.kind) &&
            ms(event.time) >= ms(trigger.created_at) &&
            (!trigger.resolved || ms(event.time) <= ms(trigger.resolved.time)),
        )
        .map((event) => make("li", {}, stamp(event.time), make("span", {}, `${event.kind}: version ${event.version}`))),
      told.map((event) => make("li", {}, stamp(event.time), make("span", {}, outcome(event)))),
      trigger.resolved &&
        make(
          "li",
          {},
          stamp(trigger.resolved.time),
          make("span", {}, `ended: ${trigger.resolved.message ?? trigger.resolved.resolution}`),
        ),
    ),
    make("p", { class: "small" }, "id ", make("code", {}, trigger.trigger_id)),
  );
}

function why(reason) {
  if (reason.message) return reason.message;
  if (reason.rule === "below-threshold")
    return `the whole interval of the ${reason.metric} lies below ${reason.threshold}`;
  const percent = (value) => (typeof value === "number" ? `${Math.round(value * 100)}%` : "?");
  return `it falls below ${reason.threshold} within the lead time with a probability of ${percent(reason.probability_within_lead_time)}; acting pays from ${percent(reason.trigger_probability)}`;
}

function outcome(event) {
  if (event.stage !== "crossed")
    return `forecast judged at the end: ${event.warned_in_time ? "warned in time" : event.observed?.censored ? "the crossing was not seen" : "not in time"}`;
  return `the quality crossed the threshold ${event.observed?.crossed ? `on ${day(ms(event.observed.crossed))}` : ""}: ${event.warned_in_time ? "the warning was in time" : "the warning came late"}`;
}

export function triggers(found, life, limit) {
  return card(
    "triggers",
    "Triggers",
    found.length
      ? make(
          "ol",
          { class: "plain-list" },
          found.map((one) => asked(one, life)),
        )
      : make("p", { class: "empty" }, "Nothing has been asked for."),
    more(limit, "triggers"),
  );
}

export function segments(found, model, version, here, limit) {
  if (!found.length) return false;
  const tone = { below: "bad", unknown: "blind", good: "good" },
    word = { below: "below", unknown: "unknown", good: "above" },
    // An interval that holds the threshold says neither.
    said = (part) =>
      part.state === "unknown" && typeof part.low === "number" && typeof part.threshold === "number"
        ? "above or below"
        : word[part.state];
  return card(
    "segments",
    `Segments (${found.length})`,
    grid(
      "segments",
      "Segments",
      ["Segment", "Quality, 90% interval", "Threshold", "Inferences"],
      make(
        "tbody",
        {},
        found.map((part) =>
          make(
            "tr",
            { "aria-current": part.segment === here ? "true" : null },
            make(
              "th",
              { scope: "row" },
              icon(tone[part.state]),
              make(
                "a",
                { href: path(model, version, part.segment), "data-key": `segment-${part.segment}` },
                segment(part.segment),
              ),
            ),
            make("td", {}, interval(part), make("span", { class: "small" }, ` ${said(part)}`)),
            make("td", { class: "number" }, typeof part.threshold === "number" ? part.threshold : "–"),
            make("td", { class: "number" }, count(part.n)),
          ),
        ),
      ),
      { figures: 2 },
    ),
    more(limit, "segments"),
  );
}

export function checks(found) {
  if (!found.length) return false;
  const tone = { mismatch: "look", unknown: "blind", ok: "good" };
  return card(
    "checks",
    "Checks",
    make(
      "ul",
      { class: "checks" },
      found.map((one) =>
        make(
          "li",
          {},
          icon(tone[one.verdict] ?? "blind"),
          make(
            "div",
            {},
            make("b", {}, one.check),
            make("span", { class: "small" }, ` ${one.verdict}`),
            make("p", { class: "small" }, one.asks, one.owner && ` Owner: ${one.owner}.`),
          ),
        ),
      ),
    ),
  );
}

export function life(found, limit) {
  const own = found.filter((event) => !["trigger-resolved", "forecast-outcome"].includes(event.kind));
  return (
    own.length > 0 &&
    card(
      "life",
      "Life",
      make(
        "ul",
        { class: "steps" },
        own.map((event) =>
          make(
            "li",
            {},
            stamp(event.time),
            make(
              "span",
              {},
              event.kind,
              event.previous && ` in place of ${event.previous}`,
              event.message && `: ${event.message}`,
            ),
          ),
        ),
      ),
      more(limit, "events"),
    )
  );
}
