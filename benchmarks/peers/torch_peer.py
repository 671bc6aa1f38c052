"""Torch as its users write it: autograd and forward passes over the same stack, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from task import SIZE, Task

from pyoip.stack import Stack

from .variant import Variant, batches

Floats = NDArray[np.float32]


class TorchStack:
    """A `Stack` in torch; calling it gives the target's activations (B, maps, h, w)."""

    def __init__(self, stack: Stack) -> None:
        self.layers = stack.layers
        self.weights = [torch.tensor(layer.weights) for layer in stack.layers]
        self.biases = [torch.tensor(layer.bias) for layer in stack.layers]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for layer, weight, bias in zip(self.layers, self.weights, self.biases, strict=True):
            top, left, bottom, right = layer.pads
            if any(layer.pads):
                x = F.pad(x, (left, right, top, bottom))
            x = F.conv2d(x, weight.to(x), bias.to(x), layer.stride)
            x = self._activate(layer, x)
            if layer.pool is not None:
                x = self._pool(layer, x)
        return x

    @staticmethod
    def _activate(layer, x: torch.Tensor) -> torch.Tensor:
        match layer.activation.kind:
            case "relu":
                return F.relu(x)
            case "leaky_relu":
                return F.leaky_relu(x, layer.activation.slope)
            case "tanh":
                return torch.tanh(x)
            case "sigmoid":
                return torch.sigmoid(x)
        return x

    @staticmethod
    def _pool(layer, x: torch.Tensor) -> torch.Tensor:
        pool = layer.pool
        if pool.kind == "average":
            return F.avg_pool2d(x, pool.kernel, pool.stride)
        top, left, bottom, right = pool.pads
        x = F.pad(x, (left, right, top, bottom), value=-torch.inf)
        return F.max_pool2d(x, pool.kernel, pool.stride)

    def objective(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean activation of map targets[i] at image i, (B,)."""
        return self(x)[torch.arange(len(x)), targets].mean(dim=(1, 2))


def standardized(x: torch.Tensor) -> torch.Tensor:
    x = x - x.mean(dim=(1, 2, 3), keepdim=True)
    return x / x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def normalised_ascent(
    net: TorchStack, x: torch.Tensor, targets: torch.Tensor, steps: int, size: float
) -> torch.Tensor:
    """The article's rule, batched: gradient over its rms, constant step, standardise."""
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        (g,) = torch.autograd.grad(net.objective(x, targets).sum(), x)
        with torch.no_grad():
            g = g / (g.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-7)
            x = standardized(x + size * g)
    return x.detach()


class CompiledAscent:
    """The same rule, each whole step through ``torch.compile``, gradient included."""

    def __init__(self, net: TorchStack, x: torch.Tensor, targets: torch.Tensor) -> None:
        rows = torch.arange(len(x))

        def objective(x: torch.Tensor) -> torch.Tensor:
            return net(x)[rows, targets].mean(dim=(1, 2)).sum()

        def step(x: torch.Tensor) -> torch.Tensor:
            g = torch.func.grad(objective)(x)
            g = g / (g.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-7)
            return standardized(x + SIZE * g)

        self.start, self.step = x, torch.compile(step, dynamic=False)

    @torch.no_grad()
    def __call__(self, steps: int) -> Floats:
        x = self.start
        for _ in range(steps):
            x = self.step(x)
        return x.numpy()


def tangent(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """The gradient along the sphere of standardised images: without it Adam's scale is spoilt
    by the radial part, and the reference loses about 15 %."""
    g = g - g.mean(dim=(1, 2, 3), keepdim=True)
    return g - (g * x).mean(dim=(1, 2, 3), keepdim=True) * x


def adam_on_the_sphere(
    net: TorchStack,
    starts: Floats,
    targets: NDArray[np.int64],
    steps: int,
    rate: float,
    batch: int = 128,
) -> Floats:
    """Best activation along each ascent by Adam with a cosine decay of the rate, (B,).

    Of the variants tried (rates 0.02 to 0.5, constant or decaying, with and without the
    projection) the strongest: rate 0.3, decaying, projected.
    """
    best = []
    for first in range(0, len(starts), batch):
        x = torch.tensor(starts[first : first + batch]).requires_grad_(True)
        target = torch.tensor(targets[first : first + batch])
        adam = torch.optim.Adam([x], lr=rate, maximize=True)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        record = torch.full((len(x),), -torch.inf)
        for step in range(steps + 1):
            value = net.objective(x, target)
            record = torch.maximum(record, value.detach())
            if step == steps:
                break
            (g,) = torch.autograd.grad(value.sum(), x)
            with torch.no_grad():
                x.grad = tangent(x, g)
                adam.step()
                decay.step()
                x.copy_(standardized(x))
        best.append(record.numpy())
    return np.concatenate(best)


LAYOUTS = {"default": torch.contiguous_format, "channels last": torch.channels_last}


def in_layout(stack: Stack, layout: torch.memory_format) -> TorchStack:
    net = TorchStack(stack)
    net.weights = [weight.contiguous(memory_format=layout) for weight in net.weights]
    return net


def ascenders(task: Task, *, compiling: bool = False) -> Iterator[Variant]:
    """``autograd.grad`` in both memory layouts; with `compiling`, compiled whole steps too."""
    targets = torch.tensor(task.targets.astype(np.int64))
    for name, layout in LAYOUTS.items():
        net = in_layout(task.stack, layout)
        x = torch.tensor(task.starts).contiguous(memory_format=layout)

        def run(steps: int, net: TorchStack = net, x: torch.Tensor = x) -> Floats:
            return normalised_ascent(net, x, targets, steps, SIZE).numpy()

        yield Variant(f"autograd, {name}", run)
        if compiling:
            yield Variant(f"compiled, {name}", CompiledAscent(net, x, targets))


class Scorer:
    """Scores of all maps, `at_once` images at a time."""

    def __init__(self, net: TorchStack, images: torch.Tensor, at_once: int, compiled: bool) -> None:
        self.parts = images.split(at_once)
        self.means = lambda x: net(x).mean(dim=(2, 3))
        if compiled:
            self.means = torch.compile(self.means, fullgraph=True, dynamic=False)

    @torch.inference_mode()
    def __call__(self) -> Floats:
        return torch.cat([self.means(part) for part in self.parts]).numpy()


def scorers(stack: Stack, images: Floats) -> Iterator[Variant]:
    """Both layouts, eager in several batch sizes, compiled in two."""
    for name, layout in LAYOUTS.items():
        net = in_layout(stack, layout)
        x = torch.tensor(images).contiguous(memory_format=layout)
        for size in batches(len(images), (64, 256, 1024)):
            yield Variant(f"eager, {name}, {size} at once", Scorer(net, x, size, False))
        for size in batches(len(images), (64, 1024)):
            yield Variant(f"compiled, {name}, {size} at once", Scorer(net, x, size, True))
