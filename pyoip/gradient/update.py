"""One step of an ascent, written: the constraint, the tangent gradient, the next image.

The rules are those of `pyoip.reference`, whose functions have the same names; `sides` are those of
an image, in any order.
"""

from __future__ import annotations

import math

import numpy as np

from ..settings import Constraint
from .tape import Tape

Sides = tuple[int, int, int]


def constrain(tape: Tape, constraint: Constraint, x: str, sides: Sides) -> str:
    """Write the images, brought to the constraint."""
    if constraint.kind == "clip":
        return tape.emit("Clip", x, constraint.low, constraint.high)
    x = tape.emit("Sub", x, _mean(tape, x, sides))
    deviation = tape.emit("Sqrt", _mean(tape, tape.emit("Mul", x, x), sides))
    varies = tape.emit("Greater", deviation, 0.0)
    return tape.emit("Div", x, tape.emit("Where", varies, deviation, 1.0))


def make_tangent(tape: Tape, constraint: Constraint, x: str, g: str, sides: Sides) -> str:
    """Write the gradient without what the constraint would take back."""
    if constraint.kind == "clip":
        up = tape.emit(
            "And",
            tape.emit("GreaterOrEqual", x, constraint.high),
            tape.emit("Greater", g, 0.0),
        )
        down = tape.emit(
            "And", tape.emit("LessOrEqual", x, constraint.low), tape.emit("Less", g, 0.0)
        )
        return tape.emit("Where", tape.emit("Or", up, down), 0.0, g)
    along = tape.emit("Mul", _mean(tape, tape.emit("Mul", g, x), sides), x)
    return tape.emit("Sub", tape.emit("Sub", g, _mean(tape, g, sides)), along)


def direction(tape: Tape, g: str, sides: Sides) -> str:
    """Write the gradient brought to a root mean square of 1, as far as it is not 0."""
    rms = tape.emit("Sqrt", _mean(tape, tape.emit("Mul", g, g), sides))
    return tape.emit("Div", g, tape.emit("Add", rms, 1e-7))


def moved(tape: Tape, x: str, v: str, step_size: str) -> str:
    """Write x + step_size · v, step_size (B,)."""
    size = tape.emit("Reshape", step_size, [-1, 1, 1, 1])
    return tape.emit("Add", x, tape.emit("Mul", size, v))


def blur(tape: Tape, x: str, channels: int) -> str:
    """Write the 3×3 binomial blur of every channel of (B, C, H, W), edges replicated."""
    row = np.array([0.25, 0.5, 0.25], np.float32)
    kernel = np.tile(np.outer(row, row), (channels, 1, 1, 1))
    wide = tape.emit("Pad", x, [0, 0, 1, 1, 0, 0, 1, 1], mode="edge")
    return tape.emit("Conv", wide, kernel, group=channels)


def _mean(tape: Tape, x: str, sides: Sides) -> str:
    return tape.emit("Reshape", tape.mean(x, math.prod(sides)), [-1, 1, 1, 1])
