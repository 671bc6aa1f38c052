"""Sequential stacks: their numbers against onnxruntime and torch, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from conftest import STRANGERS, needs_strangers
from numpy.typing import NDArray
from onnx import numpy_helper
from problems import by_torch
from test_network import (
    build,
    export,
    node,
    random_image,
    run_ort,
    weights,
)
from torch import nn

from pyoip import reference
from pyoip.activation import FUNCTIONS, KINDS
from pyoip.errors import InvalidArgument, UnsupportedLayer
from pyoip.network import Network, load
from pyoip.stack import Activation, ConvLayer, Pool, Stack, build_stack, check_limits

Array = NDArray[np.float64]


def forward(stack: Stack, image: np.ndarray) -> tuple[Array, Array]:
    """Return the last layer before and after its activation, for images (N, C, H, W)."""
    x = torch.from_numpy(np.array(image, np.float64))
    for layer in stack.layers:
        assert x.shape[1:] == layer.input_shape
        top, left, bottom, right = layer.pads
        before = F.conv2d(
            F.pad(x, (left, right, top, bottom)),
            torch.from_numpy(layer.weights.astype(np.float64)),
            torch.from_numpy(layer.bias.astype(np.float64)),
            layer.stride,
        )
        assert before.shape[1:] == layer.output_shape
        after = by_torch(layer.activation, before)
        x = after if layer.pool is None else _pool(after, layer.pool)
        assert x.shape[1:] == layer.pooled_shape
    return before.numpy(), after.numpy()


def _pool(x: torch.Tensor, pool: Pool) -> torch.Tensor:
    if pool.kind == "average":
        assert not any(pool.pads)
        return F.avg_pool2d(x, pool.kernel, pool.stride)
    top, left, bottom, right = pool.pads
    padded = F.pad(x, (left, right, top, bottom), value=-torch.inf)
    return F.max_pool2d(padded, pool.kernel, pool.stride)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare with what was computed in float32."""
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6 * max(scale, 1))


def test_comparison_fails_where_it_should() -> None:
    good = np.linspace(-1, 1, 50).reshape(2, 25)
    for wrong in (
        good * 1.001,
        good + 1e-4,
        good[:, ::-1],
        good[:1],
        np.where(good > 0.9, 0, good),
    ):
        with pytest.raises(AssertionError):
            close(wrong, good)


# --- the networks of other people --------------------------------------------------------------

# The tensors behind the activations of the layers that end a sequential stack.
ACTIVATED = {
    "avgpool_digits": ["/Relu_output_0", "/Relu_1_output_0", "/Relu_2_output_0"],
    "cifar_base_kw": ["10", "12"],
    "cntk_mnist": ["ReLU32_Output_0", "ReLU114_Output_0"],
    "depthwise_mnist": ["conv0_relu"],
    "lenet5_mnist": ["/net/net.1/Relu_output_0", "/net/net.4/Relu_output_0"],
    "residual_mnist": ["/Relu_output_0", "/Relu_1_output_0", "/Relu_2_output_0"],
    "tanh_lenet_32": ["/cnn/cnn.1/Tanh_output_0", "/cnn/cnn.4/Tanh_output_0"],
}


@needs_strangers
@pytest.mark.parametrize("name", ACTIVATED)
def test_stranger_is_computed_as_onnxruntime_does(name: str) -> None:
    path = STRANGERS / f"{name}.onnx"
    network = load(path)
    image = random_image(network)
    expected = run_ort(onnx.load(path), ACTIVATED[name], image)
    for number, tensor in enumerate(expected, 1):
        stack = build_stack(network, number)
        check_limits(stack)
        close(forward(stack, image)[1], tensor)


@needs_strangers
@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        (
            "depthwise_mnist",
            2,
            r"layer 2 \(dwconv1\): node 'sng_Conv_2' \(Conv\) has group 32; mus",
        ),
        (
            "depthwise_mnist",
            4,
            r"layer 4 \(dwconv4\): node 'sng_Conv_2' \(Conv\) has group 32; mus",
        ),
        ("residual_mnist", 4, r"node '/Add' \(Add\) joins branches; a stack must be sequential"),
        ("residual_mnist", 21, r"layer 21 \(conv_layers.19\): .* joins branches"),
        ("mesonet_nhwc", 1, r"\(Transpose\) changes the image before the first convolution"),
    ],
)
def test_stranger_that_is_no_stack(name: str, layer: int, message: str) -> None:
    with pytest.raises(UnsupportedLayer, match=message) as error:
        build_stack(load(STRANGERS / f"{name}.onnx"), layer)
    assert "engine 'onnx' could take it" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_shipped_network(mnist: Network) -> None:
    stack = build_stack(mnist, 3)
    check_limits(stack)
    assert [layer.name for layer in stack.layers] == ["conv1", "conv2", "conv3"]
    assert [layer.activation.kind for layer in stack.layers] == ["relu"] * 3
    assert stack.layers[0].pool == Pool("max", (2, 2), (2, 2), (0, 0, 0, 0))
    assert stack.layers[2].pool is None
    assert stack.layers[1].weights.dtype == np.float32
    assert not stack.layers[1].weights.flags.writeable
    assert stack.layers[1].weights.flags.c_contiguous


# --- random torch stacks -----------------------------------------------------------------------


def random_module(rng: np.random.Generator) -> tuple[nn.Sequential, list[int], tuple[int, ...]]:
    """Return a sequential stack, the end of each layer's activation in it, and its input shape."""
    channels = int(rng.choice([1, 3]))
    shape = (channels, int(rng.integers(24, 40)), int(rng.integers(24, 40)))
    parts: list[nn.Module] = []
    ends: list[int] = []
    for _ in range(int(rng.integers(1, 5))):
        maps = int(rng.integers(1, 6))
        parts.append(_random_conv(rng, channels, maps))
        channels = maps
        if rng.random() < 0.4:
            parts.append(_random_norm(rng, maps))
        activation, pool = _random_activation(rng), _random_pool(rng)
        if rng.random() < 0.3:
            parts.append(nn.Dropout2d(0.5))
        swap = isinstance(pool, nn.MaxPool2d) and rng.random() < 0.3
        # Behind a maximum the activation gives the same; the layer then ends before the pooling.
        ends.append(len(parts) if swap else len(parts) + 1)
        parts += [pool, activation] if swap else [activation, pool]
    return nn.Sequential(*parts), ends, shape


def _random_conv(rng: np.random.Generator, channels: int, maps: int) -> nn.Conv2d:
    kernel = tuple(int(k) for k in rng.integers(1, 6, size=2))
    padding: Any = tuple(int(rng.integers(k)) for k in kernel)
    stride = tuple(int(s) for s in rng.integers(1, 3, size=2))
    if rng.random() < 0.2:
        padding, stride = "same", (1, 1)
    return nn.Conv2d(
        channels, maps, kernel, stride=stride, padding=padding, bias=bool(rng.random() < 0.8)
    )


def _random_norm(rng: np.random.Generator, maps: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(maps, eps=float(rng.choice([1e-5, 1e-2])))
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
        tensor.copy_(torch.from_numpy(rng.standard_normal(maps)))
    norm.running_var.copy_(torch.from_numpy(rng.random(maps) + 0.1))
    return norm


def _random_activation(rng: np.random.Generator) -> nn.Module:
    kinds = [nn.ReLU(), nn.LeakyReLU(0.2), nn.Tanh(), nn.Sigmoid(), nn.Identity()]
    return kinds[int(rng.integers(len(kinds)))]


def _random_pool(rng: np.random.Generator) -> nn.Module:
    kernel = tuple(int(k) for k in rng.integers(2, 4, size=2))
    stride = tuple(int(s) for s in rng.integers(1, 4, size=2))
    kind = int(rng.integers(4))
    if kind == 0:
        return nn.AvgPool2d(kernel, stride)
    if kind == 1:
        return nn.MaxPool2d(kernel, stride, padding=int(rng.integers(2)))
    return nn.MaxPool2d(kernel, stride, ceil_mode=True) if kind == 2 else nn.Identity()


def _usable(module: nn.Sequential, ends: list[int], image: torch.Tensor) -> bool:
    """Tell whether all layers have positions, and activations that are not all the same."""
    try:
        with torch.no_grad():
            return all(float(module[:end](image).std()) > 0 for end in [*ends, len(module)])
    except RuntimeError:
        return False


def _check_module(seed: int, dynamo: bool) -> None:
    """Compare every layer of a random module with torch in float64."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    module, ends, shape = random_module(rng)
    while not _usable(module.eval(), ends, torch.randn(2, *shape)):
        module, ends, shape = random_module(rng)
    network = load(export(module, shape, dynamo))
    assert len(network.layers) == len(ends)
    image = rng.standard_normal((2, *shape))
    truth = module.double()
    for number, end in enumerate(ends, 1):
        found = forward(build_stack(network, number), image)[1]
        expected = truth[:end](torch.from_numpy(image))
        if isinstance(truth[end], nn.MaxPool2d) and end + 1 < len(truth):
            swapped = not isinstance(truth[end - 1], _KINDS)
            expected = truth[end + 1](expected) if swapped else expected
        close(found, expected.detach().numpy())


_KINDS = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Identity)


SAME = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


@SAME
@pytest.mark.parametrize("seed", range(40))
def test_random_stack_exported_by_torchscript(seed: int) -> None:
    _check_module(seed, dynamo=False)


@SAME
@pytest.mark.parametrize("seed", range(100, 103))
def test_random_stack_exported_by_dynamo(seed: int) -> None:
    _check_module(seed, dynamo=True)


# --- what is folded, moved or skipped ----------------------------------------------------------


def conv(maps: int = 2, name: str = "w", channels: int = 1) -> onnx.TensorProto:
    return weights(name, maps, channels, 3, 3)


def check_against_ort(model: onnx.ModelProto, tensor: str) -> ConvLayer:
    """Check the last layer's activation against onnxruntime; return the layer."""
    network = load(model)
    stack = build_stack(network, len(network.layers))
    image = random_image(network)
    close(forward(stack, image)[1], run_ort(model, [tensor], image)[0])
    return stack.layers[-1]


def constant(name: str, numbers: Any, kind: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(numbers, kind), name)


@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 2, 1, 1), (), (1,), (1, 1, 1)])
def test_bias_as_an_add(shape: tuple[int, ...]) -> None:
    bias = constant("b", np.linspace(0.5, 1, int(np.prod(shape))).reshape(shape))
    nodes = [node("Conv", "x w", "c"), node("Add", "b c", "a"), node("Relu", "a", "r")]
    layer = check_against_ort(build(nodes, [conv(), bias]), "r")
    assert layer.bias[0] == np.float32(0.5)


def test_bias_as_an_add_before_opset_7() -> None:
    nodes = [node("Conv", "x w", "c"), node("Add", "c b", "a", broadcast=1, axis=1)]
    layer = build_stack(load(build(nodes, [conv(), constant("b", [1, 2])], opset=6)), 1).layers[0]
    assert layer.bias.tolist() == [1, 2]


def test_batch_normalisation_is_folded_in_float64() -> None:
    statistics = ["g", "b", "m", "v"]
    nodes = [
        node("Conv", "x w", "c"),
        node("Add", "c o", "a"),
        node("BatchNormalization", "a g b m v", "n", epsilon=1e-3),
        node("Tanh", "n", "t"),
    ]
    numbers = {"g": [2, -1], "b": [0.1, 0.2], "m": [1000.5, -0.3], "v": [0.5, 2], "o": [1000, 0]}
    tensors = [constant(name, numbers[name]) for name in statistics]
    tensors += [conv(), constant("o", np.reshape(numbers["o"], (2, 1, 1)))]
    layer = build_stack(load(build(nodes, tensors)), 1).layers[0]
    gain = np.array([2, -1]) / np.sqrt(np.float32([0.5, 2]).astype(float) + np.float32(1e-3))
    mean, shift = np.float64(np.float32([1000.5, -0.3])), np.float64(np.float32([0.1, 0.2]))
    expected = (np.array([1000, 0]) - mean) * gain + shift
    np.testing.assert_array_equal(layer.bias, expected.astype(np.float32))


def test_activation_behind_max_pooling_is_moved_before_it() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("MaxPool", "c", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Relu", "p", "r"),
        node("Conv", "r w2", "d"),
        node("MaxPool", "d", "q", kernel_shape=[2, 2]),
        node("Sigmoid", "q", "s"),
    ]
    model = build(nodes, [conv(2), conv(3, "w2", 2)])
    first, last = build_stack(load(model), 2).layers
    assert (first.activation.kind, last.activation.kind) == ("relu", "sigmoid")
    image = random_image(load(model))
    found = torch.from_numpy(forward(build_stack(load(model), 2), image)[1])
    close(F.max_pool2d(found, 2, 1).numpy(), run_ort(model, ["s"], image)[0])


def test_falling_activation_does_not_commute_with_a_maximum() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("MaxPool", "c", "p", kernel_shape=[2, 2]),
        node("LeakyRelu", "p", "r", alpha=-0.5),
        node("Conv", "r w2", "d"),
    ]
    with pytest.raises(UnsupportedLayer, match="comes after the pooling; must come before"):
        build_stack(load(build(nodes, [conv(2), conv(3, "w2", 2)])), 2)


@pytest.mark.parametrize("operator", KINDS)
def test_activation_functions(operator: str) -> None:
    """Every one by its ONNX operator, with the operator's own slope and with another."""
    own = FUNCTIONS[KINDS[operator]].slope
    for given in ({},) if own is None else ({}, {"alpha": 0.3}):
        nodes = [node("Conv", "x w", "c"), node(operator, "c", "r", **given)]
        activation = check_against_ort(build(nodes, [conv()]), "r").activation
        assert activation.kind == KINDS[operator]
        assert activation.slope == pytest.approx(given.get("alpha", own or 0.0))


def test_one_slope_for_all_maps_is_a_leaky_relu() -> None:
    nodes = [node("Conv", "x w", "c"), node("PRelu", "c s", "r")]
    layer = check_against_ort(build(nodes, [conv(), constant("s", [[[0.3]], [[0.3]]])]), "r")
    assert layer.activation == Activation("leaky_relu", float(np.float32(0.3)))


def test_nodes_that_do_nothing_are_skipped() -> None:
    nodes = [
        node("Identity", "x", "i"),
        node("Cast", "i", "k", to=onnx.TensorProto.FLOAT),
        node("Conv", "k w", "c"),
        node("Dropout", "c ratio", "o"),
        node("Identity", "o", "j"),
        node("Relu", "j", "r"),
    ]
    layer = check_against_ort(build(nodes, [conv(), constant("ratio", 0.5)]), "r")
    assert layer.activation.kind == "relu"


def test_zero_padding_before_a_convolution() -> None:
    nodes = [
        node("Pad", "x pads", "p"),
        node("Conv", "p w", "c", pads=[1, 0, 0, 0]),
        node("Relu", "c", "r"),
    ]
    pads = constant("pads", [0, 0, 1, 2, 0, 0, 3, 4], np.int64)
    assert check_against_ort(build(nodes, [pads, conv()]), "r").pads == (2, 2, 3, 4)


def test_side_branches_do_not_matter() -> None:
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Conv", "r w2", "d", pads=[1, 1, 1, 1]),
        node("Add", "d c", "sum"),
        node("Relu", "sum", "end"),
    ]
    network = load(build(nodes, [conv(2), conv(2, "w2", 2)]))
    assert build_stack(network, 1).layers[0].activation.kind == "relu"
    # What the sum makes of the second layer is not its own activation.
    assert build_stack(network, 2).layers[1].activation.kind == "none"


def test_layer_before_average_pooling_keeps_its_activation() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("AveragePool", "c", "p", kernel_shape=[2, 2]),
        node("Relu", "p", "r"),
    ]
    assert build_stack(load(build(nodes, [conv()])), 1).layers[0].activation.kind == "none"


def test_scaling_before_the_first_convolution_is_folded(rng: np.random.Generator) -> None:
    nodes = [
        node("Sub", "x two", "i"),
        node("Div", "i three", "j"),
        node("Conv", "j w", "c"),
        node("Relu", "c", "r"),
    ]
    plain = build([node("Conv", "x w", "c"), node("Relu", "c", "r")], [conv()])
    model = build(nodes, [conv(), constant("two", 2), constant("three", 3)])
    images = rng.standard_normal((4, 1, 12, 12))
    exact = reference.activations(build_stack(load(plain), 1), (images - 2) / 3)
    found = reference.activations(build_stack(load(model), 1), images)
    np.testing.assert_allclose(found, exact, atol=1e-6)


# --- what is refused ---------------------------------------------------------------------------

MORE = [
    conv(),
    conv(2, "w2", 2),
    constant("two", 2),
    constant("each", np.ones((1, 2, 10, 10))),
    constant("all", np.arange(144.0).reshape(12, 12)),
    constant("ones", [1, 1]),
    constant("slopes", [[[0.1]], [[0.2]]]),
    constant("pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    constant("yes", True, bool),
    constant("ratio", 0.5),
]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Mul", "x all", "i"), node("Conv", "i w", "c")], r"'i_node' \(Mul\) changes the im"),
        (
            [node("Add", "x two", "i"), node("Conv", "i w", "c", pads=[1, 1, 1, 1])],
            r"'c_node' \(Conv\) pads an image that is shifted before, by other than zeros",
        ),
        ([node("Relu", "x", "i"), node("Conv", "i w", "c")], r"\(Relu\) changes the image"),
        (
            [node("Pad", "x pads two", "i"), node("Conv", "i w", "c")],
            r"\(Pad\) is not zero padding",
        ),
        (
            [node("Pad", "x pads", "i", mode="reflect"), node("Conv", "i w", "c")],
            r"\(Pad\) is not zero padding",
        ),
        ([node("Conv", "x w", "c", dilations=[2, 2])], r"dilations \[2, 2\]; must be \[1, 1\]"),
        (
            [node("Conv", "x w", "c"), node("Elu", "c", "e")],
            r"'e_node' \(Elu\) must be one of Relu, LeakyRelu, Tanh, Sigmoid",
        ),
        ([node("Conv", "x w", "c"), node("PRelu", "c slopes", "e")], r"\(PRelu\) must be one of"),
        ([node("Conv", "x w", "c"), node("Clip", "c", "e")], r"\(Clip\) must be one of"),
        (
            [node("Conv", "x w", "c"), node("Sigmoid", "c", "s"), node("Mul", "c s", "e")],
            "is part of an activation made of several nodes",
        ),
        (
            [node("Conv", "x w", "c"), node("Mul", "c two", "m"), node("Relu", "m", "r")],
            r"\(Mul\) changes the maps before their activation",
        ),
        (
            [node("Conv", "x w", "c"), node("InstanceNormalization", "c ones ones", "m")],
            r"\(InstanceNormalization\) changes the maps",
        ),
        ([node("Conv", "x w", "c"), node("Add", "c each", "a")], "other than one value per map"),
        (
            [node("Conv", "x w", "c"), node("Dropout", "c ratio yes", "d")],
            "drops values at random",
        ),
        (
            [
                node("Conv", "x w", "c"),
                node("BatchNormalization", "c ones ones ones ones", "d", training_mode=1),
            ],
            "must be for inference",
        ),
    ],
)
def test_target_that_is_refused(nodes: list[onnx.NodeProto], message: str) -> None:
    refuse(nodes, 1, message)


def refuse(nodes: list[onnx.NodeProto], layer: int, message: str) -> None:
    network = load(build(nodes, MORE))
    with pytest.raises(UnsupportedLayer, match=message) as error:
        build_stack(network, layer)
    assert "engine 'onnx' could take it" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("between", "message"),
    [
        ([node("GlobalAveragePool", "c", "e")], r"\(GlobalAveragePool\) is not a convolution"),
        ([node("Softmax", "c", "e")], r"\(Softmax\) is not a convolution"),
        ([node("Mul", "c c", "e")], "joins branches"),
        ([node("Relu", "c", "r"), node("Add", "r c", "e")], r"'e_node' \(Add\) joins branches"),
        ([node("Relu", "c", "r"), node("Tanh", "r", "e")], r"\(Tanh\) is a second activation"),
        (
            [node("Relu", "c", "r"), node("BatchNormalization", "r ones ones ones ones", "e")],
            r"\(BatchNormalization\) comes after the activation or pooling",
        ),
        (
            [node("MaxPool", "c", "r", kernel_shape=[2, 2]), node("Add", "r two", "e")],
            r"\(Add\) comes after the activation or pooling",
        ),
        (
            [node("AveragePool", "c", "r", kernel_shape=[2, 2]), node("Relu", "r", "e")],
            r"\(Relu\) comes after the pooling",
        ),
        (
            [node("AveragePool", "c", "e", kernel_shape=[2, 2], pads=[1, 1, 0, 0])],
            r"averages with pads \[1, 1, 0, 0\]; must be 0",
        ),
        (
            [
                node("MaxPool", "c", "r", kernel_shape=[2, 2]),
                node("MaxPool", "r", "e", kernel_shape=[2, 2]),
            ],
            "is a second pooling",
        ),
        (
            [node("MaxPool", "c", "e", kernel_shape=[2, 2], dilations=[2, 2])],
            "pools with dilations",
        ),
        (
            [node("Pad", "c pads", "r"), node("MaxPool", "r", "e", kernel_shape=[2, 2])],
            r"\(MaxPool\) follows a Pad",
        ),
        ([node("Transpose", "c", "e", perm=[0, 1, 3, 2])], r"\(Transpose\) is not a convolution"),
    ],
)
def test_path_that_is_refused(between: list[onnx.NodeProto], message: str) -> None:
    last = node("Conv", "e w2", "d", pads=[1, 1, 1, 1])
    nodes = [node("Conv", "x w", "c"), *between, last]
    refuse(nodes, 2, message)


def test_image_of_integers() -> None:
    nodes = [node("Cast", "x", "i", to=onnx.TensorProto.FLOAT), node("Conv", "i w", "c")]
    model = build(nodes, [conv()])
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    with pytest.raises(UnsupportedLayer, match="uint8 is no float type"):
        build_stack(load(model), 1)


def test_folding_beyond_float32() -> None:
    nodes = [node("Conv", "x w", "c"), node("BatchNormalization", "c big ones ones none", "n")]
    tensors = [conv(), constant("big", [3e38, 1]), constant("ones", [1, 1])]
    model = build(nodes, [*tensors, constant("none", [0, 0])])
    with pytest.raises(UnsupportedLayer, match="exceed float32"):
        build_stack(load(model), 1)


def test_unknown_layer(mnist: Network) -> None:
    with pytest.raises(InvalidArgument, match="valid are 1 conv1, 2 conv2, 3 conv3"):
        build_stack(mnist, 4)


# --- limits of the fused engines ---------------------------------------------------------------


def plain_stack(
    channels: int = 1, size: tuple[int, int] = (64, 64), count: int = 1, **changes: Any
) -> Stack:
    kernel = changes.pop("kernel", (3, 3))
    maps = changes.pop("maps", 2)
    settings = {"stride": (1, 1), "pads": (0, 0, 0, 0), "pool": None, **changes}
    layer = ConvLayer(
        weights=np.zeros((maps, channels, *kernel), np.float32),
        bias=np.zeros(maps, np.float32),
        activation=Activation("relu"),
        input_shape=(channels, *size),
        output_shape=(maps, *size),
        pooled_shape=(maps, *size),
        name="conv9",
        **settings,
    )
    return Stack((channels, *size), (layer,) * count)


def pool(kernel: tuple[int, int], stride: tuple[int, int]) -> Pool:
    return Pool("max", kernel, stride, (0, 0, 0, 0))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": 3, "size": (1, 64), "kernel": (1, 7), "maps": 256, "count": 4},
        {"stride": (2, 1), "pads": (2, 2, 0, 1), "pool": pool((2, 3), (1, 3))},
    ],
)
def test_within_the_limits(changes: dict[str, Any]) -> None:
    check_limits(plain_stack(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 5}, r"convolution layers 5; the fused engines take 1\.\.4"),
        ({"channels": 2}, "input channels 2; the fused engines take 1 or 3"),
        ({"size": (65, 64)}, r"height in pixels 65; the fused engines take 1\.\.64"),
        ({"size": (64, 65)}, "width in pixels 65"),
        ({"maps": 257}, r"maps 257; the fused engines take 1\.\.256"),
        ({"kernel": (3, 8)}, r"kernel size 8; the fused engines take 1\.\.7"),
        ({"stride": (1, 3)}, r"stride 3; the fused engines take 1\.\.2"),
        ({"pads": (0, 0, 3, 0)}, r"padding 3; the fused engines take 0\.\.2"),
        ({"pool": pool((1, 2), (1, 1))}, r"pooling size 1; the fused engines take 2\.\.3"),
        ({"pool": pool((2, 2), (1, 4))}, r"pooling stride 4; the fused engines take 1\.\.3"),
    ],
)
def test_beyond_the_limits(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedLayer, match=message) as error:
        check_limits(plain_stack(**changes))
    assert "layer conv9: " in str(error.value)
    assert "engines 'onnx' and 'reference' can take it" in str(error.value)
