"""The core through its command-line driver: writes problems and reads results of csrc/driver.cpp.

`DriverEngine` is an engine like any other whose arithmetic happens in a program of one's choice:
one built for another processor and run by an emulator, or one run under an instruction counter.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pyoip.activation import FUNCTIONS
from pyoip.engines.base import Ascents, Floats, Targets, all_step_sizes, as_images
from pyoip.fluctuations import Fluctuations
from pyoip.settings import Constraint, Objective, Settings
from pyoip.stack import ConvLayer, Stack

ROOT = Path(__file__).resolve().parent.parent

# As numbered in csrc/stack.hpp.
OBJECTIVES = ("activation", "preactivation")
CONSTRAINTS = ("standardize", "clip")
ACTIVATIONS = tuple(FUNCTIONS)
POOLS = ("none", "max", "average")


class MissingToolError(Exception):
    """A tool that it takes is not on this machine."""


def build(
    preset: str = "driver", folder: Path | None = None, program: str = "pyoip_driver"
) -> Path:
    """The driver of a preset of CMakePresets.json, compiled where its sources are newer."""
    for tool in ("cmake", "ninja"):
        if shutil.which(tool) is None:
            raise MissingToolError(f"{tool}: not on this machine")
    folder = ROOT / "build" / preset if folder is None else folder
    for command in (
        ["--preset", preset, "-S", ".", "-B", str(folder)],
        ["--build", str(folder), "--target", program],
    ):
        done = subprocess.run(
            ["cmake", *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"cmake {' '.join(command)}:\n{done.stdout}{done.stderr}")
    return folder / program


def info(program: Sequence[str | Path]) -> dict[str, str]:
    """What the driver says of itself: its "compiler", its "instruction sets"."""
    said = subprocess.run([*program, "info"], capture_output=True, text=True, check=True).stdout
    return dict(line.split(": ", 1) for line in said.splitlines())


def run(
    program: Sequence[str | Path], problem: bytes, threads: int = 1, isa: str | None = None
) -> bytes:
    """The result of a problem; an error of the driver is raised in its own words."""
    environment = {k: v for k, v in os.environ.items() if k != "PYOIP_CPU_ISA"}
    if isa is not None:
        environment["PYOIP_CPU_ISA"] = isa
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "problem"), Path(folder, "results")
        given.write_bytes(problem)
        done = subprocess.run(
            [*program, given, found, str(threads)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"ended with {done.returncode}")
        return found.read_bytes()


# --- problems: the commands that csrc/driver.cpp describes -----------------------------------


def _name(name: str) -> bytes:
    return name.ljust(8).encode()


def _ints(*values: int) -> bytes:
    return np.array(values, "<i4").tobytes()


def _floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def _layer(layer: ConvLayer) -> bytes:
    pool = layer.pool
    return b"".join(
        (
            _ints(*layer.input_shape, *layer.output_shape, *layer.weights.shape[2:]),
            _ints(*layer.stride, *layer.pads[:2], ACTIVATIONS.index(layer.activation.kind)),
            _floats(layer.activation.slope),
            _ints(POOLS.index(pool.kind if pool else "none"), *(pool.kernel if pool else (1, 1))),
            _ints(*(pool.stride if pool else (1, 1)), *(pool.pads[:2] if pool else (0, 0))),
            _ints(*layer.pooled_shape[1:]),
            layer.weights.astype("<f4").tobytes(),
            layer.bias.astype("<f4").tobytes(),
        )
    )


def stack_command(stack: Stack) -> bytes:
    layers = b"".join(map(_layer, stack.layers))
    return _name("stack") + _ints(*stack.input_shape, len(stack.layers)) + layers


def images_command(images: Floats, targets: Targets) -> bytes:
    parts = (_ints(len(images)), images.astype("<f4").tobytes(), _ints(*targets))
    return _name("images") + b"".join(parts)


def ascend_command(settings: Settings, step_sizes: Floats) -> bytes:
    rule, snapshots = settings.constraint, settings.snapshots
    kinds = OBJECTIVES.index(settings.objective), CONSTRAINTS.index(rule.kind)
    whole = settings.steps, settings.patience, settings.smooth, settings.method == "article"
    real = _floats(rule.low, rule.high, settings.momentum, settings.tolerance)
    numbers = _ints(*kinds, *whole) + real + _ints(len(snapshots), *snapshots)
    return _name("ascend") + numbers + _floats(*step_sizes)


def starts_command(
    indices: Sequence[int],
    shape: tuple[int, int, int],
    fluctuations: Fluctuations,
    seed: int,
    stream: int,
    constraint: Constraint,
) -> bytes:
    cells = fluctuations.cells(*shape[1:])
    scales = zip(cells, fluctuations.weights, strict=True)
    kind = CONSTRAINTS.index(constraint.kind)
    return b"".join(
        (
            _name("starts"),
            _ints(*shape, fluctuations.smoothing, kind),
            _floats(constraint.low, constraint.high),
            np.array([seed], "<u8").tobytes(),
            np.array([stream], "<u4").tobytes(),
            _ints(len(cells)),
            *(_ints(*cell) + _floats(weight) for cell, weight in scales),
            _ints(len(indices)),
            np.array(indices, "<u8").tobytes(),
        )
    )


class Results:
    """The arrays of a result, taken in their order."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def floats(self, *shape: int) -> NDArray[np.float32]:
        return self._take("<f4", shape)

    def ints(self, *shape: int) -> NDArray[np.int32]:
        return self._take("<i4", shape)

    def _take(self, dtype: str, shape: tuple[int, ...]) -> NDArray:
        size = int(np.prod(shape))
        assert self.at + 4 * size <= len(self.data), "the result is too short"
        taken = np.frombuffer(self.data, dtype, size, self.at).reshape(shape)
        self.at += 4 * size
        return taken

    def ascents(self, stack: Stack, count: int, settings: Settings) -> Ascents:
        shape = stack.input_shape
        return Ascents(
            images=self.floats(count, *shape),
            history=self.floats(count, settings.steps + 1),
            snapshots=self.floats(count, len(settings.snapshots), *shape),
            activations=self.floats(count),
            preactivations=self.floats(count),
            steps=self.ints(count),
            woke=self.ints(count),
            stops=self.ints(count).astype(np.uint8),
        )

    def end(self) -> None:
        assert self.at == len(self.data), "the result is too long"


# --- the engine ------------------------------------------------------------------------------


class DriverEngine:
    """`pyoip.engines.base.Engine` by a driver: `program` is the words of its command line."""

    name: ClassVar[str] = "driver"

    def __init__(
        self,
        stack: Stack,
        program: Sequence[str | Path],
        threads: int = 1,
        isa: str | None = None,
    ) -> None:
        self.stack = stack
        self.program, self.threads, self.isa = program, threads, isa

    def _run(self, images: Floats, targets: Targets | None, command: bytes) -> Results:
        images = as_images(self.stack.input_shape, images)
        targets = np.zeros(len(images), np.int32) if targets is None else targets
        problem = stack_command(self.stack) + images_command(images, targets) + command
        return Results(run(self.program, problem, self.threads, self.isa))

    def score(self, images: Floats, objective: Objective) -> Floats:
        command = _name("score") + _ints(OBJECTIVES.index(objective))
        results = self._run(images, None, command)
        scores = results.floats(len(images), self.stack.layers[-1].output_shape[0])
        results.end()
        return scores

    def activations(self, images: Floats) -> Floats:
        results = self._run(images, None, _name("maps"))
        maps = results.floats(len(images), *self.stack.layers[-1].output_shape)
        results.end()
        return maps

    def gradient(
        self, images: Floats, targets: Targets, objective: Objective
    ) -> tuple[Floats, Floats]:
        command = _name("gradient") + _ints(OBJECTIVES.index(objective))
        results = self._run(images, targets, command)
        values = results.floats(len(images), 2)
        gradients = results.floats(len(images), *self.stack.input_shape)
        results.end()
        return values, gradients

    def ascend(
        self,
        starts: Floats,
        targets: Targets,
        settings: Settings,
        step_sizes: Floats | None = None,
    ) -> Ascents:
        sizes = all_step_sizes(starts, settings, step_sizes)
        results = self._run(starts, targets, ascend_command(settings, sizes))
        found = results.ascents(self.stack, len(starts), settings)
        results.end()
        return found


def start_images(
    program: Sequence[str | Path],
    indices: Sequence[int],
    shape: tuple[int, int, int],
    fluctuations: Fluctuations,
    *,
    seed: int = 0,
    stream: int = 0,
    constraint: Constraint,
) -> Floats:
    """`pyoip.start_images` by a driver."""
    command = starts_command(indices, shape, fluctuations, seed, stream, constraint)
    results = Results(run(program, command))
    images = results.floats(len(indices), *shape)
    results.end()
    return images
