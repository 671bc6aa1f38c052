"""A piece of the work, done: pure functions of the plan, whoever computes them and when."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ascent import bounds_of, converged_of, verdict_of
from ..climb import climb, each, objective_of
from ..engines import STOPS, Ascents, Engine, for_layer
from ..errors import UnsupportedLayer
from ..fluctuations import Fluctuations
from ..network import Network
from ..starts import BLOCK_BYTES, Job, Starts, known_maxima
from .plan import Plan, Task

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
Report = Callable[[float], object]  # share of the piece that is done

ARTICLE = Fluctuations(scales=(1.0, 2.0), weights=(1.0, 1.0))
"""What the article drew most of its start images from: fluctuations of one and two pixels."""

ARTICLE_STEP = 0.1


@dataclass(frozen=True, eq=False)
class Scored:
    """Some start images of a mix, scored for all maps.

    Attributes
    ----------
    alive : int64 (maps,)
        How many activate a map.
    awake : bytes
        Which do: bits (count, maps), packed along maps and compressed; see `bits`.
    numbers : int64 (maps, K)
        The best by score, best first; by preactivation where none is alive, unless the map is
        proven dead. -1 behind the last.
    scores : float32 (maps, K)
    """

    alive: Numbers
    awake: bytes
    numbers: Numbers
    scores: Floats


@dataclass(frozen=True, eq=False)
class Climbed:
    """The best ascent of each of some maps.

    Attributes
    ----------
    maps : int64 (n,)
    starts : int64 (n,)
        Number of the start image that it goes back to.
    images : float32 (n, C, H, W) or None
        None of the article's way, of which only the numbers are kept.
    activations, preactivations : float32 (n,)
    steps, woke : int32 (n,)
        Steps taken; step at which a silent start came alive: 0 alive at once, -1 never.
    stops : tuple of str
        Of `pyoip.engines.STOPS`.
    verdicts : tuple of str
    """

    maps: Numbers
    starts: Numbers
    images: Floats | None
    activations: Floats
    preactivations: Floats
    steps: NDArray[np.int32]
    woke: NDArray[np.int32]
    stops: tuple[str, ...]
    verdicts: tuple[str, ...]


Found = Scored | Climbed


class Worker:
    """Whoever does the work: a network, a plan and an engine.

    Parameters
    ----------
    network : Network
    plan : Plan
    threads : int, optional
        Default all processors. Changes no bit.
    """

    def __init__(self, network: Network, plan: Plan, threads: int | None = None) -> None:
        self.network, self.plan, self._threads = network, plan, threads
        self._target = network.layers[plan.layer - 1]

    @cached_property
    def engine(self) -> Engine:
        """Made when it is first asked for: who only writes the file needs none."""
        return for_layer(self.plan.engine, self.network, self.plan.layer, self._threads)

    @property
    def name(self) -> str:
        """Of the engine."""
        return self.engine.name

    def _job(self, mix: Fluctuations, maps: Any, **changed: Any) -> Job:
        settings = replace(self.plan.settings, **changed)
        chosen = np.asarray(maps, np.int64)
        return Job(self.network, self._target, chosen, self.engine, settings, mix, self._threads)

    @cached_property
    def real(self) -> Floats:
        """What real images reach, by the model's metadata, for each map of the plan."""
        rule = self.plan.settings.constraint
        return known_maxima(self.network, self._target, rule, "activation")[list(self.plan.maps)]

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """Proven upper bounds of the preactivations, for each map of the plan."""
        rule = self.plan.settings.constraint
        return bounds_of(self.network, self._target, rule)[list(self.plan.maps)]

    def perform(self, task: Task, starts: Numbers | None, report: Report | None = None) -> Found:
        """A piece of work; maps climb from `starts`, their start images by number (n, K)."""
        if task.kind == "article":
            return self.article(task)
        if task.kind == "score":
            return self.score(task, report)
        assert starts is not None
        return self.climb(task, starts, report)

    # --- scores ------------------------------------------------------------------------------

    def score(self, task: Task, report: Report | None = None) -> Scored:
        """Score some start images of a mix."""
        job = self._job(self.plan.mixes[task.mix], self.plan.maps)
        numbers = np.arange(task.first, task.first + task.count)
        after = np.empty((len(numbers), len(job.maps)), np.float32)
        before = np.zeros_like(after)  # where it is needed: of maps that nothing activates
        block = max(1, BLOCK_BYTES // (4 * job.pixels))
        hopeful = ~(self.bounds <= 0)
        for first in range(0, len(numbers), block):
            part = slice(first, first + block)
            images = job.pool(numbers[part])
            after[part] = self.engine.score(images, "activation")[:, job.maps]
            hopeful &= ~(after[part] > 0).any(axis=0)
            if hopeful.any():
                before[part] = self.engine.score(images, "preactivation")[:, job.maps]
            if report is not None:
                report((first + len(images)) / len(numbers))
        alive = (after > 0).sum(axis=0)
        best, values = self._best(numbers, np.where(hopeful, before, after))
        packed = np.packbits(after > 0, axis=1).tobytes()
        return Scored(alive, zlib.compress(packed, 1), best, values)

    def _best(self, numbers: Numbers, scores: Floats) -> tuple[Numbers, Floats]:
        """The best (maps, K) of scores (count, maps); the earlier of equal ones first."""
        count, maps = scores.shape
        most = min(self.plan.ascents, count)
        best = np.full((maps, self.plan.ascents), -1, np.int64)
        values = np.full((maps, self.plan.ascents), -np.inf, np.float32)
        least = np.partition(scores, count - most, axis=0)[count - most]
        for row, column in enumerate(scores.T):
            high = np.flatnonzero(column >= least[row])
            order = high[np.argsort(-column[high], kind="stable")[:most]]
            best[row, :most], values[row, :most] = numbers[order], column[order]
        return best, values

    # --- ascents -------------------------------------------------------------------------------

    def climb(self, task: Task, numbers: Numbers, report: Report | None = None) -> Climbed:
        """Climb from start images `numbers` (n, K) of a mix towards n maps of the plan."""
        maps = self.plan.maps[task.first : task.first + task.count]
        job = self._job(self.plan.mixes[task.mix], maps, starts=numbers.shape[1], kicks=0)
        told = None if report is None else lambda done, total, left: report(done / max(total, 1))
        parts = []
        for outcome in climb(job, Starts(numbers), told, len(maps)):
            if outcome is None:
                raise KeyboardInterrupt
            parts.append((outcome.best, outcome.candidates))
        ascents, candidates = zip(*parts, strict=True)
        best: Ascents = each(Ascents, lambda name: np.concatenate([vars(a)[name] for a in ascents]))
        return self._climbed(job, best, np.concatenate(candidates))

    def article(self, task: Task) -> Climbed:
        """Climb as the article did from one start image, for all maps of the plan."""
        way = {"method": "article", "step_size": ARTICLE_STEP, "momentum": 0.0}
        job = self._job(ARTICLE, self.plan.maps, **way)
        image = job.pool(np.array([task.first]))
        block = max(1, BLOCK_BYTES // (4 * job.pixels))
        parts = []
        for first in range(0, len(job.maps), block):
            maps = job.maps[first : first + block].astype(np.int32)
            found = self.engine.ascend(np.repeat(image, len(maps), axis=0), maps, job.settings)
            if found.interrupted:
                raise KeyboardInterrupt
            parts.append(replace(found, images=image[:0], snapshots=image[:0]))
        best: Ascents = each(Ascents, lambda name: np.concatenate([vars(a)[name] for a in parts]))
        return replace(self._climbed(job, best, np.full(len(job.maps), task.first)), images=None)

    def _climbed(self, job: Job, best: Ascents, numbers: Numbers) -> Climbed:
        finite = np.isfinite(best.activations) & np.isfinite(best.preactivations)
        if not finite.all():
            raise UnsupportedLayer(
                f"layer {self._target.number} ({self._target.name}): map {job.maps[~finite][0]} "
                "exceeds float32 on the way to its OIP; rescale the weights"
            )
        places = [self.plan.maps.index(number) for number in job.maps.tolist()]
        values = objective_of(best, job.settings)
        ended = converged_of(job, best)
        judged = zip(
            *(values, best.activations, self.real[places], self.bounds[places], ended), strict=True
        )
        return Climbed(
            job.maps,
            numbers,
            best.images,
            best.activations,
            best.preactivations,
            best.steps,
            best.woke,
            tuple(STOPS[code] for code in best.stops),
            tuple(verdict_of(*numbers) for numbers in judged),
        )


def bits(awake: bytes, count: int, maps: int) -> NDArray[np.bool_]:
    """Which of `count` start images activate which of `maps` maps, (count, maps)."""
    packed = np.frombuffer(zlib.decompress(awake), np.uint8).reshape(count, -1)
    return np.unpackbits(packed, axis=1, count=maps).astype(bool)


def merged(parts: list[Scored]) -> Numbers:
    """The best start images (maps, K) of a mix from all its pieces, in order.

    Those of a piece that does not activate a map are ranked by preactivation, and stand behind
    those of pieces that do.
    """
    numbers = np.concatenate([part.numbers for part in parts], axis=1)
    scores = np.concatenate([part.scores for part in parts], axis=1)
    keep = parts[0].numbers.shape[1]
    alive = [np.repeat(part.alive[:, None] > 0, keep, axis=1) for part in parts]
    order = np.lexsort((-scores, ~np.concatenate(alive, axis=1), numbers < 0), axis=1)[:, :keep]
    return np.take_along_axis(numbers, order, axis=1)
