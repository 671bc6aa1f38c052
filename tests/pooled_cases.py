"""Cases of poolings behind functions and convolutions, which a derivation writes otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from operator_case import Array, Case, Truth, tied

F = torch.nn.functional

_HALF = "MaxPool <kernel_shape = [2, 2], strides = [2, 2]>"
_BATCH_NORM = "BatchNormalization(r, gain, shift, mean, variance)"
_STATISTICS: dict[str, Array] = {
    "gain": np.float32([0.5, 2]),
    "shift": np.float32([0.3, -0.2]),
    "mean": np.float32([0.1, -0.1]),
    "variance": np.float32([0.5, 2]),
}


def _normalised(x: torch.Tensor, gain: Any, shift: Any, mean: Any, variance: Any) -> torch.Tensor:
    return F.batch_norm(x, mean, variance, gain, shift)


def _pooled(function: Truth) -> Truth:
    return lambda x, *rest: F.max_pool2d(function(x, *rest), 2)


def _behind(nodes: str, function: Truth, **more: Any) -> list[Case]:
    """Cases of a function under a pooling, plain and with ties."""
    text = f"{nodes}; y = {_HALF} (f)"
    return [Case(text, _pooled(function), change=change, **more) for change in (np.asarray, tied)]


FUNCTIONS: list[Case] = [
    *_behind("f = Relu(x)", torch.relu),
    *_behind("f = Tanh(x)", torch.tanh),
    *_behind("f = LeakyRelu <alpha = 0.3> (x)", lambda x: F.leaky_relu(x, 0.3)),
    # These fall somewhere, and the largest value is not that of the largest.
    *_behind("f = LeakyRelu <alpha = -0.5> (x)", lambda x: F.leaky_relu(x, -0.5)),
    *_behind("f = Mul(x, a)", lambda x, a: x * a, constants={"a": np.full((2, 1, 1), -1.5, "f")}),
    *_behind("f = Sub(a, x)", lambda x, a: a - x, constants={"a": np.float32(0.5)}),
    *_behind("f = Abs(x)", torch.abs),
    # Several behind one another; one gain below 0 keeps the pooling behind it.
    *_behind(
        f"r = Relu(x); f = {_BATCH_NORM}",
        lambda x, *s: _normalised(torch.relu(x), *s),
        constants=_STATISTICS,
    ),
    *_behind(
        f"r = Relu(x); f = {_BATCH_NORM}",
        lambda x, *s: _normalised(torch.relu(x), *s),
        constants={**_STATISTICS, "gain": np.float32([0.5, -2])},
    ),
    *_behind(
        "a = Add(x, c); r = Relu(a); f = Mul(r, d)",
        lambda x, c, d: torch.relu(x + c) * d,
        constants={"c": (2, 1, 1), "d": np.float32(3)},
    ),
    Case(  # a value of its own for each position
        f"f = Add(x, a); y = {_HALF} (f)",
        _pooled(lambda x, a: x + a),
        shape=(2, 4, 6),
        constants={"a": (2, 4, 6)},
    ),
    Case(  # what is pooled is used elsewhere too
        f"r = Relu(x); p = {_HALF} (r); q = AveragePool <kernel_shape = [2, 2], strides = [2, 2]>"
        " (r); y = Add(p, q)",
        lambda x: F.max_pool2d(x.relu(), 2) + F.avg_pool2d(x.relu(), 2),
    ),
    Case(  # pads lie below every value, of which some are below 0
        "t = Tanh(x); "
        "y = MaxPool <kernel_shape = [2, 3], strides = [2, 3], pads = [1, 1, 0, 2]> (t)",
        lambda x: F.max_pool2d(F.pad(x, (1, 2, 1, 0), value=-torch.inf), (2, 3)).tanh(),
        shape=(2, 5, 6),
    ),
    Case(  # windows that overlap
        "t = Tanh(x); y = MaxPool <kernel_shape = [3, 2], strides = [2, 1]> (t)",
        lambda x: F.max_pool2d(x.tanh(), (3, 2), (2, 1)),
        change=tied,
    ),
]


def _whole(*shape: int) -> Array:
    """Weights that make ties of ties."""
    return np.random.default_rng(5).integers(-2, 3, shape).astype(np.float32)


def _conv(attributes: str, pool: str, truth: Truth, shape: tuple[int, int, int]) -> list[Case]:
    nodes = f"c = Conv <{attributes}> (x, w, b); y = MaxPool <{pool}> (c)"
    constants = {"w": _whole(3, shape[0], 2, 3), "b": _whole(3)}
    return [Case(nodes, truth, shape, constants, change=change) for change in (np.asarray, tied)]


CONVOLVED: list[Case] = [
    *_conv(
        "pads = [1, 0, 0, 2]",
        "kernel_shape = [2, 2], strides = [2, 2]",
        lambda x, w, b: F.max_pool2d(F.conv2d(F.pad(x, (0, 2, 1, 0)), w, b), 2),
        (2, 6, 7),
    ),
    *_conv(  # the last rows and columns lie in no window
        "pads = [1, 1, 1, 1]",
        "kernel_shape = [3, 2], strides = [3, 2]",
        lambda x, w, b: F.max_pool2d(F.conv2d(x, w, b, padding=1), (3, 2)),
        (1, 7, 6),
    ),
    *_conv(  # values between the windows that none looks at
        "pads = [0, 1, 0, 1]",
        "kernel_shape = [1, 2], strides = [2, 3]",
        lambda x, w, b: F.max_pool2d(F.conv2d(x, w, b, padding=(0, 1)), (1, 2), (2, 3)),
        (2, 6, 8),
    ),
    *_conv(
        "strides = [2, 1], dilations = [1, 2], pads = [2, 1, 1, 0]",
        "kernel_shape = [2, 2], strides = [2, 2]",
        lambda x, w, b: F.max_pool2d(F.conv2d(F.pad(x, (1, 0, 2, 1)), w, b, (2, 1), 0, (1, 2)), 2),
        (2, 8, 9),
    ),
    *_conv(  # a stride that leaves pixels over, under a pooling that leaves a row over
        "strides = [3, 3]",
        "kernel_shape = [2, 2], strides = [2, 2]",
        lambda x, w, b: F.max_pool2d(F.conv2d(x, w, b, 3), 2),
        (1, 10, 16),
    ),
    *_conv(  # not taken apart: windows that overlap, and a large one
        "pads = [0, 0, 0, 0]",
        "kernel_shape = [3, 3], strides = [2, 2]",
        lambda x, w, b: F.max_pool2d(F.conv2d(x, w, b), 3, 2),
        (1, 6, 9),
    ),
    *_conv(
        "pads = [0, 0, 0, 0]",
        "kernel_shape = [9, 1], strides = [9, 1]",
        lambda x, w, b: F.max_pool2d(F.conv2d(x, w, b), (9, 1)),
        (1, 10, 5),
    ),
    Case(  # the convolution's values are used elsewhere too
        f"c = Conv(x, w); p = {_HALF} (c); "
        "q = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (c); y = Add(p, q)",
        lambda x, w: F.max_pool2d(F.conv2d(x, w), 2) + F.avg_pool2d(F.conv2d(x, w), 2),
        constants={"w": (3, 2, 2, 3)},
    ),
    Case(
        f"c = Conv <group = 2> (x, w); y = {_HALF} (c)",
        lambda x, w: F.max_pool2d(F.conv2d(x, w, groups=2), 2),
        constants={"w": (4, 1, 2, 3)},
    ),
    Case(  # the usual block, with a bias of its own
        f"c = Conv <pads = [1, 1, 1, 1]> (x, w); a = Add(c, b); r = Relu(a); y = {_HALF} (r)",
        lambda x, w, b: F.max_pool2d(torch.relu(F.conv2d(x, w, padding=1) + b), 2),
        shape=(2, 6, 8),
        constants={"w": (3, 2, 3, 3), "b": (3, 1, 1)},
    ),
]
