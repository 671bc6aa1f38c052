"""What moves values about without changing them: the gradient moves back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..along import gradient_of_picked
from ..batch import Mixed, apart, moved
from ..operators import operator
from ..tape import At

# --- the same values in another shape ----------------------------------------------------------


def _moved(at: At) -> int:
    inside = at.tape.ahead.get(at.node.inputs[0], 1)
    axis, inside = moved(at.shape(), at.batch(), inside, at.out_shape(), at.tape.images)
    at.tape.ahead[at.node.outputs[0]] = inside
    return axis


def _squeezed(at: At) -> int:
    rank, batch = len(at.shape()), at.batch()
    axes = [axis % rank for axis in at.numbers(1)]
    axes = axes or [axis for axis, size in enumerate(at.shape()) if size == 1]
    if batch in axes:
        raise Mixed("removes the axis of the images")
    return batch - sum(axis < batch for axis in axes)


def _unsqueezed(at: At) -> int:
    rank = len(at.out_shape())
    axes = [axis % rank for axis in at.numbers(1)]
    return [axis for axis in range(rank) if axis not in axes][at.batch()]


def _reshaped(at: At, axis: int) -> list[str]:
    shape = list(at.out_shape())
    shape[axis] = -1
    return [at.emit("Reshape", at.x(), shape)]


@operator("Reshape", "Flatten", batch=_moved, forward=lambda at: _reshaped(at, _moved(at)))
def reshape(at: At) -> list[str | None]:
    return [at.like(at.grad)]


@operator("Squeeze", batch=_squeezed, forward=lambda at: _reshaped(at, _squeezed(at)))
def squeeze(at: At) -> list[str | None]:
    return [at.like(at.grad)]


@operator("Unsqueeze", batch=_unsqueezed, forward=lambda at: _reshaped(at, _unsqueezed(at)))
def unsqueeze(at: At) -> list[str | None]:
    return [at.like(at.grad)]


# --- in another order --------------------------------------------------------------------------


def _permutation(at: At) -> list[int]:
    return list(at.get("perm", range(len(at.shape()))[::-1]))


@operator("Transpose", batch=lambda at: _permutation(at).index(at.batch()))
def transpose(at: At) -> list[str | None]:
    perm = _permutation(at)
    return [at.emit("Transpose", at.grad, perm=[perm.index(i) for i in range(len(perm))])]


def _blocks(at: At) -> int:
    return apart(at, [1, 2, 3])


@operator("DepthToSpace", batch=_blocks)
def depth_to_space(at: At) -> list[str | None]:
    block = int(at.get("blocksize", 1))
    if at.get("mode", "DCR") == "DCR":
        return [at.emit("SpaceToDepth", at.grad, blocksize=block)]
    _, channels, height, width = at.out_shape()
    wide = [-1, channels, height // block, block, width // block, block]
    apart_ = at.emit("Reshape", at.grad, wide)
    return [at.like(at.emit("Transpose", apart_, perm=[0, 1, 3, 5, 2, 4]))]


@operator("SpaceToDepth", batch=_blocks)
def space_to_depth(at: At) -> list[str | None]:
    return [at.emit("DepthToSpace", at.grad, blocksize=at.get("blocksize", 1), mode="DCR")]


# --- repeated ----------------------------------------------------------------------------------


def _expanded(at: At) -> int:
    axis = at.batch() + len(at.out_shape()) - len(at.shape())
    if at.out_shape()[axis] != at.shape()[at.batch()]:
        raise Mixed("repeats the images of a batch")
    return axis


def _expand(at: At) -> list[str]:
    shape = list(at.out_shape())
    shape[_expanded(at)] = 1  # which leaves as many images as there are
    return [at.emit("Expand", at.x(), shape)]


@operator("Expand", batch=_expanded, forward=_expand)
def expand(at: At) -> list[str | None]:
    return [at.sum_to(at.grad, 0)]


def _tiled(at: At) -> int:
    return apart(at, [axis for axis, count in enumerate(at.numbers(1)) if count != 1])


@operator("Tile", batch=_tiled)
def tile(at: At) -> list[str | None]:
    shape: list[int] = []
    axes = []
    for axis, (count, size) in enumerate(zip(at.numbers(1), at.shape(), strict=True)):
        if count != 1:
            axes.append(len(shape))
            shape.append(count)
        shape.append(-1 if axis == at.batch() else size)
    if not axes:
        return [at.grad]
    return [at.emit("ReduceSum", at.emit("Reshape", at.grad, shape), axes, keepdims=0)]


# --- joined and parted -------------------------------------------------------------------------


def _wanted(at: At) -> list[int]:
    return [i for i in range(len(at.node.inputs)) if at.wants(i)]


def _joined(at: At) -> int:
    batches = {at.batch(i) for i in _wanted(at)}
    if len(batches) > 1:
        raise Mixed("holds the images along different axes of its inputs")
    (batch,) = batches
    if batch == at.axis(1):
        raise Mixed("joins images with images")
    if at.out_shape()[batch] != at.tape.images and len(_wanted(at)) < len(at.node.inputs):
        raise Mixed("joins a constant with images in parts")
    return batch


def _for_all_images(at: At, index: int, batch: int) -> str:
    """Write constant input `index`, which has as many images as the network, for all at hand."""
    given, one = at.constant(index), at.x(index)
    if at.tape.images > 1:
        if given is None or (given != given.take([0], batch)).any():
            raise Mixed("has a constant with a value of its own for each image of a batch")
        one = at.tape.constant(given.take([0], batch))
    count = at.emit("Shape", at.x(_wanted(at)[0]), start=batch, end=batch + 1)
    shape = list(at.shape(index))
    parts = [np.array(part, np.int64) for part in (shape[:batch], shape[batch + 1 :])]
    around = [part for part in (parts[0], count, parts[1]) if isinstance(part, str) or part.size]
    return str(at.emit("Expand", one, at.emit("Concat", *around, axis=0)))


def _join(at: At) -> list[str]:
    batch = _joined(at)
    places = range(len(at.node.inputs))
    parts = [at.x(i) if at.wants(i) else _for_all_images(at, i, batch) for i in places]
    return [at.emit("Concat", *parts, axis=at.axis(1))]


@operator("Concat", batch=_joined, forward=_join)
def concat(at: At) -> list[str | None]:
    axis = at.axis(1)
    sizes = [at.shape(i)[axis] for i in range(len(at.node.inputs))]
    wanted = _wanted(at)
    if len(wanted) > 1:
        return list(at.tape.emit_all("Split", at.grad, sizes, outputs=len(sizes), axis=axis))
    start = sum(sizes[: wanted[0]])
    part = at.emit("Slice", at.grad, [start], [start + sizes[wanted[0]]], [axis])
    return [part if i == wanted[0] else None for i in range(len(sizes))]


def _parts(at: At) -> list[int]:
    """Return the lengths of the parts, given, or as equal as can be."""
    count = len(at.node.outputs)
    length = at.shape()[at.axis()]
    part = -(-length // count)
    return at.numbers(1) or [part] * (count - 1) + [length - part * (count - 1)]


def _split(at: At) -> list[str]:
    parts = _parts(at)
    return at.tape.emit_all("Split", at.x(), parts, outputs=len(parts), axis=at.axis())


@operator("Split", batch=lambda at: apart(at, [at.axis()]), forward=_split)
def split(at: At) -> list[str | None]:
    axis, parts = at.axis(), []
    for size, part in zip(_parts(at), at.grads, strict=True):
        shape = list(at.shape())
        shape[axis], shape[at.batch()] = size, 1
        parts.append(part or at.emit("Expand", _nothing(at), shape))
    return [at.emit("Concat", *parts, axis=axis)]


def _nothing(at: At) -> str:
    """Write as many zeros as there are images, along their axis of the first input."""
    rank, batch = len(at.shape()), at.batch()
    count = at.emit("Shape", at.x(), start=batch, end=batch + 1)
    ones = [[1] * batch, [1] * (rank - 1 - batch)]
    around = [part for part in (ones[0], count, ones[1]) if part]
    return str(at.emit("Expand", 0.0, at.emit("Concat", *around, axis=0)))


# --- some of the values ------------------------------------------------------------------------


def _cuts(at: At) -> list[tuple[int, range]]:
    """Return (axis, positions) of every axis that a slice shortens or turns round."""
    starts, ends = at.numbers(1), at.numbers(2)
    axes = [axis % len(at.shape()) for axis in at.numbers(3, range(len(starts)))]
    steps = at.numbers(4, [1] * len(starts))
    found = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        length = at.shape()[axis]
        positions = range(*slice(start, end, step).indices(length))
        if positions != range(length):
            found.append((axis, positions))
    return found


def _sliced(at: At) -> int:
    return apart(at, [axis for axis, _ in _cuts(at)])


def _slice(at: At) -> list[str]:
    """Write a slice without the axes that stay whole, one of which may hold the images."""
    cuts = _cuts(at)
    if not cuts:
        return [at.x()]
    lowest = np.iinfo(np.int64).min
    starts = [places.start for _, places in cuts]
    ends = [places.stop if places.stop >= 0 else lowest for _, places in cuts]
    steps = [places.step for _, places in cuts]
    return [at.emit("Slice", at.x(), starts, ends, [axis for axis, _ in cuts], steps)]


@operator("Slice", batch=_sliced, forward=_slice)
def slice_(at: At) -> list[str | None]:
    grad, shape = at.grad, at.tape.open_shape(at.node.outputs[0])
    whole = [(axis, places) for axis, places in _cuts(at) if places.step == 1]
    for axis, places in _cuts(at):
        if places.step != 1:
            grad = gradient_of_picked(at.tape, grad, shape, axis, places, at.shape()[axis])
            shape[axis] = at.shape()[axis]
    if whole:
        pads = [0] * (2 * len(shape))
        for axis, places in whole:
            pads[axis], pads[axis + len(shape)] = places.start, at.shape()[axis] - places.stop
        grad = at.emit("Pad", grad, pads)
    return [grad]


def _indices(at: At) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    given = at.constant(1)
    if given is None or at.wants(1):
        raise Mixed("has indices that are not constant")
    return given.astype(np.int64) % at.shape()[at.axis()]


def _gathered(at: At) -> int:
    more = _indices(at).ndim - 1
    return apart(at, [at.axis()]) + (more if at.batch() > at.axis() else 0)


@operator("Gather", batch=_gathered)
def gather(at: At) -> list[str | None]:
    axis, indices = at.axis(), _indices(at).ravel()
    shape = list(at.shape())
    shape[axis], shape[at.batch()] = len(indices), -1
    grad = at.emit("Reshape", at.grad, shape)
    return [gradient_of_picked(at.tape, grad, shape, axis, indices.tolist(), at.shape()[axis])]


# --- with a border -----------------------------------------------------------------------------


def _borders(at: At) -> dict[int, tuple[int, int]]:
    """Return how much every axis that changes is made longer at both ends; < 0 is shorter."""
    rank, pads = len(at.shape()), at.numbers(1)
    axes = [axis % rank for axis in at.numbers(3, range(rank))]
    ends = zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True)
    return {axis: (first, last) for axis, first, last in ends if (first, last) != (0, 0)}


def _padded(at: At) -> int:
    if any(at.wants(i) for i in range(1, len(at.node.inputs))):
        raise Mixed("has a border that depends on the image")
    return apart(at, list(_borders(at)))


def _pad(at: At) -> list[str]:
    mode, borders = at.get("mode", "constant"), _borders(at)
    if mode == "wrap" or (mode != "constant" and any(min(ends) < 0 for ends in borders.values())):
        y = at.x()  # runtimes differ where they know it
        for axis, places in _sources(at):
            y = at.emit("Gather", y, places, axis=axis)
        return [y]
    pads = _all_pads(at, 1)
    return [at.emit("Pad", at.x(), pads, *([at.x(2)] if at.has(2) else []), mode=mode)]


def _all_pads(at: At, sign: int) -> list[int]:
    borders = [_borders(at).get(axis, (0, 0)) for axis in range(len(at.shape()))]
    return [sign * ends[side] for side in (0, 1) for ends in borders]


def _sources(at: At) -> list[tuple[int, list[int]]]:
    """Return (axis, where its positions are taken from) of a border that repeats the inside."""
    return [
        (axis, _source(str(at.get("mode", "edge")), at.shape()[axis], ends))
        for axis, ends in _borders(at).items()
    ]


def _source(mode: str, size: int, ends: Sequence[int]) -> list[int]:
    wide = [max(n, 0) for n in ends]
    kind: Any = mode
    places = np.pad(np.arange(size), wide, mode=kind)
    first, last = (max(-n, 0) for n in ends)
    return [int(n) for n in places[first : len(places) - last]]


@operator("Pad", batch=_padded, forward=_pad)
def pad(at: At) -> list[str | None]:
    if at.get("mode", "constant") == "constant":
        return [at.emit("Pad", at.grad, _all_pads(at, -1))]
    grad, shape = at.grad, at.tape.open_shape(at.node.outputs[0])
    for axis, places in _sources(at):
        grad = gradient_of_picked(at.tape, grad, shape, axis, places, at.shape()[axis])
        shape[axis] = at.shape()[axis]
    return [grad]
