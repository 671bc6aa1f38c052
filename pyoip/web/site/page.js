// The page: loads what page.json names, and joins fields, engine and pictures.

import { Controls } from "./controls.js";
import { Engine } from "./engine.js";
import { constrain, startImage, varies } from "./fluctuations.js";
import { readPicture } from "./picture.js";
import { Sheet } from "./sheet.js";
import { Stage } from "./stage.js";
import { Tracks, ending } from "./tracks.js";

const $ = (id) => document.getElementById(id);

let fatal = ""; // why nothing can be climbed: stays on the page, whatever else there is to say

function complain(message) {
  const text = message || fatal;
  if ($("notice").textContent !== text) $("notice").textContent = text;
  $("notice").hidden = !text;
}

function say(message) {
  if ($("status").textContent !== message) $("status").textContent = message;
}

const carriesFiles = ({ dataTransfer }) => dataTransfer.types.includes("Files");

async function load() {
  const answer = await fetch("page.json").catch(() => null);
  if (!answer?.ok) throw new Error("page.json could not be loaded: export the page again, whole");
  const page = await answer.json().catch(() => null);
  if (page?.format !== "pyoip page") throw new Error("page.json is damaged: export the page again");
  return page;
}

class Page {
  constructor(page) {
    this.page = page;
    this.engine = null;
    this.running = null; // "one", "all" or null
    this.turn = 0; // counts jobs: what an earlier one still says is not heard
    this.sheetTracks = null; // of the sheet that is shown
    this.taken = null; // the last picture that was brought
    $("title").textContent = page.title;
    const { dataset, accuracy } = page;
    if (dataset && accuracy)
      $("lead").append(` This network learned ${dataset} and is right in ${(100 * accuracy).toFixed(1)} %.`);
    document.querySelector("main").hidden = false;
    this.controls = new Controls(page);
    this.stage = new Stage(page);
    this.sheet = new Sheet(page, (map) => {
      this.controls.choose(map);
      this.stage.reveal();
    });
    this.listen();
    this.layerChanged();
  }

  listen() {
    this.controls.addEventListener("layer", () => this.layerChanged());
    this.controls.addEventListener("map", () => this.mapChanged());
    this.controls.addEventListener("start", () => this.startChanged());
    this.controls.addEventListener("pace", () => {
      if (this.running === "one") this.engine.pace = this.controls.pace;
    });
    $("climb").addEventListener("click", () => (this.running === "one" ? this.stop() : this.climb()));
    $("all").addEventListener("click", () => (this.running === "all" ? this.stop() : this.climbAll()));
    $("reseed").addEventListener("click", () => this.reseed());
    $("file").addEventListener("change", async ({ target }) => {
      await this.take(target.files[0]);
      target.value = ""; // so that the same file may be chosen again
    });
    this.listenToDrops();
  }

  listenToDrops() {
    addEventListener("dragover", (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", carriesFiles(event));
    });
    addEventListener("dragleave", ({ relatedTarget }) => {
      if (!relatedTarget) document.body.classList.remove("dropping");
    });
    addEventListener("drop", (event) => {
      event.preventDefault();
      document.body.classList.remove("dropping");
      if (carriesFiles(event)) this.take(event.dataTransfer.files[0]);
      else complain("what was dropped is not a file: save the picture first, then drop its file");
    });
  }

  async open() {
    say("Loading onnxruntime-web …");
    this.engine = await Engine.open(this.page);
    $("climb").disabled = $("all").disabled = false;
    say("");
  }

  // --- what the visitor chooses ----------------------------------------------------------------

  async layerChanged() {
    await this.stop();
    const { layer } = this.controls, [high, wide] = layer.receptive_field;
    const facts = [`${layer.maps} maps of ${layer.output_shape.slice(1).join(" × ")}`];
    facts.push(`each position sees ${high} × ${wide} pixels`);
    $("facts").textContent = facts.join("; ");
    $("all").textContent = `All ${layer.maps} maps`;
    this.sheetTracks = null;
    this.sheet.hide();
    this.preview();
  }

  /** Another map: its ascent from the sheet if there is one, else its start. */
  async mapChanged() {
    if (this.running === "one") await this.stop();
    const { layer, map } = this.controls;
    if (!this.sheetTracks?.of(map).length) return void this.preview();
    this.sheet.mark(map);
    this.show(this.sheetTracks, layer, map);
  }

  async startChanged() {
    await this.stop();
    this.preview();
  }

  async reseed() {
    const again = this.running;
    await this.stop();
    this.controls.reseed();
    if (again === "one") this.climb();
    if (again === "all") this.climbAll();
  }

  /** Take a picture of the visitor's as the start. */
  async take(file) {
    if (!file) return;
    this.taken = file;
    try {
      const image = await this.ownStart(file);
      if (this.taken !== file) return; // another one came while this one was read
      await this.stop();
      this.controls.own = { name: file.name, image };
      this.controls.kind = "image";
      this.preview();
    } catch (error) {
      complain(error.message);
    }
  }

  /** Return a picture file as a start image. */
  async ownStart(file) {
    const { input_shape, constraint } = this.page;
    const image = await readPicture(file, input_shape).catch(() => {
      throw new Error(`${file.name}: is not a picture that this browser can read`);
    });
    if (constraint.kind === "standardize" && image.every((value) => value === image[0]))
      throw new Error(`${file.name}: is of one grey value; a start must vary`);
    return constrain(image, constraint);
  }

  // --- the stage before a climb ----------------------------------------------------------------

  /** Return the image that is shown before anything climbs. */
  firstImage(start) {
    if (start.kind === "image") return start.image;
    const { fluctuations } = this.controls, { input_shape, constraint } = this.page;
    if (!varies(fluctuations, input_shape))
      throw new Error("the weights: one of a length that fits twice into the image must be above 0");
    const { seed, index = 0 } = start;
    return startImage(input_shape, fluctuations, { seed, index, constraint });
  }

  preview() {
    this.sheet.mark(null);
    try {
      const { layer, map, start } = this.controls, image = this.firstImage(start);
      const more = start.kind === "search" ? `, the first of ${start.candidates} candidates` : "";
      const caption = this.captions()(start) + more;
      this.stage.preview(image, caption.replace(/^start/, "Start"), layer, map);
      complain("");
      if (this.engine) say("");
    } catch (error) {
      complain(error.message);
    }
  }

  /** Return how starts are called that are chosen now. */
  captions() {
    const { kind, own } = this.controls, seed = this.controls.seedOrNull();
    if (kind === "image") return () => own.name;
    return ({ index = 0 }) => `start image ${index} of seed ${seed}`;
  }

  // --- climbing --------------------------------------------------------------------------------

  /** Return the job of some maps, as chosen; null after a complaint. */
  job(maps) {
    try {
      const { layer, start, settings } = this.controls;
      this.firstImage(start);
      complain("");
      const { fluctuations } = start.kind === "image" ? this.page : this.controls;
      return { layer: layer.number, maps, start, settings, fluctuations };
    } catch (error) {
      complain(error.message);
      return null;
    }
  }

  async climb() {
    const { layer, map, pace } = this.controls, job = this.job([map]);
    if (!job) return;
    const tracks = new Tracks(this.captions());
    await this.run("one", { ...job, pace }, (rows) => {
      tracks.take(rows);
      this.show(tracks, layer, map);
    });
  }

  async climbAll() {
    const { layer } = this.controls, job = this.job([...Array(layer.maps).keys()]);
    if (!job) return;
    const tracks = new Tracks(this.captions());
    await this.run("all", job, (rows, total) => {
      if (layer !== this.controls.layer) return; // the sheet is about to go
      if (this.sheetTracks !== tracks) this.sheet.begin(layer, "");
      this.sheetTracks = tracks;
      const maps = tracks.take(rows), { map } = this.controls;
      for (const map of maps) this.sheet.update(map, tracks.of(map));
      this.sheet.note(this.account(tracks, layer, total));
      if (tracks.arrived === total || tracks.interrupted) this.sheet.even();
      if (maps.has(map)) this.mapChanged();
      else if (!tracks.of(map).length) say("Waiting for its turn …");
    });
  }

  /** Show the ascents of a map on the stage. */
  show(tracks, layer, map) {
    const rows = tracks.of(map), [leader] = rows, { objective } = this.page.settings;
    this.stage.show(rows, `Climbed from ${tracks.caption(leader)}`, layer, map);
    const arrived = rows.every(({ stop }) => stop !== null);
    say(arrived ? ending(leader, objective) : "Climbing …");
  }

  /** Return how far the sheet is. */
  account(tracks, layer, total) {
    const { arrived, interrupted } = tracks;
    if (arrived === total) return this.summary(tracks, layer);
    if (interrupted) return `Stopped when ${arrived} of ${total} ascents had arrived.`;
    return `${arrived} of ${total} ascents have arrived`;
  }

  summary(tracks, { maps, real_maxima: real }) {
    const { objective } = this.page.settings;
    const best = Array.from({ length: maps }, (_, map) => tracks.of(map)[0][objective]);
    const awake = best.filter((value) => value > 0).length;
    const better = real && best.filter((value, map) => value > real[map]).length;
    const beside = real ? `, ${better} of them higher than any real image` : "";
    return `${awake} of ${maps} maps are active${beside}.`;
  }

  begin(kind) {
    this.running = kind;
    $("climb").textContent = kind === "one" ? "Stop" : "Climb";
    $("all").textContent = kind === "all" ? "Stop" : `All ${this.controls.layer.maps} maps`;
  }

  async stop() {
    if (!this.running) return;
    say("Stopping …"); // it may take a while where a layer is being loaded
    await this.engine.stop();
  }

  /** Run a job in place of the one under way, whose last words are still heard. */
  async run(kind, job, listen) {
    const turn = ++this.turn;
    await this.stop();
    if (turn !== this.turn) return;
    this.begin(kind);
    say("Loading the layer …");
    const hear = ({ rows, total, done, of }) => {
      if (rows) listen(rows, total);
      else say(`Looking at ${done} of ${of} candidates …`);
    };
    let rest = "Stopped before the first step.";
    await this.engine.climb(job, hear).catch((error) => {
      complain(error.message);
      rest = "";
    });
    if (turn !== this.turn) return;
    this.begin(null);
    if ($("status").textContent.endsWith("…")) say(rest); // it promised something
  }
}

try {
  const page = new Page(await load());
  await page.open();
} catch (error) {
  fatal = error.message;
  complain("");
  say("");
}
