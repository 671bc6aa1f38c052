"""Networks nobody has seen: scores, gradients and ascents beside the untouched models.

Which layers: the first, the middle one and the last of each network; all of them, and in more
operator sets, with ``pytest -m slow``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from problems import relative_error
from untouched import LINES, SCORES, all_layers, assert_rises, check, some_layers
from zoo import handmade, modules

import pyoip
from pyoip.engines.onnx import OnnxEngine
from pyoip.graph.response import response

# Two roundings of 2^-11 in each layer, in another order than float32 has it.
HALF_SCORES, HALF_LINES = 4e-3, 2e-2
# A value that rounds the other way differs by a step of 1/255 of its range, and the ends of a line
# lie few such steps apart: a false gradient misses by all of a line.
QUANTISED_SCORES, QUANTISED_LINES = 2e-2, 0.25

# What an exporter does not know is none of ours.
NOT_BY_SCRIPT = {"blurred_pools", "mobilevit"}
NOT_BY_EXPORT = {"odd_activations"}
OLD, NEW = [13, 17], [18, 23]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _by_script(
    name: str, opset: int, *, fixed: bool = False, half: bool = False
) -> onnx.ModelProto:
    """torch's older exporter; batch, height and width are open."""
    module = modules.build(name).half() if half else modules.build(name)
    kind, held = torch.half if half else torch.float, io.BytesIO()
    image = torch.zeros(1, *modules.side_of(name), dtype=kind)
    axes = None if fixed else {"image": {0: "n", 2: "h", 3: "w"}}
    more: dict[str, Any] = {"input_names": ["image"], "dynamic_axes": axes}
    with _quiet():
        torch.onnx.export(module, (image,), held, dynamo=False, opset_version=opset, **more)
    return onnx.load_from_string(held.getvalue())


def _by_export(name: str, opset: int, *, opened: bool = False) -> onnx.ModelProto:
    """torch's newer exporter; everything is open, or the batch is fixed to 2."""
    image = torch.zeros(2, *modules.side_of(name))
    open_ = torch.export.Dim.DYNAMIC
    dynamic = ({0: open_, 2: open_, 3: open_},) if opened else None
    with _quiet():
        program = torch.onnx.export(
            modules.build(name), (image,), dynamo=True, opset_version=opset, dynamic_shapes=dynamic
        )
    return program.model_proto


def _network(model: onnx.ModelProto, name: str) -> pyoip.Network:
    return pyoip.load(model, input_shape=modules.side_of(name))


# --- torch, both ways ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in modules.ALL if n not in NOT_BY_SCRIPT])
def test_networks_by_torchs_older_exporter(name: str) -> None:
    network = _network(_by_script(name, 17), name)
    check(network, some_layers(network))


# It takes two seconds each; what it writes otherwise than the older one, or that one not at all.
NEWER = ["alexnet", "blurred_pools", "computed_weights", "convnext_tanh", "mobilevit"]


@pytest.mark.parametrize("name", NEWER)
def test_networks_by_torchs_newer_exporter(name: str) -> None:
    network = _network(_by_export(name, 18), name)
    check(network, some_layers(network))


OPENED = ["deeplab", "coordinates", "alexnet", "resnext_se", "yolo"]
OPENED = ["shufflenet", "unet_resized", *(pytest.param(n, marks=pytest.mark.slow) for n in OPENED)]


@pytest.mark.parametrize("name", OPENED)
def test_networks_of_open_sizes_by_torchs_newer_exporter(name: str) -> None:
    network = _network(_by_export(name, 20, opened=True), name)
    check(network, some_layers(network)[-1:])


@pytest.mark.slow
@pytest.mark.parametrize("opset", OLD)
@pytest.mark.parametrize("name", [n for n in modules.ALL if n not in NOT_BY_SCRIPT])
def test_every_layer_by_torchs_older_exporter(name: str, opset: int) -> None:
    network = _network(_by_script(name, opset), name)
    check(network, all_layers(network))
    for number in all_layers(network):
        assert_rises(network, number)


@pytest.mark.slow
@pytest.mark.parametrize("opset", NEW)
@pytest.mark.parametrize("name", [n for n in modules.ALL if n not in NOT_BY_EXPORT])
def test_every_layer_by_torchs_newer_exporter(name: str, opset: int) -> None:
    network = _network(_by_export(name, opset), name)
    check(network, all_layers(network))


CLIMBED = ["resnet", "mobilenet_v3", "convnext_erf", "unet_bicubic", "cbam", "einsum_attention"]


@pytest.mark.parametrize("name", CLIMBED)
def test_ascents_rise(name: str) -> None:
    network = _network(_by_script(name, 17), name)
    assert_rises(network, len(network.layers))


# --- other precisions ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet", "convnext_pointwise", "group_normalised"])
def test_networks_in_half_precision(name: str) -> None:
    network = _network(_by_script(name, 17, half=True), name)
    check(network, some_layers(network), HALF_SCORES, HALF_LINES)


@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("name", ["resnet", "mobilenet_v2", "unet_transposed", "shufflenet"])
def test_quantised_networks(name: str, per_channel: bool, tmp_path: Path) -> None:
    """By ONNX Runtime's own tool; gradients are those of the values that were not rounded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime import quantization as q
    onnx.save(_by_script(name, 17, fixed=True), tmp_path / "float.onnx")
    seen = pyoip.start_images(8, modules.side_of(name), seed=9)
    feeds = iter([{"image": image[None]} for image in seen])

    class Reader(q.CalibrationDataReader):
        def get_next(self) -> Any:
            return next(feeds, None)

    kinds = q.QuantType.QInt8 if per_channel else q.QuantType.QUInt8, q.QuantType.QInt8
    with _quiet():
        q.quantize_static(
            tmp_path / "float.onnx",
            tmp_path / "quantised.onnx",
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=kinds[0],
            weight_type=kinds[1],
        )
    network = pyoip.load(tmp_path / "quantised.onnx")
    assert any(node.op == "DequantizeLinear" for node in network.nodes)
    check(network, some_layers(network), QUANTISED_SCORES, QUANTISED_LINES)


# --- as other exporters wrote them ---------------------------------------------------------------


@pytest.mark.parametrize("name", handmade.ALL)
def test_networks_as_other_exporters_wrote_them(name: str) -> None:
    model, shape = handmade.ALL[name]()
    onnx.checker.check_model(model)
    network = pyoip.load(model, input_shape=shape)
    tolerances = (HALF_SCORES, HALF_LINES) if name.startswith("half") else (SCORES, LINES)
    check(network, all_layers(network), *tolerances)
    assert_rises(network, len(network.layers))


def test_what_operator_set_6_says_by_attributes_is_what_7_says_by_shapes() -> None:
    """ONNX Runtime runs no operator set 6; the same network in the next one is the truth."""
    old, new = pyoip.load(handmade.caffe2_before()), pyoip.load(handmade.caffe2_residual()[0])
    images = pyoip.start_images(3, old.input_shape)
    for number in all_layers(old):
        scores = [OnnxEngine(n, number).score(images, "activation") for n in (old, new)]
        assert relative_error(*scores) < SCORES


REGIONS = {
    "mobilenet_v2": {"Clip"},
    "efficientnet": {"Sigmoid Mul", "Relu", "Sigmoid"},
    "convnext_pointwise": {
        "Div Erf Add Mul Mul",
        "Mul Mul Mul Add Mul Tanh Add Mul Mul",
    },
    "relu6_by_min_and_max": {"Max Min", "Min Max", "Relu"},
    "global_context": {"Relu"},
}


@pytest.mark.parametrize("name", REGIONS)
def test_a_layer_responds_behind_its_whole_activation_function(name: str) -> None:
    network = _network(_by_script(name, 17), name)
    convs = [network.nodes[layer.node] for layer in network.layers]
    found = {" ".join(n.op for n in response(network.graph, conv).region) for conv in convs}
    assert found - {""} == REGIONS[name]


# --- what is refused -----------------------------------------------------------------------------


def _two_inputs() -> onnx.ModelProto:
    net = handmade.Draft("two", 17, ["N", 1, 8, 8])
    net.conv("c", 2, 2, 3, 3)
    net.add("both = Concat <axis = 1> (data, depth); y = Conv(both, c_w, c_b)")
    depth = helper.make_tensor_value_info("depth", TensorProto.FLOAT, ["N", 1, 8, 8])
    return net.model({"y": ["N", 2, 6, 6]}, more_inputs=(depth,))


def test_two_images_are_refused_by_name() -> None:
    message = "^<ModelProto>: 2 inputs could be the image: 'data', 'depth'; export the network"
    with pytest.raises(pyoip.ModelError, match=message):
        pyoip.load(_two_inputs())


def _through(name: str, **attributes: Any) -> torch.nn.Module:
    """A network with one operator that nothing here has a gradient for."""

    class Through(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            if name == "GridSample":
                return self.last(torch.nn.functional.grid_sample(y, y[:, :2].permute(0, 2, 3, 1)))
            if name == "Conv":
                return torch.nn.functional.conv2d(y, y.mean((0, 2, 3)).reshape(1, 4, 1, 1))
            return self.last(y.sort(2)[0])

    return Through()


@pytest.mark.parametrize("op", ["GridSample", "TopK"])
def test_an_operator_without_a_gradient_is_refused_by_name_and_path(op: str) -> None:
    network = pyoip.load(_through(op), input_shape=(1, 12, 12))
    assert len(OnnxEngine(network, 1).score(pyoip.start_images(1, (1, 12, 12)), "activation")) == 1
    message = rf"^layer 2 \(last\): node '\S+' \({op}\) is an operator without a gradient here; "
    path = r"it lies on the path image -> Conv '\S+' -> .*the layer$"
    with pytest.raises(pyoip.UnsupportedOperator, match=message + path):
        OnnxEngine(network, 2)


def test_weights_that_depend_on_the_image_are_refused_by_name() -> None:
    with pytest.raises(pyoip.ModelError, match=r"\(Conv\): its weights are not in the model"):
        pyoip.load(_through("Conv"), input_shape=(1, 12, 12))
