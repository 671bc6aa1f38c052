// The page's side of the worker: one job at a time.

export class Engine {
  /** Start the worker; resolves when onnxruntime-web is there, rejects with a line that says why not. */
  static async open(page) {
    const engine = new Engine();
    engine.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    engine.worker.onmessage = ({ data }) => engine.take(data);
    engine.worker.onerror = (event) => {
      event.preventDefault();
      engine.take({ kind: "error", message: event.message || "worker.js could not be loaded" });
    };
    await engine.ask({ kind: "open", page, base: document.baseURI });
    return engine;
  }

  /**
   * Run a job; the one under way is stopped first.
   *
   * job: {layer, maps, fluctuations, start, settings, pace, together}. start is {kind: "number",
   * seed, index}, {kind: "search", seed, candidates, climbers} or {kind: "image", image}; settings
   * replaces some of the page's; pace is steps a second; together fixes the size of a batch.
   * `listen` gets {kind: "scored", done, of} and {kind: "frame", rows, ended, total}; the promise
   * resolves to whether the job was stopped.
   */
  async climb(job, listen) {
    while (this.current) await this.stop();
    const { stopped } = await this.ask({ kind: "climb", job }, listen);
    return stopped;
  }

  /** Stop the job under way; resolves when it has. */
  async stop() {
    if (!this.current) return;
    this.worker.postMessage({ kind: "stop" });
    await this.current.promise.catch(() => {});
  }

  /** Change the pace of the job under way, in steps a second. */
  set pace(pace) {
    this.worker.postMessage({ kind: "pace", pace });
  }

  ask(message, listen = () => {}) {
    const waiting = { listen };
    waiting.promise = new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject }));
    this.current = waiting;
    this.worker.postMessage(message);
    return waiting.promise;
  }

  take(message) {
    const { current } = this;
    if (!current) return;
    if (message.kind === "frame" || message.kind === "scored") return void current.listen(message);
    this.current = null;
    if (message.kind === "error") current.reject(new Error(message.message));
    else current.resolve(message);
  }
}
