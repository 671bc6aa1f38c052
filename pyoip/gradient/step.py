"""The graphs that are derived from a network: scores, activations, and steps of an ascent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, ValueInfoProto, helper

from ..graph.node import Graph
from ..graph.response import Response, response
from ..settings import Constraint, Objective, Settings
from . import update
from .modern import OPSET, modern, needed
from .sooner import pooled_sooner
from .tape import LANES, Tape, to_tensors
from .target import Measured, gates, write_maps, write_target

if TYPE_CHECKING:
    from ..network import Network

_SATURATING = frozenset(
    """
    Celu Elu Gelu HardSigmoid HardSwish Mish Selu Sigmoid Softplus Softsign Swish Tanh
    """.split()  # noqa: SIM905 - a list of short words reads best as words
)

Dims = Sequence[int | str]

_IR = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13}
"""Oldest version of the file format that may hold an operator set."""


@dataclass(frozen=True, eq=False)
class Place:
    """A layer of a network, in current operators, ready to be derived from; made by `locate`.

    Attributes
    ----------
    network : Network
    number : int
        Of the layer.
    label : str
        What messages call it.
    graph : Graph
        What it depends on.
    reply : Response
        Its maps before and after their activation function.
    lanes : int
        Channels that the runtime computes at once, for which the graphs are shaped.
    """

    network: Network
    number: int
    label: str
    graph: Graph
    reply: Response
    lanes: int = LANES

    @property
    def saturates(self) -> bool:
        """Tell whether the activation function becomes so flat that its derivative rounds to 0."""
        return any(node.op in _SATURATING for node in self.reply.region)

    @property
    def size(self) -> int:
        """Count the values of all tensors that the layer depends on, its own among them."""
        nodes = needed(self.graph, [self.reply.after])
        shapes = [self.graph.shapes.get(name, ()) for node in nodes for name in node.outputs]
        return sum(math.prod(shape) for shape in shapes) + math.prod(self.network.input_shape)

    @property
    def work(self) -> int:
        """Count the multiplications of all convolutions forward."""
        total = 0
        for node in needed(self.graph, [self.reply.conv.outputs[0]]):
            if node.op == "Conv":
                kernel = self.graph.constants[node.inputs[1]].size
                total += kernel * math.prod(self.graph.shapes[node.outputs[0]][2:])
        return total

    @property
    def gates(self) -> bool:
        """Tell whether a map can be asleep: activation and derivative 0 at every position."""
        return gates(self.graph, self.reply)


def locate(network: Network, layer: int | str, lanes: int = LANES) -> Place:
    """Return a layer ready to be derived from.

    Raises
    ------
    ModelError
        The network cannot be brought to a current operator set.
    InvalidArgument
        No such layer.
    """
    target = network.layer(layer)
    output = network.nodes[target.node].outputs[0]
    graph = pooled_sooner(modern(network.graph, network.source), output)
    conv = next(node for node in graph.nodes if output in node.outputs)
    label = f"layer {target.number} ({target.name})"
    return Place(network, target.number, label, graph, response(graph, conv), lanes)


def score_model(place: Place, objective: Objective) -> onnx.ModelProto:
    """Return the graph image (B, C, H, W) → score (B, maps)."""
    tape = _tape(place, "NCHW")
    before, after = write_maps(tape, place.reply, place.label)
    chosen = after if objective == "activation" else before
    maps, high, wide = place.network.layers[place.number - 1].output_shape
    score = tape.emit("Reshape", tape.mean(chosen, high * wide), [-1, maps])
    return _finish(place, tape, [_image(place, "NCHW")], {"score": (score, ["B", maps])})


def activation_model(place: Place) -> onnx.ModelProto:
    """Return the graph image (B, C, H, W) → activation (B, maps, h, w)."""
    tape = _tape(place, "NCHW")
    _, after = write_maps(tape, place.reply, place.label)
    shape: Dims = ["B", *place.network.layers[place.number - 1].output_shape]
    return _finish(place, tape, [_image(place, "NCHW")], {"activation": (after, shape)})


def gradient_model(place: Place, objective: Objective) -> onnx.ModelProto:
    """Return the graph image, map (B,) → activation, preactivation (B,), gradient (B, C, H, W)."""
    tape = _tape(place, "NCHW")
    found = write_target(tape, place.reply, place.label, "map", objective, wake=False)
    image = _image(place, "NCHW")
    gradient = _in_layout(tape, found.gradient, place.graph.layout, "NCHW")
    outputs: dict[str, tuple[str, Dims]] = {
        "activation": (found.activation, ["B"]),
        "preactivation": (found.preactivation, ["B"]),
        "gradient": (gradient, _dims(image)),
    }
    return _finish(place, tape, [image, _vector("map", TensorProto.INT64)], outputs)


def step_model(
    place: Place,
    objective: Objective = "activation",
    constraint: Constraint | None = None,
    layout: str | None = None,
) -> onnx.ModelProto:
    """Return the graph of one plain step; see `pyoip.export_step`.

    `constraint` None leaves out the next image; `layout` None keeps the network's own.
    """
    layout = layout or place.network.layout
    whole = layout if len(layout) == 4 else place.graph.layout
    tape = Tape(place.graph)
    x = _in_layout(tape, "image", layout, whole)
    tape.names[place.graph.image] = _in_layout(tape, x, whole, place.graph.layout)
    wake = constraint is not None
    found = write_target(tape, place.reply, place.label, "map", objective, wake=wake)
    image = _image(place, layout)
    gradient = _in_layout(tape, found.gradient, place.graph.layout, whole)
    inputs = [image, _vector("map", TensorProto.INT64)]
    value = found.activation if objective == "activation" else found.preactivation
    slope = _in_layout(tape, gradient, whole, layout)
    outputs = {"activation": (value, ["B"]), "gradient": (slope, _dims(image))}
    if constraint is not None:
        sides = place.network.input_shape
        inputs.append(_vector("step_size"))
        g = update.make_tangent(tape, constraint, x, gradient, sides)
        x = update.moved(tape, x, update.direction(tape, g, sides), "step_size")
        x = update.constrain(tape, constraint, x, sides)
        outputs["next_image"] = (_in_layout(tape, x, whole, layout), _dims(image))
    return _finish(place, tape, inputs, outputs)


def ascent_model(place: Place, settings: Settings) -> onnx.ModelProto:
    """Return the graph that a whole ascent repeats: move the image, look at it there.

    Inputs
        image, velocity, gradient, best (B, C, H, W), step_size, best_merit (B,), map (B,) int64,
        and with ``settings.smooth`` blur (), above 0 where the moved image is to be blurred.
        At the beginning velocity, gradient and step_size are 0 and best_merit is -inf.
    Outputs
        next_image, next_velocity, next_gradient, next_best as above; next_merit of the best;
        activation, preactivation, merit, slope (B,) of the next image, slope being the largest
        absolute value of its gradient.
    """
    constraint, article = settings.constraint, settings.method == "article"
    sides = place.network.input_shape
    tape = _tape(place, "NCHW", image="next_image")
    image = _image(place, "NCHW")
    g = "gradient" if article else update.make_tangent(tape, constraint, "image", "gradient", sides)
    velocity = update.direction(tape, g, sides)
    if not article and settings.momentum > 0:
        kept = tape.emit("Mul", "velocity", settings.momentum)
        velocity = tape.emit("Add", kept, velocity)
    x = update.moved(tape, "image", velocity, "step_size")
    if settings.smooth:
        blurred = update.blur(tape, x, place.network.input_shape[0])
        x = tape.emit("Where", tape.emit("Greater", "blur", 0.0), blurred, x)
    x = update.constrain(tape, constraint, x, sides)
    tape.names[place.graph.image] = _in_layout(tape, x, "NCHW", place.graph.layout)
    found = write_target(
        tape, place.reply, place.label, "map", settings.objective, wake=not article
    )
    gradient = _in_layout(tape, found.gradient, place.graph.layout, "NCHW")
    slope = tape.emit("ReduceMax", tape.emit("Abs", gradient), [1, 2, 3], keepdims=0)
    merit = _merit(tape, place, settings.objective, found)
    better = tape.emit("Greater", merit, "best_merit")
    there = tape.emit("Reshape", better, [-1, 1, 1, 1])
    dims = _dims(image)
    images = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        for name in ("velocity", "gradient", "best")
    ]
    inputs = [image, *images, _vector("step_size"), _vector("best_merit")]
    inputs.append(_vector("map", TensorProto.INT64))
    if settings.smooth:
        inputs.append(helper.make_tensor_value_info("blur", TensorProto.FLOAT, []))
    outputs: dict[str, tuple[str, Dims]] = {
        "next_image": (x, dims),
        "next_velocity": (velocity, dims),
        "next_gradient": (gradient, dims),
        "next_best": (tape.emit("Where", there, x, "best"), dims),
        "next_merit": (tape.emit("Where", better, merit, "best_merit"), ["B"]),
        "activation": (found.activation, ["B"]),
        "preactivation": (found.preactivation, ["B"]),
        "merit": (merit, ["B"]),
        "slope": (slope, ["B"]),
    }
    return _finish(place, tape, inputs, outputs)


def selection_model(place: Place) -> onnx.ModelProto:
    """Return the graph that picks the images ``index`` (K,) int64 out of what an ascent holds."""
    tape = Tape(place.graph)
    dims = _dims(_image(place, "NCHW"))
    few: Dims = ["K", *dims[1:]]
    names = ("image", "velocity", "gradient", "best")
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in names]
    inputs.append(helper.make_tensor_value_info("index", TensorProto.INT64, ["K"]))
    chosen = {f"next_{n}": (tape.emit("Gather", n, "index", axis=0), few) for n in names}
    return _finish(place, tape, inputs, chosen)


def _merit(tape: Tape, place: Place, objective: Objective, found: Measured) -> str:
    """What counts for the best image: the objective, or a sleeping map's highest preactivation."""
    if objective == "preactivation":
        return found.preactivation
    if not place.gates:
        return found.activation
    asleep = tape.emit("LessOrEqual", found.activation, 0.0)
    return tape.emit("Where", asleep, found.peak, found.activation)


# --- around a graph --------------------------------------------------------------------------


def _tape(place: Place, layout: str, image: str = "image") -> Tape:
    """Return a tape on which the network's image has its name."""
    tape = Tape(place.graph, place.lanes)
    if image == "image":
        tape.names[place.graph.image] = _in_layout(tape, image, layout, place.graph.layout)
    return tape


def _in_layout(tape: Tape, tensor: str, given: str, wanted: str) -> str:
    both = [letter for letter in given if letter in wanted]  # others are of length 1
    if len(both) < len(given):
        gone = [axis for axis, letter in enumerate(given) if letter not in wanted]
        tensor = tape.emit("Squeeze", tensor, gone)
    order = [letter for letter in wanted if letter in both]
    if both != order:
        tensor = tape.emit("Transpose", tensor, perm=[both.index(letter) for letter in order])
    added = [axis for axis, letter in enumerate(wanted) if letter not in both]
    return tape.emit("Unsqueeze", tensor, added) if added else tensor


def _image(place: Place, layout: str) -> ValueInfoProto:
    sizes = dict(zip("CHW", place.network.input_shape, strict=True))
    dims = ["B" if letter == "N" else sizes[letter] for letter in layout]
    return helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)


def _dims(value: ValueInfoProto) -> Dims:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def _vector(name: str, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["B"])


def _finish(
    place: Place,
    tape: Tape,
    inputs: Sequence[ValueInfoProto],
    outputs: Mapping[str, tuple[str, Dims]],
) -> onnx.ModelProto:
    """Return what the outputs depend on as a model, under their public names."""
    wanted = {name for name, _ in outputs.values()}
    kept = []
    for node in reversed(tape.nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(node.input)
    ends = [helper.make_node("Identity", [name], [end]) for end, (name, _) in outputs.items()]
    infos = [
        helper.make_tensor_value_info(end, TensorProto.FLOAT, list(dims))
        for end, (_, dims) in outputs.items()
    ]
    constants = {name: array for name, array in tape.constants.items() if name in wanted}
    target = place.network.layers[place.number - 1]
    title = f"{place.network.name}, layer {target.number} ({target.name})"
    graph = helper.make_graph(
        [*kept[::-1], *ends], title, list(inputs), infos, to_tensors(constants)
    )
    opset = max([OPSET, *(node.opset for node in needed(place.graph, [place.reply.after]))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = _IR.get(opset, model.ir_version)
    model.producer_name = "pyoip"
    return model
