"""Scores of candidates: every map's mean activation, all maps of a layer in one forward pass."""

from __future__ import annotations

from typing import Any

import peers
import torch
from report import OURS, Options, row, show
from task import THREADS, Task, shipped
from timing import Rate, best_of, calling, with_peak
from verify import check_scores
from work import forward_operations

CANDIDATES = 1024


def run(options: Options) -> list[dict[str, Any]]:
    """Layers 1 to 3."""
    return [_compare(layer, options) for layer in (1, 2, 3)]


def _compare(layer: int, options: Options) -> dict[str, Any]:
    task = shipped(layer, CANDIDATES)
    finalists, variants = _heats(task)
    ours = calling(lambda: task.engine.score(task.starts, "activation"), CANDIDATES)
    figures = with_peak({OURS: ours, **finalists}, options.repeats)
    work = forward_operations(task.stack)
    what = f"layer {layer}, scores of {CANDIDATES} candidates for all maps"
    made = row(what, figures, work, variants, {OURS: THREADS})
    show(made, "images/s")
    return made


def _heats(task: Task) -> tuple[dict[str, Rate], dict[str, str]]:
    torch.set_num_threads(THREADS)
    torch._dynamo.reset()  # of the last task; never between heats and final: it forgets code
    torch._dynamo.config.recompile_limit = 64
    ours = task.engine.score(task.starts, "activation")
    finalists, variants = {}, {}
    for peer, module in peers.available()[0].items():
        heats = {}
        for variant in module.scorers(task.stack, task.starts):
            check_scores(f"{peer}, {variant.name}", variant.run(), ours)
            heats[variant.name] = calling(variant.run, CANDIDATES)
        if heats:
            variants[peer] = best_of(heats)
            finalists[peer] = heats[variants[peer]]
    return finalists, variants
