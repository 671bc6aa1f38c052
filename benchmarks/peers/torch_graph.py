"""A network's ONNX graph rebuilt in torch, operator by operator, as a good user would write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pyoip.graph.node import Graph, Node
from pyoip.graph.response import response

Operator = Callable[..., torch.Tensor]


def _conv(node: Node) -> Operator:
    window = node.window
    assert window is not None
    pads, fill = _padding(window.pads)

    def run(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        x = F.pad(x, fill) if fill else x
        return F.conv2d(x, w, b, window.stride, pads, window.dilation, window.group)

    return run


def _max_pool(node: Node) -> Operator:
    window = node.window
    assert window is not None
    pads, fill = _padding(window.pads)

    def run(x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, fill, value=-torch.inf) if fill else x
        return F.max_pool2d(x, window.kernel, window.stride, pads, window.dilation)

    return run


def _average_pool(node: Node) -> Operator:
    window = node.window
    assert window is not None
    if any(window.pads):
        raise NotImplementedError("average pooling with pads")
    return lambda x: F.avg_pool2d(x, window.kernel, window.stride)


def _batch_norm(node: Node) -> Operator:
    epsilon = node.attributes.get("epsilon", 1e-5)

    def run(x: torch.Tensor, *statistics: torch.Tensor) -> torch.Tensor:
        scale, shift, mean, variance = statistics
        return F.batch_norm(x, mean, variance, scale, shift, eps=epsilon)

    return run


def _transpose(node: Node) -> Operator:
    perm = node.attributes["perm"]
    return lambda x: x.permute(perm)


OPERATORS: dict[str, Callable[[Node], Operator]] = {
    "Add": lambda _: torch.add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "MaxPool": _max_pool,
    "Relu": lambda _: F.relu,
    "Tanh": lambda _: torch.tanh,
    "Transpose": _transpose,
}
"""What the networks of the benchmark are made of."""


def _padding(pads: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int, int, int] | None]:
    """Return the padding that torch's windows take, or what `F.pad` adds where sides differ."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return (top, left), None
    return (0, 0), (left, right, top, bottom)


class TorchGraph:
    """A network up to the activation of one layer; calling it gives that, (B, maps, h, w)."""

    def __init__(self, graph: Graph, conv: str, layout: torch.memory_format) -> None:
        """`conv` is the tensor that the layer's convolution writes."""
        target = next(node for node in graph.nodes if conv in node.outputs)
        self.end = response(graph, target).after
        self.image = graph.image
        self.steps = [
            (OPERATORS[node.op](node), node.inputs, node.outputs[0])
            for node in _needed(graph, self.end)
        ]
        self.constants = _tensors(graph.constants, layout)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        known = {self.image: x}
        for run, inputs, output in self.steps:
            given = [known[n] if n in known else self.constants[n] for n in inputs if n]
            known[output] = run(*given)
        return known[self.end]

    def gradient(self, x: torch.Tensor, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean activation of map maps[i] at image i, and its gradient by the image."""
        x = x.detach().requires_grad_(True)
        values = self(x)[torch.arange(len(x)), maps].mean(dim=(1, 2))
        (gradient,) = torch.autograd.grad(values.sum(), x)
        return values.detach(), gradient

    def double(self) -> TorchGraph:
        """Compute in float64 from now on."""
        self.constants = {n: t.double() for n, t in self.constants.items()}
        return self


def _needed(graph: Graph, end: str) -> list[Node]:
    names, found = {end}, list[Node]()
    for node in reversed(graph.nodes):
        if not names.isdisjoint(node.outputs):
            found.append(node)
            names.update(node.inputs)
    return found[::-1]


def _tensors(arrays: Mapping[str, Any], layout: torch.memory_format) -> dict[str, torch.Tensor]:
    made = {}
    for name, array in arrays.items():
        tensor = torch.tensor(np.asarray(array))
        made[name] = tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor
    return made
