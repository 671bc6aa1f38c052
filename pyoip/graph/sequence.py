"""The walk from the image to one convolution: bias and batch normalisation folded, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..activation import KINDS, Activation, activation
from ..errors import UnsupportedLayer
from .layers import consumers
from .node import Graph, Node, Pair, Quad, quote
from .ops import ACTIVATIONS, ARITHMETIC, NORMALISATIONS, PASSED, POOLS

Image = tuple[int, int, int]

GRAPH_ENGINE = "engine 'onnx' could take it"

_FLOATS = frozenset(("float32", "float16", "float64", "bfloat16"))


@dataclass(frozen=True)
class Pool:
    """Pooling, ``"max"`` or ``"average"``; padding (of max pooling only) counts as −inf.

    `kernel` and `stride` are (h, w), `pads` is (top, left, bottom, right).
    """

    kind: str
    kernel: Pair
    stride: Pair
    pads: Quad


class Draft:
    """A convolution layer of a stack being put together, in float64."""

    def __init__(self, node: Node, graph: Graph, pads: Quad, shape: Image) -> None:
        window = node.window
        assert window is not None
        self.node = node
        self.weights = np.array(graph.constants[node.inputs[1]], np.float64)
        self.bias = np.zeros(len(self.weights))
        if len(node.inputs) > 2 and node.inputs[2]:
            self.bias += graph.constants[node.inputs[2]]
        self.stride = window.stride
        sides = [own + extra for own, extra in zip(window.pads, pads, strict=True)]
        self.pads: Quad = (sides[0], sides[1], sides[2], sides[3])
        self.activation: Activation | None = None
        self.pool: Pool | None = None
        self.input_shape = shape
        self.output_shape = _image(graph, node)
        self.pooled_shape = self.output_shape


def _image(graph: Graph, node: Node) -> Image:
    _, channels, height, width = graph.shapes[node.outputs[0]]
    return (channels, height, width)


@dataclass
class Walk:
    """The nodes from the image to the target, taken one after the other.

    Attributes
    ----------
    graph : Graph
    label : str
        What messages call the layer, e.g. ``"layer 2 (conv2)"``.
    image_shape : (C, H, W)
    drafts : list of Draft
        The layers so far.
    pads : (top, left, bottom, right)
        Of Pad nodes that wait for the next convolution.
    """

    graph: Graph
    label: str
    image_shape: Image
    drafts: list[Draft] = field(default_factory=list)
    pads: Quad = (0, 0, 0, 0)

    def to(self, target: Node) -> list[Draft]:
        """Return the layers from the image to the convolution `target`, the last of them."""
        for node in self._path(target):
            self._take(node)
        self._follow_target()
        return self.drafts

    def _refuse(self, node: Node, why: str) -> UnsupportedLayer:
        return UnsupportedLayer(f"{self.label}: {node} {why}; {GRAPH_ENGINE}")

    def _path(self, target: Node) -> list[Node]:
        """Return the nodes from the image to the target, which must not join in between."""
        makers = {name: node for node in self.graph.nodes for name in node.outputs if name}
        path, tensor = [target], target.inputs[0]
        while tensor != self.graph.image:
            node = makers.get(tensor)
            if node is None:
                raise self._refuse(path[-1], f"depends on {quote(tensor)}, which is not the image")
            sources = [name for name in node.inputs if name and name not in self.graph.constants]
            if len(sources) != 1:
                raise self._refuse(node, "joins branches; a stack must be sequential")
            path.append(node)
            tensor = sources[0]
        return path[::-1]

    # --- one node of the path ----------------------------------------------------------------

    def _take(self, node: Node) -> None:
        if node.op == "Conv":
            self._conv(node)
        elif node.op in PASSED:
            self._pass(node)
        elif node.op == "Pad":
            self._pad(node)
        elif any(self.pads):
            raise self._refuse(node, "follows a Pad; only a convolution may")
        elif not self.drafts:
            raise self._refuse(node, "changes the image before the first convolution")
        elif node.op in ("Add", "BatchNormalization"):
            self._affine(node)
        elif node.op in ACTIVATIONS:
            self._activate(node)
        elif node.op in POOLS:
            self._pool(node)
        else:
            raise self._refuse(
                node, "is not a convolution, bias, batch normalisation, activation or pooling"
            )

    def _conv(self, node: Node) -> None:
        window = node.window
        if window is None:
            raise self._refuse(node, "is not two-dimensional")
        if window.group != 1:
            raise self._refuse(node, f"has group {window.group}; must be 1")
        if window.dilation != (1, 1):
            raise self._refuse(node, f"has dilations {list(window.dilation)}; must be [1, 1]")
        shape = self.drafts[-1].pooled_shape if self.drafts else self.image_shape
        self.drafts.append(Draft(node, self.graph, self.pads, shape))
        self.pads = (0, 0, 0, 0)

    def _pass(self, node: Node) -> None:
        """Check that a node that stands for nothing really does."""
        if node.op == "Cast":
            for kind in (node.attributes.get("to"), self.graph.image_type):
                if kind not in _FLOATS:
                    raise self._refuse(node, f"casts, and {kind} is no float type")
        mode = self.graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        if mode is not None and bool(np.any(mode)):
            raise self._refuse(node, "drops values at random (training mode)")

    def _pad(self, node: Node) -> None:
        pads: Any = node.attributes.get("pads")
        if len(node.inputs) > 1 and node.inputs[1] in self.graph.constants:
            pads = self.graph.constants[node.inputs[1]].tolist()
        value: Any = node.attributes.get("value", 0.0)
        if len(node.inputs) > 2 and node.inputs[2]:
            value = self.graph.constants[node.inputs[2]].item()
        zero = node.attributes.get("mode", "constant") == "constant" and value == 0
        plain = isinstance(pads, list) and len(pads) == 8 and len(node.inputs) < 4
        if not zero or not plain or any(pads[:2] + pads[4:6]) or min(pads) < 0:
            raise self._refuse(node, "is not zero padding of height and width")
        top, left, bottom, right = self.pads
        self.pads = (top + pads[2], left + pads[3], bottom + pads[6], right + pads[7])

    def _affine(self, node: Node) -> None:
        draft = self.drafts[-1]
        if draft.activation is not None or draft.pool is not None:
            raise self._refuse(node, "comes after the activation or pooling; must come before")
        if node.op == "BatchNormalization":
            self._normalise(node, draft)
            return
        value = _per_map(node, self.graph, len(draft.bias))
        if value is None:
            raise self._refuse(node, "adds something other than one value per map")
        draft.bias += value

    def _normalise(self, node: Node, draft: Draft) -> None:
        attributes = node.attributes
        if attributes.get("training_mode", 0) or attributes.get("spatial", 1) != 1:
            raise self._refuse(node, "normalises by batch or by position; must be for inference")
        constants = [self.graph.constants.get(name) for name in node.inputs[1:5]]
        if any(array is None for array in constants):
            raise self._refuse(node, "has statistics that are not constant")
        gain, shift, mean, variance = (np.array(array, np.float64) for array in constants)
        with np.errstate(all="ignore"):  # the sum is checked when the layer is finished
            gain = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
            draft.weights *= gain[:, None, None, None]
            draft.bias = (draft.bias - mean) * gain + shift

    def _activate(self, node: Node) -> None:
        draft = self.drafts[-1]
        found = _activation(node, self.graph.constants)
        if found is None:
            raise self._refuse(node, f"must be one of {', '.join(KINDS)}")
        if draft.activation is not None:
            raise self._refuse(node, "is a second activation; must be one per convolution")
        if draft.pool is not None and not (draft.pool.kind == "max" and found.rises):
            raise self._refuse(node, "comes after the pooling; must come before")
        draft.activation = found

    def _pool(self, node: Node) -> None:
        draft, window = self.drafts[-1], node.window
        if draft.pool is not None:
            raise self._refuse(node, "is a second pooling; must be one per convolution")
        if window is None or window.dilation != (1, 1):
            raise self._refuse(node, "pools with dilations; must be none")
        kind = "max" if node.op == "MaxPool" else "average"
        if kind == "average" and any(window.pads):
            raise self._refuse(node, f"averages with pads {list(window.pads)}; must be 0")
        draft.pool = Pool(kind, window.kernel, window.stride, window.pads)
        draft.pooled_shape = _image(self.graph, node)

    # --- behind the target -------------------------------------------------------------------

    def _follow_target(self) -> None:
        """Take what follows the target convolution, up to its activation."""
        users = consumers(self.graph)
        node = self._next(users.get(self.drafts[-1].node.outputs[0], []))
        while node is not None and node.op not in ACTIVATIONS:
            if node.op in PASSED:
                self._pass(node)
            elif node.op == "MaxPool":
                return self._behind_pool(node, users)
            elif node.op == "BatchNormalization" or self._adds_constant(node):
                self._affine(node)
            elif node.op in NORMALISATIONS or (node.op in ARITHMETIC and node.op != "Add"):
                raise self._refuse(node, "changes the maps before their activation")
            else:
                return None
            node = self._next(users.get(node.outputs[0], []))
        return None if node is None else self._activate(node)

    def _behind_pool(self, node: Node, users: Mapping[str, list[Node]]) -> None:
        """Take an activation behind max pooling, with which it commutes."""
        behind = [user for user in users.get(node.outputs[0], []) if user.op in ACTIVATIONS]
        found = _activation(behind[0], self.graph.constants) if len(behind) == 1 else None
        if found is not None and found.rises:
            self.drafts[-1].activation = found

    def _adds_constant(self, node: Node) -> bool:
        return node.op == "Add" and any(name in self.graph.constants for name in node.inputs)

    def _next(self, nodes: list[Node]) -> Node | None:
        """Return the one node that decides what the activation is, if any."""
        if len(nodes) == 1:
            return nodes[0]
        if any(node.op in ("Mul", "Div") for node in nodes):
            raise self._refuse(nodes[0], "is part of an activation made of several nodes")
        found = [node for node in nodes if node.op in ACTIVATIONS]
        return found[0] if len(found) == 1 else None


def _activation(node: Node, constants: Mapping[str, Any]) -> Activation | None:
    """Return the activation function of a node, or None if the stacks do not have it."""
    if node.op == "PRelu":
        slopes = np.ravel(constants.get(node.inputs[1], ()))
        same = slopes.size > 0 and bool((slopes == slopes[0]).all())
        return activation("leaky_relu", float(slopes[0])) if same else None
    slope = node.attributes.get("alpha")
    known = KINDS.get(node.op)
    return activation(known, None if slope is None else float(slope)) if known else None


def _per_map(node: Node, graph: Graph, maps: int) -> np.ndarray[Any, Any] | None:
    """Return the constant that an Add adds as (maps,) values, or None if it differs by position."""
    value = next(graph.constants[name] for name in node.inputs if name in graph.constants)
    shape = list(value.shape)
    if node.attributes.get("broadcast") and "axis" in node.attributes:  # before opset 7
        shape += [1] * (4 - int(node.attributes["axis"]) - len(shape))
    shape = [1] * (4 - len(shape)) + shape
    if len(shape) != 4 or [shape[0], *shape[2:]] != [1, 1, 1] or shape[1] not in (1, maps):
        return None
    return np.broadcast_to(np.array(value, np.float64).reshape(-1), (maps,))
