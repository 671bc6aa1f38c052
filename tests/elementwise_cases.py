"""Functions of one value, arithmetic, choices and casts, for the table of operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from operator_case import Case, positive

F = torch.nn.functional


def _softplus(x: torch.Tensor) -> torch.Tensor:
    """torch's own goes over to x where it is large."""
    return torch.logaddexp(x, torch.zeros_like(x))


def _along(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The second operand along the channels."""
    return lambda x, a: function(x, a[:, None, None])


_CHANNEL: dict[str, Any] = {"constants": {"a": positive(2)}, "opset": 6}


_ROWS = "s = ReduceMean <axes = [2]> (x)"

ELEMENTWISE = [
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
        constants={"a": positive(3, 1, 2, 1, 6)},
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
    Case("y = Div(x, a)", torch.div, constants={"a": positive(5, 1)}, opset=7),
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
]
