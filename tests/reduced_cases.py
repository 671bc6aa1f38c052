"""Reductions, softmax and normalisations, for the table of operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from operator_case import Array, Case, positive

F = torch.nn.functional


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


def _with_zeros(x: Array) -> Array:
    """One zero in some columns, two in others, and a column of zeros."""
    x[..., 1, 1:] = 0
    x[..., 3, 3:] = 0
    x[..., 5] = 0
    return x


REDUCED = [
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
            constants={"a": (2,), "b": (2,), "c": (2,), "d": positive(2)},
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
    Case(
        "y = RMSNormalization <axis = 2, epsilon = 0.1> (x, a)",
        lambda x, a: F.rms_norm(x, (5, 6), a, 0.1),
        constants={"a": (5, 6)},
        opset=23,
    ),
]
