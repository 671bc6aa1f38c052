"""Every operator's gradient, with awkward parameters, beside torch's or finite differences.

A case is a few nodes from the image ``x`` to a tensor ``y``, in ONNX's own text. Its network is
``y`` weighed by random numbers and summed by a convolution; it is saved for one image, and its
gradient is taken for three. torch computes the same in float64; where it has no such operator,
the truth is finite differences of ONNX's reference implementation in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from problems import relative_error

import pyoip
from pyoip.gradient.operators import OPERATORS
from pyoip.gradient.step import gradient_model, locate

Array = np.ndarray[Any, Any]

# float32 beside float64, relative to the largest value; sums have up to a few hundred terms.
TOLERANCE = 3e-6
STEP = 1e-5  # of finite differences in float64, whose error is then about 1e-9
IMAGES = 3


@dataclass(frozen=True)
class Case:
    """One line of the table.

    `nodes` lead from ``x`` to ``y``; `truth` takes x and the constants as float64 tensors, None
    asks for finite differences; `shape` is (C, H, W); `constants` are shapes, filled with normal
    values, or arrays; `opset` is the one that the network is saved in; `positive` makes x so, and
    `change` makes of normal values what x is to be.
    """

    nodes: str
    truth: Callable[..., torch.Tensor] | None = None
    shape: tuple[int, int, int] = (2, 5, 6)
    constants: dict[str, Any] = field(default_factory=dict)
    opset: int = 18
    positive: bool = False
    change: Callable[[Array], Array] = np.asarray

    def __str__(self) -> str:
        return f"{self.nodes} @{self.opset}"


F = torch.nn.functional


def _positive(*shape: int) -> Array:
    """Constants that may stand below a fraction or under a root."""
    return np.random.default_rng(3).uniform(0.5, 2, shape).astype(np.float32)


def _softplus(x: torch.Tensor) -> torch.Tensor:
    """torch's own goes over to x where it is large."""
    return torch.logaddexp(x, torch.zeros_like(x))


CASES = [
    Case("y = Identity(x)", lambda x: x),
    Case(
        "y = Reshape(x, s)",
        lambda x, _: x.reshape(1, 5, 6, 2),
        constants={"s": np.array([1, 5, -1, 2])},
    ),
    Case("y = Transpose <perm = [0, 3, 1, 2]> (x)", lambda x: x.permute(0, 3, 1, 2)),
    Case("y = Add(x, a)", torch.add, constants={"a": (2, 1, 6)}),
    Case("y = Mul(x, a)", torch.mul, constants={"a": (6,)}),
    Case("y = Mul(x, x)", lambda x: x * x),
    # Functions of one value. Where x is rounded, values lie on the bends.
    Case("y = Relu(x)", torch.relu),
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
    Case(
        "y = Conv <strides = [1, 1], pads = [1, 0, 0, 2]> (x, w)",
        lambda x, w: F.conv2d(F.pad(x, (0, 2, 1, 0)), w),
        constants={"w": (3, 2, 2, 3)},
    ),
    Case(
        "y = MaxPool <kernel_shape = [3, 2], strides = [2, 1]> (x)",
        lambda x: F.max_pool2d(x, (3, 2), (2, 1)),
    ),
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
    image = _images(case)[:1].astype(np.float64)
    if case.truth is None:
        return _forward(case, image).shape
    return tuple(case.truth(torch.tensor(image), *_tensors(case)).shape)


def _forward(case: Case, x: Array) -> Array:
    """ONNX's own reference, in float64."""
    constants = {
        name: array.astype(np.float64) if array.dtype.kind == "f" else array
        for name, array in _constants(case).items()
    }
    graph = helper.make_graph(
        _nodes(case),
        "case",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
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
    images = _images(case)
    model = gradient_model(locate(_network(case), "end"), "preactivation")
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


def test_every_operator_has_a_case() -> None:
    tested = {node.op_type for case in CASES for node in _nodes(case)}
    assert set(OPERATORS) <= tested
