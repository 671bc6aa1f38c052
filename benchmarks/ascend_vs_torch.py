"""Image-steps per second of the fused core beside torch eager, in one run, answers verified.

Both do the same work: the article's rule (gradient over its rms, constant step, standardise)
for 64 images with different maps, renormalising each step. Runs alternate; medians are shown.

    MALLOC_MMAP_MAX_=0 python benchmarks/ascend_vs_torch.py [--images 64] [--steps 100]

(glibc otherwise hands torch's buffers back to the system at every step, which slows torch
two- to fourfold.)
"""

from __future__ import annotations

import argparse
import json
import os
import time

import numpy as np
import torch
from machine import describe
from torch_peer import TorchStack, normalised_ascent

import pyoip
from pyoip import engines
from pyoip.settings import Settings
from pyoip.stack import build_stack

SIZE = 0.1


def compare(model: str, layer: int, images: int, steps: int, repeats: int) -> dict[str, float]:
    stack = build_stack(pyoip.load(model), layer)
    maps = stack.layers[-1].output_shape[0]
    starts = pyoip.start_images(images)
    alive = np.argsort(-pyoip.score(model, starts, layer), axis=1)[:, 0]  # a map each that is on
    targets = alive.astype(np.int32) % maps
    engine, net = engines.make("cpu", stack), TorchStack(stack)
    x, t = torch.tensor(starts), torch.tensor(targets.astype(np.int64))
    verify(engine, net, starts, targets)

    settings = Settings(steps=steps, step_size=SIZE, method="article")
    ours, theirs = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        engine.ascend(starts, targets, settings)
        ours.append(images * steps / (time.perf_counter() - began))
        few = max(1, steps // 10)
        began = time.perf_counter()
        normalised_ascent(net, x, t, few, SIZE)
        theirs.append(images * few / (time.perf_counter() - began))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "layer": layer,
        "pyoip": float(np.median(ours)),
        "torch": float(np.median(theirs)),
        "ratio": float(np.median(ratios)),
        "least ratio": min(ratios),
        "most ratio": max(ratios),
    }


def verify(
    engine: engines.Engine, net: TorchStack, starts: np.ndarray, targets: np.ndarray
) -> None:
    """Ten steps by both: the same activations, but for the odd flipped pooling decision."""
    settings = Settings(steps=10, step_size=SIZE, method="article")
    ours = engine.ascend(starts, targets, settings).history[:, -1]
    t = torch.tensor(targets.astype(np.int64))
    ends = normalised_ascent(net, torch.tensor(starts), t, 10, SIZE)
    with torch.no_grad():
        theirs = net.objective(ends, t).numpy()
    off = np.abs(ours - theirs) > 1e-4 * np.abs(theirs).max()
    if off.mean() > 0.05:
        raise SystemExit(f"answers differ for {off.sum()} of {len(off)} images")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(engines.make("cpu", build_stack(pyoip.load("mnist"), 1)).threads)
    print(describe())
    if os.environ.get("MALLOC_MMAP_MAX_") != "0":
        print(
            "note: without MALLOC_MMAP_MAX_=0 in the environment torch is slower than it could be"
        )
    rows = []
    for layer in (1, 2, 3):
        row = compare(arguments.model, layer, arguments.images, arguments.steps, arguments.repeats)
        rows.append(row)
        print(
            f"layer {layer}: pyoip {row['pyoip']:,.0f} image-steps/s, torch {row['torch']:,.0f}; "
            f"ratio {row['ratio']:.1f} ({row['least ratio']:.1f} to {row['most ratio']:.1f})",
            flush=True,
        )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"machine": describe(), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
