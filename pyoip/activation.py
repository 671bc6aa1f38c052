"""The activation functions that stacks may hold: one entry each, in float64.

An entry is a function's definition; its line in ``csrc/activations.def`` computes the same in
the core. Readers of networks, the reference engine, the proofs and the tests take from here
all that they know of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Function:
    """One activation function; none may fall.

    Attributes
    ----------
    operator : str
        Its ONNX operator.
    value, derivative : callable
        Elementwise, of the pre-activation and the activation's `slope`.
    steepest : float
        No derivative is larger, unless `slope` is.
    slope : float or None
        The derivative just below zero where a network does not say (its attribute ``alpha``);
        None where a network cannot choose.
    gates : bool
        1 is the derivative where the value is above zero, elsewhere both are 0: a map can be
        asleep, and the core keeps a bit instead of the derivative.
    saturates : bool
        The derivative comes so near to 0 that rounding makes it 0.
    """

    operator: str
    value: Callable[[Array, float], Array]
    derivative: Callable[[Array, float], Array]
    steepest: float = 1.0
    slope: float | None = None
    gates: bool = False
    saturates: bool = False


def _sigmoid(z: Array) -> Array:
    out: Array = np.exp(-np.logaddexp(0.0, -z))
    return out


FUNCTIONS = {
    "relu": Function(
        "Relu",
        lambda z, _: np.maximum(z, 0.0),
        lambda z, _: (z > 0).astype(np.float64),
        gates=True,
    ),
    "leaky_relu": Function(
        "LeakyRelu",
        lambda z, slope: np.where(z > 0, z, z * slope),
        lambda z, slope: np.where(z > 0, 1.0, slope),
        slope=0.01,
    ),
    "tanh": Function(
        "Tanh",
        lambda z, _: np.tanh(z),
        lambda z, _: 1.0 - np.tanh(z) ** 2,
        saturates=True,
    ),
    "sigmoid": Function(
        "Sigmoid",
        lambda z, _: _sigmoid(z),
        lambda z, _: _sigmoid(z) * _sigmoid(-z),
        steepest=0.25,
        saturates=True,
    ),
    "none": Function("Identity", lambda z, _: z, lambda z, _: np.ones_like(z)),
}
"""By kind, in the order of ``csrc/activations.def``."""

KINDS = {function.operator: kind for kind, function in FUNCTIONS.items() if kind != "none"}
"""By ONNX operator."""


@dataclass(frozen=True)
class Activation:
    """Activation function of a layer.

    `kind` is a key of `FUNCTIONS`; `slope` is the derivative just below zero of those functions
    that leave it open, as ``"leaky_relu"`` does, and 0 for the others.
    """

    kind: str
    slope: float = 0.0

    @property
    def function(self) -> Function:
        """What is known of all functions of this kind."""
        return FUNCTIONS[self.kind]

    @property
    def rises(self) -> bool:
        """Tell whether the function never falls: only then it commutes with max pooling."""
        return self.slope >= 0

    @property
    def steepest(self) -> float:
        """No two values differ more than this many times their arguments."""
        return max(self.function.steepest, abs(self.slope))

    def value(self, z: Array) -> Array:
        """The function, elementwise."""
        return self.function.value(z, self.slope)

    def derivative(self, z: Array) -> Array:
        """Its derivative at z; at 0 as just below it."""
        return self.function.derivative(z, self.slope)


NO_ACTIVATION = Activation("none")


def activation(kind: str, slope: float | None = None) -> Activation | None:
    """Return the function of a kind, or None if its slope is NaN or infinite.

    A slope of 0 makes a ReLU, which can fall asleep and be woken.
    """
    slope = FUNCTIONS[kind].slope if slope is None else slope
    if slope is None:
        return Activation(kind)
    if slope == 0:
        return Activation("relu")
    return Activation(kind, slope) if np.isfinite(slope) else None
