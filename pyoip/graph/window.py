"""Convolution and pooling windows: attributes checked, auto_pad and ceil_mode resolved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .node import MAX_ELEMENTS, NodeError, Pair, Quad, Shape, Window


def conv_window(attributes: Mapping[str, Any], data: Shape, weights: Shape) -> Window:
    """Return the window of a convolution of `data` (N, C, H, W) by `weights` (M, C/g, h, w)."""
    _need_rank(data, 4, "input")
    _need_rank(weights, 4, "weight tensor")
    if min(weights) < 1:
        raise NodeError(f"weights of shape {list(weights)}; every dimension must be at least 1")
    kernel = _pair(attributes, "kernel_shape", (weights[2], weights[3]), 1)
    if kernel != weights[2:]:
        raise NodeError(f"kernel_shape {list(kernel)} but weights of shape {list(weights)}")
    group = _group(attributes, data[1], weights)
    return _window(attributes, kernel, data, group, ceil=False)


def _group(attributes: Mapping[str, Any], channels: int, weights: Shape) -> int:
    group = attributes.get("group", 1)
    if not isinstance(group, int) or group < 1:
        raise NodeError(f"group {group}; must be a whole number of at least 1")
    if channels % group or weights[0] % group:
        raise NodeError(f"group {group} does not divide {channels} channels and {weights[0]} maps")
    if weights[1] * group != channels:
        raise NodeError(
            f"weights for {weights[1] * group} channels meet an input of {channels} channels"
        )
    return group


def pool_window(attributes: Mapping[str, Any], data: Shape) -> Window:
    """Return the window of a 2-D pooling of `data` (N, C, H, W)."""
    _need_rank(data, 4, "input")
    if "kernel_shape" not in attributes:
        raise NodeError("no kernel_shape")
    kernel = _pair(attributes, "kernel_shape", (1, 1), 1)
    window = _window(attributes, kernel, data, 1, ceil=bool(attributes.get("ceil_mode", 0)))
    for side, pad in enumerate(window.pads):
        if pad >= window.reach(side % 2):
            raise NodeError(f"pad {pad} must be less than the kernel of {window.reach(side % 2)}")
    return window


def _window(
    attributes: Mapping[str, Any], kernel: Pair, data: Shape, group: int, ceil: bool
) -> Window:
    size = (data[2], data[3])
    stride = _pair(attributes, "strides", (1, 1), 1)
    dilation = _pair(attributes, "dilations", (1, 1), 1)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    pads = _pads(attributes, size, stride, (reach[0], reach[1]))
    if ceil:
        pads = _ceil_pads(pads, size, stride, (reach[0], reach[1]))
    window = Window(kernel, stride, pads, dilation, group)
    for axis, length in enumerate(size):
        padded = length + pads[axis] + pads[axis + 2]
        if padded < reach[axis]:
            raise NodeError(
                f"kernel of {reach[axis]} is larger than its padded input of {padded}",
                "use a larger input_shape or correct the node",
            )
    return window


def _pads(attributes: Mapping[str, Any], size: Pair, stride: Pair, reach: Pair) -> Quad:
    mode = attributes.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = _ints(attributes, "pads", (0, 0, 0, 0), 0)
        return (pads[0], pads[1], pads[2], pads[3])
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise NodeError(f"auto_pad {mode!r}; known are NOTSET, VALID, SAME_UPPER and SAME_LOWER")
    begin, end = [], []
    for length, step, kernel in zip(size, stride, reach, strict=True):
        total = max((-(-length // step) - 1) * step + kernel - length, 0)
        small, large = total // 2, total - total // 2
        begin.append(small if mode == "SAME_UPPER" else large)
        end.append(large if mode == "SAME_UPPER" else small)
    return (begin[0], begin[1], end[0], end[1])


def _ceil_pads(pads: Quad, size: Pair, stride: Pair, reach: Pair) -> Quad:
    """Enlarge the end pads so that plain floor arithmetic gives what ``ceil_mode`` asks for."""
    ends = []
    for axis, length in enumerate(size):
        begin, end = pads[axis], pads[axis + 2]
        count = -(-(length + begin + end - reach[axis]) // stride[axis]) + 1
        if (count - 1) * stride[axis] >= length + begin:
            count -= 1  # a last window that lies wholly in the padding is dropped
        ends.append(max(end, (count - 1) * stride[axis] + reach[axis] - length - begin))
    return (pads[0], pads[1], ends[0], ends[1])


def _pair(attributes: Mapping[str, Any], name: str, default: Pair, least: int) -> Pair:
    values = _ints(attributes, name, default, least)
    return (values[0], values[1])


def _ints(
    attributes: Mapping[str, Any], name: str, default: tuple[int, ...], least: int
) -> tuple[int, ...]:
    values = attributes.get(name, default)
    if not values and name == "pads":
        values = default
    good = isinstance(values, list | tuple) and all(isinstance(v, int) for v in values)
    if not good or len(values) != len(default):
        raise NodeError(f"{name} {values!r}; must be {len(default)} whole numbers")
    if min(values) < least or max(values) > MAX_ELEMENTS:
        raise NodeError(f"{name} {list(values)}; every one must be {least}..{MAX_ELEMENTS}")
    return tuple(values)


def _need_rank(shape: Shape, rank: int, what: str) -> None:
    if len(shape) != rank:
        raise NodeError(f"{what} of shape {list(shape)}; must have {rank} dimensions")
