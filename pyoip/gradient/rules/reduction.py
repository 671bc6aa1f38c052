"""Reductions over axes, and the functions that share a total of one out along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..batch import apart
from ..operators import copied, operator
from ..tape import At


def _axes(at: At) -> list[int]:
    """Return what is reduced, axes counted from the front."""
    rank = len(at.shape())
    axes = [axis % rank for axis in at.numbers(1, at.get("axes", []))]
    if axes or at.get("noop_with_empty_axes", 0):
        return sorted(axes)
    return list(range(rank))


def _rest(at: At) -> int:
    """Images must not lie along an axis that is reduced; those in front of them may go."""
    axes = _axes(at)
    axis = apart(at, axes)
    return axis if at.get("keepdims", 1) else axis - sum(gone < axis for gone in axes)


def _reduced(at: At) -> list[str]:
    """Write a reduction over no axes over a new one, so that it means the same everywhere."""
    if _axes(at):
        return copied(at)
    return [at.emit(at.node.op, at.emit("Unsqueeze", at.x(), [-1]), [-1], keepdims=0)]


def _kept(at: At, value: str) -> str:
    """Write `value`, shaped like the result, with the reduced axes at length 1."""
    axes = _axes(at)
    if not axes or at.get("keepdims", 1):
        return value
    shape = [1 if axis in axes else size for axis, size in enumerate(at.shape())]
    shape[at.batch()] = -1
    return at.tape.emit("Reshape", value, shape)


def _spread(at: At, value: str) -> str:
    """Write a value with the reduced axes at length 1 in the shape of the input."""
    shape = list(at.shape())
    shape[at.batch()] = 1
    return at.tape.emit("Expand", value, shape)


def _by_share(at: At, share: str) -> list[str | None]:
    """Write the gradient where each value's part in the result is `share`."""
    return [at.emit("Mul", share, _kept(at, at.grad))]


# --- sums and means --------------------------------------------------------------------------


@operator("ReduceSum", batch=_rest, forward=_reduced)
def reduce_sum(at: At) -> list[str | None]:
    return [_spread(at, _kept(at, at.grad))]


@operator("ReduceMean", batch=_rest, forward=_reduced)
def reduce_mean(at: At) -> list[str | None]:
    count = math.prod(at.shape()[axis] for axis in _axes(at))
    return [_spread(at, at.emit("Mul", _kept(at, at.grad), 1.0 / count))]


@operator("ReduceL1", batch=_rest, forward=_reduced)
def reduce_l1(at: At) -> list[str | None]:
    return _by_share(at, at.emit("Sign", at.x()))


@operator("ReduceL2", batch=_rest, forward=_reduced)
def reduce_l2(at: At) -> list[str | None]:
    """0 where all is 0, as in torch."""
    length = _kept(at, at.y())
    safe = at.emit("Where", at.emit("Greater", length, 0.0), length, 1.0)
    return _by_share(at, at.emit("Div", at.x(), safe))


@operator("ReduceSumSquare", batch=_rest, forward=_reduced)
def reduce_sum_square(at: At) -> list[str | None]:
    return _by_share(at, at.emit("Mul", at.x(), 2.0))


@operator("ReduceLogSum", batch=_rest, forward=_reduced)
def reduce_log_sum(at: At) -> list[str | None]:
    inverse = at.emit("Exp", at.emit("Neg", at.y()))
    return [_spread(at, _kept(at, at.emit("Mul", at.grad, inverse)))]


@operator("ReduceLogSumExp", batch=_rest, forward=_reduced)
def reduce_log_sum_exp(at: At) -> list[str | None]:
    return _by_share(at, at.emit("Exp", at.emit("Sub", at.x(), _kept(at, at.y()))))


@operator("ReduceProd", batch=_rest, forward=_reduced)
def reduce_product(at: At) -> list[str | None]:
    """A value's part is the product of all others, where one of them may be 0."""
    axes = _axes(at)
    if not axes:
        return [at.grad]
    zero = at.emit("Equal", at.x(), 0.0)
    others = at.emit("Where", zero, 1.0, at.x())
    zeros = at.emit("Cast", zero, to=1)
    product = at.emit("ReduceProd", others, axes, keepdims=1)
    elsewhere = at.emit("Sub", at.emit("ReduceSum", zeros, axes, keepdims=1), zeros)
    share = at.emit("Div", product, others)
    return _by_share(at, at.emit("Where", at.emit("Greater", elsewhere, 0.0), 0.0, share))


# --- extremes --------------------------------------------------------------------------------


@operator("ReduceMax", "ReduceMin", batch=_rest, forward=_reduced)
def reduce_extreme(at: At) -> list[str | None]:
    """The first of equal values, in row-major order, takes all."""
    axes, rank = _axes(at), len(at.shape())
    if not axes:
        return [at.grad]
    order = [axis for axis in range(rank) if axis not in axes] + axes
    sizes = [at.shape()[axis] for axis in order]
    sizes[order.index(at.batch())] = -1
    count = math.prod(at.shape()[axis] for axis in axes)
    flat = at.emit("Reshape", _turned(at, at.x(), order), [-1, count])
    found = "ArgMax" if at.node.op == "ReduceMax" else "ArgMin"
    place = at.emit(found, flat, axis=1, keepdims=1)
    there = at.emit("Equal", np.arange(count)[None], place)
    shares = at.emit("Where", there, at.emit("Reshape", at.grad, [-1, 1]), 0.0)
    back = [order.index(axis) for axis in range(rank)]
    return [_turned(at, at.emit("Reshape", shares, sizes), back)]


def _turned(at: At, value: str, order: Sequence[int]) -> str:
    if list(order) == sorted(order):
        return value
    return at.tape.emit("Transpose", value, perm=list(order))


# --- softmax ---------------------------------------------------------------------------------


def _beside(at: At) -> int:
    return apart(at, [at.axis(-1)])


@operator("Softmax", batch=_beside)
def softmax(at: At) -> list[str | None]:
    shared = at.emit("Mul", at.grad, at.y())
    total = at.emit("ReduceSum", shared, [at.axis(-1)], keepdims=1)
    return [at.emit("Sub", shared, at.emit("Mul", at.y(), total))]


@operator("LogSoftmax", batch=_beside)
def log_softmax(at: At) -> list[str | None]:
    total = at.emit("ReduceSum", at.grad, [at.axis(-1)], keepdims=1)
    return [at.emit("Sub", at.grad, at.emit("Mul", at.emit("Exp", at.y()), total))]
