"""Loading, listing and asking for layers; damaged models are in test_damaged_models.py."""

from __future__ import annotations

import contextlib
import hashlib
import io
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT, STRANGERS, needs_strangers
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pyoip.errors import InvalidArgument, ModelError
from pyoip.graph.file import to_node
from pyoip.graph.shapes import result_shapes
from pyoip.network import MODELS, Layer, Network, load

# name, maps, output, receptive field, stride, what follows
LISTED: dict[str, list[tuple[Any, ...]]] = {
    "avgpool_digits": [
        ("conv1", 16, (28, 28), 3, 1, ("Relu",)),
        ("conv2", 32, (28, 28), 5, 1, ("Relu", "MaxPool 2x2/2")),
        ("conv3", 64, (14, 14), 10, 2, ("Relu", "AveragePool 3x3/3")),
    ],
    "cifar_base_kw": [
        ("conv1", 8, (16, 16), 4, 2, ("Relu",)),
        ("conv2", 16, (8, 8), 10, 4, ("Relu",)),
    ],
    "cntk_mnist": [
        ("Convolution28", 8, (28, 28), 5, 1, ("Relu", "MaxPool 2x2/2")),
        ("Convolution110", 16, (14, 14), 14, 2, ("Relu", "MaxPool 3x3/3")),
    ],
    "depthwise_mnist": [
        ("conv0", 32, (28, 28), 1, 1, ("Relu",)),
        ("dwconv1", 32, (26, 26), 3, 1, ("Relu", "MaxPool 2x2/2")),
        ("conv3", 64, (13, 13), 4, 2, ("Relu",)),
        ("dwconv4", 64, (11, 11), 8, 2, ("Relu", "MaxPool 2x2/2")),
    ],
    "lenet5_mnist": [
        ("net.0", 6, (28, 28), 5, 1, ("Relu", "MaxPool 2x2/2")),
        ("net.3", 16, (10, 10), 14, 2, ("Relu", "MaxPool 2x2/2")),
    ],
    "mesonet_nhwc": [
        ("model/conv2d", 8, (256, 256), 3, 1, ("Relu", "BatchNormalization", "MaxPool 2x2/2")),
        ("model/conv2d_1", 8, (128, 128), 12, 2, ("Relu", "BatchNormalization", "MaxPool 2x2/2")),
        ("model/conv2d_2", 16, (64, 64), 30, 4, ("Relu", "BatchNormalization", "MaxPool 2x2/2")),
        ("model/conv2d_3", 16, (32, 32), 66, 8, ("Relu", "BatchNormalization", "MaxPool 4x4/4")),
    ],
    "residual_mnist": [
        ("conv1", 16, (28, 28), 5, 1, ("Relu", "MaxPool 2x2/2")),
        *(
            (f"conv_layers.{i}", 16, (14, 14), 10 + 4 * i, 2, ("Relu", "Add")[: 1 + i % 2])
            for i in range(20)
        ),
    ],
    "tanh_lenet_32": [
        ("cnn.0", 6, (28, 28), 5, 1, ("Tanh", "MaxPool 2x2/2")),
        ("cnn.3", 16, (10, 10), 14, 2, ("Tanh", "MaxPool 2x2/2")),
    ],
}
INPUTS = {"cifar_base_kw": (3, 32, 32), "mesonet_nhwc": (3, 256, 256), "tanh_lenet_32": (1, 32, 32)}


# --- helpers that other test files use too -----------------------------------------------------


def value(
    name: str, shape: Sequence[int | str | None] | None, kind: int = TensorProto.FLOAT
) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def weights(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    array = np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(array, name)


def build(
    nodes: Sequence[onnx.NodeProto],
    tensors: Sequence[onnx.TensorProto],
    shape: Sequence[int | str | None] | None = ("N", 1, 12, 12),
    opset: int = 17,
    inputs: Sequence[Any] = (),
) -> onnx.ModelProto:
    """A model whose image is `x`; its output is the last node's."""
    graph = helper.make_graph(
        nodes, "net", [value("x", shape), *inputs], [value(nodes[-1].output[0], None)], tensors
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """A node named after its output; inputs are separated by blanks, `-` is one left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, [output], name=f"{output}_node", **attributes)


def small(opset: int = 17) -> onnx.ModelProto:
    """Conv 4 → Relu → MaxPool 2 → Conv 6 → Relu on 1 × 12 × 12."""
    nodes = [
        node("Conv", "x conv1.weight conv1.bias", "c1", kernel_shape=[3, 3]),
        node("Relu", "c1", "r1"),
        node("MaxPool", "r1", "p1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p1 conv2.weight conv2.bias", "c2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", "c2", "r2"),
    ]
    tensors = [
        weights("conv1.weight", 4, 1, 3, 3),
        weights("conv1.bias", 4),
        weights("conv2.weight", 6, 4, 3, 3),
        weights("conv2.bias", 6),
    ]
    return build(nodes, tensors, opset=opset)


def run_ort(model: onnx.ModelProto, names: Sequence[str], image: np.ndarray) -> list[np.ndarray]:
    """Return the tensors `names` of a model for one image, as onnxruntime computes them."""
    return runner(model, names)(image)


def runner(
    model: onnx.ModelProto, names: Sequence[str]
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return a function from an image to the tensors `names`, computed by onnxruntime."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    fixed = {tensor.name for tensor in model.graph.initializer}
    name = next(v.name for v in model.graph.input if v.name not in fixed)
    return lambda image: list(session.run(list(names), {name: image.astype(np.float32)}))


def random_image(network: Network, seed: int = 0) -> np.ndarray:
    """One image in the model's own layout, batch of one."""
    image = np.random.default_rng(seed).standard_normal((1, *network.input_shape))
    order = ["NCHW".index(letter) for letter in network.layout]
    return image.transpose(order).astype(np.float32)


def export(module: nn.Module, shape: Sequence[int], dynamo: bool) -> onnx.ModelProto:
    """Export a torch module in one of torch's two ways."""
    module.eval()
    image = torch.zeros(1, *shape)
    file = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if not dynamo:
            torch.onnx.export(
                module, (image,), file, dynamo=False, dynamic_axes={"x": [0]}, input_names=["x"]
            )
            return onnx.load_from_string(file.getvalue())
        return torch.onnx.export(module, (image,), dynamo=True, verbose=False).model_proto


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- the networks of other people --------------------------------------------------------------


@needs_strangers
@pytest.mark.parametrize("name", LISTED)
def test_stranger_is_listed(name: str) -> None:
    network = load(STRANGERS / f"{name}.onnx")
    assert network.name == name
    assert network.input_shape == INPUTS.get(name, (1, 28, 28))
    listed = [
        (x.name, x.maps, x.output_shape[1:], x.receptive_field, x.stride, x.follows)
        for x in network.layers
    ]
    expected = [
        (n, maps, size, (field, field), (step, step), follows)
        for n, maps, size, field, step, follows in LISTED[name]
    ]
    assert listed == expected
    assert [layer.number for layer in network.layers] == list(range(1, len(expected) + 1))


@needs_strangers
@pytest.mark.parametrize("name", LISTED)
def test_output_shapes_are_those_of_onnxruntime(name: str) -> None:
    path = STRANGERS / f"{name}.onnx"
    network = load(path)
    tensors = [network.nodes[layer.node].outputs[0] for layer in network.layers]
    results = run_ort(onnx.load(path), tensors, random_image(network))
    assert [r.shape for r in results] == [(1, *layer.output_shape) for layer in network.layers]


@needs_strangers
def test_layout_is_noted() -> None:
    network = load(STRANGERS / "mesonet_nhwc.onnx")
    assert network.layout == "NHWC"
    assert "own layout is NHWC" in str(network)


def test_shipped_network(mnist: Network) -> None:
    assert [(x.name, x.output_shape, x.receptive_field) for x in mnist.layers] == [
        ("conv1", (32, 26, 26), (3, 3)),
        ("conv2", (64, 11, 11), (8, 8)),
        ("conv3", (128, 3, 3), (18, 18)),
    ]
    assert mnist.name == "mnist"
    assert mnist.sha256 == hashlib.sha256((MODELS / "mnist.onnx").read_bytes()).hexdigest()
    assert mnist.metadata["pyoip.dataset"] == "mnist"


def test_table_of_the_shipped_network(mnist: Network) -> None:
    assert str(mnist).splitlines() == [
        "mnist: input 1 x 28 x 28",
        "layer  name   maps  output   receptive field  stride  followed by",
        "-----  -----  ----  -------  ---------------  ------  -------------------",
        "    1  conv1    32  26 x 26  3 x 3            1 x 1   Relu, MaxPool 2x2/2",
        "    2  conv2    64  11 x 11  8 x 8            2 x 2   Relu, MaxPool 2x2/2",
        "    3  conv3   128  3 x 3    18 x 18          4 x 4   Relu",
    ]


# --- receptive fields by perturbation ----------------------------------------------------------


class Residual(nn.Module):
    """Two branches of different depth, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.long = nn.Sequential(nn.Conv2d(3, 3, 5, padding=2), nn.ReLU(), nn.Conv2d(3, 3, 1))
        self.short = nn.Conv2d(3, 3, (1, 3), padding=(0, 1))
        self.last = nn.Conv2d(6, 2, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        x = torch.cat([x + self.long(x), self.short(x)], 1)
        return self.last(nn.functional.pad(x, (1, 2, 0, 1)))


class Shuffle(nn.Module):
    """Grouped channels that are shuffled by reshapes, as in ShuffleNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, (5, 3), groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = x.reshape(1, 2, 2, 40, 44).transpose(1, 2).reshape(1, 4, 40, 44)
        return self.second(torch.cat([x[:, 1:], x[:, :1]], 1))


STACKS = {
    "plain": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, (5, 2)), nn.Conv2d(2, 1, 3)
    ),
    "strides": lambda: nn.Sequential(
        nn.Conv2d(1, 2, (4, 7), stride=(2, 1), padding=(1, 3)),
        nn.AvgPool2d(3, 2, padding=1),
        nn.Conv2d(2, 1, 3, stride=2),
        nn.Conv2d(1, 2, 2),
    ),
    "dilated": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, dilation=(2, 3)), nn.MaxPool2d(3, 3, ceil_mode=True), nn.Conv2d(2, 2, 2)
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3)
    ),
    "residual": Residual,
    "shuffle": Shuffle,
}


@pytest.mark.parametrize("name", STACKS)
def test_receptive_field_is_what_a_position_sees(name: str) -> None:
    # All weights are positive and all operations monotone, so a position of a black image's
    # response rises exactly if the one white pixel lies in its receptive field.
    torch.manual_seed(0)
    module = STACKS[name]().eval()
    for parameter in module.parameters():
        parameter.data = parameter.data.abs() + 0.1
    size = (40, 44)
    model = export(module, (1, *size), dynamo=False)
    network = load(model)
    tensors = [network.nodes[layer.node].outputs[0] for layer in network.layers]
    run = runner(model, tensors)
    black = run(np.zeros((1, 1, *size)))
    seen = [np.zeros((*b.shape[2:], *size), bool) for b in black]
    for pixel in np.ndindex(size):
        image = np.zeros((1, 1, *size))
        image[0, 0][pixel] = 100
        for table, lit, dark in zip(seen, run(image), black, strict=True):
            table[(..., *pixel)] = (lit > dark).any(axis=(0, 1))
    for layer, table in zip(network.layers, seen, strict=True):
        _compare_field(layer, table)


def _compare_field(layer: Layer, table: np.ndarray) -> None:
    """Compare with the pixels that the middle position and its neighbours see."""
    middle = [n // 2 for n in table.shape[:2]]
    for axis in (0, 1):
        next_one = list(middle)
        next_one[axis] += 1
        spans = []
        for place in (middle, next_one):
            seen = np.flatnonzero(table[tuple(place)].any(axis=1 - axis))
            spans.append((seen[0], seen[-1]))
        assert spans[0][1] - spans[0][0] + 1 == layer.receptive_field[axis], layer
        assert spans[1][0] - spans[0][0] == layer.stride[axis], layer


def test_field_behind_a_global_pooling_is_the_whole_image() -> None:
    nodes = [
        node("Conv", "x w1", "c1"),
        node("GlobalAveragePool", "c1", "g"),
        node("Sigmoid", "g", "s"),
        node("Mul", "c1 s", "m"),
        node("Conv", "m w2", "c2"),
    ]
    network = load(build(nodes, [weights("w1", 4, 1, 3, 3), weights("w2", 2, 4, 3, 3)]))
    assert [layer.receptive_field for layer in network.layers] == [(3, 3), (12, 12)]


# --- how files differ ---------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [6, 7, 9, 11, 13, 17, 20, 23])
@pytest.mark.parametrize("ir_version", [3, 8, 10, 99])
def test_versions(opset: int, ir_version: int) -> None:
    model = small(opset)
    model.ir_version = ir_version
    assert [layer.output_shape for layer in load(model).layers] == [(4, 10, 10), (6, 5, 5)]


def test_weights_that_are_graph_inputs_too() -> None:
    model = small()
    for tensor in model.graph.initializer:
        model.graph.input.append(value(tensor.name, tensor.dims))
    assert load(model).input_shape == (1, 12, 12)


def test_weights_behind_constant_operations() -> None:
    stored = numpy_helper.to_array(weights("w", 4, 1, 3, 3))
    flat = numpy_helper.from_array(stored.transpose(2, 3, 1, 0).astype(np.float64).ravel(), "flat")
    nodes = [
        node("Constant", "", "hwio", value=numpy_helper.from_array(np.array([3, 3, 1, 4]))),
        node("Reshape", "flat hwio", "shaped"),
        node("Transpose", "shaped", "turned", perm=[3, 2, 0, 1]),
        node("Cast", "turned", "single", to=TensorProto.FLOAT),
        node("Identity", "single", "w"),
        node("Constant", "", "half", value_float=0.5),
        node("Mul", "w half", "w2"),
        node("Conv", "x w2", "c"),
    ]
    network = load(build(nodes, [flat]))
    assert [n.op for n in network.nodes] == ["Conv"]
    np.testing.assert_array_equal(network.graph.constants["w2"], stored / 2)


def test_shape_arithmetic_before_a_convolution() -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Unsqueeze", "batch axis", "batch1"),
        node("Concat", "batch1 rest", "target", axis=0),
        node("Reshape", "x target", "image"),
        node("Conv", "image w", "c"),
    ]
    tensors = [
        numpy_helper.from_array(np.array(0), "zero"),
        numpy_helper.from_array(np.array([0]), "axis"),
        numpy_helper.from_array(np.array([4, 6, -1]), "rest"),
        weights("w", 2, 4, 3, 3),
    ]
    layer = load(build(nodes, tensors)).layers[0]
    assert layer.output_shape == (2, 4, 4)
    assert layer.receptive_field == (12, 12)  # a reshape that mixes positions is not followed


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"auto_pad": "SAME_UPPER"}, (12, 13)),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 3]}, (6, 5)),
        ({"auto_pad": "SAME_LOWER", "strides": [5, 2]}, (3, 7)),
        ({"auto_pad": "VALID"}, (9, 11)),
        ({"pads": [1, 0, 2, 1]}, (12, 12)),
        ({"dilations": [3, 2]}, (3, 9)),
        ({}, (9, 11)),
    ],
)
def test_padding_is_that_of_onnxruntime(
    attributes: dict[str, Any], expected: tuple[int, int]
) -> None:
    model = build(
        [node("Conv", "x w", "c", **attributes)], [weights("w", 2, 1, 4, 3)], (1, 1, 12, 13)
    )
    network = load(model)
    assert network.layers[0].output_shape == (2, *expected)
    assert run_ort(model, ["c"], random_image(network))[0].shape == (1, 2, *expected)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("kernel", [(2, 2), (3, 2), (3, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 1, 0)])
def test_pooling_is_that_of_onnxruntime(
    op: str, ceil: int, kernel: tuple[int, int], stride: int, pads: tuple[int, ...]
) -> None:
    attributes = {"kernel_shape": kernel, "strides": [stride] * 2, "pads": pads, "ceil_mode": ceil}
    nodes = [node("Conv", "x w", "c"), node(op, "c", "p", **attributes), node("Conv", "p v", "d")]
    tensors = [weights("w", 1, 1, 1, 1), weights("v", 2, 1, 1, 1)]
    model = build(nodes, tensors, (1, 1, 10, 11))
    network = load(model)
    shape = run_ort(model, ["d"], random_image(network))[0].shape
    assert network.layers[1].output_shape == shape[1:]


# Nodes, inputs x (2, 4, 6, 8), y (4, 6, 1) and constants, in a version that has them in this form.
_NODES = [
    (13, node("Add", "y x", "z")),
    (13, node("Max", "x y x", "z")),
    (13, node("Where", "yes y x", "z")),
    (13, node("PRelu", "x y", "z")),
    (11, node("Concat", "x x", "z", axis=-3)),
    (11, node("Split", "x", "z", axis=2, split=[6])),
    (13, helper.make_node("Split", ["x", "two_four"], ["z", "z2"], axis=2)),
    (18, helper.make_node("Split", ["x"], ["z", "z2", "z3"], axis=3, num_outputs=3)),
    (9, node("Slice", "x", "z", starts=[1, -5], ends=[9, -1], axes=[1, 3])),
    (13, node("Slice", "x ends0 starts0 last steps", "z")),
    (13, node("Gather", "x two_four", "z", axis=2)),
    (13, node("Gather", "x zero", "z", axis=0)),
    (13, node("Transpose", "x", "z")),
    (13, node("Transpose", "x", "z", perm=[0, 3, 1, 2])),
    (13, node("Reshape", "x reshaped", "z")),
    (13, node("Flatten", "x", "z", axis=-1)),
    (13, node("Flatten", "x", "z", axis=0)),
    (11, node("Squeeze", "y", "z")),
    (13, node("Squeeze", "y last", "z")),
    (11, node("Unsqueeze", "y", "z", axes=[0, -1])),
    (13, node("Unsqueeze", "y zero", "z")),
    (13, node("Expand", "y expanded", "z")),
    (13, node("Tile", "y repeats", "z")),
    (10, node("Pad", "x", "z", pads=[0, 1, 2, 3, 0, 0, -1, 1])),
    (13, node("Pad", "x pads", "z")),
    (18, node("Pad", "x two_four - last", "z")),
    (13, node("ReduceSum", "x last", "z", keepdims=0)),
    (13, node("ReduceMean", "x", "z", axes=[1, -1])),
    (18, node("ReduceMax", "x", "z")),
    (13, node("GlobalAveragePool", "x", "z")),
    (13, node("ConvTranspose", "x kernel", "z", strides=[2, 3], pads=[1, 0, 0, 2])),
    (13, node("ConvTranspose", "x kernel", "z", dilations=[2, 1], strides=[2, 2])),
    (13, node("DepthToSpace", "x", "z", blocksize=2)),
    (13, node("SpaceToDepth", "x", "z", blocksize=2)),
    (9, node("Upsample", "x scales", "z")),
    (10, node("Resize", "x scales", "z")),
    (13, node("Resize", "x - scales", "z")),
    (13, node("Resize", "x - - sizes", "z")),
    (18, node("Resize", "x - - two_four", "z", axes=[3, -2])),
    (13, node("MatMul", "x y8", "z")),
    (13, node("Einsum", "x y", "z", equation="n...hw, ...hk -> nk...")),
    (13, helper.make_node("TopK", ["x", "last_one"], ["z", "z2"], axis=-2)),
    (13, node("ArgMax", "x", "z", axis=2)),
    (13, node("ArgMin", "x", "z", axis=-1, keepdims=0)),
    (13, node("GatherElements", "x eight", "z", axis=3)),
    (20, node("GridSample", "x grid", "z")),
    (13, node("BatchNormalization", "x four four four four", "z")),
    (13, node("Softmax", "x", "z")),
]
_CONSTANTS = {
    "yes": np.array(True),
    "zero": np.array([0]),
    "last_one": np.array([1]),
    "eight": np.zeros((2, 4, 6, 3), np.int64),
    "grid": np.zeros((2, 5, 7, 2), np.float32),
    "two_four": np.array([2, 4]),
    "ends0": np.array([-1]),
    "starts0": np.array([-100]),
    "last": np.array([-1]),
    "steps": np.array([-3]),
    "reshaped": np.array([0, -1, 3]),
    "expanded": np.array([2, 1, 6, 5]),
    "repeats": np.array([1, 2, 3]),
    "pads": np.array([0, 1, 2, 3, 0, 0, -1, 1]),
    "kernel": np.ones((4, 5, 3, 2), np.float32),
    "scales": np.array([1, 1, 2, 1.3], np.float32),
    "sizes": np.array([2, 4, 9, 3]),
    "four": np.ones(4, np.float32),
    "y8": np.ones((4, 8, 3), np.float32),
}


@pytest.mark.parametrize(("opset", "item"), _NODES, ids=[n.op_type for _, n in _NODES])
def test_shape_rules_are_those_of_onnxruntime(opset: int, item: onnx.NodeProto) -> None:
    shapes = {"x": (2, 4, 6, 8), "y": (4, 6, 1)}
    tensors = [numpy_helper.from_array(array, name) for name, array in _CONSTANTS.items()]
    inputs = [value(name, shape) for name, shape in shapes.items()]
    outputs = [onnx.ValueInfoProto(name=name) for name in item.output]
    graph = helper.make_graph([item], "one", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    expected = [result.shape for result in session.run(None, feeds)]
    shapes.update({name: array.shape for name, array in _CONSTANTS.items()})
    given = [shapes.get(name, ()) for name in item.input]
    assert result_shapes(to_node(item, opset), given, _CONSTANTS) == expected


def test_open_height_and_width_need_input_shape() -> None:
    model = small()
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "side"
    with pytest.raises(ModelError, match=r"'x' leaves its height open; pass input_shape"):
        load(model)
    assert load(model, input_shape=(1, 20, 30)).layers[1].output_shape == (6, 9, 14)


def test_input_without_a_shape() -> None:
    model = small()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError, match="pass input_shape"):
        load(model)
    assert load(model, input_shape=(1, 12, 12)).input_shape == (1, 12, 12)


@pytest.mark.parametrize("shape", [(1, 12), (1, 12, 0), "abc", 5, (1, 12.0, 12), (1, 1, 10**9)])
def test_wrong_input_shape(shape: Any) -> None:
    with pytest.raises(InvalidArgument, match="input_shape="):
        load(small(), input_shape=shape)


def test_input_shape_against_a_fixed_one() -> None:
    with pytest.raises(InvalidArgument, match=r"the height of 'x' is fixed to 12"):
        load(small(), input_shape=(1, 13, 12))


def test_unnamed_nodes_and_numbered_tensors() -> None:
    model = small()
    for index, item in enumerate(model.graph.node):
        item.name = ""
        item.output[0] = str(index)
        if index:
            item.input[0] = str(index - 1)
        if len(item.input) > 1:
            item.input[1] = f"1{index}"
    for tensor, name in zip(model.graph.initializer, ("10", "conv1.bias", "13", "b"), strict=True):
        tensor.name = name
    model.graph.node[3].input[2] = "b"
    network = load(model)
    assert [layer.name for layer in network.layers] == ["conv1", "conv2"]
    assert network.layer("2").number == 2


def test_same_weights_used_twice_make_two_layers() -> None:
    nodes = [
        node("Conv", "x conv.weight", "a", pads=[1, 1, 1, 1]),
        node("Conv", "a conv.weight", "b", pads=[1, 1, 1, 1]),
    ]
    layers = load(build(nodes, [weights("conv.weight", 1, 1, 3, 3)])).layers
    assert [layer.name for layer in layers] == ["conv", "b_node"]


def test_only_what_convolutions_need_is_read() -> None:
    model = small()
    model.graph.node.append(node("LSTM", "r2 unread unread", "end", hidden_size=3))
    model.graph.initializer.append(weights("unread", 1, 2, 2))
    network = load(model)
    assert "unread" not in network.graph.constants
    assert [n.op for n in network.nodes] == ["Conv", "Relu", "MaxPool", "Conv", "Relu"]


def test_subgraph_behind_the_convolutions() -> None:
    branch = helper.make_graph([node("Abs", "r2", "inner")], "branch", [], [value("inner", None)])
    model = small()
    model.graph.node.append(node("If", "yes", "end", then_branch=branch, else_branch=branch))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    assert len(load(model).layers) == 2


def test_convolution_behind_a_subgraph_is_refused_by_name() -> None:
    branch = helper.make_graph([node("Abs", "x", "inner")], "branch", [], [value("inner", None)])
    nodes = [
        node("ReduceMax", "x", "top", keepdims=0),
        node("Cast", "top", "yes", to=TensorProto.BOOL),
        node("If", "yes", "image", then_branch=branch, else_branch=branch),
        node("Conv", "image w", "c"),
    ]
    with pytest.raises(ModelError, match=r"not known, because of node 'image_node' \(If\)"):
        load(build(nodes, [weights("w", 2, 1, 3, 3)]))


def test_function_of_the_model_is_replaced() -> None:
    function = helper.make_function(
        "mine",
        "ConvRelu",
        ["data", "kernel"],
        ["result"],
        [node("Conv", "data kernel", "inner"), node("Relu", "inner", "result")],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        helper.make_node("ConvRelu", ["x", "w1"], ["a"], domain="mine"),
        helper.make_node("ConvRelu", ["a", "w2"], ["b"], domain="mine"),
    ]
    model = build(nodes, [weights("w1", 2, 1, 3, 3), weights("w2", 3, 2, 3, 3)])
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.functions.append(function)
    layers = load(model).layers
    assert [(x.output_shape, x.follows) for x in layers] == [
        ((2, 10, 10), ("Relu",)),
        ((3, 8, 8), ("Relu",)),
    ]


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    model = small()
    plain = load(model)
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    network = load(path)
    assert network.name == "net"
    for name, array in plain.graph.constants.items():
        np.testing.assert_array_equal(network.graph.constants[name], array)


def test_model_is_left_as_it_was() -> None:
    model = small()
    before = model.SerializeToString()
    load(model)
    assert model.SerializeToString() == before


def test_network_is_returned_as_it_is(mnist: Network) -> None:
    assert load(mnist) is mnist


@pytest.mark.parametrize("model", [3, None, b"mnist", [1, 2]])
def test_other_types(model: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"type {type(model).__name__}; must be 'mnist'"):
        load(model)


def test_metadata_of_real_images() -> None:
    model = small()
    text = '{"layers": {"2": {"clip": {"activation": [1, 2, 3, 4, 5, 6.5]}}}}'
    helper.set_model_props(model, {"pyoip.real_maxima": text, "author": "me"})
    network = load(model)
    assert network.metadata["author"] == "me"
    found = network.real_maxima(2, "clip", "activation")
    assert found is not None
    assert found.dtype == np.float32
    assert found.tolist() == [1, 2, 3, 4, 5, 6.5]
    assert network.real_maxima(2, "clip", "preactivation") is None
    assert network.real_maxima(1, "clip", "activation") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"layers": {"3": {"clip": {"activation": [1]}}}}',
        '{"layers": {"2": {"clip": {"activation": [1, 2, 3, 4, 5]}}}}',
        '{"layers": {"1": {"clip": {"activation": [1, 2, 3, NaN]}}}}',
        '{"layers": {"0": {"clip": {"activation": [1, 2, 3, 4, 5, 6]}}}}',
    ],
)
def test_damaged_metadata_of_real_images(text: str) -> None:
    model = small()
    helper.set_model_props(model, {"pyoip.real_maxima": text})
    with pytest.raises(ModelError, match=r"metadata pyoip.real_maxima is damaged"):
        load(model)


# --- asking for layers and maps -----------------------------------------------------------------


@pytest.fixture(scope="module")
def dotted() -> Network:
    """Layers layer1.0.conv1 (4 maps), layer1.0.conv2 (6 maps) and stem (64 maps)."""
    names = ("layer1.0.conv1", "layer1.0.conv2", "stem")
    shapes = ((4, 1, 3, 3), (6, 4, 3, 3), (64, 6, 3, 3))
    nodes, tensors, last = [], [], "x"
    for name, shape in zip(names, shapes, strict=True):
        tensors.append(weights(f"{name}.weight", *shape))
        nodes.append(node("Conv", f"{last} {name}.weight", f"{name}:0"))
        last = f"{name}:0"
    return load(build(nodes, tensors))


@pytest.mark.parametrize(
    "spec",
    [
        2,
        np.int64(2),
        "2",
        " 2 ",
        "layer1.0.conv2",
        "layer1_0_conv2",
        "conv2",
        "layer1.0.conv2:0",
        "layer1.0.conv2:0_node",
    ],
)
def test_layer_by_number_and_names(dotted: Network, spec: Any) -> None:
    assert dotted.layer(spec).number == 2
    assert dotted.select(spec)[1].tolist() == list(range(6))


@pytest.mark.parametrize("spec", [0, 4, -1, "4", "conv4", "", "Stem", True, 1.5, None, "9" * 5000])
def test_wrong_layer_lists_the_valid_ones(dotted: Network, spec: Any) -> None:
    with pytest.raises(InvalidArgument) as error:
        dotted.layer(spec)
    assert "valid are 1 layer1.0.conv1, 2 layer1.0.conv2, 3 stem" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 250


def test_numbered_alias_only_where_it_cannot_mislead() -> None:
    nodes = [
        node("Conv", "x conv0.weight", "a"),
        node("Conv", "a conv1.weight", "b"),
    ]
    network = load(
        build(nodes, [weights("conv0.weight", 1, 1, 3, 3), weights("conv1.weight", 1, 1, 3, 3)])
    )
    assert network.layer("conv1").number == 2
    with pytest.raises(InvalidArgument):
        network.layer("conv2")


@pytest.mark.parametrize(
    ("spec", "maps", "expected"),
    [
        ("stem:17", None, [17]),
        ("stem:0-63", None, list(range(64))),
        ("3:3,5,8-11", None, [3, 5, 8, 9, 10, 11]),
        ("3: 63 , 0", None, [63, 0]),
        ("layer1.0.conv2:0:5", None, [5]),
        ("stem", 7, [7]),
        (3, [5, 2], [5, 2]),
        (3, np.array([5, 2]), [5, 2]),
        (3, range(10, 4, -2), [10, 8, 6]),
        (3, slice(60, None), [60, 61, 62, 63]),
        (3, slice(None, None, 32), [0, 32]),
        (3, "1-2", [1, 2]),
    ],
)
def test_maps(dotted: Network, spec: Any, maps: Any, expected: list[int]) -> None:
    chosen = dotted.select(spec, maps)[1]
    assert chosen.tolist() == expected
    assert chosen.dtype == np.int64


@pytest.mark.parametrize(
    ("spec", "maps", "message"),
    [
        ("stem:64", None, r"map 64: stem has the maps 0\.\.63"),
        ("stem:0-999999999", None, r"map 999999999: stem has the maps 0\.\.63"),
        ("stem:5-3", None, "5-3 must rise"),
        ("stem:", None, "neither a map nor a range"),
        ("stem:a", None, r"valid are 0\.\.63"),
        ("stem:1,,2", None, "neither a map nor a range"),
        ("stem:-1", None, "neither a map nor a range"),
        ("stem:1,2,1-3", None, "map 1 of stem is named twice"),
        ("stem:1", [2], "names maps"),
        (3, [], r"no map of stem; valid are 0\.\.63"),
        (3, slice(70, 80), "no map of stem"),
        (3, -1, "map -1: stem has the maps"),
        (3, [1, 64], "map 64"),
        (3, range(10**12), "map 999999999999"),
        (3, 1.5, "not a whole number"),
        (3, [True], "not a whole number"),
        (3, [1, 1], "named twice"),
    ],
)
def test_wrong_maps(dotted: Network, spec: Any, maps: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as error:
        dotted.select(spec, maps)
    assert len(str(error.value).splitlines()) == 1


# --- torch modules ------------------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.conv2 = nn.Conv2d(4, 5, 3)
        self.dense = nn.Linear(5 * 4 * 5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("forward")  # must not reach the user's screen
        warnings.warn("noise", UserWarning, stacklevel=1)
        x = nn.functional.max_pool2d(torch.tanh(self.norm(self.conv1(x))), 2)
        return self.dense(self.drop(torch.relu(self.conv2(x))).flatten(1))


def test_torch_module(capfd: pytest.CaptureFixture[str]) -> None:
    module = Small()
    module.drop.eval()
    network = load(module, input_shape=(3, 14, 16))
    assert network.name == "Small"
    assert network.source == "<torch module>"
    assert [(x.name, x.output_shape) for x in network.layers] == [
        ("conv1", (4, 12, 14)),
        ("conv2", (5, 4, 5)),
    ]
    assert [part.training for part in module.modules()] == [True, True, True, False, True, True]
    assert capfd.readouterr() == ("", "")


def test_torch_module_without_a_shape() -> None:
    with pytest.raises(ModelError, match=r"Small does not tell.*pass input_shape=\(3, H, W\)"):
        load(Small())


def test_torch_module_that_tells_its_shape() -> None:
    module = Small()
    module.example_input_array = torch.zeros(1, 3, 14, 16)
    assert load(module).input_shape == (3, 14, 16)


def test_torch_module_of_another_shape() -> None:
    module = Small()
    with pytest.raises(ModelError, match=r"cannot export it for an image of shape \[3, 20, 20\]"):
        load(module, input_shape=(3, 20, 20))
    assert module.training


def test_loading_a_file_imports_no_torch() -> None:
    code = (
        "import sys, pyoip.network as n; print(len(n.load('mnist').layers), "
        "sorted({'torch', 'matplotlib', 'typer', 'onnxruntime'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.split() == ["3", "[]"]
