"""The walk from the image to one convolution: bias and batch normalisation folded, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..activation import KINDS, Activation, activation
from ..errors import UnsupportedLayer
from .affine import Values, affine
from .layers import bias_add
from .node import Graph, Node, Pair, Quad, quote
from .ops import ACTIVATIONS, PASSED, POOLS
from .response import response

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
    gain, shift : float64 (C,) or None
        What the image is multiplied by and shifted by before the first convolution.
    """

    graph: Graph
    label: str
    image_shape: Image
    drafts: list[Draft] = field(default_factory=list)
    pads: Quad = (0, 0, 0, 0)
    gain: Values | None = None
    shift: Values | None = None

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
        elif not self.drafts and affine(node, self.graph, self.image_shape[0]) is not None:
            self._rescale(node)
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
        draft = Draft(node, self.graph, self.pads, shape)
        self.drafts.append(draft)
        self.pads = (0, 0, 0, 0)
        if len(self.drafts) == 1 and self.gain is not None and self.shift is not None:
            if self.shift.any() and any(draft.pads):
                raise self._refuse(
                    node, "pads an image that is shifted before, by other than zeros"
                )
            draft.bias += np.einsum("mchw,c->m", draft.weights, self.shift)
            draft.weights *= self.gain[:, None, None]

    def _rescale(self, node: Node) -> None:
        """Take a multiplication or shift of the image, one value per channel."""
        gain, shift = affine(node, self.graph, self.image_shape[0]) or (1.0, 0.0)
        ones = np.ones(self.image_shape[0])
        self.gain = gain * (ones if self.gain is None else self.gain)
        self.shift = gain * (0 * ones if self.shift is None else self.shift) + shift

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
        found = affine(node, self.graph, len(draft.bias))
        if found is None and node.op == "BatchNormalization":
            raise self._refuse(node, "normalises by batch or by position; must be for inference")
        if found is None:
            raise self._refuse(node, "adds something other than one value per map")
        gain, shift = found
        with np.errstate(all="ignore"):  # the sum is checked when the layer is finished
            draft.weights *= gain[:, None, None, None]
            draft.bias = draft.bias * gain + shift

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
        reply = response(self.graph, self.drafts[-1].node)
        for node in reply.chain:
            if node.op in PASSED:
                self._pass(node)
            elif node.op == "BatchNormalization" or bias_add(node, self.graph):
                self._affine(node)
            else:
                raise self._refuse(node, "changes the maps before their activation")
        if len(reply.region) > 1:
            raise self._refuse(reply.region[0], "is part of an activation made of several nodes")
        for node in reply.region:
            self._activate(node)


def _activation(node: Node, constants: Mapping[str, Any]) -> Activation | None:
    """Return the activation function of a node, or None if the stacks do not have it."""
    if node.op == "PRelu":
        slopes = np.ravel(constants.get(node.inputs[1], ()))
        same = slopes.size > 0 and bool((slopes == slopes[0]).all())
        return activation("leaky_relu", float(slopes[0])) if same else None
    slope = node.attributes.get("alpha")
    known = KINDS.get(node.op)
    return activation(known, None if slope is None else float(slope)) if known else None
