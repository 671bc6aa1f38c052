"""Networks exported by TensorFlow, Keras and Paddle: ``pip install '.[zoo]' && pytest -m zoo``."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from untouched import all_layers, assert_rises, check

import pyoip

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]

KERAS = ("mobilenet", "efficientnet", "unet", "groups", "dynamic")


@pytest.fixture(scope="module")
def keras_models() -> Any:
    """Imported by no run that does not ask for it."""
    return importlib.import_module("zoo.keras_models")


def _check(path: Path, shape: tuple[int, int, int] | None = None) -> None:
    network = pyoip.load(path, input_shape=shape)
    check(network, all_layers(network))
    assert_rises(network, len(network.layers))


@pytest.mark.parametrize("name", KERAS)
def test_keras(name: str, keras_models: Any, tmp_path: Path) -> None:
    keras_models.by_keras(name, tmp_path / "net.onnx")
    _check(tmp_path / "net.onnx", keras_models.SIDES.get(name))


@pytest.mark.parametrize("opset", [9, 13, 18])
@pytest.mark.parametrize("name", KERAS)
def test_tensorflow(name: str, opset: int, keras_models: Any, tmp_path: Path) -> None:
    if (name, opset) == ("unet", 9):
        pytest.skip("tf2onnx leaves ResizeBilinear as it is below operator set 11")
    keras_models.by_tf2onnx(name, opset, tmp_path / "net.onnx")
    _check(tmp_path / "net.onnx", keras_models.SIDES.get(name))


@pytest.mark.parametrize("nchw", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize("opset", [13, 18])
def test_tensorflow_without_keras(
    opset: int, nchw: bool, keras_models: Any, tmp_path: Path
) -> None:
    keras_models.raw(opset, nchw, tmp_path / "net.onnx")
    _check(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("name", "opset"),
    [("lcnet", 11), ("lcnet", 14), ("lcnet", 17), ("detector", 14), ("detector", 17)],
)
def test_paddle(name: str, opset: int, tmp_path: Path) -> None:
    """The detector in operator set 11 is all NaN in ONNX Runtime as well."""
    path, script = tmp_path / "net.onnx", Path(__file__).parent / "zoo" / "paddle_models.py"
    command = [sys.executable, str(script), name, str(opset), str(path)]
    for _ in range(5):
        subprocess.run(command, check=True, capture_output=True)
        if _largest(path) < 1e6:
            break
    _check(path)


def _largest(path: Path) -> float:
    """The largest constant: paddle2onnx now and then writes memory that it has not set, 1e32."""
    model = onnx.load(path)
    inside = [a.t for node in model.graph.node for a in node.attribute if a.name == "value"]
    arrays = [numpy_helper.to_array(tensor) for tensor in (*model.graph.initializer, *inside)]
    return max(float(np.abs(a).max()) for a in arrays if a.dtype.kind == "f" and a.size)
