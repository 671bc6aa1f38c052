"""Engines beside the judge: what they compute, how far off that is, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engines import Engine, for_layer, names
from ..errors import InvalidArgument, UnsupportedLayer
from ..fluctuations import default_threads
from ..network import Layer, Network, load
from ..settings import Settings, whole
from .judge import Exact, Judge
from .report import Parity, Row

Progress = Callable[[int, int, int], object]

POINTS = 32
"""Gradients between the two ends of a difference."""

LEAST = 1e-2
"""Of the slope uphill: smaller ones elsewhere are not measured by themselves."""


@dataclass(frozen=True)
class Limits:
    """How far off still agrees, and how far differences reach.

    Attributes
    ----------
    forward : float
        Of an activation, relative to the layer's largest: float32 sums through tens of layers
        stay a factor of ten below; half precision knows three digits.
    gradient : float
        Of slopes, root mean square over the images, relative to the slopes': uphill they are known
        to 3e-3 in networks of 60 layers, elsewhere, where they are small, to 2e-2. Quantised
        models are staircases, and straight through them is a definition: the direction counts.
    apart : float
        Of what two engines climb to from one start, relative, median over the images: a decision
        that rounding flips leads a single ascent elsewhere.
    reach : float
        Half the way of a difference, in lengths of the image.
    """

    forward: float = 1e-4
    gradient: float = 3e-2
    apart: float = 2e-2
    reach: float = 2.0**-9


HALF = Limits(forward=1e-2, gradient=3e-1, apart=5e-2, reach=2.0**-4)
QUANTISED = Limits(forward=5e-2, gradient=0.9, apart=1e-1, reach=2.0**-4)


def check(
    model: Any,
    layers: int | str | Iterable[int | str] | None = None,
    *,
    engines: str | Iterable[str] | None = None,
    images: int = 8,
    steps: int = 64,
    seed: int = Settings.seed,
    threads: int | None = None,
    progress: Progress | None = None,
    input_shape: tuple[int, int, int] | None = None,
) -> Parity:
    """Compare every engine with the model's own forward pass, layer by layer.

    Parameters
    ----------
    model : str, path, onnx.ModelProto, torch.nn.Module or Network
        See `pyoip.load`.
    layers : int, str or several, optional
        Numbers or names; default all.
    engines : str or several, optional
        Names as `pyoip.ascend` takes them; default all that work here.
    images : int
        Start images per layer, 1 … 4096, each with the map that it excites more than others do.
    steps : int
        Of the ascents that begin there.
    seed : int
        Of the start images.
    threads : int, optional
        Default: every processor of this process.
    progress : callable(done, total, left), optional
        Called with the ascents done, all of them over layers and engines, and those still to come.
    input_shape : (C, H, W), optional
        Of one image, where the model leaves it open.

    Returns
    -------
    Parity
        Prints as a table; `agrees` tells whether no engine differs.

    Raises
    ------
    ModelError, InvalidArgument, EngineUnavailable
        As `pyoip.ascend` does. An engine that does not take a layer is told in its row.
    UnsupportedLayer
        No runtime runs the model itself, or no engine takes any of the layers.

    Examples
    --------
    >>> import pyoip
    >>> pyoip.check("mnist", layers=1, engines="cpu", images=2, steps=4).agrees
    True
    """
    network = load(model, input_shape=input_shape)
    chosen = tuple(network.layer(one) for one in _several("layers", layers, network.layers))
    asked = _several("engines", engines, None) or tuple(names())
    count, settings = whole("images", images, 1, 4096), Settings(steps=steps, seed=seed)
    processors = default_threads(threads)
    rows, runtime, total = list[Row](), "", count * len(chosen) * len(asked)
    for layer in chosen:
        try:
            judges = _judges(network, layer, count, settings.seed, processors)
        except UnsupportedLayer as error:  # not even the model itself runs so far
            rows += [Row(layer.number, layer.name, name, refused=str(error)) for name in asked]
            continue
        runtime = judges[0].runtime
        made = ((name, _engine(name, network, layer, processors)) for name in asked)
        for row in _rows(judges, made, settings, limits_of(network)):
            rows.append(row)
            if progress is not None:
                progress(count * len(rows), total, total - count * len(rows))
    if all(row.refused for row in rows):
        raise UnsupportedLayer(
            f"nothing to compare: {rows[0].engine} does not take {rows[0].refused}"
        )
    return Parity(network.name, runtime, count, settings.steps, tuple(rows))


def _several(name: str, asked: Any, default: tuple[Layer, ...] | None) -> tuple[Any, ...]:
    """Return one or several as a tuple; layers of the network by number where None."""
    if asked is None:
        return tuple(layer.number for layer in default or ())
    one = isinstance(asked, int | str) or not isinstance(asked, Iterable)
    several = (asked,) if one else tuple(asked)
    if not several:
        raise InvalidArgument(f"{name}={asked!r}: must name one or more, or be None for all")
    return several


def limits_of(network: Network) -> Limits:
    """Return what the least exact numbers in a network allow."""
    graph = network.graph
    if any(node.op in ("QuantizeLinear", "DequantizeLinear") for node in graph.nodes):
        return QUANTISED
    kinds = {graph.image_type, *(str(array.dtype) for array in graph.constants.values())}
    return HALF if kinds & {"float16", "bfloat16"} else Limits()


def _engine(name: str, network: Network, layer: Layer, threads: int) -> Engine | str:
    """Return the engine, or why it does not take the layer."""
    try:
        return for_layer(name, network, layer.number, threads)
    except UnsupportedLayer as error:
        return str(error).partition("; engine ")[0]  # which one could is seen in the table


def _judges(network: Network, layer: Layer, count: int, seed: int, threads: int) -> list[Judge]:
    """One for the layer as it is, and one for it before its activation function."""

    def judge(*, before: bool) -> Judge:
        return Judge(network, layer, count=count, seed=seed, threads=threads, before=before)

    first = judge(before=False)
    return [first] if first.objective == "preactivation" else [first, judge(before=True)]


def _rows(
    judges: Sequence[Judge],
    made: Iterable[tuple[str, Engine | str]],
    settings: Settings,
    limits: Limits,
) -> Iterator[Row]:
    first: _Measured | None = None
    judge = judges[0]
    for name, engine in made:
        if isinstance(engine, str):
            yield Row(judge.layer.number, judge.layer.name, name, refused=engine)
            continue
        try:
            found = _measured(engine, judge, settings)
            gradient = max(_gradient_error(engine, one, limits.reach) for one in judges)
        except UnsupportedLayer as error:
            yield Row(judge.layer.number, judge.layer.name, name, refused=str(error))
            continue
        apart = np.nan if first is None else _apart(found.reached, first.reached)
        yield _row(name, judge, found, gradient, apart, limits)
        first = first or found


@dataclass(frozen=True, eq=False)
class _Measured:
    """What one engine computes at the judge's images."""

    forward: float
    reached: Exact
    gain: float
    seconds: float
    steps: int


def _measured(engine: Engine, judge: Judge, settings: Settings) -> _Measured:
    images, targets, objective = judge.images, judge.targets, judge.objective
    values, _ = engine.gradient(images, targets, objective)
    began = time.perf_counter()
    ascents = engine.ascend(images, targets, Settings(steps=settings.steps, objective=objective))
    seconds = time.perf_counter() - began
    if ascents.interrupted:
        raise KeyboardInterrupt
    after = objective == "activation"
    reached = ascents.activations if after else ascents.preactivations
    at_start = judge.scores[np.arange(len(targets)), targets]
    pairs = [
        (engine.score(images, objective), judge.scores),
        (values[:, 0 if after else 1], at_start),
        (reached, judge.values(ascents.images)),
    ]
    if after:
        pairs.append((engine.activations(images).reshape(judge.exact.shape), judge.exact))
    forward = max(_difference(*pair) for pair in pairs)
    climbed = reached.astype(np.float64)
    gain = float(np.median(climbed - at_start))
    return _Measured(forward, climbed, gain, seconds, int(ascents.steps.sum()))


def _gradient_error(engine: Engine, judge: Judge, reach: float) -> float:
    """The largest error over directions; infinite where a gradient is not finite."""
    _, gradients = engine.gradient(judge.images, judge.targets, judge.objective)
    if not np.isfinite(gradients).all():
        return np.inf
    scale, worst = 0.0, 0.0
    for along, flat in judge.directions(gradients.astype(np.float64)):
        truth = judge.slopes(along, reach)
        if not flat:  # there is none in a flat direction to measure by: the last one's serves
            scale = max(_rms(truth), LEAST * scale)
        errors = np.abs(_mean_slopes(engine, judge, along, reach) - truth)
        beyond = np.maximum(errors - judge.noise(reach), 0.0)
        error = _rms(beyond) / max(scale, 1e-30) if beyond.any() else 0.0
        worst = max(worst, error if np.isfinite(error) else np.inf)
    return worst


def _mean_slopes(engine: Engine, judge: Judge, along: Exact, reach: float) -> Exact:
    """The engine's slopes along a direction, the mean over the way of a difference."""
    mean = np.zeros(len(along))
    for point in (np.arange(POINTS) + 0.5) / POINTS * 2 - 1:
        there = judge.moved(along, point * reach)
        _, gradients = engine.gradient(there, judge.targets, judge.objective)
        mean += (gradients * along).sum(axis=(1, 2, 3)) / POINTS
    return mean


def _rms(values: Exact) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _difference(found: NDArray[Any], truth: Exact) -> float:
    """Largest deviation in units of the largest true value; infinite where there is NaN."""
    error = np.abs(found.astype(np.float64) - truth).max()
    return float(error / max(np.abs(truth).max(), 1e-30)) if np.isfinite(error) else np.inf


def _apart(one: Exact, other: Exact) -> float:
    """Median relative difference; infinite where there is NaN."""
    scale = np.maximum(np.maximum(np.abs(one), np.abs(other)), 1e-30)
    found = float(np.median(np.abs(one - other) / scale))
    return np.inf if np.isnan(found) else found


def _row(
    engine: str, judge: Judge, found: _Measured, gradient: float, apart: float, limits: Limits
) -> Row:
    judged: Sequence[tuple[str, float, float]] = (
        ("forward", found.forward, limits.forward),
        ("gradient", gradient, limits.gradient),
        ("OIP", 0.0 if np.isnan(apart) else apart, limits.apart),
        ("climb", -found.gain, 0.0),
    )
    return Row(
        judge.layer.number,
        judge.layer.name,
        engine,
        objective=judge.objective,
        forward=found.forward,
        gradient=gradient,
        oip=float(np.median(found.reached)),
        apart=apart,
        seconds=found.seconds,
        rate=found.steps / found.seconds,
        problems=tuple(name for name, value, most in judged if not value <= most),
    )
