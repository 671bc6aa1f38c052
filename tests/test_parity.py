"""`pyoip.check`: engines that agree, engines with one thing wrong, and who the judge is."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import STRANGERS, needs_strangers
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

import pyoip
from pyoip import engines
from pyoip.cli import app
from pyoip.errors import InvalidArgument, UnsupportedLayer
from pyoip.graph.original import Original
from pyoip.parity import compare
from pyoip.parity.judge import favourites
from pyoip.parity.report import Parity, Row

FEW = {"images": 4, "steps": 12}


def test_all_engines_agree_on_the_shipped_network() -> None:
    found = pyoip.check("mnist", [1, "conv3"], images=4, steps=24)
    assert found.agrees
    assert [(row.layer, row.engine) for row in found.rows] == [
        (layer, name) for layer in (1, 3) for name in engines.names()
    ]
    for row in found.rows:
        assert row.forward < 2e-6
        assert row.gradient < 1e-2
        assert row.rate > 0
    assert found.runtime.startswith("ONNX Runtime")


@needs_strangers
@pytest.mark.parametrize(
    ("name", "layer", "takes"),
    [("depthwise_mnist", 2, {"onnx:cpu"}), ("cntk_mnist", 2, {"cpu", "onnx:cpu"})],
)
def test_who_takes_a_layer_is_told(name: str, layer: int, takes: set[str]) -> None:
    found = pyoip.check(STRANGERS / f"{name}.onnx", layer, engines=["cpu", "onnx:cpu"], **FEW)
    assert {row.engine for row in found.rows if row.refused is None} == takes
    assert found.agrees
    missing = {"cpu", "onnx:cpu"} - takes
    assert all(f"{engine} does not take layer {layer}" in str(found) for engine in missing)


def test_images_are_scaled_for_the_model_as_for_the_engines() -> None:
    network = pyoip.load("mnist", pixels=(-1, 3), mean=0.5, std=0.25)
    assert pyoip.check(network, 2, engines=["cpu", "onnx"], **FEW).agrees


def test_channels_last_models_get_images_in_their_own_order() -> None:
    found = pyoip.check(_model(channels_last=True), engines="onnx", **FEW)
    assert found.agrees
    assert found.rows[0].forward < 1e-6


# --- wrong engines ---------------------------------------------------------------------------


class _Wrong:
    """The fused core with one thing wrong."""

    def __init__(self, engine: Any, **wrong: Any) -> None:
        self._engine, self._wrong = engine, wrong

    def __getattr__(self, name: str) -> Any:
        right = getattr(self._engine, name)
        if name not in self._wrong:
            return right
        return lambda *args, **more: self._wrong[name](right(*args, **more))


def _check_wrong(monkeypatch: pytest.MonkeyPatch, **wrong: Any) -> Parity:
    """Layer 2 by the core as it is, then by one with something wrong."""
    made = compare.for_layer

    def for_layer(name: str, *args: Any) -> Any:
        return _Wrong(made("cpu", *args), **wrong) if name == "wrong" else made(name, *args)

    monkeypatch.setattr(compare, "for_layer", for_layer)
    return pyoip.check("mnist", 2, engines=["cpu", "wrong"], images=8, steps=24)


def _without_a_corner(found: Any) -> Any:
    """A gradient that forgets the upper left quarter of the image."""
    values, gradients = found
    gradients = gradients.copy()
    gradients[:, :, :14, :14] = 0
    return values, gradients


def _without_its_border(found: Any) -> Any:
    values, gradients = found
    gradients = gradients.copy()
    gradients[:, :, [0, -1]] = gradients[:, :, :, [0, -1]] = 0
    return values, gradients


def _without_every_fourth(found: Any) -> Any:
    values, gradients = found
    gradients = gradients.copy()
    gradients[:, :, ::2, ::2] = 0
    return values, gradients


def _wrong_for_three(found: Any) -> Any:
    values, gradients = found
    gradients = gradients.copy()
    gradients[:3] *= -1
    return values, gradients


def _off(field: str, factor: float) -> Any:
    return lambda ascents: replace(ascents, **{field: getattr(ascents, field) * factor})


@pytest.mark.parametrize(
    ("wrong", "problems"),
    [
        ({"gradient": lambda found: (found[0], found[1] * np.float32(1.05))}, ("gradient",)),
        ({"gradient": _without_a_corner}, ("gradient",)),
        ({"gradient": lambda found: (found[0], -found[1])}, ("gradient",)),
        ({"gradient": lambda found: (found[0] * 1.001, found[1])}, ("forward",)),
        ({"gradient": lambda found: (found[0], found[1] * np.nan)}, ("gradient",)),
        ({"activations": lambda a: np.roll(a, 1, axis=1)}, ("forward",)),
        ({"activations": lambda a: np.roll(a, 1, axis=3)}, ("forward",)),
        ({"score": lambda scores: scores + 2e-4 * scores.max()}, ("forward",)),
        ({"score": lambda scores: scores * np.nan}, ("forward",)),
        # its images and what it says of them: only the model itself can tell
        ({"ascend": _off("images", 0.9)}, ("forward",)),
        ({"ascend": _off("activations", 0.9)}, ("forward", "OIP")),
    ],
)
def test_a_wrong_engine_differs(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], problems: tuple[str, ...]
) -> None:
    found = _check_wrong(monkeypatch, **wrong)
    right, other = found.rows
    assert right.problems == ()
    assert other.problems == problems
    assert not found.agrees
    assert f"DIFFERS: {', '.join(problems)}" in str(found)
    assert str(found).endswith("1 of 2 comparisons differ")


GRADIENTS = (
    lambda found: (found[0], found[1] * np.float32(1.05)),
    lambda found: (found[0], found[1] * 0),
    lambda found: (found[0], found[1] * np.nan),
    _without_a_corner,
    _without_its_border,
    _without_every_fourth,
    _wrong_for_three,
)


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("wrong", GRADIENTS)
def test_a_wrong_engine_alone_is_found_out(monkeypatch: Any, layer: int, wrong: Any) -> None:
    """It chooses the direction uphill itself, by its own wrong gradient."""
    made = compare.for_layer
    monkeypatch.setattr(
        compare, "for_layer", lambda *a: _Wrong(made("cpu", *a[1:]), gradient=wrong)
    )
    found = pyoip.check("mnist", layer, engines="wrong", images=8, steps=8)
    assert "gradient" in found.rows[0].problems, found.rows[0].gradient


def test_one_map_and_the_other_objective_are_looked_at(monkeypatch: Any) -> None:
    made = compare.for_layer

    class Wrong(_Wrong):
        def gradient(self, images: Any, targets: Any, objective: str) -> Any:
            values, gradients = self._engine.gradient(images, targets, objective)
            return values, gradients * np.float32(objective == "activation")

    monkeypatch.setattr(compare, "for_layer", lambda *a: Wrong(made("cpu", *a[1:])))
    found = pyoip.check("mnist", 2, engines="wrong", images=4, steps=8)
    assert found.rows[0].problems == ("gradient",)


def test_an_engine_that_descends_is_found_out_alone(monkeypatch: Any) -> None:
    """Honestly told, and right in every number."""
    made = compare.for_layer

    class Downhill(_Wrong):
        def ascend(self, starts: Any, targets: Any, settings: Any) -> Any:
            found = self._engine.ascend(starts, targets, replace(settings, steps=1))
            return replace(found, images=starts * 0, activations=found.activations * 0)

    monkeypatch.setattr(compare, "for_layer", lambda *a: Downhill(made("cpu", *a[1:])))
    found = pyoip.check("mnist", 2, engines="wrong", images=4, steps=8)
    assert "climb" in found.rows[0].problems


@pytest.mark.parametrize(("function", "bias"), [("Tanh", 10.0), ("Sigmoid", 10.0), ("Relu", 1e4)])
def test_slopes_that_rounding_drowns_are_not_held_against_an_engine(
    function: str, bias: float
) -> None:
    model = _model(bias=bias)
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = function
    assert pyoip.check(model, engines=["cpu", "onnx"], **FEW).agrees


def test_a_model_that_does_not_run_is_told_layer_by_layer(monkeypatch: Any) -> None:
    def fails(self: Any, image: Any) -> Any:
        raise UnsupportedLayer("ONNX Runtime does not run the model itself")

    right, seen = Original.__call__, list[bool]()

    def first_fails(self: Any, image: Any) -> Any:
        seen.append(True)
        return right(self, image) if len(seen) > 1 else fails(self, image)

    monkeypatch.setattr(Original, "__call__", first_fails)
    found = pyoip.check("mnist", [1, 2], engines="cpu", **FEW)
    assert [row.refused is None for row in found.rows] == [False, True]
    assert "cpu does not take ONNX Runtime does not run" in str(found)


def test_an_engine_that_climbs_worse_is_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right in all that it says, and yet it ends lower."""
    made = compare.for_layer

    class Lazy(_Wrong):
        def ascend(self, starts: Any, targets: Any, settings: Any) -> Any:
            return self._engine.ascend(starts, targets, replace(settings, steps=3))

    def for_layer(name: str, *args: Any) -> Any:
        return Lazy(made("cpu", *args)) if name == "lazy" else made(name, *args)

    monkeypatch.setattr(compare, "for_layer", for_layer)
    found = pyoip.check("mnist", 2, engines=["cpu", "lazy"], images=8, steps=24)
    assert found.rows[1].problems == ("OIP",)


# --- the judge -------------------------------------------------------------------------------


def _model(
    *, channels_last: bool = False, bias: float = 0.1, pooled: bool = False, kind: int = 1
) -> onnx.ModelProto:
    """A layer of four maps on 3 x 7 x 8 images."""
    rng = np.random.default_rng(3)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = rng.standard_normal((4, 3, 3, 3)).astype(dtype)
    shape = ["n", 7, 8, 3] if channels_last else ["n", 3, 7, 8]
    nodes = [helper.make_node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2])]
    nodes = nodes if channels_last else []
    first = "x" if channels_last else "image"
    nodes.append(helper.make_node("Conv", [first, "conv.weight", "conv.bias"], ["z"]))
    if pooled:
        nodes.append(helper.make_node("MaxPool", ["z"], ["p"], kernel_shape=[2, 2]))
    nodes.append(helper.make_node("Relu", ["p" if pooled else "z"], ["a"]))
    nodes.append(helper.make_node("Identity", ["a"], ["out"]))
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("out", kind, None)],
        [
            numpy_helper.from_array(weights, "conv.weight"),
            numpy_helper.from_array(np.full(4, bias, dtype), "conv.bias"),
        ],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9)


def test_a_layer_that_sleeps_is_compared_before_its_activation() -> None:
    found = pyoip.check(_model(bias=-99.0), engines=["cpu", "onnx"], **FEW)
    assert found.agrees
    assert {row.objective for row in found.rows} == {"preactivation"}
    assert all(row.oip < 0 for row in found.rows)
    assert "* before the activation function" in str(found)


def test_a_pooling_before_the_activation_is_not_compared_through() -> None:
    found = pyoip.check(_model(pooled=True), engines="onnx", **FEW)
    assert found.agrees
    assert found.rows[0].objective == "preactivation"


def test_half_precision_is_judged_by_what_it_can_hold() -> None:
    found = pyoip.check(_model(kind=TensorProto.FLOAT16), engines=["cpu", "onnx"], **FEW)
    assert found.agrees
    assert any(row.forward > 1e-5 for row in found.rows)  # the model itself rounds to half


def _quantised() -> onnx.ModelProto:
    """The same layer behind an image of 8-bit steps."""
    model = _model()
    model.graph.node[0].input[0] = "rounded"
    scale = numpy_helper.from_array(np.float32(0.05), "scale")
    zero = numpy_helper.from_array(np.uint8(128), "zero")
    model.graph.initializer.extend([scale, zero])
    steps = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["rounded"]),
    ]
    nodes = [*steps, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan])
def test_a_quantised_model_is_held_to_its_direction(monkeypatch: Any, factor: float) -> None:
    assert pyoip.check(_quantised(), engines="onnx", **FEW).agrees
    made = compare.for_layer

    def wrong(found: Any) -> Any:
        return found[0], found[1] * np.float32(factor)

    monkeypatch.setattr(compare, "for_layer", lambda *a: _Wrong(made(*a), gradient=wrong))
    assert "gradient" in pyoip.check(_quantised(), engines="onnx", **FEW).rows[0].problems


def test_the_judge_reads_the_untouched_model() -> None:
    """Its own values: not those of a network that pyoip read wrongly."""
    model = _model()
    image = pyoip.start_images(1, (3, 7, 8))[0]
    before = Original(model, "z", 1)(image)
    model.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.ones(4, np.float32), "conv.bias")
    )
    np.testing.assert_allclose(Original(model, "z", 1)(image), before + 0.9, rtol=1e-5, atol=1e-5)
    assert Original(model, "a", 1)(image).shape == (4, 5, 6)


def test_a_fixed_batch_is_filled() -> None:
    model = _model()
    image = pyoip.start_images(1, (3, 7, 8))[0]
    expected = Original(model, "a", 1)(image)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    np.testing.assert_array_equal(Original(model, "a", 1)(image), expected)


def test_without_onnx_runtime_the_evaluator_of_onnx_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return really(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    found = pyoip.check("mnist", 1, engines="cpu", images=2, steps=4)
    assert found.runtime == f"onnx {onnx.__version__}'s evaluator"
    assert found.agrees


def test_images_of_whole_numbers_cannot_be_judged() -> None:
    model = _model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    with pytest.raises(UnsupportedLayer, match="'image' is of uint8: must be of floats"):
        Original(model, "z", 1)


def test_targets_are_awake_and_differ_between_images() -> None:
    scores = np.array([[9.0, 1.0, 0.0], [8.0, 3.0, 0.0], [9.0, 1.0, 0.0]])
    assert favourites(scores, "activation").tolist() == [0, 1, 0]
    scores[:, 0] = 0
    assert favourites(scores, "activation").tolist() == [1, 1, 1]
    assert favourites(scores - 5, "preactivation").tolist() == [0, 1, 0]


def test_limits_follow_the_least_exact_numbers() -> None:
    assert compare.limits_of(pyoip.load(_model())) == compare.Limits()
    assert compare.limits_of(pyoip.load(_model(kind=TensorProto.FLOAT16))) == compare.HALF


# --- arguments and the command line ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 9}, "layer 9: not a layer of this network"),
        ({"layers": 1.5}, "layer '1.5': not a layer"),
        ({"layers": []}, r"layers=\[\]: must name one or more"),
        ({"engines": ()}, r"engines=\(\): must name one or more"),
        ({"engines": "core"}, "engine='core': must be one of"),
        ({"images": 0}, "images=0: must be an integer in 1 … 4096"),
        ({"steps": 0}, "steps=0: must be an integer in 1"),
    ],
)
def test_bad_arguments_are_refused_in_a_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        pyoip.check("mnist", **arguments)


@needs_strangers
def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(UnsupportedLayer, match="nothing to compare: cpu does not take layer 2"):
        pyoip.check(STRANGERS / "depthwise_mnist.onnx", 2, engines="cpu")


def test_progress_reaches_its_total() -> None:
    seen: list[tuple[int, int, int]] = []
    pyoip.check(
        "mnist", [1, 2], engines="cpu", images=2, steps=2, progress=lambda *now: seen.append(now)
    )
    assert seen == [(2, 4, 2), (4, 4, 0)]


def test_the_command_prints_the_table_and_ends_with_0() -> None:
    done = CliRunner().invoke(app, ["check", "mnist", "-l", "1,conv2", "--engines", "cpu, onnx"])
    assert done.exit_code == 0
    assert "all 4 comparisons agree" in done.stdout


def test_the_command_ends_with_1_where_engines_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "limits_of", lambda _: compare.Limits(forward=0.0))
    done = CliRunner().invoke(app, ["check", "mnist", "-l", "1", "--json"])
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["agrees"] is False
    assert {tuple(row["problems"]) for row in document["rows"]} == {("forward",)}
    assert document["rows"][0]["apart"] is None


def test_a_table_tells_what_nobody_takes() -> None:
    rows = (
        Row(1, "a", "cpu", forward=1e-7, gradient=1e-4, oip=1.0, seconds=0.1, rate=10.0),
        Row(1, "a", "onnx", forward=1e-7, gradient=1e-4, oip=1.0, seconds=0.1, rate=10.0),
        Row(2, "b", "cpu", refused="layer 2 (b): joins branches"),
        Row(2, "b", "onnx", refused="layer 2 (b): node 'top' (TopK)"),
        Row(3, "c", "cpu", refused="layer 3 (c): joins branches"),
        Row(3, "c", "onnx", forward=1e-7, gradient=1e-4, oip=1.0, seconds=0.1, rate=10.0),
    )
    text = str(Parity("net", "ONNX Runtime", 8, 64, rows))
    assert text.count("no engine takes it") == 1
    assert "cpu does not take layer 2 (b): joins branches; not taken: layers 2-3" in text
    assert "onnx does not take layer 2 (b): node 'top' (TopK)\n" in text
    assert text.endswith("all 3 comparisons agree")
