"""What is asked of every contender: a stack, start images, and a target map for each image."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import pyoip
from pyoip import engines
from pyoip.settings import Settings
from pyoip.stack import Stack, build_stack

Floats = NDArray[np.float32]

SIZE = 0.1  # of a step, in units of the image's standard deviation
THREADS = 2  # of everyone
TESTS = Path(__file__).resolve().parent.parent / "tests"


def article(steps: int, **more: str) -> Settings:
    """The rule that everyone follows: gradient over its rms, constant step, standardise."""
    return Settings(steps=steps, step_size=SIZE, method="article", **more)


@dataclass(frozen=True, eq=False)
class Task:
    """Ascents of `starts` (B, C, H, W), image i towards map `targets[i]`."""

    stack: Stack
    starts: Floats
    targets: NDArray[np.int32]

    @cached_property
    def engine(self) -> engines.Engine:
        return engines.make("cpu", self.stack, THREADS)

    def part(self, first: int, count: int) -> Task:
        here = slice(first, first + count)
        return Task(self.stack, self.starts[here], self.targets[here])


def shipped(layer: int, images: int) -> Task:
    """The shipped network: start images, each with the map that it excites most."""
    network = pyoip.load("mnist")
    starts = pyoip.start_images(images)
    scores = pyoip.score(network, starts, layer)
    return Task(build_stack(network, layer), starts, scores.argmax(axis=1).astype(np.int32))


def random_task(stack: Stack, images: int) -> Task:
    """Standardised noise for any stack, each image with the map that it excites most."""
    rng = np.random.default_rng(0)
    starts = rng.standard_normal((images, *stack.input_shape)).astype(np.float32)
    starts -= starts.mean(axis=(1, 2, 3), keepdims=True)
    starts /= starts.std(axis=(1, 2, 3), keepdims=True)
    scores = engines.make("cpu", stack, THREADS).score(starts, "activation")
    return Task(stack, starts, scores.argmax(axis=1).astype(np.int32))


def test_problems():
    """The tests' own generators: ``tests/problems.py``."""
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    import problems

    return problems
