"""Resizing: along each axis on its own, a product with a matrix of a few weights in each row.

Positions are computed in float32, in the order of ONNX Runtime, so that the nearest of two equally
near values is the same one there and here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..along import gradient_of_picked, multiplied
from ..batch import apart
from ..operators import operator
from ..tape import At, Unfit

Values = np.ndarray[Any, Any]

_HALF = np.float32(0.5)


def _scales(at: At) -> dict[int, np.float32]:
    """Return by how much every axis grows that does not stay as it is."""
    rank, given = len(at.shape()), at.constant(2)
    axes = [int(axis) % rank for axis in at.get("axes", range(rank))]
    if given is not None and given.size:
        scales = [np.float32(scale) for scale in given.ravel()]
    else:
        sizes = at.numbers(3)
        scales = [
            np.float32(n) / np.float32(at.shape()[i]) for n, i in zip(sizes, axes, strict=True)
        ]
        if _in_proportion(at):
            chosen = max if at.get("keep_aspect_ratio_policy", "") == "not_smaller" else min
            scales = [chosen(scales)] * len(scales)
    return {axis: scale for axis, scale in zip(axes, scales, strict=True) if scale != 1}


def _in_proportion(at: At) -> bool:
    return at.has(3) and at.get("keep_aspect_ratio_policy", "stretch") != "stretch"


def _resized(at: At) -> int:
    mode = at.get("coordinate_transformation_mode", "half_pixel")
    if mode not in _POSITIONS:
        raise Unfit(f"resizes by {mode!r}, which is not known here")
    if mode == "half_pixel_symmetric" and at.get("mode", "nearest") == "nearest":
        raise Unfit(f"resizes to nearest values by {mode!r}, whose ties are not told by its rule")
    if any(at.has(i) and at.constant(i) is None for i in (2, 3)):
        raise Unfit("resizes to a size that is not constant")
    return apart(at, list(_scales(at)))


def _resize(at: At) -> list[str]:
    """Write it without a number of images: by scales, or by sizes where scales do not hit them."""
    changed = _scales(at)
    if not changed:
        return [at.x()]
    if _in_proportion(at):  # of the axes that it names, as all of them hold the images
        return [at.emit("Resize", at.x(), "", "", at.numbers(3), **at.node.attributes)]
    kept = {k: v for k, v in at.node.attributes.items() if k not in _SAID_ANEW}
    if all(_hits(at.shape()[i], scale, at.out_shape()[i]) for i, scale in changed.items()):
        scales = [changed.get(axis, 1.0) for axis in range(len(at.shape()))]
        return [at.emit("Resize", at.x(), "", np.array(scales, np.float32), **kept)]
    sizes = [at.out_shape()[axis] for axis in changed]
    return [at.emit("Resize", at.x(), "", "", sizes, axes=list(changed), **kept)]


_SAID_ANEW = ("axes", "keep_aspect_ratio_policy")


def _hits(size: int, scale: np.float32, out: int) -> bool:
    """Tell whether a scale leads to a size in whatever precision a runtime computes it."""
    return int(np.float32(size) * scale) == math.floor(size * float(scale)) == out


@operator("Resize", batch=_resized, forward=_resize)
def resize(at: At) -> list[str | None]:
    grad, shape = at.grad, at.tape.open_shape(at.node.outputs[0])
    for axis, scale in _scales(at).items():
        size = at.shape()[axis]
        positions = _positions(at, axis, scale)
        if at.get("mode", "nearest") == "nearest":
            places = _nearest(at, positions, size).tolist()
            grad = gradient_of_picked(at.tape, grad, shape, axis, places, size)
        else:
            grad = multiplied(at.tape, grad, shape, axis, _weights(at, positions, size, scale).T)
        shape[axis] = size
    return [grad]


# --- where values are taken from -----------------------------------------------------------------

Position = Callable[[Values, np.float32, int, int], Values]


def _half_pixel(x: Values, scale: np.float32, _: int, __: int) -> Values:
    return (x + _HALF) / scale - _HALF


def _corners(x: Values, _: np.float32, size: int, out: int) -> Values:
    return x * np.float32(size - 1) / np.float32(max(out - 1, 1))


def _symmetric(x: Values, scale: np.float32, size: int, out: int) -> Values:
    """Centred even where the size that was asked for is no whole number."""
    centre = np.float32(size) / np.float32(2)
    offset = centre * (np.float32(1) - np.float32(out) / (scale * np.float32(size)))
    return np.asarray(offset + (x + _HALF) / scale - _HALF, np.float32)


_POSITIONS: dict[str, Position] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": lambda x, s, n, m: _half_pixel(x, s, n, m) if m > 1 else 0 * x,
    "half_pixel_symmetric": _symmetric,
    "align_corners": _corners,
    "asymmetric": lambda x, scale, _, __: x / scale,
    "tf_half_pixel_for_nn": lambda x, scale, _, __: (x + _HALF) / scale,
}


def _positions(at: At, axis: int, scale: np.float32) -> Values:
    mode = at.get("coordinate_transformation_mode", "half_pixel")
    size, out = at.shape()[axis], at.out_shape()[axis]
    return _POSITIONS[mode](np.arange(out, dtype=np.float32), scale, size, out)


_ROUND: dict[str, Callable[[Values], Values]] = {
    "round_prefer_floor": lambda x: np.ceil(x - _HALF),
    "round_prefer_ceil": lambda x: np.floor(x + _HALF),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _nearest(at: At, positions: Values, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    rounded = _ROUND[at.get("nearest_mode", "round_prefer_floor")](positions)
    return np.clip(rounded, 0, size - 1).astype(np.int64)


# --- by how much ---------------------------------------------------------------------------------


def _linear(distance: Values) -> Values:
    return np.asarray(np.maximum(1 - np.abs(distance), 0))


def _cubic(a: float) -> Callable[[Values], Values]:
    def weight(distance: Values) -> Values:
        x = np.abs(distance)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.asarray(np.where(x <= 1, near, np.where(x < 2, far, 0)))

    return weight


def _weights(at: At, positions: Values, size: int, scale: np.float32) -> np.ndarray[Any, Any]:
    """Return the matrix (out, size) of a linear or cubic resizing.

    What lies outside counts as the value at the border, with ``exclude_outside`` not at all.
    """
    linear = at.get("mode", "nearest") == "linear"
    kernel = _linear if linear else _cubic(float(at.get("cubic_coeff_a", -0.75)))
    wide = 1.0
    if at.get("antialias", 0):
        wide = max(1.0, 1.0 / float(scale))
    elif linear:
        positions = np.clip(positions, 0, size - 1)
    reach = math.ceil((1 if linear else 2) * wide) + 1
    taps = np.floor(positions).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    values = kernel((taps - positions[:, None].astype(np.float64)) / wide)
    if at.get("exclude_outside", 0):
        values = np.where((taps < 0) | (taps >= size), 0, values)
    values = values / values.sum(1, keepdims=True)
    matrix = np.zeros((len(positions), size))
    rows: Any = np.broadcast_to(np.arange(len(positions))[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, size - 1)), values)
    return matrix
