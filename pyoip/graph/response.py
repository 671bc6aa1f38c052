"""A convolution's maps before and after their activation function, wherever that stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .layers import consumers
from .node import Graph, Node
from .ops import ACTIVATIONS, ARITHMETIC, NORMALISATIONS, PASSED, QUANTISED, SMOOTH

_FALLING = frozenset(("Gelu", "HardSwish", "Mish", "Swish"))
"""Activation functions that fall somewhere: they do not commute with max pooling."""

_CHAIN = PASSED | NORMALISATIONS | QUANTISED
_COMBINED = ACTIVATIONS | ARITHMETIC | PASSED | SMOOTH


@dataclass(frozen=True, eq=False)
class Response:
    """What a map's objectives are measured on.

    Attributes
    ----------
    conv : Node
    chain : tuple of Node
        From the convolution to `before`, one behind the other: biases, normalisations and the
        like.
    before : str
        The preactivation.
    region : tuple of Node
        The activation function, in order; several nodes where it is spelt out, as x · sigmoid(x)
        may be; none where the convolution's values go elsewhere first.
    source : str
        The tensor that `region` reads. It is `before`, or its maximum over a pooling where the
        function stands behind that, with which it commutes.
    after : str
        What `region` computes; `before` where there is none.
    """

    conv: Node
    chain: tuple[Node, ...]
    before: str
    region: tuple[Node, ...]
    source: str
    after: str


def response(graph: Graph, conv: Node) -> Response:
    """Return where the maps of `conv`, a node of `graph`, respond."""
    users = consumers(graph)
    chain: list[Node] = []
    tensor = conv.outputs[0]

    def found(region: tuple[Node, ...] = (), source: str = "") -> Response:
        if region:
            region = (*region, *_following(graph, users, region[-1].outputs[0], _limits))
        after = region[-1].outputs[0] if region else tensor
        return Response(conv, tuple(chain), tensor, region, source or tensor, after)

    while len(users.get(tensor, [])) == 1:
        node = users[tensor][0]
        if _activates(node, tensor, graph):
            return found((node,))
        if node.op == "MaxPool":
            top = node.outputs[0]
            behind = [n for n in users.get(top, []) if _activates(n, top, graph)]
            risen = len(behind) == 1 and behind[0].op not in _FALLING
            return found((behind[0],), top) if risen else found()
        if not _continues(node, tensor, graph):
            return found()
        chain.append(node)
        tensor = node.outputs[0]
    region = _spelt_out(graph, users, tensor)
    if region:
        return found(region)
    functions = [node for node in users.get(tensor, []) if _activates(node, tensor, graph)]
    return found((functions[0],)) if len(functions) == 1 else found()


def _activates(node: Node, tensor: str, graph: Graph) -> bool:
    if node.op in ("Max", "Min"):
        others = [name for name in node.inputs if name != tensor]
        return bool(others) and all(name in graph.constants for name in others)
    return node.op in ACTIVATIONS and node.inputs[0] == tensor


def _continues(node: Node, tensor: str, graph: Graph) -> bool:
    """Tell whether `node` changes maps before their activation, by constants alone."""
    others = [name for name in node.inputs if name and name != tensor]
    constant = all(name in graph.constants for name in others)
    return constant and (node.op in _CHAIN or (node.op in ARITHMETIC and len(node.inputs) == 2))


def _spelt_out(graph: Graph, users: Mapping[str, list[Node]], tensor: str) -> tuple[Node, ...]:
    """Return the nodes that make one tensor of `tensor`, position by position, or none.

    A factor behind them, as in x · clip(x + 3, 0, 6) / 6, belongs to them.
    """
    inside, nodes = {tensor}, list[Node]()
    for node in graph.nodes:
        varying = [name for name in node.inputs if name and name not in graph.constants]
        if inside.isdisjoint(varying):
            continue
        if node.op not in _COMBINED or not inside.issuperset(varying):
            return ()
        nodes.append(node)
        inside.add(node.outputs[0])
        waiting = [
            name
            for name in inside
            if not users.get(name) or any(user not in nodes for user in users[name])
        ]
        if waiting == [node.outputs[0]]:
            return (*nodes, *_following(graph, users, node.outputs[0], _scales))
    return ()


def _following(
    graph: Graph,
    users: Mapping[str, list[Node]],
    tensor: str,
    belongs: Callable[[Node], bool],
) -> list[Node]:
    """Return the nodes, one behind the other, that do no more than `belongs` to a function."""
    found: list[Node] = []
    while len(users.get(tensor, [])) == 1:
        node = users[tensor][0]
        constants = [graph.constants.get(name) for name in node.inputs if name and name != tensor]
        if not belongs(node) or any(array is None or array.size > 1 for array in constants):
            break
        found.append(node)
        tensor = node.outputs[0]
    return found


def _scales(node: Node) -> bool:
    return node.op in ("Mul", "Div")


def _limits(node: Node) -> bool:
    """Tell whether a function that has been found is cut off, as in min(max(x, 0), 6)."""
    return node.op in ("Clip", "Max", "Min")
