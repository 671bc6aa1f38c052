"""How much arithmetic a step needs: the hand-counted bound that speeds are printed beside."""

from __future__ import annotations

from collections.abc import Iterable

from pyoip.stack import ConvLayer, Stack


def direct_operations(stack: Stack) -> int:
    """Floating-point operations that one step of one image needs, by direct convolution.

    A multiply-add counts as two. Forward: every lower layer at the positions that the target
    reads, and of the last layer one map. Backward: the same for that one map; of the lower
    layers one entry per pooled value of a max pool, which is where the gradient is routed,
    and every position under average pooling or none. Taps on padding do not count; neither
    do activation functions, pooling and the update.
    """
    *lower, last = stack.layers
    wanted = [range(n) for n in last.output_shape[1:]]  # rows, columns of the output
    total = 2 * _multiply_adds(last, wanted) // len(last.weights)
    for layer, following in zip(lower[::-1], stack.layers[:0:-1], strict=True):
        pooled = [_read_by_convolution(following, wanted[axis], axis) for axis in (0, 1)]
        wanted = [_read_by_pool(layer, pooled[axis], axis) for axis in (0, 1)]
        total += _lower_layer(layer, pooled)
    return 2 * total


def forward_operations(stack: Stack) -> int:
    """Floating-point operations of one forward pass to all maps of the last layer."""
    *lower, last = stack.layers
    wanted = [range(n) for n in last.output_shape[1:]]
    total = _multiply_adds(last, wanted)
    for layer, following in zip(lower[::-1], stack.layers[:0:-1], strict=True):
        pooled = [_read_by_convolution(following, wanted[axis], axis) for axis in (0, 1)]
        wanted = [_read_by_pool(layer, pooled[axis], axis) for axis in (0, 1)]
        total += _multiply_adds(layer, wanted)
    return 2 * total


def _lower_layer(layer: ConvLayer, pooled: list[Iterable[int]]) -> int:
    """Multiply-adds, both ways, where `pooled` rows and columns of a layer are wanted."""
    computed = [_read_by_pool(layer, pooled[axis], axis) for axis in (0, 1)]
    forward = _multiply_adds(layer, computed)
    if layer.pool is None or layer.pool.kind == "average":
        return 2 * forward
    routed = len(pooled[0]) * len(pooled[1])
    positions = len(computed[0]) * len(computed[1])
    return forward + forward * min(routed, positions) // positions


def _multiply_adds(layer: ConvLayer, wanted: list[Iterable[int]]) -> int:
    """Of all maps at the wanted rows and columns."""
    taps = [sum(len(_taps(layer, i, axis)) for i in wanted[axis]) for axis in (0, 1)]
    return taps[0] * taps[1] * layer.weights.shape[0] * layer.weights.shape[1]


def _taps(layer: ConvLayer, position: int, axis: int) -> range:
    """Rows (axis 0) or columns (1) of the input, padding excluded, that an output reads."""
    start = position * layer.stride[axis] - layer.pads[axis]
    end = start + layer.weights.shape[2 + axis]
    return range(max(start, 0), min(end, layer.input_shape[1 + axis]))


def _read_by_convolution(layer: ConvLayer, wanted: Iterable[int], axis: int) -> list[int]:
    return sorted({tap for i in wanted for tap in _taps(layer, i, axis)})


def _read_by_pool(layer: ConvLayer, wanted: Iterable[int], axis: int) -> list[int]:
    pool, size = layer.pool, layer.output_shape[1 + axis]
    if pool is None:
        return list(wanted)
    starts = (i * pool.stride[axis] - pool.pads[axis] for i in wanted)
    windows = (range(max(s, 0), min(s + pool.kernel[axis], size)) for s in starts)
    return sorted({place for window in windows for place in window})
