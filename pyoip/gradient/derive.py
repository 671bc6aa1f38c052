"""Forward through a network for any number of images, and back from its maps to the image."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ..errors import UnsupportedOperator
from ..graph.node import Graph, Node
from . import rules  # noqa: F401 - fills the table
from .batch import ahead
from .operators import OPERATORS, copied
from .tape import At, Tape, Unfit


def write_forward(tape: Tape, nodes: Sequence[Node], label: str) -> None:
    """Write `nodes`, for any number of images.

    Raises
    ------
    UnsupportedOperator
        A node has no gradient here or mixes the images of a batch; the message names the
        operator, the node, and its path from the image to the layer `label`.
    """
    for node in nodes:
        at = At(tape, node)
        for name in node.inputs:
            if name and name not in tape.names and name not in tape.graph.constants:
                raise refused(tape.graph, node, label, f"depends on {name!r}, not on the image")
        if not any(at.wants(i) for i in range(len(node.inputs))):
            tape.names.update(zip(node.outputs, copied(at), strict=True))
            continue
        known = OPERATORS.get(node.op)
        if known is None:
            raise refused(tape.graph, node, label, "is an operator without a gradient here")
        if any(name and name not in tape.graph.shapes for name in node.outputs[:1]):
            raise refused(tape.graph, node, label, "has a result whose shape cannot be told")
        try:
            inside = ahead(at)
            axis = known.batch(at)
            made = known.forward(at)
        except Unfit as problem:
            raise refused(tape.graph, node, label, str(problem)) from None
        if axis is not None:
            tape.batch.update({name: axis for name in node.outputs if name})
            for name in node.outputs:
                tape.ahead.setdefault(name, inside)
        tape.names.update(zip(node.outputs, made, strict=False))


def write_backward(
    tape: Tape, nodes: Sequence[Node], seeds: dict[str, str], to: str, label: str
) -> str:
    """Write the gradient by tensor `to`, given those by some tensors behind it.

    Parameters
    ----------
    tape : Tape
        On which the nodes have been written forward.
    nodes : sequence of Node
        In their order.
    seeds : dict
        Tensor of the network -> its gradient in the written graph.
    to : str
    label : str
        What messages call the layer.

    Returns
    -------
    str
        Name of the gradient.

    Raises
    ------
    UnsupportedOperator
        Every way to `to` leads through a node that lets no gradient through; the message names
        one.
    """
    dams = []
    reached = {tensor: [gradient] for tensor, gradient in seeds.items()}
    for node in reversed(nodes):
        if not any(name in reached for name in node.outputs):
            continue
        at = At(tape, node, [_sum(tape, reached.pop(name, [])) for name in node.outputs])
        passed = [
            (node.inputs[index], gradient)
            for index, gradient in enumerate(OPERATORS[node.op].gradient(at))
            if gradient is not None and at.wants(index)
        ]
        for name, gradient in passed:
            reached.setdefault(name, []).append(gradient)
        if not passed:
            dams.append(node)
    found = _sum(tape, reached.get(to, []))
    if found is None:
        raise refused(tape.graph, dams[-1], label, "lets no gradient through")
    return found


def _sum(tape: Tape, parts: Sequence[str]) -> str | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    return tape.emit("Sum", *parts)


def refused(graph: Graph, node: Node, label: str, why: str) -> UnsupportedOperator:
    """Return the error that says which node, why, and how the image gets from it to the layer."""
    way = " -> ".join(f"{n.op} {n.name!r}" for n in _path(graph, node))
    return UnsupportedOperator(
        f"{label}: {node} {why}; it lies on the path image -> {way} -> the layer"
    )


def _path(graph: Graph, middle: Node) -> list[Node]:
    """Return the shortest way from the image through `middle` to a convolution, shortened."""
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    before: dict[int, Node | None] = {id(middle): None}
    queue, way = deque([middle]), [middle]
    while queue:
        node = queue.popleft()
        if graph.image in node.inputs:
            way = []
            step: Node | None = node
            while step is not None:
                way.append(step)
                step = before[id(step)]
            break
        for name in node.inputs:
            maker = makers.get(name)
            if maker is not None and id(maker) not in before:
                before[id(maker)] = node
                queue.append(maker)
    return way if len(way) <= 4 else [*way[:2], *way[-2:]]
