"""Start images: random fluctuations on several length scales, each a pure function of its number.

An image is the sum over length scales s of ``weight_s · upsample(normal values on a grid of
cells s pixels wide)``, bicubic, brought to the constraint. Values come from the counter-based
generator Philox (Salmon et al., SC 2011), so image *i* of a pool is the same whether it is
drawn alone or among a million, on any number of threads and on any machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidArgument
from .settings import Constraint, as_constraint, real, require, whole

MOST_SCALES = 32
MOST_SIDE = 2**16  # pixels, or samples of a signal
MOST_VALUES = 2**30  # of one image: the core counts them in 32 bits


@dataclass(frozen=True)
class Fluctuations:
    """On which length scales start images vary, and how strongly.

    Parameters
    ----------
    scales : tuple of float
        Cell widths in pixels, 1 or more each. A scale of s puts a grid of
        ``round(size / s)`` cells along each side: 28, 14, 7 and 3 of the default
        (1, 2, 4, 9) on a 28×28 image; one row of cells on a signal, whose height is 1.
    weights : tuple of float
        Weight of each scale, 0 … 1e6, at least one of 1e-6 or more.
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
        for name, low in (("scales", 1.0), ("weights", 0.0)):
            given = getattr(self, name)
            ok = np.iterable(given) and not isinstance(given, str)
            require(ok, name, given, "a sequence of numbers, as in (1, 2, 4)")
            object.__setattr__(self, name, tuple(real(name, v, low, 1e6) for v in given))
        few = 1 <= len(self.scales) <= MOST_SCALES
        require(few, "scales", self.scales, f"1 to {MOST_SCALES} widths")
        each = f"one for each of the {len(self.scales)} scales"
        require(len(self.weights) == len(self.scales), "weights", self.weights, each)
        require(max(self.weights) >= 1e-6, "weights", self.weights, "not all below 1e-6")
        whole("smoothing", self.smoothing, 0, 1000)

    def cells(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Grid sizes (down, across) of every scale for an image of `height` × `width` pixels."""
        return tuple(
            (max(1, round(height / scale)), max(1, round(width / scale))) for scale in self.scales
        )


def default_threads(threads: int | None = None) -> int:
    """`threads`, or as many as this process may run on where it is None."""
    if threads is None:
        affinity = getattr(os, "sched_getaffinity", None)  # Linux only
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    return whole("threads", threads, 1, 1024)


def check_shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """`shape` as (C, H, W), or `InvalidArgument`."""
    rule = f"(C, H, W), each 1 … {MOST_SIDE}, with 2 to 2**30 values in all"
    require(np.iterable(shape) and len(shape) == 3, "shape", shape, rule)
    channels, height, width = (whole("shape", side, 1, MOST_SIDE) for side in shape)
    require(2 <= channels * height * width <= MOST_VALUES, "shape", shape, rule)
    return channels, height, width


def start_images(
    count: int | None = None,
    shape: tuple[int, int, int] = (1, 28, 28),
    fluctuations: Fluctuations | None = None,
    *,
    indices: Iterable[int] | NDArray[np.integer] | None = None,
    seed: int = 0,
    stream: int = 0,
    constraint: Constraint | str = "standardize",
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
    constraint : {"standardize", "clip"} or Constraint
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
    fluctuations = Fluctuations() if fluctuations is None else fluctuations
    ok = isinstance(fluctuations, Fluctuations)
    require(ok, "fluctuations", fluctuations, "a pyoip.Fluctuations")
    images: NDArray[np.float32] = mixed_images(
        shape,
        [fluctuations],
        _numbers(count, indices),
        seed=seed,
        stream=stream,
        constraint=constraint,
        threads=threads,
        progress=progress,
    )[0]
    return images


def mixed_images(
    shape: tuple[int, int, int],
    mixes: Sequence[Fluctuations],
    numbers: NDArray[np.integer],
    *,
    seed: int = 0,
    stream: int = 0,
    constraint: Constraint | str = "standardize",
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Start images by number in several mixes of the same scales, (mixes, count, C, H, W).

    Each is what `start_images` makes of its mix: all mixes weigh the same random numbers, which
    are drawn once for all. They are laid in `out` if that is given.
    """
    from . import _cpu

    told = described(shape, mixes, seed=seed, stream=stream, constraint=constraint)
    images = np.empty((len(mixes), len(numbers), *shape), np.float32) if out is None else out
    _cpu.start_images(
        images,
        numbers,
        told,
        threads=default_threads(threads),
        progress=progress,
    )
    return images


def described(
    shape: tuple[int, int, int],
    mixes: Sequence[Fluctuations],
    *,
    seed: int,
    stream: int,
    constraint: Constraint | str,
) -> dict[str, Any]:
    """Pools in several mixes of the same scales, checked, as the compiled cores want them told."""
    rule = as_constraint(constraint)
    _, height, width = check_shape(shape)
    for mix in mixes:
        check_mix(mix, height, width)
    (scales,) = {mix.scales: mix.cells(height, width) for mix in mixes}.values()
    return {
        "scales": scales,
        "mixes": [(mix.weights, mix.smoothing) for mix in mixes],
        "seed": whole("seed", seed, 0, 2**64 - 1),
        "stream": whole("stream", stream, 0, 2**24 - 1),
        "constraint": rule.kind,
        "low": rule.low,
        "high": rule.high,
    }


def _numbers(
    count: int | None, indices: Iterable[int] | NDArray[np.integer] | None
) -> NDArray[np.uint64]:
    if count is not None and indices is None:
        whole("count", count, 0)
        return np.arange(count, dtype=np.uint64)
    if indices is None or count is not None:
        raise InvalidArgument("start_images takes either count or indices: give one of the two")
    given = np.asarray(indices)
    require(given.ndim == 1, "indices", indices, "a sequence of integers")
    if given.dtype.kind in "iu" and (given.size == 0 or given.min() >= 0):
        return given.astype(np.uint64)
    numbers = [whole("indices", value, 0, 2**64 - 1) for value in indices]
    return np.asarray(numbers, dtype=np.uint64)


@lru_cache(maxsize=4096)  # a survey asks again and again
def check_mix(fluctuations: Fluctuations, height: int, width: int) -> None:
    """Raise `InvalidArgument` unless images vary: a grid of one cell is one grey value."""
    largest = max(fluctuations.weights)
    varied = any(
        cells != (1, 1) and weight > 1e-3 * largest
        for cells, weight in zip(
            fluctuations.cells(height, width), fluctuations.weights, strict=True
        )
    )
    if not varied:
        widest = int(max(height, width) / 1.5 * 10) / 10  # half a cell more makes it two
        raise InvalidArgument(
            f"scales={fluctuations.scales!r}: one that has a weight must be in 1 … {widest:g}, to "
            f"put two cells or more along {height}×{width} pixels"
        )
