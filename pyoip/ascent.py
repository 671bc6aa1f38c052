"""The main job: candidates → scores of all maps → best starts per map → ascents → verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bounds import preactivation_bounds
from .engines import STOPS, Ascents, make
from .errors import Interrupted, InvalidArgument
from .fluctuations import Fluctuations
from .network import load
from .progress import ProgressLine
from .result import Result, Runs
from .settings import Constraint, Objective, Settings
from .stack import build_stack
from .starts import BLOCK_BYTES, Job, Starts

Floats = NDArray[np.float32]
Progress = Callable[[int, int, int], object]  # work done, in all, ascents still to come


def ascend(
    model: Any,
    layer: int | str = 1,
    maps: Any = None,
    *,
    candidates: int = Settings.candidates,
    trials: int = Settings.trials,
    starts: int = Settings.starts,
    fluctuations: Fluctuations | None = None,
    start: ArrayLike | Result | None = None,
    objective: Objective = Settings.objective,
    constraint: str | Constraint = "standardize",
    steps: int = Settings.steps,
    step_size: float = Settings.step_size,
    momentum: float = Settings.momentum,
    patience: int = Settings.patience,
    tolerance: float = Settings.tolerance,
    smooth: int = Settings.smooth,
    method: str = Settings.method,
    snapshots: tuple[int, ...] = (),
    compare: str | ArrayLike | None = "auto",
    engine: str = "auto",
    threads: int | None = None,
    seed: int = Settings.seed,
    progress: Progress | bool | None = None,
) -> Result:
    """Find the image that excites each map of a layer most: its OIP.

    A shared pool of candidates is scored for all maps in one forward pass each. Every
    map's best candidates climb the gradient of its mean activation on the pixels for a few
    steps; those that came highest climb to the end, and the best image over all steps and
    starts is kept. A map that no candidate activates climbs its preactivation until it is
    alive.

    Parameters
    ----------
    model : str, path, onnx.ModelProto, torch.nn.Module or Network
        ``"mnist"`` is the network that ships with pyoip; see `pyoip.load`.
    layer : int or str
        Number from 1, or name; ``"conv2:17"`` and ``"conv2:0-63"`` name maps as well.
    maps : int, slice, range or sequence of int, optional
        Map numbers from 0; default all of the layer.
    candidates : int
        Size of the shared pool of start images.
    trials : int
        Candidates per map that climb for two windows of `patience` steps.
    starts : int
        Ascents to the end per map: the best of the trials.
    fluctuations : Fluctuations, optional
        Length scales and weights of the candidates.
    start : array or Result, optional
        Your own start image(s) instead of a pool: (H, W) or (C, H, W), one image for all
        maps; (n, C, H, W), one for each of n maps, or n starts for a single map. A `Result`
        is continued: each map starts from its OIP there.
    objective : {"activation", "preactivation"}
        Mean over positions of the map after, or before, its activation function.
    constraint : {"standardize", "clip"} or Constraint
        Zero mean and unit deviation (default), or a box, 0 … 1 unless told otherwise.
    steps, step_size, momentum, patience, tolerance, smooth, method
        See `Settings`.
    snapshots : tuple of int
        Steps whose images are kept.
    compare : "auto", array or None
        Real images (n, C, H, W) in the network's pixel units that an OIP must outdo to be
        ``found``. ``"auto"``: the maxima over a test set that the model's metadata holds,
        if any.
    engine : str
        ``"auto"``, or a name of `pyoip.engines.available`.
    threads : int, optional
        Default: every processor of this process. Changes nothing but the time.
    seed : int
        Of the start images, 0 … 2**64 - 1. The same seed gives the same bits.
    progress : callable(done, total, left) or bool, optional
        Called about ten times a second with the work done, all of it, and the count of
        ascents still to come. True: a bar on stderr.

    Returns
    -------
    Result
        `images` (maps, C, H, W), `activations`, `verdicts` and all that led to them.

    Raises
    ------
    ModelError, UnsupportedLayer, InvalidArgument, EngineUnavailable
        In one line: the value, the rule, the remedy.
    Interrupted
        On Ctrl-C, within half a second; its `result` holds the maps finished by then.

    Examples
    --------
    >>> import pyoip
    >>> result = pyoip.ascend("mnist", layer=1, maps=range(4), candidates=64, starts=2)
    >>> result.images.shape
    (4, 1, 28, 28)
    """
    began = time.perf_counter()
    kind: Any = constraint
    rule = constraint if isinstance(constraint, Constraint) else Constraint(kind)
    network = load(model)
    target, chosen = network.select(layer, maps)
    way: Any = method
    settings = Settings(
        objective=objective,
        constraint=rule,
        steps=steps,
        step_size=step_size,
        momentum=momentum,
        patience=patience,
        tolerance=tolerance,
        smooth=smooth,
        method=way,
        snapshots=tuple(snapshots),
        candidates=candidates,
        trials=trials,
        starts=starts,
        seed=seed,
    )
    if start is not None and fluctuations is not None:
        raise InvalidArgument(
            "start and fluctuations: give your own start images or how to draw them"
        )
    core = make(engine, build_stack(network, target.number), threads)
    job = Job(network, target, chosen, core, settings, fluctuations or Fluctuations(), threads)
    real = job.real_maxima(compare)
    plan = job.own_starts(start) if start is not None else None
    if not isinstance(progress, bool):
        return _run(job, plan, real, progress, began)
    with ProgressLine(f"{network.name}, layer {target.number}", silent=not progress) as line:
        return _run(job, plan, real, line, began)


def score(
    model: Any,
    images: ArrayLike,
    layer: int | str = 1,
    *,
    objective: Objective = "activation",
    engine: str = "auto",
    threads: int | None = None,
) -> Floats:
    """Score images for all maps of a layer: the mean over positions of each map.

    Parameters
    ----------
    model, layer, engine, threads
        See `ascend`.
    images : array (n, C, H, W)
        In the network's pixel units, taken as they are.
    objective : {"activation", "preactivation"}

    Returns
    -------
    float32 (n, maps)

    Examples
    --------
    >>> import pyoip
    >>> pyoip.score("mnist", pyoip.start_images(10), layer=2).shape
    (10, 64)
    """
    network = load(model)
    Settings(objective=objective)
    core = make(engine, build_stack(network, network.select(layer)[0].number), threads)
    return core.score(np.asarray(images, np.float32), objective)


def activations(
    model: Any,
    images: ArrayLike,
    layer: int | str = 1,
    *,
    engine: str = "auto",
    threads: int | None = None,
) -> Floats:
    """All activations of a layer, float32 (n, maps, h, w); the arguments are those of `score`.

    Examples
    --------
    >>> import pyoip
    >>> pyoip.activations("mnist", pyoip.start_images(2), layer=1).shape
    (2, 32, 26, 26)
    """
    network = load(model)
    core = make(engine, build_stack(network, network.select(layer)[0].number), threads)
    return core.activations(np.asarray(images, np.float32))


# --- the ascents ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Outcome:
    """The best ascent of each finished map (row of `Job.maps`), and all of them."""

    rows: NDArray[np.intp]
    best: Ascents
    starts: Floats
    candidates: NDArray[np.int64]
    runs: Runs


def _run(
    job: Job, plan: Starts | None, real: Floats, progress: Progress | None, began: float
) -> Result:
    timing = {"load": time.perf_counter() - began}
    own, stopped = plan is not None, False
    outcomes = [_nothing(job, job.settings.starts if plan is None else plan.candidates.shape[1])]
    try:
        with _timed(timing, "candidates"):
            plan = plan or job.best_candidates()
        with _timed(timing, "ascents"):
            for outcome, finished in _climb(job, plan, progress):
                outcomes.append(outcome)
                stopped = stopped or not finished
    except KeyboardInterrupt:
        stopped = True
    result = _gathered(job, outcomes, real, own=own, timing=timing, began=began)
    if stopped:
        raise Interrupted(
            f"interrupted: {len(result)} of {len(job.maps)} maps are finished and in the "
            "exception's `result`",
            result,
        )
    return result


@contextmanager
def _timed(timing: dict[str, float], phase: str) -> Iterator[None]:
    at = time.perf_counter()
    try:
        yield
    finally:
        timing[phase] = time.perf_counter() - at


def _climb(job: Job, plan: Starts, progress: Progress | None) -> Iterator[tuple[_Outcome, bool]]:
    """Ascend block by block of maps; False with the last block if Ctrl-C came."""
    maps, trials = plan.candidates.shape
    starts = trials if plan.images is not None else min(job.settings.starts, trials)
    meter = _Meter(progress, maps, trials if trials > starts else 0, starts)
    block = max(1, BLOCK_BYTES // (4 * max(trials * job.pixels, starts * _floats_kept(job))))
    for first in range(0, maps, block):
        rows = np.arange(first, min(first + block, maps))
        numbers = plan.candidates[rows]
        if trials > starts:
            tried = _ascended(job, _images(job, plan, rows, numbers), rows, meter.trial, trial=True)
            if tried.interrupted:
                yield _nothing(job, starts), False
                return
            merit = _merit(tried, job.settings).reshape(numbers.shape)
            best = np.argsort(-merit, axis=1, kind="stable")[:, :starts]
            numbers = np.take_along_axis(numbers, best, axis=1)
        images = _images(job, plan, rows, numbers)
        ascents = _ascended(job, images, rows, meter.ascent)
        meter.finish(len(rows))
        yield _best_of(rows, ascents, images, numbers, job.settings), not ascents.interrupted
        if ascents.interrupted:
            return


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


def _ascended(
    job: Job,
    images: Floats,
    rows: NDArray[np.intp],
    report: Callable[[int, int], None],
    *,
    trial: bool = False,
) -> Ascents:
    """Ascents of images (rows · K); a trial is over after two windows of patience."""
    settings = job.settings
    if trial:
        few = min(2 * settings.patience, settings.steps)
        settings = replace(settings, steps=few, snapshots=())
    targets = np.repeat(job.maps[rows], len(images) // len(rows)).astype(np.int32)
    return job.engine.ascend(images, targets, settings, report)


def _nothing(job: Job, starts: int) -> _Outcome:
    """The outcome over no map at all: what all arrays look like."""
    images = np.empty((0, *job.shape), np.float32)
    ascents = job.engine.ascend(images, np.empty(0, np.int32), job.settings)
    none = np.empty((0, starts), np.int64)
    return _best_of(np.empty(0, np.intp), ascents, images, none, job.settings)


def _images(job: Job, plan: Starts, rows: NDArray[np.intp], numbers: NDArray[np.int64]) -> Floats:
    """Start images (maps · K, C, H, W) of some maps, by their numbers (maps, K) in the pool."""
    if plan.images is None:
        unique, where = np.unique(numbers, return_inverse=True)
        return job.pool(unique)[where.reshape(-1)]
    own = plan.images if len(plan.images) == 1 else plan.images[rows]
    own = np.broadcast_to(own, (*numbers.shape, *job.shape))
    return np.ascontiguousarray(own).reshape(-1, *job.shape)


def _best_of(
    rows: NDArray[np.intp],
    ascents: Ascents,
    images: Floats,
    candidates: NDArray[np.int64],
    settings: Settings,
) -> _Outcome:
    """Each map's best ascent. Maps with an ascent that Ctrl-C cut short are left out."""
    maps, starts = candidates.shape
    stops = ascents.stops.reshape(maps, starts)
    whole = np.flatnonzero((stops != STOPS.index("interrupted")).all(axis=1))
    merit = _merit(ascents, settings).reshape(maps, starts)
    winners = whole * starts + merit[whole].argmax(axis=1)
    runs = Runs(
        activations=ascents.activations.reshape(maps, starts)[whole],
        steps=ascents.steps.reshape(maps, starts)[whole],
        stops=stops[whole],
        candidates=candidates[whole],
    )
    best = _each(Ascents, lambda name: getattr(ascents, name)[winners])
    return _Outcome(rows[whole], best, images[winners], candidates.reshape(-1)[winners], runs)


def _merit(ascents: Ascents, settings: Settings) -> Floats:
    """The objective, or how near an ascent came that did not wake its map."""
    value = _value(ascents, settings)
    return np.where(value > 0, value, np.minimum(ascents.preactivations, 0))


def _value(ascents: Ascents, settings: Settings) -> Floats:
    """The objective of each image."""
    activation = settings.objective == "activation"
    return ascents.activations if activation else ascents.preactivations


def _each(kind: Any, make_array: Callable[[str], Any]) -> Any:
    """A `kind` (Ascents or Runs) whose arrays are made by name."""
    return kind(**{f.name: make_array(f.name) for f in fields(kind) if f.name != "interrupted"})


# --- the result ----------------------------------------------------------------------------


def _verdict(value: float, activation: float, real: float, bound: float, converged: bool) -> str:
    if activation <= 0:
        return "dead" if bound <= 0 else "silent"
    if value <= real:
        return "weak"
    return "found" if converged else "unfinished"


def _joined(outcomes: list[_Outcome]) -> _Outcome:
    def array(name: str, part: str = "") -> Any:
        return np.concatenate([getattr(getattr(o, part) if part else o, name) for o in outcomes])

    return _Outcome(
        array("rows"),
        _each(Ascents, lambda name: array(name, "best")),
        array("starts"),
        array("candidates"),
        _each(Runs, lambda name: array(name, "runs")),
    )


def _gathered(
    job: Job,
    outcomes: list[_Outcome],
    real: Floats,
    *,
    own: bool,
    timing: dict[str, float],
    began: float,
) -> Result:
    s, whole = job.settings, _joined(outcomes)
    best, maps, real = whole.best, job.maps[whole.rows], real[whole.rows]
    bounds = np.full(len(maps), np.nan)
    with _timed(timing, "proofs"):
        asleep = best.activations <= 0
        if asleep.any():
            bounds[asleep] = preactivation_bounds(job.engine.stack, s.constraint)[maps[asleep]]
    # A gradient that vanishes exactly is an end as well: there is nowhere to go.
    ends = [STOPS.index("converged"), STOPS.index("zero gradient")]
    converged = np.isin(best.stops, ends)
    judged = zip(_value(best, s), best.activations, real, bounds, converged, strict=True)
    verdicts = tuple(_verdict(*numbers) for numbers in judged)
    timing["total"] = time.perf_counter() - began
    return Result(
        network=job.network.name,
        sha256=job.network.sha256,
        layer=job.target.number,
        layer_name=job.target.name,
        maps=maps,
        images=best.images,
        activations=best.activations,
        preactivations=best.preactivations,
        history=best.history,
        verdicts=verdicts,
        starts=whole.starts,
        candidates=whole.candidates,
        bounds=bounds,
        real=real,
        converged=converged,
        woke=best.woke,
        snapshot_steps=np.array(s.snapshots, np.int64),
        snapshots=best.snapshots,
        runs=whole.runs,
        settings=s,
        fluctuations=None if own else job.fluctuations,
        engine=job.engine.name,
        timing=timing,
        version=version("pyoip"),
    )
