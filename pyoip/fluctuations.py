"""Start images: random fluctuations on several length scales, each a pure function of its number.

An image is the sum over length scales s of ``weight_s · upsample(normal values on a grid of
cells s pixels wide)``, bicubic, brought to the constraint. Values come from the counter-based
generator Philox (Salmon et al., SC 2011), so image *i* of a pool is the same whether it is
drawn alone or among a million, on any number of threads and on any machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidArgument
from .settings import Constraint, require, whole

MOST_SCALES = 32
MOST_PIXELS = 2**24  # of one image: the generator counts its values in 32 bits


@dataclass(frozen=True)
class Fluctuations:
    """On which length scales start images vary, and how strongly.

    Parameters
    ----------
    scales : tuple of float
        Cell widths in pixels, 1 or more each. A scale of s puts a grid of
        ``round(size / s)`` cells along each side: 28, 14, 7 and 3 of the default
        (1, 2, 4, 9) on a 28×28 image.
    weights : tuple of float
        Weight of each scale, 0 or more and not all 0.
    smoothing : int
        Passes of a 3×3 binomial blur over the sum; 0 for none.

    Examples
    --------
    >>> Fluctuations(scales=(2,), weights=(1.0,)).cells(28, 28)
    ((14, 14),)
    """

    scales: tuple[float, ...] = (1.0, 2.0, 4.0, 9.0)
    weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    smoothing: int = 0

    def __post_init__(self) -> None:
        require(
            1 <= len(self.scales) <= MOST_SCALES,
            "scales",
            self.scales,
            f"1 to {MOST_SCALES} widths",
        )
        require(
            len(self.weights) == len(self.scales),
            "weights",
            self.weights,
            f"one for each of the {len(self.scales)} scales",
        )
        for scale in self.scales:
            require(math.isfinite(scale) and scale >= 1, "scales", scale, "1 pixel or more each")
        for weight in self.weights:
            require(math.isfinite(weight) and 0 <= weight <= 1e6, "weights", weight, "in [0, 1e6]")
        require(sum(self.weights) > 0, "weights", self.weights, "not all 0")
        whole("smoothing", self.smoothing, 0, 1000)

    def cells(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Grid sizes (down, across) of every scale for an image of `height` × `width` pixels."""
        return tuple(
            (max(1, round(height / scale)), max(1, round(width / scale))) for scale in self.scales
        )


def default_threads(threads: int | None = None) -> int:
    """`threads`, or as many as this process may run on where it is None."""
    if threads is None:
        return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    whole("threads", threads, 1, 1024)
    return threads


def check_shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """`shape` as (C, H, W), or `InvalidArgument`."""
    channels, height, width = shape
    pixels = channels * height * width
    ok = min(channels, height, width) >= 1 and 2 <= pixels <= MOST_PIXELS
    require(ok, "shape", shape, f"(C, H, W), each 1 or more, with 2 … {MOST_PIXELS} values in all")
    return int(channels), int(height), int(width)


def start_images(
    count: int | None = None,
    shape: tuple[int, int, int] = (1, 28, 28),
    fluctuations: Fluctuations | None = None,
    *,
    indices: Iterable[int] | NDArray[np.integer] | None = None,
    seed: int = 0,
    stream: int = 0,
    constraint: Constraint | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> NDArray[np.float32]:
    """Start images of the pool (`seed`, `stream`), by number.

    Parameters
    ----------
    count : int, optional
        Images 0 … count - 1; or give `indices`.
    shape : (C, H, W)
        Of one image, in pixels.
    fluctuations : Fluctuations, optional
        Length scales and weights; the default mixes 1, 2, 4 and 9 pixels.
    indices : integers, optional
        Which images of the pool, each 0 … 2**64 - 1, instead of the first `count`.
    seed : int
        0 … 2**64 - 1.
    stream : int
        Which pool of this seed, 0 … 2**24 - 1.
    constraint : Constraint, optional
        Default: zero mean and unit standard deviation. For a box, the standardised
        image is scaled so that two deviations reach its edges, then clipped.
    threads : int, optional
        Default: all processors of this process. Changes nothing but the time.
    progress : callable(done, total), optional
        Called about ten times a second.

    Returns
    -------
    float32 (count, C, H, W)

    Raises
    ------
    InvalidArgument
        Naming the value and its range.

    Examples
    --------
    >>> pool = start_images(5)
    >>> bool((start_images(indices=[3])[0] == pool[3]).all())
    True
    """
    from . import _cpu

    constraint = constraint or Constraint()
    fluctuations = fluctuations or Fluctuations()
    channels, height, width = check_shape(shape)
    whole("seed", seed, 0, 2**64 - 1)
    whole("stream", stream, 0, 2**24 - 1)
    return _cpu.start_images(
        _numbers(count, indices),
        (channels, height, width),
        [
            (down, across, weight)
            for (down, across), weight in zip(
                fluctuations.cells(height, width), fluctuations.weights, strict=True
            )
        ],
        smoothing=fluctuations.smoothing,
        seed=seed,
        stream=stream,
        constraint=constraint.kind,
        low=constraint.low,
        high=constraint.high,
        threads=default_threads(threads),
        progress=progress,
    )


def _numbers(
    count: int | None, indices: Iterable[int] | NDArray[np.integer] | None
) -> NDArray[np.uint64]:
    if count is not None and indices is None:
        whole("count", count, 0)
        return np.arange(count, dtype=np.uint64)
    if indices is None or count is not None:
        raise InvalidArgument("start_images takes either count or indices: give one of the two")
    values = list(indices)
    for value in values:
        require(0 <= value < 2**64, "indices", value, "integers in 0 … 2**64 - 1")
    return np.asarray(values, dtype=np.uint64)
