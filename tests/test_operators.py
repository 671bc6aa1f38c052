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
    values, or arrays; `opset` is the one that the network is saved in; `positive` makes x so.
    """

    nodes: str
    truth: Callable[..., torch.Tensor] | None = None
    shape: tuple[int, int, int] = (2, 5, 6)
    constants: dict[str, Any] = field(default_factory=dict)
    opset: int = 18
    positive: bool = False

    def __str__(self) -> str:
        return f"{self.nodes} @{self.opset}"


F = torch.nn.functional

CASES = [
    Case("y = Identity(x)", lambda x: x),
    Case(
        "y = Reshape(x, s)",
        lambda x, _: x.reshape(1, 5, 6, 2),
        constants={"s": np.array([1, 5, -1, 2])},
    ),
    Case("y = Transpose <perm = [0, 3, 1, 2]> (x)", lambda x: x.permute(0, 3, 1, 2)),
    Case("y = Relu(x)", torch.relu),
    Case("y = Sigmoid(x)", torch.sigmoid),
    Case("y = Add(x, a)", torch.add, constants={"a": (2, 1, 6)}),
    Case("y = Mul(x, a)", torch.mul, constants={"a": (6,)}),
    Case("y = Mul(x, x)", lambda x: x * x),
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
        name: value
        if isinstance(value, np.ndarray)
        else rng.standard_normal(value).astype(np.float32)
        for name, value in case.constants.items()
    }


def _nodes(case: Case) -> list[onnx.NodeProto]:
    return [parser.parse_node(line) for line in case.nodes.split(";")]


def _inferred(case: Case) -> tuple[int, ...]:
    """Shape of y for one image, by running the nodes."""
    return _forward(case, np.ones((1, *case.shape))).shape


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
    return (np.abs(x) + 0.2 if case.positive else x).astype(np.float32)


def _by_torch(case: Case, images: Array) -> tuple[Array, Array]:
    x = torch.tensor(images, dtype=torch.float64, requires_grad=True)
    constants = {n: torch.tensor(a) for n, a in _constants(case).items()}
    constants = {n: t.double() if t.is_floating_point() else t for n, t in constants.items()}
    weights = torch.tensor(_weights(case), dtype=torch.float64)
    assert case.truth is not None
    values = [(case.truth(image[None], *constants.values()) * weights).mean() for image in x]
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
