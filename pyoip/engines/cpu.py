"""The fused CPU engine: the whole ascent in C++, threads over images (``csrc/cpu``)."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from .. import _cpu
from ..errors import EngineUnavailable, UnsupportedLayer
from ..fluctuations import default_threads
from ..settings import Objective, Precision, Settings
from ..stack import PLAIN_ENGINE, Stack, check_limits
from .base import Ascents, Floats, Progress, Targets, all_step_sizes, as_images
from .core import described, numbers_of


def describe() -> dict[str, str]:
    """Version, compiler and instruction sets of the extension module."""
    try:
        info = _info()
    except EngineUnavailable as error:
        return {"instruction set": str(error)}
    return {
        "core": f"{info['version']}, compiled by {info['compiler']}",
        "instruction set": f"{info['instruction_set']} (of {', '.join(info['instruction_sets'])})",
        "threads": str(default_threads()),
    }


def reason_why_not() -> str | None:
    """Why this engine cannot be used here; None where it can."""
    try:
        _info()
    except EngineUnavailable as error:
        return str(error)
    return None


def _info() -> dict[str, Any]:
    try:
        return _cpu.info()
    except ValueError as error:  # PYOIP_CPU_ISA names what is not there
        raise EngineUnavailable(str(error)) from None


class CpuEngine:
    """`Engine` on this processor, for stacks within `pyoip.stack.check_limits`."""

    name: ClassVar[str] = "cpu"

    def __init__(self, stack: Stack, threads: int | None = None) -> None:
        check_limits(stack)
        _info()
        self.stack = stack
        self.saturates = stack.saturates
        self.threads = default_threads(threads)
        self._core = self._make_core("exact")

    def _make_core(self, precision: Precision) -> _cpu.Engine:
        layers = [described(layer) for layer in self.stack.layers]
        try:
            return _cpu.Engine(self.stack.input_shape, layers, precision)
        except ValueError as error:
            raise UnsupportedLayer(f"{error}; {PLAIN_ENGINE}") from None

    @cached_property
    def _fast_core(self) -> _cpu.Engine:
        return self._make_core("fast")

    def score(
        self, images: Floats, objective: Objective, progress: Progress | None = None
    ) -> Floats:
        """See `Engine.score`."""
        return self._core.score(
            as_images(self.stack.input_shape, images), objective, self.threads, progress
        )

    def activations(self, images: Floats, progress: Progress | None = None) -> Floats:
        """See `Engine.activations`."""
        return self._core.activations(
            as_images(self.stack.input_shape, images), self.threads, progress
        )

    def gradient(
        self, images: Floats, targets: Targets, objective: Objective
    ) -> tuple[Floats, Floats]:
        """See `Engine.gradient`."""
        images = as_images(self.stack.input_shape, images)
        return self._core.gradient(images, targets, objective, self.threads, None)

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
        targets = np.ascontiguousarray(targets, np.int32)
        sizes = all_step_sizes(starts, settings, step_sizes)
        core = self._fast_core if settings.precision == "fast" else self._core
        numbers = numbers_of(settings)
        found = core.ascend(starts, targets, sizes, numbers, self.threads, progress)
        return Ascents(**found)
