"""Ascents of the shipped network's maps: image-steps per second of everyone, same rule."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import peers
import torch
from report import OURS, Options, row, show
from task import THREADS, Task, article, shipped
from timing import Rate, best_of, stepping, with_peak
from verify import check_ascent, check_gradient, check_own
from work import direct_operations

from pyoip import engines
from pyoip.engines import Engine
from pyoip.settings import Settings

FAST = {"precision": "fast"}


def batches(options: Options) -> list[dict[str, Any]]:
    """Layers 1 to 3, for each number of images."""
    return [
        compare(f"layer {layer}, {count} images", shipped(layer, count), options)
        for count in options.images
        for layer in (1, 2, 3)
    ]


def single(options: Options) -> list[dict[str, Any]]:
    """One image alone, layers 1 to 3; pyoip with one thread as well."""
    return [
        compare(f"layer {layer}, one image alone", shipped(layer, 1), options)
        for layer in (1, 2, 3)
    ]


def compare(what: str, task: Task, options: Options) -> dict[str, Any]:
    """Verify everyone, hold the heats within each framework, then run all in turn."""
    error = check_gradient(task)
    finalists, variants = _heats(task, options)
    ours, threads = _ours(task, options)
    figures = with_peak({**ours, **finalists}, options.repeats)
    made = row(what, figures, direct_operations(task.stack), variants, threads)
    show(made, "image-steps/s")
    return made | {"gradient error": error}


def _heats(task: Task, options: Options) -> tuple[dict[str, Rate], dict[str, str]]:
    """The fastest verified variant of every framework that is here, and its name."""
    torch.set_num_threads(THREADS)
    torch._dynamo.reset()  # of the last task; never between heats and final: it forgets code
    torch._dynamo.config.recompile_limit = 64
    finalists, variants = {}, {}
    for peer, module in peers.available()[0].items():
        heats = {}
        for variant in module.ascenders(task):
            check_ascent(task, f"{peer}, {variant.name}", variant.run)
            heats[variant.name] = stepping(
                variant.run, len(task.starts), options.seconds, variant.multiple
            )
        variants[peer] = best_of(heats)
        finalists[peer] = heats[variants[peer]]
    return finalists, variants


def _ours(task: Task, options: Options) -> tuple[dict[str, Rate], dict[str, int]]:
    """Our contenders, and how many threads each uses."""
    made = {OURS: _ascents(task, task.engine, options)}
    threads = {OURS: THREADS}
    if len(task.starts) == 1:
        alone = engines.make("cpu", task.stack, 1)
        made[f"{OURS}, one thread"] = _ascents(task, alone, options)
        threads[f"{OURS}, one thread"] = 1
    if len(task.stack.layers) == 3 and "precision" in {f.name for f in fields(Settings)}:
        check_own(task, **FAST)
        made[f"{OURS}, precision='fast'"] = _ascents(task, task.engine, options, **FAST)
        threads[f"{OURS}, precision='fast'"] = THREADS
    return made, threads


def _ascents(task: Task, engine: Engine, options: Options, **more: str) -> Rate:
    def run(steps: int) -> object:
        return engine.ascend(task.starts, task.targets, article(steps, **more))

    return stepping(run, len(task.starts), options.seconds)
