"""What a user calls the convolution layers of a graph, and what comes behind each."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain

from .node import Graph, Node
from .ops import ACTIVATIONS, GLOBAL_POOLS, NORMALISATIONS, PASSED, POOLS, SHAPE_ONLY

_WALKED = PASSED | POOLS | GLOBAL_POOLS | ACTIVATIONS | NORMALISATIONS
_WEIGHT_ENDINGS = re.compile(r"([._]weight|[._]W|[./]kernel(:0)?|(/Conv2D)?/ReadVariableOp(:0)?)$")
_SPECIAL = re.compile(r"[:,\s]")


def consumers(graph: Graph) -> dict[str, list[Node]]:
    """Return the nodes that use each tensor's values (not just its shape)."""
    users: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.op not in SHAPE_ONLY:
            for name in dict.fromkeys(node.inputs):
                users[name].append(node)
    return users


def bias_add(node: Node, graph: Graph) -> bool:
    """Tell whether `node` adds a constant."""
    return node.op == "Add" and any(name in graph.constants for name in node.inputs)


def what_follows(conv: Node, graph: Graph, users: dict[str, list[Node]]) -> tuple[str, ...]:
    """Return the operations behind a convolution, up to the next one or to a fork."""
    found: list[str] = []
    tensor = conv.outputs[0]
    while len(users[tensor]) == 1:
        node = users[tensor][0]
        if node.op == "Conv":
            break
        if node.op not in PASSED and not (not found and bias_add(node, graph)):
            found.append(_label(node))
        if node.op not in _WALKED and not bias_add(node, graph):
            break
        tensor = node.outputs[0]
    return tuple(found)


def _label(node: Node) -> str:
    if node.window is not None:
        return f"{node.op} {node.window}"
    if node.op == "LeakyRelu":
        return f"{node.op} {node.attributes.get('alpha', 0.01):g}"
    return node.op


def layer_names(convs: Sequence[Node]) -> list[str]:
    """Return one friendly, unique name per convolution.

    A weight tensor ``conv2.weight`` makes ``conv2``; else the node's name counts, freed from the
    exporter's decoration; else the output tensor's. Bare numbers become ``conv<number>``.
    """
    chosen = [_friendly(node, number) for number, node in enumerate(convs, 1)]
    names: list[str] = []
    for number, node in enumerate(convs, 1):
        first = chosen[number - 1]
        numbered = (f"conv{number}{'_' * n}" for n in range(9999))
        offers = chain((first, node.name), numbered)
        taken = {*names, *chosen[number:]} if first in names else set(names)
        names.append(next(text for text in offers if usable(text) and text not in taken))
    return names


def _friendly(node: Node, number: int) -> str:
    weight = node.inputs[1]
    short = _WEIGHT_ENDINGS.sub("", weight)
    if short != weight and usable(short):
        return short
    for name in (module_path(node.name), node.name, node.outputs[0]):
        if usable(name):
            return name
    return f"conv{number}"


def usable(name: str) -> bool:
    """Tell whether a layer can be called `name`: not empty, no number, no ``:`` or ``,`` in it."""
    return bool(name) and not name.isdigit() and not _SPECIAL.search(name) and name.isprintable()


def module_path(name: str) -> str:
    """Return ``layer1.0.conv1`` for the node name ``/layer1/layer1.0/conv1/Conv``, else ``""``."""
    parts = name.split("/")
    if len(parts) < 3 or parts[0] or not re.fullmatch(r"Conv(_\d+)?", parts[-1]):
        return ""
    path: list[str] = []
    for part in parts[1:-1]:
        if path and part.startswith(path[-1] + "."):
            path.pop()
        path.append(part)
    return ".".join(path)


def layer_aliases(convs: Sequence[Node], names: Sequence[str]) -> list[frozenset[str]]:
    """Return every other name by which a layer can be asked for; none means two layers."""
    own = [name for name in names if re.fullmatch(r"conv\d+", name)]
    counted = all(names[int(name[4:]) - 1 : int(name[4:])] == [name] for name in own)
    offers = []
    for number, (node, name) in enumerate(zip(convs, names, strict=True), 1):
        offer = {node.name, node.outputs[0], module_path(node.name)}
        offer |= {_WEIGHT_ENDINGS.sub("", node.inputs[1])}
        offer |= {text.replace(".", "_") for text in (name, module_path(node.name))}
        if counted:
            offer.add(f"conv{number}")
        offers.append({text for text in offer if text and not text.isdigit()} - {name})
    taken = Counter(text for offer in offers for text in offer) + Counter(names)
    return [frozenset(text for text in offer if taken[text] == 1) for offer in offers]
