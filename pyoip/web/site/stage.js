// The stage: one image, large, with its value, its curve and the film of its way.

import { drawCurve } from "./curve.js";
import { contrastWindow, draw, formatValues } from "./picture.js";

const $ = (id) => document.getElementById(id);
const LARGE = 392; // pixels that the picture should be wide
const SMALL = 128; // image pixels up to which their edges are shown

/** Return how wide to show an image of `size` pixels in `room`: a small one a whole number of times. */
export function fitted(size, room, target) {
  const zoom = Math.min(Math.round(target / size), Math.floor(room / size));
  return zoom >= 1 && size <= SMALL ? zoom * size : Math.min(room, target);
}

/** The large picture and what stands around it. */
export class Stage {
  constructor(page) {
    this.page = page;
    const [, height, width] = page.input_shape;
    document.body.classList.toggle("crisp", Math.max(height, width) <= SMALL);
    this.shown = { histories: [], real: null };
    this.filmed = null;
    new ResizeObserver(() => this.fit()).observe($("curve"));
    addEventListener("resize", () => this.fit());
    this.fit();
  }

  /** Bring picture and curve to the room that there is. */
  fit() {
    const [, height, width] = this.page.input_shape;
    const room = document.querySelector("main").clientWidth;
    const target = Math.min(LARGE, room) * Math.min(1, width / height);
    $("picture").style.width = `${fitted(width, room, target)}px`;
    drawCurve($("curve"), this.shown.histories, this.shown.real);
  }

  /** Bring the picture into view where most of it is not. */
  reveal() {
    const { top, bottom } = $("picture").getBoundingClientRect();
    if ((top + bottom) / 2 < 0) $("stage").scrollIntoView();
  }

  /** Show a start image, before anything has climbed. */
  preview(image, caption, layer, map) {
    this.real = layer.real_maxima?.[map] ?? null;
    this.picture(image, caption, `Map ${map} of ${layer.name}: the start image`);
    this.value(null);
    this.film([{ step: 0, image }]);
    this.curve([]);
  }

  /** Show the ascents of a map, the best first. */
  show(tracks, caption, layer, map) {
    const [leader] = tracks, value = leader[this.page.settings.objective];
    this.real = layer.real_maxima?.[map] ?? null;
    const ended = leader.stop !== null;
    this.picture(leader.image, caption, `Map ${map} of ${layer.name} after ${leader.steps} steps`);
    this.value(ended ? value : leader.history.at(-1), leader);
    this.film(leader.film);
    this.curve(tracks.map(({ history }) => history));
  }

  picture(image, caption, label) {
    draw($("picture"), image, this.page.input_shape);
    $("picture").setAttribute("aria-label", label);
    $("caption").textContent = caption;
  }

  value(value, track = null) {
    const what = `mean ${this.page.settings.objective}`, real = this.real;
    $("value").value = value === null ? "–" : formatValues([value])[0];
    const compared = track?.stop && real > 0 && value > 0;
    if (compared) $("unit").textContent = `${what}, ${(value / real).toFixed(2)} × the best real image’s`;
    else $("unit").textContent = track?.steps ? `${what}, step ${track.steps}` : what;
  }

  curve(histories) {
    this.shown = { histories, real: this.real };
    drawCurve($("curve"), histories, this.real);
    const [leader = []] = histories;
    const label = leader.length
      ? `From ${formatValues([leader[0]])[0]} to ${formatValues([leader.at(-1)])[0]} in ${leader.length - 1} steps`
      : "Nothing has climbed yet";
    $("curve").setAttribute("aria-label", label);
  }

  /** Show the image on its way; frames that are there already stay. */
  film(frames) {
    const window = contrastWindow([frames[0].image]);
    if (this.filmed !== frames) $("film").replaceChildren();
    this.filmed = frames;
    for (const { step, image } of frames.slice($("film").children.length)) {
      const item = document.createElement("li"), canvas = document.createElement("canvas");
      draw(canvas, image, this.page.input_shape, window);
      item.append(canvas, step ? `step ${step}` : "start");
      $("film").append(item);
    }
  }
}
