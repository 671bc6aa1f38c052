"""From a parsed model to the plain `Graph`: what the convolutions depend on, and the image.

The image is that of the first convolution, whatever lies between: its axes are followed to what
they mean there. One without height, (N, C, L) or (N, L, C), is a signal; see `signal`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto

from ..errors import InvalidArgument, ModelError
from .file import (
    check_model,
    check_names,
    check_operators,
    check_order,
    needs,
    subgraphs,
    type_name,
)
from .functions import chosen_branch, inline_functions
from .node import MAX_ELEMENTS, Graph, Node, Shape, fail, quote
from .ops import AFTER_CONV, POINTWISE
from .signal import WHOLE, as_image
from .tensor import TensorReader, name_of
from .values import Values


def build_graph(
    model: ModelProto, source: str, folder: Path | None, input_shape: Shape | None
) -> Graph:
    """Return the checked plain graph of `model`.

    Parameters
    ----------
    model : onnx.ModelProto
        As parsed; it is not changed.
    source : str
        What messages call the model.
    folder : Path or None
        Where external data may lie; None when the model has no file.
    input_shape : (C, H, W), (C, L) or None
        Fills in symbolic dimensions of the image.
    """
    versions = check_model(model, source)
    model = inline_functions(model, source)
    check_names(model.graph, source)
    check_operators(model.graph.node, versions, source)
    check_order(model.graph, source)
    values = _read_weights(model, source, folder, versions)
    wanted = _wanted(model.graph.node, source)
    image = _image_input(model, values.constants, wanted, source)
    for proto in wanted:
        if proto.op_type == "Constant":  # axes, for the layout
            values.visit(proto)
    layout = _layout(wanted, image, values.constants, source)
    values.shapes[image.name] = _image_shape(image, layout, input_shape, source)
    nodes = [node for proto in wanted for node in _visited(proto, values, source)]
    return as_image(_tidy(nodes, values, image, layout))


def _read_weights(
    model: ModelProto, source: str, folder: Path | None, versions: dict[str, int]
) -> Values:
    values = Values(source, versions, TensorReader(source, folder))
    values.reader.measure(model.graph.initializer)
    for tensor in model.graph.initializer:
        array = values.reader.read(tensor, name_of(tensor))
        if array is not None:
            values.constants[tensor.name] = array
    return values


def _visited(proto: NodeProto, values: Values, source: str) -> list[Node]:
    """Return a node, or in place of an If that always goes one way what it does there."""
    branch = chosen_branch(proto, values.constants)
    if branch is None:
        return [values.visit(proto)]
    values.reader.measure(branch.initializer)
    for tensor in branch.initializer:
        array = values.reader.read(tensor, name_of(tensor))
        if array is not None:
            values.constants[tensor.name] = array
    return [node for inner in branch.node for node in _visited(inner, values, source)]


def _wanted(nodes: Sequence[NodeProto], source: str) -> list[NodeProto]:
    """Return the nodes that convolutions depend on, and those just behind them, in order."""
    convs = [node for node in nodes if node.op_type == "Conv"]
    if not convs:
        inside = any(g.node for node in nodes for g in subgraphs(node))
        where = " outside sub-graphs (If, Loop, Scan)" if inside else ""
        raise fail(source, f"no convolution layer{where}", "pass a convolutional network")
    behind = {name for node in convs for name in node.output}
    convolved = frozenset(behind)
    names = {name for node in convs for name in needs(node)} | behind
    for node in nodes:
        squeezed = node.op_type == "Squeeze" and not convolved.isdisjoint(node.input)
        if (squeezed or node.op_type in AFTER_CONV) and not behind.isdisjoint(node.input):
            behind.update(node.output)
            names.update(node.output)
    wanted = []
    for node in reversed(nodes):
        if not names.isdisjoint(node.output):
            wanted.append(node)
            names.update(needs(node))
    return wanted[::-1]


def _image_input(
    model: ModelProto,
    weights: Collection[str],
    wanted: Sequence[NodeProto],
    source: str,
) -> ValueInfoProto:
    """Return the one graph input that an image goes into."""
    used = {name for node in wanted for name in needs(node)}
    used -= {name for node in wanted if node.op_type == "Conv" for name in node.input[1:]}
    inputs = [v for v in model.graph.input if v.name not in weights and v.name in used]
    images = next((found for rank in _RANKS if (found := _of_rank(inputs, rank))), [])
    if not images and len(inputs) == 1 and not inputs[0].type.tensor_type.HasField("shape"):
        images = inputs
    if len(images) == 1:
        return images[0]
    listed = ", ".join(quote(v.name) for v in (images or inputs)) or "none"
    if images:
        raise fail(
            source,
            f"{len(images)} inputs could be the image: {listed}",
            "export the network with one image input",
        )
    raise _no_image(source, f"its convolutions depend on the inputs {listed}")


_RANKS = (4, 3, 2)


def _of_rank(inputs: Sequence[ValueInfoProto], rank: int) -> list[ValueInfoProto]:
    return [v for v in inputs if len(v.type.tensor_type.shape.dim) == rank]


def _no_image(source: str, why: str) -> ModelError:
    takes = "pass a network with one input of shape (N, C, H, W), or (N, C, L) for signals"
    return fail(source, f"no image input: {why}", takes)


def _layout(
    wanted: Sequence[NodeProto],
    image: ValueInfoProto,
    constants: Mapping[str, Any],
    source: str,
) -> str:
    """Return what the axes of the image mean to the first convolution behind it."""
    dims = [d.dim_value for d in image.type.tensor_type.shape.dim]
    rank = len(dims) or 4
    orders: dict[str, tuple[int | None, ...]] = {image.name: tuple(range(rank))}
    for node in wanted:
        order = next((orders[name] for name in node.input if name in orders), None)
        if order is None or not node.output:
            continue
        if node.op_type == "Conv":
            return _named(order, rank) or _usual(dims, source)
        behind = _order_behind(node, order, constants)
        if behind is not None:
            orders[node.output[0]] = behind
    return _usual(dims, source)


def _order_behind(
    node: NodeProto, order: tuple[int | None, ...], constants: Mapping[str, Any]
) -> tuple[int | None, ...] | None:
    """Return which axes of the image lie where behind a node, None for one that is put in."""
    numbers = {a.name: [int(i) for i in a.ints] for a in node.attribute}
    if node.op_type == "Transpose":
        perm = numbers.get("perm", [])
        return tuple(order[i] for i in perm) if sorted(perm) == [*range(len(order))] else None
    if node.op_type == "Unsqueeze":
        given = constants.get(node.input[1], np.zeros(0)) if len(node.input) > 1 else None
        axes = numbers.get("axes", []) if given is None else given.ravel()[:4].tolist()
        long, rest = len(order) + len(axes), iter(order)
        places = {int(axis) % long for axis in axes}
        return tuple(None if i in places else next(rest, None) for i in range(long))
    return order if node.op_type in POINTWISE or node.op_type == "Pad" else None


def _named(order: tuple[int | None, ...], rank: int) -> str:
    """Return the layout of an image of `rank` axes that a convolution sees in `order`, or ""."""
    names = dict(zip(order, {3: "NCW", 4: "NCHW"}.get(len(order), ""), strict=False))
    layout = "".join(names.get(axis, "?") for axis in range(rank))
    layout = layout if "W" in layout else layout.replace("H", "W")
    known = layout in WHOLE or sorted(layout) == sorted("NCHW")
    return layout if known and layout[0] == "N" else ""


def _usual(dims: Sequence[int], source: str) -> str:
    """Return the layout where none can be followed."""
    if len(dims) in (2, 3):
        if dims[0] > 1:
            raise _no_image(source, f"an input of shape {list(dims)} has no axis for a batch")
        return "NCW" if len(dims) == 3 else "NW"
    one_channel_last = len(dims) == 4 and dims[3] in (1, 3) and dims[1] not in (1, 3)
    return "NHWC" if one_channel_last else "NCHW"


def _image_shape(
    image: ValueInfoProto, layout: str, given: Shape | None, source: str
) -> tuple[int, ...]:
    """Return the full shape of the image tensor, batch included, `given` filled in."""
    declared = image.type.tensor_type.shape.dim
    fixed = [d.dim_value if d.HasField("dim_value") else None for d in declared]
    name, asked = quote(image.name), _asked(layout, given)
    shape = []
    for letter, size in zip(layout, fixed or [None] * 4, strict=True):
        if letter == "N":  # some exporters write 0 or -1 for an open batch
            shape.append(max(size or 1, 1))
            continue
        word = "length" if letter == "W" and "H" not in layout else _WORDS[letter]
        if size is not None and size < 1:
            problem = f"input {name} has the {word} {size}; must be at least 1"
            raise fail(source, problem, "export it again")
        if size is None and asked[letter] is None:
            sizes = "(C, H, W)" if "H" in layout else "(C, L)"
            raise fail(source, f"input {name} leaves its {word} open", f"pass input_shape={sizes}")
        if None not in (size, asked[letter]) and size != asked[letter]:
            raise InvalidArgument(f"input_shape={given}: the {word} of {name} is fixed to {size}")
        shape.append(asked[letter] or size or 0)
    if math.prod(shape) > MAX_ELEMENTS:
        problem = f"input {name} of shape {shape}; must have at most {MAX_ELEMENTS} values"
        raise fail(source, problem, "export it again, or pass a smaller input_shape")
    return tuple(shape)


_WORDS = {"C": "number of channels", "H": "height", "W": "width"}


def _asked(layout: str, given: Shape | None) -> dict[str, int | None]:
    """Return the sizes asked for, by letter; a signal's may come without its height of 1."""
    if given is None:
        return dict.fromkeys("CHW")
    signal = "H" not in layout
    if len(given) == 2 and not signal:
        raise InvalidArgument(
            f"input_shape={given}: must be (C, H, W), for the network takes images"
        )
    sizes = dict(zip("CW" if len(given) == 2 else "CHW", given, strict=True))
    for letter, size in sizes.items():
        if letter not in layout and size != 1:
            word = "height" if letter == "H" else "number of channels"
            raise InvalidArgument(f"input_shape={given}: the {word} must be 1 for this network")
    return dict(sizes)


def _tidy(nodes: list[Node], values: Values, image: ValueInfoProto, layout: str) -> Graph:
    """Drop folded nodes and constants that nothing uses any more."""
    kept = [n for n in nodes if any(name and name not in values.constants for name in n.outputs)]
    used = {name for node in kept for name in node.inputs}
    constants = {name: a for name, a in values.constants.items() if name in used}
    kind = type_name(image.type.tensor_type.elem_type)
    return Graph(tuple(kept), constants, values.shapes, image.name, layout, layout, kind)
