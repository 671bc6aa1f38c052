"""The definition as an engine: float64 NumPy, any sequential stack, slow."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from .. import reference
from ..settings import Objective, Settings
from ..stack import Stack
from .base import (
    Ascents,
    Floats,
    Progress,
    Targets,
    all_step_sizes,
    as_images,
    report,
    untouched,
)

_CHUNK = 32  # images at a time: the windows of a convolution are copied


class ReferenceEngine:
    """`Engine` by `pyoip.reference`; `threads` changes nothing."""

    name: ClassVar[str] = "reference"

    def __init__(self, stack: Stack, threads: int | None = None) -> None:
        self.stack = stack
        self.saturates = stack.saturates

    def score(
        self, images: Floats, objective: Objective, progress: Progress | None = None
    ) -> Floats:
        """See `Engine.score`."""
        exact = as_images(self.stack.input_shape, images).astype(np.float64)
        out = np.empty((len(exact), self.stack.layers[-1].output_shape[0]), np.float32)
        for i in range(0, len(exact), _CHUNK):
            out[i : i + _CHUNK] = reference.score(self.stack, exact[i : i + _CHUNK], objective)
            report(progress, i + _CHUNK, len(exact))
        return out

    def activations(self, images: Floats, progress: Progress | None = None) -> Floats:
        """See `Engine.activations`."""
        exact = as_images(self.stack.input_shape, images).astype(np.float64)
        out = np.empty((len(exact), *self.stack.layers[-1].output_shape), np.float32)
        for i in range(0, len(exact), _CHUNK):
            out[i : i + _CHUNK] = reference.activations(self.stack, exact[i : i + _CHUNK])
            report(progress, i + _CHUNK, len(exact))
        return out

    def gradient(
        self, images: Floats, targets: Targets, objective: Objective
    ) -> tuple[Floats, Floats]:
        """See `Engine.gradient`."""
        exact = as_images(self.stack.input_shape, images).astype(np.float64)
        v = reference.evaluate(self.stack, exact, targets, objective, wake=False)
        values = np.stack([v.activation, v.preactivation], axis=1)
        return values.astype(np.float32), v.gradient.astype(np.float32)

    def ascend(
        self,
        starts: Floats,
        targets: Targets,
        settings: Settings,
        progress: Progress | None = None,
        step_sizes: Floats | None = None,
    ) -> Ascents:
        """See `Engine.ascend`."""
        starts = as_images(self.stack.input_shape, starts)
        out = untouched(starts, settings)
        interrupted = False
        sizes = all_step_sizes(starts, settings, step_sizes).tolist()
        for i, (start, target, size) in enumerate(zip(starts, targets, sizes, strict=True)):
            own = replace(settings, step_size=size)
            try:
                a = reference.ascend_one(self.stack, start.astype(np.float64), int(target), own)
                report(progress, i + 1, len(starts))
            except KeyboardInterrupt:
                interrupted = True
                break
            out.images[i], out.history[i], out.snapshots[i] = a.image, a.history, a.snapshots
            out.activations[i], out.preactivations[i] = a.activation, a.preactivation
            out.steps[i], out.woke[i], out.stops[i] = a.steps, a.woke, a.stop
        return Ascents(**{**vars(out), "interrupted": interrupted})
