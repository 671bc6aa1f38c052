"""Signals as images of height 1: what a network holds as (N, C, L) becomes (N, C, 1, L).

All that comes behind - windows, layers, responses, derived graphs, the fused core, start images -
knows height and width. So it is the graph that is brought to them, once, when it is read. An axis
of length 1 is put in before the last one: convolutions and poolings along one axis become those of
kernels (1, k), and whatever works position by position, or knows its axes, carries the height on,
so that a convolution, its normalisation and its activation function stay side by side. Any other
operator gets its tensors as they were, through a Squeeze; what comes out of it is raised again,
through an Unsqueeze, where a window needs it. Neither costs a runtime anything, and the axes of a
Reshape, a matrix product or a recurrent cell need no second reading. Tensors keep their names.

A whole network in rank 4 would need a rule for every operator that there is; one pair of axes
around each convolution would part it from its activation function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .node import Graph, Node, Shape
from .ops import GLOBAL_POOLS, NORMALISATIONS, POINTWISE, POOLS, QUANTISED
from .scaling import free

WHOLE = {"NCW": "NCHW", "NWC": "NWHC", "NHW": "NCHW", "NW": "NCHW"}
"""Layouts of a model's own input that lack an axis -> those that pyoip gives it."""

_WINDOWED = POOLS | GLOBAL_POOLS | {"Conv", "ConvTranspose", "GlobalLpPool", "LpPool"}
_CARRIED = POINTWISE | NORMALISATIONS | QUANTISED | {"Pad", "Softmax", "Transpose"}
_RESHAPES = frozenset(("Reshape", "Squeeze", "Unsqueeze"))

_NEUTRAL = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}


def raised(shape: Shape) -> Shape:
    """Return a shape with an axis of length 1 before its last; one of a single axis as it is."""
    return (*shape[:-1], 1, *shape[-1:]) if len(shape) > 1 else shape


def raised_window(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a window along one axis, checked before, for height and width."""
    changed = {k: [n, *attributes[k]] for k, n in _NEUTRAL.items() if attributes.get(k)}
    if attributes.get("pads"):
        changed["pads"] = _raised_pads(attributes["pads"])
    return {**attributes, **changed}


def as_image(graph: Graph) -> Graph:
    """Return a graph whose image has four axes and whose windows have two."""
    graph = _with_channel(graph)
    layout = WHOLE.get(graph.layout)
    windows = (n for n in graph.nodes if n.op in _WINDOWED and n.inputs[0] in graph.shapes)
    if layout is None and all(len(graph.shapes[node.inputs[0]]) != 3 for node in windows):
        return graph
    return _Raise(graph if layout is None else _four_axes(graph, layout)).graph()


def _with_channel(graph: Graph) -> Graph:
    """Take for the image what a node makes of it that does nothing but put in a channel."""
    users = [node for node in graph.nodes if graph.image in node.inputs]
    if "C" in graph.layout or len(users) != 1 or users[0].op not in _RESHAPES:
        return graph
    made, (images, *sides) = users[0].outputs[0], _shape(graph)
    if graph.shapes.get(made) != (images, 1, *sides):
        return graph
    nodes = tuple(node for node in graph.nodes if node is not users[0])
    return replace(graph, nodes=nodes, image=made, layout=graph.layout.replace("N", "NC"))


def _four_axes(graph: Graph, layout: str) -> Graph:
    """Put in front what takes the axes away that the model's own input lacks."""
    name, sizes = free(graph, "pyoip.image"), dict(zip(graph.layout, _shape(graph), strict=True))
    axes = [axis for axis, letter in enumerate(layout) if letter not in graph.layout]
    opset = max(node.opset for node in graph.nodes)
    node, constants = _reshape("Squeeze", graph.image, name, graph.image, axes, opset)
    shapes = {**graph.shapes, name: tuple(sizes.get(letter, 1) for letter in layout)}
    return replace(
        graph,
        nodes=(node, *graph.nodes),
        constants={**graph.constants, **constants},
        shapes=shapes,
        image=name,
        layout=layout,
    )


def _shape(graph: Graph) -> Shape:
    return graph.shapes[graph.image]


def _reshape(
    op: str, name: str, given: str, made: str, axes: list[int], opset: int
) -> tuple[Node, dict[str, Any]]:
    """Return a Squeeze or Unsqueeze, and the constant that it needs from operator set 13 on."""
    if opset < 13:
        return Node(op, name, (given,), (made,), {"axes": axes}, opset), {}
    where = "pyoip.axes" + "".join(map(str, axes))
    node = Node(op, name, (given, where), (made,), {}, opset)
    return node, {where: np.array(axes, np.int64)}


class _Raise:
    """The tensors of `before` that get a height, and the nodes between them."""

    def __init__(self, before: Graph) -> None:
        self.before = before
        self.nodes: list[Node] = []
        self.constants: dict[str, Any] = {}
        self.shapes = dict(before.shapes)
        self.high: set[str] = set()
        self.views: dict[tuple[str, bool], str] = {}
        chosen = [node for node in before.nodes if self._choose(node)]
        kept = {id(node) for node in chosen if node.op not in _RESHAPES}
        used = {name for node in chosen if id(node) in kept for name in node.inputs}
        self.high |= {n for n in used if n in before.constants and before.constants[n].ndim > 1}
        raise_ = {id(node) for node in chosen}
        for node in before.nodes:
            self._write(node, high=id(node) in raise_)

    def graph(self) -> Graph:
        """Return what was written, without constants that nothing uses any more."""
        used = {name for node in self.nodes for name in node.inputs}
        constants = {name: array for name, array in self.constants.items() if name in used}
        return replace(
            self.before, nodes=tuple(self.nodes), constants=constants, shapes=self.shapes
        )

    # --- which nodes -------------------------------------------------------------------------

    def _rank(self, name: str) -> int:
        array = self.before.constants.get(name)
        return len(self.before.shapes.get(name, (0,) * 9)) if array is None else array.ndim

    def _choose(self, node: Node) -> bool:
        """Tell whether a node is written with height; its results then have it."""
        results = [name for name in node.outputs if name]
        told = all(self._rank(name) == 3 for name in results)
        varying = [n for n in node.inputs if n and n not in self.before.constants]
        if node.op in _RESHAPES:
            chosen = self._axis(node) is not None
        elif node.op in _WINDOWED:
            chosen = told and self._rank(node.inputs[0]) == 3
        else:
            chosen = told and node.op in _CARRIED and not self.high.isdisjoint(varying)
            chosen = chosen and all(self._rank(name) in (0, 1, 3) for name in varying)
            chosen = chosen and all(self._rank(name) <= 3 for name in node.inputs if name)
            chosen = chosen and (node.op != "Pad" or self._plain_pad(node))
        if chosen:
            self.high.update(name for name in results if self._rank(name) == 3)
        return chosen

    def _plain_pad(self, node: Node) -> bool:
        known = "pads" in node.attributes or node.inputs[1] in self.before.constants
        return known and len(node.inputs) < 4

    def _axis(self, node: Node) -> int | None:
        """Return which axis of length 1 a node puts in or takes out, if a height is there."""
        shapes = self.before.shapes
        before, after = shapes.get(node.inputs[0]), shapes.get(node.outputs[0])
        if before is None or after is None:
            return None
        down = len(before) == 4 and len(after) == 3
        up = len(before) == 3 and len(after) == 4 and node.inputs[0] in self.high
        if not down and not up:
            return None
        if node.op == "Reshape":
            return _extra(*((before, after) if down else (after, before)))
        axes = [axis % 4 for axis in self._axes(node)]
        return axes[0] if len(axes) == 1 and axes[0] > 0 else None

    def _axes(self, node: Node) -> list[int]:
        """Return the axes that a Squeeze or Unsqueeze names."""
        named = node.attributes.get("axes")
        if named is None and len(node.inputs) > 1:
            named = self.before.constants.get(node.inputs[1])
        return [] if named is None else [int(axis) for axis in np.ravel(named)]

    # --- written -----------------------------------------------------------------------------

    def _write(self, node: Node, *, high: bool) -> None:
        axis = self._axis(node) if high and node.op in _RESHAPES else None
        if axis is not None:
            node = self._turned(node, axis)
        else:
            inputs = tuple(self._view(name, high=high) for name in node.inputs)
            node = replace(node, inputs=inputs)
            if high:
                node = self._with_height(node)
        self.nodes.append(node)
        for name in node.outputs:
            if name in self.high:
                self.shapes[name] = raised(self.before.shapes[name])

    def _turned(self, node: Node, axis: int) -> Node:
        """Return what brings the height to `axis`, or from there: mostly nothing at all."""
        down = self._rank(node.inputs[0]) == 4
        rest = [i for i in range(4) if i != (axis if down else 2)]
        perm = [*rest[:2], axis, rest[2]] if down else [*rest[:axis], 2, *rest[axis:]]
        op, attributes = ("Identity", {}) if axis == 2 else ("Transpose", {"perm": perm})
        return replace(node, op=op, inputs=node.inputs[:1], attributes=attributes)

    def _with_height(self, node: Node) -> Node:
        attributes = dict(node.attributes)
        if node.op in _WINDOWED:
            attributes = raised_window(attributes)
        elif node.op == "Transpose":
            places = [(0, 1, 3)[axis] for axis in attributes.get("perm", (2, 1, 0))]
            attributes["perm"] = [*places[:2], 2, places[2]]
        elif "axis" in attributes:
            attributes["axis"] = (0, 1, 3)[attributes["axis"] % 3]
        elif node.op == "Pad":
            if "pads" in attributes:
                attributes["pads"] = _raised_pads(attributes["pads"])
            else:
                pads = np.array(_raised_pads(self.before.constants[node.inputs[1]].tolist()))
                inputs = (node.inputs[0], self._keep("pads", pads), *node.inputs[2:])
                node = replace(node, inputs=inputs)
        return replace(node, attributes=attributes)

    def _view(self, name: str, *, high: bool) -> str:
        """Return the tensor that holds the values of `name` with height or without."""
        array = self.before.constants.get(name)
        if array is not None and name not in self.constants:
            self.constants[name] = (
                array.reshape(raised(array.shape)) if name in self.high else array
            )
        if (name in self.high) == high or (name not in self.high and self._rank(name) != 3):
            return name
        if (name, high) not in self.views:
            self.views[name, high] = self._second(name, high=high)
        return self.views[name, high]

    def _second(self, name: str, *, high: bool) -> str:
        made = free(self.before, f"{name}/{'high' if high else 'low'}")
        if name in self.before.constants:
            self.constants[made] = self.before.constants[name]
            return made
        op, opset = "Unsqueeze" if high else "Squeeze", self.before.nodes[-1].opset
        node, constants = _reshape(op, made, name, made, [2], opset)
        self.nodes.append(node)
        self.constants.update(constants)
        shape = self.before.shapes[name]
        self.shapes[made] = raised(shape) if high else shape
        return made

    def _keep(self, hint: str, array: np.ndarray[Any, Any]) -> str:
        name = free(self.before, f"pyoip.{hint}{len(self.constants)}")
        self.constants[name] = array
        return name


def _extra(long: Shape, short: Shape) -> int | None:
    """Return an axis of length 1, not the first, by which two shapes differ; rather the third."""
    places = (axis for axis in (2, 1, 3) if long[axis] == 1)
    return next((axis for axis in places if long[:axis] + long[axis + 1 :] == short), None)


def _raised_pads(pads: Sequence[int]) -> list[int]:
    """Return pads at the beginnings and ends of all axes with none for a height."""
    half = len(pads) // 2
    return [*pads[: half - 1], 0, *pads[half - 1 : -1], 0, pads[-1]]
