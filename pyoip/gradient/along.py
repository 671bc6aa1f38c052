"""What acts along one axis of a tensor: products with constant matrices, and picked positions.

Shapes are given open: -1 for the axis that holds the images, which is never the one acted along.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from .tape import Tape

_FEW = 4
"""Up to so many terms are gathered and summed; beyond, a product with a matrix is cheaper."""


def multiplied(
    tape: Tape, value: str, shape: Sequence[int], axis: int, matrix: np.ndarray[Any, Any]
) -> str:
    """Write the product of `matrix` (m, n) with each line of n values along `axis`."""
    matrix = np.asarray(matrix, np.float32)
    if axis == len(shape) - 1:
        return tape.emit("MatMul", value, matrix.T)
    if axis == len(shape) - 2:
        return tape.emit("MatMul", matrix, value)
    before, behind = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    rows = [max(before, -1), shape[axis], max(behind, -1)]
    product = tape.emit("MatMul", matrix, tape.emit("Reshape", value, rows))
    return tape.emit("Reshape", product, [*shape[:axis], len(matrix), *shape[axis + 1 :]])


def gradient_of_picked(
    tape: Tape, grad: str, shape: Sequence[int], axis: int, places: Sequence[int], size: int
) -> str:
    """Write the gradient by a tensor of whose `size` positions along `axis` `places` were taken.

    `grad`, of open `shape`, is that by the result; what was taken more than once is summed, what
    was not taken gets 0.
    """
    places = list(places)
    if places == list(range(size)):
        return grad
    if places == list(range(places[0], places[0] + len(places))):
        return _padded(tape, grad, shape, axis, places[0], size - places[-1] - 1)
    times = len(places) // size
    if places == list(np.repeat(np.arange(size), times)):
        apart = [*shape[:axis], size, times, *shape[axis + 1 :]]
        return tape.emit("ReduceSum", tape.emit("Reshape", grad, apart), [axis + 1], keepdims=0)
    takers: dict[int, list[int]] = defaultdict(list)
    for taker, place in enumerate(places):
        takers[place].append(taker)
    most = max(map(len, takers.values()))
    if most > _FEW:
        matrix = np.zeros((size, len(places)), np.float32)
        matrix[places, range(len(places))] = 1
        return multiplied(tape, grad, shape, axis, matrix)
    nowhere = len(places)
    wide = _padded(tape, grad, shape, axis, 0, 1)
    parts = []
    for turn in range(most):
        rows = [(takers[i][turn : turn + 1] or [nowhere])[0] for i in range(size)]
        parts.append(tape.emit("Gather", wide, rows, axis=axis))
    return parts[0] if len(parts) == 1 else tape.emit("Sum", *parts)


def _padded(
    tape: Tape, value: str, shape: Sequence[int], axis: int, before: int, behind: int
) -> str:
    pads = [0] * (2 * len(shape))
    pads[axis], pads[axis + len(shape)] = before, behind
    return tape.emit("Pad", value, pads)
