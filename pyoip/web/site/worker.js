// The worker: loads onnxruntime-web and the layers' graphs, and climbs. The page talks to it
// through engine.js. Nothing of the network is computed elsewhere, and nothing leaves the browser.

import { Climb, Row } from "./ascent.js";
import { startImage } from "./fluctuations.js";

const TARGET_MS = 40; // of one pass over a batch: short enough that a stop feels immediate
const FRAME_MS = 60; // between two messages of a climb that nobody slows down
const MOST_FLOATS = 2 ** 22; // of the images in a batch
const BLOCK = 16; // candidates that are scored at a time

let page = null, ort = null, stopped = false, pace = Infinity;
const sessions = new Map();

// --- onnxruntime-web ---------------------------------------------------------------------------

// Two modules of a few bytes: one has a vector in it, the other shared memory.
const VECTOR = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
  253, 98, 11,
];
const SHARED = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 5, 4, 1, 3, 1, 1, 10, 11, 1, 9, 0, 65,
  0, 254, 16, 2, 0, 26, 11,
];

/** Return whether the browser runs what onnxruntime-web is built for. */
function capable() {
  const known = (module) => WebAssembly.validate(Uint8Array.from(module));
  return typeof WebAssembly === "object" && known(VECTOR) && known(SHARED);
}

async function open(settings, base) {
  page = settings;
  if (!capable())
    throw new Error(
      "this browser has no WebAssembly with SIMD and shared memory, or it is switched off: take " +
        "Chrome or Edge 91, Firefox 89, Safari 16.4 or a later one",
    );
  const script = new URL(page.runtime.script, base).href;
  try {
    ort = await import(script);
  } catch {
    throw new Error(
      `onnxruntime-web could not be loaded from ${script}: check the connection, or export the ` +
        "page again with --runtime, which copies it in",
    );
  }
  ort.env.wasm.numThreads = 1; // more would need headers that a plain file server does not send
  ort.env.wasm.wasmBinary = await bytesOf(new URL(page.runtime.wasm, base).href);
  ort.env.logLevel = "error";
}

/** Return the session of a graph, loaded once. */
function session(path) {
  if (!sessions.has(path)) {
    const opened = create(new URL(path, import.meta.url).href);
    opened.catch(() => sessions.delete(path));
    sessions.set(path, opened);
  }
  return sessions.get(path);
}

async function bytesOf(url) {
  const answer = await fetch(url).catch(() => ({ ok: false, status: "no answer" }));
  if (!answer.ok)
    throw new Error(`${url} could not be loaded (${answer.status}): is the page there whole?`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function create(url) {
  const bytes = await bytesOf(url);
  try {
    return await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  } catch (error) {
    const reason = String(error.message ?? error).split("\n")[0];
    throw new Error(`onnxruntime-web could not open ${url}: ${reason}`);
  }
}

const floats = (data, dims) => new ort.Tensor("float32", data, dims);

/** Return one pass of a layer's ascent as a function of plain arrays. */
async function passOf(layer) {
  const graph = await session(layer.step);
  return async ({ step_size, best_merit, map, blur, ...images }) => {
    const count = map.length, dims = [count, ...page.input_shape];
    const feeds = {
      step_size: floats(step_size, [count]),
      best_merit: floats(best_merit, [count]),
      map: new ort.Tensor("int64", BigInt64Array.from(map, BigInt), [count]),
      blur: floats(Float32Array.of(blur), []),
    };
    for (const name in images) feeds[name] = floats(images[name], dims);
    const results = await graph.run(feeds);
    return Object.fromEntries(Object.entries(results).map(([name, { data }]) => [name, data]));
  };
}

// --- start images ------------------------------------------------------------------------------

/** Return the starts of every map: {map, image, index, boldness}; none where it was stopped. */
async function startsOf(job, layer) {
  const { start, fluctuations, maps } = job, { constraint } = page;
  const draw = (index) =>
    startImage(page.input_shape, fluctuations, { seed: start.seed, index, constraint });
  if (start.kind === "image") return maps.map((map) => ({ map, image: start.image }));
  if (start.kind === "number") {
    const image = draw(start.index);
    return maps.map((map) => ({ map, image, index: start.index }));
  }
  const best = await bestCandidates(start, layer, maps, draw);
  return best.flatMap((indices, i) =>
    indices.map((index, k) => ({
      map: maps[i],
      index,
      image: draw(index),
      boldness: k % 2 ? page.settings.bold : 1,
    })),
  );
}

/** Return the numbers of the best candidates of each map, the earlier of equal ones first. */
async function bestCandidates({ candidates, climbers }, layer, maps, draw) {
  const graph = await session(layer.score), pixels = page.input_shape.reduce((a, b) => a * b);
  const scores = maps.map(() => []);
  const block = Math.max(1, Math.min(BLOCK, Math.floor(MOST_FLOATS / pixels)));
  for (let first = 0; first < candidates; first += block) {
    if (stopped) return [];
    const count = Math.min(block, candidates - first), images = new Float32Array(count * pixels);
    for (let i = 0; i < count; i++) images.set(draw(first + i), i * pixels);
    const { score } = await graph.run({ image: floats(images, [count, ...page.input_shape]) });
    for (let i = 0; i < count; i++)
      maps.forEach((map, m) => scores[m].push(score.data[i * layer.maps + map]));
    postMessage({ kind: "scored", done: first + count, of: candidates });
    await breath();
  }
  return scores.map((own) =>
    own.map((_, i) => i).sort((a, b) => own[b] - own[a] || a - b).slice(0, climbers),
  );
}

// --- climbing ----------------------------------------------------------------------------------

/** Let messages in. */
function breath(ms = 0) {
  if (ms > 0) return new Promise((resolve) => setTimeout(resolve, ms));
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = resolve;
    port2.postMessage(null);
  });
}

async function climb(job) {
  stopped = false;
  pace = job.pace ?? Infinity;
  const layer = page.layers.find(({ number }) => number === job.layer);
  const run = await passOf(layer);
  const starts = await startsOf(job, layer);
  const waiting = starts.map(({ map, image, ...more }, id) => new Row(map, image, { id, ...more }));
  const ascent = new Climb(run, { ...page.settings, ...job.settings }, layer.gates);
  const reporter = new Reporter(waiting.length);
  const most = Math.max(1, Math.floor(MOST_FLOATS / page.input_shape.reduce((a, b) => a * b)));
  let room = Math.min(job.together ?? 4, most);
  while (!stopped && (waiting.length || ascent.rows.length)) {
    const joining = waiting.length && ascent.open && ascent.rows.length < room;
    if (joining) {
      const joined = waiting.splice(0, room - ascent.rows.length);
      reporter.note(joined, await ascent.add(joined));
    }
    reporter.flush(joining || pace < Infinity);
    await breath(pace < Infinity ? 1000 / pace : 0);
    if (stopped || !ascent.rows.length) continue;
    const before = performance.now(), count = ascent.rows.length, rows = ascent.rows;
    reporter.note(rows, await ascent.step());
    const fair = (count * TARGET_MS) / Math.max(performance.now() - before, 0.1);
    room = job.together ?? Math.round(Math.min(Math.max(fair, room / 2, 1), 2 * room, most));
  }
  reporter.note([], ascent.interrupt());
  reporter.flush(true);
  postMessage({ kind: "done", stopped });
}

/** Tells the page what has changed, now and then. */
class Reporter {
  constructor(total) {
    Object.assign(this, { total, ended: 0, last: 0, rows: new Set(), told: new Map() });
  }

  note(rows, ended) {
    for (const row of [...rows, ...ended]) this.rows.add(row);
    this.ended += ended.length;
  }

  flush(now) {
    if (!this.rows.size || (!now && performance.now() - this.last < FRAME_MS)) return;
    this.last = performance.now();
    const rows = [...this.rows].map((row) => this.told_of(row));
    postMessage({ kind: "frame", rows, ended: this.ended, total: this.total });
    this.rows.clear();
  }

  told_of(row) {
    const from = this.told.get(row.id) ?? 0;
    this.told.set(row.id, row.history.length);
    const { id, map, index, stop, woke, best, activation, preactivation, steps } = row;
    const image = (stop === null ? row.image : row.bestImage).slice();
    const history = Float64Array.from(row.history.slice(from));
    return { id, map, index, stop, woke, best, activation, preactivation, steps, image, from, history };
  }
}

// --- messages ----------------------------------------------------------------------------------

async function answer({ kind, ...message }) {
  if (kind === "stop") stopped = true;
  else if (kind === "pace") pace = message.pace;
  else if (kind === "open") {
    await open(message.page, message.base);
    postMessage({ kind: "open" });
  } else if (kind === "climb") await climb(message.job);
}

addEventListener("message", ({ data }) =>
  answer(data).catch((error) => postMessage({ kind: "error", message: error.message })),
);
