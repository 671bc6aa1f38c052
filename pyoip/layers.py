"""A network's convolution layers: what is known of each, and the table of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .graph.field import Field, receptive_fields
from .graph.layers import consumers, layer_aliases, layer_names, what_follows
from .graph.node import Graph, Pair


@dataclass(frozen=True)
class Layer:
    """One convolution layer.

    Attributes
    ----------
    number : int
        From 1 along the graph.
    name : str
        Friendly name: a weight tensor ``conv2.weight`` makes ``conv2``; else the node's name.
    maps : int
        Output channels; maps are counted from 0.
    output_shape : (maps, h, w)
        Of the convolution, before any pooling; maps first for every model.
    receptive_field : (h, w)
        Pixels that one position sees, not cut off at the border of the image. The image's size
        where an operation before the layer mixes all positions or cannot be followed.
    stride : (h, w)
        Pixels between neighbouring positions.
    follows : tuple of str
        Operations behind the convolution up to the next one, e.g. ``("Relu", "MaxPool 2x2/2")``.
    aliases : frozenset of str
        Other names by which `Network.layer` finds it.
    node : int
        Index of its node in `Network.nodes`.
    """

    number: int
    name: str
    maps: int
    output_shape: tuple[int, int, int]
    receptive_field: Pair
    stride: Pair
    follows: tuple[str, ...]
    aliases: frozenset[str] = field(repr=False)
    node: int = field(repr=False, compare=False)


def layers_of(graph: Graph) -> tuple[Layer, ...]:
    """Return the convolution layers of a graph, in order."""
    places = [i for i, node in enumerate(graph.nodes) if node.op == "Conv" and node.window]
    convs = [graph.nodes[place] for place in places]
    names = layer_names(convs)
    aliases = layer_aliases(convs, names)
    fields, users = receptive_fields(graph), consumers(graph)
    layers = []
    for index, (place, conv) in enumerate(zip(places, convs, strict=True)):
        shape = graph.shapes[conv.outputs[0]]
        size, stride = _extent(fields.get(conv.outputs[0]), graph, shape)
        follows = what_follows(conv, graph, users)
        output = (shape[1], shape[2], shape[3])
        layer = Layer(
            index + 1, names[index], shape[1], output, size, stride, follows, aliases[index], place
        )
        layers.append(layer)
    return tuple(layers)


def _extent(seen: Field | None, graph: Graph, shape: tuple[int, ...]) -> tuple[Pair, Pair]:
    """Return receptive field and stride in pixels, (h, w) each."""
    if seen is not None:
        high, wide = seen.spans
        return (high.size, wide.size), (high.step, wide.step)
    dims = dict(zip(graph.layout, graph.shapes[graph.image], strict=True))
    size = (dims["H"], dims["W"])
    return size, (max(1, round(size[0] / shape[2])), max(1, round(size[1] / shape[3])))


# --- in words ------------------------------------------------------------------------------------


_HEAD = ("layer", "name", "maps", "output", "receptive field", "stride", "followed by")


def table(layers: tuple[Layer, ...]) -> str:
    """Return the layers as text, a line for each under a head."""
    rows = [_HEAD, *(_row(layer) for layer in layers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    rows.insert(1, tuple("-" * width for width in widths))
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in (0, 2) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _row(layer: Layer) -> tuple[str, ...]:
    pairs = (layer.output_shape[1:], layer.receptive_field, layer.stride)
    output, field_text, stride = (f"{h} x {w}" for h, w in pairs)
    name = layer.name if len(layer.name) <= 40 else layer.name[:39] + "…"
    follows = ", ".join(layer.follows) or "-"
    return (str(layer.number), name, str(layer.maps), output, field_text, stride, follows)
