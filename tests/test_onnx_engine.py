"""Engine "onnx": against the definition, and for what only it takes."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import STRANGERS, needs_strangers
from problems import SETTINGS, TOLERANCE, as_model, errors_of, problem, relative_error, same_ascents

import pyoip
from pyoip import engines, reference
from pyoip.engines.onnx import OnnxEngine, lanes, provider_named
from pyoip.engines.reference import ReferenceEngine
from pyoip.settings import Constraint, Settings
from pyoip.stack import build_stack

QUICK: dict[str, Any] = {"candidates": 16, "trials": 2, "starts": 2, "kicks": 0, "steps": 12}


def _engine(stack: Any) -> OnnxEngine:
    return OnnxEngine(pyoip.load(as_model(stack)), len(stack.layers), threads=1)


def test_scores_activations_and_gradients_on_random_stacks() -> None:
    forward, gradients, ties = [], [], 0
    for seed in range(40):
        stack, images, targets = problem(seed, sides=(5, 16))
        errors = errors_of(_engine(stack), stack, images, targets)
        forward += errors.forward
        gradients += errors.gradients
        ties += errors.ties
    assert max(forward) < TOLERANCE
    assert max(gradients) < TOLERANCE
    assert ties < 0.1 * len(gradients)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_ascent_equals_the_definition(settings: Settings) -> None:
    """As for the core: nearly all of the ascents, since a flipped decision changes what follows."""
    off = 0
    for seed in range(25):
        stack, images, targets = problem(seed, count=2, sides=(5, 16))
        found = _engine(stack).ascend(images, targets, settings)
        exact = ReferenceEngine(stack).ascend(images, targets, settings)
        off += not same_ascents(found, exact)
    assert off <= 2


def test_ascents_end_as_the_definition_says(mnist: pyoip.Network) -> None:
    """Long ascents: convergence after as many steps, each image by its own step sizes."""
    stack = build_stack(mnist, 1)
    images = pyoip.start_images(6)
    targets = np.arange(6, dtype=np.int32)
    sizes = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.4], np.float32)
    settings = Settings(steps=200, patience=4, snapshots=(0, 50, 200))
    found = OnnxEngine(mnist, 1).ascend(images, targets, settings, step_sizes=sizes)
    exact = ReferenceEngine(stack).ascend(images, targets, settings, step_sizes=sizes)
    assert set(found.stops) == {engines.STOPS.index("converged")}
    assert len(set(found.steps)) > 1
    assert same_ascents(found, exact)


@needs_strangers
@pytest.mark.parametrize(
    ("name", "layer"), [("mnist", 3), ("lenet5_mnist", 2), ("residual_mnist", 9)]
)
def test_bits_do_not_depend_on_the_batch(name: str, layer: int) -> None:
    network = pyoip.load(name if name == "mnist" else STRANGERS / f"{name}.onnx")
    engine = OnnxEngine(network, layer)
    images = pyoip.start_images(9, network.input_shape)
    targets = np.arange(9, dtype=np.int32)
    settings = Settings(steps=6, patience=3)
    whole = engine.ascend(images, targets, settings)
    for part in (slice(0, 1), slice(4, 9), slice(8, 2, -2)):
        again = engine.ascend(images[part], targets[part], settings)
        np.testing.assert_array_equal(again.images, whole.images[part])
        np.testing.assert_array_equal(again.history, whole.history[part])


def test_ctrl_c_keeps_what_has_ended(mnist: pyoip.Network) -> None:
    stack = build_stack(mnist, 1)
    images = pyoip.start_images(300)
    targets = np.zeros(300, np.int32)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    found = OnnxEngine(mnist, 1).ascend(images, targets, Settings(steps=200), stop)
    ended = found.stops != engines.STOPS.index("interrupted")
    assert found.interrupted
    assert 0 < ended.sum() < 300
    assert np.isfinite(found.images[ended]).all()
    assert np.isnan(found.images[~ended]).all()
    again = ReferenceEngine(stack).score(found.images[ended], "activation")[:, 0]
    np.testing.assert_allclose(again, found.activations[ended], rtol=1e-5)


# --- choosing it -------------------------------------------------------------------------------


@needs_strangers
def test_auto_takes_the_core_where_it_can_and_onnx_elsewhere() -> None:
    network = pyoip.load(STRANGERS / "residual_mnist.onnx")
    assert engines.for_layer("auto", network, 2).name == "cpu"
    assert engines.for_layer("auto", network, 9).name == "onnx:cpu"
    result = pyoip.ascend(network, 9, maps=[3], **QUICK)
    assert result.engine == "onnx:cpu"
    assert result.verdicts[0] in ("found", "unfinished")
    silent = np.isnan(result.bounds)
    assert silent.all()  # no proof for a graph that is no stack


def test_provider_is_named_and_missing_ones_are() -> None:
    assert provider_named("CPU") == provider_named("cpuexecutionprovider") == "CPUExecutionProvider"
    network = pyoip.load("mnist")
    assert engines.for_layer("onnx:cpu", network, 1).name == "onnx:cpu"
    with pytest.raises(pyoip.EngineUnavailable, match=r"'onnx:rocm': this ONNX Runtime has no"):
        engines.for_layer("onnx:rocm", network, 1)
    with pytest.raises(pyoip.InvalidArgument, match=r"engine='cpu:cuda': must be one of 'auto'"):
        engines.for_layer("cpu:cuda", network, 1)


def test_graphs_are_shaped_for_the_processor_that_runs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for sets, width in ((["avx512", "avx2", "baseline"], 16), (["avx2", "baseline"], 8)):
        monkeypatch.setattr("pyoip._cpu.info", lambda sets=sets: {"instruction_sets": sets})
        assert lanes() == width
        assert OnnxEngine(pyoip.load("mnist"), 2, provider="cpu")._place.lanes == width
        assert lanes("CUDAExecutionProvider") == 8
    monkeypatch.undo()
    monkeypatch.setenv("PYOIP_CPU_ISA", "mmx")  # a wish for the core alone
    assert lanes() == 8


@needs_strangers
def test_without_onnxruntime_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.delitem(sys.modules, "pyoip.engines.onnx")
    network = pyoip.load(STRANGERS / "residual_mnist.onnx")
    with pytest.raises(pyoip.UnsupportedLayer, match=r"pip install 'pyoip\[ort\]' to use engine"):
        pyoip.ascend(network, 9)
    with pytest.raises(pyoip.EngineUnavailable, match=r"engine='onnx': onnxruntime is not inst"):
        pyoip.ascend(network, 9, engine="onnx")
    assert "pip install 'pyoip[ort]'" in (engines.available()["onnx"] or "")


def test_wrong_images_and_targets_are_refused(mnist: pyoip.Network) -> None:
    engine = OnnxEngine(mnist, 1)
    images = pyoip.start_images(2)
    with pytest.raises(pyoip.InvalidArgument, match="images of shape"):
        engine.score(images[:, :, 1:], "activation")
    with pytest.raises(pyoip.InvalidArgument, match="target 32: must be a map in 0 … 31"):
        engine.gradient(images, np.array([0, 32]), "activation")
    with pytest.raises(pyoip.InvalidArgument, match="must hold one map for each of 2 images"):
        engine.ascend(images, np.array([0]), Settings())


# --- what networks take ------------------------------------------------------------------------


@needs_strangers
def test_channels_last_are_handled_as_planes_and_taken_either_way() -> None:
    network = pyoip.load(STRANGERS / "mesonet_nhwc.onnx")
    assert (network.layout, network.input_shape) == ("NHWC", (3, 256, 256))
    images = pyoip.start_images(2, network.input_shape)
    scores = pyoip.score(network, images, 2)
    np.testing.assert_array_equal(pyoip.score(network, images.transpose(0, 2, 3, 1), 2), scores)
    result = pyoip.ascend(network, 1, maps=[0], **QUICK)
    assert result.images.shape == (1, 3, 256, 256)
    assert result.own_images.shape == (1, 256, 256, 3)
    again = pyoip.score(network, result.own_images, 1)[0, 0]
    assert again == pytest.approx(result.activations[0], rel=1e-5)


@pytest.mark.parametrize("engine", ["cpu", "onnx", "reference"])
def test_scaled_images_are_what_the_network_takes(engine: str, rng: np.random.Generator) -> None:
    plain = pyoip.load("mnist")
    network = pyoip.load("mnist", pixels=(0, 255), mean=10, std=5)
    images = rng.random((3, 1, 28, 28)).astype(np.float32)
    expected = pyoip.score(plain, (images * 255 - 10) / 5, 2, engine="reference")
    assert relative_error(pyoip.score(network, images, 2, engine=engine), expected) < TOLERANCE
    assert str(network.scaling) == "pixels 0 to 255, mean 10, std 5"
    assert network.real_maxima(1, "standardize", "activation") is None


# --- the exported step ---------------------------------------------------------------------------


def _session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("constraint", ["standardize", Constraint("clip", -0.5, 2.0)])
def test_exported_step_is_one_step_of_the_definition(
    constraint: Any, mnist: pyoip.Network, tmp_path: Path
) -> None:
    path = tmp_path / "step.onnx"
    pyoip.export_step(mnist, "conv2", path, update=True, constraint=constraint)
    stack = build_stack(mnist, 2)
    rule = Constraint() if constraint == "standardize" else constraint
    images = pyoip.start_images(4, constraint=rule)
    maps, sizes = np.array([0, 5, 63, 5]), np.array([0.1, 0.2, 0.4, 0.8], np.float32)
    feeds = {"image": images, "map": maps, "step_size": sizes}
    activation, gradient, moved = _session(path).run(None, feeds)
    exact = images.astype(np.float64)
    truth = reference.evaluate(stack, exact, maps, "activation", wake=True)
    assert relative_error(activation, truth.activation) < TOLERANCE
    assert relative_error(gradient, truth.gradient) < TOLERANCE
    for i, image in enumerate(exact):
        g = reference.make_tangent(rule, image, truth.gradient[i])
        step = sizes[i] * g / (np.sqrt((g * g).mean()) + 1e-7)
        assert relative_error(moved[i], reference.constrain(rule, image + step)) < TOLERANCE


def test_exported_step_says_what_it_is(tmp_path: Path) -> None:
    step = pyoip.export_step("mnist", 2, tmp_path / "step.onnx", objective="preactivation")
    assert onnx.load(tmp_path / "step.onnx") == step
    assert {entry.domain for entry in step.opset_import} == {""}
    assert step.opset_import[0].version == 18
    facts = {entry.key: entry.value for entry in step.metadata_props}
    assert facts["pyoip.layer"] == "2 (conv2)"
    assert facts["pyoip.maps"] == "64"
    assert [value.name for value in step.graph.input] == ["image", "map"]
    assert step.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "B"
    third = {tensor.name for tensor in step.graph.initializer if tensor.dims[:1] == [128]}
    assert not third  # nothing of the layers behind


@needs_strangers
@pytest.mark.parametrize("layout", [None, "NCHW"])
def test_exported_step_keeps_the_order_of_axes(layout: str | None, tmp_path: Path) -> None:
    network = pyoip.load(STRANGERS / "mesonet_nhwc.onnx")
    path = tmp_path / "step.onnx"
    pyoip.export_step(network, 1, path, update=True, layout=layout)
    session = _session(path)
    own = layout is None
    shape = ["B", 256, 256, 3] if own else ["B", 3, 256, 256]
    assert session.get_inputs()[0].shape == shape
    planes = pyoip.start_images(1, network.input_shape)
    image = planes.transpose(0, 2, 3, 1) if own else planes
    feeds = {"image": image, "map": np.array([1]), "step_size": np.ones(1, np.float32)}
    activation, gradient, _ = session.run(None, feeds)
    _, expected = OnnxEngine(network, 1).gradient(planes, np.array([1]), "activation")
    found = gradient.transpose(0, 3, 1, 2) if own else gradient
    assert relative_error(found, expected) < TOLERANCE
    assert activation[0] == pytest.approx(pyoip.score(network, planes, 1)[0, 1], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": "loudness"}, "objective='loudness': must be one of"),
        ({"layout": "HWC"}, "layout='HWC': must be 'NCHW', 'NHWC' or None"),
        ({"update": 3}, "update=3: must be True or False"),
        ({"constraint": "box"}, "constraint='box': must be one of"),
        ({"layer": 9}, "layer 9"),
        ({"path": "missing/step.onnx"}, "step.onnx: there is no folder missing; make it first"),
    ],
)
def test_wrong_arguments_of_export_step(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pyoip.InvalidArgument, match=message):
        pyoip.export_step("mnist", **{"layer": 1, "path": "step.onnx", **arguments})
    assert not list(tmp_path.iterdir())


def test_half_written_step_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step.onnx"
    path.write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        pyoip.export_step("mnist", 1, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["step.onnx"]
