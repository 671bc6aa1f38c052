"""The graph being written: forward nodes first, then those of the gradient, all in one list.

Every tensor of the network has its name in the written graph in `Tape.names`; what is written
besides gets names of its own. Shapes are those of the network as it was loaded, with its own
batch of `Tape.images`; `Tape.batch` tells along which axis the images of a tensor lie, and nothing
that is written depends on how many there are. `Tape.ahead` counts what lies along that axis before
the images, where it is more than one: L in a tensor (L · N, C). `Tape.kept` holds, under the name
of a result, what else its node has written for its gradient. `Tape.silent` names gradients that
are 0 already wherever the value that they are by is not above 0, so that a ReLU need not mask them
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from ..graph.node import Graph, Node, Shape

Operand = str | float | int | Sequence[int] | np.ndarray[Any, Any]

LANES = 8
"""Channels that a runtime computes at once, needed or not, as many as float32 fit into 256 bits."""

_VECTOR = 16
"""Floats in the longest vectors of a processor."""

_SHARED_BYTES = 4096
"""Constants up to this size are written once, however often they are asked for."""


class Tape:
    """Nodes and constants of a graph that grows from `graph`, whose image is called `image`."""

    def __init__(self, graph: Graph, lanes: int = LANES) -> None:
        self.graph, self.lanes = graph, lanes
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self.names: dict[str, str] = {}
        self.silent: set[str] = set()
        self.kept: dict[str, list[list[str]]] = {}
        self.batch: dict[str, int] = {graph.image: graph.layout.index("N")}
        self.ahead: dict[str, int] = {}
        self.images = graph.shapes[graph.image][self.batch[graph.image]]
        self._shared: dict[tuple[str, Shape, bytes], str] = {}
        self._counts: dict[str, int] = {}

    # --- writing -----------------------------------------------------------------------------

    def emit(self, op: str, *inputs: Operand, **attributes: Any) -> str:
        """Write a node of one output and return that tensor's name.

        Inputs are names of written tensors, ``""`` for one left out, or values: a float makes a
        float32 scalar, whole numbers in a list an int64 vector.
        """
        return self.emit_all(op, *inputs, **attributes)[0]

    def emit_all(self, op: str, *inputs: Operand, outputs: int = 1, **attributes: Any) -> list[str]:
        """Write a node of several outputs and return their names."""
        given = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        made = [self._fresh(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, given, made, **attributes))
        return made

    def constant(self, value: Operand, hint: str = "constant") -> str:
        """Return the name of a constant of the written graph."""
        array = _as_array(value)
        key = (
            array.dtype.str,
            array.shape,
            array.tobytes() if array.nbytes <= _SHARED_BYTES else b"",
        )
        if array.nbytes <= _SHARED_BYTES and key in self._shared:
            return self._shared[key]
        name = self._fresh(hint)
        self.constants[name] = array
        if array.nbytes <= _SHARED_BYTES:
            self._shared[key] = name
        return name

    def _fresh(self, hint: str) -> str:
        self._counts[hint] = self._counts.get(hint, 0) + 1
        return f"{hint}_{self._counts[hint]}"

    # --- the network's own tensors -------------------------------------------------------------

    def name(self, tensor: str) -> str:
        """Return what a tensor of the network is called in the written graph."""
        if tensor not in self.names and tensor in self.graph.constants:
            self.names[tensor] = self.constant(self.graph.constants[tensor], f"net.{tensor}")
        return self.names[tensor] if tensor else ""

    def shape(self, tensor: str) -> Shape:
        """Return the shape of a tensor of the network, its own batch included."""
        if tensor in self.graph.constants:
            return tuple(self.graph.constants[tensor].shape)
        return self.graph.shapes[tensor]

    def open_shape(self, tensor: str) -> list[int]:
        """Return the shape of a tensor with -1 for the axis that holds the images."""
        shape = list(self.shape(tensor))
        if tensor in self.batch:
            shape[self.batch[tensor]] = -1
        return shape

    # --- what gradients are made of --------------------------------------------------------------

    def mean(self, value: str, count: int) -> str:
        """Write the means of each `count` values that lie together, one after the other.

        Rows are filled up to whole vectors: runtimes that sum from one aligned address to the
        next then add the same numbers in the same order whatever images lie before a row.
        """
        rows = self.emit("Reshape", value, [-1, count])
        short = -count % _VECTOR
        if short:
            rows = self.emit("Pad", rows, [0, 0, 0, short])
        return self.emit("Mul", self.emit("ReduceSum", rows, [1], keepdims=0), 1.0 / count)

    def like(self, value: str, tensor: str) -> str:
        """Write `value`, of as many numbers as `tensor` has, in the shape of `tensor`."""
        return self.emit("Reshape", value, self.open_shape(tensor))

    def sum_to(self, value: str, tensor: str, of: str) -> str:
        """Sum `value`, shaped like tensor `of`, over the axes along which `tensor` was repeated."""
        return self.sum_from(value, self.shape(of), tensor)

    def sum_from(self, value: str, wide: Shape, tensor: str) -> str:
        """Sum `value`, of shape `wide`, over the axes along which `tensor` was repeated."""
        narrow = self.shape(tensor)
        narrow = (1,) * (len(wide) - len(narrow)) + narrow
        shared = -1
        if tensor in self.batch:
            shared = self.batch[tensor] + len(wide) - len(self.shape(tensor))
        sizes = enumerate(zip(wide, narrow, strict=True))
        axes = [i for i, (a, b) in sizes if a != b and i != shared]
        if axes:
            value = self.emit("ReduceSum", value, axes, keepdims=1)
        return value if len(wide) == len(self.shape(tensor)) else self.like(value, tensor)


class Unfit(Exception):
    """A node that cannot be written as it stands; the text says why."""


class At:
    """A node of the network in its place on a tape, and the gradients that reach it."""

    def __init__(self, tape: Tape, node: Node, grads: Sequence[str | None] = ()) -> None:
        self.tape, self.node, self.grads = tape, node, grads

    @property
    def emit(self) -> Any:
        """`Tape.emit` of the tape."""
        return self.tape.emit

    @property
    def grad(self) -> str:
        """The gradient by the node's first output, as it is called in the written graph."""
        return self.grads[0] or ""

    def has(self, index: int) -> bool:
        """Tell whether an optional input is there."""
        return len(self.node.inputs) > index and self.node.inputs[index] != ""

    def wants(self, index: int) -> bool:
        """Tell whether input `index` depends on the image."""
        return self.has(index) and self.node.inputs[index] in self.tape.batch

    def comes_from(self, op: str, index: int = 0) -> bool:
        """Tell whether a node of this operator writes input `index`."""
        name = self.node.inputs[index]
        return any(node.op == op and name in node.outputs for node in self.tape.graph.nodes)

    def x(self, index: int = 0) -> str:
        """Input `index` in the written graph, ``""`` where it is left out."""
        return self.tape.name(self.node.inputs[index]) if self.has(index) else ""

    def y(self, index: int = 0) -> str:
        """Output `index` in the written graph."""
        return self.tape.name(self.node.outputs[index])

    def shape(self, index: int = 0) -> Shape:
        """Shape of input `index`, the network's own batch included."""
        return self.tape.shape(self.node.inputs[index])

    def out_shape(self, index: int = 0) -> Shape:
        """Shape of output `index`, the network's own batch included."""
        return self.tape.shape(self.node.outputs[index])

    def batch(self, index: int = 0) -> int:
        """Axis of input `index` along which the images lie."""
        return self.tape.batch[self.node.inputs[index]]

    def constant(self, index: int) -> np.ndarray[Any, Any] | None:
        """Value of input `index`, None where it is left out or depends on the image."""
        return self.tape.graph.constants.get(self.node.inputs[index]) if self.has(index) else None

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.node.attributes.get(name, default)

    def axis(self, default: int = 0) -> int:
        """The attribute ``axis``, counted from the front."""
        return int(self.get("axis", default)) % len(self.shape())

    def numbers(self, index: int, default: Sequence[int] = ()) -> list[int]:
        """Whole numbers that input `index` holds, or `default` where it is left out."""
        array = self.constant(index)
        if array is None and self.has(index):
            raise Unfit(f"needs {self.node.inputs[index]!r}, which is not constant")
        return list(default) if array is None else [int(n) for n in array.ravel()]

    def sum_to(self, value: str, index: int) -> str:
        """Sum `value`, shaped like the first output, to the shape of input `index`."""
        return self.tape.sum_to(value, self.node.inputs[index], self.node.outputs[0])

    def like(self, value: str, index: int = 0) -> str:
        """Reshape `value` to the shape of input `index`."""
        return self.tape.like(value, self.node.inputs[index])


def _as_array(value: Operand) -> np.ndarray[Any, Any]:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value) if value.ndim else value
    if isinstance(value, bool | np.bool_):
        return np.array(value)
    if isinstance(value, float | np.floating):
        return np.array(value, np.float32)
    return np.array(value, np.int64)


def to_tensors(constants: Mapping[str, np.ndarray[Any, Any]]) -> list[Any]:
    """Return constants as initializers."""
    return [numpy_helper.from_array(array, name) for name, array in constants.items()]
