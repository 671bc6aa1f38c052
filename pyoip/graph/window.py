"""Convolution and pooling windows: attributes checked, auto_pad and ceil_mode resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .node import MAX_ELEMENTS, NodeError, Pair, Shape, Window


def conv_window(attributes: Mapping[str, Any], data: Shape, weights: Shape) -> Window:
    """Return the window of a convolution of `data` (N, C, H, W) by `weights` (M, C/g, h, w)."""
    _need_rank(data, 4, "input")
    _need_rank(weights, 4, "weight tensor")
    high, wide = kernel_of(attributes, weights)
    kernel = (high, wide)
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
    slide = resolved(attributes, kernel, data[2:], ceil=ceil)
    (high, wide), (top, left), (bottom, right) = slide.stride, slide.begin, slide.end
    dilation = (slide.dilation[0], slide.dilation[1])
    return Window(kernel, (high, wide), (top, left, bottom, right), dilation, group)


@dataclass(frozen=True)
class Slide:
    """How a convolution or pooling slides along any number of axes: one number for each.

    Attributes
    ----------
    kernel, stride, dilation : tuple of int
    begin, end : tuple of int
        The pads, as far as the window really reaches: ``ceil_mode`` is larger pads at the end.
    declared_end : tuple of int
        The pads at the end without those of ``ceil_mode``.
    """

    kernel: Shape
    stride: Shape
    dilation: Shape
    begin: Shape
    end: Shape
    declared_end: Shape

    def reach(self) -> Shape:
        """Return the extents of the dilated kernel."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def output(self, sizes: Shape) -> Shape:
        """Return the sizes of the output for an input of `sizes`."""
        along = zip(sizes, self.begin, self.end, self.reach(), self.stride, strict=True)
        return tuple((n + b + e - reach) // step + 1 for n, b, e, reach, step in along)


def resolved(
    attributes: Mapping[str, Any], kernel: Shape, sizes: Shape, *, ceil: bool = False
) -> Slide:
    """Return how a window slides over an input of `sizes`, every default resolved."""
    ones = (1,) * len(sizes)
    stride = _ints(attributes, "strides", ones, 1)
    dilation = _ints(attributes, "dilations", ones, 1)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    begin, declared = _pads(attributes, sizes, stride, reach)
    end = _ceil_pads(begin, declared, sizes, stride, reach) if ceil else declared
    for length, before, behind, extent in zip(sizes, begin, end, reach, strict=True):
        padded = length + before + behind
        if padded < extent:
            raise NodeError(
                f"kernel of {extent} is larger than its padded input of {padded}",
                "use a larger input_shape or correct the node",
            )
    return Slide(tuple(kernel), stride, dilation, begin, end, declared)


def kernel_of(attributes: Mapping[str, Any], weights: Shape) -> Shape:
    """Return the kernel of a convolution along any number of axes."""
    if len(weights) < 3 or min(weights) < 1:
        raise NodeError(f"weights of shape {list(weights)}; every dimension must be at least 1")
    kernel = _ints(attributes, "kernel_shape", weights[2:], 1)
    if kernel != weights[2:]:
        raise NodeError(f"kernel_shape {list(kernel)} but weights of shape {list(weights)}")
    return kernel


def pool_slide(attributes: Mapping[str, Any], data: Shape) -> Slide:
    """Return how a pooling of `data` (N, C, ...) slides."""
    if "kernel_shape" not in attributes:
        raise NodeError("no kernel_shape")
    kernel = _ints(attributes, "kernel_shape", (1,) * (len(data) - 2), 1)
    return resolved(attributes, kernel, data[2:], ceil=bool(attributes.get("ceil_mode", 0)))


def conv_shape(attributes: Mapping[str, Any], data: Shape, weights: Shape) -> Shape:
    """Return the shape of the result of a convolution along any number of axes."""
    if len(data) != len(weights):
        raise NodeError(f"weights of shape {list(weights)} for an input of shape {list(data)}")
    slide = resolved(attributes, kernel_of(attributes, weights), data[2:])
    _group(attributes, data[1], weights)
    return (data[0], weights[0], *slide.output(data[2:]))


def _pads(
    attributes: Mapping[str, Any], sizes: Shape, stride: Shape, reach: Shape
) -> tuple[Shape, Shape]:
    mode = attributes.get("auto_pad", "NOTSET")
    rank = len(sizes)
    if mode == "NOTSET":
        pads = _ints(attributes, "pads", (0,) * (2 * rank), 0)
        return pads[:rank], pads[rank:]
    if mode == "VALID":
        return (0,) * rank, (0,) * rank
    _check_mode(mode)
    small, large = [], []
    for length, step, kernel in zip(sizes, stride, reach, strict=True):
        total = max((-(-length // step) - 1) * step + kernel - length, 0)
        small.append(total // 2)
        large.append(total - total // 2)
    if mode == "SAME_UPPER":
        return tuple(small), tuple(large)
    return tuple(large), tuple(small)


def _check_mode(mode: object) -> None:
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise NodeError(f"auto_pad {mode!r}; known are NOTSET, VALID, SAME_UPPER and SAME_LOWER")


def _ceil_pads(begin: Shape, end: Shape, sizes: Shape, stride: Shape, reach: Shape) -> Shape:
    """Enlarge the end pads so that plain floor arithmetic gives what ``ceil_mode`` asks for."""
    ends = []
    for length, before, behind, kernel, step in zip(sizes, begin, end, reach, stride, strict=True):
        count = -(-(length + before + behind - kernel) // step) + 1
        if (count - 1) * step >= length + before:
            count -= 1  # a last window that lies wholly in the padding is dropped
        ends.append(max(behind, (count - 1) * step + kernel - length - before))
    return tuple(ends)


def transposed(
    attributes: Mapping[str, Any], data: Shape, weights: Shape
) -> tuple[Slide, Shape, Shape]:
    """Return how a transposed convolution slides, its output padding, and its result's shape.

    The slide is that of the convolution which leads back. An ``output_shape`` that is larger than
    what the kernels cover becomes output padding.
    """
    if len(data) != len(weights) or data[1] != weights[0]:
        raise NodeError(f"weights of shape {list(weights)} for an input of shape {list(data)}")
    group = attributes.get("group", 1)
    if not isinstance(group, int) or group < 1 or data[1] % group:
        raise NodeError(f"group {group!r} does not divide {data[1]} channels")
    kernel, sizes, rank = kernel_of(attributes, weights), data[2:], len(data) - 2
    stride = _ints(attributes, "strides", (1,) * rank, 1)
    dilation = _ints(attributes, "dilations", (1,) * rank, 1)
    extra = _ints(attributes, "output_padding", (0,) * rank, 0)
    slide = Slide(kernel, stride, dilation, (0,) * rank, (0,) * rank, (0,) * rank)
    along = zip(sizes, stride, slide.reach(), extra, strict=True)
    full = tuple((n - 1) * step + reach + more for n, step, reach, more in along)
    out = _asked(attributes, sizes, stride)
    if out:
        begin, end, more = _shared_out(attributes, full, out)
        extra = tuple(map(sum, zip(extra, more, strict=True)))
    else:
        begin, end = _pads(attributes, sizes, stride, kernel)
        out = tuple(n - b - e for n, b, e in zip(full, begin, end, strict=True))
    return (
        replace(slide, begin=begin, end=end, declared_end=end),
        extra,
        (data[0], weights[1] * group, *out),
    )


def _asked(attributes: Mapping[str, Any], sizes: Shape, stride: Shape) -> Shape:
    """Return the sizes that a transposed convolution's attributes ask for, () if pads decide."""
    if attributes.get("output_shape"):
        return _ints(attributes, "output_shape", (1,) * len(sizes), 1)
    mode = attributes.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        return ()
    _check_mode(mode)
    return tuple(n * step for n, step in zip(sizes, stride, strict=True))


def _shared_out(
    attributes: Mapping[str, Any], full: Shape, out: Shape
) -> tuple[Shape, Shape, Shape]:
    """Return pads at both ends, and output padding, that bring the sizes `full` to `out`."""
    total = [n - m for n, m in zip(full, out, strict=True)]
    small = tuple(max(n, 0) // 2 for n in total)
    large = tuple(max(n, 0) - max(n, 0) // 2 for n in total)
    upper = attributes.get("auto_pad", "NOTSET") == "SAME_UPPER"
    begin, end = (small, large) if upper else (large, small)
    return begin, end, tuple(max(-n, 0) for n in total)


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
