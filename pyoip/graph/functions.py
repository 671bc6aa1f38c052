"""Functions that a model defines for itself, replaced by what they stand for."""

from __future__ import annotations

from collections.abc import Iterable

import onnx.inliner
from onnx import FunctionProto, ModelProto, NodeProto

from .file import subgraphs
from .node import fail, plain, quote

MAX_NODES = 100_000
"""Nodes after functions were replaced: functions that call functions can grow without bound."""

Key = tuple[str, str, str]


def inline_functions(model: ModelProto, source: str) -> ModelProto:
    """Return `model` without functions of its own; itself if it has none.

    Raises
    ------
    ModelError
        A function is damaged or calls itself, or all together stand for more than `MAX_NODES`
        nodes.
    """
    if not model.functions:
        return model
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    sizes: dict[Key, int] = {}
    for key in functions:
        _measure(key, functions, sizes, source)
    total = _count(model.graph.node, functions, sizes)
    if total > MAX_NODES:
        problem = f"{total} nodes once its functions are replaced; at most {MAX_NODES}"
        raise fail(source, problem, "export it again without functions")
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # whatever the library raises on a damaged function
        problem = f"its functions cannot be replaced ({plain(error)})"
        raise fail(source, problem, "export it again without functions") from None


def _measure(
    start: Key, functions: dict[Key, FunctionProto], sizes: dict[Key, int], source: str
) -> None:
    """Work out how many nodes a function and those that it calls stand for, without recursion."""
    stack, open_keys = [start], set[Key]()
    while stack:
        key = stack[-1]
        calls = {_key(n) for n in _all_nodes(functions[key].node)} & functions.keys()
        waiting = [call for call in calls if call not in sizes]
        if key in sizes or not waiting:
            sizes.setdefault(key, _count(functions[key].node, functions, sizes))
            open_keys.discard(stack.pop())
            continue
        open_keys.add(key)
        if not open_keys.isdisjoint(waiting):
            problem = f"function {quote(key[1])} calls itself"
            raise fail(source, problem, "export it again without functions")
        stack.append(waiting[0])


def _count(
    nodes: Iterable[NodeProto], functions: dict[Key, FunctionProto], sizes: dict[Key, int]
) -> int:
    return sum(sizes[_key(n)] if _key(n) in functions else 1 for n in _all_nodes(nodes))


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterable[NodeProto]:
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _all_nodes(graph.node)


def _key(node: NodeProto) -> Key:
    return (node.domain, node.op_type, node.overload)
