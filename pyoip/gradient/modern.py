"""The part of a network that a layer depends on, in one operator set and in float32."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from ..graph.build import build_graph
from ..graph.node import Graph, Node, fail, plain
from .legacy import keep_resizing, to_seven

OPSET = 18
"""Operator set that is written: the oldest in which everything that is needed can be said."""

_FLOATS = frozenset(("float16", "bfloat16", "float64", "float32"))


def needed(graph: Graph, tensors: Iterable[str]) -> list[Node]:
    """Return the nodes that `tensors` depend on, in order."""
    names, found = set(tensors), []
    for node in reversed(graph.nodes):
        if not names.isdisjoint(node.outputs):
            found.append(node)
            names.update(node.inputs)
    return found[::-1]


def modern(graph: Graph, source: str) -> Graph:
    """Return `graph` with its operators in version `OPSET` or later and all floats as float32.

    Raises
    ------
    ModelError
        The onnx package cannot bring the network to that version.
    """
    if any(node.opset < 7 for node in graph.nodes):
        graph = to_seven(graph)
    model = to_proto(graph)
    if model.opset_import[0].version < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:  # native code, which raises what it likes
            was = model.opset_import[0].version
            problem = f"operator set {was} cannot be converted to {OPSET} ({plain(error)})"
            raise fail(source, problem, f"export it again with opset {OPSET}") from None
        keep_resizing(model, graph)
    again = build_graph(model, source, None, None)
    return replace(again, layout=graph.layout, own_layout=graph.own_layout)


def to_proto(graph: Graph) -> onnx.ModelProto:
    """Return a plain graph as an ONNX model whose outputs are those that nothing uses."""
    used = {name for node in graph.nodes for name in node.inputs}
    ends = [name for node in graph.nodes for name in node.outputs if name and name not in used]
    image = helper.make_tensor_value_info(
        graph.image, _element_type(graph.image_type), graph.shapes[graph.image]
    )
    written = helper.make_graph(
        [_to_node(node) for node in graph.nodes],
        "network",
        [image],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, graph.shapes.get(n)) for n in ends],
        [numpy_helper.from_array(_single(a), name) for name, a in graph.constants.items()],
    )
    opset = max((node.opset for node in graph.nodes), default=OPSET)
    return helper.make_model(written, opset_imports=[helper.make_opsetid("", opset)])


def _single(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(np.float32) if str(array.dtype) in _FLOATS else array


def _element_type(name: str) -> int:
    if name in _FLOATS:
        return TensorProto.FLOAT
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(name)))


def _to_node(node: Node) -> onnx.NodeProto:
    attributes = {k: v for k, v in node.attributes.items() if not (isinstance(v, list) and not v)}
    if node.op == "Cast":
        attributes["to"] = _element_type(attributes["to"])
    return helper.make_node(node.op, node.inputs, node.outputs, name=node.name, **attributes)
