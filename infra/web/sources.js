// Whether data are coming at all: what was closed last, and what this worker sees at the broker.
import { grid, icon, make } from "./make.js";
import { card } from "./parts.js";
import { count, distance, ms, plural, stamp } from "./words.js";

export function sources(beat, rows) {
  if (!beat) return false;
  const { worker } = beat,
    heard = rows
      .map((row) => row.window?.end)
      .filter(Boolean)
      .sort()
      .at(-1);
  const newest = make(
    "p",
    {},
    heard
      ? ["The newest closed window of any model ended ", stamp(heard), ` (${distance(ms(heard))}).`]
      : "No window has been closed yet.",
  );
  if (!worker) {
    return card(
      "sources",
      "Is data coming?",
      newest,
      make(
        "p",
        { class: "note" },
        "This page reads the store alone. What lies at the broker is told by the page of a worker, dead letters by ",
        make("code", {}, "bestbefore dead-letters list"),
        ".",
      ),
    );
  }
  return card(
    "sources",
    "Is data coming?",
    newest,
    topics(worker),
    letters(worker.dead_letters),
    make(
      "ul",
      { class: "chips" },
      worker.services.map((one) =>
        make(
          "li",
          { class: `chip tone-${one.answers ? "good" : "bad"}` },
          `${one.service} ${one.answers ? "answers" : "does not answer"} since `,
          stamp(one.since),
        ),
      ),
    ),
  );
}

function topics(worker) {
  if (!worker.topics.length) return make("p", { class: "empty" }, "This worker has no partitions yet.");
  return grid(
    "topics",
    "Topics that this worker reads",
    ["Topic", "Newest event", "Records that wait", "Open windows", "Partitions"],
    make(
      "tbody",
      {},
      worker.topics.map((one) =>
        make(
          "tr",
          {},
          make("th", { scope: "row" }, one.topic),
          make(
            "td",
            {},
            one.last_event
              ? [stamp(one.last_event), make("span", { class: "small" }, ` ${distance(ms(one.last_event))}`)]
              : "–",
          ),
          [one.lag, one.open_windows, one.partitions].map((n) => make("td", { class: "number" }, count(n))),
        ),
      ),
    ),
    { caption: `Topics of group ${worker.group}, the partitions of this worker`, figures: 2 },
  );
}

function letters(found) {
  if (!found.length) return make("p", { class: "empty" }, "No dead letters since this worker started.");
  return make(
    "div",
    {},
    make(
      "p",
      { class: "warning-words" },
      icon("look"),
      `${plural(
        found.reduce((sum, one) => sum + one.n, 0),
        "record",
      )} went to the dead letters since this worker started: `,
      found.map((one) => `${count(one.n)} from ${one.topic} (${one.stage})`).join(", "),
      ". ",
      make("code", {}, "bestbefore dead-letters list"),
      " says why.",
    ),
  );
}
