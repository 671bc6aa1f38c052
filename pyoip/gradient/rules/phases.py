"""A convolution whose values are pooled at once, taken apart by their place in a pooling window.

A runtime computes as many channels of a convolution as fit into a vector, needed or not. Where they
are fewer, the places of a window take the others: let the pooling step by s and the convolution by
t, then place r of window q is the convolution at q · s · t + r · t, which is one with stride s · t
whose weights are moved by r · t. All places come out as channels of one convolution, and their
maximum is that of its channels, without a pooling.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...graph.node import Node, Pair, Window
from ..tape import At, Tape

Array = np.ndarray[Any, Any]


def phases(at: At, pool: Window) -> list[list[str]]:
    """Write the values that `pool`, a node's window, looks at: by row of a window, by column.

    Returns
    -------
    list of list of str
        Each (B, channels, *number of windows); empty where the values do not come from a
        convolution, or are needed elsewhere, or where there is nothing to gain.
    """
    conv = _maker(at)
    if conv is None or not _gains(at, conv, pool):
        return []
    assert conv.window is not None
    weights = _moved(at.tape.graph.constants[conv.inputs[1]], conv.window, pool)
    inputs = [at.tape.name(conv.inputs[0]), weights]
    count = pool.kernel[0] * pool.kernel[1]
    if len(conv.inputs) > 2 and conv.inputs[2]:
        bias = np.asarray(at.tape.graph.constants[conv.inputs[2]], np.float32)
        inputs.append(np.tile(bias, count))
    size = at.tape.shape(conv.inputs[0])[2:]
    made = at.emit("Conv", *inputs, **_sliding(conv.window, pool, (size[0], size[1]), at))
    parts = at.tape.emit_all("Split", made, outputs=count, axis=1, num_outputs=count)
    return [parts[i : i + pool.kernel[1]] for i in range(0, count, pool.kernel[1])]


def _maker(at: At) -> Node | None:
    """Return the convolution of which a node takes all there is, None where there is no such."""
    graph, name = at.tape.graph, at.node.inputs[0]
    if sum(name in node.inputs for node in graph.nodes) > 1:
        return None
    makers = [node for node in graph.nodes if name in node.outputs and node.op == "Conv"]
    fit = makers and makers[0].window is not None and makers[0].window.group == 1
    constant = fit and all(not n or n in graph.constants for n in makers[0].inputs[1:])
    return makers[0] if constant else None


def _gains(at: At, conv: Node, pool: Window) -> bool:
    """Tell whether full vectors are worth the weights that are 0 in between."""
    window, maps = conv.window, at.shape()[1]
    assert window is not None

    def cost(kernel: Pair, places: int) -> float:
        lanes = -(-places * maps // at.tape.lanes) * at.tape.lanes
        return math.prod(kernel) * lanes / places

    reach = _reach(window, pool)
    return cost(reach, math.prod(pool.kernel)) < cost(window.kernel, 1)


def _reach(window: Window, pool: Window) -> Pair:
    """Return how far the weights of all places reach."""
    high, wide = ((pool.kernel[i] - 1) * window.stride[i] + window.reach(i) for i in (0, 1))
    return high, wide


def _moved(weights: Array, window: Window, pool: Window) -> Array:
    """Return the weights (rows · columns · maps, channels, h, w), moved to every place."""
    maps, channels = weights.shape[:2]
    (down, right), (tall, broad) = window.stride, window.dilation
    made = np.zeros((*pool.kernel, maps, channels, *_reach(window, pool)), np.float32)
    for row, column in np.ndindex(pool.kernel):
        y, x = row * down, column * right
        there = made[row, column, ..., y : y + window.reach(0), x : x + window.reach(1)]
        there[..., ::tall, ::broad] = weights
    return made.reshape(-1, *made.shape[3:])


def _sliding(window: Window, pool: Window, size: Pair, at: At) -> dict[str, Any]:
    """Return the attributes of the convolution, which ends with the last window."""
    reach, count = _reach(window, pool), at.out_shape()[2:]
    strides = [window.stride[i] * pool.stride[i] for i in (0, 1)]
    ends = [(count[i] - 1) * strides[i] + reach[i] - size[i] - window.pads[i] for i in (0, 1)]
    pads = [*window.pads[:2], *(max(end, 0) for end in ends)]
    return {"kernel_shape": list(reach), "strides": strides, "pads": pads}


def maxima(tape: Tape, values: list[str]) -> list[str]:
    """Write the maximum of the first value, of the first two, and so on."""
    made = values[:1]
    for value in values[1:]:
        made.append(tape.emit("Max", made[-1], value))
    return made
