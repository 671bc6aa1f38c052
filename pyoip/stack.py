"""Sequential convolution stacks: what the fused engines compute, taken from a network's graph.

A stack is: image → (convolution → activation → pooling) × n, the last convolution being the layer
whose maps are asked for. Separate biases and batch normalisation before the activation are folded
into the weights in float64. What does not fit raises `UnsupportedLayer`.

Example
-------
>>> import pyoip
>>> from pyoip.stack import build_stack
>>> [layer.output_shape for layer in build_stack(pyoip.load("mnist"), 2).layers]
[(32, 26, 26), (64, 11, 11)]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .activation import NO_ACTIVATION, Activation
from .errors import UnsupportedLayer
from .graph.node import Pair, Quad
from .graph.sequence import Draft, Image, Pool, Walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .network import Network

__all__ = ["Activation", "ConvLayer", "Pool", "Stack", "build_stack", "check_limits"]

PLAIN_ENGINE = "engines 'onnx' and 'reference' can take it"


@dataclass(frozen=True, eq=False)
class ConvLayer:
    """One convolution of a stack with what follows it.

    Attributes
    ----------
    weights : float32 (maps, in_channels, kh, kw)
        Cross-correlation kernels, as in every framework.
    bias : float32 (maps,)
    stride : (h, w)
    pads : (top, left, bottom, right)
        Zeros around the input.
    activation : Activation
    pool : Pool or None
        After the activation; None for the last layer.
    input_shape, output_shape, pooled_shape : (C, H, W)
        Before the convolution, after it, and after the pooling.
    name : str
        The layer's name in its network.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: Pair
    pads: Quad
    activation: Activation
    pool: Pool | None
    input_shape: Image
    output_shape: Image
    pooled_shape: Image
    name: str = ""


@dataclass(frozen=True, eq=False)
class Stack:
    """A sequential stack; the last of `layers` is the one whose maps are asked for.

    Attributes
    ----------
    input_shape : (C, H, W)
        Of one image.
    layers : tuple of ConvLayer
        From the image on.
    """

    input_shape: Image
    layers: tuple[ConvLayer, ...]

    @property
    def saturates(self) -> bool:
        """Tell whether the last activation function becomes so flat that its derivative is 0."""
        return self.layers[-1].activation.function.saturates


def build_stack(network: Network, layer: int | str) -> Stack:
    """Return the sequential stack that ends at a layer.

    The activation of the last layer is the one that follows it, directly or behind max pooling
    (with which it commutes); ``"none"`` where the convolution's output goes elsewhere first.

    Parameters
    ----------
    network : Network
    layer : int or str
        Number from 1, or name.

    Raises
    ------
    UnsupportedLayer
        The layer is not the end of a sequential stack; the message names the node, the rule and
        the engine that could take it.
    InvalidArgument
        No such layer.
    """
    target = network.layer(layer)
    walk = Walk(network.graph, f"layer {target.number} ({target.name})", network.input_shape)
    drafts = walk.to(network.nodes[target.node])
    names = {id(network.nodes[item.node]): item.name for item in network.layers}
    return Stack(network.input_shape, tuple(_finish(d, names[id(d.node)]) for d in drafts))


def _finish(draft: Draft, name: str) -> ConvLayer:
    """Return the layer in float32."""
    with np.errstate(over="ignore"):
        weights = np.ascontiguousarray(draft.weights, np.float32)
        bias = np.ascontiguousarray(draft.bias, np.float32)
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise UnsupportedLayer(
            f"layer {name}: its weights, batch normalisation included, exceed float32; "
            "no engine can take it, train or export it again"
        )
    weights.flags.writeable = bias.flags.writeable = False
    return ConvLayer(
        weights,
        bias,
        draft.stride,
        draft.pads,
        draft.activation or NO_ACTIVATION,
        draft.pool,
        draft.input_shape,
        draft.output_shape,
        draft.pooled_shape,
        name,
    )


# --- limits of the fused engines -------------------------------------------------------------


def check_limits(stack: Stack) -> None:
    """Check that the fused engines are made for a stack of this size.

    Raises
    ------
    UnsupportedLayer
        More than 4 layers, 256 maps, 64 × 64 pixels, kernels of 7 or strides of 2, channels other
        than 1 or 3, padding as large as the kernel, or pooling other than 2 or 3 wide with
        strides of 1 to 3. The message names the engine without these limits.
    """
    channels, height, width = stack.input_shape
    last = stack.layers[-1].name
    _limit(last, "convolution layers", len(stack.layers), range(1, 5))
    _limit(last, "input channels", channels, (1, 3))
    _limit(last, "height in pixels", height, range(1, 65))
    _limit(last, "width in pixels", width, range(1, 65))
    for layer in stack.layers:
        _check_layer(layer)


def _check_layer(layer: ConvLayer) -> None:
    slope = layer.activation.slope
    if not 0 <= slope < 1e6:
        raise UnsupportedLayer(
            f"{layer.name}: slope below zero {slope:g}; the fused engines take 0 to 1e6; "
            f"{PLAIN_ENGINE}"
        )
    _limit(layer.name, "maps", len(layer.weights), range(1, 257))
    for axis, kernel in enumerate(layer.weights.shape[2:]):
        _limit(layer.name, "kernel size", kernel, range(1, 8))
        _limit(layer.name, "stride", layer.stride[axis], range(1, 3))
        for pad in layer.pads[axis::2]:
            _limit(layer.name, "padding", pad, range(kernel))
        if layer.pool is not None:
            _limit(layer.name, "pooling size", layer.pool.kernel[axis], range(2, 4))
            _limit(layer.name, "pooling stride", layer.pool.stride[axis], range(1, 4))


def _limit(name: str, what: str, value: int, valid: Sequence[int]) -> None:
    if value not in valid:
        span = f"{valid[0]}..{valid[-1]}" if isinstance(valid, range) else "1 or 3"
        raise UnsupportedLayer(
            f"layer {name}: {what} {value}; the fused engines take {span}; {PLAIN_ENGINE}"
        )
