"""What onnx's converter of operator sets does not know, or leaves undone.

Operator set 6 in terms of 7, where operands came to be broadcast as NumPy does it: the converter
knows this step for some operators only, and leaves weights without their type. And how images
were resized before set 11, where that came to be said by attributes, with other defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from onnx import ModelProto, helper

from ..graph.node import Graph, Node, Shape

_DROPPED = {
    **dict.fromkeys(
        ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"),
        ("broadcast", "axis"),
    ),
    "Gemm": ("broadcast",),
    "BatchNormalization": ("is_test",),
    "Dropout": ("is_test",),
}
"""Attributes that came to nothing; a network is read as it infers, so training is none of ours."""


def to_seven(graph: Graph) -> Graph:
    """Return a graph of operator set 6 in operator set 7."""
    nodes: list[Node] = []
    constants = dict(graph.constants)
    for node in graph.nodes:
        dropped = _DROPPED.get(node.op, ())
        kept = {k: v for k, v in node.attributes.items() if k not in dropped}
        inputs = node.inputs
        trailing = _trailing(graph, node)
        if trailing > 0:
            name = _spread(graph, node, trailing, constants, nodes)
            inputs = (inputs[0], name, *inputs[2:])
        nodes.append(replace(node, inputs=inputs, attributes=kept, opset=7))
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _trailing(graph: Graph, node: Node) -> int:
    """Return how many axes of length 1 the second operand needs behind its own."""
    if "axis" in _DROPPED.get(node.op, ()) and node.attributes.get("broadcast", 0):
        long, short = (len(_shape(graph, name)) for name in node.inputs[:2])
        start = int(node.attributes.get("axis", long - short))
        return long - short - (start + long if start < 0 else start)
    if node.op == "PRelu":  # one slope per channel
        slopes = _shape(graph, node.inputs[1])
        return len(_shape(graph, node.inputs[0])) - 2 if len(slopes) == 1 and slopes != (1,) else 0
    return 0


def _shape(graph: Graph, tensor: str) -> Shape:
    array = graph.constants.get(tensor)
    return graph.shapes.get(tensor, ()) if array is None else tuple(array.shape)


def _spread(
    graph: Graph, node: Node, trailing: int, constants: dict[str, Any], nodes: list[Node]
) -> str:
    """Give the second operand its trailing axes, and return what it then is called."""
    second = node.inputs[1]
    name = f"{node.outputs[0]}/{second}"
    if second in graph.constants:
        array = graph.constants[second]
        constants[name] = array.reshape(array.shape + (1,) * trailing)
        return name
    rank = len(_shape(graph, second))
    axes: Mapping[str, Any] = {"axes": list(range(rank, rank + trailing))}
    nodes.append(Node("Unsqueeze", name, (second,), (name,), axes, 7))
    return name


def keep_resizing(model: ModelProto, graph: Graph) -> None:
    """Say in a converted model how the old operators of `graph` resized.

    Positions were divided by the scale, and the nearest value was the one before, or, as runtimes
    have it where an image shrinks, the one behind.
    """
    old = [node for node in graph.nodes if node.op in ("Upsample", "Resize")]
    new = [proto for proto in model.graph.node if proto.op_type == "Resize"]
    for node, proto in zip(old, new, strict=True):  # in the same order, but under new names
        if node.opset > 10:
            return
        before, after = _shape(graph, node.inputs[0]), _shape(graph, node.outputs[0])
        grown = any(n > m for m, n in zip(before, after, strict=True))
        said = {"coordinate_transformation_mode": "asymmetric"}
        said["nearest_mode"] = "floor" if grown else "ceil"
        kept = [a for a in proto.attribute if a.name not in said]
        del proto.attribute[:]
        proto.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in said.items())])
