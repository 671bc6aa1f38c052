"""Max pooling before the functions that never fall, instead of behind them.

The maximum of f(x) over a window is f of the maximum of x where f never falls, and so are both
gradients, whose place in the window is the same: where f is strict by definition, and at a ReLU
because what it silences has none. f is then computed, and differentiated, for the maxima alone,
which are fewer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..graph.affine import affine
from ..graph.node import Graph, Node
from .modern import needed

_RISING = frozenset(("Identity", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh"))
"""Functions of one value that never fall, and have derivative 0 wherever they do not rise."""


def pooled_sooner(graph: Graph, end: str) -> Graph:
    """Return `graph` with the poolings that tensor `end` depends on as early as they can be."""
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    for pool in needed(graph, [end]):
        chain = [*_behind(graph, uses, pool)][::-1] if _shrinks(graph, pool) else []
        if chain:
            graph = _swapped(graph, chain, pool)
    return graph


def _shrinks(graph: Graph, node: Node) -> bool:
    """Tell whether `node` is a pooling alone that leaves fewer values than there were."""
    if node.op != "MaxPool" or node.window is None or any(node.outputs[1:]):
        return False
    before, after = (np.prod(graph.shapes[n]) for n in (node.inputs[0], node.outputs[0]))
    return bool(after < before)


def _behind(graph: Graph, uses: Counter[str], pool: Node) -> Iterator[Node]:
    """Yield the functions behind which `pool` stands and nothing else, the last one first."""
    makers = {name: node for node in graph.nodes for name in node.outputs}
    name = pool.inputs[0]
    while uses[name] == 1 and name in makers and _rises(graph, makers[name]):
        yield makers[name]
        name = next(n for n in makers[name].inputs if n not in graph.constants)


def _rises(graph: Graph, node: Node) -> bool:
    """Tell whether each channel goes through a function that never falls."""
    if node.op in _RISING:
        return True
    if node.op == "LeakyRelu":
        return float(node.attributes.get("alpha", 0.01)) >= 0
    varying = [name for name in node.inputs if name and name not in graph.constants]
    if len(varying) != 1 or any(node.outputs[1:]) or node.op == "Cast":
        return False
    shape = graph.shapes.get(varying[0], ())
    if shape != graph.shapes.get(node.outputs[0]):
        return False
    changed = affine(node, graph, shape[1])
    return changed is not None and bool((changed[0] > 0).all() and np.isfinite(changed).all())


def _swapped(graph: Graph, chain: Sequence[Node], pool: Node) -> Graph:
    """Return `graph` with `pool` in front of `chain`; every tensor but the last changes its shape.

    What stood between x -> f -> a -> g -> b -> pool -> y now reads x -> pool -> a -> f -> b -> g
    -> y.
    """
    first = next(name for name in chain[0].inputs if name not in graph.constants)
    names = [first, *(node.outputs[0] for node in chain), pool.outputs[0]]
    order = [pool, *chain]
    moved = [
        replace(node, inputs=_renamed(node, graph, read), outputs=(made,))
        for node, read, made in zip(order, names, names[1:], strict=False)
    ]
    instead = {id(old): new for old, new in zip([*chain, pool], moved, strict=True)}
    shapes = {**graph.shapes, **dict.fromkeys(names[1:], graph.shapes[pool.outputs[0]])}
    nodes = tuple(instead.get(id(node), node) for node in graph.nodes)
    return replace(graph, nodes=nodes, shapes=shapes)


def _renamed(node: Node, graph: Graph, read: str) -> tuple[str, ...]:
    return tuple(n if not n or n in graph.constants else read for n in node.inputs)
