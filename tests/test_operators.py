"""Every operator's gradient, with awkward parameters, beside torch's or finite differences.

A case is a few nodes from the image ``x`` to a tensor ``y``, in ONNX's own text. Its network is
``y`` weighed by random numbers and summed by a convolution; it is saved for one image, and its
gradient is taken for three. torch computes the same in float64; where it has no such operator,
the truth is finite differences of ONNX's reference implementation in float64.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from elementwise_cases import ELEMENTWISE
from matrix_cases import PRODUCTS
from max_pool_cases import MAXIMA
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from operator_case import Array, Case, positive, tied
from pooled_cases import CONVOLVED, FUNCTIONS
from problems import relative_error
from reduced_cases import REDUCED
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


CASES = [
    Case("y = Identity(x)", lambda x: x),
    Case("y = Unsqueeze <axes = [1]> (x)", lambda x: x[:, None], opset=11),
    *ELEMENTWISE,
    *REDUCED,
    *PRODUCTS,
    *MAXIMA,
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
        {"a": (2,), "b": positive(2)},
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
        {"n": np.array([2, 5, 6]), "s": positive(2)},
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
