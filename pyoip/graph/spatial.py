"""Shapes of results of operators that move, gather or spread pixels; one function for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .case import LONGEST, Case, Unknown
from .node import NodeError, Shape
from .window import pool_slide, transposed


def sampled(case: Case) -> list[Shape]:
    """Return the shape of an image read at the places of a grid."""
    if len(case.shapes[1]) != len(case.shape):
        raise NodeError(f"a grid of shape {list(case.shapes[1])} for shape {list(case.shape)}")
    return [(*case.shape[:2], *case.shapes[1][1:-1])]


def pool_all(case: Case) -> list[Shape]:
    """Return the shape of one value for each channel."""
    return [case.shape[:2] + (1,) * (len(case.shape) - 2)]


def pool(case: Case) -> list[Shape]:
    """Return the shape that a window leaves that slides."""
    slide = pool_slide(case.node.attributes, case.shape)
    return [(*case.shape[:2], *slide.output(case.shape[2:]))]


def conv_transpose(case: Case) -> list[Shape]:
    """Return the shape of a convolution backwards."""
    slide, extra, shape = transposed(case.node.attributes, case.shape, case.shapes[1])
    grown = list(extra) != list(case.get("output_padding", None) or [0] * len(extra))
    if grown and case.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        raise Unknown  # runtimes do not agree on its size
    if any(more >= step for more, step in zip(extra, slide.stride, strict=True)):
        raise Unknown  # nor compute this
    return [shape]


def depth_to_space(case: Case) -> list[Shape]:
    """Return the shape of channels made pixels, or of pixels made channels."""
    block = case.get("blocksize", 0)
    up = case.node.op == "DepthToSpace"
    if len(case.shape) != 4 or block < 1:
        raise NodeError(f"blocksize {block} for an input of shape {list(case.shape)}")
    batch, channels, height, width = case.shape
    if (channels % block**2) if up else (height % block or width % block):
        raise NodeError(f"blocksize {block} does not divide shape {list(case.shape)}")
    if up:
        return [(batch, channels // block**2, height * block, width * block)]
    return [(batch, channels * block**2, height // block, width // block)]


def resize(case: Case) -> list[Shape]:
    """Return the shape of an image brought to another size."""
    late = case.node.op == "Resize" and case.node.opset >= 11
    rank = len(case.shape)
    axes = case.axes(case.get("axes", None) or range(rank), rank)
    by_size = late and case.has_input(3)
    sizes = case.numbers("sizes", 3) if by_size else _scaled(case, 2 if late else 1, axes)
    if len(sizes) != len(axes):
        raise NodeError(f"{len(sizes)} sizes for an input of shape {list(case.shape)}")
    if by_size and case.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        sizes = _in_proportion(case, sizes, axes)
    given = dict(zip(axes, sizes, strict=True))
    return [tuple(given.get(axis, size) for axis, size in enumerate(case.shape))]


def _in_proportion(case: Case, sizes: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Return the sizes that keep an image's proportions, as large or as small as was asked for."""
    chosen = max if case.get("keep_aspect_ratio_policy", "stretch") == "not_smaller" else min
    scale = chosen(n / case.shape[axis] for n, axis in zip(sizes, axes, strict=True))
    return [math.floor(scale * case.shape[axis] + 0.5) for axis in axes]


def _scaled(case: Case, index: int, axes: Sequence[int]) -> list[int]:
    """Return the sizes that scales lead to, in float32 as runtimes compute them."""
    scales: Any = case.get("scales", [])
    if case.has_input(index):
        array = case.constants.get(case.node.inputs[index])
        if array is None:
            raise Unknown
        scales = array.ravel()[:LONGEST].tolist()
    if any(not 0 < scale < 2**31 for scale in scales):
        raise NodeError(f"scales {scales}; each must be positive")
    pairs = zip(axes, scales, strict=False)
    return [int(np.float32(case.shape[axis]) * np.float32(scale)) for axis, scale in pairs]
