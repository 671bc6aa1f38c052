// What a job has told so far: each ascent's curve, and its image on the way.

/** The ascents of one job, put together from the engine's frames. */
export class Tracks {
  /** `caption` says of a row where it began. */
  constructor(caption) {
    this.caption = caption;
    this.rows = new Map();
  }

  /** Take the rows of a frame; return the numbers of their maps. */
  take(rows) {
    for (const { id, history, ...row } of rows) {
      const track = this.rows.get(id) ?? { history: [], film: [], mark: 0 };
      Object.assign(track, row);
      track.history.push(...history);
      if (track.steps >= track.mark || track.stop !== null) {
        track.film.push({ step: track.steps, image: track.image });
        while (track.mark <= track.steps) track.mark = Math.max(1, 2 * track.mark);
      }
      this.rows.set(id, track);
    }
    return new Set(rows.map(({ map }) => map));
  }

  /** How many have come to an end of their own. */
  get arrived() {
    const own = ({ stop }) => stop !== null && stop !== "interrupted";
    return [...this.rows.values()].filter(own).length;
  }

  /** Whether the visitor has stopped them. */
  get interrupted() {
    return [...this.rows.values()].some(({ stop }) => stop === "interrupted");
  }

  /** Return the ascents of a map, the best of them first. */
  of(map) {
    return [...this.rows.values()].filter((row) => row.map === map).sort((a, b) => b.best - a.best);
  }
}

/** Return what became of an ascent, in words. */
export function ending({ stop, steps, activation }, objective) {
  const silent = objective === "activation" && activation <= 0;
  const after = steps === 1 ? "after 1 step" : `after ${steps} steps`;
  if (stop === "zero gradient") return `No way up from here: the gradient is 0 ${after}.`;
  if (silent) return `Still silent ${after}: another start may wake this map.`;
  if (stop === "converged") return `Converged ${after}.`;
  if (stop === "interrupted") return `Stopped ${after}.`;
  return `Still rising a little when the ${steps} steps were over.`;
}
