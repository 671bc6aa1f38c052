"""Every operator's gradient, with awkward parameters, beside torch's or finite differences.

A case is a few nodes from the image ``x`` to a tensor ``y``, in ONNX's own text. Its network is
``y`` weighed by random numbers and summed by a convolution; it is saved for one image, and its
gradient is taken for three. torch computes the same in float64; where it has no such operator,
the truth is finite differences of ONNX's reference implementation in float64.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from operator_case import Array, Case, Truth, tied
from pooled_cases import CONVOLVED, FUNCTIONS
from problems import relative_error
from resize_cases import RESIZED
from spatial_cases import CONVOLUTIONS, MOVEMENT, POOLS

import pyoip
from pyoip.gradient.operators import OPERATORS
from pyoip.gradient.step import gradient_model, locate, score_model
from pyoip.gradient.tape import LANES

# float32 beside float64, relative to the largest value; sums have up to a few hundred terms.
TOLERANCE = 3e-6
STEP = 1e-5  # of finite differences in float64, whose error is then about 1e-9
IMAGES = 3


F = torch.nn.functional


def _positive(*shape: int) -> Array:
    """Constants that may stand below a fraction or under a root."""
    return np.random.default_rng(3).uniform(0.5, 2, shape).astype(np.float32)


def _softplus(x: torch.Tensor) -> torch.Tensor:
    """torch's own goes over to x where it is large."""
    return torch.logaddexp(x, torch.zeros_like(x))


def _along(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The second operand along the channels."""
    return lambda x, a: function(x, a[:, None, None])


_CHANNEL: dict[str, Any] = {"constants": {"a": _positive(2)}, "opset": 6}


def _product(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keep)
    return x


def _reduced(
    inner: Callable[..., torch.Tensor], outer: Callable[..., torch.Tensor] | None = None
) -> Callable[..., torch.Tensor]:
    """A sum of `inner`, and `outer` of that; torch sums over all axes where none is named."""

    def reduce(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
        total = inner(x).sum(axes, keep) if axes else inner(x)
        return total if outer is None else outer(total)

    return reduce


_REDUCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "ReduceSum": _reduced(torch.clone),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keep) if axes else x,
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keep) if axes else x,
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keep) if axes else x,
    "ReduceProd": _product,
    "ReduceL1": _reduced(torch.abs),
    "ReduceL2": _reduced(torch.square, torch.sqrt),
    "ReduceSumSquare": _reduced(torch.square),
    "ReduceLogSum": _reduced(torch.clone, torch.log),
    "ReduceLogSumExp": _reduced(torch.exp, torch.log),
}


def _lrn(x: torch.Tensor, size: int, alpha: float, beta: float, bias: float) -> torch.Tensor:
    """As ONNX defines it; torch lays windows of even size otherwise."""
    before, channels = (size - 1) // 2, x.shape[1]
    rows = [range(max(c - before, 0), min(c + size // 2 + 1, channels)) for c in range(channels)]
    sums = torch.stack([x[:, list(row)].square().sum(1) for row in rows], 1)
    return x * (bias + alpha / size * sums) ** -beta


def _ends(zero: torch.Tensor) -> tuple[int, int]:
    """The least and the largest value of a quantised type."""
    return torch.iinfo(zero.dtype).min, torch.iinfo(zero.dtype).max


def _with_zeros(x: Array) -> Array:
    """One zero in some columns, two in others, and a column of zeros."""
    x[..., 1, 1:] = 0
    x[..., 3, 3:] = 0
    x[..., 5] = 0
    return x


def _rows_by_rows(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bchi,bchj->bhij", x, x.tanh())


def _rows_by_columns(x: torch.Tensor) -> torch.Tensor:
    return x @ x.tanh().transpose(2, 3)


_MEAN = "s = ReduceMean <axes = [1]> (x)"
_ROWS = "s = ReduceMean <axes = [2]> (x)"


def _max_pool(kernel: Any, pads: tuple[int, int, int, int] = (0, 0, 0, 0), **more: Any) -> Truth:
    """Maximum pooling, `pads` being (left, right, top, bottom)."""

    def truth(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.pad(x, pads, value=-torch.inf), kernel, **more)

    return truth


MAX_POOLS: list[tuple[str, tuple[int, int, int], Truth]] = [
    # windows that do not overlap
    ("kernel_shape = [2, 2], strides = [2, 2]", (2, 4, 6), _max_pool(2)),
    ("kernel_shape = [2, 2], strides = [2, 2]", (3, 5, 7), _max_pool(2)),
    ("kernel_shape = [3, 3], strides = [3, 3]", (2, 9, 10), _max_pool(3)),
    ("kernel_shape = [3, 1], strides = [3, 2]", (2, 7, 6), _max_pool((3, 1), stride=(3, 2))),
    ("kernel_shape = [1, 3], strides = [1, 3]", (2, 5, 6), _max_pool((1, 3))),
    ("kernel_shape = [1, 1], strides = [2, 3]", (2, 5, 6), _max_pool(1, stride=(2, 3))),
    ("kernel_shape = [2, 3], strides = [4, 5]", (2, 8, 12), _max_pool((2, 3), stride=(4, 5))),
    ("kernel_shape = [2, 2], strides = [3, 3]", (2, 5, 8), _max_pool(2, stride=3)),
    (
        "kernel_shape = [2, 3], strides = [2, 3], pads = [1, 0, 0, 2]",
        (2, 5, 7),
        _max_pool((2, 3), (0, 2, 1, 0)),
    ),
    (
        "kernel_shape = [2, 2], strides = [3, 3], pads = [1, 1, 0, 1]",
        (2, 6, 6),
        _max_pool(2, (1, 1, 1, 0), stride=3),
    ),
    (
        'kernel_shape = [2, 4], strides = [2, 4], auto_pad = "SAME_UPPER"',
        (2, 5, 6),
        _max_pool((2, 4), (1, 1, 0, 1)),
    ),
    (
        'kernel_shape = [2, 3], strides = [2, 3], auto_pad = "SAME_LOWER"',
        (2, 5, 7),
        _max_pool((2, 3), (1, 1, 1, 0)),
    ),
    (
        'kernel_shape = [2, 2], strides = [2, 2], auto_pad = "VALID", storage_order = 1',
        (2, 5, 6),
        _max_pool(2),
    ),
    (
        "kernel_shape = [2, 3], strides = [2, 3], ceil_mode = 1",
        (2, 5, 7),
        _max_pool((2, 3), ceil_mode=True),
    ),
    # windows that overlap, have holes, or are large
    ("kernel_shape = [3, 2], strides = [2, 1]", (2, 5, 6), _max_pool((3, 2), stride=(2, 1))),
    ("kernel_shape = [2, 2]", (2, 5, 6), _max_pool(2, stride=1)),
    (
        "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], storage_order = 1",
        (2, 6, 7),
        _max_pool(3, (1, 1, 1, 1), stride=2),
    ),
    (
        "kernel_shape = [3, 3], strides = [2, 2], pads = [0, 1, 0, 0], ceil_mode = 1",
        (2, 6, 7),
        _max_pool(3, (1, 0, 0, 0), stride=2, ceil_mode=True),
    ),
    (
        'kernel_shape = [3, 4], strides = [2, 2], auto_pad = "SAME_UPPER"',
        (2, 6, 7),
        _max_pool((3, 4), (1, 2, 0, 1), stride=2),
    ),
    (
        'kernel_shape = [3, 4], strides = [2, 2], auto_pad = "SAME_LOWER"',
        (2, 6, 7),
        _max_pool((3, 4), (2, 1, 1, 0), stride=2),
    ),
    (
        "kernel_shape = [2, 2], strides = [3, 3], dilations = [2, 2]",
        (2, 7, 6),
        _max_pool(2, stride=3, dilation=2),
    ),
    (
        "kernel_shape = [2, 3], strides = [1, 2], dilations = [3, 2], pads = [1, 2, 1, 1]",
        (2, 6, 7),
        _max_pool((2, 3), (2, 1, 1, 1), stride=(1, 2), dilation=(3, 2)),
    ),
    ("kernel_shape = [9, 2], strides = [9, 2]", (1, 19, 4), _max_pool((9, 2))),
]

CASES = [
    Case("y = Identity(x)", lambda x: x),
    Case("y = Unsqueeze <axes = [1]> (x)", lambda x: x[:, None], opset=11),
    # Functions of one value. Where x is rounded, values lie on the bends.
    Case("y = Relu(x)", torch.relu),
    Case(
        "r = Relu(x); y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)",
        lambda x: F.max_pool2d(torch.relu(x), 2),
    ),
    Case(
        "r = Relu(x); p = MaxPool <kernel_shape = [1, 1], strides = [1, 1]> (r); y = Add(p, r)",
        lambda x: 2 * torch.relu(x),
    ),
    Case("y = Relu(x)", torch.relu, change=np.round),
    Case("y = LeakyRelu(x)", F.leaky_relu),
    Case("y = LeakyRelu <alpha = 0.3> (x)", lambda x: F.leaky_relu(x, 0.3), change=np.round),
    Case("y = LeakyRelu <alpha = -0.5> (x)", lambda x: F.leaky_relu(x, -0.5), opset=6),
    Case("y = PRelu(x, a)", lambda x, a: F.prelu(x, a[0, 0]), constants={"a": (1, 1, 1)}),
    Case(
        "y = PRelu(x, a)",
        lambda x, a: F.prelu(x, a[:, 0, 0]),
        constants={"a": (2, 1, 1)},
        opset=7,
        change=np.round,
    ),
    Case("y = PRelu(x, a)", F.prelu, constants={"a": (2,)}, opset=6),
    Case("y = PRelu(x, a)", F.prelu, constants={"a": (1,)}, opset=6),
    Case("y = PRelu(x, a)", lambda x, a: torch.where(x > 0, x, a * x), constants={"a": (5, 1)}),
    Case("s = Abs(x); y = PRelu(x, s)", lambda x: torch.where(x > 0, x, x.abs() * x)),
    Case("y = Elu(x)", F.elu, opset=6, change=lambda x: 30 * x),
    Case("y = Elu <alpha = 0.5> (x)", lambda x: F.elu(x, 0.5), change=np.round),
    Case("y = Elu(x)", F.elu, change=lambda x: x - 16),
    Case("y = Selu(x)", F.selu, change=np.round),
    Case(
        "y = Selu <alpha = 1.5, gamma = 0.7> (x)",
        lambda x: 0.7 * F.elu(x, 1.5),
        opset=6,
    ),
    Case("y = Celu(x)", F.celu, change=np.round),
    Case("y = Celu <alpha = 0.4> (x)", lambda x: F.celu(x, 0.4), opset=12),
    Case("y = ThresholdedRelu(x)", lambda x: F.threshold(x, 1.0, 0.0), opset=10),
    Case(
        "y = ThresholdedRelu <alpha = -0.5> (x)",
        lambda x: F.threshold(x, -0.5, 0.0),
        change=lambda x: np.round(2 * x) / 2,
    ),
    Case("y = Gelu(x)", F.gelu, opset=20, change=lambda x: 5 * x),
    Case(
        'y = Gelu <approximate = "tanh"> (x)',
        lambda x: F.gelu(x, approximate="tanh"),
        opset=20,
        change=lambda x: 5 * x,
    ),
    Case("y = Sigmoid(x)", torch.sigmoid, opset=6),
    Case("y = Sigmoid(x)", torch.sigmoid, change=lambda x: x + 16),
    Case("y = Sigmoid(x)", torch.sigmoid, change=lambda x: 50 * x),
    Case(
        "y = HardSigmoid(x)", lambda x: (0.2 * x + 0.5).clamp(0, 1), opset=6, change=lambda x: 3 * x
    ),
    Case(
        "y = HardSigmoid <alpha = 0.5, beta = 0.25> (x)",
        lambda x: F.hardtanh(0.5 * x + 0.25, 0.0, 1.0),
        change=lambda x: np.round(2 * x) / 2,
    ),
    Case("y = HardSwish(x)", F.hardswish, opset=14, change=lambda x: 3 * x),
    Case("y = Swish(x)", F.silu, opset=24, change=lambda x: 30 * x),
    Case("y = Swish <alpha = 1.7> (x)", lambda x: x * torch.sigmoid(1.7 * x), opset=24),
    Case("y = Tanh(x)", torch.tanh, opset=6),
    Case("y = Tanh(x)", lambda x: 2 * torch.sigmoid(2 * x) - 1, change=lambda x: x - 9),
    Case("y = Softplus(x)", _softplus),
    Case("y = Softplus(x)", _softplus, change=lambda x: 50 * x),
    Case("y = Softplus(x)", _softplus, change=lambda x: x - 16),
    Case("y = Softsign(x)", F.softsign, opset=6),
    Case("y = Mish(x)", F.mish),
    Case("y = Mish(x)", F.mish, change=lambda x: 50 * x),
    Case("y = Mish(x)", F.mish, change=lambda x: x - 16),
    Case("y = Clip <min = -0.5, max = 1.0> (x)", lambda x: x.clamp(-0.5, 1), opset=6),
    Case(
        "y = Clip <max = 0.5> (x)",
        lambda x: x.clamp(max=0.5),
        opset=10,
        change=lambda x: np.round(2 * x) / 2,
    ),
    Case("y = Clip <min = -1.0> (x)", lambda x: x.clamp(min=-1), opset=9, change=np.round),
    Case(
        "y = Clip(x, a, b)",
        lambda x, a, b: x.clamp(a, b),
        constants={"a": np.float32(-1), "b": np.float32(1)},
        opset=11,
        change=np.round,
    ),
    Case("y = Clip(x, , b)", lambda x, b: x.clamp(max=b), constants={"b": np.float32(0.3)}),
    Case("y = Clip(x, a)", lambda x, a: x.clamp(min=a), constants={"a": np.float32(0.3)}),
    Case("c = Clip(x); y = Mul(c, x)", lambda x: x * x),
    Case("y = Abs(x)", torch.abs, opset=6, change=np.round),
    Case("y = Neg(x)", torch.neg, opset=6),
    Case("y = Exp(x)", torch.exp, opset=6),
    Case("y = Log(x)", torch.log, opset=6, positive=True),
    Case("y = Sqrt(x)", torch.sqrt, opset=6, positive=True),
    Case("y = Sqrt(x)", torch.sqrt, change=lambda x: np.exp(5 * x - 20)),
    Case("y = Reciprocal(x)", torch.reciprocal, opset=6, positive=True),
    Case("y = Erf(x)", torch.erf, opset=9),
    Case("y = Erf(x)", torch.erf, change=lambda x: 30 * x),
    Case("y = Sin(x)", torch.sin, opset=7),
    Case("y = Cos(x)", torch.cos, opset=7),
    Case("s = Floor(x); y = Mul(s, x)", lambda x: x.floor() * x, opset=6),
    Case("s = Ceil(x); y = Mul(s, x)", lambda x: x.ceil() * x, opset=6),
    Case("s = Round(x); y = Mul(s, x)", lambda x: x.round() * x, opset=11),
    Case("s = Sign(x); y = Mul(s, x)", lambda x: x.sign() * x, opset=9),
    *(
        Case(
            "y = Pow(x, p)",
            torch.pow,
            constants={"p": np.float32(p)},
            positive=p != int(p),
            opset=opset,
        )
        for p, opset in ((2, 7), (0.5, 13), (-1, 12), (3, 18), (-2, 18), (1, 18), (2.7, 18))
    ),
    Case("y = Pow(x, p)", torch.pow, constants={"p": np.array(3)}, opset=12),
    Case(
        "y = Pow(x, p)",
        torch.pow,
        constants={"p": np.float32([[0], [1], [2], [3], [4]])},
        change=lambda x: np.round(2 * x),
    ),
    Case("y = Pow(a, x)", lambda x, a: a**x, constants={"a": np.float32(1.7)}),
    Case(
        "z = Pow(a, x); y = Transpose <perm = [1, 0, 2, 3, 4]> (z)",
        lambda x, a: (a**x).transpose(0, 1),
        constants={"a": _positive(3, 1, 2, 1, 6)},
    ),
    Case(
        "y = Pow(a, x)",
        lambda x, a: a**x,
        constants={"a": np.float32([[0], [1], [2], [3], [4]])},
        positive=True,
    ),
    Case("e = Sin(x); y = Pow(x, e)", lambda x: x ** x.sin(), positive=True),
    Case("e = Sin(x); y = Pow(x, e)", lambda x: x ** x.sin(), change=lambda x: np.abs(np.round(x))),
    # Arithmetic and choices; a and b are constants, s and t depend on the image.
    Case("y = Add(x, a)", torch.add, constants={"a": (2, 1, 6)}),
    Case("y = Add <broadcast = 1, axis = 1> (x, a)", _along(torch.add), **_CHANNEL),
    Case("y = Add <broadcast = 1, axis = -3> (x, a)", _along(torch.add), **_CHANNEL),
    Case("y = Add <broadcast = 1> (x, a)", torch.add, constants={"a": (5, 6)}, opset=6),
    Case(
        "y = Mul <broadcast = 1, axis = 1> (x, a)",
        lambda x, a: x * a[:, :, None],
        constants={"a": (2, 5)},
        opset=6,
    ),
    Case("y = Sub <broadcast = 1, axis = 1> (x, a)", _along(torch.sub), **_CHANNEL),
    Case("y = Div <broadcast = 1, axis = 1> (x, a)", _along(torch.div), **_CHANNEL),
    Case("y = Pow <broadcast = 1, axis = 1> (x, a)", _along(torch.pow), positive=True, **_CHANNEL),
    Case(
        "s = ReduceMean <axes = [2, 3], keepdims = 0> (x); "
        "y = Mul <broadcast = 1, axis = 0> (x, s)",
        lambda x: x * x.mean((2, 3), keepdim=True),
        opset=6,
    ),
    Case("y = Add(x, x)", lambda x: x + x, opset=7),
    Case(f"{_ROWS}; y = Add(s, x)", lambda x: x + x.mean(2, keepdim=True), opset=13),
    Case("y = Sub(x, a)", torch.sub, constants={"a": (6,)}, opset=7),
    Case("y = Sub(a, x)", lambda x, a: a - x, constants={"a": (1, 2, 5, 1)}),
    Case(f"{_ROWS}; y = Sub(x, s)", lambda x: x - x.mean(2, keepdim=True), opset=13),
    Case(f"{_ROWS}; y = Sub(s, x)", lambda x: x.mean(2, keepdim=True) - x, opset=13),
    Case(
        "z = Sub(a, x); y = Transpose <perm = [1, 0, 2, 3, 4]> (z)",
        lambda x, a: (a - x).transpose(0, 1),
        constants={"a": (3, 1, 2, 1, 1)},
    ),
    Case(
        "s = Transpose <perm = [3, 0, 1, 2]> (x); t = Sub(s, a); "
        "y = Transpose <perm = [1, 2, 3, 0]> (t)",
        lambda x, a: x - a,
        constants={"a": np.float32(0.3)},
    ),
    Case("y = Mul(x, a)", torch.mul, constants={"a": (6,)}),
    Case("y = Mul(a, x)", torch.mul, constants={"a": (2, 5, 1)}, opset=7),
    Case("y = Mul(x, x)", lambda x: x * x),
    Case(f"{_ROWS}; y = Mul(s, x)", lambda x: x * x.mean(2, keepdim=True), opset=13),
    Case("y = Div(x, a)", torch.div, constants={"a": _positive(5, 1)}, opset=7),
    Case("y = Div(a, x)", lambda x, a: a / x, constants={"a": (2, 1, 1)}, positive=True),
    Case(f"{_ROWS}; y = Div(x, s)", lambda x: x / x.mean(2, keepdim=True), positive=True, opset=13),
    Case(f"{_ROWS}; y = Div(s, x)", lambda x: x.mean(2, keepdim=True) / x, positive=True, opset=13),
    Case("y = Max(x, a)", torch.maximum, constants={"a": np.float32(0.3)}, opset=8),
    Case("y = Max(a, x)", torch.maximum, constants={"a": (2, 1, 6)}, opset=12),
    Case("y = Max(x, a)", torch.maximum, constants={"a": np.zeros(6, np.float32)}, change=np.round),
    Case(f"{_ROWS}; y = Max(s, x)", lambda x: torch.maximum(x.mean(2, keepdim=True), x), opset=13),
    Case(
        "y = Max(x, a, b)",
        lambda x, a, b: torch.stack([x, a + 0 * x, b + 0 * x]).amax(0),  # shares as ours does
        constants={"a": np.array([-1, 0, 1, 1, 0, 0], np.float32), "b": np.zeros(1, np.float32)},
        change=np.round,
    ),
    Case("s = Max(x); y = Mul(s, s)", lambda x: x * x, opset=6),
    Case("s = Neg(x); y = Max(x, s)", lambda x: x.abs(), opset=6),
    Case("y = Min(x, a)", torch.minimum, constants={"a": (2, 1, 1)}),
    Case(
        "y = Min(a, x)",
        torch.minimum,
        constants={"a": np.ones((5, 1), np.float32)},
        change=np.round,
    ),
    Case("s = Neg(x); y = Min(x, s, x)", lambda x: -x.abs(), opset=6),
    Case("y = Sum(x)", lambda x: x, opset=6),
    Case("s = Neg(x); y = Sum(x, x, s)", lambda x: x, opset=6),
    Case(
        f"{_ROWS}; y = Sum(a, s, x, x)",
        lambda x, a: a + x.mean(2, keepdim=True) + 2 * x,
        constants={"a": (2, 1, 1)},
        opset=13,
    ),
    Case("y = Mean(x, x)", lambda x: x, opset=6),
    Case(
        f"{_ROWS}; y = Mean(x, s, a)",
        lambda x, a: (x + x.mean(2, keepdim=True) + a) / 3,
        constants={"a": (1, 5, 1)},
        opset=13,
    ),
    Case(
        "y = Where(c, x, a)",
        lambda x, c, a: torch.where(c, x, a),
        constants={"c": np.arange(6) % 2 == 0, "a": (2, 1, 1)},
        opset=9,
    ),
    Case(
        "y = Where(c, a, x)",
        lambda x, c, a: torch.where(c, a, x),
        constants={"c": np.arange(5)[:, None] > 1, "a": np.float32(2)},
    ),
    Case(
        f"{_ROWS}; c = Less(x, a); y = Where(c, s, x)",
        lambda x, a: torch.where(x < a, x.mean(2, keepdim=True), x),
        constants={"a": (6,)},
        opset=13,
    ),
    Case(
        f"{_ROWS}; c = Greater(s, a); y = Where(c, x, s)",
        lambda x, a: torch.where(x.mean(2, keepdim=True) > a, x, x.mean(2, keepdim=True)),
        constants={"a": np.float32(0)},
        opset=13,
    ),
    *(
        Case(
            f"c = {op}(x, a); y = Where(c, x, b)",
            lambda x, a, b, f=compare: torch.where(f(x, a), x, b),
            constants={"a": (2, 1, 1), "b": (6,)},
            opset=opset,
        )
        for op, opset, compare in (
            ("Greater", 9, torch.gt),
            ("Less", 9, torch.lt),
            ("GreaterOrEqual", 12, torch.ge),
            ("LessOrEqual", 16, torch.le),
        )
    ),
    Case(
        "c = Greater <broadcast = 1, axis = 1> (x, a); f = Cast <to = 1> (c); y = Mul(f, x)",
        lambda x, a: torch.where(x > a[:, None, None], x, 0),
        **_CHANNEL,
    ),
    Case(
        "c = Less(x, a); f = Cast <to = 1> (c); y = Mul(f, x)",
        lambda x, a: torch.where(x < a, x, 0),
        constants={"a": (6,)},
        opset=7,
    ),
    Case(
        "i = Cast <to = 7> (x); c = Equal(i, a); y = Where(c, x, b)",
        lambda x, a, b: torch.where(x.trunc() == a, x, b),
        constants={"a": np.array([1, 0, -1, 0, 0, 0]), "b": np.float32(0.5)},
        opset=9,
    ),
    Case(
        "c = Equal(x, a); y = Where(c, b, x)",
        lambda x, a, b: torch.where(x == a, b, x),
        constants={"a": np.float32(1), "b": (6,)},
        change=np.round,
    ),
    *(
        Case(
            f"c = Greater(x, a); d = Less(x, b); n = Not(d); e = {op}(c, n); y = Where(e, x, a)",
            lambda x, a, b, f=combine: torch.where(f(x > a, ~(x < b)), x, a),
            constants={"a": np.float32(-0.5), "b": (6,)},
            opset=9,
        )
        for op, combine in (
            ("And", torch.logical_and),
            ("Or", torch.logical_or),
            ("Xor", torch.logical_xor),
        )
    ),
    # What leaves values as they are, and what makes other types of them.
    Case("y = Dropout <is_test = 1> (x)", lambda x: x, opset=6),
    Case("y = Dropout <ratio = 0.3> (x)", lambda x: x, opset=7),
    Case("y = Dropout <ratio = 0.3> (x)", lambda x: x, opset=10),
    Case("y = Dropout(x, r)", lambda x, _: x, constants={"r": np.float32(0.7)}, opset=12),
    Case(
        "y = Dropout(x, r, t)",
        lambda x, _, __: x,
        constants={"r": np.float32(0.7), "t": np.array(False)},
    ),
    Case("d, m = Dropout(x); f = Cast <to = 1> (m); y = Mul(f, x)", lambda x: x),
    Case("d, m = Dropout(x); y = Where(m, d, a)", lambda x, _: x, constants={"a": (6,)}),
    Case("h = Cast <to = 10> (x); y = Cast <to = 1> (h)", lambda x: x, opset=6),
    Case("h = Cast <to = 11> (x); s = Mul(h, h); y = Cast <to = 1> (s)", lambda x: x * x, opset=9),
    Case("i = Cast <to = 7> (x); f = Cast <to = 1> (i); y = Mul(f, x)", lambda x: x.trunc() * x),
    Case(
        "i = Cast <to = 6> (x); j = Mul(i, i); f = Cast <to = 1> (j); y = Mul(f, x)",
        lambda x: x.trunc() ** 2 * x,
        change=lambda x: 5 * x,
    ),
    Case("y = CastLike(x, a)", lambda x, _: x, constants={"a": (6,)}, opset=15),
    Case("c = CastLike(a, x); y = Mul(c, x)", lambda x, a: a * x, constants={"a": (1, 2, 1, 1)}),
    Case(
        "i = CastLike(x, a); f = CastLike(i, x); y = Mul(f, x)",
        lambda x, _: x.trunc() * x,
        constants={"a": np.array(1)},
    ),
    # Reductions: axes were an attribute, and are an input since 18 (for ReduceSum since 13).
    *(
        Case(
            f"y = {op} {how}",
            lambda x, *_, f=truth, axes=axes, keep=keep: f(x, axes, keep),
            constants=constants,
            opset=opset,
            positive=op == "ReduceLogSum",
        )
        for op, truth in _REDUCTIONS.items()
        for how, axes, keep, opset, constants in (
            ("<axes = [1], keepdims = 0> (x)", (1,), False, 6, {}),
            ("<axes = [1, -1], keepdims = 0> (x)", (1, 3), False, 11, {}),
            ("<axes = [2]> (x)", (2,), True, 12, {}),
            ("(x, n)", (2, 3), True, 18, {"n": np.array([3, -2])}),
            ("<noop_with_empty_axes = 1> (x)", (), True, 18, {}),
        )
    ),
    Case(
        "y = ReduceSum <keepdims = 0> (x, n)",
        lambda x, _: x.sum((1, 2)),
        constants={"n": np.array([-2, 1])},
        opset=13,
    ),
    Case(
        "t = Transpose <perm = [3, 2, 0, 1]> (x); y = ReduceMean <keepdims = 0> (t, n)",
        lambda x, _: x.mean((2, 3)),
        constants={"n": np.array([0, 1])},
    ),
    *(
        Case(
            f"y = {op} <axes = [1, 3], keepdims = 0> (x)",
            lambda x, f=function: f(x.permute(0, 2, 1, 3).flatten(2), -1)[0],  # the first of them
            opset=13,
            change=np.round,
        )
        for op, function in (("ReduceMax", torch.max), ("ReduceMin", torch.min))
    ),
    Case(
        "y = ReduceL1 <axes = [2]> (x)", lambda x: x.abs().sum(2, True), opset=13, change=np.round
    ),
    Case(
        "y = ReduceL2 <axes = [2]> (x)",
        lambda x: torch.linalg.vector_norm(x, dim=2, keepdim=True),
        opset=13,
        change=_with_zeros,
    ),
    Case(
        "y = ReduceProd <axes = [2]> (x)", lambda x: x.prod(2, True), opset=13, change=_with_zeros
    ),
    Case(
        "y = ReduceLogSumExp <axes = [2]> (x)",
        lambda x: x.logsumexp(2, True),
        opset=13,
        change=lambda x: 50 * x,
    ),
    # Softmax flattened what lies behind its axis before 13.
    Case("y = Softmax(x)", lambda x: x.softmax(-1)),
    Case("y = Softmax <axis = 1> (x)", lambda x: x.softmax(1), opset=13, change=lambda x: 30 * x),
    Case("y = Softmax <axis = -2> (x)", lambda x: x.softmax(2), opset=13),
    Case("y = Softmax(x)", lambda x: x.flatten(1).softmax(1).reshape(x.shape), opset=11),
    Case(
        "y = Softmax <axis = 2> (x)",
        lambda x: x.flatten(2).softmax(2).reshape(x.shape),
        opset=9,
    ),
    Case("y = Softmax <axis = -1> (x)", lambda x: x.softmax(3), opset=12),
    Case("y = LogSoftmax(x)", lambda x: x.log_softmax(-1)),
    Case(
        "y = LogSoftmax <axis = 1> (x)",
        lambda x: x.log_softmax(1),
        opset=13,
        change=lambda x: 30 * x,
    ),
    Case("y = LogSoftmax(x)", lambda x: x.flatten(1).log_softmax(1).reshape(x.shape), opset=7),
    # Normalisations.
    *(
        Case(
            f"y = BatchNormalization {how} (x, a, b, c, d)",
            lambda x, a, b, c, d, e=epsilon: F.batch_norm(x, c, d, a, b, eps=e),
            constants={"a": (2,), "b": (2,), "c": (2,), "d": _positive(2)},
            opset=opset,
        )
        for how, epsilon, opset in (
            ("<is_test = 1, spatial = 1>", 1e-5, 6),
            ("<epsilon = 0.1, spatial = 1, momentum = 0.5>", 0.1, 7),
            ("<epsilon = 0.01>", 0.01, 9),
            ("", 1e-5, 14),
            ("<training_mode = 0>", 1e-5, 18),
        )
    ),
    *(
        Case(
            f"y = InstanceNormalization <epsilon = {epsilon}> (x, a, b)",
            lambda x, a, b, e=epsilon: F.instance_norm(x, weight=a, bias=b, eps=e),
            constants={"a": (2,), "b": (2,)},
            opset=opset,
        )
        for epsilon, opset in ((1e-5, 6), (0.5, 18))
    ),
    Case(
        "y = LayerNormalization(x, a)",
        lambda x, a: F.layer_norm(x, (6,), a),
        constants={"a": (6,)},
        opset=17,
    ),
    Case(
        "y = LayerNormalization <axis = 1, epsilon = 0.1> (x, a, b)",
        lambda x, a, b: F.layer_norm(x, (2, 5, 6), a, b, 0.1),
        constants={"a": (2, 5, 6), "b": (2, 5, 6)},
    ),
    Case(
        "y, m, s = LayerNormalization <axis = -2> (x, a, b)",
        lambda x, a, b: F.layer_norm(x, (5, 6)) * a + b,
        constants={"a": (5, 1), "b": (6,)},
    ),
    Case(
        "s = Sin(x); t = Cos(x); y = LayerNormalization <axis = 2> (x, s, t)",
        lambda x: F.layer_norm(x, (5, 6)) * x.sin() + x.cos(),
    ),
    Case(
        "y = GroupNormalization <num_groups = 2> (x, a, b)",
        lambda x, a, b: F.group_norm(x, 2, a.repeat_interleave(3), b.repeat_interleave(3)),
        shape=(6, 3, 4),
        constants={"a": (2,), "b": (2,)},
    ),
    Case(
        "y = GroupNormalization <num_groups = 3, epsilon = 0.1> (x, a, b)",
        lambda x, a, b: F.group_norm(x, 3, a, b, 0.1),
        shape=(6, 3, 4),
        constants={"a": (6,), "b": (6,)},
        opset=21,
    ),
    *(
        Case(
            f"y = LRN <size = {size}, alpha = {alpha}, beta = {beta}, bias = {bias}> (x)",
            lambda x, s=size, a=alpha, b=beta, k=bias: _lrn(x, s, a, b, k),
            shape=(7, 3, 2),
            opset=opset,
        )
        for size, alpha, beta, bias, opset in (
            (5, 0.9, 0.75, 1.0, 6),
            (3, 1.5, 1.3, 2.0, 13),
            (4, 2.0, 0.6, 1.0, 18),
            (1, 1.0, 0.5, 1.0, 18),
            (9, 1.0, 0.5, 1.0, 18),
        )
    ),
    Case("y = LRN <size = 3> (x)", lambda x: _lrn(x, 3, 1e-4, 0.75, 1), shape=(4, 3, 2)),
    *(
        Case(
            f"y = MeanVarianceNormalization <axes = {axes}> (x)",
            lambda x, axes=axes: (x - x.mean(axes, True)) / x.std(axes, correction=0, keepdim=True),
            opset=opset,
        )
        for axes, opset in (([2, 3], 9), ([1, 2, 3], 13), ([3], 18), ([1, -1], 18))
    ),
    *(
        Case(
            f"y = LpNormalization {how} (x)",
            lambda x, p=p, axis=axis: F.normalize(x, p, axis),
            opset=opset,
        )
        for how, p, axis, opset in (
            ("", 2, 3, 6),
            ("<axis = 1>", 2, 1, 18),
            ("<p = 1, axis = -2>", 1, 2, 22),
        )
    ),
    # Matrix products.
    *(
        Case(
            f"h = Flatten(x); y = Gemm {how}",
            lambda x, a, *b, f=truth: f(x.flatten(1), a, *b),
            constants=constants,
            opset=opset,
        )
        for how, truth, opset, constants in (
            (
                "<broadcast = 1, transB = 1> (h, a, b)",
                lambda h, a, b: h @ a.T + b,
                6,
                {"a": (4, 60), "b": (4,)},
            ),
            (
                "<alpha = 0.5, beta = 2.0> (h, a, b)",
                lambda h, a, b: 0.5 * h @ a + 2 * b,
                7,
                {"a": (60, 4), "b": np.float32([[2]])},
            ),
            ("<transB = 1> (h, a)", lambda h, a: h @ a.T, 11, {"a": (4, 60)}),
            (
                "<alpha = 3.0> (h, a, b)",
                lambda h, a, b: 3 * h @ a + b,
                18,
                {"a": (60, 4), "b": (1, 4)},
            ),
        )
    ),
    Case(
        "h = Flatten(x); s = Sin(h); y = Gemm <beta = 0.5, alpha = 2.0> (h, a, s)",
        lambda x, a: 2 * x.flatten(1) @ a + 0.5 * x.flatten(1).sin(),
        constants={"a": (60, 60)},
    ),
    *(
        Case(
            f"h = Flatten(x); t = Transpose(h); g = Gemm {how}; y = Transpose(g)",
            lambda x, a, *b, f=truth: f(x.flatten(1).T, a, *b).T,
            constants=constants,
        )
        for how, truth, constants in (
            ("<alpha = 2.0> (a, t, b)", lambda t, a, b: 2 * a @ t + b, {"a": (4, 60), "b": (4, 1)}),
            ("<transA = 1> (a, t)", lambda t, a: a.T @ t, {"a": (60, 4)}),
        )
    ),
    *(
        Case(
            f"h = Flatten(x); t = Transpose(h); y = Gemm {how} (t, a)",
            lambda x, a, f=truth: f(x.flatten(1).T, a),
            constants=constants,
        )
        for how, truth, constants in (
            ("<transA = 1>", lambda t, a: t.T @ a, {"a": (60, 4)}),
            ("<transA = 1, transB = 1>", lambda t, a: t.T @ a.T, {"a": (4, 60)}),
        )
    ),
    *(
        Case(
            f"h = Flatten(x); g = Gemm {how} (a, h); y = Transpose(g)",
            lambda x, a, f=truth: f(x.flatten(1), a).T,
            constants=constants,
        )
        for how, truth, constants in (
            ("<transB = 1>", lambda h, a: a @ h.T, {"a": (4, 60)}),
            ("<transA = 1, transB = 1>", lambda h, a: a.T @ h.T, {"a": (60, 4)}),
        )
    ),
    Case("y = MatMul(x, a)", torch.matmul, constants={"a": (6, 4)}, opset=7),
    Case("y = MatMul(a, x)", lambda x, a: a @ x, constants={"a": (2, 4, 5)}, opset=9),
    Case("y = MatMul(x, a)", torch.matmul, constants={"a": (1, 2, 6, 4)}),
    Case("y = MatMul(a, x)", lambda x, a: a @ x, constants={"a": (4, 5)}),
    Case("y = MatMul(x, a)", torch.matmul, constants={"a": (6,)}),
    Case("y = MatMul(a, x)", lambda x, a: a @ x, constants={"a": (5,)}),
    Case("t = Transpose <perm = [0, 1, 3, 2]> (x); y = MatMul(t, x)", lambda x: x.mT @ x),
    Case(
        f"{_MEAN}; t = Transpose <perm = [0, 1, 3, 2]> (x); y = MatMul(s, t)",
        lambda x: x.mean(1, keepdim=True) @ x.mT,
        opset=13,
    ),
    Case(
        f"{_MEAN}; t = Transpose <perm = [0, 1, 3, 2]> (s); y = MatMul(x, t)",
        lambda x: x @ x.mean(1, keepdim=True).mT,
        opset=13,
    ),
    Case(
        "h = Flatten(x); m = MatMul(h, a); y = Transpose <perm = [1, 0, 2]> (m)",
        lambda x, a: (x.flatten(1) @ a).transpose(0, 1),
        constants={"a": (3, 60, 4)},
    ),
    Case("h = Flatten(x); y = MatMul(h, a)", lambda x, a: x.flatten(1) @ a, constants={"a": (60,)}),
    Case(
        "h = Flatten(x); t = Transpose(h); m = MatMul(a, t); y = Transpose(m)",
        lambda x, a: (a @ x.flatten(1).T).T,
        constants={"a": (4, 60)},
    ),
    Case(
        "h = Flatten(x); t = Transpose(h); y = MatMul(a, t)",
        lambda x, a: a @ x.flatten(1).T,
        constants={"a": (60,)},
    ),
    Case(
        "f = Reshape(x, s); t = Transpose <perm = [0, 2, 1]> (f); m = MatMul(t, f); "
        "p = Softmax(m); o = MatMul(f, p); y = Reshape(o, r)",
        lambda x, *_: (
            x.flatten(0, 1) @ (x.flatten(0, 1).mT @ x.flatten(0, 1)).softmax(-1)
        ).reshape(x.shape),
        constants={"s": np.array([2, 5, 6]), "r": np.array([1, 2, 5, 6])},
    ),
    # Quantisation; the ends of the ranges lie among the values.
    *(
        Case(
            "q = QuantizeLinear(x, s, z); y = DequantizeLinear(q, s, z)",
            lambda x, s, z: torch.fake_quantize_per_tensor_affine(
                x.float(), float(s), int(z), *_ends(z)
            ).double(),
            constants={"s": np.float32(0.01), "z": zero},
            opset=opset,
        )
        for zero, opset in (
            (np.uint8(100), 10),
            (np.int8(-30), 13),
            (np.uint8(0), 19),
            (np.int8(5), 21),
        )
    ),
    Case(
        "q = QuantizeLinear(x, s); t = Transpose <perm = [0, 2, 3, 1]> (q); "
        "y = DequantizeLinear(t, s)",
        lambda x, s: (
            torch.fake_quantize_per_tensor_affine(x.float(), float(s), 0, 0, 255)
            .double()
            .permute(0, 2, 3, 1)
        ),
        constants={"s": np.float32(0.02)},
    ),
    *(
        Case(
            f"q = QuantizeLinear {how} (x, s, z); y = DequantizeLinear {how} (q, s, z)",
            lambda x, s, z, axis=axis: torch.fake_quantize_per_channel_affine(
                x.float(), s.float(), z.int(), axis, *_ends(z)
            ).double(),
            constants={"s": scale, "z": zero},
            opset=opset,
        )
        for how, axis, scale, zero, opset in (
            ("", 1, np.float32([0.005, 0.02]), np.uint8([100, 150]), 13),
            ("<axis = -2>", 2, 0.005 * _positive(5), np.int8([0, 9, -9, 50, 100]), 18),
        )
    ),
    Case(
        "q = QuantizeLinear(x, s, z); y = DequantizeLinear(q, t, z)",
        lambda x, s, z, t: (
            torch.fake_quantize_per_tensor_affine(x.float(), float(s), 7, -128, 127).double()
            * (t / s)
        ),
        constants={"s": np.float32(0.01), "z": np.int8(7), "t": np.float32(0.03)},
    ),
    Case(
        "q = QuantizeLinear(x, s, z); f = Cast <to = 1> (q); y = Mul(f, x)",
        lambda x, s, z: (x / s).round().clamp(-128, 127).detach() * x,
        constants={"s": np.float32(0.01), "z": np.int8(0)},
    ),
    *(
        Case(f"y = MaxPool <{attributes}> (x)", truth, shape, change=change)
        for attributes, shape, truth in MAX_POOLS
        for change in (np.asarray, tied)
    ),
    *[
        Case(
            f'{nodes}; y = Einsum <equation = "{written}"> (x, {second})',
            lambda x, *a, f=function: f(x, *a),
            (2, 5, 6),
            constants,
            opset,
        )
        for nodes, written, second, function, constants, opset in (
            ("t = Tanh(x)", "bchi,bchj->bhij", "t", _rows_by_rows, {}, 13),
            ("t = Tanh(x)", " ... i j , ... k j -> ... i k", "t", _rows_by_columns, {}, 12),
            ("t = Tanh(x)", "nchw,nchw->ncw", "t", lambda x: (x * x.tanh()).sum(2), {}, 18),
            (
                "t = Identity(x)",
                "nchw,cd->ndhw",
                "a",
                lambda x, a: torch.einsum("nchw,cd->ndhw", x, a),
                {"a": (2, 3)},
                18,
            ),
            (
                "t = Relu(x)",
                "nchw,mc->nm",
                "a",
                lambda x, a: torch.einsum("nchw,mc->nm", x, a),
                {"a": (3, 2)},
                18,
            ),
        )
    ],
    Case(
        "y = RMSNormalization <axis = 2, epsilon = 0.1> (x, a)",
        lambda x, a: F.rms_norm(x, (5, 6), a, 0.1),
        constants={"a": (5, 6)},
        opset=23,
    ),
    *CONVOLUTIONS,
    *CONVOLVED,
    *FUNCTIONS,
    *POOLS,
    *MOVEMENT,
    *RESIZED,
]


# --- the harness -----------------------------------------------------------------------------


def _constants(case: Case) -> dict[str, Array]:
    rng = np.random.default_rng(len(case.nodes))
    return {
        name: rng.standard_normal(value).astype(np.float32)
        if isinstance(value, tuple)
        else np.asarray(value)
        for name, value in case.constants.items()
    }


def _nodes(case: Case) -> list[onnx.NodeProto]:
    return [parser.parse_node(line) for line in case.nodes.split(";")]


def _inferred(case: Case) -> tuple[int, ...]:
    """Shape of y for one image, by computing it."""
    image = _images(case)[:1]
    if case.truth is None:
        return _forward(case, image).shape
    return tuple(case.truth(torch.tensor(image).double(), *_tensors(case)).shape)


def _forward(case: Case, x: Array) -> Array:
    """ONNX's own reference, with floats as those of x."""
    constants = {
        name: array.astype(x.dtype) if array.dtype.kind == "f" else array
        for name, array in _constants(case).items()
    }
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        _nodes(case),
        "case",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)])
    (y,) = ReferenceEvaluator(model).run(["y"], {"x": x})
    return np.asarray(y)


def _weights(case: Case) -> Array:
    """What y is weighed by, for one image."""
    return np.random.default_rng(1).standard_normal(_inferred(case)).astype(np.float32)


def _network(case: Case) -> pyoip.Network:
    weights = _weights(case)
    nodes = [
        *_nodes(case),
        helper.make_node("Mul", ["y", "weighing"], ["weighed"]),
        helper.make_node("Reshape", ["weighed", "row"], ["rows"]),
        helper.make_node("Conv", ["rows", "one"], ["sum"], name="end"),
    ]
    constants = {
        **_constants(case),
        "weighing": weights,
        "row": np.array([1, 1, 1, weights.size], np.int64),
        "one": np.ones((1, 1, 1, 1), np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "case",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *case.shape))],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, (1, 1, 1, weights.size))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return pyoip.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)]))


def _images(case: Case) -> Array:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((IMAGES, *case.shape))
    x = np.abs(x) + 0.2 if case.positive else case.change(x)
    return x.astype(np.float32)


def _tensors(case: Case) -> list[torch.Tensor]:
    """The constants as torch takes them, floats in float64."""
    tensors = [torch.tensor(array) for array in _constants(case).values()]
    return [t.double() if t.is_floating_point() else t for t in tensors]


def _by_torch(case: Case, images: Array) -> tuple[Array, Array]:
    x = torch.tensor(images, dtype=torch.float64, requires_grad=True)
    constants = _tensors(case)
    weights = torch.tensor(_weights(case), dtype=torch.float64)
    assert case.truth is not None
    values = [(case.truth(image[None], *constants) * weights).mean() for image in x]
    torch.stack(values).sum().backward()
    assert x.grad is not None
    return np.array([v.item() for v in values]), x.grad.numpy()


def _by_differences(case: Case, images: Array) -> tuple[Array, Array]:
    weights = _weights(case).astype(np.float64)

    def value(image: Array) -> float:
        return float((_forward(case, image[None]) * weights).mean())

    exact = images.astype(np.float64)
    gradients = np.zeros_like(exact)
    for i, image in enumerate(exact):
        for place in np.ndindex(*image.shape):
            ends = []
            for sign in (1, -1):
                moved = image.copy()
                moved[place] += sign * STEP
                ends.append(value(moved))
            gradients[i][place] = (ends[0] - ends[1]) / (2 * STEP)
    return np.array([value(image) for image in exact]), gradients


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient(case: Case) -> None:
    _check(case, _model(case))


@pytest.mark.parametrize("case", [*CONVOLUTIONS, *CONVOLVED], ids=str)
def test_gradient_in_the_form_for_wider_vectors(case: Case) -> None:
    """Which takes convolutions apart by the places of windows and of blocks."""
    _check(case, _model(case, lanes=64))


def _model(case: Case, lanes: int = LANES) -> onnx.ModelProto:
    return gradient_model(locate(_network(case), "end", lanes), "preactivation")


def _check(case: Case, model: onnx.ModelProto) -> None:
    images = _images(case)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    values, _, gradients = session.run(None, {"image": images, "map": np.zeros(IMAGES, np.int64)})
    truth = _by_differences if case.truth is None else _by_torch
    true_values, true_gradients = truth(case, images)
    assert relative_error(values, true_values) < TOLERANCE
    assert relative_error(gradients, true_gradients) < TOLERANCE
    assert np.abs(true_gradients).max() > 0


def _pooled_first(case: Case) -> bool:
    """Tell whether the maximum is taken before all else that is written."""
    ops = [node.op_type for node in _model(case).graph.node]
    return ops[0] == "MaxPool"


@pytest.mark.parametrize("case", [c for c in FUNCTIONS if c.change is not tied], ids=str)
def test_only_what_never_falls_waits_for_its_maximum(case: Case) -> None:
    falls = re.search(r"-0\.5>|Sub|Abs|Mul\(x|AveragePool", case.nodes)
    by_position = case.constants.get("a", ()) == (2, 4, 6)
    turned = np.min(case.constants.get("gain", 1)) < 0
    assert _pooled_first(case) == (not falls and not by_position and not turned)


def test_wide_vectors_hold_the_places_of_a_window() -> None:
    """As long as the weights in between cost less than the channels that nobody needs."""
    case = CONVOLVED[0]  # 3 maps of 2 x 3, for windows of 2 x 2: 12 maps of 3 x 4
    pools = {
        lanes: [node.op_type for node in _model(case, lanes).graph.node].count("MaxPool")
        for lanes in (4, 8, 16)
    }
    assert pools[4] > 0
    assert pools[8] > 0
    assert pools[16] == 0


_MIXES = "mixes the images of a batch"
_OWN = "has a constant with a value of its own for each image of a batch"
_ROWS_DIFFER = "holds different numbers of rows for each image in its inputs"
_PRODUCT = "is a product that mixes the images of a batch"

_RESIZE = 'y = Resize <coordinate_transformation_mode = "{}", mode = "{}"> (x, {}, s)'

REFUSED = [
    (
        _RESIZE.format("half_pixel_symmetric", "nearest", ""),
        {"s": np.array([1, 1, 1.5, 2], np.float32)},
        19,
        "resizes to nearest values by 'half_pixel_symmetric'",
    ),
    (
        _RESIZE.format("tf_crop_and_resize", "linear", "r"),
        {"s": np.array([1, 1, 1.5, 2], np.float32), "r": (8,)},
        13,
        "resizes by 'tf_crop_and_resize', which is not known here",
    ),
    (
        'y = Resize <mode = "linear", axes = [0]> (x, , s)',
        {"s": np.array([2], np.float32)},
        18,
        _MIXES,
    ),
    (  # images inside an axis of rows, and in front of one
        """f = Reshape(x, flat); t = Transpose <perm = [2, 0, 1]> (f); r = Reshape(t, long);
        s = Reshape(x, long); y = Add(r, s)""",
        {"flat": np.array([0, 2, -1]), "long": np.array([30, 2])},
        18,
        "holds the images in different orders in its inputs",
    ),
    ('y = Einsum <equation = "nchw->chw"> (x)', {}, 13, _PRODUCT),
    (
        's = MatMul(x, a); y = Einsum <equation = "ncww->nc"> (s)',
        {"a": (6, 5)},
        13,
        "takes diagonals",
    ),
    (
        't = Transpose <perm = [1, 0, 2, 3]> (x); y = Einsum <equation = "nchw,cmhw->nm"> (x, t)',
        {},
        13,
        _PRODUCT,
    ),
    ("y = ReduceMean(x)", {}, 18, _MIXES),
    ("y = ReduceMax <axes = [1, 0]> (x)", {}, 13, _MIXES),
    ("y = ReduceSum <keepdims = 0> (x, n)", {"n": np.array([-4])}, 18, _MIXES),
    ("y = Softmax <axis = 0> (x)", {}, 13, _MIXES),
    ("y = LogSoftmax <axis = -4> (x)", {}, 18, _MIXES),
    ("y = LpNormalization <axis = 0> (x)", {}, 18, _MIXES),
    ("y = MeanVarianceNormalization(x)", {}, 13, _MIXES),
    ("y = LayerNormalization <axis = 0> (x, a)", {"a": (1, 2, 5, 6)}, 18, _MIXES),
    (
        "y = BatchNormalization <training_mode = 1> (x, a, a, a, b)",
        {"a": (2,), "b": _positive(2)},
        15,
        f"is in training mode, which {_MIXES}",
    ),
    (
        "y = Dropout(x, r, t)",
        {"r": np.float32(0.0), "t": np.array(True)},
        18,
        "is in training mode",
    ),
    (
        "t = Transpose <perm = [1, 0, 2, 3]> (x); y = InstanceNormalization(t, a, a)",
        {"a": (1,)},
        18,
        "takes what is not its first axis for the images of a batch",
    ),
    ("y = Add(x, a)", {"a": (3, 2, 5, 6)}, 18, _OWN),
    ("c = Greater(x, b); y = Where(c, x, a)", {"a": (3, 2, 5, 6), "b": (6,)}, 18, _OWN),
    ("y = LayerNormalization(x, a)", {"a": (2, 1, 1, 6)}, 18, _OWN),
    (
        "r = Reshape(x, n); s = ReduceMean <axes = [1], keepdims = 0> (x); y = Mul(r, s)",
        {"n": np.array([2, 5, 6])},
        13,
        _ROWS_DIFFER,
    ),
    (
        "t = Transpose <perm = [1, 0, 2, 3]> (x); s = ReduceMean <axes = [1]> (x); y = Add(s, t)",
        {},
        13,
        "holds the images along different axes of its inputs",
    ),
    ("h = Flatten(x); y = Gemm <transA = 1> (h, a)", {"a": (1, 4)}, 18, _PRODUCT),
    ("h = Flatten(x); y = Gemm(a, h)", {"a": (4, 1)}, 18, _PRODUCT),
    ("h = Flatten(x); y = Gemm <transB = 1> (h, h)", {}, 18, _PRODUCT),
    ("h = Flatten(x); y = Gemm(a, b, h)", {"a": (1, 3), "b": (3, 60)}, 18, "adds what depends"),
    ("h = Flatten(x); t = Transpose(h); y = MatMul(t, h)", {}, 18, _PRODUCT),
    ("h = Flatten(x); t = Transpose(h); y = MatMul(h, t)", {}, 18, _PRODUCT),
    ("h = Flatten(x); t = Transpose(h); y = MatMul(t, a)", {"a": (1,)}, 18, _PRODUCT),
    ("y = MatMul(x, a)", {"a": (3, 1, 6, 4)}, 18, _OWN),
    (
        "r = Reshape(x, n); t = Transpose <perm = [0, 1, 3, 2]> (x); "
        "s = ReduceMean <axes = [1], keepdims = 0> (t); y = MatMul(r, s)",
        {"n": np.array([2, 5, 6])},
        13,
        _ROWS_DIFFER,
    ),
    (
        "r = Reshape(x, n); y = QuantizeLinear <axis = 0> (r, s)",
        {"n": np.array([2, 5, 6]), "s": _positive(2)},
        13,
        _MIXES,
    ),
    (
        "s = ReduceMax <axes = [1, 2, 3], keepdims = 0> (x); y = QuantizeLinear <axis = 0> (x, s)",
        {},
        13,
        "has a scale that is not constant",
    ),
    ("y = Floor(x)", {}, 18, "lets no gradient through"),
    ("y = CumSum(x, n)", {"n": np.array(1)}, 18, "is an operator without a gradient here"),
]


@pytest.mark.parametrize(
    ("nodes", "constants", "opset", "why"), REFUSED, ids=[line[0] for line in REFUSED]
)
def test_what_cannot_be_derived_is_refused(
    nodes: str, constants: dict[str, Any], opset: int, why: str
) -> None:
    case = Case(nodes, constants=constants, opset=opset)
    network = _network(case)
    op = _nodes(case)[-1].op_type
    path = rf"it lies on the path image -> (.* -> )?{op} 'y' -> (.* -> )?the layer$"
    message = rf"^layer 1 \(end\): node 'y' \({op}\) {re.escape(why)}[^;\n]*; {path}"
    with pytest.raises(pyoip.UnsupportedOperator, match=message):
        gradient_model(locate(network, "end"), "preactivation")


def test_a_layer_of_parts_of_an_image_is_refused() -> None:
    """A convolution over windows of an image has more than one answer to it."""
    nodes = "w = Reshape(x, parts); c = Conv(w, k); y = Reshape(c, whole)"
    constants = {
        "parts": np.array([2, 1, 5, 6]),
        "whole": np.array([1, 2, 5, 6]),
        "k": (1, 1, 1, 1),
    }
    network = _network(Case(nodes, lambda x, *_: x, constants=constants))
    message = r"layer 1 .*'c' \(Conv\) takes 2 parts of each image.* -> Reshape 'w' -> Conv 'c'"
    for build in (gradient_model, score_model):
        with pytest.raises(pyoip.UnsupportedOperator, match=message):
            build(locate(network, 1), "activation")
    gradient_model(locate(network, 2), "activation")


def test_every_operator_has_a_case() -> None:
    tested = {node.op_type for case in CASES for node in _nodes(case)}
    assert set(OPERATORS) <= tested
