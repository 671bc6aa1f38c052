"""Proofs that a map cannot be woken: upper bounds of its preactivation over all admissible images.

Two bounds are taken together, layer by layer. *Intervals*: every map lies between a lowest
and a highest value, exact for the first layer (the greatest inner product of a kernel with
an image of zero mean and unit deviation, or with a box), then propagated through the signs
of the weights. *Energy*: the norm of everything a position can see grows by at most the
spectral norm of each convolution (the largest singular value of its transfer function on
the grid that is seen), by the activation function's steepest slope and by what it makes of
the biases alone, and maxima and averages do not add to it; Cauchy and Schwarz then bound the
position. Both hold for every image, so a bound of 0 or less is a proof.

Sources: Gowal et al., arXiv:1810.12715 (intervals); Sedghi, Gupta and Long,
arXiv:1805.10408 (singular values of convolutions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .settings import Constraint
from .stack import ConvLayer, Pool, Stack

Array = NDArray[np.float64]

# Added to every bound, relative to the sum of absolute terms: far above the rounding of
# float64 sums of a few thousand terms.
SLACK = 1e-12


@dataclass(frozen=True)
class _Range:
    """What the maps of a layer's input can be, (C,) each."""

    low: Array
    high: Array

    def with_zero(self, padded: bool) -> _Range:
        if not padded:
            return self
        return _Range(np.minimum(self.low, 0.0), np.maximum(self.high, 0.0))

    def largest(self) -> Array:
        return np.maximum(np.abs(self.low), np.abs(self.high))


def preactivation_bounds(stack: Stack, constraint: Constraint) -> Array:
    """Upper bound of every map's preactivation at any position, over all admissible images.

    Parameters
    ----------
    stack : Stack
        Ends at the layer in question.
    constraint : Constraint

    Returns
    -------
    float64 (maps,)
        A map whose bound is 0 or less never activates: it is dead.
    """
    ranges: list[_Range] = []  # of the inputs of layers 2, 3, …
    bounds = np.empty(0)
    for number, layer in enumerate(stack.layers):
        low, high = (
            _first_layer(stack, constraint)
            if number == 0
            else _by_intervals(layer, ranges[-1].with_zero(any(layer.pads)))
        )
        if number > 0:
            energy = _energy(stack, constraint, ranges, number)
            low, high = _by_energy(layer, ranges[-1], energy, low, high)
        slack = SLACK * (np.abs(low) + np.abs(high) + np.abs(layer.bias))
        low, high = low - slack, high + slack
        bounds = high
        ranges.append(_Range(layer.activation.value(low), layer.activation.value(high)))
    return bounds


def _first_layer(stack: Stack, constraint: Constraint) -> tuple[Array, Array]:
    layer = stack.layers[0]
    kernels = layer.weights.astype(np.float64).reshape(len(layer.weights), -1)
    bias = layer.bias.astype(np.float64)
    if constraint.kind == "clip":
        pixels = _Range(np.array([constraint.low]), np.array([constraint.high]))
        pixels = pixels.with_zero(any(layer.pads))
        terms = np.stack([kernels * pixels.low, kernels * pixels.high])
        return bias + terms.min(axis=0).sum(axis=1), bias + terms.max(axis=0).sum(axis=1)
    # An image has the norm sqrt(n) and is orthogonal to the constant image. A kernel that
    # padding cuts off can have a larger tangent part than the whole one, but no larger norm.
    count = int(np.prod(stack.input_shape))
    square = (kernels**2).sum(axis=1)
    if not any(layer.pads):
        square = np.maximum(square - kernels.sum(axis=1) ** 2 / count, 0.0)
    reach = np.sqrt(count * square)
    return bias - reach, bias + reach


def _by_intervals(layer: ConvLayer, inputs: _Range) -> tuple[Array, Array]:
    weights = layer.weights.astype(np.float64).sum(axis=(2, 3), where=layer.weights > 0)
    negative = layer.weights.astype(np.float64).sum(axis=(2, 3), where=layer.weights < 0)
    high = weights @ inputs.high + negative @ inputs.low
    low = weights @ inputs.low + negative @ inputs.high
    return layer.bias + low, layer.bias + high


def _by_energy(
    layer: ConvLayer, inputs: _Range, energy: float, low: Array, high: Array
) -> tuple[Array, Array]:
    """Tighten the intervals by Cauchy–Schwarz; one-signed inputs need one sign of weights."""
    weights = layer.weights.astype(np.float64).reshape(len(layer.weights), -1)
    up = down = weights
    if (inputs.low >= 0).all():
        up, down = np.maximum(weights, 0.0), np.minimum(weights, 0.0)
    reach_up = energy * np.sqrt((up**2).sum(axis=1))
    reach_down = energy * np.sqrt((down**2).sum(axis=1))
    return np.maximum(low, layer.bias - reach_down), np.minimum(high, layer.bias + reach_up)


def _energy(stack: Stack, constraint: Constraint, ranges: list[_Range], number: int) -> float:
    """Largest norm of all that one position of layer `number` (from 0) sees of its input."""
    sizes = _sizes(stack, number)
    pixels = int(np.prod(stack.input_shape))
    seen = min(pixels, stack.input_shape[0] * sizes[0][0] * sizes[0][1])
    largest = max(abs(constraint.low), abs(constraint.high))
    energy = np.sqrt(pixels) if constraint.kind == "standardize" else largest * np.sqrt(seen)
    for i, layer in enumerate(stack.layers[:number]):
        places = sizes[i + 1][0] * sizes[i + 1][1]
        widest = np.sqrt(places * (ranges[i].largest() ** 2).sum())
        energy = min(widest, _through(layer, energy, sizes[i], places))
    return float(energy) * (1 + 1e-9)


def _sizes(stack: Stack, number: int) -> list[tuple[int, int]]:
    """For layers 0 … number: how many inputs (h, w) one position of layer `number` sees."""
    out: tuple[int, int] = (1, 1)
    sizes: list[tuple[int, int]] = []
    for layer in stack.layers[number::-1]:
        if sizes and layer.pool is not None:
            out = _window(out, layer.pool.stride, layer.pool.kernel)
        kernel = layer.weights.shape[2], layer.weights.shape[3]
        out = _window(out, layer.stride, kernel)
        sizes.append(out)
    return sizes[::-1]


def _window(
    out: tuple[int, int], stride: tuple[int, int], kernel: tuple[int, int]
) -> tuple[int, int]:
    return (out[0] - 1) * stride[0] + kernel[0], (out[1] - 1) * stride[1] + kernel[1]


def _through(layer: ConvLayer, energy: float, size: tuple[int, int], places: int) -> float:
    """Norm behind convolution, activation and pool, from the norm before them."""
    gain = spectral_norm(layer.weights.astype(np.float64), size)
    rest = layer.activation.value(layer.bias.astype(np.float64))  # of an input of zeros
    slope = layer.activation.steepest
    shared = 1.0 if layer.pool is None else _pool_gain(layer.pool)
    return float(slope * shared * gain * energy + np.sqrt(places * (rest**2).sum()))


def _pool_gain(pool: Pool) -> float:
    """Each value is counted in at most ceil(kernel / stride) windows a side."""
    times = np.prod([-(-k // s) for k, s in zip(pool.kernel, pool.stride, strict=True)])
    return float(np.sqrt(times / (np.prod(pool.kernel) if pool.kind == "average" else 1)))


def spectral_norm(weights: Array, size: tuple[int, int]) -> float:
    """Largest gain of a convolution on an input of `size` (h, w) without padding, from above.

    Its outputs are some of those of the circular convolution on the same grid, whose
    singular values are those of the transfer matrices at the grid's frequencies.
    """
    transfer = np.fft.rfft2(weights, size, axes=(2, 3))
    return float(np.linalg.norm(transfer.transpose(2, 3, 0, 1), 2, axis=(2, 3)).max())
