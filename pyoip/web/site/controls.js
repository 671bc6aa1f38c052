// What can be chosen: the fields of the page, read as numbers and checked.

const PACES = [2, 6, 15, 40, 100, Infinity]; // steps a second
const MOST_LENGTH = 1000000;
const MOST_SEED = 2n ** 64n - 1n;

const $ = (id) => document.getElementById(id);

/** Build a row of the table of length scales; return how to read it. */
function scaleRow(scale, weight, number) {
  const width = Object.assign(document.createElement("input"), {
    type: "number", min: 1, max: MOST_LENGTH, step: "any", value: scale, required: true,
  });
  const most = weight > 2 || (weight && weight < 0.1) ? 2 * weight : 2;
  const share = Object.assign(document.createElement("input"), {
    type: "range", min: 0, max: most, step: most / 40, value: weight,
  });
  let exact = weight; // as the page was exported, until the slider is moved
  const shown = document.createElement("output");
  width.setAttribute("aria-label", `Length ${number} in pixels`);
  share.setAttribute("aria-label", `Weight of length ${number}`);
  const tell = () => {
    shown.value = exact && exact < 0.01 ? exact.toExponential(0) : exact.toFixed(2);
    share.setAttribute("aria-valuetext", shown.value);
  };
  share.addEventListener("input", () => {
    exact = share.valueAsNumber;
    tell();
  });
  tell();
  $("scales").append(width, share, shown);
  return () => [width, exact];
}

/** The fields; dispatches "target", "start", "pace" and "ascent" when they change. */
export class Controls extends EventTarget {
  constructor(page) {
    super();
    this.page = page;
    this.own = null; // the visitor's picture, {name, image}
    const { scales, weights, smoothing } = page.fluctuations;
    this.scales = scales.map((scale, i) => scaleRow(scale, weights[i], i + 1));
    $("smoothing").value = smoothing;
    $("steps").value = page.settings.steps;
    $("step").value = Math.log10(page.settings.step_size);
    for (const { number, name } of page.layers) $("layer").append(new Option(`${number} · ${name}`, number));
    for (const { number, name } of page.missing) {
      const option = new Option(`${number} · ${name} (no gradient)`, number);
      option.disabled = true;
      $("layer").append(option);
    }
    this.restore();
    this.listen();
    this.show();
  }

  listen() {
    const tell = (name) => () => {
      this.show();
      this.dispatchEvent(new Event(name));
    };
    $("layer").addEventListener("change", tell("layer"));
    $("map").addEventListener("change", () => this.choose($("map").valueAsNumber || 0));
    $("before").addEventListener("click", () => this.choose(this.map - 1));
    $("after").addEventListener("click", () => this.choose(this.map + 1));
    $("pace").addEventListener("input", tell("pace"));
    $("step").addEventListener("input", () => this.show());
    $("controls").addEventListener("input", ({ target }) => {
      if (!["pace", "step", "steps", "smooth", "file"].includes(target.id)) tell("start")();
    });
    for (const form of [$("choice"), $("controls")])
      form.addEventListener("submit", (event) => event.preventDefault());
    addEventListener("hashchange", () => {
      this.restore();
      tell("layer")();
    });
  }

  /** Take layer, map and start from the address, as in #layer=2&map=17&seed=5. */
  restore() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const known = this.page.layers.some(({ number }) => String(number) === asked.get("layer"));
    if (known) $("layer").value = asked.get("layer");
    for (const name of ["seed", "index"]) if (asked.has(name)) $(name).value = asked.get(name);
    $("map").value = asked.get("map") ?? $("map").value;
  }

  /** Bring what is written beside the fields up to date, and the address. */
  show() {
    const { layer } = this;
    $("map").max = layer.maps - 1;
    $("map").value = this.map;
    $("maps").textContent = `of 0 … ${layer.maps - 1}`;
    const focused = document.activeElement;
    $("before").disabled = this.map === 0;
    $("after").disabled = this.map === layer.maps - 1;
    if (focused.disabled) $("map").focus(); // the keyboard's place is not lost at the last map
    document.body.dataset.kind = this.kind;
    $("pace-text").textContent = this.pace < Infinity ? `${this.pace} steps a second` : "as it comes";
    $("step-text").textContent = `${this.stepSize} deviations`;
    for (const id of ["pace", "step"]) $(id).setAttribute("aria-valuetext", $(`${id}-text`).textContent);
    const place = new URLSearchParams({ layer: layer.number, map: this.map });
    if (this.kind !== "image") place.set("seed", $("seed").value);
    if (this.kind === "number") place.set("index", $("index").value);
    history.replaceState(null, "", `#${place}`);
  }

  /** Choose a map of this layer. */
  choose(map) {
    $("map").value = map;
    this.show();
    this.dispatchEvent(new Event("map"));
  }

  get layer() {
    const number = Number($("layer").value);
    return this.page.layers.find((layer) => layer.number === number);
  }

  get map() {
    const map = Math.round(Number($("map").value)) || 0;
    return Math.min(Math.max(map, 0), this.layer.maps - 1);
  }

  get kind() {
    return document.querySelector("input[name=kind]:checked").value;
  }

  set kind(kind) {
    document.querySelector(`input[name=kind][value=${kind}]`).checked = true;
    this.show();
  }

  get pace() {
    return PACES[$("pace").value];
  }

  get stepSize() {
    return Number((10 ** $("step").value).toPrecision(2));
  }

  /** Go on to the next start: another seed. */
  reseed() {
    if (this.kind === "image") this.kind = "number";
    const seed = this.seedOrNull() ?? -1n;
    $("seed").value = seed === MOST_SEED ? 0 : seed + 1n;
    this.show();
    this.dispatchEvent(new Event("start"));
  }

  seedOrNull() {
    const text = $("seed").value.trim();
    if (!/^\d{1,20}$/.test(text) || BigInt(text) > MOST_SEED) return null;
    return BigInt(text);
  }

  /** Return a field's whole number; an error of one line where it is none. */
  whole(id, name) {
    const field = $(id), value = field.valueAsNumber;
    const inside = Number.isInteger(value) && value >= Number(field.min) && value <= Number(field.max);
    if (!inside)
      throw new Error(`${name}: ${field.value || "nothing"}; must be a whole number, ${field.min} … ${field.max}`);
    return value;
  }

  /** Return the fluctuations. */
  get fluctuations() {
    const rows = this.scales.map((read) => read()), fields = rows.map(([field]) => field);
    const wrong = fields.find((field) => !field.validity.valid);
    if (wrong) throw new Error(`length: ${wrong.value || "nothing"}; must be 1 … ${MOST_LENGTH} pixels`);
    const scales = fields.map((field) => field.valueAsNumber);
    const smoothing = this.whole("smoothing", "blurred");
    return { scales, weights: rows.map(([, weight]) => weight), smoothing };
  }

  /** Return where to start, as `Engine.climb` wants it. */
  get start() {
    if (this.kind === "image") {
      if (!this.own) throw new Error("choose a picture, or drop one on the page");
      return { kind: "image", image: this.own.image };
    }
    const seed = this.seedOrNull();
    if (seed === null)
      throw new Error(`seed: ${$("seed").value || "nothing"}; must be a whole number, 0 … ${MOST_SEED}`);
    if (this.kind === "number") return { kind: "number", seed, index: this.whole("index", "image number") };
    const candidates = this.whole("candidates", "candidates");
    const climbers = Math.min(this.whole("climbers", "of these climb"), candidates);
    return { kind: "search", seed, candidates, climbers };
  }

  /** Return the settings of the ascent that differ from the page's. */
  get settings() {
    const steps = this.whole("steps", "at most"), smooth = this.whole("smooth", "blur every");
    return { step_size: this.stepSize, steps, smooth };
  }
}
