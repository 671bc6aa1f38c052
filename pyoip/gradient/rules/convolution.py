"""Convolutions.

The gradient by an input is a convolution too. Let o be a position of the output, s the stride and
x = o · s + t · d − p the input that tap t reads there. Inputs are taken in blocks of b = n · s, x =
q · b + r, so that o = q · n + (r + p − t · d) / s: for every place r in a block that is a
convolution of the output's gradient with stride n. The places are channels of one convolution and
are laid between one another afterwards. Of stride 1 and blocks of 1 this is the convolution by the
weights turned round. Larger blocks fill the vectors of a runtime where channels are few, as those
of an image.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...graph.node import Pair, Shape, Window
from ...graph.window import Slide, kernel_of, resolved, transposed
from ..batch import leading
from ..operators import operator
from ..tape import At, Tape
from .weave import to_space

Array = np.ndarray[Any, Any]

_MOST_CHANNELS = 32
"""Blocks beyond the stride are tried up to so many channels."""

_COPY = 32
"""Multiply-adds in whose time a runtime copies a value along one axis."""


def _slide(at: At) -> Slide:
    attributes = at.node.attributes
    return resolved(attributes, kernel_of(attributes, at.shape(1)), at.shape()[2:])


def _sliding(slide: Slide) -> dict[str, Any]:
    return {
        "kernel_shape": list(slide.kernel),
        "strides": list(slide.stride),
        "dilations": list(slide.dilation),
        "pads": [*slide.begin, *slide.end],
    }


def _weighted(at: At) -> list[str]:
    return [at.x(i) for i in range(len(at.node.inputs))]


def _with_pads(at: At) -> list[str]:
    """Write a convolution with its pads in numbers, which all runtimes understand alike."""
    return [at.emit("Conv", *_weighted(at), group=at.get("group", 1), **_sliding(_slide(at)))]


@operator("Conv", batch=leading, forward=_with_pads)
def conv(at: At) -> list[str | None]:
    weights = at.constant(1)
    assert weights is not None
    sizes, out = at.shape()[2:], at.out_shape()[2:]
    group = int(at.get("group", 1))
    return [slide_back(at.tape, at.grad, weights, _slide(at), group, sizes, out)]


def slide_back(
    tape: Tape,
    dz: str,
    weights: Array,
    slide: Slide,
    group: int,
    size: Shape,
    out: Shape,
) -> str:
    """Write what `conv_back` does, along any number of axes."""
    if len(size) != 2:
        return _back(tape, dz, weights, slide, group, size, out)
    (high, wide), (down, right), (tall, broad) = slide.kernel, slide.stride, slide.dilation
    pads = (slide.begin[0], slide.begin[1], slide.end[0], slide.end[1])
    window = Window((high, wide), (down, right), pads, (tall, broad), group)
    return conv_back(tape, dz, weights, window, (size[0], size[1]), (out[0], out[1]))


def _back(
    tape: Tape,
    dz: str,
    weights: Array,
    slide: Slide,
    group: int,
    size: Shape,
    out: Shape,
) -> str:
    along = zip(size, slide.begin, out, slide.stride, slide.reach(), strict=True)
    left_over = [n + b - ((m - 1) * step + reach) for n, b, m, step, reach in along]
    attributes = _sliding(slide)
    attributes["pads"] = [*slide.begin, *(max(-n, 0) for n in left_over)]
    return tape.emit(
        "ConvTranspose",
        dz,
        np.asarray(weights, np.float32),
        output_padding=[max(n, 0) for n in left_over],
        group=group,
        **attributes,
    )


def conv_back(tape: Tape, dz: str, weights: Array, window: Window, size: Pair, out: Pair) -> str:
    """Write the gradient by a convolution's input (h, w) = `size`, given that by its output."""
    if window.group > 1 and window.stride != (1, 1):
        return _transposed(tape, dz, weights, window, size, out)
    block = _best_block(weights.shape, window, size, out, tape.lanes)
    axes = [_axis(window, size, out, i, block[i]) for i in (0, 1)]
    turned = _turned(weights, window, axes)
    d = tape.emit(
        "Conv",
        dz,
        turned,
        kernel_shape=list(turned.shape[2:]),
        strides=[axis.step for axis in axes],
        pads=[*(-axis.first for axis in axes), *(axis.end for axis in axes)],
        group=window.group,
    )
    channels = weights.shape[1] * window.group
    d = to_space(tape, d, channels, [axis.count for axis in axes], block)
    over = [i for i in (0, 1) if axes[i].count * block[i] > size[i]]
    if over:
        d = tape.emit("Slice", d, [0] * len(over), [size[i] for i in over], [i + 2 for i in over])
    return d


@dataclass(frozen=True)
class _Axis:
    """How the gradient runs along one axis.

    Attributes
    ----------
    block, step : int
        Inputs in a block, and the stride from block to block in the output's gradient.
    offsets : dict
        (place in a block, tap) -> offset in the output's gradient.
    first, last : int
        Smallest and largest offset, 0 among them.
    end : int
        Zeros behind the output's gradient.
    count : int
        Blocks that come out, at least as many as hold all inputs.
    """

    block: int
    step: int
    offsets: dict[tuple[int, int], int]
    first: int
    last: int
    end: int
    count: int


def _axis(window: Window, size: Pair, out: Pair, i: int, block: int) -> _Axis:
    stride, pad, wide = window.stride[i], window.pads[i], window.dilation[i]
    offsets = {}
    for place, tap in itertools.product(range(block), range(window.kernel[i])):
        offset, rest = divmod(place + pad - tap * wide, stride)
        if rest == 0:
            offsets[place, tap] = offset
    first, last = min(0, *offsets.values()), max(0, *offsets.values())
    step, needed = block // stride, -(-size[i] // block)
    end = max((needed - 1) * step + last - (out[i] - 1), 0)
    count = (out[i] - first + end - (last - first + 1)) // step + 1
    return _Axis(block, step, offsets, first, last, end, count)


def _turned(weights: Array, window: Window, axes: list[_Axis]) -> Array:
    """Return the weights (columns · rows · channels, maps, h, w) of the gradient's convolution."""
    group, (maps, depth) = window.group, weights.shape[:2]
    down, along = axes
    taps = [axis.last - axis.first + 1 for axis in axes]
    made = np.zeros((along.block, down.block, group, depth, maps // group, *taps), np.float32)
    by_group = weights.reshape(group, maps // group, depth, *weights.shape[2:]).swapaxes(1, 2)
    for (row, i), y in down.offsets.items():
        for (column, j), x in along.offsets.items():
            made[column, row, ..., y - down.first, x - along.first] = by_group[..., i, j]
    return made.reshape(-1, maps // group, *taps)


def _best_block(shape: Shape, window: Window, size: Pair, out: Pair, lanes: int) -> Pair:
    """Return the block that costs least, counted in multiply-adds for each input position."""
    if window.group > 1:
        return (1, 1)
    maps, channels = shape[:2]

    def cost(block: Pair) -> float:
        axes = [_axis(window, size, out, i, block[i]) for i in (0, 1)]
        taps = math.prod(axis.last - axis.first + 1 for axis in axes)
        places = block[0] * block[1]
        computed = -(-places * channels // lanes) * lanes
        return maps * taps * computed / places + _COPY * channels * sum(b > 1 for b in block)

    choices = [
        [stride * n for n in (1, 2, 4) if n == 1 or stride * n <= 8] for stride in window.stride
    ]
    blocks = [(b[0], b[1]) for b in itertools.product(*choices)]
    small = [b for b in blocks if b[0] * b[1] * channels <= _MOST_CHANNELS]
    return min([window.stride, *small], key=cost)


def _transposed(tape: Tape, dz: str, weights: Array, window: Window, size: Pair, out: Pair) -> str:
    left_over = [
        size[i] + window.pads[i] - ((out[i] - 1) * window.stride[i] + window.reach(i))
        for i in (0, 1)
    ]
    return tape.emit(
        "ConvTranspose",
        dz,
        np.asarray(weights, np.float32),
        kernel_shape=list(window.kernel),
        strides=list(window.stride),
        dilations=list(window.dilation),
        pads=[*window.pads[:2], *(max(-n, 0) for n in left_over)],
        output_padding=[max(n, 0) for n in left_over],
        group=window.group,
    )


def _transposing(at: At) -> tuple[Slide, Shape]:
    slide, extra, _ = transposed(at.node.attributes, at.shape(), at.shape(1))
    return slide, extra


def _transposed_with_pads(at: At) -> list[str]:
    slide, extra = _transposing(at)
    attributes = {"group": at.get("group", 1), "output_padding": list(extra), **_sliding(slide)}
    return [at.emit("ConvTranspose", *_weighted(at), **attributes)]


@operator("ConvTranspose", batch=leading, forward=_transposed_with_pads)
def conv_transpose(at: At) -> list[str | None]:
    """The convolution by the same weights, cut so that it begins at the right place."""
    slide, _ = _transposing(at)
    along = zip(
        at.shape()[2:], slide.begin, slide.stride, slide.reach(), at.out_shape()[2:], strict=True
    )
    ends = [max((n - 1) * step + reach - b - out, 0) for n, b, step, reach, out in along]
    attributes = _sliding(slide)
    attributes["pads"] = [*slide.begin, *ends]
    return [at.emit("Conv", at.grad, at.x(1), group=at.get("group", 1), **attributes)]
