"""JAX on the CPU: the whole loop in one jitted ``fori_loop``.

Two scripts: the gradient by ``jax.grad`` through convolutions, and the one derived by hand
(`by_hand`) with matrix products for convolutions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from task import SIZE, THREADS, Floats, Task

from pyoip.stack import Stack

from .by_hand import Plan, plan
from .variant import Variant, batches, in_threads

Conv = Callable[[jax.Array, jax.Array], jax.Array]

LAYOUT = ("NHWC", "HWIO", "NHWC")


def update(x: jax.Array, g: jax.Array, pixels: tuple[int, ...]) -> jax.Array:
    """One step of the article's rule."""
    g = g / (jnp.sqrt(jnp.mean(g * g, pixels, keepdims=True)) + 1e-7)
    x = x + SIZE * g
    x = x - jnp.mean(x, pixels, keepdims=True)
    return x * lax.rsqrt(jnp.mean(x * x, pixels, keepdims=True))


# --- jax.grad ---


def convolve_xla(x: jax.Array, weight: jax.Array) -> jax.Array:
    """3×3 without padding; NHWC, HWIO."""
    return lax.conv_general_dilated(x, weight, (1, 1), "VALID", dimension_numbers=LAYOUT)


def halved(x: jax.Array) -> jax.Array:
    """2×2 max pooling."""
    window = (1, 2, 2, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


def forward(stack: Stack, x: jax.Array, count: int, conv: Conv = convolve_xla) -> jax.Array:
    """Activations of layer `count` of a stack of the shipped kind; NHWC."""
    for i, layer in enumerate(stack.layers[:count]):
        z = conv(x, jnp.asarray(layer.weights.transpose(2, 3, 1, 0))) + layer.bias
        x = jax.nn.relu(halved(z) if i + 1 < count else z)
    return x


def grad_step(stack: Stack, x: jax.Array, constants: tuple[jax.Array, ...]) -> jax.Array:
    """(B, H, W, 1) → the same; only the target map of the last layer is computed."""
    own, bias = constants

    def objective(x: jax.Array) -> jax.Array:
        below = len(stack.layers) - 1
        p = halved(forward(stack, x, below)) if below else x
        side = p.shape[1]
        taps = jnp.einsum("bpc,bck->bpk", p.reshape(len(p), side * side, -1), own)
        z = sum_of_shifts(taps.reshape(len(p), side, side, 9)) + bias[:, None, None]
        return jax.nn.relu(z).mean((1, 2)).sum()

    return update(x, jax.grad(objective)(x), (1, 2, 3))


# --- by hand ---


def sum_of_shifts(taps: jax.Array) -> jax.Array:
    """(B, h, w, 9) → (B, h - 2, w - 2)."""
    height, width = taps.shape[1] - 2, taps.shape[2] - 2
    shifted = [taps[:, k // 3 :, k % 3 :, k][:, :height, :width] for k in range(9)]
    return sum(shifted[1:], start=shifted[0])


def spread(mask: jax.Array) -> jax.Array:
    """The adjoint: (B, h, w) → (B, h + 2, w + 2, 9)."""
    height, width = mask.shape[1] + 2, mask.shape[2] + 2
    wide = jnp.pad(mask, ((0, 0), (2, 2), (2, 2)))
    shifted = [wide[:, 2 - k // 3 :, 2 - k % 3 :][:, :height, :width] for k in range(9)]
    return jnp.stack(shifted, -1)


def fold(patches: jax.Array) -> jax.Array:
    """4×4 patches at every second pixel, (B, p, p, 16), added up: (B, 2p + 2, 2p + 2)."""
    count, side = patches.shape[:2]
    parts = patches.reshape(count, side, side, 2, 2, 2, 2)
    total = 0.0
    for y in range(2):
        for x in range(2):
            edges = ((0, 0), (y, 1 - y), (x, 1 - x), (0, 0), (0, 0))
            total = total + jnp.pad(parts[:, :, :, y, :, x], edges)
    return total.transpose(0, 1, 3, 2, 4).reshape(count, 2 * side + 2, 2 * side + 2)


def one_layer_step(x: jax.Array, constants: tuple[jax.Array, ...]) -> jax.Array:
    """A single layer, the batch last: x (H, W, B), target (9, B), bias (B,)."""
    target, bias = constants
    height, width = x.shape[0] - 2, x.shape[1] - 2
    z = bias
    for k in range(9):
        z = z + target[k] * x[k // 3 : k // 3 + height, k % 3 : k % 3 + width]
    mask = jnp.pad((z > 0).astype(x.dtype) / (height * width), ((2, 2), (2, 2), (0, 0)))
    g = 0.0
    for k in range(9):
        g = g + target[k] * mask[2 - k // 3 :, 2 - k % 3 :][: height + 2, : width + 2]
    return update(x, g, (0, 1))


def windows(x: jax.Array, kernel: int, stride: int, side: int) -> jax.Array:
    """(B, H, W, C) → (B, side, side, kernel² × C)."""
    last = (side - 1) * stride + 1
    views = [
        x[:, i : i + last : stride, j : j + last : stride]
        for i in range(kernel)
        for j in range(kernel)
    ]
    return jnp.concatenate(views, -1)


def by_hand_step(
    constants: Plan, fused: bool, x: jax.Array, own: tuple[jax.Array, ...]
) -> jax.Array:
    """(B, H, W) → (B, H, W).

    `fused`: the first layer as one elementwise loop and the middle ones as XLA's convolutions,
    instead of matrix products over gathered windows.
    """
    count, side = len(x), constants.seen[0]
    conv = convolve_xla if fused else convolve
    p, first = (_first_fused if fused else _first)(constants, x[:, :side, :side])
    hits = []
    for weight, bias in constants.middle:
        p, hit = _middle(conv, weight, bias, p)
        hits.append(hit)
    d = _target(p, *own)
    for (weight, _), hit in zip(constants.middle[::-1], hits[::-1], strict=True):
        dz = jnp.where(hit, d[:, :, None, :, None], 0.0)
        dz = dz.reshape(count, 2 * d.shape[1], 2 * d.shape[1], -1)
        back = jnp.asarray(weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1))
        d = conv(jnp.pad(dz, ((0, 0), (2, 2), (2, 2), (0, 0))), back)
    routed = jnp.where(first, d[..., None, :], 0.0).reshape(count * d.shape[1] ** 2, -1)
    g = fold((routed @ constants.first.T).reshape(count, d.shape[1], d.shape[1], 16))
    rest = x.shape[1] - side, x.shape[2] - side
    return update(x, jnp.pad(g, ((0, 0), (0, rest[0]), (0, rest[1]))), (1, 2))


def _first(constants: Plan, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    side = constants.seen[1]
    patches = windows(x[..., None], 4, 2, side).reshape(-1, 16)
    z = patches @ constants.first + constants.first_bias
    return _pooled(z.reshape(len(x), side, side, 4, -1))


def _first_fused(constants: Plan, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    maps, last = constants.first.shape[1] // 4, 2 * constants.seen[1] - 1
    pixel = [[x[:, i : i + last : 2, j : j + last : 2, None] for j in range(4)] for i in range(4)]
    taps = constants.first.reshape(4, 4, 4, maps)
    values = []
    for place in range(4):
        z = constants.first_bias[:maps]
        for k in range(9):
            i, j = place // 2 + k // 3, place % 2 + k % 3
            z = z + pixel[i][j] * taps[i, j, place]
        values.append(z)
    return _pooled(jnp.stack(values, 3))


def _pooled(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(B, p, p, 4, maps) → values after ReLU (B, p, p, maps), and which of the four they are."""
    best = z.max(3)
    return jax.nn.relu(best), (z == best[..., None, :]) & (best > 0)[..., None, :]


def _middle(conv: Conv, weight: Floats, bias: Floats, p: jax.Array) -> tuple[jax.Array, jax.Array]:
    z = conv(p, jnp.asarray(weight.transpose(2, 3, 1, 0))) + bias
    half = z.shape[1] // 2
    z = z.reshape(len(z), half, 2, half, 2, -1)
    best = z.max((2, 4), keepdims=True)
    return jax.nn.relu(best)[:, :, 0, :, 0], (z == best) & (best > 0)


def convolve(x: jax.Array, weight: jax.Array) -> jax.Array:
    """3×3 without padding as a matrix product over gathered windows; NHWC, HWIO."""
    side = x.shape[1] - 2
    flat = windows(x, 3, 1, side).reshape(len(x) * side * side, -1)
    return (flat @ weight.reshape(-1, weight.shape[-1])).reshape(len(x), side, side, -1)


def _target(p: jax.Array, own: jax.Array, bias: jax.Array) -> jax.Array:
    count, side = p.shape[:2]
    taps = jnp.einsum("bpc,bck->bpk", p.reshape(count, side * side, -1), own)
    z = sum_of_shifts(taps.reshape(count, side, side, 9)) + bias[:, None, None]
    mask = spread((z > 0).astype(p.dtype) / z[0].size).reshape(count, side * side, 9)
    return jnp.einsum("bpk,bck->bpc", mask, own).reshape(p.shape)


# --- what the benchmark runs ---


class Ascender:
    """Ascents of a task, `at_once` images at a time, by ``jax.grad`` or by hand.

    XLA splits few of these loops over threads well, so `workers` parts run at the same time.
    """

    def __init__(
        self, task: Task, at_once: int, workers: int, *, by_hand: bool, fused: bool = False
    ) -> None:
        constants = plan(task)
        self.workers, self.by_hand = workers, by_hand
        self.batch_last = by_hand and constants.first is None
        if self.batch_last:
            step = one_layer_step
        elif by_hand:
            step = partial(by_hand_step, constants, fused)
        else:
            step = partial(grad_step, task.stack)
        firsts = range(0, len(task.starts), at_once)
        self.parts = [self._part(task.part(first, at_once)) for first in firsts]
        self.loop = jax.jit(
            lambda x, own, steps: lax.fori_loop(0, steps, lambda _, x: step(x, own), x)
        )

    def _part(self, task: Task) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        constants = plan(task)
        x, own = task.starts[:, 0], constants.target
        if self.batch_last:
            x, own = x.transpose(1, 2, 0), own[:, 0].T
        elif not self.by_hand:
            x = x[..., None]
        return jnp.array(x), (jnp.array(own), jnp.array(constants.target_bias))

    def __call__(self, steps: int) -> Floats:
        ends = in_threads(
            self.workers, lambda part: np.asarray(self.loop(*part, steps)), self.parts
        )
        if self.batch_last:
            ends = [x.transpose(2, 0, 1) for x in ends]
        images = np.concatenate(ends)
        return images.reshape(len(images), 1, *images.shape[1:3])


def ascenders(task: Task) -> Iterator[Variant]:
    """By hand, with both ways to use two threads, and by ``jax.grad``."""
    sizes = batches(len(task.starts), (16, 32, 64))
    styles = (False,) if len(task.stack.layers) == 1 else (False, True)
    for size, workers, fused in itertools.product(sizes, (1, THREADS), styles):
        if workers * size <= len(task.starts):
            run = Ascender(task, size, workers, by_hand=True, fused=fused)
            how = "fused" if fused else "products"
            yield Variant(f"by hand, {how}, {size} at once, workers: {workers}", run)
    size = min(64, len(task.starts))
    yield Variant(f"jax.grad, {size} at once", Ascender(task, size, 1, by_hand=False))


class Scorer:
    """Scores of all maps, `at_once` images at a time."""

    def __init__(self, stack: Stack, images: Floats, at_once: int, workers: int, conv: Conv):
        self.workers = workers
        pixels = images.transpose(0, 2, 3, 1)
        self.parts = [jnp.array(pixels[i : i + at_once]) for i in range(0, len(images), at_once)]
        self.means = jax.jit(lambda x: forward(stack, x, len(stack.layers), conv).mean((1, 2)))

    def __call__(self) -> Floats:
        ends = in_threads(self.workers, lambda x: np.asarray(self.means(x)), self.parts)
        return np.concatenate(ends)


def scorers(stack: Stack, images: Floats) -> Iterator[Variant]:
    """XLA's convolutions and matrix products, both ways to use two threads."""
    for name, conv in (("XLA convolutions", convolve_xla), ("matrix products", convolve)):
        for size in batches(len(images), (64, 256, 1024)):
            for workers in {1, min(THREADS, len(images) // size)}:
                run = Scorer(stack, images, size, workers, conv)
                yield Variant(f"{name}, {size} at once, workers: {workers}", run)
