"""The definition, in float64 NumPy: what every engine computes, written to be read.

Nothing here is fast. `pyoip.engines` offers it as ``engine="reference"``; the tests hold
every other engine to it.

Conventions. A maximum over a pooling window goes to the first of equal values in row-major
order. The activation functions are those of `pyoip.activation`; the derivative of ReLU at
0 is 0, of LeakyReLU its slope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .settings import Constraint, Objective, Settings
from .stack import ConvLayer, Pool, Stack

Array = NDArray[np.float64]

QUIET_WINDOWS = 3  # halvings of the step in a row without a gain that end an ascent

STEPS, CONVERGED, ZERO_GRADIENT, INTERRUPTED = range(4)


# --- the network ---------------------------------------------------------------------------


def _windows(
    x: Array, kernel: tuple[int, int], stride: tuple[int, int], out: tuple[int, int]
) -> Array:
    """(B, C, h, w, kernel_h, kernel_w): every window of the padded x that an output sees."""
    views = sliding_window_view(x, kernel, axis=(2, 3))
    return views[:, :, :: stride[0], :: stride[1]][:, :, : out[0], : out[1]]


def _pad(x: Array, pads: tuple[int, int, int, int], value: float) -> Array:
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _crop(x: Array, pads: tuple[int, int, int, int], shape: tuple[int, int]) -> Array:
    return x[:, :, pads[0] : pads[0] + shape[0], pads[1] : pads[1] + shape[1]]


def convolve(layer: ConvLayer, x: Array) -> Array:
    """Preactivations (B, maps, h, w) of x (B, C, H, W)."""
    kernel = layer.weights.shape[2:]
    windows = _windows(_pad(x, layer.pads, 0.0), kernel, layer.stride, layer.output_shape[1:])
    z = np.tensordot(windows, layer.weights.astype(np.float64), axes=((1, 4, 5), (1, 2, 3)))
    out: Array = z.transpose(0, 3, 1, 2) + layer.bias.astype(np.float64)[:, None, None]
    return out


def convolve_back(layer: ConvLayer, dz: Array) -> Array:
    """The gradient by the convolution's input, from the one by its output."""
    weights = layer.weights.astype(np.float64)
    (top, left, bottom, right), (sy, sx) = layer.pads, layer.stride
    _, height, width = layer.input_shape
    dx = np.zeros((len(dz), weights.shape[1], top + height + bottom, left + width + right))
    rows, columns = dz.shape[2:]
    for ky in range(weights.shape[2]):
        for kx in range(weights.shape[3]):
            taps = np.tensordot(dz, weights[:, :, ky, kx], axes=((1,), (0,))).transpose(0, 3, 1, 2)
            dx[:, :, ky : ky + rows * sy : sy, kx : kx + columns * sx : sx] += taps
    return _crop(dx, layer.pads, (height, width))


def pool(pooling: Pool, a: Array, out: tuple[int, int]) -> tuple[Array, NDArray[np.intp]]:
    """Pooled values and, for a maximum, which place of its window each came from."""
    fill = -np.inf if pooling.kind == "max" else 0.0
    windows = _windows(_pad(a, pooling.pads, fill), pooling.kernel, pooling.stride, out)
    flat = windows.reshape(*windows.shape[:4], -1)
    if pooling.kind == "average":
        return flat.mean(axis=-1), np.empty(0, np.intp)
    place = flat.argmax(axis=-1)
    return np.take_along_axis(flat, place[..., None], axis=-1)[..., 0], place


def pool_back(pooling: Pool, dp: Array, place: NDArray[np.intp], shape: tuple[int, int]) -> Array:
    """The gradient by the pool's input."""
    (top, left, bottom, right), (sy, sx) = pooling.pads, pooling.stride
    rows, columns = dp.shape[2:]
    high = max(top + shape[0] + bottom, (rows - 1) * sy + pooling.kernel[0])
    wide = max(left + shape[1] + right, (columns - 1) * sx + pooling.kernel[1])
    da = np.zeros((*dp.shape[:2], high, wide))
    for k in range(pooling.kernel[0] * pooling.kernel[1]):
        y, x = divmod(k, pooling.kernel[1])
        share = dp / (pooling.kernel[0] * pooling.kernel[1])
        routed = share if pooling.kind == "average" else dp * (place == k)
        da[:, :, y : y + rows * sy : sy, x : x + columns * sx : sx] += routed
    return _crop(da, pooling.pads, shape)


@dataclass(frozen=True)
class Trace:
    """What a layer's forward pass leaves for its backward pass."""

    z: Array
    place: NDArray[np.intp]


def forward(stack: Stack, images: Array) -> tuple[list[Trace], Array]:
    """Traces of all layers but the target, and the target's preactivations (B, maps, h, w)."""
    x, traces = images.astype(np.float64), []
    for layer in stack.layers[:-1]:
        z = convolve(layer, x)
        x, place = layer.activation.value(z), np.empty(0, np.intp)
        if layer.pool is not None:
            x, place = pool(layer.pool, x, layer.pooled_shape[1:])
        traces.append(Trace(z, place))
    return traces, convolve(stack.layers[-1], x)


def activations(stack: Stack, images: Array) -> Array:
    """The target's activations (B, maps, h, w)."""
    return stack.layers[-1].activation.value(forward(stack, images)[1])


def score(stack: Stack, images: Array, objective: Objective) -> Array:
    """The objective of every map, (B, maps)."""
    z = forward(stack, images)[1]
    values = z if objective == "preactivation" else stack.layers[-1].activation.value(z)
    means: Array = values.mean(axis=(2, 3))
    return means


@dataclass(frozen=True)
class Value:
    """One evaluation of every image (B,): means over positions, and the gradient (B, C, H, W)."""

    activation: Array
    preactivation: Array
    peak: Array  # the highest preactivation
    asleep: NDArray[np.bool_]  # a ReLU that is off at every position
    gradient: Array


def evaluate(
    stack: Stack, images: Array, targets: NDArray[np.integer], objective: Objective, wake: bool
) -> Value:
    """Objective and gradient of map `targets[i]` at image i.

    With `wake`, a map that a ReLU silences everywhere is followed on its highest
    preactivation: one position above 0 is enough to be alive.
    """
    traces, all_z = forward(stack, images)
    target = stack.layers[-1]
    z = all_z[np.arange(len(images)), targets]
    a = target.activation.value(z)
    activation, preactivation = a.mean(axis=(1, 2)), z.mean(axis=(1, 2))
    asleep = (activation <= 0) & target.activation.function.gates
    flat = z.reshape(len(z), -1)
    linear = objective == "preactivation"
    slope = np.ones_like(z) if linear else target.activation.derivative(z)
    slope /= z[0].size
    for i in np.flatnonzero(asleep) if wake and not linear else ():
        slope[i] = 0.0
        slope[i].flat[flat[i].argmax()] = 1.0

    d = np.zeros_like(all_z)
    d[np.arange(len(images)), targets] = slope
    d = convolve_back(target, d)
    for layer, trace in zip(stack.layers[-2::-1], traces[::-1], strict=True):
        if layer.pool is not None:
            d = pool_back(layer.pool, d, trace.place, layer.output_shape[1:])
        d = convolve_back(layer, d * layer.activation.derivative(trace.z))
    return Value(activation, preactivation, flat.max(axis=1), asleep, d)


# --- the ascent ----------------------------------------------------------------------------


def constrain(constraint: Constraint, x: Array) -> Array:
    """The image, brought to the constraint."""
    if constraint.kind == "clip":
        return np.clip(x, constraint.low, constraint.high)
    x = x - x.mean()
    deviation = np.sqrt((x * x).mean())
    return x / deviation if deviation > 0 else x


def make_tangent(constraint: Constraint, x: Array, g: Array) -> Array:
    """The gradient without what the constraint would take back."""
    if constraint.kind == "clip":
        out = ((x >= constraint.high) & (g > 0)) | ((x <= constraint.low) & (g < 0))
        return np.where(out, 0.0, g)
    out_of_sphere: Array = g.mean() + (g * x).mean() * x
    return g - out_of_sphere


def blur(x: Array) -> Array:
    """The 3×3 binomial blur of every channel (C, H, W), edges replicated."""
    for axis in (1, 2):
        pad = [(1, 1) if i == axis else (0, 0) for i in range(3)]
        y = np.pad(x, pad, mode="edge")
        n = x.shape[axis]
        low, high = np.take(y, range(n), axis), np.take(y, range(2, n + 2), axis)
        x = 0.25 * (low + high) + 0.5 * x
    return x


@dataclass
class Ascent:
    """The outcome of one ascent."""

    image: Array
    history: Array  # (steps + 1,), NaN after the end
    snapshots: Array
    activation: float
    preactivation: float
    steps: int
    woke: int
    stop: int


def ascend_one(
    stack: Stack,
    start: Array,
    target: int,
    settings: Settings,
    cancelled: Callable[[], bool] = lambda: False,
) -> Ascent:
    """One ascent from `start` (C, H, W): the loop that every engine repeats.

    The best image seen is kept. After every window of `patience` steps (at least `smooth`),
    if the best objective's relative gain over the window is at most `tolerance`, the step
    size halves; the fourth such window in a row ends the ascent as converged. While a map
    sleeps, its highest preactivation (at most 0) takes the objective's place.
    """
    s, article = settings, settings.method == "article"
    momentum, size = (0.0 if article else s.momentum), s.step_size
    window, since, quiet = max(s.patience, s.smooth), 0, 0
    x, v = constrain(s.constraint, start.astype(np.float64)), np.zeros(start.shape)
    out = Ascent(x, np.full(s.steps + 1, np.nan), np.zeros(0), 0.0, 0.0, 0, -1, STEPS)
    best = mark = -np.inf
    snapshots: list[Array] = []
    for t in range(s.steps + 1):
        value = evaluate(stack, x[None], np.array([target]), s.objective, wake=not article)
        activation, preactivation = float(value.activation[0]), float(value.preactivation[0])
        asleep, g = bool(value.asleep[0]), value.gradient[0]
        out.history[t] = preactivation if s.objective == "preactivation" else activation
        if out.woke < 0 and not asleep:
            out.woke = t
        merit = preactivation if s.objective == "preactivation" else activation
        if asleep and s.objective == "activation":
            merit = float(value.peak[0])
        if merit > best:
            best = merit
            out.image, out.activation, out.preactivation = x, activation, preactivation
        if t in s.snapshots:
            snapshots.append(x)

        out.steps = t
        mark = best if t == 0 else mark
        since += t > 0
        if not g.any():
            out.stop = ZERO_GRADIENT
        elif cancelled():
            out.stop = INTERRUPTED
        elif not article and since == window:
            small = best - mark <= s.tolerance * abs(best)
            since, mark = 0, best
            quiet = quiet + 1 if small else 0
            size = size / 2 if small else size
            out.stop = CONVERGED if quiet > QUIET_WINDOWS else STEPS
        if out.stop != STEPS or t == s.steps:
            break

        if not article:
            g = make_tangent(s.constraint, x, g)
        v = momentum * v + g / (np.sqrt((g * g).mean()) + 1e-7)
        x = x + size * v
        if s.smooth and (t + 1) % s.smooth == 0:
            x = blur(x)
        x = constrain(s.constraint, x)
    snapshots += [out.image] * (len(s.snapshots) - len(snapshots))
    out.snapshots = np.array(snapshots).reshape(len(s.snapshots), *start.shape)
    return out


# --- the generator -------------------------------------------------------------------------


def philox(counter: NDArray[np.uint32], seed: int) -> NDArray[np.uint32]:
    """Philox4x32-10 of counters (n, 4)."""
    x = [counter[:, i].astype(np.uint64) for i in range(4)]
    key = [np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)]
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * x[0], np.uint64(0xCD9E8D57) * x[2]
        x = [(p1 >> shift) ^ x[1] ^ key[0], p1 & low, (p0 >> shift) ^ x[3] ^ key[1], p0 & low]
        key = [(key[0] + np.uint64(0x9E3779B9)) & low, (key[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(x, axis=1).astype(np.uint32)


def normal_values(seed: int, stream: int, slot: int, index: int, count: int) -> NDArray[np.float64]:
    """Standard normal values by the Box–Muller transform of Philox, in float64.

    The first and third word of a block give u = (word >> 8) + 1 over 2**24, the second and
    fourth an angle in turns; each pair gives r·cos and r·sin, r = sqrt(-2 ln u).
    """
    blocks = np.arange((count + 3) // 4, dtype=np.uint32)
    counter = np.empty((len(blocks), 4), np.uint32)
    counter[:, 0] = blocks
    counter[:, 1:] = (stream << 8) | slot, index & 0xFFFFFFFF, index >> 32
    words = philox(counter, seed)
    u = ((words[:, 0::2] >> 8) + 1) / 2.0**24
    angle = 2 * np.pi * words[:, 1::2] / 2.0**32
    r = np.sqrt(-2 * np.log(u))
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=2).reshape(-1)[:count]
