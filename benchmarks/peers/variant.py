"""One way for a framework to give the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple


class Variant(NamedTuple):
    """A contender in the heats of its framework.

    `run` takes a number of steps and returns the images (ascents), or takes nothing and
    returns the scores. The number of steps is a multiple of `multiple`.
    """

    name: str
    run: Callable[..., Any]
    multiple: int = 1


def batches(count: int, sizes: tuple[int, ...]) -> Iterator[int]:
    """Batch sizes worth trying for so many images, each once."""
    yield from sorted({min(size, count) for size in sizes})


def in_threads(workers: int, call: Callable[[Any], Any], parts: list[Any]) -> list[Any]:
    """`call` for every part, `workers` of them at a time; the frameworks release the GIL."""
    if workers == 1:
        return [call(part) for part in parts]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(call, parts))
