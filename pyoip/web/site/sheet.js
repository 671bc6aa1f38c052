// The contact sheet: every map of a layer, growing as the ascents arrive.

import { contrastWindow, draw, formatValues } from "./picture.js";
import { fitted } from "./stage.js";

const $ = (id) => document.getElementById(id);
const TARGET = 84; // pixels that a picture should be wide

/** The tiles of one layer; `chosen` is called with a map's number. */
export class Sheet {
  constructor(page, chosen) {
    this.page = page;
    this.chosen = chosen;
    this.tiles = [];
    const [, , width] = page.input_shape;
    $("tiles").style.setProperty("--tile", `${fitted(width, 2 * TARGET, TARGET)}px`);
    $("tiles").addEventListener("keydown", (event) => this.steer(event));
  }

  /** Begin a sheet of a layer, all tiles empty. */
  begin(layer, note) {
    this.layer = layer;
    this.window = null;
    this.largest = 0; // value so far: it decides on the decimals of all
    $("sheet").hidden = false;
    $("sheet-title").textContent = `All ${layer.maps} maps of ${layer.name}`;
    this.tiles = Array.from({ length: layer.maps }, (_, map) => this.tile(map));
    $("tiles").replaceChildren(...this.tiles.map(({ item }) => item));
    this.note(note);
    this.mark(null);
    const hidden = $("sheet").getBoundingClientRect().top - 0.55 * innerHeight;
    if (hidden > 0) scrollBy({ top: hidden }); // how smoothly is for the style sheet to say
  }

  tile(map) {
    const item = document.createElement("li"), button = document.createElement("button");
    const canvas = document.createElement("canvas"), caption = document.createElement("span");
    const number = document.createElement("span"), value = document.createElement("span");
    const [, height, width] = this.page.input_shape;
    Object.assign(canvas, { width, height });
    Object.assign(button, { type: "button", className: "waiting", tabIndex: map ? -1 : 0 });
    button.setAttribute("aria-label", `Map ${map}`);
    caption.className = "caption";
    number.className = "number";
    value.className = "soft";
    number.textContent = map;
    caption.append(number, value);
    button.append(canvas, caption);
    button.addEventListener("click", () => this.chosen(map));
    item.append(button);
    return { item, button, canvas, shown: value, value: 0, image: null };
  }

  hide() {
    $("sheet").hidden = true;
    this.tiles = [];
  }

  note(text) {
    $("sheet-note").textContent = text;
  }

  /** Show the best ascent of a map so far. */
  update(map, tracks) {
    const tile = this.tiles[map], [leader] = tracks, { objective } = this.page.settings;
    tile.image = leader.image;
    tile.value = leader[objective];
    tile.climbs = tracks.some(({ stop }) => stop === null);
    this.largest = Math.max(this.largest, Math.abs(tile.value));
    this.window ??= contrastWindow([tile.image]);
    this.paint(map);
  }

  paint(map) {
    const { button, canvas, shown, image, value, climbs } = this.tiles[map];
    const silent = this.page.settings.objective === "activation" && value <= 0;
    const [text] = formatValues([value, this.largest]);
    button.className = climbs ? "climbing" : "";
    if (silent) shown.textContent = climbs ? "" : "silent";
    else shown.textContent = text;
    button.setAttribute("aria-label", `Map ${map}: ${silent ? "silent" : text}`);
    draw(canvas, image, this.page.input_shape, this.window);
  }

  /** Bring all pictures to one grey scale, so that contrasts can be compared, and one precision. */
  even() {
    const seen = [...this.tiles.keys()].filter((map) => this.tiles[map].image);
    if (seen.length) this.window = contrastWindow(seen.map((map) => this.tiles[map].image));
    for (const map of seen) this.paint(map);
  }

  /** Mark the tile of the map that is on the stage. */
  mark(map) {
    this.tiles.forEach(({ button }, i) => {
      if (i === map) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    });
  }

  /** Move between the tiles with the arrow keys. */
  steer(event) {
    const at = this.tiles.findIndex(({ button }) => button === document.activeElement);
    const across = getComputedStyle($("tiles")).gridTemplateColumns.split(" ").length;
    const last = this.tiles.length - 1;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -at, End: last - at };
    if (at < 0 || !(event.key in moves)) return;
    event.preventDefault();
    const next = Math.min(Math.max(at + moves[event.key], 0), last);
    this.tiles[at].button.tabIndex = -1;
    this.tiles[next].button.tabIndex = 0;
    this.tiles[next].button.focus();
  }
}
