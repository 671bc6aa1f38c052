"""From bytes to a checked list of nodes: the file, its operator sets, names and order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from .node import Node, fail, plain, quote

MAX_FILE_BYTES = 2**31 - 1
"""Protocol buffers, and with them ONNX files, end at 2 GiB; larger weights are external data."""

OLDEST_OPSET = 6
_MAIN = ("", "ai.onnx")
_AGAIN = "fetch or export it again"


def read_file(path: Path, source: str) -> bytes:
    """Return the bytes of a model file, refusing what cannot be one before reading it."""
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise fail(source, "not a plain file", "pass the path of an ONNX file")
        if info.st_size == 0:
            raise fail(source, "the file is empty", _AGAIN)
        if info.st_size > MAX_FILE_BYTES:
            raise fail(
                source,
                f"{info.st_size} bytes; an ONNX file has at most {MAX_FILE_BYTES}",
                "store the weights as external data",
            )
        return path.read_bytes()
    except OSError as error:
        reason = plain(error.strerror or type(error).__name__)
        raise fail(source, reason, "pass 'mnist' or the path of an ONNX file") from None


def parse(data: bytes, source: str) -> ModelProto:
    """Return the model in `data`; raise `ModelError` when there is none."""
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RuntimeError, ValueError):
        raise fail(source, "not an ONNX model, or truncated or damaged", _AGAIN) from None
    return model


def serialize(model: ModelProto, source: str) -> bytes:
    """Return the bytes of a model in memory (for its checksum)."""
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except (EncodeError, ValueError) as error:
        raise fail(source, f"cannot be serialized ({plain(error)})", _AGAIN) from None


def check_model(model: ModelProto, source: str) -> dict[str, int]:
    """Check what stands around the graph and return the operator set version of each domain."""
    if not model.HasField("graph") or not model.graph.node:
        raise fail(source, "no graph in it", "pass an ONNX model with convolutions")
    if len(model.graph.sparse_initializer):
        raise fail(source, "sparse weights", "export it again with dense weights")
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain in _MAIN else entry.domain
        if domain in versions and versions[domain] != entry.version:
            raise fail(source, f"two versions of the operator set {quote(domain)}", _AGAIN)
        versions[domain] = entry.version
    if "" not in versions:
        raise fail(source, "no ONNX operator set named", _AGAIN)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= versions[""] <= newest:
        raise fail(
            source,
            f"unknown operator set version {versions['']}; must be {OLDEST_OPSET}..{newest}",
            f"export it again with opset {min(18, newest)}, or update the onnx package",
        )
    return versions


def check_operators(nodes: Iterable[NodeProto], versions: dict[str, int], source: str) -> None:
    """Check that every node is an operator that ONNX defines, with inputs and attributes of it."""
    for node in nodes:
        where = describe(node)
        domain = "" if node.domain in _MAIN else node.domain
        if domain not in versions:
            raise fail(
                source,
                f"{where} is of the unknown domain {quote(node.domain)}",
                "export it again with standard ONNX operators",
            )
        try:
            schema = onnx.defs.get_schema(node.op_type, versions[domain], domain)
        except Exception:  # SchemaError, or a TypeError for a name that is not text
            raise fail(
                source,
                f"{where} is an unknown operator in version {versions[domain]} of the operator "
                f"set {quote(domain or 'ai.onnx')}",
                "export it again with standard ONNX operators",
            ) from None
        _check_schema(node, schema, where, source)
        for graph in subgraphs(node):
            check_operators(graph.node, versions, source)


_STILL_READ = ("GroupNormalization",)
"""Withdrawn as it was in operator set 18, with one scale per group, and yet in models."""


def _check_schema(node: NodeProto, schema: Any, where: str, source: str) -> None:
    if schema.deprecated and node.op_type not in _STILL_READ:
        raise fail(source, f"{where} is withdrawn in this operator set version", _AGAIN)
    for what, held, least, most in (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    ):
        if not least <= held <= most:
            raise fail(source, f"{where} has {held} {what}; must be {least}..{most}", _AGAIN)
    given = {attribute.name: attribute for attribute in node.attribute}
    if len(given) != len(node.attribute):
        raise fail(source, f"{where} names an attribute twice", _AGAIN)
    for name, attribute in given.items():
        known = schema.attributes.get(name)
        if known is None:
            raise fail(source, f"{where} has the unknown attribute {quote(name)}", _AGAIN)
        if attribute.type != int(known.type.value):
            raise fail(source, f"{where} has attribute {quote(name)} of a wrong type", _AGAIN)
    for name, known in schema.attributes.items():
        if known.required and name not in given:
            raise fail(source, f"{where} lacks its attribute {quote(name)}", _AGAIN)


def check_order(graph: GraphProto, source: str) -> None:
    """Check that every tensor is computed once, and before it is used."""
    known = {initializer.name for initializer in graph.initializer}
    if len(known) != len(graph.initializer):
        raise fail(source, "two weight tensors of the same name", _AGAIN)
    known.update(value.name for value in graph.input)
    later = {name for node in graph.node for name in node.output}
    for node in graph.node:
        for name in needs(node):
            if name not in known:
                raise fail(source, f"{describe(node)} {_missing(name, later)}", _AGAIN)
        for name in node.output:
            if name and name in known:
                raise fail(source, f"{describe(node)} computes {quote(name)} again", _AGAIN)
            known.add(name)


def check_names(graph: GraphProto, source: str) -> None:
    """Check that all names are text."""
    names: list[Any] = [graph.name, *(tensor.name for tensor in graph.initializer)]
    names += [value.name for value in graph.input]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
    for name in names:
        if isinstance(name, bytes):  # how protobuf returns what is not UTF-8
            raise fail(source, f"the name {quote(name)} is not valid text", _AGAIN)


def _missing(name: str, later: set[str]) -> str:
    if name in later:
        return f"uses {quote(name)} before it is computed: a cycle, or nodes out of order"
    return f"uses {quote(name)}, which is no weight tensor, input or result of a node"


def needs(node: NodeProto) -> set[str]:
    """Return the tensors that a node uses, those of its sub-graphs included."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        inner = {value.name for value in graph.input} | {t.name for t in graph.initializer}
        for child in graph.node:
            names.update(needs(child) - inner)
            inner.update(child.output)
        names.update({value.name for value in graph.output} - inner)
    return names


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """Return the graphs among the attributes of `node`."""
    found = [a.g for a in node.attribute if a.type == AttributeProto.GRAPH]
    return found + [g for a in node.attribute if a.type == AttributeProto.GRAPHS for g in a.graphs]


def describe(node: NodeProto) -> str:
    """Return how messages call a node."""
    label = node.name or next((name for name in node.output if name), "")
    return f"node {quote(label)} ({quote(node.op_type)[1:-1]})"


def to_node(node: NodeProto, opset: int) -> Node:
    """Return the plain copy of a node, without tensors and sub-graphs."""
    label = node.name or next((name for name in node.output if name), "")
    attributes = {a.name: value for a in node.attribute if (value := _value(a)) is not None}
    if node.op_type == "Cast":
        attributes["to"] = type_name(attributes.get("to", 0))
    return Node(node.op_type, label, tuple(node.input), tuple(node.output), attributes, opset)


def type_name(kind: int) -> str:
    """Return the NumPy name of an element type, ``"unknown"`` where there is none."""
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(kind))
    except (KeyError, ValueError, TypeError):
        return "unknown"


def _value(attribute: AttributeProto) -> Any:
    kind = attribute.type
    if kind == AttributeProto.INT:
        return attribute.i
    if kind == AttributeProto.FLOAT:
        return attribute.f
    if kind == AttributeProto.STRING:
        return attribute.s.decode("utf-8", "replace")
    if kind == AttributeProto.INTS:
        return list(attribute.ints)
    if kind == AttributeProto.FLOATS:
        return list(attribute.floats)
    return None
