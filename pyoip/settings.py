"""What an ascent may be told: frozen, validated, and small enough to print beside a result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from .errors import InvalidArgument

Objective = Literal["activation", "preactivation"]
Method = Literal["tangent", "article"]
ConstraintKind = Literal["standardize", "clip"]


def require(ok: bool, name: str, value: object, rule: str) -> None:
    """Raise `InvalidArgument` quoting value, rule and range unless `ok`."""
    if not ok:
        raise InvalidArgument(f"{name}={value!r}: must be {rule}")


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    require(value in choices, name, value, "one of " + ", ".join(map(repr, choices)))


def whole(name: str, value: object, low: int, high: int = 2**31 - 1) -> None:
    """Raise `InvalidArgument` unless `value` is an integer in `low … high`."""
    ok = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    require(ok, name, value, f"an integer in {low} … {high}")


def _real(name: str, value: float, low: float, high: float, *, low_open: bool = False) -> None:
    ok = isinstance(value, int | float) and math.isfinite(value)
    ok = ok and low <= value <= high and not (low_open and value == low)
    require(ok, name, value, f"a number in {'(' if low_open else '['}{low:g}, {high:g}]")


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
        for name in ("low", "high"):
            _real(name, getattr(self, name), -1e6, 1e6)
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
    snapshots: tuple[int, ...] = ()
    candidates: int = 1024
    trials: int = 64
    starts: int = 8
    kicks: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        _choice("objective", self.objective, get_args(Objective))
        _choice("method", self.method, get_args(Method))
        whole("steps", self.steps, 1, 10**6)
        whole("patience", self.patience, 1, 10**6)
        whole("smooth", self.smooth, 0, 10**6)
        whole("candidates", self.candidates, 1, 2**31 - 1)
        whole("trials", self.trials, 1, 2**20)
        whole("starts", self.starts, 1, 2**20)
        whole("kicks", self.kicks, 0, 2**20)
        whole("seed", self.seed, 0, 2**64 - 1)
        require(
            self.starts <= self.candidates,
            "starts",
            self.starts,
            f"at most candidates={self.candidates}",
        )
        _real("step_size", self.step_size, 0.0, 1e6, low_open=True)
        _real("bold", self.bold, 1.0, 1000.0)
        _real("momentum", self.momentum, 0.0, 0.999)
        _real("tolerance", self.tolerance, 0.0, 1.0)
        for step in self.snapshots:
            whole("snapshots", step, 0, self.steps)
        require(
            list(self.snapshots) == sorted(set(self.snapshots)),
            "snapshots",
            self.snapshots,
            "strictly increasing",
        )
