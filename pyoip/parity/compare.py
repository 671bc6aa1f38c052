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
from .judge import Exact, Judge, lengths
from .report import Parity, Row

Progress = Callable[[int, int, int], object]

POINTS = 32
"""Gradients between the two ends of a difference."""


@dataclass(frozen=True)
class Limits:
    """How far off still agrees, and how far differences reach.

    Attributes
    ----------
    forward : float
        Of an activation, relative to the layer's largest: float32 sums through tens of layers
        stay a factor of ten below; half precision knows three digits.
    gradient : float
        Of a slope, relative to the gradient's length, median over the images: kinks and float32
        leave up to 1e-3. Infinite where a model is quantised: its values are a staircase, and
        straight through it is a definition, not a derivative.
    apart : float
        Of what two engines climb to from one start, relative, median over the images: a decision
        that rounding flips leads a single ascent elsewhere.
    reach : float
        Half the way of a difference, in lengths of the image.
    """

    forward: float = 1e-4
    gradient: float = 5e-3
    apart: float = 2e-2
    reach: float = 2.0**-9


HALF = Limits(forward=1e-2, gradient=1e-1, apart=5e-2, reach=2.0**-4)
QUANTISED = Limits(forward=5e-2, gradient=np.inf, apart=1e-1, reach=2.0**-4)


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
        judge = Judge(network, layer, count=count, seed=settings.seed, threads=processors)
        runtime = judge.runtime
        made = ((name, _engine(name, network, layer, processors)) for name in asked)
        for row in _rows(judge, made, settings, limits_of(network)):
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
    several = (asked,) if isinstance(asked, int | str) else tuple(asked)
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


def _rows(
    judge: Judge, made: Iterable[tuple[str, Engine | str]], settings: Settings, limits: Limits
) -> Iterator[Row]:
    first: _Measured | None = None
    slopes: list[tuple[Exact, Exact]] = []
    for name, engine in made:
        if isinstance(engine, str):
            yield Row(judge.layer.number, judge.layer.name, name, refused=engine)
            continue
        found = _measured(engine, judge, settings)
        if first is None:
            along = judge.directions(found.gradients)
            slopes = [(d, judge.slopes(d, limits.reach)) for d in along]
        gradient = max(_slope_error(engine, judge, found, *pair, limits.reach) for pair in slopes)
        apart = np.nan if first is None else _apart(found.reached, first.reached)
        yield _row(name, judge, found, gradient, apart, limits)
        first = first or found


@dataclass(frozen=True, eq=False)
class _Measured:
    """What one engine computes at the judge's images."""

    forward: float
    gradients: Exact
    reached: Exact
    seconds: float
    steps: int


def _measured(engine: Engine, judge: Judge, settings: Settings) -> _Measured:
    images, targets, objective = judge.images, judge.targets, judge.objective
    values, gradients = engine.gradient(images, targets, objective)
    began = time.perf_counter()
    ascents = engine.ascend(images, targets, Settings(steps=settings.steps, objective=objective))
    seconds = time.perf_counter() - began
    if ascents.interrupted:
        raise KeyboardInterrupt
    after = objective == "activation"
    reached = ascents.activations if after else ascents.preactivations
    pairs = [
        (engine.score(images, objective), judge.scores),
        (values[:, 0 if after else 1], judge.scores[np.arange(len(targets)), targets]),
        (reached, judge.values(ascents.images)),
    ]
    if after:
        pairs.append((engine.activations(images).reshape(judge.exact.shape), judge.exact))
    forward = max(_difference(*pair) for pair in pairs)
    steep = gradients.astype(np.float64)
    return _Measured(forward, steep, reached.astype(np.float64), seconds, int(ascents.steps.sum()))


def _slope_error(
    engine: Engine, judge: Judge, found: _Measured, along: Exact, truth: Exact, reach: float
) -> float:
    """Median over the images of a mean slope's error in units of the gradient's length."""
    mean = np.zeros(len(truth))
    for point in (np.arange(POINTS) + 0.5) / POINTS * 2 - 1:
        there = judge.moved(along, point * reach)
        _, gradients = engine.gradient(there, judge.targets, judge.objective)
        mean += (gradients * along).sum(axis=(1, 2, 3)) / POINTS
    errors = np.abs(mean - truth)
    steep = np.maximum(lengths(found.gradients).ravel(), np.abs(truth))
    relative = np.divide(errors, steep, out=np.zeros_like(errors), where=errors > 0)
    return float(np.median(relative)) if np.isfinite(errors).all() else np.inf


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
