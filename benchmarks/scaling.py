"""How the speed scales with threads, images and steps, and how much memory an ascent takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from report import Options
from task import THREADS, Task, article, shipped
from timing import Figure, Rate, calling, interleaved

from pyoip import engines

LAYERS = (1, 2, 3)
IMAGES = (1, 8, 64, 512, 4096)
STEPS = (4, 16, 64, 256)
ENOUGH = 64  # images and steps, where another number is varied
FEWER = 16  # steps, where images are: 4096 of them take long
MEMORY = 100.0  # MB that the ascents may add

# Resident memory in MB: after `import pyoip`, after the network is loaded, and the highest
MEASURE = """
import json
from pathlib import Path
import pyoip

def resident(kind):  # getrusage would count what the parent of this process took
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))

imported = resident("VmRSS")
from pyoip import engines
from pyoip.stack import build_stack
from task import article
engine = engines.make("cpu", build_stack(pyoip.load("mnist"), {layer}), {threads})
loaded = resident("VmRSS")
starts = pyoip.start_images({images})
targets = [i % len(engine.stack.layers[-1].weights) for i in range({images})]
engine.ascend(starts, targets, article({steps}))
print(json.dumps([imported, loaded, resident("VmHWM")]))
"""


def run(options: Options) -> list[dict[str, Any]]:
    """Measure all of it, print it, and draw it where asked to."""
    images = IMAGES[:-1] if options.quick else IMAGES
    rows = []
    for layer in LAYERS:
        task = shipped(layer, max(*images, ENOUGH))
        part = task.part(0, ENOUGH)
        rows += [
            _vary(layer, "threads", {n: _rate(part, ENOUGH, n) for n in (1, THREADS)}, options),
            _vary(layer, "images", {n: _images(task, n) for n in images}, options),
            _vary(layer, "steps", {n: _rate(part, n) for n in STEPS}, options),
        ]
    rows.append(memory(layer=LAYERS[-1], images=IMAGES[-1]))
    if options.plot:
        draw(rows, options.plot)
        print(f"drawn: {options.plot}")
    if rows[-1]["growth"] > MEMORY:
        raise SystemExit(f"ascents add {rows[-1]['growth']:.0f} MB; at most {MEMORY:.0f} MB")
    return rows


def _images(task: Task, count: int) -> Rate:
    return _rate(task.part(0, count), FEWER)


def _rate(task: Task, steps: int, threads: int = THREADS) -> Rate:
    """Image-steps per second of ascents of so many steps, repeated for a short while."""
    engine, settings = engines.make("cpu", task.stack, threads), article(steps)
    amount = len(task.starts) * steps
    again = max(1, 20_000 // (amount * len(task.stack.layers) ** 3))

    def climb() -> None:
        for _ in range(again):
            engine.ascend(task.starts, task.targets, settings)

    return calling(climb, amount * again)


def _vary(layer: int, what: str, rates: dict[int, Rate], options: Options) -> dict[str, Any]:
    figures = interleaved({str(n): rate for n, rate in rates.items()}, options.repeats)
    shown = ", ".join(f"{n}: {figure}" for n, figure in figures.items())
    print(f"layer {layer}, image-steps/s by {what}: {shown}", flush=True)
    return {"layer": layer, "by": what, "rates": {n: f.json() for n, f in figures.items()}}


def memory(layer: int, images: int, steps: int = 8) -> dict[str, Any]:
    """Peak resident memory of a fresh process that only imports pyoip and ascends, in MB."""
    code = MEASURE.format(layer=layer, images=images, steps=steps, threads=THREADS)
    code = f"import sys; sys.path[:] = {sys.path!r}\n{code}"
    usual = {name: value for name, value in os.environ.items() if name != "MALLOC_MMAP_MAX_"}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, env=usual, capture_output=True, text=True, check=True)
    imported, loaded, most = json.loads(out.stdout)
    print(
        f"layer {layer}, {images} images: {most:.0f} MB at most; {loaded:.0f} MB with the network "
        f"loaded, {imported:.0f} MB after the import; the ascents add {most - loaded:.0f} MB",
        flush=True,
    )
    return {
        "layer": layer,
        "images": images,
        "imported": imported,
        "loaded": loaded,
        "growth": most - loaded,
        "total": most,
    }


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Three panels: image-steps per second by threads, images and steps, a line per layer."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator

    figure, panels = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
    for panel, what in zip(panels, ("threads", "images", "steps"), strict=True):
        for line in (row for row in rows if row.get("by") == what):
            x = [int(n) for n in line["rates"]]
            y = [Figure(**rate).median for rate in line["rates"].values()]
            panel.plot(x, y, "o-", markersize=3, linewidth=1)
            if panel is panels[-1]:
                note = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
                panel.annotate(
                    f"layer {line['layer']}", (x[-1], y[-1]), annotation_clip=False, **note
                )
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(x, [str(n) for n in x])
        panel.minorticks_off()
        panel.grid(axis="y", color="0.9", linewidth=0.6)
        panel.set_xlabel(what)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].yaxis.set_major_formatter(EngFormatter(sep=" "))
    panels[0].set_ylabel("image-steps per second")
    figure.savefig(path, dpi=150)
    plt.close(figure)
