"""The ascents: trials, the best of them to the end, the best of these kicked to a better place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engines import Ascents
from .result import Runs
from .settings import Settings
from .starts import BLOCK_BYTES, Job, Starts

Floats = NDArray[np.float32]
Progress = Callable[[int, int, int], object]  # work done, in all, ascents still to come
_Report = Callable[[int, int], None]  # images done, of how many


KICK_IMAGES = 4  # perturbed copies of a map's best image in each round of kicks
BLOCK_MAPS = 8  # first taken to the end together: what Ctrl-C leaves is whole maps
BLOCK_SECONDS = 0.5  # a block that took less is followed by a larger one
_TRIAL, _ASCENT, _KICK = 1, 10, 8  # shares in the progress


@dataclass(frozen=True, eq=False)
class Outcome:
    """The best ascent of each finished map (row of `Job.maps`), and all of them."""

    rows: NDArray[np.intp]
    best: Ascents
    starts: Floats
    origins: Floats  # start images that it all began with
    candidates: NDArray[np.int64]
    kicks: NDArray[np.int32]  # round of kicks that led to the best image, 0 none
    runs: Runs


def climb(
    job: Job, plan: Starts, progress: Progress | None, together: int | None = None
) -> Iterator[Outcome | None]:
    """Ascend block by block of maps, `together` at most; None ends it when Ctrl-C came.

    Which maps make a block changes no bit of theirs.
    """
    maps, trials = plan.candidates.shape
    own = plan.images is not None
    starts = trials if own else min(job.settings.starts, trials)
    kicks = 0 if own or job.settings.method == "article" else job.settings.kicks
    meter = _Meter(progress, maps, trials if trials > starts else 0, starts, kicks)
    most = BLOCK_BYTES // (4 * max(trials * job.pixels, starts * _floats_kept(job)))
    block, first = together or BLOCK_MAPS, 0
    while first < maps:
        began = time.monotonic()
        rows = np.arange(first, min(first + max(1, min(most, block)), maps))
        batch = _Batch(job, plan, rows, plan.candidates[rows], _bold_columns(job, plan))
        outcome = _climb_block(batch, starts, kicks, meter)
        taken = time.monotonic() - began
        yield outcome
        if outcome is None:
            return
        first += len(rows)
        if together is None and taken < BLOCK_SECONDS:
            block = int(block * min(BLOCK_SECONDS / max(taken, 1e-3), 8))


def _climb_block(batch: _Batch, starts: int, kicks: int, meter: _Meter) -> Outcome | None:
    """Trials, ascents, kicks; None on Ctrl-C."""
    if len(batch.bold) > starts:
        tried = batch.ascend(meter.stage(_TRIAL), trial=True)
        if tried.interrupted:
            return None
        batch = batch.narrowed(_merit(tried, batch.job.settings), starts)
    ascents = batch.ascend(meter.stage(_ASCENT, counted=True))
    if ascents.interrupted:
        return None
    outcome: Outcome | None = batch.outcome(ascents)
    if outcome is not None and not np.isfinite(outcome.best.images).all():
        return outcome  # of a map beyond float32 there is no image to be kicked; it will be told
    for number in range(1, kicks + 1):
        if outcome is not None:
            outcome = _kicked(batch.job, outcome, number, meter.stage(_KICK, counted=True))
    return outcome


def _kicked(job: Job, before: Outcome, number: int, report: _Report) -> Outcome | None:
    """Perturb every map's best image as strongly as it varies itself, and climb again.

    Good optima lie close together: from a poor start an ascent rarely ends in the best of
    them, but a few kicks lead from one to the next. Every map gets the same perturbations.
    """
    old, settings = before.best, job.settings
    spread = old.images.std(axis=(1, 2, 3))[:, None, None, None, None]
    images = old.images[:, None] + spread * job.perturbations(number, KICK_IMAGES)
    images = job.constrained(images.reshape(-1, *job.shape))
    targets = np.repeat(job.maps[before.rows], KICK_IMAGES).astype(np.int32)
    new = job.engine.ascend(images, targets, settings, report)
    if new.interrupted:
        return None
    merit = _merit(new, settings).reshape(-1, KICK_IMAGES)
    winners = np.arange(len(merit)) * KICK_IMAGES + merit.argmax(axis=1)
    better = merit.max(axis=1) > _merit(old, settings)

    def chosen(was: Any, now: Any) -> Any:
        return np.where(better.reshape(-1, *(1,) * (was.ndim - 1)), now[winners], was)

    best = each(Ascents, lambda name: chosen(getattr(old, name), getattr(new, name)))
    origins = np.repeat(before.candidates[:, None], KICK_IMAGES, axis=1)
    return Outcome(
        before.rows,
        replace(best, woke=old.woke),  # of the first ascent, which had to be woken
        chosen(before.starts, images),
        before.origins,
        before.candidates,
        np.where(better, number, before.kicks).astype(np.int32),
        each(Runs, lambda name: _with_columns(before.runs, new, name, origins)),
    )


def _with_columns(runs: Runs, new: Ascents, name: str, origins: NDArray[np.int64]) -> Any:
    """An array of `runs` with the kicks' columns behind it."""
    added = origins if name == "candidates" else getattr(new, name).reshape(origins.shape)
    return np.concatenate([getattr(runs, name), added], axis=1)


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

    def ascend(self, report: _Report, *, trial: bool = False) -> Ascents:
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
        """Each map's best ascent."""
        maps, starts = self.numbers.shape
        merit = _merit(ascents, self.job.settings).reshape(maps, starts)
        winners = np.arange(maps) * starts + merit.argmax(axis=1)
        runs = Runs(
            activations=ascents.activations.reshape(maps, starts),
            steps=ascents.steps.reshape(maps, starts),
            stops=ascents.stops.reshape(maps, starts),
            candidates=self.numbers,
        )
        best = each(Ascents, lambda name: getattr(ascents, name)[winners])
        numbers = self.numbers.reshape(-1)[winners]
        never = np.zeros(maps, np.int32)
        starts = self.images[winners]
        return Outcome(self.rows, best, starts, starts, numbers, never, runs)


def _floats_kept(job: Job) -> int:
    """Numbers that one ascent takes: start, best, snapshots, history."""
    return job.pixels * (2 + len(job.settings.snapshots)) + job.settings.steps


class _Meter:
    """Turns the engine's counts, stage by stage, into progress over all maps."""

    def __init__(
        self, progress: Progress | None, maps: int, trials: int, starts: int, kicks: int
    ) -> None:
        self._progress = progress
        kicked = kicks * KICK_IMAGES
        self._total = maps * (trials * _TRIAL + starts * _ASCENT + kicked * _KICK)
        self._left = maps * (starts + kicked)
        self._done = 0

    def stage(self, weight: int, *, counted: bool = False) -> _Report:
        """The report of one stage of a block; `counted`: its images are whole ascents."""
        done, left = self._done, self._left

        def report(images: int, of: int) -> None:
            self._done = done + weight * images
            self._left = left - images * counted
            if self._progress is not None:
                self._progress(self._done, self._total, self._left)

        return report


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
