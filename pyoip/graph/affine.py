"""Nodes that multiply each channel by one value and add another."""

from __future__ import annotations

from typing import Any

import numpy as np

from .node import Graph, Node
from .ops import PASSED

Values = np.ndarray[Any, np.dtype[np.float64]]


def affine(node: Node, graph: Graph, channels: int) -> tuple[Values, Values] | None:
    """Return what `node` multiplies each channel of (N, C, H, W) by, and then adds.

    Returns
    -------
    (gain, shift) : float64 (channels,) each
        None for a node that does anything else.
    """
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op in PASSED:
        return one, zero
    if node.op == "BatchNormalization":
        return _normalisation(node, graph)
    places = [i for i, name in enumerate(node.inputs) if name in graph.constants]
    if node.op not in ("Add", "Sub", "Mul", "Div") or len(places) != 1 or len(node.inputs) != 2:
        return None
    value = per_channel(node, graph, channels)
    if value is None or (node.op == "Div" and places == [0]):
        return None
    if node.op in ("Mul", "Div"):
        with np.errstate(divide="ignore"):
            return (value if node.op == "Mul" else 1 / value), zero
    sign = -1.0 if node.op == "Sub" else 1.0
    return (one, sign * value) if places == [1] else (sign * one, value)


def _normalisation(node: Node, graph: Graph) -> tuple[Values, Values] | None:
    attributes = node.attributes
    constants = [graph.constants.get(name) for name in node.inputs[1:5]]
    if attributes.get("training_mode", 0) or attributes.get("spatial", 1) != 1:
        return None
    if any(array is None for array in constants):
        return None
    gain, shift, mean, variance = (np.array(array, np.float64) for array in constants)
    with np.errstate(all="ignore"):  # whoever uses the sums checks that they are finite
        gain = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        return gain, shift - mean * gain


def per_channel(node: Node, graph: Graph, channels: int) -> Values | None:
    """Return the constant of an arithmetic node as (channels,), None if it differs by position."""
    value = next(graph.constants[name] for name in node.inputs if name in graph.constants)
    shape = list(value.shape)
    if node.attributes.get("broadcast") and "axis" in node.attributes:  # before opset 7
        shape += [1] * (4 - int(node.attributes["axis"]) - len(shape))
    return spread(value, shape, channels)


def spread(value: np.ndarray[Any, Any], shape: list[int], channels: int) -> Values | None:
    """Return a constant that broadcasts as `shape` beside (N, C, H, W) as (channels,), or None."""
    shape = [1] * (4 - len(shape)) + shape
    if len(shape) != 4 or [shape[0], *shape[2:]] != [1, 1, 1] or shape[1] not in (1, channels):
        return None
    return np.broadcast_to(np.array(value, np.float64).reshape(-1), (channels,))
