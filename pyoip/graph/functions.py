"""Functions that a model defines for itself, and branches, replaced by what they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import onnx.inliner
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, helper

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


def chosen_branch(node: NodeProto, constants: Mapping[str, Any]) -> GraphProto | None:
    """Return the branch that an If with a constant condition takes, None for any other node.

    It ends in the results of the If, and its own tensors have names of their own: the branches of
    several nodes may use the same ones.
    """
    if node.op_type != "If" or not node.input or node.input[0] not in constants:
        return None
    taken = "then_branch" if constants[node.input[0]].any() else "else_branch"
    branch = GraphProto()
    branch.CopyFrom(next(a.g for a in node.attribute if a.name == taken))
    inside = {tensor.name for tensor in branch.initializer}
    inside.update(name for inner in branch.node for name in inner.output if name)
    _rename(branch, {name: f"{node.output[0]}/{name}" for name in inside})
    ends = zip(branch.output, node.output, strict=False)
    branch.node.extend(helper.make_node("Identity", [a.name], [b]) for a, b in ends)
    return branch


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Give tensors other names wherever they are used, in graphs inside this one as well."""
    for tensor in (*graph.initializer, *graph.output):
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for held in (node.input, node.output):
            held[:] = [names.get(name, name) for name in held]
        for inner in subgraphs(node):
            _rename(inner, names)
