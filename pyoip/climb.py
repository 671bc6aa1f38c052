"""The ascents: trials, the best of them to the end, the best of these per map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engines import STOPS, Ascents
from .result import Runs
from .settings import Settings
from .starts import BLOCK_BYTES, Job, Starts

Floats = NDArray[np.float32]
Progress = Callable[[int, int, int], object]  # work done, in all, ascents still to come


@dataclass(frozen=True, eq=False)
class Outcome:
    """The best ascent of each finished map (row of `Job.maps`), and all of them."""

    rows: NDArray[np.intp]
    best: Ascents
    starts: Floats
    candidates: NDArray[np.int64]
    runs: Runs


def climb(job: Job, plan: Starts, progress: Progress | None) -> Iterator[tuple[Outcome, bool]]:
    """Ascend block by block of maps, in order; False with the last block if Ctrl-C came."""
    maps, trials = plan.candidates.shape
    starts = trials if plan.images is not None else min(job.settings.starts, trials)
    meter = _Meter(progress, maps, trials if trials > starts else 0, starts)
    block = max(1, BLOCK_BYTES // (4 * max(trials * job.pixels, starts * _floats_kept(job))))
    for first in range(0, maps, block):
        rows = np.arange(first, min(first + block, maps))
        batch = _Batch(job, plan, rows, plan.candidates[rows], _bold_columns(job, plan))
        if trials > starts:
            tried = batch.ascend(meter.trial, trial=True)
            if tried.interrupted:
                yield nothing(job, starts), False
                return
            batch = batch.narrowed(_merit(tried, job.settings), starts)
        ascents = batch.ascend(meter.ascent)
        meter.finish(len(rows))
        yield batch.outcome(ascents), not ascents.interrupted
        if ascents.interrupted:
            return


def nothing(job: Job, starts: int) -> Outcome:
    """The outcome over no map at all: what all arrays look like."""
    rows = np.empty(0, np.intp)
    plan = Starts(np.empty((0, starts), np.int64), np.empty((0, starts, *job.shape), np.float32))
    batch = _Batch(job, plan, rows, plan.candidates, np.zeros(starts, bool))
    return batch.outcome(batch.ascend(lambda done, total: None))


def _bold_columns(job: Job, plan: Starts) -> NDArray[np.bool_]:
    """Every second candidate begins boldly; the article's method and one's own images do not."""
    plain = plan.images is not None or job.settings.method == "article" or job.settings.bold == 1
    odd: NDArray[np.bool_] = np.arange(plan.candidates.shape[1]) % 2 == 1
    return odd & (not plain)


@dataclass(frozen=True, eq=False)
class _Batch:
    """K ascents for each of some maps (rows of `Job.maps`)."""

    job: Job
    plan: Starts
    rows: NDArray[np.intp]
    numbers: NDArray[np.int64]  # (maps, K) in the pool
    bold: NDArray[np.bool_]  # (K,)

    @cached_property
    def images(self) -> Floats:
        """Start images (maps · K, C, H, W)."""
        if self.plan.images is None:
            unique, where = np.unique(self.numbers, return_inverse=True)
            return self.job.pool(unique)[where.reshape(-1)]
        own = self.plan.images if len(self.plan.images) == 1 else self.plan.images[self.rows]
        own = np.broadcast_to(own, (*self.numbers.shape, *self.job.shape))
        return np.ascontiguousarray(own).reshape(-1, *self.job.shape)

    def ascend(self, report: Callable[[int, int], None], *, trial: bool = False) -> Ascents:
        """All ascents; a trial is over after two windows of patience."""
        settings = self.job.settings
        if trial:
            few = min(2 * settings.patience, settings.steps)
            settings = replace(settings, steps=few, snapshots=())
        targets = np.repeat(self.job.maps[self.rows], len(self.bold)).astype(np.int32)
        sizes = np.where(self.bold, settings.bold, 1.0).astype(np.float32)
        sizes = np.tile(np.float32(settings.step_size) * sizes, len(self.rows))
        return self.job.engine.ascend(self.images, targets, settings, report, sizes)

    def narrowed(self, merit: Floats, starts: int) -> _Batch:
        """The best by merit (maps · K): of `starts` half among the bold, the rest careful."""
        merit = merit.reshape(self.numbers.shape)
        few = starts // 2 if self.bold.any() else 0
        chosen = []
        for group, count in ((~self.bold, starts - few), (self.bold, few)):
            where = np.flatnonzero(group)
            order = np.argsort(-merit[:, where], axis=1, kind="stable")[:, :count]
            chosen.append(where[order])
        columns = np.concatenate(chosen, axis=1)
        numbers = np.take_along_axis(self.numbers, columns, axis=1)
        return replace(self, numbers=numbers, bold=np.arange(starts) >= starts - few)

    def outcome(self, ascents: Ascents) -> Outcome:
        """Each map's best ascent. Maps with an ascent that Ctrl-C cut short are left out."""
        maps, starts = self.numbers.shape
        stops = ascents.stops.reshape(maps, starts)
        whole = np.flatnonzero((stops != STOPS.index("interrupted")).all(axis=1))
        merit = _merit(ascents, self.job.settings).reshape(maps, starts)
        winners = whole * starts + merit[whole].argmax(axis=1)
        runs = Runs(
            activations=ascents.activations.reshape(maps, starts)[whole],
            steps=ascents.steps.reshape(maps, starts)[whole],
            stops=stops[whole],
            candidates=self.numbers[whole],
        )
        best = each(Ascents, lambda name: getattr(ascents, name)[winners])
        numbers = self.numbers.reshape(-1)[winners]
        return Outcome(self.rows[whole], best, self.images[winners], numbers, runs)


def _floats_kept(job: Job) -> int:
    """Numbers that one ascent takes: start, best, snapshots, history."""
    return job.pixels * (2 + len(job.settings.snapshots)) + job.settings.steps


class _Meter:
    """Turns the engine's counts into progress over all maps, a trial being a tenth of an ascent."""

    def __init__(self, progress: Progress | None, maps: int, trials: int, starts: int) -> None:
        self._progress = progress
        self._trials, self._each = trials, trials + 10 * starts
        self._total, self._before = maps * self._each, 0
        self._starts, self._maps = starts, maps

    def trial(self, done: int, total: int) -> None:
        """Report from the trials of a block."""
        self._report(done, 0)

    def ascent(self, done: int, total: int) -> None:
        """Report from the ascents of a block, whose trials are over."""
        self._report(total // self._starts * self._trials + 10 * done, done)

    def finish(self, maps: int) -> None:
        """Close a block of so many maps."""
        self._before += maps * self._each

    def _report(self, units: int, ascents: int) -> None:
        if self._progress is not None:
            over = self._before // self._each * self._starts + ascents
            self._progress(self._before + units, self._total, self._maps * self._starts - over)


def _merit(ascents: Ascents, settings: Settings) -> Floats:
    """The objective, or how near an ascent came that did not wake its map."""
    value = objective_of(ascents, settings)
    return np.where(value > 0, value, np.minimum(ascents.preactivations, 0))


def objective_of(ascents: Ascents, settings: Settings) -> Floats:
    """The objective of each image."""
    activation = settings.objective == "activation"
    return ascents.activations if activation else ascents.preactivations


def each(kind: Any, make_array: Callable[[str], Any]) -> Any:
    """A `kind` (Ascents or Runs) whose arrays are made by name."""
    return kind(**{f.name: make_array(f.name) for f in fields(kind) if f.name != "interrupted"})
