"""The objective of one map per image, and the gradient by what the target convolution reads.

An objective asks for one map of each image, so only this map is computed: with w the weights of
the map that image b is after, folded with what changes it up to the preactivation,

    taps[b, t] = Σ_c w[b, t, c] · x[b, c]        one matrix product per image, t a kernel position
    z[b] = Σ_t taps[b, t] moved by t             down the columns, then along the rows

and back the same way, by a convolution with ones. That is 1/maps of the work, forward and backward.
Where what stands behind the convolution mixes the maps, as group normalisation does, all of them
are computed and the one that counts is picked.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..graph.affine import affine, spread
from ..graph.node import Graph, Node, Pair, Shape, Window
from ..graph.response import Response
from ..settings import Objective
from .derive import refused, write_backward, write_forward
from .modern import needed
from .rules.convolution import conv_back
from .tape import Tape

MOST_WEIGHTS = 2**24
"""Weights of a grouped convolution are written out for all channels up to this many values."""

_POSITIONS = [2, 3]


@dataclass(frozen=True)
class Measured:
    """Names of (B,) tensors, and of the gradient by the image."""

    activation: str
    preactivation: str
    peak: str
    gradient: str


@dataclass(frozen=True, eq=False)
class Folded:
    """The target convolution with what stands between it and its preactivation, one value a map."""

    weights: np.ndarray[Any, Any]  # (maps, C, h, w)
    shift: np.ndarray[Any, Any]  # (maps,)


def gates(graph: Graph, reply: Response) -> bool:
    """Tell whether the activation function is 0, with derivative 0, wherever a map is silent."""
    tensor, ends = reply.source, (-math.inf, 0.0)
    for node in reply.region:
        varying = [name for name in node.inputs if name and name not in graph.constants]
        limits = _limits(graph, node)
        if varying != [tensor] or limits is None:
            return False
        low, high = limits
        ends = min(max(ends[0], low), high), min(max(ends[1], low), high)
        tensor = node.outputs[0]
    return ends == (0.0, 0.0)


def _limits(graph: Graph, node: Node) -> tuple[float, float] | None:
    """Return what a node cuts off values above nothing at, None for one that does other things."""
    values = [graph.constants[name] for name in node.inputs if name in graph.constants]
    if node.op == "Clip":
        given = [graph.constants.get(name) for name in (*node.inputs[1:3], "", "")[:2]]
        low, high = (None if array is None else float(array) for array in given)
        return -math.inf if low is None else low, math.inf if high is None else high
    if node.op == "Max":
        return max(float(array.max()) for array in values), math.inf
    if node.op == "Min":
        return -math.inf, min(float(array.min()) for array in values)
    if node.op == "PRelu":
        return None if values[0].any() else (0.0, math.inf)
    if node.op == "ThresholdedRelu":
        return (0.0, math.inf) if node.attributes.get("alpha", 1.0) >= 0 else None
    flat = node.op == "LeakyRelu" and node.attributes.get("alpha", 0.01) == 0
    return (0.0, math.inf) if flat or node.op == "Relu" else None


def write_target(
    tape: Tape, reply: Response, label: str, maps: str, objective: Objective, *, wake: bool
) -> Measured:
    """Write objectives and gradient of map ``maps[b]`` at image b.

    Parameters
    ----------
    tape : Tape
        On which the image has been named.
    reply : Response
        The layer.
    label : str
        What messages call it.
    maps : str
        Name of the int64 (B,) input with map numbers.
    objective : {"activation", "preactivation"}
        What the gradient is of.
    wake : bool
        Follow a map that its activation function silences everywhere on its highest
        preactivation.
    """
    folded = _folded(tape.graph, reply)
    one = folded is not None and _one_value_a_map(tape.graph, reply, len(folded.shift))
    if folded is not None and one:
        return _one_map(tape, reply, label, maps, objective, folded, wake=wake)
    return _picked_map(tape, reply, label, maps, objective, wake=wake)


# --- one map ---------------------------------------------------------------------------------


def _one_map(
    tape: Tape,
    reply: Response,
    label: str,
    maps: str,
    objective: Objective,
    folded: Folded,
    *,
    wake: bool,
) -> Measured:
    conv = reply.conv
    window = conv.window
    assert window is not None
    source = conv.inputs[0]
    below = needed(tape.graph, [source])
    write_forward(tape, below, label)
    _check_images(tape, conv, label)
    count, channels, high, wide = folded.weights.shape
    size, out = tape.shape(source)[2:], tape.shape(conv.outputs[0])[2:]
    shift = tape.emit("Gather", folded.shift.astype(np.float32), maps)
    by_tap = folded.weights.reshape(count, channels, high * wide).transpose(0, 2, 1)
    weights = tape.emit("Gather", np.ascontiguousarray(by_tap, np.float32), maps)
    flat = tape.emit("Reshape", tape.name(source), [0, channels, -1])
    taps = tape.emit("MatMul", weights, flat)
    taps = tape.emit("Reshape", taps, [0, high, wide, *size])
    z = _sum_of_taps(tape, taps, window, (out[0], out[1]))
    z = tape.emit("Add", z, tape.emit("Reshape", shift, [-1, 1, 1, 1]))
    ones = np.eye(high * wide, dtype=np.float32).reshape(1, high * wide, high, wide)
    alone = replace(window, group=1)
    trivial = high * wide == 1 and window.stride == (1, 1) and not any(window.pads)

    region = _Region(tape, reply, (1, 1, *out), maps)
    measured, dz = region.write(z, label, objective, gates(tape.graph, reply) and wake)
    d = dz if trivial else conv_back(tape, dz, ones, alone, (size[0], size[1]), (out[0], out[1]))
    d = tape.emit("Reshape", d, [0, high * wide, -1])
    d = tape.emit("MatMul", tape.emit("Transpose", weights, perm=[0, 2, 1]), d)
    d = tape.like(d, source)
    gradient = write_backward(tape, below, {source: d}, tape.graph.image, label)
    return replace(measured, gradient=gradient)


def _check_images(tape: Tape, conv: Node, label: str) -> None:
    """Refuse a layer that has more than one answer to an image, as one of many windows has."""
    source = conv.inputs[0]
    if tape.batch.get(source) != 0:
        raise refused(tape.graph, conv, label, "takes what is no axis of images for one")
    if tape.shape(source)[0] != tape.images:
        parts = tape.shape(source)[0] // tape.images
        raise refused(tape.graph, conv, label, f"takes {parts} parts of each image, not the whole")


def _sum_of_taps(tape: Tape, taps: str, window: Window, out: Pair) -> str:
    """Write the sum over taps (B, kernel h, kernel w, h, w) moved into place, (B, 1, *out)."""
    for i in (0, 1):  # moving whole rows is cheaper: it comes first, for the many
        ends = window.pads[i], window.pads[i + 2]
        if any(ends):
            pads = np.zeros((2, 5), np.int64)
            pads[:, 3 + i] = ends
            taps = tape.emit("Pad", taps, pads.ravel())
        moved = []
        for tap in range(window.kernel[i]):
            start, stride = tap * window.dilation[i], window.stride[i]
            end = start + (out[i] - 1) * stride + 1
            moved.append(
                tape.emit("Slice", taps, [tap, start], [tap + 1, end], [1 + i, 3 + i], [1, stride])
            )
        taps = tape.emit("Sum", *moved) if len(moved) > 1 else moved[0]
    return tape.emit("Reshape", taps, [-1, 1, *out])


def _folded(graph: Graph, reply: Response) -> Folded | None:
    """Return the convolution and its chain as weights and shifts, None where that cannot be."""
    window = reply.conv.window
    assert window is not None
    weights = np.asarray(graph.constants[reply.conv.inputs[1]], np.float64)
    count, depth, high, wide = weights.shape
    if window.group > 1:
        if weights.size * window.group > MOST_WEIGHTS:
            return None
        whole = np.zeros((count, depth * window.group, high, wide))
        for map_, group in enumerate(np.repeat(range(window.group), count // window.group)):
            whole[map_, group * depth : (group + 1) * depth] = weights[map_]
        weights = whole
    shift = np.zeros(count)
    if len(reply.conv.inputs) > 2 and reply.conv.inputs[2]:
        shift = shift + graph.constants[reply.conv.inputs[2]]
    for node in reply.chain:
        step = affine(node, graph, count)
        if step is None:
            return None
        gain, extra = step
        weights, shift = weights * gain[:, None, None, None], shift * gain + extra
    with np.errstate(over="ignore"):
        finite = np.isfinite(weights.astype(np.float32)).all() and np.isfinite(shift).all()
    return Folded(weights, shift) if finite else None


def _one_value_a_map(graph: Graph, reply: Response, maps: int) -> bool:
    names = [name for node in reply.region for name in node.inputs if name in graph.constants]
    constants = [graph.constants[name] for name in names]
    return all(spread(array, list(array.shape), maps) is not None for array in constants)


# --- the activation function -------------------------------------------------------------------


class _Region:
    """The activation function written on its own, for the maps that are there."""

    def __init__(self, tape: Tape, reply: Response, shape: Shape, maps: str | None) -> None:
        graph, self.reply, self.shape = tape.graph, reply, shape
        tensors = {reply.source, *(name for node in reply.region for name in node.outputs)}
        shapes = {name: shape for name in tensors if name}
        own = copy.copy(tape)
        own.names, own.batch, own.ahead = {}, {}, {}
        constants = dict(graph.constants)
        if maps is not None:
            for name in {name for node in reply.region for name in node.inputs}:
                if name in constants and constants[name].size > 1:
                    values = np.asarray(constants.pop(name), np.float32).reshape(-1)
                    chosen = tape.emit("Gather", values, maps)
                    own.names[name] = tape.emit("Reshape", chosen, [-1, 1, 1, 1])
                    own.batch[name] = 0
                    shapes[name] = (shape[0], 1, 1, 1)
        own.graph = replace(graph, constants=constants, shapes=shapes)
        own.batch[reply.source] = 0
        self.tape = own

    def write(
        self, z: str, label: str, objective: Objective, wake: bool, mask: str = ""
    ) -> tuple[Measured, str]:
        """Write the function of `z` and both objectives; return these and the gradient by `z`.

        `mask` (B, maps, 1, 1) is 1 for the map of each image, where `z` holds all of them.
        """
        tape, reply = self.tape, self.reply
        tape.names[reply.source] = z
        write_forward(tape, reply.region, label)
        after = tape.names[reply.region[-1].outputs[0]] if reply.region else z
        own_z, own_a = (_chosen(tape, t, mask) for t in (z, after))
        positions = self.shape[2] * self.shape[3]
        activation, preactivation = tape.mean(own_a, positions), tape.mean(own_z, positions)
        flat = tape.emit("Flatten", own_z, axis=1)
        peak = tape.emit("ReduceMax", flat, [1], keepdims=0)
        measured = Measured(activation, preactivation, peak, "")
        share = tape.emit("Expand", _share(self.shape), tape.emit("Shape", z))
        if mask:
            share = tape.emit("Mul", share, mask)
        if objective == "preactivation" or not reply.region:
            return measured, share
        end = reply.region[-1].outputs[0]
        dz = write_backward(tape, reply.region, {end: share}, reply.source, label)
        if wake:
            dz = self._woken(dz, flat, activation, mask)
        return measured, dz

    def _woken(self, dz: str, flat: str, activation: str, mask: str) -> str:
        """Put the gradient of the highest preactivation in place of a sleeping map's."""
        tape = self.tape
        positions = self.shape[2] * self.shape[3]
        top = tape.emit("ArgMax", flat, axis=1, keepdims=1)
        there = tape.emit("Equal", np.arange(positions)[None], top)
        peak = tape.emit("Reshape", tape.emit("Cast", there, to=1), [-1, 1, *self.shape[2:]])
        if mask:
            peak = tape.emit("Mul", peak, mask)
        asleep = tape.emit("LessOrEqual", activation, 0.0)
        return tape.emit("Where", tape.emit("Reshape", asleep, [-1, 1, 1, 1]), peak, dz)


def _share(shape: Shape) -> np.ndarray[Any, Any]:
    """What each position contributes to the mean."""
    return np.full((1, 1, 1, 1), 1.0 / (shape[2] * shape[3]), np.float32)


def _chosen(tape: Tape, values: str, mask: str) -> str:
    """Return the map that counts, (B, 1, h, w)."""
    if not mask:
        return values
    return tape.emit("ReduceSum", tape.emit("Mul", values, mask), [1], keepdims=1)


# --- all maps --------------------------------------------------------------------------------


def write_maps(tape: Tape, reply: Response, label: str) -> tuple[str, str]:
    """Write all maps before and after their activation function; return both names."""
    write_forward(tape, needed(tape.graph, [reply.before]), label)
    _check_images(tape, reply.conv, label)
    region = _Region(tape, reply, tape.shape(reply.before), None)
    z = tape.name(reply.before)
    region.tape.names[reply.source] = z
    write_forward(region.tape, reply.region, label)
    return z, region.tape.names[reply.region[-1].outputs[0]] if reply.region else z


def _picked_map(
    tape: Tape, reply: Response, label: str, maps: str, objective: Objective, *, wake: bool
) -> Measured:
    nodes: Sequence[Node] = needed(tape.graph, [reply.before])
    write_forward(tape, nodes, label)
    _check_images(tape, reply.conv, label)
    shape = tape.shape(reply.before)
    wanted = tape.emit("Reshape", maps, [-1, 1, 1, 1])
    numbers = np.arange(shape[1]).reshape(1, -1, 1, 1)
    mask = tape.emit("Cast", tape.emit("Equal", numbers, wanted), to=1)
    region = _Region(tape, reply, shape, None)
    wake = wake and gates(tape.graph, reply)
    measured, dz = region.write(tape.name(reply.before), label, objective, wake, mask)
    gradient = write_backward(tape, nodes, {reply.before: dz}, tape.graph.image, label)
    return replace(measured, gradient=gradient)
