// The curve of an ascent: the objective over the steps, for several ascents of one map.

const NAMESPACE = "http://www.w3.org/2000/svg";
const LEFT = 46, RIGHT = 14, TOP = 16, BOTTOM = 26;
const DIGIT = 8.4; // pixels that a digit or a minus is wide, on the generous side
const FEWEST = 32; // steps that the axis holds from the beginning

/** Return three to six round numbers within a range. */
export function ticks(low, high) {
  const span = high - low || 1, power = 10 ** Math.floor(Math.log10(span / 3));
  const step = [1, 2, 5, 10].map((n) => n * power).find((width) => span / width <= 5);
  const out = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * span; k++)
    out.push(Number((k * step).toPrecision(12)));
  return out;
}

function element(name, attributes, text = "") {
  const node = document.createElementNS(NAMESPACE, name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  node.textContent = text;
  return node;
}

/** Return ticks as text, short where all are tiny or some are huge. */
function labels(values) {
  const largest = Math.max(...values.map(Math.abs)), far = largest < 1e-3 || largest >= 1e5;
  const text = (v) => (v && far ? v.toExponential().replace("e+", "e") : String(v));
  return values.map((value) => text(value).replaceAll("-", "−"));
}

/** Return what the axis of values spans: 0, all that was seen, and what a real image reaches. */
function range(histories, real) {
  let low = 0, high = Math.max(real ?? 0, 0);
  for (const value of histories.flat()) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return { low, high: high > low ? high + 0.06 * (high - low) : low + 1 };
}

/** Draw histories, the leader's first; `real` is what a real image reaches, or null. */
export function drawCurve(svg, histories, real) {
  const { clientWidth: width, clientHeight: height } = svg;
  const steps = Math.max(FEWEST, ...histories.map((history) => history.length - 1));
  const { low, high } = range(histories, real);
  const known = real !== null || histories.some((history) => history.length);
  const values = known ? ticks(low, high) : [0], texts = known ? labels(values) : [""];
  const left = Math.max(LEFT, 12 + DIGIT * Math.max(...texts.map((text) => text.length)));
  const x = (t) => left + (t / steps) * (width - left - RIGHT);
  const y = (v) => height - BOTTOM - ((v - low) / (high - low)) * (height - TOP - BOTTOM);
  const parts = [];
  for (const [i, text] of texts.entries()) {
    const at = y(values[i]);
    parts.push(element("line", { class: "axis", x1: left, x2: width - RIGHT, y1: at, y2: at }));
    parts.push(element("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, text));
  }
  for (const step of ticks(0, steps).filter(Number.isInteger))
    parts.push(element("text", { x: x(step), y: height - 6, "text-anchor": "middle" }, step));
  if (real !== null) {
    const at = y(real);
    parts.push(element("line", { class: "real", x1: left, x2: width - RIGHT, y1: at, y2: at }));
    const below = y(histories[0]?.at(-1) ?? 0) < at; // the curve is above the line there
    const place = { class: "real", x: width - RIGHT, y: at + (below ? 14 : -6) };
    parts.push(element("text", { ...place, "text-anchor": "end" }, "best real image"));
  }
  const path = (history) =>
    history.map((v, t) => `${t ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  const [leader = [], ...others] = histories, last = leader.length - 1;
  for (const history of others) parts.push(element("path", { d: path(history) }));
  parts.push(element("path", { class: "leader", d: path(leader) }));
  if (last >= 0) parts.push(element("circle", { cx: x(last), cy: y(leader[last]), r: 3.5 }));
  svg.replaceChildren(...parts);
}
