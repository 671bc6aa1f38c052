"""Networks for signals (N, C, L): read, scored, differentiated, climbed and drawn as such."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from problems import relative_error
from torch import nn
from typer.testing import CliRunner

import pyoip
from pyoip.cli import app
from pyoip.engines import for_layer
from pyoip.engines.onnx import OnnxEngine
from pyoip.graph.response import response

TOLERANCE = 1e-5  # float32 through a few layers, relative to the largest value
LENGTH = 44
QUICK: dict[str, Any] = {"candidates": 16, "trials": 2, "starts": 2, "kicks": 0, "steps": 16}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Tapped(nn.Module):
    """A network that passes what each layer answers through a tap, which tests hook."""

    def __init__(self, taps: int, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.taps = nn.ModuleList(nn.Identity() for _ in range(taps))

    def tap(self, number: int, x: torch.Tensor) -> torch.Tensor:
        return self.taps[number](x)


class Residual(Tapped):
    """Strides, dilations, groups, "same" and symmetric padding, both poolings, a residual."""

    def __init__(self) -> None:
        super().__init__(
            4,
            conv1=nn.Conv1d(3, 8, 7, stride=2, padding=3),
            norm1=nn.BatchNorm1d(8),
            conv2=nn.Conv1d(8, 8, 3, padding=2, dilation=2, groups=4),
            norm2=nn.BatchNorm1d(8),
            conv3=nn.Conv1d(8, 10, 4, padding="same"),
            conv4=nn.Conv1d(10, 6, 3),
            head=nn.Linear(6, 4),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool1d(self.tap(0, F.relu(self.norm1(self.conv1(x)))), 2)
        x = x + self.tap(1, F.silu(self.norm2(self.conv2(x))))
        x = self.tap(2, F.leaky_relu(self.conv3(x), 0.1))
        x = self.tap(3, torch.tanh(self.conv4(F.avg_pool1d(x, 3, 2, 1))))
        return self.head(F.adaptive_avg_pool1d(x, 1).flatten(1))


class Causal(Tapped):
    """Padding on one side, by an operator and by cutting off; a gate over the halves."""

    def __init__(self) -> None:
        super().__init__(
            3,
            conv1=nn.Conv1d(3, 8, 3, dilation=2),
            conv2=nn.Conv1d(8, 8, 3, dilation=4, padding=8),
            conv3=nn.Conv1d(4, 5, 3),
            slopes=nn.PReLU(8),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.tap(0, self.slopes(self.conv1(F.pad(x, (4, 0)))))
        x = self.tap(1, self.conv2(x))[:, :, :-8]
        return self.tap(2, F.elu(self.conv3(F.glu(x, 1)))).mean(2)


class Hourglass(Tapped):
    """Down and up again: a transposed convolution, channels joined."""

    def __init__(self) -> None:
        super().__init__(
            3,
            conv1=nn.Conv1d(3, 6, 5, stride=2, padding=2),
            conv2=nn.Conv1d(6, 8, 3, stride=2, padding=1),
            up=nn.ConvTranspose1d(8, 6, 4, stride=2, padding=1),
            conv3=nn.Conv1d(12, 4, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.tap(0, F.relu(self.conv1(x)))
        second = self.tap(1, F.relu(self.conv2(first)))
        x = torch.cat([first, F.relu(self.up(second))], 1)
        return self.tap(2, F.softplus(self.conv3(x))).flatten(1)


class Normed(Tapped):
    """Normalisations by group, by example, and by channel behind a transposition; a squeeze."""

    def __init__(self) -> None:
        super().__init__(
            4,
            conv1=nn.Conv1d(3, 8, 5, padding=2),
            norm1=nn.GroupNorm(2, 8),
            conv2=nn.Conv1d(8, 8, 3, padding=1, groups=8),
            norm2=nn.InstanceNorm1d(8, affine=True),
            conv3=nn.Conv1d(8, 8, 1),
            norm3=nn.LayerNorm(8),
            squeeze=nn.Linear(8, 8),
            conv4=nn.Conv1d(8, 4, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm1(self.tap(0, self.conv1(x))))
        x = self.tap(1, F.gelu(self.norm2(self.conv2(x))))
        x = self.tap(2, self.conv3(x))
        x = self.norm3(x.transpose(1, 2)).transpose(1, 2)
        x = x * torch.sigmoid(self.squeeze(x.mean(2)))[:, :, None]
        return self.tap(3, F.relu(self.conv4(x))).amax(2)


class Odd(Tapped):
    """Padding by other samples, output padding, larger windows at the end, every second sample."""

    def __init__(self) -> None:
        super().__init__(
            3,
            conv1=nn.Conv1d(3, 6, 3, padding=1, padding_mode="circular"),
            up=nn.ConvTranspose1d(6, 6, 3, stride=3, output_padding=2, groups=2),
            conv2=nn.Conv1d(6, 8, 5, padding=2, padding_mode="reflect"),
            conv3=nn.Conv1d(16, 4, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.up(self.tap(0, F.relu(self.conv1(x)))))
        x = F.max_pool1d(self.tap(1, F.hardswish(self.conv2(x))), 3, 2, 1, ceil_mode=True)
        less = F.avg_pool1d(x, 2, ceil_mode=True, count_include_pad=False)
        x = torch.cat([x[:, :, ::2], less], 1)
        return self.tap(2, F.relu(self.conv3(x * torch.softmax(x, 2)))).mean(2)


NETWORKS = {kind.__name__: kind for kind in (Residual, Causal, Hourglass, Normed, Odd)}


def trained(kind: type[nn.Module]) -> nn.Module:
    """Return a network whose normalisations have seen something."""
    torch.manual_seed(3)
    module = kind()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.uniform_(-0.3, 0.3)
            part.running_var.uniform_(0.5, 2.0)
    return module.eval()


def exported(module: nn.Module, example: torch.Tensor, *, dynamo: bool) -> onnx.ModelProto:
    """Export in one of torch's two ways, for any number of signals."""
    file = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},)
            program = torch.onnx.export(
                module, (example,), dynamo=True, verbose=False, dynamic_shapes=shapes
            )
            return program.model_proto
        names: dict[str, Any] = {"input_names": ["x"], "dynamic_axes": {"x": [0]}}
        torch.onnx.export(module, (example,), file, dynamo=False, **names)
    return onnx.load_from_string(file.getvalue())


def untouched(model: onnx.ModelProto, tensors: list[str], signals: np.ndarray) -> list[np.ndarray]:
    """Return tensors of a model's own forward pass in ONNX Runtime."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(tensors))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(tensors, {session.get_inputs()[0].name: signals}))


def true_gradients(module: nn.Module, signals: np.ndarray, targets: list[int]) -> list[np.ndarray]:
    """Return torch's gradient of every layer's target map, in float64."""
    exact = copy.deepcopy(module).double()
    answers: list[torch.Tensor] = []
    for tap in exact.taps:
        tap.register_forward_hook(lambda _, __, answer: answers.append(answer))
    x = torch.tensor(signals).double().requires_grad_()
    exact(x)
    found = []
    for answer, target in zip(answers, targets, strict=True):
        (gradient,) = torch.autograd.grad(answer[:, target].mean(1).sum(), x, retain_graph=True)
        found.append(gradient.numpy())
    return found


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_answers_as_the_models_own_pass_and_torch(name: str, dynamo: bool) -> None:
    module = trained(NETWORKS[name])
    model = exported(module, torch.zeros(2, 3, LENGTH), dynamo=dynamo)
    network = pyoip.load(model)
    assert (network.input_shape, network.layout) == ((3, 1, LENGTH), "NCW")
    assert len(network.layers) == len(module.taps)
    images = pyoip.start_images(3, network.input_shape)
    convs = [network.nodes[layer.node] for layer in network.layers]
    ends = [response(network.graph, conv).after for conv in convs]
    answers = untouched(model, ends, images[:, :, 0])
    targets = [layer.maps - 1 for layer in network.layers]
    slopes = true_gradients(module, images[:, :, 0], targets)
    for layer, answer, slope, target in zip(network.layers, answers, slopes, targets, strict=True):
        engine = OnnxEngine(network, layer.number, threads=1)
        assert layer.output_shape == (answer.shape[1], 1, answer.shape[2])
        assert relative_error(engine.score(images, "activation"), answer.mean(2)) < TOLERANCE
        assert relative_error(engine.activations(images)[:, :, 0], answer) < TOLERANCE
        _, gradient = engine.gradient(images, np.full(3, target, np.int32), "activation")
        assert np.abs(slope).max() > 0
        assert relative_error(gradient[:, :, 0], slope) < TOLERANCE, layer.name


# --- other ways of writing a network for signals -------------------------------------------------


def handmade(nodes: list[onnx.NodeProto], weights: dict[str, Any], shape: list[Any]) -> Any:
    """Return a model from ``x`` to ``y``: kernels where a shape is given, else what is given."""
    rng = np.random.default_rng(1)
    tensors = []
    for name, given in weights.items():
        array = np.array(given)
        if isinstance(given, tuple):
            array = rng.standard_normal(given).astype(np.float32) / 3
        tensors.append(numpy_helper.from_array(array, name))
    graph = helper.make_graph(
        nodes,
        "signals",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=f"{output}_node", **attributes)


KERNELS: dict[str, Any] = {"w1": (6, 3, 5), "w2": (4, 6, 3), "b": (6, 1)}


def channels_last() -> Any:
    """(N, L, C) and back at the end."""
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node("Conv", "t w1", "c1", pads=[2, 2]),
        node("Add", "c1 b", "a1"),
        node("Relu", "a1", "y1"),
        node("Conv", "y1 w2", "c2", strides=[2]),
        node("Tanh", "c2", "y2"),
        node("Transpose", "y2", "y", perm=[0, 2, 1]),
    ]
    return handmade(nodes, KERNELS, ["n", 30, 3])


def through_two_dimensions() -> Any:
    """As TensorFlow computes it: a height put in before each convolution and taken out behind."""
    nodes = [
        node("Unsqueeze", "x one", "u1"),
        node("Transpose", "u1", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t w1", "c1", pads=[0, 2, 0, 2]),
        node("Squeeze", "c1 two", "s1"),
        node("Add", "s1 b", "a1"),
        node("Relu", "a1", "y1"),
        node("MaxPool", "y1", "p", kernel_shape=[2], strides=[2]),
        node("Unsqueeze", "p two", "u2"),
        node("Conv", "u2 w2", "c2", strides=[1, 2]),
        node("Squeeze", "c2 two", "s2"),
        node("Tanh", "s2", "y2"),
        node("Transpose", "y2", "y", perm=[0, 2, 1]),
    ]
    kernels = {"w1": (6, 3, 1, 5), "w2": (4, 6, 1, 3), "b": (6, 1), "one": [1], "two": [2]}
    return handmade(nodes, kernels, ["n", 30, 3])


def without_channels() -> Any:
    """Samples alone, (N, L)."""
    nodes = [
        node("Unsqueeze", "x one", "u"),
        node("Conv", "u w1", "c1", strides=[2]),
        node("Relu", "c1", "y1"),
        node("Conv", "y1 w2", "c2"),
        node("Tanh", "c2", "y2"),
        node("Flatten", "y2", "y"),
    ]
    return handmade(nodes, {**KERNELS, "w1": (6, 1, 5), "one": [1]}, ["n", 40])


def heights_elsewhere() -> Any:
    """The height is taken out where channels come last, and is put in as the last axis."""
    nodes = [
        node("Unsqueeze", "x three", "u1"),
        node("Transpose", "u1", "t1", perm=[0, 1, 3, 2]),
        node("Conv", "t1 w1", "y1", pads=[0, 2, 0, 2]),
        node("Transpose", "y1", "t2", perm=[0, 2, 3, 1]),
        node("Squeeze", "t2 one", "s"),
        node("Relu", "s", "r"),
        node("Transpose", "r", "t3", perm=[0, 2, 1]),
        node("Conv", "t3 w2", "c2"),
        node("Tanh", "c2", "y2"),
        node("Flatten", "y2", "y"),
    ]
    kernels = {"w1": (6, 30, 1, 5), "w2": (4, 6, 3), "one": [1], "three": [3]}
    return handmade(nodes, kernels, ["n", 30, 12])


OTHERS = {
    "heights elsewhere": (heights_elsewhere, "NCW", (30, 1, 12), lambda x: x[:, :, 0]),
    "channels last": (channels_last, "NWC", (3, 1, 30), lambda x: x[:, :, 0].swapaxes(1, 2)),
    "two dimensions": (
        through_two_dimensions,
        "NWC",
        (3, 1, 30),
        lambda x: x[:, :, 0].swapaxes(1, 2),
    ),
    "no channels": (without_channels, "NW", (1, 1, 40), lambda x: x[:, 0, 0]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_axes_and_their_exported_steps(name: str, tmp_path) -> None:
    make, layout, shape, own = OTHERS[name]
    model = make()
    network = pyoip.load(model)
    assert (network.layout, network.input_shape) == (layout, shape)
    assert network.layers[0].receptive_field == (1, 5)
    images = pyoip.start_images(3, shape)
    signals = own(images)
    assert np.array_equal(network.planes(signals), images)
    for layer, answer in zip(network.layers, untouched(model, ["y1", "y2"], signals), strict=True):
        engine = OnnxEngine(network, layer.number, threads=1)
        assert (
            relative_error(
                engine.score(images, "activation"), answer.reshape(3, layer.maps, -1).mean(2)
            )
            < TOLERANCE
        )
        step = pyoip.export_step(model, layer.number, tmp_path / "step.onnx", update=True)
        sides = [list(signals.shape[1:])] * 2
        ends = [step.graph.input[0], step.graph.output[1]]
        assert [[d.dim_value for d in e.type.tensor_type.shape.dim[1:]] for e in ends] == sides
        session = onnxruntime.InferenceSession(str(tmp_path / "step.onnx"))
        maps, size = np.arange(3), np.full(3, 0.1, np.float32)
        feeds = {"image": signals, "map": maps, "step_size": size}
        value, slope, after = session.run(None, feeds)
        _, gradient = engine.gradient(images, maps.astype(np.int32), "activation")
        assert relative_error(network.planes(slope), gradient) < TOLERANCE
        axes = tuple(range(1, after.ndim))
        assert np.allclose(after.std(axis=axes), 1, atol=1e-5)
        assert (session.run(None, {**feeds, "image": after})[0] > value).all()


def test_axes_that_cannot_be_followed_stay_as_they_were_read() -> None:
    """(N, 7, 3) behind a Slice would pass for three channels last when it is read again."""
    nodes = [
        node("Slice", "x zero five one", "s"),
        node("Conv", "s w", "c"),
        node("Relu", "c", "y"),
    ]
    weights: dict[str, Any] = {"w": (4, 5, 2), "zero": [0], "five": [5], "one": [1]}
    model = handmade(nodes, weights, ["n", 7, 3])
    images = pyoip.start_images(3, (7, 1, 3))
    (answer,) = untouched(model, ["y"], images[:, :, 0])
    score = OnnxEngine(pyoip.load(model), 1).score(images, "activation")
    assert relative_error(score, answer.mean(2)) < TOLERANCE


def test_axes_that_a_squeeze_names_are_not_guessed() -> None:
    """(1, N, 6, L) without its first axis is (N, 6, L), though other axes are of length 1 too."""
    nodes = [
        node("Conv", "x w1", "c"),
        node("Relu", "c", "r"),
        node("Add", "r k", "a"),
        node("Squeeze", "a first", "s"),
        node("Conv", "s w2", "d"),
        node("Tanh", "d", "y"),
    ]
    weights: dict[str, Any] = {"w1": (6, 3, 5), "k": (1, 1, 6, 1), "first": [0], "w2": (4, 6, 3)}
    model = handmade(nodes, weights, ["n", 3, 20])
    images = pyoip.start_images(3, (3, 1, 20))
    (answer,) = untouched(model, ["y"], images[:, :, 0])
    engine = OnnxEngine(pyoip.load(model), 2)
    assert relative_error(engine.score(images, "activation"), answer.mean(2)) < TOLERANCE
    targets = np.zeros(3, np.int32)
    _, together = engine.gradient(images, targets, "activation")
    alone = [engine.gradient(images[i : i + 1], targets[:1], "activation")[1] for i in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_a_step_in_another_layout(tmp_path) -> None:
    model = channels_last()
    images = pyoip.start_images(2, (3, 1, 30))
    found = {}
    for layout in ("NCHW", "NHWC", "NCW", "NWC"):
        pyoip.export_step(model, 1, tmp_path / "step.onnx", layout=layout)
        order = ["NCHW".index(letter) for letter in layout] + [2] * ("H" not in layout)
        given = images.transpose(order)
        given = given.reshape(given.shape[: len(layout)])
        session = onnxruntime.InferenceSession(str(tmp_path / "step.onnx"))
        found[layout] = session.run(None, {"image": given, "map": np.array([0, 1])})[0]
        assert np.allclose(found[layout], found["NCHW"], rtol=1e-5)
    with pytest.raises(pyoip.InvalidArgument, match="layout='NCW': must be 'NCHW', 'NHWC' or None"):
        pyoip.export_step("mnist", 1, tmp_path / "step.onnx", layout="NCW")


def test_convolutions_of_signals_inside_a_network_for_images() -> None:
    """They are layers as well, and what is behind them is as before."""
    nodes = [
        node("Conv", "x w1", "c1", pads=[1, 1, 1, 1]),
        node("Relu", "c1", "y1"),
        node("GlobalAveragePool", "y1", "g"),
        node("Reshape", "g row", "r"),
        node("Conv", "r w2", "c2", pads=[1, 1]),
        node("Sigmoid", "c2", "y2"),
        node("Reshape", "y2 back", "gate"),
        node("Mul", "y1 gate", "m"),
        node("Conv", "m w3", "y"),
    ]
    weights: dict[str, Any] = {"w1": (6, 1, 3, 3), "w2": (1, 1, 3), "w3": (4, 6, 3, 3)}
    weights |= {"row": [-1, 1, 6], "back": [-1, 6, 1, 1]}
    model = handmade(nodes, weights, ["n", 1, 9, 9])
    network = pyoip.load(model)
    assert [layer.output_shape for layer in network.layers] == [(6, 9, 9), (1, 1, 6), (4, 7, 7)]
    images = pyoip.start_images(3, (1, 9, 9))
    for layer, answer in zip(
        network.layers, untouched(model, ["y1", "y2", "y"], images), strict=True
    ):
        score = OnnxEngine(network, layer.number).score(images, "activation")
        axes = tuple(range(2, answer.ndim))
        assert relative_error(score, answer.mean(axis=axes)) < TOLERANCE


def test_the_fused_core_takes_short_signals() -> None:
    torch.manual_seed(0)
    parts = [nn.Conv1d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv1d(8, 6, 3, stride=2), nn.Tanh()]
    network = pyoip.load(nn.Sequential(*parts), input_shape=(3, 48))
    images = pyoip.start_images(6, network.input_shape)
    maps = np.arange(6, dtype=np.int32)
    exact = for_layer("reference", network, 2)
    truth = exact.score(images, "activation"), exact.gradient(images, maps, "activation")[1]
    for name in ("auto", "onnx"):
        engine = for_layer(name, network, 2, threads=1)
        assert (engine.name == "cpu") == (name == "auto")
        assert relative_error(engine.score(images, "activation"), truth[0]) < TOLERANCE
        slopes = engine.gradient(images, maps, "activation")[1]
        assert relative_error(slopes, truth[1]) < TOLERANCE


# --- whole ascents, and how a user says things ---------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    """A network of two channels whose length is open."""
    nodes = [
        node("Conv", "x w1", "c1", strides=[2]),
        node("Relu", "c1", "r1"),
        node("MaxPool", "r1", "p", kernel_shape=[2], strides=[2]),
        node("Conv", "p w2", "c2"),
        node("Relu", "c2", "y"),
    ]
    model = handmade(nodes, {**KERNELS, "w1": (6, 2, 5)}, ["n", 2, "length"])
    file = tmp_path_factory.mktemp("signals") / "sensor.onnx"
    onnx.save(model, file)
    return str(file)


def test_ascents_rise_and_results_are_kept(path: str, tmp_path) -> None:
    shape = (2, 60)
    result = pyoip.ascend(path, 2, input_shape=shape, snapshots=(1, 4), **QUICK)
    assert result.images.shape == (4, 2, 1, 60)
    assert (result.activations > result.history[:, 0]).all()
    assert result.own_images.shape == (4, 2, 60)
    assert np.array_equal(result.own_images, result.images[:, :, 0])
    result.save(tmp_path / "oips")
    again = pyoip.load_result(tmp_path / "oips")
    assert np.array_equal(again.images, result.images)
    assert again.layout == "NCW"
    network = pyoip.load(path, input_shape=shape)
    more = pyoip.ascend(network, 2, start=result, **{**QUICK, "steps": 4})
    assert (more.activations >= result.activations * (1 - 1e-6)).all()  # they begin there
    own = pyoip.ascend(network, 2, start=result.own_images, **{**QUICK, "steps": 4})
    assert np.array_equal(own.images, more.images)


def test_blurred_and_boxed_ascents_stay_signals(path: str) -> None:
    box = {"constraint": "clip", "smooth": 2, **QUICK}
    result = pyoip.ascend(path, 1, maps=[0], input_shape=(2, 1, 60), **box)
    assert 0 <= result.images.min() < result.images.max() <= 1
    assert result.activations[0] > result.history[0, 0]


def test_the_command_line(path: str, tmp_path) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(app, [*words, "--input-shape", "2,60"])

    told = run("layers", path).output
    assert "1 x 28" in told
    assert "Relu, MaxPool 1x2/1x2" in told
    assert "1 x 15" in told  # 5 samples, the next one 2 further on, 3 of these 4 apart
    np.save(tmp_path / "own.npy", np.random.default_rng(0).standard_normal((2, 60)))
    words = ["--start", str(tmp_path / "own.npy"), "--steps", "4", "--out", str(tmp_path / "o")]
    done = run("ascend", path, "--layer", "2", "--snapshots", "1,2", *words)
    assert done.exit_code == 0, done.output
    assert {"contact_sheet.png", "map_003.png", "evolution_000.png"} <= {
        file.name for file in (tmp_path / "o").iterdir()
    }
    done = run("export-step", path, "--layer", "2", "--out", str(tmp_path / "step.onnx"))
    assert "B x 2 x 60" in done.output
    refused = run("export-web", path, str(tmp_path / "page"))
    assert refused.exit_code != 0
    assert "takes signals (NCW); the page shows networks for images" in refused.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((2, 3, 60), r"input_shape=\(2, 3, 60\): the height must be 1 for this network"),
        ((3, 60), r"input_shape=\(3, 60\): the number of channels of 'x' is fixed to 2"),
        ((60,), r"input_shape=\(60,\): must be three numbers \(C, H, W\), or \(C, L\)"),
    ],
)
def test_wrong_shapes_of_signals(path: str, given: Any, message: str) -> None:
    with pytest.raises(pyoip.InvalidArgument, match=message):
        pyoip.load(path, input_shape=given)


def test_shapes_that_are_missing_or_of_the_other_kind(path: str) -> None:
    with pytest.raises(pyoip.ModelError, match=r"leaves its length open; pass .*\(C, L\)"):
        pyoip.load(path)
    with pytest.raises(pyoip.InvalidArgument, match="the network takes images"):
        pyoip.load("mnist", input_shape=(1, 28))
    module = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU())
    with pytest.raises(pyoip.ModelError, match=r"length of its signals; pass .*\(2, L\)"):
        pyoip.load(module)
    for shape in ((2, 20), (2, 1, 20)):
        assert pyoip.load(module, input_shape=shape).input_shape == (2, 1, 20)


def test_fluctuations_of_a_signal_run_along_it() -> None:
    """Two samples of a cell are alike, the next cell is another; a scale may be thousands long."""
    fluctuations = pyoip.Fluctuations(scales=(500,), weights=(1.0,))
    assert fluctuations.cells(1, 16000) == ((1, 32),)
    signals = pyoip.start_images(200, (2, 1, 16000), fluctuations)[:, :, 0]
    assert signals.shape == (200, 2, 16000)

    def correlation(lag: int) -> float:
        return float((signals[:, :, :-lag] * signals[:, :, lag:]).mean())

    assert correlation(20) > 0.98
    assert abs(correlation(1500)) < 0.1
    assert abs(float((signals[:, 0] * signals[:, 1]).mean())) < 0.1
