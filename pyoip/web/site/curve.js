// The curve of an ascent: the objective over the steps, for several ascents of one map.

const NAMESPACE = "http://www.w3.org/2000/svg";
const LEFT = 46, RIGHT = 14, TOP = 16, BOTTOM = 26;
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

/** Draw histories, the leader's first; `real` is what a real image reaches, or null. */
export function drawCurve(svg, histories, real) {
  const { clientWidth: width, clientHeight: height } = svg;
  const values = histories.flat();
  const steps = Math.max(FEWEST, ...histories.map((history) => history.length - 1));
  const low = Math.min(0, ...values), high = Math.max(...values, real ?? 0, low + 1e-6) * 1.06;
  const x = (t) => LEFT + (t / steps) * (width - LEFT - RIGHT);
  const y = (v) => height - BOTTOM - ((v - low) / (high - low)) * (height - TOP - BOTTOM);
  const parts = [];
  for (const value of ticks(low, high)) {
    const at = y(value);
    parts.push(element("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    const label = String(value).replace("-", "−");
    parts.push(element("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, label));
  }
  for (const step of ticks(0, steps).filter(Number.isInteger))
    parts.push(element("text", { x: x(step), y: height - 6, "text-anchor": "middle" }, step));
  if (real !== null) {
    const at = y(real);
    parts.push(element("line", { class: "real", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
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
