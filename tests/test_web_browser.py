"""The page in a real Chromium: the same start images and OIPs as Python, and what a reader does."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image, ImageOps
from problems import relative_error

import pyoip
from pyoip.engines.onnx import OnnxEngine
from pyoip.options import start_from
from pyoip.reference import constrain
from pyoip.settings import Constraint
from pyoip.web.runtime import SCRIPT, WASM

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium")
RUNTIME = Path(os.environ.get("PYOIP_ORT_WEB", "missing"))
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on this machine"),
    pytest.mark.skipif(
        not RUNTIME.is_dir(),
        reason="set PYOIP_ORT_WEB to the folder of npm's onnxruntime-web (npm pack, unpacked)",
    ),
]

# Climb in the page's own worker and return the last that it tells of each row.
CLIMB = """async (job) => {
  const { Engine } = await import("./engine.js");
  const page = await (await fetch("page.json")).json();
  const engine = await Engine.open(page), rows = new Map();
  await engine.climb(job, ({ rows: told }) => told?.forEach((row) => rows.set(row.id, row)));
  engine.worker.terminate();
  return [...rows.values()].map(({ image, best, steps, map }) =>
    ({ image: Array.from(image), best, steps, map }));
}"""

START = """async ([shape, fluctuations, seed, index, constraint]) => {
  const { startImage } = await import("./fluctuations.js");
  return Array.from(startImage(shape, fluctuations, { seed, index, constraint }));
}"""


# Take note of every job that the page gives its worker, and of the rows that it hears of.
LISTEN = """
  window.jobs = [];
  window.rows = [];
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (message, ...more) {
    if (message.kind === "open")
      this.addEventListener("message", ({ data }) => rows.push(...(data.rows ?? [])));
    if (message.kind === "climb") jobs.push(message.job);
    return post.call(this, message, ...more);
  };
"""

DROP = """([name, base64]) => {
  const dataTransfer = new DataTransfer();
  if (name === null) dataTransfer.setData("text/plain", base64);
  else {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    dataTransfer.items.add(new File([bytes], name));
  }
  const event = { bubbles: true, cancelable: true, dataTransfer };
  for (const kind of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(kind, event));
}"""

COLOUR = (3, 20, 24)
UNEVEN = pyoip.Fluctuations((1, 3), (0.333, 0.004))


def _colour_network() -> onnx.ModelProto:
    """One convolution of RGB, wider than high, so that no two axes can be mistaken."""
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 18]>
        colour (float[n, 3, 20, 24] x) => (float[n, 4, 18, 22] y) { y = Conv(x, w) }
        """
    )
    weights = np.random.default_rng(5).standard_normal((4, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return model


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pages: of the shipped network, and of one for RGB."""
    folder: Path = tmp_path_factory.mktemp("pages")
    pyoip.export_web("mnist", folder / "mnist", runtime=RUNTIME)
    pyoip.export_web(_colour_network(), folder / "colour", runtime=RUNTIME, fluctuations=UNEVEN)
    return folder


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    handler = functools.partial(_Silent, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        yield functools.partial(started.chromium.launch, executable_path=CHROMIUM)


@pytest.fixture(scope="module")
def browser(chromium: Callable[..., Any]) -> Iterator[Any]:
    opened = chromium(args=QUIET)
    yield opened
    opened.close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open a page by its folder's name; at the end nothing may have gone wrong in any."""
    problems: list[str] = []
    opened = []

    def go(name: str, *, ready: bool = True, **options: Any) -> Any:
        page = browser.new_page(**{"viewport": {"width": 1200, "height": 900}} | options)
        opened.append(page)
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.add_init_script(LISTEN)
        page.goto(f"{address}{name}/")
        if ready:
            _ready(page)
        return page

    yield go
    for page in opened:
        page.close()
    assert not problems


@pytest.fixture
def page(visit: Callable[..., Any]) -> Any:
    """The page of the shipped network, ready to climb."""
    return visit("mnist")


def _ready(page: Any) -> None:
    page.wait_for_function("!document.getElementById('climb').disabled", timeout=60_000)


def _wait(page: Any, condition: str) -> None:
    """Wait for a condition on the text of an element, as in ``status: text.endsWith(".")``."""
    name, test = condition.split(": ", 1)
    page.wait_for_function(
        f"(() => {{ const text = document.getElementById('{name}').textContent; return {test} }})()"
    )


def _drop(page: Any, name: str | None, content: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def _encoded(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def test_start_images_are_those_of_python(page: Any) -> None:
    for seed, index in ((0, 0), (7, 12345)):
        fluctuations = {"scales": [1, 2, 4, 9], "weights": [1, 0.5, 1, 2], "smoothing": 1}
        constraint = {"kind": "standardize", "low": 0, "high": 1}
        asked = [[1, 28, 28], {**fluctuations, "seed": seed}, seed, index, constraint]
        found = np.array(page.evaluate(START, asked)).reshape(1, 28, 28)
        own = pyoip.Fluctuations((1, 2, 4, 9), (1, 0.5, 1, 2), 1)
        (exact,) = pyoip.start_images(fluctuations=own, indices=[index], seed=seed)
        assert np.abs(found - exact).max() < 1e-5


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_oips_are_those_of_the_engine(layer: int, page: Any, mnist: pyoip.Network) -> None:
    """The same step sizes and starts; 24 steps, so that no flipped decision has time to grow."""
    maps = [0, 5, 17]
    steps = 24
    job = {
        "layer": layer,
        "maps": maps,
        "start": {"kind": "number", "seed": 3, "index": 4},
        "fluctuations": {"scales": [1, 2, 4, 9], "weights": [1, 1, 1, 1], "smoothing": 0},
        "settings": {"steps": steps},
    }
    rows = sorted(page.evaluate(CLIMB, job), key=lambda row: row["map"])
    start = pyoip.start_images(indices=[4], seed=3)
    settings = pyoip.Settings(steps=steps)
    exact = OnnxEngine(mnist, layer).ascend(
        np.repeat(start, 3, axis=0), np.array(maps, np.int32), settings
    )
    assert [row["map"] for row in rows] == maps
    for row, image, activation in zip(rows, exact.images, exact.activations, strict=True):
        assert row["best"] == pytest.approx(activation, abs=1e-3)
        assert relative_error(np.array(row["image"]), image.ravel()) < 1e-3


def test_a_reader_climbs_stops_and_begins_anew(page: Any) -> None:
    page.click("#climb")
    page.wait_for_function("document.getElementById('value').textContent > 0.1")
    page.click("#climb")  # it says Stop now
    page.wait_for_function("document.getElementById('climb').textContent.includes('Climb')")
    before = page.inner_text("#caption")
    page.click("#reseed")
    page.wait_for_function(
        "before => document.getElementById('caption').textContent !== before", arg=before
    )


def test_the_contact_sheet_grows_to_all_maps(page: Any) -> None:
    page.click("#all")
    page.wait_for_function(
        "document.getElementById('sheet-note').textContent.includes('32 of 32')", timeout=120_000
    )
    assert page.locator("#tiles li").count() == 32


def test_a_stopped_sheet_says_so(page: Any) -> None:
    """Fails where a job's last words are not heard: its tiles and ascents climb for ever then."""
    page.select_option("#layer", "3")
    page.fill("#step", "-2")  # so slow that none arrives too early
    page.click("#all")
    page.wait_for_selector("#tiles .climbing")
    page.click("#climb")
    _wait(page, "climb: text === 'Stop'")
    assert page.inner_text("#sheet-note").startswith("Stopped when ")
    assert page.locator("#tiles .climbing").count() == 0
    page.locator("#tiles button").nth(1).click()
    _wait(page, "climb: text === 'Climb'")
    _wait(page, "status: text.startsWith('Stopped after')")


def test_another_layer_while_a_whole_sheet_climbs(page: Any) -> None:
    """Fails where the last frame of 32 maps is taken for one of the layer of 128 that is next."""
    page.fill("#step", "-2")  # so slow that all of them are under way together
    page.evaluate(
        """new Promise((done) => {
          document.getElementById("all").click();
          const look = () => {
            if (document.querySelectorAll("#tiles .climbing").length < 32)
              return requestAnimationFrame(look);
            const layer = document.getElementById("layer");
            layer.value = "3";
            layer.dispatchEvent(new Event("change", { bubbles: true }));
            done();
          };
          look();
        })"""
    )
    _wait(page, "all: text === 'All 128 maps'")
    assert page.is_hidden("#sheet")
    assert page.inner_text("#status") == ""
    page.click("#climb")
    _wait(page, "value: text > 1")


def test_stopped_before_the_first_step(page: Any) -> None:
    """Fails where what the page was about to do stays on it after Stop."""
    page.get_by_text("Best of many").click()
    page.fill("#candidates", "4096")
    page.click("#climb")
    _wait(page, "status: text.startsWith('Looking at')")
    page.click("#climb")
    _wait(page, "climb: text === 'Climb'")
    assert page.inner_text("#status") == "Stopped before the first step."


def test_weights_are_exact_until_a_slider_is_moved_and_keys_move_it(visit: Any) -> None:
    """Fails where weights are rounded to the slider's grid, as 0.004 to none, or keys to none."""
    page = visit("colour")
    page.click("#climb")
    page.wait_for_function("jobs.length === 1")
    assert page.evaluate("jobs[0].fluctuations.weights") == list(UNEVEN.weights)
    slider = page.get_by_label("Weight of length 1")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    assert float(slider.input_value()) == pytest.approx(0.55)  # 0.35 is the nearest to 0.333
    assert slider.get_attribute("aria-valuetext") == page.inner_text("#scales output >> nth=0")


LENGTH = "#scales input[type=number]"
WRONG = [
    (LENGTH, "0", "length: 0; must be 1 … 1000000 pixels"),
    (LENGTH, "", "length: nothing; must be 1 … 1000000 pixels"),
    (LENGTH, "2e6", "length: 2e6; must be 1 … 1000000 pixels"),
    ("#seed", "1e3", "seed: 1e3; must be a whole number, 0 … 18446744073709551615"),
    ("#steps", "0", "at most: 0; must be a whole number, 1 … 100000"),
]


def test_wrong_entries_are_told_and_nothing_climbs(page: Any) -> None:
    """In view wherever the reader is: fails where the line is above what is scrolled to."""
    page.set_viewport_size({"width": 390, "height": 700})
    for field, wrong, says in WRONG:
        entry = page.locator(field).first
        entry.fill(wrong)
        page.evaluate("document.getElementById('climb').click()")
        assert page.inner_text("#notice") == says
        entry.scroll_into_view_if_needed()
        assert page.evaluate("document.getElementById('notice').getBoundingClientRect().top") >= 0
        entry.fill("3")
    assert page.evaluate("jobs.length") == 0
    page.evaluate("document.getElementById('climb').click()")
    page.wait_for_function("rows.length > 0")
    assert page.is_hidden("#notice")


# --- a picture of one's own --------------------------------------------------------------------


def _scene(height: int, width: int) -> Image.Image:
    """Waves of some colours and fine noise, which shrinking is to average out."""
    y, x = np.mgrid[:height, :width] / width
    waves = np.stack([np.sin(9 * x + 3 * y), np.cos(7 * y - 2 * x), np.sin(5 * (x + y) ** 2)], -1)
    noise = np.random.default_rng(3).normal(0, 0.15, waves.shape)
    return Image.fromarray((255 * np.clip(0.5 + 0.3 * waves + noise, 0, 1)).astype(np.uint8))


def _cut_out() -> Image.Image:
    """A drawing with nothing behind its middle, larger than the network's images."""
    drawing = _scene(150, 90).convert("RGBA")
    mask = np.zeros((150, 90), np.uint8)
    mask[40:110, 20:70] = 255
    drawing.putalpha(Image.fromarray(mask))
    return drawing


def _expected(picture: Image.Image, shape: tuple[int, int, int], folder: Path) -> np.ndarray:
    """What Python starts from, given the file of a picture of the network's size."""
    white = Image.new("RGBA", picture.size, "white")
    whole = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    fitted = ImageOps.fit(whole, (shape[2], shape[1]), Image.Resampling.BILINEAR)
    fitted.save(folder / "fitted.png")
    image = start_from(folder / "fitted.png", shape)
    assert isinstance(image, np.ndarray)
    return constrain(Constraint(), image.astype(np.float64))


# name of the page, picture, its format, largest difference: none but of float32 where no pixel is
# resampled; else Pillow rounds to bytes between its two passes, and again, of deviation about 60
PICTURES = {
    "grey, of the network's size": ("mnist", _scene(28, 28).convert("L"), "PNG", 1e-5),
    "colours to grey": ("mnist", _scene(28, 28), "PNG", 1e-5),
    "transparent, high": ("mnist", _cut_out(), "PNG", 3 / 60),
    "photo, wide": ("mnist", _scene(240, 321), "JPEG", 3 / 60),
    "photo in colour": ("colour", _scene(333, 200), "JPEG", 3 / 60),
    "smaller than the network's": ("colour", _scene(7, 11), "PNG", 3 / 60),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_dropped_picture_is_the_start(
    name: str, visit: Any, mnist: pyoip.Network, tmp_path: Path
) -> None:
    """The picture as Python reads it, cut to the middle; the ascent climbs from there.

    Fails where the picture is squeezed, cut at an edge, mixed over black, its fine noise sampled
    and not averaged, its axes or colours exchanged, or where it is shown but another one climbs.
    """
    site, picture, kind, tolerance = PICTURES[name]
    network = mnist if site == "mnist" else pyoip.load(_colour_network())
    content = _encoded(picture, kind)
    page = visit(site)
    _drop(page, f"own.{kind}", content)
    _wait(page, f"caption: text === 'own.{kind}'")
    page.click("#climb")
    page.wait_for_function("rows.some(({ stop, steps }) => stop !== null || steps > 8)")
    expected = _expected(Image.open(io.BytesIO(content)), network.input_shape, tmp_path)
    found = np.array(page.evaluate("Array.from(jobs[0].start.image)")).reshape(expected.shape)
    assert np.abs(found - expected).max() < tolerance
    begins = np.array(page.evaluate("Array.from(rows[0].image)")).reshape(expected.shape)
    assert np.abs(begins - found).max() < 1e-5
    (activation,) = OnnxEngine(network, 1).score(found[None].astype(np.float32), "activation")
    first, best = page.evaluate("[rows[0].history[0], rows.at(-1).best]")
    assert first == pytest.approx(activation[0], rel=1e-4)
    assert best > first + 0.1 * abs(first)
    assert page.inner_text("#caption") == f"Climbed from own.{kind}"


def test_a_picture_ends_the_ascent_that_another_start_began(page: Any) -> None:
    """Fails where the ascent goes on and covers the picture with what it climbs to."""
    page.click("#climb")
    page.wait_for_function("rows.length > 3")
    _drop(page, "own.png", _encoded(_scene(28, 28), "PNG"))
    _wait(page, "climb: text === 'Climb'")
    _wait(page, "caption: text === 'own.png'")
    assert page.inner_text("#value") == "–"


UNFIT = [
    ("notes.txt", b"hello", "notes.txt: is not a picture that this browser can read"),
    ("empty.png", b"", "empty.png: is not a picture that this browser can read"),
    (
        "grey.png",
        _encoded(Image.new("L", (40, 40), 99), "PNG"),
        "grey.png: is of one grey value; a start must vary",
    ),
    (None, b"hello", "what was dropped is not a file: save the picture first, then drop its file"),
]


def test_what_is_no_picture_is_refused_and_the_ascent_goes_on(page: Any) -> None:
    """Fails where nothing is said, or where the ascent is stopped for nothing."""
    page.fill("#pace", "0")
    page.click("#climb")
    page.wait_for_function("rows.length > 0")
    for name, content, says in UNFIT:
        _drop(page, name, content)
        _wait(page, f"notice: text === {says!r}")
    assert page.inner_text("#climb") == "Stop"
    assert page.evaluate("document.body.dataset.kind") == "number"
    assert page.evaluate("document.body.className") == "crisp"  # and nothing covers the page


# --- what is missing ---------------------------------------------------------------------------


def _broken(root: Path, name: str, *missing: str) -> str:
    """Copy the page of the shipped network without some files."""
    shutil.copytree(root / "mnist", root / name, copy_function=os.link, dirs_exist_ok=True)
    for file in missing:
        (root / name / file).unlink()
    return name


@pytest.mark.parametrize("file", [SCRIPT, WASM])
def test_without_the_runtime_the_reason_stays_on_the_page(
    file: str, visit: Any, root: Path
) -> None:
    """Fails where the next change of a field takes the reason away, or the first climb finds it."""
    page = visit(_broken(root, f"without-{file}", f"runtime/{file}"), ready=False)
    for seed in ("1", "2"):
        _wait(page, f"notice: text.includes('{file}') && text.includes('could not be loaded')")
        page.fill("#seed", seed)
        _wait(page, f"caption: text.endsWith('of seed {seed}')")
    assert page.is_visible("#notice")
    assert page.is_disabled("#climb")


def test_without_a_layer_the_others_still_climb(visit: Any, root: Path) -> None:
    """Fails where the page goes on to promise that it is loading."""
    page = visit(_broken(root, "without-a-layer", "model/layer1.onnx"))
    page.click("#climb")
    _wait(page, "notice: text.includes('layer1.onnx could not be loaded (404)')")
    _wait(page, "climb: text === 'Climb'")
    assert page.inner_text("#status") == ""
    page.select_option("#layer", "2")
    page.click("#climb")
    page.wait_for_function("rows.length > 0")
    assert page.is_hidden("#notice")


def test_a_browser_without_webassembly_is_told(chromium: Callable[..., Any], address: str) -> None:
    """Fails where onnxruntime-web finds it out, in its own words, at the first climb."""
    browser = chromium(args=[*QUIET, "--js-flags=--jitless"])
    page = browser.new_page()
    page.goto(f"{address}mnist/")
    _wait(page, "notice: text.startsWith('this browser has no WebAssembly with SIMD')")
    assert page.is_disabled("#climb")
    browser.close()


def test_a_page_from_a_file_says_how_to_serve_it(browser: Any, root: Path) -> None:
    page = browser.new_page()
    page.goto((root / "mnist" / "index.html").as_uri())
    assert "python -m http.server" in page.inner_text("#notice")
    page.close()


# --- how it looks ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_no_width_needs_scrolling_sideways(width: int, page: Any) -> None:
    """With a sheet and a long error on it."""
    page.set_viewport_size({"width": width, "height": 844})
    page.click("#all")
    page.wait_for_selector("#tiles li")
    _drop(page, f"{'long' * 60}.png", b"")
    _wait(page, "notice: text.startsWith('long')")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


AXES = """async ([histories, real]) => {
  const { drawCurve } = await import("./curve.js");
  const svg = document.getElementById("curve");
  drawCurve(svg, histories, real);
  const { left } = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text[text-anchor=end]")];
  return texts.map((text) => [text.textContent, text.getBoundingClientRect().left - left]);
}"""


@pytest.mark.parametrize(
    ("histories", "labels"),
    [
        ([], {""}),
        ([[0, 0, 0]], {"0", "0.2", "0.4", "0.6", "0.8", "1"}),
        ([[1e-7, 3e-7]], {"0", "1e−7", "2e−7", "3e−7"}),
        ([[-130000.0, 260000.0]], {"−1e5", "0", "1e5", "2e5"}),
        ([[-3e-7, 0]], {"0", "−1e−7", "−2e−7", "−3e−7"}),
        ([[-0.0006, 0.0012]], {"−0.0005", "0", "0.0005", "0.001"}),
    ],
)
def test_axes_of_silent_tiny_and_huge_maps(
    histories: list[list[float]], labels: set[str], page: Any
) -> None:
    """Fails where a map that has shown nothing gets a scale of millionths, or labels stick out."""
    found = page.evaluate(AXES, [histories, None])
    assert {text for text, _ in found} == labels
    assert all(left >= 0 for _, left in found)


CONTRASTS = """() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const hex = style.getPropertyValue(name).trim();
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const page = light("--page"), names = ["--ink", "--soft", "--warm", "--line", "--edge"];
  return names.map((name) => {
    const [low, high] = [page, light(name)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_edges_stand_out(scheme: str, visit: Any) -> None:
    """By WCAG 2: 4.5 for text, 3 for the edges of fields."""
    *texts, edge = visit("mnist", color_scheme=scheme).evaluate(CONTRASTS)
    assert min(texts) >= 4.5
    assert edge >= 3


FOCUSED = """() => {
  const at = document.activeElement, frame = at.closest(".kinds label, .button") ?? at;
  const named = at.ariaLabel || at.textContent.trim() || at.labels?.[0]?.textContent.trim();
  return [at.id || at.ariaLabel || at.value, Boolean(named), getComputedStyle(frame).outlineStyle];
}"""


def test_all_can_be_done_with_the_keyboard(page: Any) -> None:
    """Every field is named and shows the focus; at the last map the focus is not lost."""
    page.focus("#layer")
    seen = {}
    for _ in range(22):
        name, named, outline = page.evaluate(FOCUSED)
        seen[name] = named and outline == "solid"
        page.keyboard.press("Tab")
    assert {"layer", "map", "after", "climb", "reseed", "all", "number", "pace"} <= seen.keys()
    assert [name for name, fine in seen.items() if not fine] == []
    page.fill("#map", "30")
    page.press("#map", "Enter")
    page.focus("#after")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "map"
    page.focus("#climb")
    page.keyboard.press("Enter")
    page.wait_for_function("rows.some(({ map }) => map === 31)")
    page.keyboard.press("Enter")
    _wait(page, "status: text.startsWith('Stopped after')")
