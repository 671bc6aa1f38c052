"""Tiny trainings on synthetic digits: resume, export, metadata; and the shipped model."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from pyoip import export, files, train, training
from pyoip.data import load_dataset
from pyoip.errors import DataError, EngineUnavailable, InvalidArgument, ModelError

torch = pytest.importorskip("torch", reason="needs the extra train")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra train")

SIZES = {"train": 200, "test": 60}
OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 32, "threads": 1, "progress": False}
SHIPPED = Path(train.__file__).parent / "models" / "mnist.onnx"


def synthetic(_: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images whose class is the place of a bright bar, with noise."""
    rng = np.random.default_rng(len(split))
    labels = rng.integers(0, 10, SIZES[split], np.uint8)
    images = rng.integers(0, 60, (len(labels), 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 3 : 2 * label + 6, 5:23] = 220
    return images, labels


@pytest.fixture(autouse=True)
def _synthetic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(train, "load_dataset", synthetic)
    with train._threads(1):
        yield


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[train.TrainReport]:
    """An uninterrupted training; its files are only read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "load_dataset", synthetic)
        yield train.train(out=tmp_path_factory.mktemp("whole") / "m.onnx", **OPTIONS)


@pytest.fixture(scope="module")
def network(report: train.TrainReport) -> Any:
    """The torch network of the checkpoint."""
    network = training.build_network(0)
    network.load_state_dict(torch.load(report.checkpoint, weights_only=True)["network"])
    return network.eval()


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}


def props(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def logits(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pixels = images[:, None].astype(np.float32) / np.float32(255)
    return session.run(["logits"], {"image": pixels})[0]


def test_import_loads_none_of_the_heavy_libraries() -> None:
    heavy = "{'torch', 'onnx', 'onnxruntime', 'onnxscript', 'matplotlib', 'pooch'}"
    code = f"import sys, pyoip.train; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_learns_and_reports(report: train.TrainReport) -> None:
    assert len(report.epochs) == 2
    assert report.epochs[1].loss < report.epochs[0].loss
    images, labels = synthetic("mnist", "test")
    assert report.accuracy == (logits(report.path, images).argmax(1) == labels).mean()
    assert report.accuracy > 0.2
    assert report.plot.name == "m.png"
    assert f"{report.accuracy:.2%}" in str(report)
    assert not list(report.path.parent.glob(".*"))


def test_curves_are_a_picture(report: train.TrainReport) -> None:
    from matplotlib.image import imread

    picture = imread(report.plot)
    assert picture.ndim == 3
    assert picture.std() > 0.05


def test_same_seed_same_bytes_whatever_torch_s_own_generator(
    report: train.TrainReport, tmp_path: Path
) -> None:
    torch.manual_seed(99)  # neither read nor disturbed
    before = torch.get_rng_state()
    again = train.train(out=tmp_path / "again.onnx", **OPTIONS)
    assert again.path.read_bytes() == report.path.read_bytes()
    assert torch.equal(torch.get_rng_state(), before)


def stop(_: float) -> None:
    raise KeyboardInterrupt


def interrupted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the checkpoint of the first epoch, stopping within the second."""
    original = training.Training.epoch

    def epoch(self: training.Training, test: Any, advance: Any) -> training.Epoch:
        return original(self, test, stop if self.epochs else advance)

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "epoch", epoch)
        with pytest.raises(KeyboardInterrupt):
            train.train(out=path, **OPTIONS)


def test_resumed_equals_uninterrupted_bit_for_bit(
    report: train.TrainReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    interrupted(path, monkeypatch)
    assert not path.exists()
    resumed = train.train(out=path, resume=True, **OPTIONS)
    assert path.read_bytes() == report.path.read_bytes()
    assert [e.loss for e in resumed.epochs] == [e.loss for e in report.epochs]
    assert [e.accuracy for e in resumed.epochs] == [e.accuracy for e in report.epochs]


def test_resume_of_a_finished_training_only_exports_again(
    report: train.TrainReport, tmp_path: Path
) -> None:
    again = train.train(
        out=tmp_path / "x.onnx", checkpoint=report.checkpoint, resume=True, **OPTIONS
    )
    assert again.epochs == report.epochs
    assert again.path.read_bytes() == report.path.read_bytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataset", "fashion-mnist"),
        ("epochs", 3),
        ("batch_size", 16),
        ("learning_rate", 2e-3),
        ("weight_decay", 0.0),
        ("shift", 0),
        ("seed", 7),
        ("threads", 2),
    ],
)
def test_resume_refuses_another_setting_by_name(
    name: str, value: Any, report: train.TrainReport
) -> None:
    before = report.checkpoint.read_bytes()
    changed = {**OPTIONS, name: value, "checkpoint": report.checkpoint}
    with pytest.raises(DataError, match=rf"{name}=.*, not {value!r}: a resumed training needs"):
        train.train(out=report.path, resume=True, **changed)
    assert report.checkpoint.read_bytes() == before


def test_resume_refuses_missing_or_damaged_checkpoints(
    report: train.TrainReport, tmp_path: Path
) -> None:
    path = tmp_path / "c"
    options = {**OPTIONS, "out": tmp_path / "m.onnx", "checkpoint": path, "resume": True}
    with pytest.raises(DataError, match="no such checkpoint: start without resume"):
        train.train(**options)
    whole = report.checkpoint.read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not an intact checkpoint") as caught:
            train.train(**options)
        assert "\n" not in str(caught.value)
    torch.save({"settings": {}}, path)
    with pytest.raises(DataError, match="not an intact checkpoint"):
        train.train(**options)


def test_file_is_self_contained_and_says_nothing_of_its_maker(report: train.TrainReport) -> None:
    model = onnx.load(report.path, load_external_data=False)
    shapes = {name: value.shape for name, value in weights(model).items() if "." in name}
    assert shapes == {
        "conv1.weight": (32, 1, 3, 3),
        "conv1.bias": (32,),
        "conv2.weight": (64, 32, 3, 3),
        "conv2.bias": (64,),
        "conv3.weight": (128, 64, 3, 3),
        "conv3.bias": (128,),
        "dense1.weight": (100, 1152),
        "dense1.bias": (100,),
        "dense2.weight": (10, 100),
        "dense2.bias": (10,),
    }
    assert not any(value.external_data for value in model.graph.initializer)
    content = report.path.read_bytes()
    for trace in (b"site-packages", b"File ", b"pkg.torch", str(report.path.parent).encode()):
        assert trace not in content
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["logits"]
    kinds = [node.op_type for node in model.graph.node]
    block = ["Conv", "Relu", "MaxPool"]
    assert kinds == [*block, *block, "Conv", "Relu", "Reshape", "Gemm", "Relu", "Gemm"]


@pytest.mark.parametrize("count", [1, 2, 3, 60])
def test_export_equals_torch_for_any_batch(
    count: int, report: train.TrainReport, network: Any
) -> None:
    images = synthetic("mnist", "test")[0][:count]
    with torch.no_grad():
        expected = network(torch.tensor(images)[:, None] / 255).numpy()
    np.testing.assert_allclose(logits(report.path, images), expected, rtol=0, atol=1e-5)


def numpy_responses(model: onnx.ModelProto, x: np.ndarray) -> Iterator[np.ndarray]:
    """Pre-activations of the three conv layers, float64, without torch."""
    values = weights(model)
    for layer in ("conv1", "conv2", "conv3"):
        kernel, bias = values[f"{layer}.weight"], values[f"{layer}.bias"]
        windows = sliding_window_view(x, (3, 3), (2, 3))
        x = np.einsum("nchwij,mcij->nmhw", windows, kernel.astype(np.float64), optimize=True)
        x += bias[:, None, None]
        yield x
        side = x.shape[2] // 2
        x = np.maximum(x, 0)[:, :, : 2 * side, : 2 * side]
        x = x.reshape(len(x), -1, side, 2, side, 2).max((3, 5))


def test_metadata_maxima_equal_an_independent_computation(report: train.TrainReport) -> None:
    images = synthetic("mnist", "test")[0][:, None].astype(np.float64)
    deviation = images.std((2, 3), keepdims=True)
    prepared = {
        "standardize": (images - images.mean((2, 3), keepdims=True)) / deviation,
        "clip": images / 255,
    }
    stored = json.loads(props(report.path)["pyoip.real_maxima"])
    assert stored["images"] == "mnist test, 60"
    assert stored["layers"] == report.maxima
    assert sorted(stored["layers"]) == ["1", "2", "3"]
    model = onnx.load(report.path)
    for constraint, x in prepared.items():
        for layer, pre in enumerate(numpy_responses(model, x), start=1):
            found = stored["layers"][str(layer)][constraint]
            for objective, values in (("preactivation", pre), ("activation", np.maximum(pre, 0))):
                expected = values.mean((2, 3)).max(0)
                np.testing.assert_allclose(found[objective], expected, rtol=2e-5, atol=2e-6)


def test_maxima_do_not_depend_on_the_batches(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images = synthetic("mnist", "test")[0]
    whole = export.map_maxima(network, images)
    monkeypatch.setattr(export, "BATCH", 7)
    parts = export.map_maxima(network, images)
    for layer in whole:
        for constraint in export.CONSTRAINTS:
            np.testing.assert_allclose(
                parts[layer][constraint]["activation"],
                whole[layer][constraint]["activation"],
                rtol=1e-5,
                atol=1e-6,
            )


def test_metadata_says_how_the_file_was_made(report: train.TrainReport) -> None:
    found = props(report.path)
    assert found["pyoip.dataset"] == "mnist"
    assert found["pyoip.pixels"] == "0..1"
    assert found["pyoip.accuracy"] == f"{report.accuracy:.4f}"
    settings = json.loads(found["pyoip.training"])
    assert settings["seed"] == 0
    assert settings["epochs"] == 2
    assert found.keys() == {
        f"pyoip.{key}"
        for key in ("dataset", "pixels", "accuracy", "version", "training", "real_maxima")
    }


def test_one_grey_image_has_a_finite_standard_form() -> None:
    grey = export.standardised(torch.full((2, 28, 28), 7, dtype=torch.uint8))
    assert torch.count_nonzero(grey) == 0


@pytest.mark.parametrize("factor", [1.01, math.nan])
def test_export_that_differs_from_torch_is_not_written(
    factor: float, network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = export.to_onnx

    def wrong(network: Any) -> onnx.ModelProto:
        model = original(network)
        (value,) = (v for v in model.graph.initializer if v.name == "conv2.weight")
        array = onnx.numpy_helper.to_array(value) * np.float32(factor)
        value.CopyFrom(onnx.numpy_helper.from_array(array, value.name))
        return model

    monkeypatch.setattr(export, "to_onnx", wrong)
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the old file")
    with pytest.raises(ModelError, match=r"logits differ from torch's by .* must be at most 1e-04"):
        export.write_onnx(network, synthetic("", "test")[0], {}, path)
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


def test_killed_write_leaves_the_old_file_intact(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the old file")
    code = (
        "import os, sys, pathlib, pyoip.files as f\n"
        "with f.replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half')\n"
        "    os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == 9
    assert path.read_bytes() == b"the old file"


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the old file")

    def fail() -> None:
        with files.replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"


def _training(**changes: Any) -> training.Training:
    settings = {
        "dataset": "mnist",
        "epochs": 2,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "weight_decay": 1e-2,
        "shift": 1,
        "seed": 0,
        "threads": 1,
    }
    return training.Training(
        training.TrainSettings(**{**settings, **changes}), *synthetic("", "train")
    )


def test_regulariser_pulls_kernels_and_leaves_biases() -> None:
    run = _training()
    for value in run.network.parameters():
        torch.nn.init.ones_(value)
        value.grad = torch.zeros_like(value)
    run.optimiser.step()
    for name, value in run.network.named_parameters():
        assert bool((value < 1).all()) == name.endswith("weight"), name
        assert bool((value == 1).all()) == name.endswith("bias"), name


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_shifts_move_the_picture_and_fill_with_background(shift: int) -> None:
    image = np.random.default_rng(1).integers(1, 256, (28, 28), np.uint8)
    windows = training._windows(torch.tensor(image[None]), shift).numpy()
    assert windows.shape == (1, 2 * shift + 1, 2 * shift + 1, 28, 28)
    padded = np.pad(image, shift)
    for row in range(2 * shift + 1):
        for column in range(2 * shift + 1):
            expected = padded[row : row + 28, column : column + 28]
            np.testing.assert_array_equal(windows[0, row, column], expected)
    np.testing.assert_array_equal(windows[0, shift, shift], image)


def test_every_shift_is_drawn() -> None:
    run = _training(shift=1)
    pair = torch.tensor([0, 1])
    seen = [tuple(map(bytes, run._shifted(pair).numpy())) for _ in range(200)]
    assert len({first for first, _ in seen}) == 9
    assert len(set(seen)) > 9, "the images of a batch are shifted alike"


def test_negligible_weights_become_zero_and_no_others() -> None:
    network = training.build_network(0)
    with torch.no_grad():
        network.conv1.weight[3] = 1e-30
        network.conv1.weight[4] = -1e-19
    before = network.conv1.weight.detach().clone()
    training._flush(network)
    assert torch.count_nonzero(network.conv1.weight[3]) == 0
    before[3] = 0
    assert torch.equal(network.conv1.weight, before)


def test_learning_rate_rises_falls_and_ends_tiny() -> None:
    rates = np.array([training.one_cycle(step, 100, 0.5) for step in range(100)])
    top = int(rates.argmax())
    assert top == 30
    assert rates[[0, top, -1]] == pytest.approx([0.05, 0.5, 5e-5])
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    assert training.one_cycle(0, 1, 0.5) > 0


def test_initial_weights_are_the_seed_s_alone() -> None:
    torch.manual_seed(5)
    first = training.build_network(3).state_dict()
    torch.manual_seed(6)
    second = training.build_network(3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = training.build_network(4).state_dict()
    assert not torch.equal(first["conv2.weight"], other["conv2.weight"])


def test_seed_orders_the_images() -> None:
    first, second = (_training(seed=seed) for seed in (0, 1))
    assert not torch.equal(*(torch.randperm(50, generator=t.generator) for t in (first, second)))


def test_loss_that_is_no_number_is_refused() -> None:
    run = _training()
    with torch.no_grad():
        run.network.dense2.bias[0] = math.nan
    with pytest.raises(InvalidArgument, match=r"learning_rate 0\.001: the loss is nan in epoch 1"):
        run.epoch(synthetic("", "test"), lambda loss: None)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dataset", "cifar", "dataset 'cifar' is unknown: use one of mnist, fashion-mnist"),
        ("epochs", 0, "epochs 0: must be 1 to 1000"),
        ("batch_size", 0, "batch_size 0: must be 1 to 60000"),
        ("seed", -1, "seed -1: must be 0 to"),
        ("threads", 0, "threads 0: must be 1 to 1024"),
        ("shift", 9, "shift 9: must be 0 to 8"),
        ("weight_decay", -0.1, "weight_decay -0.1: must be 0 to 1"),
        ("weight_decay", math.nan, "weight_decay nan: must be 0 to 1"),
        ("learning_rate", 0.0, "learning_rate 0.0: must be above 0, at most 1"),
    ],
)
def test_settings_outside_their_range_are_refused(
    name: str, value: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        train.train(out=tmp_path / "m.onnx", **{**OPTIONS, name: value})
    assert not list(tmp_path.iterdir())


def test_missing_folder_is_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"there is no folder .*nowhere; make it"):
        train.train(out=tmp_path / "nowhere" / "m.onnx")


@pytest.mark.parametrize("module", ["torch", "onnxscript", "onnxruntime"])
def test_missing_library_is_refused_before_the_training(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineUnavailable, match=rf"needs {module}: pip install 'pyoip\[train\]'"):
        train.train(out=tmp_path / "m.onnx")


def test_threads_are_set_for_the_training_alone() -> None:
    before = torch.get_num_threads()
    with train._threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def _shown(
    show: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], force: bool
) -> str:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    if force:
        monkeypatch.setenv("FORCE_COLOR", "1")
    with train._Progress(10, 0, show) as progress:
        progress.advance(2.5)
        progress.report("epoch 1/3", training.Epoch(0.5, 0.75, 0.875, 2.0), 4.0)
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_progress_is_a_line_per_epoch_off_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _shown(True, monkeypatch, capsys, force=False)
    assert text == "epoch 1/3  loss 0.5000  training 75.00%  test 87.50%  2 s, 4 s left\n"
    assert _shown(False, monkeypatch, capsys, force=False) == ""


def test_progress_is_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _shown(True, monkeypatch, capsys, force=True)
    for part in ("10 %", "loss 2.5000", "test 87.50%", "left"):
        assert part in text
    assert _shown(False, monkeypatch, capsys, force=True) == ""


def test_silent_maps_are_those_that_no_constraint_wakes(report: train.TrainReport) -> None:
    on, off = {"activation": [1.0, 0.0, 0.0]}, {"activation": [0.0, 0.0, 2.0]}
    made = train.TrainReport(
        report.path,
        report.plot,
        report.checkpoint,
        report.settings,
        report.epochs,
        {"1": {"standardize": on, "clip": off}},
    )
    assert made.silent == {"1": (1,)}
    assert "layer 1: 1" in str(made)


def test_shipped_model_is_as_accurate_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(os.environ.get("PYOIP_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "mnist" / "t10k-images-idx3-ubyte.gz").is_file():
        pytest.skip(f"needs the MNIST test images: neither PYOIP_DATA nor {folder} holds them")
    monkeypatch.setenv("PYOIP_DATA", str(folder))
    images, labels = load_dataset("mnist", "test")
    accuracy = (logits(SHIPPED, images).argmax(1) == labels).mean()
    assert accuracy >= 0.994
    assert props(SHIPPED)["pyoip.accuracy"] == f"{accuracy:.4f}"
