// The ascent: what pyoip.reference.ascend_one keeps in mind beside the image, for many ascents
// at once. The graph of a layer moves the images and looks at them (pyoip.gradient.step); here
// is decided how far they move, and when they have arrived.

export const QUIET_WINDOWS = 3; // halvings of the step in a row without a gain that end an ascent

/** One ascent: where it stands, and the best that it has seen. */
export class Row {
  /** `map` is followed from `image` (C, H, W); `more` is whatever the caller wants to find again. */
  constructor(map, image, more = {}) {
    Object.assign(this, more);
    this.map = map;
    this.image = image; // where it is now
    this.bestImage = image;
    this.history = []; // the objective, step by step
    this.activation = this.preactivation = 0; // of the best image
    this.best = this.mark = -Infinity; // merit: of the best image, of the best at the last mark
    this.since = this.quiet = 0; // steps since the mark, quiet windows in a row
    this.size = 0;
    this.woke = -1; // first step at which the map was not asleep
    this.stop = null; // "converged", "zero gradient", "steps" or "interrupted" in the end
  }

  get steps() {
    return this.history.length - 1;
  }

  /** Take note of what was seen after a step; decide whether there is another one. */
  note(seen, settings, gates) {
    this.history.push(seen[settings.objective]);
    const t = this.steps, asleep = gates && seen.activation <= 0;
    if (this.woke < 0 && !asleep) this.woke = t;
    if (seen.merit > this.best) {
      this.best = seen.merit;
      this.activation = seen.activation;
      this.preactivation = seen.preactivation;
    }
    if (t === 0) this.mark = this.best;
    else this.since++;
    if (seen.slope === 0) this.stop = "zero gradient";
    else if (this.since === Math.max(settings.patience, settings.smooth)) this.judge(settings);
    if (this.stop === null && t === settings.steps) this.stop = "steps";
  }

  /** At the end of a window: halve the step where little was gained, end after the fourth time. */
  judge(settings) {
    const small = this.best - this.mark <= settings.tolerance * Math.abs(this.best);
    this.since = 0;
    this.mark = this.best;
    this.quiet = small ? this.quiet + 1 : 0;
    if (small) this.size /= 2;
    if (this.quiet > QUIET_WINDOWS) this.stop = "converged";
  }
}

/** Ascents that take their steps together; new ones may join as others arrive. */
export class Climb {
  /**
   * `run` computes one pass of the layer's graph: from images, velocity, gradient (Float32Array,
   * B·pixels), best, best_merit, step_size (B), map (B) and blur to the arrays of its outputs.
   * `gates` tells whether a map of this layer can be asleep.
   */
  constructor(run, settings, gates) {
    Object.assign(this, { run, settings, gates });
    this.rows = [];
    this.state = { image: [], velocity: [], gradient: [], best: [] }; // an array for each row
  }

  /** Whether ascents may join now: all of a batch are blurred at the same step. */
  get open() {
    const { smooth } = this.settings;
    return !smooth || this.rows.every((row) => row.steps % smooth === 0);
  }

  /** Let ascents join, looked at where they begin; return those that end there already. */
  async add(rows) {
    const still = () => rows.map(({ image }) => new Float32Array(image.length));
    const images = rows.map((row) => row.image);
    const begin = { image: images, velocity: still(), gradient: still(), best: images };
    const state = await this.pass(rows, begin, 0);
    for (const row of rows) row.size = this.settings.step_size * (row.boldness ?? 1);
    this.rows = [...this.rows, ...rows];
    for (const name in this.state) this.state[name] = [...this.state[name], ...state[name]];
    return this.dropped();
  }

  /** Move all; return the ascents that have ended. */
  async step() {
    const { smooth } = this.settings, next = this.rows.length ? this.rows[0].steps + 1 : 0;
    this.state = await this.pass(this.rows, this.state, smooth && next % smooth === 0 ? 1 : 0);
    return this.dropped();
  }

  /** End all that are under way; return them. */
  interrupt() {
    const rows = this.rows;
    for (const row of rows) row.stop = "interrupted";
    this.dropped();
    return rows;
  }

  async pass(rows, state, blur) {
    const { length } = rows[0].image;
    const seen = await this.run({
      ...Object.fromEntries(Object.entries(state).map(([name, parts]) => [name, joined(parts)])),
      step_size: Float32Array.from(rows, (row) => row.size),
      best_merit: Float32Array.from(rows, (row) => row.best),
      map: rows.map((row) => row.map),
      blur,
    });
    const next = {};
    for (const name in state)
      next[name] = rows.map((_, i) => seen[`next_${name}`].subarray(i * length, (i + 1) * length));
    rows.forEach((row, i) => {
      row.image = next.image[i];
      row.bestImage = next.best[i];
      const { activation, preactivation, merit, slope } = seen;
      row.note(
        { activation: activation[i], preactivation: preactivation[i], merit: merit[i], slope: slope[i] },
        this.settings,
        this.gates,
      );
    });
    return next;
  }

  dropped() {
    const ended = this.rows.filter((row) => row.stop !== null);
    if (!ended.length) return ended;
    for (const row of ended) row.bestImage = row.bestImage.slice(); // let go of the whole batch
    const stays = this.rows.map((row) => row.stop === null);
    for (const name in this.state) this.state[name] = this.state[name].filter((_, i) => stays[i]);
    this.rows = this.rows.filter((_, i) => stays[i]);
    return ended;
  }
}

/** Return arrays one behind the other, without a copy where they lie so already. */
function joined(parts) {
  const [first] = parts, { length } = first;
  const adjacent = parts.every(
    (part, i) => part.buffer === first.buffer && part.byteOffset === first.byteOffset + i * 4 * length,
  );
  if (adjacent) return new Float32Array(first.buffer, first.byteOffset, parts.length * length);
  const whole = new Float32Array(parts.length * length);
  parts.forEach((part, i) => whole.set(part, i * length));
  return whole;
}
