"""Stacks of other sizes: is the speed the shipped network's alone?

For each, the share of the bound (direct operations at the measured FMA peak; aimed at: 50 %) and
the ratio to torch as its users write it, eager or compiled whichever is faster (aimed at: 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from peers import torch_peer
from report import OURS, Options, busy, row
from task import THREADS, Task, article, random_task, test_problems
from timing import Figure, Rate, best_of, stepping, with_peak
from verify import check_ascent, check_gradient
from work import direct_operations

from pyoip.stack import Activation, Pool, Stack

IMAGES = 64
EXACT = 1e-6  # median relative error of our gradients: tanh and sigmoid round more than ReLU
HALVES = Pool("max", (2, 2), (2, 2), (0, 0, 0, 0))
AVERAGE = Pool("average", (2, 2), (2, 2), (0, 0, 0, 0))
OVERLAPPING = Pool("max", (3, 3), (2, 2), (0, 0, 0, 0))
GREY, TINY, COLOUR = (1, 28, 28), (3, 32, 32), (3, 64, 64)


def stacks() -> Iterator[tuple[str, Stack]]:
    """Name and stack; weights are random and the same on every run."""
    wide = {"kernel": (5, 5)}
    pooled = {"pool": HALVES}
    same = {"pads": (1, 1, 1, 1)}
    yield "3×3, 32×32 RGB, one layer", _stack(TINY, (32, {}))
    yield "5×5, one layer", _stack(GREY, (32, wide))
    yield "5×5, two layers", _stack(GREY, (32, wide | pooled), (64, wide))
    yield "17 and 33 maps", _stack(GREY, (17, pooled), (33, pooled), (40, {}))
    yield "stride 2, no pooling", _stack(GREY, (32, {"stride": (2, 2)}), (64, {"stride": (2, 2)}))
    yield "no pooling, padded", _stack(GREY, (16, same), (32, same), (32, same))
    tanh, sigmoid = {"activation": Activation("tanh")}, {"activation": Activation("sigmoid")}
    yield "tanh, average pooling", _stack(GREY, (32, tanh | {"pool": AVERAGE}), (64, tanh))
    yield "sigmoid", _stack(GREY, (32, sigmoid | pooled), (64, sigmoid))
    leaky = {"activation": Activation("leaky_relu", 0.1)}
    yield "leaky ReLU, 64×64 RGB, two layers", _stack(COLOUR, (32, leaky | pooled), (64, leaky))
    yield "64×64 RGB, three layers", _stack(COLOUR, (32, pooled), (64, pooled), (128, {}))
    stem = {"kernel": (7, 7), "stride": (2, 2), "pads": (3, 3, 3, 3), "pool": OVERLAPPING}
    yield "7×7/2 stem, 3×3/2 pool, 64×64 RGB", _stack(COLOUR, (64, stem), (64, same))
    point = {"kernel": (1, 1)}
    four = (16, same), (32, same | pooled), (32, point), (64, same)
    yield "four layers, one of 1×1", _stack(TINY, *four)


def _stack(shape: tuple[int, int, int], *layers: tuple[int, dict[str, Any]]) -> Stack:
    rng, first, made = np.random.default_rng(0), shape, []
    for maps, more in layers:
        made.append(test_problems().conv_layer(rng, shape, maps, **more))
        shape = made[-1].pooled_shape
    return Stack(first, tuple(made))


def run(options: Options) -> list[dict[str, Any]]:
    """One line of a table per stack."""
    header = "image-steps/s", "of bound", "torch, the user's", "ratio", "torch variant"
    print(f"\n{'stack':36}" + "{:>26}{:>10}{:>26}{:>8}  {}".format(*header))
    rows = []
    for name, stack in stacks():
        rows.append(_compare(name, random_task(stack, IMAGES), options))
        print(_line(rows[-1]), flush=True)
    return rows


def _compare(name: str, task: Task, options: Options) -> dict[str, Any]:
    error = check_gradient(task, images=8, limit=EXACT)
    torch.set_num_threads(THREADS)
    torch._dynamo.reset()
    heats: dict[str, Rate] = {}
    for variant in torch_peer.ascenders(task, compiling=not options.quick):
        check_ascent(task, f"torch, {variant.name}", variant.run)
        heats[variant.name] = stepping(variant.run, IMAGES, options.seconds)
    best = best_of(heats)

    def ours(steps: int) -> object:
        return task.engine.ascend(task.starts, task.targets, article(steps))

    contenders = {OURS: stepping(ours, IMAGES, options.seconds), "torch": heats[best]}
    figures = with_peak(contenders, options.repeats)
    work = direct_operations(task.stack)
    return row(name, figures, work, {"torch": best}, {OURS: THREADS}) | {"gradient error": error}


def _line(made: dict[str, Any]) -> str:
    ours, theirs = (str(Figure(**made["rates"][name])) for name in (OURS, "torch"))
    share = made["share of peak"][OURS]
    variant = made["variants"]["torch"]
    peaks = {name: rate for name, rate in made["rates"].items() if name.startswith("FMA")}
    note = "  (machine busy)" if busy(peaks) else ""
    line = f"{made['what']:36}{ours:>26}{share:>10.0%}{theirs:>26}{made['ratio']:>8.1f}  {variant}"
    return line + note
