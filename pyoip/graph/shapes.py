"""Shapes of results, operator by operator.

ONNX's own shape inference is native code that damaged attributes can bring down, so the operators
that occur in front of convolutions have their rules here. All numbers are Python's, so nothing
overflows, and nothing is allocated.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import spatial
from .case import Case, Unknown
from .einsum import result_shape
from .node import Node, NodeError, Shape
from .ops import BROADCAST, REDUCED, SAME_SHAPE


def result_shapes(node: Node, shapes: Sequence[Shape], constants: Mapping[str, Any]) -> list[Shape]:
    """Return the shapes of the first results of a node, as many as can be told.

    Parameters
    ----------
    node : Node
    shapes : list of tuple
        Of its inputs; ``()`` where one is left out.
    constants : dict
        Tensors that are known by value.

    Raises
    ------
    NodeError
        Inputs and attributes do not fit.
    """
    rule = _RULES.get(node.op)
    if rule is None:
        return []
    try:
        return rule(Case(node, shapes, constants))
    except Unknown:
        return []


def _same(case: Case) -> list[Shape]:
    return [case.shape]


def _same_each(case: Case) -> list[Shape]:
    return [case.shape] * len(case.node.outputs)


def _normalise(case: Case) -> list[Shape]:
    if len(case.shape) < 2 or any(shape != case.shape[1:2] for shape in case.shapes[1:5]):
        given = [list(shape) for shape in case.shapes[1:5]]
        raise NodeError(f"statistics of shapes {given} for an input of shape {list(case.shape)}")
    return [case.shape]


def _broadcast(case: Case) -> list[Shape]:
    given = [s for s, name in zip(case.shapes, case.node.inputs, strict=True) if name]
    if case.get("broadcast", 0):  # before opset 7: the second is laid along the first
        return [case.shape]
    return [functools.reduce(_join, given)]


def _join(first: Shape, second: Shape) -> Shape:
    rank = max(len(first), len(second))
    long = [(1,) * (rank - len(shape)) + shape for shape in (first, second)]
    joined = []
    for a, b in zip(*long, strict=True):
        if a != b and 1 not in (a, b):
            raise NodeError(f"shapes {list(first)} and {list(second)} do not go together")
        joined.append(b if a == 1 else a)
    return tuple(joined)


def _concat(case: Case) -> list[Shape]:
    rank = len(case.shape)
    axis = case.axis(case.get("axis", 1), rank)
    for shape in case.shapes:
        if len(shape) != rank or shape[:axis] + shape[axis + 1 :] != (
            case.shape[:axis] + case.shape[axis + 1 :]
        ):
            shapes = f"{list(case.shape)} and {list(shape)}"
            raise NodeError(f"shapes {shapes} cannot be joined along axis {axis}")
    total = sum(shape[axis] for shape in case.shapes)
    return [(*case.shape[:axis], total, *case.shape[axis + 1 :])]


def _split(case: Case) -> list[Shape]:
    axis = case.axis(case.get("axis", 0), len(case.shape))
    sizes, count = case.numbers("split", 1), len(case.node.outputs)
    length = case.shape[axis]
    if not sizes:
        part = -(-length // count)
        sizes = [part] * (count - 1) + [length - part * (count - 1)]
    if len(sizes) != count or sum(sizes) != length or min(sizes) < 0:
        raise NodeError(f"parts {sizes} of an axis of {length}; must be {count} that fill it")
    return [(*case.shape[:axis], size, *case.shape[axis + 1 :]) for size in sizes]


def _slice(case: Case) -> list[Shape]:
    starts, ends = case.numbers("starts", 1), case.numbers("ends", 2)
    axes = case.axes(case.numbers("axes", 3) or range(len(starts)), len(case.shape))
    steps = case.numbers("steps", 4) or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise NodeError(f"starts {starts}, ends {ends}, axes {axes}, steps {steps} do not fit")
    shape = list(case.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        shape[axis] = len(range(*slice(start, end, step).indices(shape[axis])))
    return [tuple(shape)]


def _gather(case: Case) -> list[Shape]:
    axis = case.axis(case.get("axis", 0), len(case.shape))
    indices = case.constants.get(case.node.inputs[1])
    length = case.shape[axis]
    if (
        indices is not None
        and indices.size
        and not -length <= indices.min() <= indices.max() < length
    ):
        raise NodeError(f"index {indices.max()} of an axis of {length}")
    return [case.shape[:axis] + case.shapes[1] + case.shape[axis + 1 :]]


def _transpose(case: Case) -> list[Shape]:
    perm = case.numbers("perm", 1) or list(range(len(case.shape)))[::-1]
    if sorted(perm) != list(range(len(case.shape))):
        raise NodeError(f"perm {perm} does not order the axes of shape {list(case.shape)}")
    return [tuple(case.shape[axis] for axis in perm)]


def _reshape(case: Case) -> list[Shape]:
    asked = case.numbers("shape", 1)
    total = math.prod(case.shape)
    if not case.get("allowzero", 0):
        for axis, size in enumerate(asked):
            if size == 0 and axis < len(case.shape):
                asked[axis] = case.shape[axis]
    shape = list(asked)
    if shape.count(-1) == 1:
        rest = math.prod(size for size in shape if size != -1)
        shape[shape.index(-1)] = total // rest if rest > 0 else 0
    if min(shape, default=0) < 0 or math.prod(shape) != total:
        raise NodeError(f"shape {list(case.shape)} cannot become {asked}")
    return [tuple(shape)]


def _flatten(case: Case) -> list[Shape]:
    axis, rank = case.get("axis", 1), len(case.shape)
    if not -rank <= axis <= rank:
        raise NodeError(f"axis {axis}; must be {-rank}..{rank}")
    axis = axis + rank if axis < 0 else axis
    return [(math.prod(case.shape[:axis]), math.prod(case.shape[axis:]))]


def _squeeze(case: Case) -> list[Shape]:
    axes = case.axes(case.numbers("axes", 1), len(case.shape))
    axes = axes or [axis for axis, size in enumerate(case.shape) if size == 1]
    if any(case.shape[axis] != 1 for axis in axes):
        raise NodeError(f"axes {axes} of shape {list(case.shape)}; each must have length 1")
    return [tuple(size for axis, size in enumerate(case.shape) if axis not in axes)]


def _unsqueeze(case: Case) -> list[Shape]:
    given = case.numbers("axes", 1)
    rank = len(case.shape) + len(given)
    axes, rest = case.axes(given, rank), iter(case.shape)
    return [tuple(1 if axis in axes else next(rest) for axis in range(rank))]


def _expand(case: Case) -> list[Shape]:
    return [_join(case.shape, tuple(case.numbers("shape", 1)))]


def _tile(case: Case) -> list[Shape]:
    repeats = case.numbers("repeats", 1)
    if len(repeats) != len(case.shape) or min(repeats, default=0) < 0:
        raise NodeError(f"repeats {repeats} for shape {list(case.shape)}")
    return [tuple(size * n for size, n in zip(case.shape, repeats, strict=True))]


def _pad(case: Case) -> list[Shape]:
    pads, rank = case.numbers("pads", 1), len(case.shape)
    axes = case.axes(case.numbers("axes", 3) or range(rank), rank)
    if len(pads) != 2 * len(axes):
        raise NodeError(f"pads {pads}; must be two numbers for each of {len(axes)} axes")
    shape = list(case.shape)
    for place, axis in enumerate(axes):
        shape[axis] += pads[place] + pads[place + len(axes)]
    return [tuple(shape)]


def _filled(case: Case) -> list[Shape]:
    return [tuple(case.numbers("shape", 0))]


def _counted(case: Case) -> list[Shape]:
    """Return how many numbers a Range holds."""
    ends = [case.constants.get(name) for name in case.node.inputs]
    if any(array is None or array.size != 1 for array in ends):
        raise Unknown
    start, end, step = (array.item() for array in ends if array is not None)
    if step == 0:
        raise NodeError("a range by steps of 0")
    return [(max(math.ceil((end - start) / step), 0),)]


def _extreme(case: Case) -> list[Shape]:
    """Return where an extreme lies along an axis."""
    axis, shape = case.axis(case.get("axis", 0), len(case.shape)), case.shape
    return [(*shape[:axis], *[1] * bool(case.get("keepdims", 1)), *shape[axis + 1 :])]


def _top(case: Case) -> list[Shape]:
    axis, count = case.axis(case.get("axis", -1), len(case.shape)), case.numbers("k", 1)
    return [(*case.shape[:axis], *count[:1], *case.shape[axis + 1 :])] * 2


def _indexed(case: Case) -> list[Shape]:
    return [case.shapes[1]]


def _reduce(case: Case) -> list[Shape]:
    rank = len(case.shape)
    axes = case.axes(case.numbers("axes", 1), rank)
    if not axes:
        axes = [] if case.get("noop_with_empty_axes", 0) else list(range(rank))
    sizes = enumerate(case.shape)
    if case.get("keepdims", 1):
        return [tuple(1 if axis in axes else size for axis, size in sizes)]
    return [tuple(size for axis, size in sizes if axis not in axes)]


def _matmul(case: Case) -> list[Shape]:
    first, second = case.shapes
    if not first or not second:
        raise NodeError(f"shapes {list(first)} and {list(second)}; each must have an axis")
    row, column = len(first) == 1, len(second) == 1
    left, right = (1, *first) if row else first, (*second, 1) if column else second
    if left[-1] != right[-2]:
        raise NodeError(f"shapes {list(first)} and {list(second)} cannot be multiplied")
    ends = left[-2:-1] * (not row) + right[-1:] * (not column)
    return [(*_join(left[:-2], right[:-2]), *ends)]


def _einsum(case: Case) -> list[Shape]:
    return [result_shape(str(case.get("equation", "")), case.shapes)]


def _gemm(case: Case) -> list[Shape]:
    first, second = case.shapes[:2]
    if len(first) != 2 or len(second) != 2:
        raise NodeError(f"shapes {list(first)} and {list(second)}; both must have two axes")
    first = first[::-1] if case.get("transA", 0) else first
    second = second[::-1] if case.get("transB", 0) else second
    if first[1] != second[0]:
        raise NodeError(f"shapes {list(first)} and {list(second)} cannot be multiplied")
    shape = (first[0], second[1])
    if case.has_input(2) and _join(shape, case.shapes[2]) != shape:
        raise NodeError(f"addend of shape {list(case.shapes[2])} for a result of {list(shape)}")
    return [shape]


_RULES: dict[str, Callable[[Case], list[Shape]]] = {
    **dict.fromkeys(SAME_SHAPE, _same),
    **dict.fromkeys(BROADCAST, _broadcast),
    **dict.fromkeys(REDUCED, _reduce),
    "ArgMax": _extreme,
    "ArgMin": _extreme,
    "BatchNormalization": _normalise,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "ConvTranspose": spatial.conv_transpose,
    "DepthToSpace": spatial.depth_to_space,
    "Dropout": _same_each,
    "Einsum": _einsum,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _indexed,
    "Gemm": _gemm,
    "GlobalAveragePool": spatial.pool_all,
    "GlobalLpPool": spatial.pool_all,
    "GlobalMaxPool": spatial.pool_all,
    "GridSample": spatial.sampled,
    "LpPool": spatial.pool,
    "MatMul": _matmul,
    "Pad": _pad,
    "Range": _counted,
    "Reshape": _reshape,
    "Resize": spatial.resize,
    "Slice": _slice,
    "SpaceToDepth": spatial.depth_to_space,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _top,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": spatial.resize,
}
