"""The plain graph that the rest of pyoip sees: nodes, windows, and how a model error is worded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import ModelError

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
Shape = tuple[int, ...]

MAX_ELEMENTS = 2**31 - 1
"""Elements of one tensor (weights, or the values of one image at one node)."""


class NodeError(ValueError):
    """Something is wrong with one node; becomes a `ModelError` where file and node are known."""

    def __init__(self, problem: str, remedy: str = "correct the node or export it again") -> None:
        super().__init__(problem, remedy)
        self.problem, self.remedy = problem, remedy


def quote(name: object, limit: int = 80) -> str:
    """Return `name` in quotes on one line, whatever a damaged file put into it."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return repr(text)


def plain(text: object, limit: int = 200) -> str:
    """Return the first line of `text`, shortened: for messages of other libraries."""
    lines = str(text).strip().splitlines() or [""]
    first = " ".join(lines[0].split())
    return first if len(first) <= limit else first[: limit - 1] + "…"


def fail(source: str, problem: str, remedy: str) -> ModelError:
    """Return the one-line error for `source`, a path or what stands for one."""
    where = source if source.isprintable() else quote(source, 200)
    return ModelError(f"{where}: {problem}; {remedy}")


@dataclass(frozen=True)
class Window:
    """How a convolution or pooling slides, with every default and `auto_pad` resolved.

    Attributes
    ----------
    kernel, stride, dilation : (h, w)
    pads : (top, left, bottom, right)
        What the window really reaches: ``ceil_mode`` is expressed as larger bottom and right pads.
    group : int
        Groups of a convolution, 1 for pooling.
    """

    kernel: Pair
    stride: Pair
    pads: Quad
    dilation: Pair
    group: int = 1

    def output(self, size: Pair) -> Pair:
        """Return the output (h, w) for an input of `size` (h, w)."""
        return (self._along(0, size[0]), self._along(1, size[1]))

    def _along(self, axis: int, size: int) -> int:
        padded = size + self.pads[axis] + self.pads[axis + 2]
        return (padded - self.reach(axis)) // self.stride[axis] + 1

    def reach(self, axis: int) -> int:
        """Return the extent of the dilated kernel along `axis` (0 h, 1 w)."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1

    def __str__(self) -> str:
        text = f"{self.kernel[0]}x{self.kernel[1]}/"
        same = self.stride[0] == self.stride[1]
        text += str(self.stride[0]) if same else f"{self.stride[0]}x{self.stride[1]}"
        if any(self.pads):
            pads = self.pads if len(set(self.pads)) > 1 else self.pads[:1]
            text += " pad " + ",".join(map(str, pads))
        return text


@dataclass(frozen=True, eq=False)
class Node:
    """One operation of the graph, free of ONNX types.

    Attributes
    ----------
    op : str
        Operator, e.g. ``"Conv"``.
    name : str
        Name for messages: the node's own, else its first output tensor's.
    inputs, outputs : tuple of str
        Tensor names; ``""`` where an optional one is left out.
    attributes : mapping
        Numbers, strings and lists only (no tensors, no sub-graphs).
    opset : int
        Version of the operator set the node is to be read with.
    window : Window or None
        Of convolutions and poolings that pyoip understands.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 13
    window: Window | None = None

    def with_window(self, window: Window | None) -> Node:
        """Return the node with its window resolved."""
        return replace(self, window=window)

    def __str__(self) -> str:
        return f"node {quote(self.name)} ({self.op})"


@dataclass(frozen=True, eq=False)
class Graph:
    """What `pyoip.network.Network` keeps of a model: the part that its convolutions depend on.

    Attributes
    ----------
    nodes : tuple of Node
        In an order in which every tensor is computed before it is used.
    constants : dict
        Tensors that depend on no input (weights, biases, folded shape arithmetic).
    shapes : dict
        Shapes of the other tensors, batch first, where known.
    image : str
        The tensor that the image goes into.
    layout : str
        Meaning of the axes of `image`: ``"NCHW"``, or ``"NHWC"`` and the like.
    own_layout : str
        The same of the model's own input, which may lack axes of length 1: ``"NCW"``, ``"NWC"``.
    image_type : str
        Element type of `image`, e.g. ``"float32"``.
    """

    nodes: tuple[Node, ...]
    constants: dict[str, Any]
    shapes: dict[str, Shape]
    image: str
    layout: str
    own_layout: str
    image_type: str
