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
from ..operators import copied, operator
from ..tape import At, Tape
from .activation import STEEP, alive
from .phases import maxima, phases
from .weave import weave

_MOST_TAPS = 8
"""Extent of a window along an axis up to which it is taken apart."""

_LOWEST = float(np.finfo(np.float32).min)


def _in_stages(at: At) -> list[str]:
    """Write a maximum along the rows, then one between them, and keep what the gradient needs."""
    window = at.node.window
    plain = window is not None and _apart(window) and not any(window.pads)
    if window is None or not plain or any(at.node.outputs[1:]):
        return copied(at)
    parts = phases(at, window)
    if parts:
        along = [maxima(at.tape, row) for row in parts]
        down = maxima(at.tape, [row[-1] for row in along])
        at.tape.kept[at.node.outputs[0]] = [*along, down]
        return down[-1:]
    downwards, sideways = _axes(at)
    rows = sideways.pool(at.tape, at.x(), sideways.taps)
    at.tape.kept[at.node.outputs[0]] = [[rows]]
    return [downwards.pool(at.tape, rows, downwards.taps)]


@operator("MaxPool", batch=leading, forward=_in_stages)
def max_pool(at: At) -> list[str | None]:
    window = at.node.window
    if window is None or not _apart(window):
        return [_scattered(at)]
    grad = at.grad
    behind_relu = at.comes_from("Relu")
    if behind_relu:  # whose mask is then that of the maxima, which are fewer
        grad = at.emit("Mul", grad, alive(at.tape, at.y()))
    routed = _routed(at, grad)
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

    def until(self, tape: Tape, x: str, highest: str) -> list[str]:
        """Write the maxima of the first value of every window, of its first two, and so on."""
        return [*(self.pool(tape, x, taps) for taps in range(1, self.taps)), highest]

    def share(self, tape: Tape, g: str, until: list[str]) -> list[str]:
        """Write the parts of `g` that go to the values of a window, one tensor per tap."""
        parts, before = [], ""
        for highest in until[:-1]:
            missing = tape.emit("Sub", highest, until[-1])
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


def _axes(at: At) -> tuple[_Axis, _Axis]:
    """Return how a pooling runs down the columns and along the rows, pads among the values."""
    window, out = at.node.window, at.out_shape()
    assert window is not None
    sizes = [at.shape()[i + 2] + window.pads[i] + window.pads[i + 2] for i in (0, 1)]
    down, along = (
        _Axis(i + 2, window.kernel[i], window.stride[i], out[i + 2], sizes[i]) for i in (0, 1)
    )
    return down, along


def _routed(at: At, grad: str) -> str:
    """Write the gradient in two stages."""
    tape, (down, along), out = at.tape, _axes(at), at.out_shape()
    kept = tape.kept.get(at.node.outputs[0], [])
    if len(kept) > 1:
        shares = down.share(tape, grad, kept[-1])
        parts = [along.share(tape, *pair) for pair in zip(shares, kept, strict=False)]
        rows = [along.lay_out(tape, part, [-1, *out[1:]]) for part in parts]
        return down.lay_out(tape, rows, [-1, out[1], out[2], along.length])
    x, back = _padded(at)
    highest = kept[0][0] if kept else along.pool(tape, x, along.taps)
    shares = down.share(tape, grad, down.until(tape, highest, at.y()))
    g = down.lay_out(tape, shares, [-1, *out[1:]])
    shares = along.share(tape, g, along.until(tape, x, highest))
    g = along.lay_out(tape, shares, [-1, out[1], down.length, out[3]])
    return tape.emit("Pad", g, back) if back else g


def _padded(at: At) -> tuple[str, list[int]]:
    """Return what is pooled with its pads, and the pads that take them off again."""
    window = at.node.window
    assert window is not None
    if not any(window.pads):
        return at.x(), []
    top, left, bottom, right = window.pads
    pads = [0, 0, top, left, 0, 0, bottom, right]
    return at.emit("Pad", at.x(), pads, _LOWEST), [-n for n in pads]


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
