// What the page knows, where it hears it from, and which view the address asks for.
import { List } from "./list.js";
import { make } from "./make.js";
import { Model } from "./model.js";
import { clock, count, headline, ms, plural, stamp, TONES, zone } from "./words.js";

const state = { models: new Map(), limits: { most: 0, models: 0, more: false }, beat: null, known: false };
const byId = (id) => document.getElementById(id);
const main = byId("main"),
  key = (row) => JSON.stringify([row.model, row.version]);
let view = null,
  shown = "",
  heard = 0,
  source = null,
  failing = false;

// -- what is heard ----------------------------------------------------------------------------------------------------

function tick(body) {
  heard = Date.now();
  failing = false;
  clock.ahead = Math.abs(ms(body.now) - heard) > 2000 ? ms(body.now) - heard : 0;
}

const LISTEN = {
  overview(body) {
    const before = state.known ? state.models : null;
    state.models = new Map(body.models.map((row) => [key(row), row]));
    state.limits = body.limits;
    if (before) speak(before, body.models);
    state.known = true;
    draw([...state.models.keys()]);
  },
  changed(body) {
    const before = new Map(state.models);
    for (const row of body.gone) state.models.delete(key(row));
    for (const row of body.models) state.models.set(key(row), row);
    speak(before, body.models);
    state.known = true;
    draw(body.models.map(key));
  },
  beat(body) {
    const changed = JSON.stringify(state.beat?.worker) !== JSON.stringify(body.worker);
    state.beat = body;
    if (changed && view instanceof List) view.heard(state);
  },
};

// Only a verdict that changed is said aloud; figures that move with every window are not.
function speak(before, rows) {
  const turned = rows.filter((row) => before.has(key(row)) && before.get(key(row)).state !== row.state);
  if (!turned.length) return;
  const said = turned
    .slice(0, 3)
    .map((row) => `${row.model} ${row.version}: ${headline(row)}, was ${headline(before.get(key(row)))}`);
  byId("spoken").textContent =
    `${said.join(". ")}${turned.length > 3 ? `. And ${turned.length - 3} more have changed` : ""}.`;
}

function listen() {
  source = new EventSource("stream");
  for (const [name, act] of Object.entries(LISTEN)) {
    source.addEventListener(name, (event) => {
      const body = JSON.parse(event.data);
      tick(body);
      act(body);
      link();
    });
  }
  source.onerror = () => {
    failing = true;
    link();
    if (source.readyState === EventSource.CLOSED) setTimeout(again, 5000 + Math.random() * 5000);
  };
}

// Refused for good: because the sign-in is over, or because too many listen; then ask now and then.
async function again() {
  const answer = await fetch("models.json", { headers: { Accept: "application/json" } }).catch(() => null);
  if (answer?.status === 401 || answer?.status === 403) return location.reload();
  if (answer?.ok) {
    const body = await answer.json();
    tick(body);
    LISTEN.overview(body);
    LISTEN.beat(body);
  } else if (answer) state.told = (await answer.text()).trim();
  link();
  listen();
}

function link() {
  const lost = Date.now() - heard > (failing ? 4000 : 20000),
    down = state.beat && state.beat.store.answers === false;
  const kind = !heard ? "wait" : lost ? "lost" : down ? "down" : "live",
    node = byId("link");
  if (node.dataset.link !== kind) node.dataset.link = kind;
  const words = { wait: "connecting", live: "live", lost: "connection lost", down: "store away" }[kind];
  if (byId("link-text").textContent !== words) byId("link-text").textContent = words;
  const banner = byId("banner");
  banner.hidden = kind === "live" || (kind === "wait" && !state.told);
  if (banner.hidden || banner.dataset.kind === kind) return;
  banner.dataset.kind = kind;
  if (kind === "down")
    banner.replaceChildren(
      "The store does not answer since ",
      stamp(state.beat.store.since),
      `: ${state.beat.store.why}. What you see is from before.`,
    );
  else if (kind === "lost")
    banner.replaceChildren(
      "The worker has not been heard since ",
      stamp(new Date(heard).toISOString()),
      ". The page goes on trying; what you see is from then.",
    );
  else banner.replaceChildren(state.told ?? "");
}

// -- what is shown ----------------------------------------------------------------------------------------------------

function draw(changed) {
  summary();
  if (view instanceof List) view.show(state);
  else if (view && changed.includes(JSON.stringify([view.model, view.version])))
    setTimeout(() => view.load?.(), Math.random() * 500);
}

function summary() {
  const rows = [...state.models.values()],
    of = (...tones) => rows.filter((row) => tones.includes(TONES[row.state])).length;
  const serving = rows.length - of("gone"),
    needs = of("bad", "act", "look"),
    blind = of("blind");
  const words = !rows.length
    ? "No model yet"
    : needs
      ? `${needs} of ${plural(serving, "model")} need${needs === 1 ? "s" : ""} somebody`
      : blind === serving
        ? `Nothing is known yet of ${plural(serving, "model")}`
        : `${plural(serving - blind, "model")} good`;
  byId("summary").replaceChildren(
    make("b", {}, words),
    rows.length && blind && blind !== serving ? `, ${count(blind)} unknown or silent` : "",
  );
  if (!(view instanceof Model)) document.title = `${words} · bestbefore`;
}

function route() {
  const [place] = location.hash.replace(/^#\/?/, "").split("?"),
    parts = place.split("/").filter(Boolean).map(plain);
  if (JSON.stringify(parts) === shown) return view instanceof List && view.show(state);
  const first = shown === "";
  shown = JSON.stringify(parts);
  view?.end?.();
  if (parts.length >= 2) {
    view = new Model(parts[0], parts[1], parts[2]);
    document.title = `${parts[0]} ${parts[1]} · bestbefore`;
    main.replaceChildren(view.node);
    view.load();
  } else {
    view = new List();
    main.replaceChildren(view.node);
    view.show(state);
    summary();
  }
  if (!first) {
    scrollTo(0, 0);
    (byId("title") ?? main).focus({ preventScroll: true });
  }
}

function plain(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function zones() {
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  byId("zone").textContent = `Times are in ${zone()}`;
  byId("zone").title = clock.utc ? `show them in ${own}` : "show them in UTC";
}

byId("zone").addEventListener("click", () => {
  clock.utc = !clock.utc;
  localStorage.setItem("utc", clock.utc ? "1" : "");
  zones();
  view?.show(state);
});
byId("skip").addEventListener("click", () => main.focus());
addEventListener("hashchange", route);
addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", (event) => event.persisted && listen());
setInterval(link, 1000);
setInterval(() => view instanceof List && !document.activeElement?.closest(".rows") && view.show(state), 60000);
clock.utc = localStorage.getItem("utc") === "1";
zones();
route();
listen();
