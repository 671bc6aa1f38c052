"""A piece of the work, done: pure functions of the plan, whoever computes them and when."""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..ascent import bounds_of, converged_of, verdicts_of
from ..climb import climb, each, objective_of
from ..engines import STOPS, Ascents, Engine, for_layer
from ..errors import UnsupportedLayer
from ..fluctuations import Fluctuations
from ..network import Network
from ..settings import Objective
from ..starts import BLOCK_BYTES, Job, Starts, known_maxima
from .plan import Plan, Task

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
Report = Callable[[float], object]  # share of the piece that is done

ARTICLE = Fluctuations(scales=(1.0, 2.0), weights=(1.0, 1.0))
"""What the article drew most of its start images from: fluctuations of one and two pixels."""

ARTICLE_STEP = 0.1

DRAWN_BYTES = 2**24  # of start images at a time: little enough to be laid in the same memory again

SECTIONS = 32  # that scores are taken in

_NOTHING = np.empty(0, np.float32)


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
    """The best ascent of each of some maps, in one mix or several, one after the other.

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


Found = tuple[Scored, ...] | Climbed
"""Of a piece of work; of one that scores, what came of each of its mixes."""


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
        self._maps = np.array(plan.maps, np.int64)
        whole = plan.maps == tuple(range(self._target.maps))
        self._columns = slice(None) if whole else self._maps
        self._kept = threading.local()

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
        """A piece of work; maps climb from `starts`, their start images (mixes, n, K) by number."""
        if task.kind == "article":
            return self.article(task)
        if task.kind == "score":
            return self.score(task, report)
        assert starts is not None
        return self.climb(task, starts, report)

    # --- scores ------------------------------------------------------------------------------

    def score(self, task: Task, report: Report | None = None) -> tuple[Scored, ...]:
        """Score some start images in some mixes, one answer for each mix."""
        mixes = [self.plan.mixes[mix] for mix in task.covered]
        job = self._job(mixes[0], self._maps)
        numbers = np.arange(task.first, task.first + task.count)
        after = np.empty((len(mixes), len(numbers), len(job.maps)), np.float32)
        before = after[:0]  # made where it is needed: for maps that nothing activates
        awake, alive = np.empty(after.shape, bool), np.zeros((len(mixes), len(job.maps)), np.int64)
        block = max(1, DRAWN_BYTES // (4 * job.pixels * len(mixes)))
        for first in range(0, len(numbers), block):
            part = slice(first, first + block)
            room = self._room(len(mixes), len(numbers[part]), *job.shape)
            images = job.pools(numbers[part], mixes, room)
            after[:, part] = self._scores(images, "activation")
            awake[:, part] = after[:, part] > 0
            alive += _counts(awake[:, part])
            hopeful = (alive == 0) & ~(self.bounds <= 0)
            wanted = np.flatnonzero(hopeful.any(axis=1))
            if len(wanted):
                before = before if len(before) else np.zeros_like(after)
                before[wanted, part] = self._scores(images[wanted], "preactivation")
            if report is not None:
                report((first + images.shape[1]) / len(numbers))
        merit = np.where(hopeful[:, None], before, after) if hopeful.any() else after
        best, values = self._best(numbers, merit)
        return tuple(map(Scored, alive, map(_packed, awake), best, values))

    def _room(self, *shape: int) -> Floats:
        """Memory for start images, the same again and again: fresh memory costs time of its own.

        Each thread has its own, for a Dask worker may have several.
        """
        count = math.prod(shape)
        if getattr(self._kept, "room", _NOTHING).size < count:
            self._kept.room = np.empty(count, np.float32)
        room: Floats = self._kept.room[:count].reshape(shape)
        return room

    def _scores(self, images: Floats, objective: Objective) -> Floats:
        """Of images (mixes, count, C, H, W) for the maps of the plan, (mixes, count, maps)."""
        flat = images.reshape(-1, *images.shape[2:])
        scores = self.engine.score(flat, objective)[:, self._columns]
        return scores.reshape(*images.shape[:2], -1)

    def _best(self, numbers: Numbers, scores: Floats) -> tuple[Numbers, Floats]:
        """The best (mixes, maps, K) of scores (mixes, count, maps); earlier of equal ones first.

        All at once: only what reaches the K-th highest of the maxima of some sections is sorted.
        A section is every SECTIONS-th score: maxima of long rows are found more quickly.
        """
        mixes, count, maps = scores.shape
        kept = self.plan.ascents
        most, sections = min(kept, count), min(max(kept, SECTIONS), count)
        rows = scores[:, : count // sections * sections].reshape(mixes, -1, sections * maps)
        maxima = rows.max(axis=1).reshape(mixes, sections, maps)
        least = np.partition(maxima, sections - most, axis=1)[:, sections - most]
        place = np.flatnonzero(scores >= least[:, None])
        mix, column = place // (count * maps), place // maps % count
        row, value = mix * maps + place % maps, scores.reshape(-1)[place]
        key = np.empty(len(row), np.complex128)  # NumPy sorts by real parts, then imaginary ones
        key.real, key.imag = row, -value
        order = np.argsort(key, kind="stable")  # numbers ascend as it is
        row, column, value = row[order], column[order], value[order]
        rank = np.arange(len(row)) - np.searchsorted(row, np.arange(mixes * maps))[row]
        row, column, value, rank = (array[rank < most] for array in (row, column, value, rank))
        best = np.full((mixes * maps, kept), -1, np.int64)
        values = np.full((mixes * maps, kept), -np.inf, np.float32)
        best[row, rank], values[row, rank] = numbers[column], value
        return best.reshape(mixes, maps, kept), values.reshape(mixes, maps, kept)

    # --- ascents -------------------------------------------------------------------------------

    def climb(self, task: Task, numbers: Numbers, report: Report | None = None) -> Climbed:
        """Climb from start images `numbers` (mixes, n, K) towards n maps in each mix."""
        places = np.tile(np.arange(task.first, task.first + task.count), task.mixes)
        mixes = tuple(self.plan.mixes[mix] for mix in task.covered)
        job = self._job(mixes[0], self._maps[places], starts=numbers.shape[2], kicks=0)
        job = _Mixed(**vars(job), mixes=mixes)
        starts = Starts(job.place(numbers))
        told = None if report is None else lambda done, total, left: report(done / max(total, 1))
        parts = []
        for outcome in climb(job, starts, told, len(places)):
            if outcome is None:
                raise KeyboardInterrupt
            parts.append((outcome.best, outcome.candidates))
        ascents, candidates = zip(*parts, strict=True)
        best = _joined(ascents)
        return self._climbed(job, best, places, np.concatenate(candidates) % _Mixed.APART)

    def article(self, task: Task) -> Climbed:
        """Climb as the article did from some start images, each for all maps of the plan."""
        way = {"method": "article", "step_size": ARTICLE_STEP, "momentum": 0.0}
        job = self._job(ARTICLE, self._maps, **way)
        numbers = np.arange(task.first, task.first + task.count)
        images = job.pool(numbers)
        image, place = (grid.ravel() for grid in np.indices((len(numbers), len(job.maps))))
        block = max(1, BLOCK_BYTES // (4 * job.pixels))
        parts = []
        for first in range(0, len(place), block):
            part = slice(first, first + block)
            maps = job.maps[place[part]].astype(np.int32)
            found = self.engine.ascend(images[image[part]], maps, job.settings)
            if found.interrupted:
                raise KeyboardInterrupt
            parts.append(replace(found, images=images[:0], snapshots=images[:0]))
        return replace(self._climbed(job, _joined(parts), place, numbers[image]), images=None)

    def _climbed(self, job: Job, best: Ascents, places: Numbers, numbers: Numbers) -> Climbed:
        maps = self._maps[places]
        finite = np.isfinite(best.activations) & np.isfinite(best.preactivations)
        if not finite.all():
            raise UnsupportedLayer(
                f"layer {self._target.number} ({self._target.name}): map {maps[~finite][0]} "
                "exceeds float32 on the way to its OIP; rescale the weights"
            )
        values, ended = objective_of(best, job.settings), converged_of(job, best)
        limits = self.real[places], self.bounds[places]
        return Climbed(
            maps,
            numbers,
            best.images,
            best.activations,
            best.preactivations,
            best.steps,
            best.woke,
            tuple(np.array(STOPS)[best.stops].tolist()),
            verdicts_of(values, best.activations, *limits, ended),
        )


@dataclass(frozen=True, eq=False)
class _Mixed(Job):
    """A job whose pool is that of several mixes, one behind the other."""

    APART: ClassVar[int] = 2**32  # between the first start images of two mixes

    mixes: tuple[Fluctuations, ...]

    def place(self, numbers: Numbers) -> Numbers:
        """Numbers (mixes, n, K) of start images as those of this pool, (mixes · n, K)."""
        mix = np.arange(len(self.mixes))[:, None, None]
        return (mix * self.APART + numbers).reshape(-1, numbers.shape[2])

    def pool(self, indices: NDArray[np.integer[Any]]) -> Floats:
        """Candidates by number, ascending."""
        ends = np.searchsorted(indices, np.arange(len(self.mixes) + 1) * self.APART)
        parts = zip(self.mixes, pairwise(ends.tolist()), strict=True)
        images = np.empty((len(indices), *self.shape), np.float32)
        for mix, (a, b) in parts:
            self.pools(indices[a:b] % self.APART, [mix], images[None, a:b])
        return images


def _joined(parts: Sequence[Ascents]) -> Ascents:
    if len(parts) == 1:
        return parts[0]
    joined: Ascents = each(Ascents, lambda name: np.concatenate([vars(a)[name] for a in parts]))
    return joined


def _counts(awake: NDArray[np.bool_]) -> Numbers:
    """How many of awake (mixes, count, maps) are, (mixes, maps); long rows are summed quickly."""
    mixes, count, maps = awake.shape
    even = count // SECTIONS * SECTIONS
    rows = awake[:, :even].view(np.uint8).reshape(mixes, -1, SECTIONS * maps)
    sums = rows.sum(axis=1, dtype=np.int32).reshape(mixes, SECTIONS, maps).sum(axis=1)
    counts: Numbers = sums + awake[:, even:].sum(axis=1)
    return counts


def _packed(awake: NDArray[np.bool_]) -> bytes:
    """Which start images activate which maps (count, maps); see `bits`."""
    return zlib.compress(np.packbits(awake, axis=1).tobytes(), 1)


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
