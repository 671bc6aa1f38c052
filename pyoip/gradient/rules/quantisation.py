"""Quantisation as if it did not round: gradients pass where a value is inside the range.

This is what torch's ``fake_quantize`` does. Outside, quantised values stay at an end of their
range, and the gradient is 0: many exporters leave out a ReLU in front of such an end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from ..batch import Mixed, apart
from ..operators import operator
from ..tape import At


def _per_axis(at: At) -> int:
    """One scale for all, or one for each place along an axis, on which images must not lie."""
    scale = at.constant(1)
    if scale is None:
        raise Mixed("has a scale that is not constant")
    if scale.ndim > 1 or at.get("block_size", 0):
        raise Mixed("has scales for blocks of values")
    return at.batch() if scale.size == 1 else apart(at, [at.axis(1)])


def _laid(at: At, index: int) -> np.ndarray[Any, Any]:
    """Return scales or zero points along their axis, in float64; 0 where they are left out."""
    array = at.constant(index)
    if array is None:
        return np.zeros(())
    shape = [-1 if i == at.axis(1) else 1 for i in range(len(at.shape()))]
    return array.astype(np.float64).reshape(() if array.size == 1 else shape)


def _range(at: At) -> tuple[int, int]:
    """Return the least and the largest quantised value."""
    zero = at.constant(2)
    kind = np.dtype(np.uint8)
    if zero is not None:
        kind = zero.dtype
    elif at.get("output_dtype", 0):
        kind = helper.tensor_dtype_to_np_dtype(at.get("output_dtype", 0))
    if kind.kind not in "iu":
        raise Mixed(f"quantises to {kind}, whose range is not known here")
    return int(np.iinfo(kind).min), int(np.iinfo(kind).max)


def _ranged(at: At) -> int:
    _range(at)
    return _per_axis(at)


def _single(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(array, np.float32)


@operator("QuantizeLinear", batch=_ranged)
def quantize(at: At) -> list[str | None]:
    """What is rounded to an end counts as inside; halves are rounded to even numbers."""
    low, high = _range(at)
    scale, zero = _laid(at, 1), _laid(at, 2)
    above = at.emit("GreaterOrEqual", at.x(), _single((low - 0.5 - zero) * scale))
    below = at.emit("Less", at.x(), _single((high + 0.5 - zero) * scale))
    passed = at.emit("Div", at.grad, _single(scale))
    return [at.emit("Where", at.emit("And", above, below), passed, 0.0)]


@operator("DequantizeLinear", batch=_per_axis)
def dequantize(at: At) -> list[str | None]:
    return [at.emit("Mul", at.grad, _single(_laid(at, 1)))]
