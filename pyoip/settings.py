"""What an ascent may be told: frozen, validated, and small enough to print beside a result."""

from __future__ import annotations

import numbers
import operator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from .errors import InvalidArgument

Objective = Literal["activation", "preactivation"]
Method = Literal["tangent", "article"]
Precision = Literal["exact", "fast"]
ConstraintKind = Literal["standardize", "clip"]


def require(ok: bool, name: str, value: object, rule: str) -> None:
    """Raise `InvalidArgument` quoting value, rule and range unless `ok`."""
    if not ok:
        raise InvalidArgument(f"{name}={value!r}: must be {rule}")


def _choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    require(
        isinstance(value, str) and value in choices,
        name,
        value,
        "one of " + ", ".join(map(repr, choices)),
    )


def whole(name: str, value: Any, low: int, high: int = 2**31 - 1) -> int:
    """`value` as an int in `low … high`, or `InvalidArgument`; NumPy's integers are welcome."""
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    ok = number is not None and low <= number <= high
    require(ok, name, value, f"an integer in {low} … {high}")
    return int(value)


def real(name: str, value: Any, low: float, high: float, *, low_open: bool = False) -> float:
    """`value` as a float in `low … high`, or `InvalidArgument`."""
    ok = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    ok = ok and low <= float(value) <= high and not (low_open and value == low)
    require(ok, name, value, f"a number in {'(' if low_open else '['}{low:g}, {high:g}]")
    return float(value)


def _keep(settings: object, **values: object) -> None:
    """Store checked values in a frozen dataclass."""
    for name, value in values.items():
        object.__setattr__(settings, name, value)


@dataclass(frozen=True)
class Constraint:
    """What keeps images comparable.

    Parameters
    ----------
    kind : {"standardize", "clip"}
        ``"standardize"`` (default): every image has zero mean and unit standard
        deviation over all its pixels and channels. ``"clip"``: every pixel lies in
        a box.
    low, high : float
        The box of ``"clip"``, in the network's pixel units (default 0 … 1).
    """

    kind: ConstraintKind = "standardize"
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _choice("constraint", self.kind, get_args(ConstraintKind))
        _keep(self, low=real("low", self.low, -1e6, 1e6), high=real("high", self.high, -1e6, 1e6))
        require(self.low < self.high, "low", self.low, f"below high={self.high:g}")


@dataclass(frozen=True)
class Settings:
    """The numbers of one ascent; `pyoip.ascend` takes each as a keyword.

    The defaults are the outcome of ``benchmarks/quality.py``, not of taste.

    Parameters
    ----------
    objective : {"activation", "preactivation"}
        Mean over positions of the map after, or before, its activation function.
    constraint : Constraint
        What every image along the way satisfies.
    steps : int
        Most gradient steps of one ascent.
    step_size : float
        Length of the first steps in units of the image's standard deviation (rms per
        pixel); it halves on the way.
    bold : float
        Half of a map's ascents begin with steps this many times larger, 1 or more: large
        steps leave poor optima, small ones do not jump over narrow good ones.
    momentum : float
        Share of the last step's direction that is kept, in [0, 1).
    patience : int
        Steps in a window. After a window whose relative gain is at most `tolerance`, the
        step size halves.
    tolerance : float
        See `patience`; after the fourth such window in a row an image has converged.
    smooth : int
        Blur the image (3×3 binomial) every `smooth` steps; 0 never.
    method : {"tangent", "article"}
        ``"article"``: constant step, no momentum, no projection, no early stop.
    precision : {"exact", "fast"}
        ``"fast"``: on the CPU engine, 3×3 layers with many channels are computed by a
        larger Winograd transformation, with rounding errors four to ten times larger (some
        1e-6 of the largest activation, up to 7e-6 with hundreds of channels). Other engines
        take no notice.
    snapshots : tuple of int
        Steps whose images are kept (0 is the start image).
    candidates : int
        Start images in the shared pool that is scored for all maps.
    trials : int
        Candidates per map, the best by score, that climb for two windows of patience.
    starts : int
        Ascents to the end per map: the best of the trials. Where there are no more
        trials than starts, the best candidates by score.
    kicks : int
        Rounds in which every map's best image, perturbed by fluctuations as strong as
        itself, climbs again from 4 places.
    seed : int
        Of the counter-based generator, 0 … 2**64 - 1.
    """

    objective: Objective = "activation"
    constraint: Constraint = Constraint()
    steps: int = 512
    step_size: float = 0.2
    bold: float = 10.0
    momentum: float = 0.8
    patience: int = 8
    tolerance: float = 2e-3
    smooth: int = 0
    method: Method = "tangent"
    precision: Precision = "exact"
    snapshots: tuple[int, ...] = ()
    candidates: int = 1024
    trials: int = 64
    starts: int = 8
    kicks: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        _choice("objective", self.objective, get_args(Objective))
        _choice("method", self.method, get_args(Method))
        _choice("precision", self.precision, get_args(Precision))
        _keep(
            self,
            steps=whole("steps", self.steps, 1, 10**6),
            patience=whole("patience", self.patience, 1, 10**6),
            smooth=whole("smooth", self.smooth, 0, 10**6),
            candidates=whole("candidates", self.candidates, 1),
            trials=whole("trials", self.trials, 1, 2**20),
            starts=whole("starts", self.starts, 1, 2**20),
            kicks=whole("kicks", self.kicks, 0, 2**20),
            seed=whole("seed", self.seed, 0, 2**64 - 1),
            step_size=real("step_size", self.step_size, 0.0, 1e6, low_open=True),
            bold=real("bold", self.bold, 1.0, 1000.0),
            momentum=real("momentum", self.momentum, 0.0, 0.999),
            tolerance=real("tolerance", self.tolerance, 0.0, 1.0),
            snapshots=self._checked_snapshots(),
        )
        few = f"an integer in 1 … {self.candidates}, the candidates that they are chosen from"
        require(self.starts <= self.candidates, "starts", self.starts, few)

    def _checked_snapshots(self) -> tuple[int, ...]:
        given = self.snapshots
        require(np.iterable(given), "snapshots", given, "step numbers, as in (1, 2, 4)")
        steps = tuple(whole("snapshots", step, 0, self.steps) for step in given)
        require(list(steps) == sorted(set(steps)), "snapshots", steps, "strictly increasing")
        return steps


def as_constraint(constraint: Any) -> Constraint:
    """A `Constraint` itself, or the one of that name with its defaults."""
    return constraint if isinstance(constraint, Constraint) else Constraint(constraint)
