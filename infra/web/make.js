// Elements. Whatever text comes from telemetry is only ever a text node or an attribute's value, never markup.
const SVG = "http://www.w3.org/2000/svg";

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name === "place") for (const [key, at] of Object.entries(value)) node.style.setProperty(key, at);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const make = (tag, attributes = {}, ...children) => put(document.createElement(tag), attributes, children);
export const draw = (tag, attributes = {}, ...children) =>
  put(document.createElementNS(SVG, tag), attributes, children);

// A table in a region of its own that scrolls. Its heads from number `figures` on stand over figures.
export const grid = (key, label, heads, body, { caption = false, figures = Infinity } = {}) =>
  make(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label, "data-key": key },
    make(
      "table",
      {},
      caption && make("caption", { class: "small" }, caption),
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          heads.map((name, i) => make("th", { scope: "col", class: i >= figures && "number" }, name)),
        ),
      ),
      body,
    ),
  );

// Replace what stands in `node`, and leave the keyboard's focus and opened parts where they were.
export function renew(node, ...children) {
  const focus = node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = new Set([...node.querySelectorAll("details[open]")].map((part) => part.dataset.key));
  node.replaceChildren(...children.flat(Infinity).filter(Boolean));
  for (const part of node.querySelectorAll("details")) if (open.has(part.dataset.key)) part.open = true;
  if (focus) node.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
}

const SHAPES = {
  bad: [
    ["path", { d: "M7 2h6l5 5v6l-5 5H7l-5-5V7z", class: "shape" }],
    ["path", { d: "M7 7l6 6M13 7l-6 6", class: "sign" }],
  ],
  act: [
    ["path", { d: "M10 2l9 16H1z", class: "shape" }],
    ["path", { d: "M10 8v4.5M10 15v.3", class: "sign" }],
  ],
  look: [
    ["path", { d: "M10 1.5l8.5 8.5-8.5 8.5L1.5 10z", class: "shape" }],
    ["path", { d: "M6.5 8.4h7M6.5 11.6h7M12 6l-4 8", class: "sign" }],
  ],
  blind: [
    ["circle", { cx: 10, cy: 10, r: 8, class: "shape hollow" }],
    ["path", { d: "M7.6 8a2.4 2.4 0 1 1 3.4 2.2c-.7.4-1 .8-1 1.6M10 14.3v.3", class: "sign" }],
  ],
  good: [
    ["circle", { cx: 10, cy: 10, r: 8.5, class: "shape" }],
    ["path", { d: "M6 10.4l2.8 2.8L14 7.6", class: "sign" }],
  ],
  gone: [
    ["circle", { cx: 10, cy: 10, r: 8, class: "shape hollow" }],
    ["path", { d: "M6.5 10h7", class: "sign" }],
  ],
};

export function icon(tone) {
  const parts = SHAPES[tone].map(([tag, attributes]) => draw(tag, attributes));
  return draw("svg", { class: `icon tone-${tone}`, viewBox: "0 0 20 20", "aria-hidden": "true" }, ...parts);
}
