"""What each tensor of a graph is: a constant, folded from others, or a result of a known shape."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

from .file import to_node
from .node import MAX_ELEMENTS, Node, NodeError, Shape, Window, fail, plain, quote
from .ops import FOLDED, POOLS, PRODUCTS, QUANTISED, SHAPE_ONLY
from .shapes import result_shapes
from .signal import raised, raised_window
from .tensor import TensorReader
from .window import conv_shape, conv_window, pool_slide, pool_window

MAX_FOLDED = 2**27
"""Values of all computed constants together."""


@dataclass
class Values:
    """Constants and shapes of the tensors of one graph, filled in node by node."""

    source: str
    versions: Mapping[str, int]
    reader: TensorReader
    constants: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    blamed: dict[str, str] = field(default_factory=dict)
    folded: int = 0

    def shape(self, name: str) -> Shape | None:
        """Return the shape of a tensor, or None when it is not known."""
        if name in self.constants:
            return tuple(self.constants[name].shape)
        return self.shapes.get(name)

    def visit(self, proto: NodeProto) -> Node:
        """Work out the results of a node and return its plain copy, the window resolved."""
        node = to_node(proto, self.versions[""])
        try:
            if self._fold(node, proto):
                return node
            if node.op == "Conv" or node.op in POOLS:
                window = self._conv(node) if node.op == "Conv" else self._pool(node)
                if window is not None:
                    return node.with_window(window)
            else:
                self._infer(node)
        except NodeError as error:
            raise fail(self.source, f"{node}: {error.problem}", error.remedy) from None
        self._blame(node)
        return node

    def _blame(self, node: Node) -> None:
        """Remember which node is the reason that shapes behind it are not known."""
        reason = next((self.blamed[name] for name in node.inputs if name in self.blamed), str(node))
        for name in node.outputs:
            if name not in self.shapes:
                self.blamed[name] = reason

    # --- constants ---------------------------------------------------------------------------

    def _fold(self, node: Node, proto: NodeProto) -> bool:
        """Compute the node if it depends on no input; return whether it was computed."""
        if node.op == "Constant":
            value = self._constant(node, proto)
            if value is not None:
                self._keep(node, [value])
            return value is not None
        shape = self.shape(node.inputs[0]) if node.inputs else None
        if node.op in SHAPE_ONLY and shape is not None:
            part = shape[node.attributes.get("start", 0) : node.attributes.get("end")]
            self._keep(node, [np.array(part if node.op == "Shape" else math.prod(shape), np.int64)])
            return True
        given = [name for name in node.inputs if name]
        if node.op not in FOLDED or any(name not in self.constants for name in given):
            return False
        if node.op == "Identity":
            self._keep(node, [self.constants[given[0]]])
            return True
        self._infer(node, least=0)
        if any(name not in self.shapes for name in node.outputs if name):
            return False
        self.folded += self._effort(node, given)
        if self.folded > MAX_FOLDED:
            raise NodeError(f"constants of more than {MAX_FOLDED} values in all are to be computed")
        self._keep(node, self._compute(node, proto, given))
        return True

    def _effort(self, node: Node, given: list[str]) -> int:
        """Count the values to be computed, for a product at least what it multiplies."""
        results = sum(math.prod(self.shapes[name]) for name in node.outputs if name)
        if node.op not in PRODUCTS:
            return results
        # (m, k) by (k, n): the root of mk · kn · mn is mkn.
        return math.isqrt(math.prod([results, *(self.constants[n].size for n in given[:2])]))

    def _constant(self, node: Node, proto: NodeProto) -> np.ndarray[Any, Any] | None:
        for attribute in proto.attribute:
            if attribute.name == "value":
                return self.reader.read(attribute.t, f"{node}: its tensor")
            if attribute.name in ("value_float", "value_floats"):
                return np.array(helper.get_attribute_value(attribute), np.float32)
            if attribute.name in ("value_int", "value_ints"):
                return np.array(helper.get_attribute_value(attribute), np.int64)
        return None

    def _compute(
        self, node: Node, proto: NodeProto, given: list[str]
    ) -> list[np.ndarray[Any, Any]]:
        from onnx.reference import ReferenceEvaluator  # only few models need it

        feeds = {name: self.constants[name] for name in given}
        opset = self.versions[""]
        if node.op in QUANTISED:  # which the library knows as of set 19; no meaning has changed
            opset = max(opset, 19)
        model = _single(proto, feeds, opset)
        try:
            with np.errstate(all="ignore"):
                results = ReferenceEvaluator(model).run(None, feeds)
        except Exception as error:  # whatever the library raises on a damaged node
            raise NodeError(f"its constant cannot be computed ({plain(error)})") from None
        return [np.asarray(result) for result in results]

    def _keep(self, node: Node, arrays: Iterable[np.ndarray[Any, Any]]) -> None:
        for name, array in zip(node.outputs, arrays, strict=False):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise NodeError("its constant is NaN or infinite", "train or export it again")
            self.constants[name] = array
            self.shapes.pop(name, None)

    # --- shapes ------------------------------------------------------------------------------

    def _conv(self, node: Node) -> Window | None:
        """Apply our own arithmetic to a convolution; return None along three axes or more."""
        data = self._data_shape(node)
        weights = self.shape(node.inputs[1])
        if node.inputs[1] not in self.constants or weights is None:
            raise NodeError("its weights are not in the model", "save the model with its weights")
        if len(data) == len(weights) and len(data) in (3, 5):
            self._set(node.outputs[0], conv_shape(node.attributes, data, weights))
            self._check_bias(node, weights[0])
            if len(data) == 5:
                return None
            return conv_window(raised_window(node.attributes), raised(data), raised(weights))
        window = conv_window(node.attributes, data, weights)
        self._check_bias(node, weights[0])
        self._slide(node, data, weights[0], window)
        return window

    def _pool(self, node: Node) -> Window | None:
        data = self._data_shape(node)
        if len(data) in (3, 5):
            out = pool_slide(node.attributes, data).output(data[2:])
            for name in node.outputs:
                self._set(name, (*data[:2], *out))
            if len(data) == 5:
                return None
            return pool_window(raised_window(node.attributes), raised(data))
        window = pool_window(node.attributes, data)
        self._slide(node, data, data[1], window)
        return window

    def _data_shape(self, node: Node) -> Shape:
        shape = self.shape(node.inputs[0])
        if shape is None:
            reason = self.blamed.get(node.inputs[0], f"input {quote(node.inputs[0])}")
            raise NodeError(
                f"the shape of its input is not known, because of {reason}",
                "export the network without that node, or with fixed shapes",
            )
        return shape

    def _slide(self, node: Node, data: Shape, maps: int, window: Window) -> None:
        result = (data[0], maps, *window.output((data[2], data[3])))
        for name in node.outputs:
            self._set(name, result)

    def _check_bias(self, node: Node, maps: int) -> None:
        if len(node.inputs) > 2 and node.inputs[2]:
            shape = self.shape(node.inputs[2])
            if shape != (maps,):
                raise NodeError(f"bias of shape {list(shape or ())}; must be [{maps}]")

    def _set(self, name: str, shape: Shape, least: int = 1) -> None:
        if not name:
            return
        if min(shape, default=1) < least or math.prod(shape) > MAX_ELEMENTS:
            raise NodeError(
                f"a result of shape {list(shape)}; every dimension must be at least 1 "
                f"and all together at most {MAX_ELEMENTS}",
                "use another input_shape or correct the node",
            )
        self.shapes[name] = shape

    def _infer(self, node: Node, least: int = 1) -> None:
        """Work out the shapes of the results; leave unknown what cannot be told."""
        shapes = [self.shape(name) if name else () for name in node.inputs]
        known = [shape for shape in shapes if shape is not None]
        if len(known) < len(shapes):
            return
        results = result_shapes(node, known, self.constants)
        for name, shape in zip(node.outputs, results, strict=False):
            self._set(name, shape, least)


def _single(proto: NodeProto, given: Mapping[str, Any], opset: int) -> onnx.ModelProto:
    """Return a model of one node, with inputs like the arrays `given`."""
    graph = onnx.GraphProto(name="single")
    graph.node.add().CopyFrom(proto)
    graph.node[0].domain = ""
    for name, array in given.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in proto.output if name)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
