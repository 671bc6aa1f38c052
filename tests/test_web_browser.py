"""The page in a real Chromium: the same start images and OIPs as Python, and what a reader does."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from problems import relative_error

import pyoip
from pyoip.engines.onnx import OnnxEngine

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


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page") / "site"
    pyoip.export_web("mnist", folder, runtime=RUNTIME)
    handler = functools.partial(_Silent, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, ready to climb; at the end nothing may have gone wrong in it."""
    problems: list[str] = []
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(address)
    _ready(opened)
    yield opened
    opened.close()
    assert not problems


def _ready(page: Any) -> None:
    page.wait_for_function("!document.getElementById('climb').disabled", timeout=60_000)


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


def test_a_narrow_page_needs_no_scrolling_sideways(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
