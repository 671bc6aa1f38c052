"""Start images per second, verified against the float64 definition first.

The promise: 100,000 images of 28×28 a second on two cores. Beside it, NumPy's own generator
drawing just as many normal values in one thread, without any image made of them.

    python benchmarks/start_images.py
"""

from __future__ import annotations

import time

import numpy as np
from machine import describe

import pyoip
from pyoip import _cpu, reference

COUNT = 50_000


def verify() -> None:
    found = _cpu.normal_values(1, 2, 3, 4, 10_000)
    exact = reference.normal_values(1, 2, 3, 4, 10_000)
    np.testing.assert_allclose(found, exact, rtol=3e-6, atol=3e-6)


def rate(call, count: int) -> float:
    """Median of five, per second."""
    call()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return count / float(np.median(seconds))


def main() -> None:
    print(describe())
    verify()
    values = sum(down * across for down, across in pyoip.Fluctuations().cells(28, 28))
    numpy = np.random.Generator(np.random.Philox(0))
    few = COUNT // 10
    theirs = rate(lambda: numpy.standard_normal(few * values, np.float32), few)
    for threads in (1, 2):
        ours = rate(lambda n=threads: pyoip.start_images(COUNT, threads=n), COUNT)
        print(
            f"{threads} thread(s): {ours:,.0f} images/s; NumPy's normal values alone for as many "
            f"images, one thread: {theirs:,.0f}/s; ratio {ours / theirs:.2f}"
        )


if __name__ == "__main__":
    main()
