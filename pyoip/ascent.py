"""The main job: candidates → scores of all maps → best starts per map → ascents → verdicts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bounds import preactivation_bounds
from .climb import Floats, Outcome, Progress, climb, each, nothing, objective_of
from .engines import STOPS, Ascents, for_layer
from .errors import Interrupted, InvalidArgument, UnsupportedLayer
from .fluctuations import Fluctuations
from .network import Layer, Network, load
from .progress import ProgressLine
from .result import Result, Runs
from .settings import Constraint, Objective, Settings, as_constraint, require
from .stack import build_stack
from .starts import Job, Starts, as_floats


def ascend(
    model: Any,
    layer: int | str = 1,
    maps: Any = None,
    *,
    candidates: int = Settings.candidates,
    trials: int = Settings.trials,
    starts: int = Settings.starts,
    kicks: int = Settings.kicks,
    fluctuations: Fluctuations | None = None,
    start: ArrayLike | Result | None = None,
    objective: Objective = Settings.objective,
    constraint: str | Constraint = "standardize",
    steps: int = Settings.steps,
    step_size: float = Settings.step_size,
    bold: float = Settings.bold,
    momentum: float = Settings.momentum,
    patience: int = Settings.patience,
    tolerance: float = Settings.tolerance,
    smooth: int = Settings.smooth,
    method: str = Settings.method,
    precision: str = Settings.precision,
    snapshots: tuple[int, ...] = (),
    compare: str | ArrayLike | None = "auto",
    engine: str = "auto",
    threads: int | None = None,
    seed: int = Settings.seed,
    progress: Progress | bool | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> Result:
    """Find the image that excites each map of a layer most: its OIP.

    A shared pool of candidates is scored for all maps in one forward pass each. Every
    map's best candidates climb the gradient of its mean activation on the pixels for a few
    steps; those that came highest climb to the end; the best image over all steps and
    starts is kicked by further fluctuations a few times and climbs again. A map that no
    candidate activates climbs its preactivation until it is alive.

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
    kicks : int
        Rounds in which a map's best image is perturbed and climbs again, from 4 places.
    fluctuations : Fluctuations, optional
        Length scales and weights of the candidates.
    start : array or Result, optional
        Your own start image(s) instead of a pool: (H, W) or (C, H, W), one image for all
        maps; (n, C, H, W), one for each of n maps, or n starts for a single map; signals also
        as (C, L) and (n, C, L). A `Result` is continued: each map starts from its OIP there.
    objective : {"activation", "preactivation"}
        Mean over positions of the map after, or before, its activation function.
    constraint : {"standardize", "clip"} or Constraint
        Zero mean and unit deviation (default), or a box, 0 … 1 unless told otherwise.
    steps, step_size, bold, momentum, patience, tolerance, smooth, method, precision
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
    input_shape : (C, H, W), or (C, L) of signals, optional
        Of one image, where the model leaves it open; see `pyoip.load`.

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
    rule = as_constraint(constraint)
    network = load(model, input_shape=input_shape)
    target, chosen = network.select(layer, maps)
    way: Any = method
    exactness: Any = precision
    settings = Settings(
        objective=objective,
        constraint=rule,
        steps=steps,
        step_size=step_size,
        bold=bold,
        momentum=momentum,
        patience=patience,
        tolerance=tolerance,
        smooth=smooth,
        method=way,
        precision=exactness,
        snapshots=snapshots,
        candidates=candidates,
        trials=trials,
        starts=starts,
        kicks=kicks,
        seed=seed,
    )
    ok = fluctuations is None or isinstance(fluctuations, Fluctuations)
    require(ok, "fluctuations", fluctuations, "a pyoip.Fluctuations")
    ok = progress is None or isinstance(progress, bool) or callable(progress)
    require(ok, "progress", progress, "a callable, True, False or None")
    if start is not None and fluctuations is not None:
        raise InvalidArgument(
            "start and fluctuations: give your own start images or how to draw them"
        )
    core = for_layer(engine, network, target.number, threads)
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
    input_shape: tuple[int, ...] | None = None,
) -> Floats:
    """Score images for all maps of a layer: the mean over positions of each map.

    Parameters
    ----------
    model, layer, engine, threads, input_shape
        See `ascend`; a layer like ``"conv2:0-7"`` gives these maps only.
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
    network = load(model, input_shape=input_shape)
    Settings(objective=objective)
    target, maps = network.select(layer)
    core = for_layer(engine, network, target.number, threads)
    return core.score(as_floats("images", network.planes(images)), objective)[:, maps]


def activations(
    model: Any,
    images: ArrayLike,
    layer: int | str = 1,
    *,
    engine: str = "auto",
    threads: int | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> Floats:
    """All activations of a layer, float32 (n, maps, h, w); the arguments are those of `score`.

    Examples
    --------
    >>> import pyoip
    >>> pyoip.activations("mnist", pyoip.start_images(2), layer=1).shape
    (2, 32, 26, 26)
    """
    network = load(model, input_shape=input_shape)
    target, maps = network.select(layer)
    core = for_layer(engine, network, target.number, threads)
    return core.activations(as_floats("images", network.planes(images)))[:, maps]


def _run(
    job: Job, plan: Starts | None, real: Floats, progress: Progress | None, began: float
) -> Result:
    timing = {"load": time.perf_counter() - began}
    own, stopped = plan is not None, False
    outcomes: list[Outcome] = []
    try:
        with _timed(timing, "candidates"):
            plan = plan or job.best_candidates()
        with _timed(timing, "ascents"):
            for outcome in climb(job, plan, progress):
                stopped = outcome is None
                outcomes += [] if outcome is None else [outcome]
    except KeyboardInterrupt:
        stopped = True
    outcomes = outcomes or [nothing(job, job.settings.starts)]
    began_at = (timing, began)
    result = _gathered(job, outcomes, real, own=own, stopped=stopped, clock=began_at)
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


# --- the result ----------------------------------------------------------------------------


def verdicts_of(
    values: Floats,
    activations: Floats,
    real: Floats,
    bounds: NDArray[np.float64],
    converged: NDArray[np.bool_],
) -> tuple[str, ...]:
    """The verdicts on maps from their objectives, activations, real images, bounds and ends."""
    asleep = np.where(bounds <= 0, "dead", "silent")
    ended = np.where(converged, "found", "unfinished")
    awake = np.where(values <= real, "weak", ended)
    return tuple(np.where(activations <= 0, asleep, awake).tolist())


def converged_of(job: Job, ascents: Ascents) -> NDArray[np.bool_]:
    """Which ascents came to an end of their own.

    A gradient that vanishes exactly is an end as well, unless a function that saturates only
    seems to be flat.
    """
    ends = ["converged"] if job.engine.saturates else ["converged", "zero gradient"]
    return np.isin(ascents.stops, [STOPS.index(end) for end in ends])


def bounds_of(network: Network, target: Layer, rule: Constraint) -> NDArray[np.float64]:
    """Proven bounds of all maps, NaN where the layer is not the end of a sequential stack."""
    try:
        stack = build_stack(network, target.number)
    except UnsupportedLayer:
        return np.full(target.maps, np.nan)
    return preactivation_bounds(stack, rule)


def _joined(outcomes: list[Outcome]) -> Outcome:
    def array(name: str, part: str = "") -> Any:
        return np.concatenate([getattr(getattr(o, part) if part else o, name) for o in outcomes])

    return Outcome(
        array("rows"),
        each(Ascents, lambda name: array(name, "best")),
        array("starts"),
        array("origins"),
        array("candidates"),
        array("kicks"),
        each(Runs, lambda name: array(name, "runs")),
    )


def _gathered(
    job: Job,
    outcomes: list[Outcome],
    real: Floats,
    *,
    own: bool,
    stopped: bool,
    clock: tuple[dict[str, float], float],
) -> Result:
    timing, began = clock
    s, whole = job.settings, _joined(outcomes)
    best, maps, real = whole.best, job.maps[whole.rows], real[whole.rows]
    beyond = maps[~np.isfinite(best.activations) | ~np.isfinite(best.preactivations)]
    if len(beyond):
        raise UnsupportedLayer(
            f"layer {job.target.number} ({job.target.name}): map {beyond[0]} exceeds float32 on "
            "the way to its OIP; rescale the weights"
        )
    bounds = np.full(len(maps), np.nan)
    with _timed(timing, "proofs"):
        asleep = best.activations <= 0
        if asleep.any() and not stopped:  # Ctrl-C waits for no proof
            bounds[asleep] = bounds_of(job.network, job.target, s.constraint)[maps[asleep]]
    converged = converged_of(job, best)
    verdicts = verdicts_of(objective_of(best, s), best.activations, real, bounds, converged)
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
        origins=whole.origins,
        candidates=whole.candidates,
        kicks=whole.kicks,
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
        scaling=str(job.network.scaling),
        layout=job.network.layout,
        interrupted=stopped,
    )
