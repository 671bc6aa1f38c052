"""Receptive fields: which input pixels each tensor position can see."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .node import Graph, Node, Pair, Shape
from .ops import POINTWISE


@dataclass(frozen=True)
class Span:
    """What positions along one axis see: position i sees pixels lo + i·step … hi + i·step."""

    lo: int
    hi: int
    step: int

    @property
    def size(self) -> int:
        """Return the number of pixels."""
        return self.hi - self.lo + 1


@dataclass(frozen=True)
class Field:
    """Receptive field of a tensor.

    Attributes
    ----------
    axes : (int, int)
        Which axes of the tensor are height and width.
    spans : (Span, Span)
        Along height and width, in pixels of the image, not cut off at its border.
    """

    axes: Pair
    spans: tuple[Span, Span]


def receptive_fields(graph: Graph) -> dict[str, Field | None]:
    """Return the field of each tensor that depends on the image; None is the whole image.

    Where paths join, the field is the smallest span that holds those of all paths.
    """
    point = Span(0, 0, 1)
    axes = (graph.layout.index("H"), graph.layout.index("W"))
    fields: dict[str, Field | None] = {graph.image: Field(axes, (point, point))}
    for node in graph.nodes:
        seen = [(name, fields[name]) for name in node.inputs if name in fields]
        if seen:
            field = None if any(f is None for _, f in seen) else _through(node, seen, graph)
            fields.update(dict.fromkeys(node.outputs, field))
    return fields


def _through(node: Node, seen: list[tuple[str, Field | None]], graph: Graph) -> Field | None:
    name, field = seen[0]
    before, after = graph.shapes.get(name), graph.shapes.get(node.outputs[0])
    if field is None or before is None or after is None:
        return None
    if node.window is not None:
        return _slide(node, field) if field.axes == (2, 3) else None
    if node.op in POINTWISE:
        return _union(node, seen, graph)
    rule = _RULES.get(node.op)
    return None if rule is None else rule(node, field, before, after, graph)


def _slide(node: Node, field: Field) -> Field:
    window = node.window
    assert window is not None
    spans = []
    for axis, span in enumerate(field.spans):
        first = span.lo - window.pads[axis] * span.step
        last = span.hi + (window.reach(axis) - 1 - window.pads[axis]) * span.step
        spans.append(Span(first, last, span.step * window.stride[axis]))
    return Field((2, 3), (spans[0], spans[1]))


def _union(node: Node, seen: list[tuple[str, Field | None]], graph: Graph) -> Field | None:
    result = seen[0][1]
    shape = graph.shapes.get(seen[0][0], ())
    for name, other in seen[1:]:
        shape_too = graph.shapes.get(name, ())
        if result is None or other is None or other.axes != result.axes:
            return None
        if len(shape) != len(shape_too) or any(shape[a] != shape_too[a] for a in result.axes):
            return None
        if any(a.step != b.step for a, b in zip(result.spans, other.spans, strict=True)):
            return None
        spans = [
            Span(min(a.lo, b.lo), max(a.hi, b.hi), a.step)
            for a, b in zip(result.spans, other.spans, strict=True)
        ]
        result = Field(result.axes, (spans[0], spans[1]))
    if node.op in ("Concat", "Split") and result is not None:
        axis = int(node.attributes.get("axis", 0 if node.op == "Split" else 1))
        return None if axis % max(len(shape), 1) in result.axes else result
    return result


def _transpose(node: Node, field: Field, before: Shape, after: Shape, graph: Graph) -> Field:
    perm = node.attributes.get("perm", list(range(len(before)))[::-1])
    return Field((perm.index(field.axes[0]), perm.index(field.axes[1])), field.spans)


def _reshape(node: Node, field: Field, before: Shape, after: Shape, graph: Graph) -> Field | None:
    """Follow height and width through a reshape that leaves them whole and in order."""
    axes = []
    for axis in field.axes:
        ahead = math.prod(before[:axis])
        places = [
            i for i, n in enumerate(after) if n == before[axis] and math.prod(after[:i]) == ahead
        ]
        if not places:
            return None
        axes.append(places[0])
    return Field((axes[0], axes[1]), field.spans) if axes[0] != axes[1] else None


def _slice(node: Node, field: Field, before: Shape, after: Shape, graph: Graph) -> Field | None:
    """Let a slice of channels pass; one of height or width, or backwards, is not followed."""
    steps = graph.constants.get(node.inputs[4]) if len(node.inputs) > 4 else np.ones(1)
    forward = steps is not None and bool((steps > 0).all())
    whole = all(before[axis] == after[axis] for axis in field.axes)
    return field if forward and whole else None


def _pad(node: Node, field: Field, before: Shape, after: Shape, graph: Graph) -> Field | None:
    """Shift the field by constant padding."""
    pads = node.attributes.get("pads")
    if pads is None and len(node.inputs) > 1 and node.inputs[1] in graph.constants:
        pads = graph.constants[node.inputs[1]].tolist()
    if node.attributes.get("mode", "constant") != "constant" or len(node.inputs) > 3:
        return None
    if not isinstance(pads, list) or len(pads) != 2 * len(before):
        return None
    spans = [
        Span(span.lo - pads[axis] * span.step, span.hi - pads[axis] * span.step, span.step)
        for axis, span in zip(field.axes, field.spans, strict=True)
    ]
    return Field(field.axes, (spans[0], spans[1]))


_RULES: dict[str, Callable[[Node, Field, Shape, Shape, Graph], Field | None]] = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Slice": _slice,
    "Pad": _pad,
}
