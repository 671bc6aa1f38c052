"""Matrix products and quantisation, for the table of operators."""

from __future__ import annotations

import numpy as np
import torch
from operator_case import Case, positive

F = torch.nn.functional


def _ends(zero: torch.Tensor) -> tuple[int, int]:
    """The least and the largest value of a quantised type."""
    return torch.iinfo(zero.dtype).min, torch.iinfo(zero.dtype).max


def _rows_by_rows(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bchi,bchj->bhij", x, x.tanh())


def _rows_by_columns(x: torch.Tensor) -> torch.Tensor:
    return x @ x.tanh().transpose(2, 3)


_MEAN = "s = ReduceMean <axes = [1]> (x)"

PRODUCTS = [
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
            ("<axis = -2>", 2, 0.005 * positive(5), np.int8([0, 9, -9, 50, 100]), 18),
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
]
