"""Timing that is fair to everyone: all contenders in turn, again and again, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from task import THREADS

from pyoip import _cpu

REST = 0.03  # seconds

Rate = Callable[[], float]  # does some work and tells how much of it a second


@dataclass(frozen=True)
class Figure:
    """A rate per second, over the repeats."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, rates: list[float]) -> Figure:
        return cls(float(np.median(rates)), min(rates), max(rates))

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.least)}–{_short(self.most)})"

    def json(self) -> dict[str, float]:
        return asdict(self)


def _short(value: float) -> str:
    """Three digits: 1.23 M, 45.6 k, 789."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def interleaved(contenders: Mapping[str, Rate], repeats: int) -> dict[str, Figure]:
    """Every contender once, then again from the first one, `repeats` times.

    What disturbs the machine for a while then disturbs all of them. The rest before each lets
    the threads of the one before, which wait for more work in a busy loop, go to sleep.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            time.sleep(REST)
            rates[name].append(contender())
    return {name: Figure.of(values) for name, values in rates.items()}


def with_peak(contenders: Mapping[str, Rate], repeats: int) -> dict[str, Figure]:
    """`interleaved`, the processor's FMA peak on one and two threads among the contenders."""
    peaks = {
        peak_name(threads): lambda threads=threads: _cpu.peak_flops(threads, 0.05)
        for threads in sorted({1, THREADS})
    }
    return interleaved({**contenders, **peaks}, repeats)


def peak_name(threads: int) -> str:
    return f"FMA peak, threads: {threads}"


def stepping(run: Callable[[int], object], images: int, seconds: float, multiple: int = 1) -> Rate:
    """Image-steps per second of `run(steps)`, with as many steps as fill about `seconds`.

    A short run that is not measured goes before each: for compilers, caches and threads.
    """
    steps = multiple

    def took() -> float:
        run(2 * multiple)  # the second step may be compiled anew: its input has another layout
        return _timed(lambda: run(steps))

    while (last := took()) < seconds / 2 and steps < 2**16:
        steps *= 2 if last > seconds / 8 else 4
    return lambda: images * steps / took()


def calling(run: Callable[[], object], amount: int) -> Rate:
    """Work per second of `run()`, which does `amount` of it; warmed up."""
    run()
    return lambda: amount / _timed(run)


def best_of(heats: Mapping[str, Rate], tries: int = 3) -> str:
    """The name of the fastest, each tried a few times in turn: who goes to the final."""
    figures = interleaved(heats, tries)
    return max(figures, key=lambda name: figures[name].most)


def _timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
