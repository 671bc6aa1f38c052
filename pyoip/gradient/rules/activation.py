"""Functions of one value.

Where a function bends, its derivative is the one just below, or that of torch where torch has
another: both are said at the function. Slopes that die away, as those of the sigmoid, are
computed from exp(-|x|), which neither overflows nor loses them to rounding.
"""

from __future__ import annotations

import math

import numpy as np

from ..operators import operator
from ..tape import At, Tape

STEEP = 2.0**126
"""Brings the smallest normal number to 1."""


def alive(tape: Tape, y: str) -> str:
    """Write 1 where `y` is above 0, else 0.

    A hard sigmoid this steep is a step, and ONNX Runtime computes it, and the product with it,
    without leaving the blocked layout of convolutions; Greater with Where takes ten times as long.
    """
    return tape.emit("HardSigmoid", y, alpha=STEEP, beta=0.0)


def _chain(at: At, slope: str) -> list[str | None]:
    """Write the gradient through a function with this slope at x."""
    return [at.emit("Mul", at.grad, slope)]


def _above(at: At, limit: float, slope: str) -> list[str | None]:
    """Write the gradient through a function of slope 1 above `limit` and of `slope` elsewhere."""
    below = at.emit("Mul", at.grad, slope)
    return [at.emit("Where", at.emit("Greater", at.x(), limit), at.grad, below)]


# --- made of straight parts ------------------------------------------------------------------


@operator("Relu")
def relu(at: At) -> list[str | None]:
    if at.grad in at.tape.silent:
        return [at.grad]
    return [at.emit("Mul", at.grad, alive(at.tape, at.y()))]


@operator("LeakyRelu")
def leaky_relu(at: At) -> list[str | None]:
    return _above(at, 0.0, at.tape.constant(float(at.get("alpha", 0.01))))


@operator("PRelu")
def prelu(at: At) -> list[str | None]:
    """At 0 the slope counts, as for LeakyRelu."""
    above = at.emit("Greater", at.x(), 0.0)
    by_slope = at.emit("Where", above, 0.0, at.emit("Mul", at.grad, at.x()))
    return [*_above(at, 0.0, at.x(1)), at.sum_to(by_slope, 1)]


@operator("ThresholdedRelu")
def thresholded_relu(at: At) -> list[str | None]:
    above = at.emit("Greater", at.x(), float(at.get("alpha", 1.0)))
    return [at.emit("Where", above, at.grad, 0.0)]


@operator("Clip")
def clip(at: At) -> list[str | None]:
    """A value that lies on a limit still counts, as in torch."""
    grad = at.grad
    for index, op in ((1, "GreaterOrEqual"), (2, "LessOrEqual")):
        if at.has(index):
            grad = at.emit("Where", at.emit(op, at.x(), at.x(index)), grad, 0.0)
    return [grad]


@operator("HardSigmoid")
def hard_sigmoid(at: At) -> list[str | None]:
    """0 at both bends, as in torch."""
    rising = at.emit("And", at.emit("Greater", at.y(), 0.0), at.emit("Less", at.y(), 1.0))
    steep = at.emit("Mul", at.grad, float(at.get("alpha", 0.2)))
    return [at.emit("Where", rising, steep, 0.0)]


@operator("HardSwish")
def hard_swish(at: At) -> list[str | None]:
    """0 at -3 and 1 at 3, as in torch."""
    inside = at.emit("Add", at.emit("Div", at.x(), 3.0), 0.5)
    slope = at.emit("Where", at.emit("Less", at.x(), 3.0), inside, 1.0)
    return _chain(at, at.emit("Where", at.emit("Greater", at.x(), -3.0), slope, 0.0))


@operator("Abs")
def absolute(at: At) -> list[str | None]:
    """0 at 0, as in torch."""
    return _chain(at, at.emit("Sign", at.x()))


@operator("Neg")
def negative(at: At) -> list[str | None]:
    return [at.emit("Neg", at.grad)]


@operator("Floor", "Ceil", "Round", "Sign")
def steps(_: At) -> list[str | None]:
    return []


# --- made of exponentials --------------------------------------------------------------------


@operator("Elu")
def elu(at: At) -> list[str | None]:
    fading = at.emit("Exp", at.x())
    return _above(at, 0.0, at.emit("Mul", fading, float(at.get("alpha", 1.0))))


@operator("Selu")
def selu(at: At) -> list[str | None]:
    alpha = float(at.get("alpha", 1.67326319217681884765625))
    gamma = float(at.get("gamma", 1.05070102214813232421875))
    fading = at.emit("Mul", at.emit("Exp", at.x()), alpha * gamma)
    slope = at.emit("Where", at.emit("Greater", at.x(), 0.0), gamma, fading)
    return _chain(at, slope)


@operator("Celu")
def celu(at: At) -> list[str | None]:
    return _above(at, 0.0, at.emit("Exp", at.emit("Div", at.x(), float(at.get("alpha", 1.0)))))


def _decay(at: At, x: str) -> str:
    """Write exp(-|x|)."""
    return at.tape.emit("Exp", at.emit("Neg", at.emit("Abs", x)))


def _logistic(at: At, x: str) -> tuple[str, str]:
    """Write the logistic function 1 / (1 + exp(-x)) and its slope."""
    e = _decay(at, x)
    high = at.emit("Div", 1.0, at.emit("Add", e, 1.0))
    low = at.emit("Mul", e, high)
    value = at.emit("Where", at.emit("Greater", x, 0.0), high, low)
    return value, at.emit("Mul", low, high)


@operator("Sigmoid")
def sigmoid(at: At) -> list[str | None]:
    return _chain(at, _logistic(at, at.x())[1])


@operator("Tanh")
def tanh(at: At) -> list[str | None]:
    """tanh x is 2 s(2x) - 1 with the logistic function s."""
    _, slope = _logistic(at, at.emit("Mul", at.x(), 2.0))
    return _chain(at, at.emit("Mul", slope, 4.0))


@operator("Softplus")
def softplus(at: At) -> list[str | None]:
    return _chain(at, _logistic(at, at.x())[0])


@operator("Swish")
def swish(at: At) -> list[str | None]:
    scaled = at.emit("Mul", at.x(), float(at.get("alpha", 1.0)))
    value, slope = _logistic(at, scaled)
    return _chain(at, at.emit("Add", value, at.emit("Mul", scaled, slope)))


@operator("Mish")
def mish(at: At) -> list[str | None]:
    """x · t with t = tanh(log(1 + exp x)), which is a fraction n / (n + r) of powers of e.

    With e = exp(-|x|), n is 1 + 2e and r is 2e² above zero; below, n is e² + 2e and r is 2. The
    slope of t is 4e(1 + e) / (n + r)² below zero and e times that above.
    """
    above = at.emit("Greater", at.x(), 0.0)
    e = _decay(at, at.x())
    square, twice = at.emit("Mul", e, e), at.emit("Add", e, e)
    n = at.emit("Add", twice, at.emit("Where", above, 1.0, square))
    r = at.emit("Mul", at.emit("Where", above, square, 1.0), 2.0)
    below = at.emit("Add", n, r)
    t = at.emit("Div", n, below)
    e_part = at.emit("Where", above, square, e)
    part = at.emit("Mul", e_part, at.emit("Add", at.emit("Mul", e, 4.0), 4.0))
    slope = at.emit("Div", part, at.emit("Mul", below, below))
    return _chain(at, at.emit("Add", t, at.emit("Mul", at.x(), slope)))


@operator("Softsign")
def softsign(at: At) -> list[str | None]:
    below = at.emit("Add", at.emit("Abs", at.x()), 1.0)
    return [at.emit("Div", at.grad, at.emit("Mul", below, below))]


def _bell(at: At, width: float, height: float) -> str:
    """Write height · exp(-width x²)."""
    square = at.emit("Mul", at.x(), at.x())
    return at.tape.emit("Mul", at.emit("Exp", at.emit("Mul", square, -width)), height)


@operator("Erf")
def erf(at: At) -> list[str | None]:
    return _chain(at, _bell(at, 1.0, 2 / math.sqrt(math.pi)))


@operator("Gelu")
def gelu(at: At) -> list[str | None]:
    if at.get("approximate", "none") == "tanh":
        return _gelu_by_tanh(at)
    share = at.emit("Erf", at.emit("Mul", at.x(), math.sqrt(0.5)))
    share = at.emit("Mul", at.emit("Add", share, 1.0), 0.5)
    bell = _bell(at, 0.5, 1 / math.sqrt(2 * math.pi))
    return _chain(at, at.emit("Add", share, at.emit("Mul", at.x(), bell)))


def _gelu_by_tanh(at: At) -> list[str | None]:
    """x · s(u) with the logistic function s and u = 2 √(2/π) (x + 0.044715 x³)."""
    scale, cubic = 2 * math.sqrt(2 / math.pi), 0.044715
    square = at.emit("Mul", at.x(), at.x())
    factor = at.emit("Add", at.emit("Mul", square, scale * cubic), scale)
    value, slope = _logistic(at, at.emit("Mul", at.x(), factor))
    inner = at.emit("Add", at.emit("Mul", square, 3 * scale * cubic), scale)
    rising = at.emit("Mul", at.emit("Mul", at.x(), slope), inner)
    return _chain(at, at.emit("Add", value, rising))


# --- elementary ------------------------------------------------------------------------------


@operator("Exp")
def exponential(at: At) -> list[str | None]:
    return _chain(at, at.y())


@operator("Log")
def logarithm(at: At) -> list[str | None]:
    return [at.emit("Div", at.grad, at.x())]


@operator("Sqrt")
def square_root(at: At) -> list[str | None]:
    return [at.emit("Div", at.emit("Mul", at.grad, 0.5), at.y())]


@operator("Reciprocal")
def reciprocal(at: At) -> list[str | None]:
    return [at.emit("Neg", at.emit("Mul", at.emit("Mul", at.grad, at.y()), at.y()))]


@operator("Sin")
def sine(at: At) -> list[str | None]:
    return _chain(at, at.emit("Cos", at.x()))


@operator("Cos")
def cosine(at: At) -> list[str | None]:
    return _chain(at, at.emit("Neg", at.emit("Sin", at.x())))


@operator("Pow")
def power(at: At) -> list[str | None]:
    """By the exponent, a power of 0 is taken to be flat, as in torch."""
    exponent = at.constant(1)
    if exponent is None:
        by_base = _by_varying_exponent(at)
    else:
        p = np.asarray(exponent, np.float64)
        lower = (
            at.x()
            if (p == 2).all()
            else at.emit("Pow", at.x(), np.asarray(p - (p != 0), np.float32))
        )
        by_base = at.emit("Mul", lower, p.astype(np.float32))
    safe = at.emit("Where", at.emit("Equal", at.x(), 0.0), 1.0, at.x())
    by_exponent = at.emit("Mul", at.y(), at.emit("Log", safe))
    return [
        at.sum_to(at.emit("Mul", at.grad, factor), index)
        for index, factor in enumerate((by_base, by_exponent))
    ]


def _by_varying_exponent(at: At) -> str:
    p = at.x(1)
    rising = at.emit("Mul", p, at.emit("Pow", at.x(), at.emit("Sub", p, 1.0)))
    return at.tape.emit("Where", at.emit("Equal", p, 0.0), 0.0, rising)
