"""Averages and norms over windows, and poolings of the whole image."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ...graph.node import Shape
from ...graph.window import Slide, pool_slide
from ..batch import leading
from ..operators import operator
from ..tape import At
from .convolution import slide_back


def _slide(at: At) -> Slide:
    return pool_slide(at.node.attributes, at.shape())


def _shares(at: At) -> np.ndarray[Any, Any]:
    """Return what a value contributes to each average: one number, or one for each position."""
    slide, padding, along = _slide(at), bool(at.get("count_include_pad", 0)), []
    for axis, (size, places) in enumerate(zip(at.shape()[2:], at.out_shape()[2:], strict=True)):
        first = np.arange(places) * slide.stride[axis] - slide.begin[axis]
        taps = first[:, None] + np.arange(slide.kernel[axis]) * slide.dilation[axis]
        low, high = (-slide.begin[axis], size + slide.declared_end[axis]) if padding else (0, size)
        along.append(((taps >= low) & (taps < high)).sum(1))
    # A dilated window may see nothing but padding.
    counts = np.maximum(functools.reduce(np.multiply.outer, along), 1)
    even = counts.min() == counts.max()
    return np.array([1 / counts.flat[0]], np.float32) if even else (1 / counts).astype(np.float32)


def _attributes(at: At) -> dict[str, Any]:
    """Return what a pooling is written with: pads in numbers, also those of ``ceil_mode``."""
    slide, dropped = _slide(at), ("auto_pad", "ceil_mode")
    kept = {k: v for k, v in at.node.attributes.items() if k not in dropped}
    return {**kept, "pads": [*slide.begin, *slide.end]}


def _averaged(at: At) -> list[str]:
    slide = _slide(at)
    if slide.dilation != (1,) * len(slide.dilation):  # which operator set 18 cannot say
        attributes = {"strides": slide.stride, "dilations": slide.dilation}
        pads, channels = [*slide.begin, *slide.end], at.shape()[1]
        summed = at.emit("Conv", at.x(), _ones(at), group=channels, pads=pads, **attributes)
        return [at.emit("Mul", summed, _shares(at))]
    kept = {k: v for k, v in _attributes(at).items() if k != "dilations"}
    average = at.emit("AveragePool", at.x(), **kept)
    if at.get("count_include_pad", 0) and slide.end != slide.declared_end:
        # The pads of ceil_mode have been counted, but are not to be.
        average = at.emit("Mul", average, _shares(at) * np.float32(math.prod(slide.kernel)))
    return [average]


def _ones(at: At) -> np.ndarray[Any, Any]:
    return np.ones((at.shape()[1], 1, *_slide(at).kernel), np.float32)


def _summed_back(at: At, value: str) -> str:
    """Hand `value`, shaped like the result, to all places of its window."""
    sizes, out = at.shape()[2:], at.out_shape()[2:]
    return slide_back(at.tape, value, _ones(at), _slide(at), at.shape()[1], sizes, out)


@operator("AveragePool", batch=leading, forward=_averaged)
def average_pool(at: At) -> list[str | None]:
    slide, shares = _slide(at), _shares(at)
    shared = at.emit("Mul", at.grad, shares)
    whole = tuple(n * k for n, k in zip(at.out_shape()[2:], slide.kernel, strict=True))
    apart = slide.stride == slide.kernel and not any(slide.begin) and shares.size == 1
    inside = all(n <= size for n, size in zip(whole, at.shape()[2:], strict=True))
    if apart and inside and slide.dilation == (1,) * len(whole):
        return [_repeated(at, shared, slide.kernel, whole)]
    return [_summed_back(at, shared)]


def _repeated(at: At, value: str, times: Shape, whole: Shape) -> str:
    """Repeat values along all axes to the sizes `whole`, and put zeros where no window was."""
    scales = np.array([1, 1, *times], np.float32)
    modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    value = at.emit("Resize", value, "", scales, mode="nearest", **modes)
    more = [size - n for size, n in zip(at.shape()[2:], whole, strict=True)]
    return str(at.emit("Pad", value, [0] * (4 + len(more)) + more)) if any(more) else value


def _by_power(at: At, summed: Any) -> list[str | None]:
    """Write the gradient of (Σ |x|^p)^(1/p), which is 0 where all of x is."""
    p = int(at.get("p", 2))
    if p == 1:
        return [at.emit("Mul", summed(at.grad), at.emit("Sign", at.x()))]
    size = at.y() if p == 2 else at.emit("Pow", at.y(), float(p - 1))
    there = at.emit("Greater", at.y(), 0.0)
    ratio = at.emit("Div", at.grad, at.emit("Where", there, size, 1.0))
    slope = at.x()
    if p > 2:
        power = at.emit("Pow", at.emit("Abs", at.x()), float(p - 1))
        slope = at.emit("Mul", power, at.emit("Sign", at.x()))
    return [at.emit("Mul", summed(ratio), slope)]


def _normed(at: At) -> list[str]:
    return [at.emit("LpPool", at.x(), **_attributes(at))]


@operator("LpPool", batch=leading, forward=_normed)
def lp_pool(at: At) -> list[str | None]:
    return _by_power(at, functools.partial(_summed_back, at))


@operator("GlobalLpPool", batch=leading)
def global_lp_pool(at: At) -> list[str | None]:
    return _by_power(at, lambda value: value)


# --- all positions together --------------------------------------------------------------------


@operator("GlobalAveragePool", batch=leading)
def global_average_pool(at: At) -> list[str | None]:
    share = at.emit("Mul", at.grad, 1 / math.prod(at.shape()[2:]))
    return [at.emit("Expand", share, [1, *at.shape()[1:]])]


@operator("GlobalMaxPool", batch=leading)
def global_max_pool(at: At) -> list[str | None]:
    """The first of equal values in row-major order takes all."""
    channels, positions = at.shape()[1], math.prod(at.shape()[2:])
    flat = at.emit("Reshape", at.x(), [-1, channels, positions])
    top = at.emit("ArgMax", flat, axis=2, keepdims=1)
    there = at.emit("Equal", np.arange(positions)[None, None], top)
    grad = at.emit("Reshape", at.grad, [-1, channels, 1])
    return [at.like(at.emit("Where", there, grad, 0.0))]
