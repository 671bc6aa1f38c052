"""Poolings: a maximum hands its gradient to one place, an average shares it out.

Of equal values the first in row-major order takes all. Where windows do not overlap, a maximum is
taken in two stages, along the rows and then between them, and so is its gradient the other way
round. Along one axis, with r the maximum of k values and g its gradient,

    until_j = max(value_0 … value_j)            a pooling with a smaller kernel and the same stride
    S_j     = g · [until_j = r]                 g as soon as the maximum has been reached, else 0
    G_0, G_j, G_k-1 = S_0, S_j - S_j-1, g - S_k-2     all of g at the first maximum, exactly

and the G_j are interleaved. That is poolings, products and copies, which runtimes do quickly, many
times as fast as the places that MaxPool can return and a ScatterElements. These remain for windows
that overlap or are large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...graph.node import Window
from ..batch import leading
from ..operators import operator
from ..tape import At, Tape
from .activation import STEEP, alive
from .weave import weave

_MOST_TAPS = 8
"""Extent of a window along an axis up to which it is taken apart."""

_LOWEST = float(np.finfo(np.float32).min)


@operator("MaxPool", batch=leading)
def max_pool(at: At) -> list[str | None]:
    window = at.node.window
    if window is None or not _apart(window):
        return [_scattered(at)]
    grad = at.grad
    behind_relu = at.comes_from("Relu")
    if behind_relu:  # whose mask is then that of the maxima, which are fewer
        grad = at.emit("Mul", grad, alive(at.tape, at.y()))
    routed = _routed(at, grad, window)
    if behind_relu:
        at.tape.silent.add(routed)
    return [routed]


def _apart(window: Window) -> bool:
    """Tell whether windows are small and do not overlap."""
    small = all(k <= _MOST_TAPS for k in window.kernel)
    steps = zip(window.kernel, window.stride, window.dilation, strict=True)
    return small and all(k == 1 or (k <= s and d == 1) for k, s, d in steps)


# --- windows that do not overlap -----------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """One axis of the pooling of an input (B, C, h, w).

    Attributes
    ----------
    place : int
        2 for h, 3 for w.
    taps, stride, count, length : int
        Values in a window, distance and number of windows, length of the axis.
    """

    place: int
    taps: int
    stride: int
    count: int
    length: int

    def pool(self, tape: Tape, x: str, taps: int) -> str:
        """Write the maximum of the first `taps` values of every window."""
        kernel, strides = [1, 1], [1, 1]
        kernel[self.place - 2], strides[self.place - 2] = taps, self.stride
        made = tape.emit("MaxPool", x, kernel_shape=kernel, strides=strides)
        if (self.length - taps) // self.stride + 1 > self.count:
            made = tape.emit("Slice", made, [0], [self.count], [self.place])
        return made

    def share(self, tape: Tape, g: str, x: str, highest: str) -> list[str]:
        """Write the parts of `g` that go to the values of a window, one tensor per tap."""
        parts, before = [], ""
        for taps in range(1, self.taps):
            missing = tape.emit("Sub", self.pool(tape, x, taps), highest)
            reached = tape.emit("HardSigmoid", missing, alpha=STEEP, beta=1.0)
            here = tape.emit("Mul", g, reached)
            parts.append(tape.emit("Sub", here, before) if before else here)
            before = here
        return [*parts, tape.emit("Sub", g, before) if before else g]

    def lay_out(self, tape: Tape, parts: list[str], shape: list[int]) -> str:
        """Write the parts, of `shape`, between one another, and zeros where no window looks."""
        parts = list(parts)
        if self.stride > self.taps:
            parts += [tape.emit("Mul", parts[0], 0.0)] * (self.stride - self.taps)
        g = weave(tape, parts, shape, self.place)
        extra = self.length - self.count * self.stride
        if extra == 0:
            return g
        ends = [0, 0, 0, 0]
        ends[self.place] = extra
        return tape.emit("Pad", g, [0, 0, 0, 0, *ends])


def _routed(at: At, grad: str, window: Window) -> str:
    """Write the gradient in two stages."""
    tape, shape = at.tape, list(at.shape())
    x, (top, left, bottom, right) = at.x(), window.pads
    if any(window.pads):
        shape[2], shape[3] = shape[2] + top + bottom, shape[3] + left + right
        x = tape.emit("Pad", x, [0, 0, top, left, 0, 0, bottom, right], _LOWEST)
    out = list(at.out_shape())
    down, along = (
        _Axis(i + 2, window.kernel[i], window.stride[i], out[i + 2], shape[i + 2]) for i in (0, 1)
    )
    rows = along.pool(tape, x, along.taps)
    shares = down.share(tape, grad, rows, at.y())
    g = down.lay_out(tape, shares, [-1, *out[1:]])
    shares = along.share(tape, g, x, rows)
    g = along.lay_out(tape, shares, [-1, out[1], shape[2], out[3]])
    if any(window.pads):
        g = tape.emit("Pad", g, [0, 0, -top, -left, 0, 0, -bottom, -right])
    return g


# --- any windows ---------------------------------------------------------------------------------


def _scattered(at: At) -> str:
    """Write the gradient by the places of the maxima, counted through the whole tensor."""
    attributes: dict[str, Any] = {
        k: v for k, v in at.node.attributes.items() if k != "storage_order"
    }
    _, places = at.tape.emit_all("MaxPool", at.x(), outputs=2, **attributes)
    places = at.emit("Reshape", places, [-1])
    values = at.emit("Reshape", at.grad, [-1])
    empty = at.emit("Reshape", at.emit("Mul", at.x(), 0.0), [-1])
    spread = at.emit("ScatterElements", empty, places, values, axis=0, reduction="add")
    return at.like(spread)
