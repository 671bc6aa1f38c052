"""The CUDA engine from Python, its kernels run on the host (tests/cuda_host)."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing

import numpy as np
import pytest
from problems import SETTINGS, TOLERANCE, errors_of, problem, same_ascents

from pyoip import engines
from pyoip.engines.base import STOPS
from pyoip.engines.cuda import CudaEngine
from pyoip.engines.reference import ReferenceEngine
from pyoip.errors import EngineUnavailable, InvalidArgument, UnsupportedLayer
from pyoip.settings import Settings

pytestmark = pytest.mark.usefixtures("cuda")


@pytest.mark.parametrize(
    ("devices", "reason"),
    [("old-driver", "the driver is for CUDA 12.0, older than CUDA 13.0"), ("0", "no CUDA device")],
)
def test_why_there_is_no_device(cuda, monkeypatch, devices: str, reason: str) -> None:
    monkeypatch.setenv("PYOIP_CUDA_HOST_DEVICES", devices)
    assert cuda.info()["devices"] == []
    assert (engines.available()["cuda"] or "").startswith(reason)
    assert reason in engines.describe()["CUDA"]
    with pytest.raises(EngineUnavailable, match=f"engine='cuda': {reason}"):
        engines.make("cuda", problem(0)[0])
    assert engines.make("auto", problem(0)[0]).name == "cpu"


def test_devices_are_told_and_chosen(cuda, monkeypatch) -> None:
    monkeypatch.setenv("PYOIP_CUDA_HOST_DEVICES", "2")
    stack = problem(0)[0]
    assert cuda.info()["reason"] is None
    assert engines.available()["cuda"] is None
    assert "compute capability 9.0" in engines.describe()["cuda:1"]
    assert engines.make("auto", stack).name == "cuda"
    chosen = engines.make("cuda:1", stack)
    assert (chosen.name, chosen._core.device) == ("cuda:1", 1)
    with pytest.raises(EngineUnavailable, match=r"engine='cuda:9'.*must be one of 0 … 1"):
        engines.make("cuda:9", stack)
    for wrong in ("cuda:x", "cuda:"):
        with pytest.raises(InvalidArgument, match="must name a device by number"):
            engines.make(wrong, stack)


def test_a_stack_that_no_block_holds_is_refused(monkeypatch) -> None:
    stack = problem(0)[0]
    needed = CudaEngine(stack)._core.shared_bytes
    monkeypatch.setenv("PYOIP_CUDA_HOST_SHARED_MEMORY", str(needed - 16))
    rule = rf"takes {needed} bytes of shared memory, and a block of this device has {needed - 16}"
    with pytest.raises(UnsupportedLayer, match=rule):
        engines.make("cuda", stack)
    assert engines.make("auto", stack).name == "cpu"


def test_wrong_arguments_are_refused() -> None:
    stack, images, targets = problem(0)
    engine = CudaEngine(stack)
    with pytest.raises(InvalidArgument, match="images of shape"):
        engine.score(images[:, :, 1:], "activation")
    with pytest.raises(ValueError, match="target 99999: must be a map in 0"):
        engine.gradient(images, np.full_like(targets, 99999), "activation")
    with pytest.raises(ValueError, match="targets must hold one map for each"):
        engine.gradient(images, targets[:1], "activation")
    with pytest.raises(ValueError, match="'odd' is not a kind"):
        engine._core.score(images, "activation", "odd", None)
    assert len(engine.score(images[:0], "activation")) == 0


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_definition(seed: int) -> None:
    """All four calls, the host side's copies between them and the kernels included."""
    stack, images, targets = problem(seed, count=2, sides=(5, 14))
    engine = CudaEngine(stack)
    assert errors_of(engine, stack, images, targets).largest < TOLERANCE
    found = engine.ascend(images, targets, SETTINGS["tangent"])
    assert same_ascents(found, ReferenceEngine(stack).ascend(images, targets, SETTINGS["tangent"]))


def test_little_memory_splits_a_call_and_changes_no_bit(monkeypatch, caplog) -> None:
    """Also of outcomes and snapshots; said in one line, however many calls."""
    stack, images, targets = problem(3, count=40, sides=(8, 10))
    settings = Settings(steps=4, snapshots=(2,))
    whole = CudaEngine(stack).ascend(images, targets, settings)
    engine = CudaEngine(stack)
    each = 4 * (3 * images[0].size + settings.steps + 8)
    used = sum(4 * layer.weights.size for layer in stack.layers)
    monkeypatch.setenv("PYOIP_CUDA_HOST_MEMORY", str(20 * each + 16 * used))
    with caplog.at_level(logging.INFO, "pyoip"):
        parts = [engine.ascend(images, targets, settings) for _ in range(2)]
    assert 0 < engine._core.smallest_batch < 40
    assert len(caplog.records) == 1
    for part in parts:
        for name in ("images", "history", "snapshots", "activations", "steps", "woke", "stops"):
            assert getattr(part, name).tobytes() == getattr(whole, name).tobytes(), name


def test_one_image_beyond_all_memory_is_told_in_bytes(monkeypatch) -> None:
    stack, images, _ = problem(3, count=3)
    engine = CudaEngine(stack)
    monkeypatch.setenv("PYOIP_CUDA_HOST_MEMORY", "64")
    with pytest.raises(EngineUnavailable, match=r"one image needs \d+ bytes of device memory, of"):
        engine.score(images, "activation")


def _cancel(done: int, total: int) -> None:
    raise KeyboardInterrupt


def test_cancelled_ascents_keep_what_is_finished() -> None:
    stack, images, targets = problem(3, sides=(8, 10))
    many, goals = np.tile(images, (2000, 1, 1, 1)), np.tile(targets, 2000)
    found = CudaEngine(stack).ascend(many, goals, Settings(steps=2000, tolerance=0), _cancel)
    assert found.interrupted
    never = np.isnan(found.activations)
    assert never[-1]
    assert (found.stops[never] == engines.STOPS.index("interrupted")).all()
    assert (found.steps[never] == 0).all()
    assert (found.woke[never] == -1).all()


def test_an_error_of_progress_is_raised() -> None:
    stack, images, _ = problem(3)

    def broken(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        CudaEngine(stack).score(images, "activation", broken)


def test_a_failed_launch_is_an_error(monkeypatch) -> None:
    stack, images, _ = problem(3)
    engine = CudaEngine(stack)
    monkeypatch.setenv("PYOIP_CUDA_HOST_FAIL_LAUNCH", "1")
    with pytest.raises(EngineUnavailable, match="the launch: unspecified launch failure"):
        engine.score(images, "activation")
    monkeypatch.delenv("PYOIP_CUDA_HOST_FAIL_LAUNCH")
    assert np.isfinite(engine.score(images, "activation")).all()


def _in_child(engine: CudaEngine, images, answers) -> None:
    try:
        engine.score(images, "activation")
    except EngineUnavailable as error:
        answers.put((str(error), engines.available()["cuda"]))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_why_it_cannot() -> None:
    stack, images, _ = problem(3)
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    child = fork.Process(target=_in_child, args=(CudaEngine(stack), images, answers))
    child.start()
    said, reason = answers.get()
    child.join()
    assert "CUDA was used before this process was forked" in said
    assert "start processes by 'spawn'" in reason


# --- arrays on the device ----------------------------------------------------------------------


class _Giver:
    """Host memory that calls itself the device's, as the host's device memory is."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (2, 0)) -> None:
        self.array, self.device, self.stream = array, device, None

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, stream: int | None = None) -> object:
        self.stream = stream
        capsule = self.array.__dlpack__()
        _patch(capsule, *self.device)
        return capsule

    def __array_namespace__(self) -> type[_Space]:
        return _Space


class _Space:
    @staticmethod
    def from_dlpack(array: object) -> np.ndarray:
        """The array's own memory as NumPy's, after it has been called the host's."""
        assert array.__dlpack_device__() == (2, 0)
        capsule = array.__dlpack__(max_version=(1, 0))
        _patch(capsule, 1, 0)

        class Host:
            def __dlpack__(self, **_: object) -> object:
                return capsule

            def __dlpack_device__(self) -> tuple[int, int]:
                return (1, 0)

        return np.from_dlpack(Host())


def _patch(capsule: object, kind: int, index: int) -> None:
    """Write another device into a capsule's tensor, behind its pointer to the data."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    at = get(capsule, b"dltensor")
    ctypes.c_int32.from_address(at + 8).value = kind
    ctypes.c_int32.from_address(at + 12).value = index


def test_device_arrays_in_and_out() -> None:
    """The same numbers as by host arrays, as arrays of the giver's library, and all outcomes."""
    stack, images, targets = problem(3)
    engine, settings = CudaEngine(stack), SETTINGS["tangent"]
    giver = _Giver(images)
    np.testing.assert_array_equal(
        engine.score(giver, "activation"), engine.score(images, "activation")
    )
    assert giver.stream
    np.testing.assert_array_equal(engine.activations(giver), engine.activations(images))
    pairs = zip(
        engine.gradient(giver, targets, "activation"),
        engine.gradient(images, targets, "activation"),
        strict=True,
    )
    assert all(a.tobytes() == b.tobytes() for a, b in pairs)
    found, expected = (engine.ascend(x, targets, settings) for x in (giver, images))
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
        assert np.asarray(getattr(found, name)).dtype == np.asarray(value).dtype


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pixel", [np.nan, -np.inf])
def test_pixels_that_are_no_numbers_change_no_other_image(monkeypatch, seed, pixel: float) -> None:
    """On the device pixels are not looked at first: every call ends, and blocks go on to others."""
    monkeypatch.setenv("PYOIP_CUDA_HOST_MULTIPROCESSORS", "1")
    stack, images, targets = problem(seed, count=4, sides=(5, 14))
    broken, kept = images.copy(), [0, 2]
    broken[1, 0, 2, 3], broken[3] = pixel, pixel
    engine, giver = CudaEngine(stack), _Giver(broken)
    for settings in SETTINGS.values():
        found, expected = (engine.ascend(x, targets, settings) for x in (giver, images))
        for name in ("images", "history", "snapshots", "activations", "steps", "woke", "stops"):
            ours, right = getattr(found, name), getattr(expected, name)
            assert ours[kept].tobytes() == right[kept].tobytes(), name
        assert np.isfinite(found.images[kept]).all()
        assert (found.steps <= settings.steps).all()
        assert (found.stops < STOPS.index("interrupted")).all()
    pairs = [
        (engine.score(giver, "activation"), engine.score(images, "activation")),
        (engine.activations(giver), engine.activations(images)),
        *zip(*(engine.gradient(x, targets, "activation") for x in (giver, images)), strict=True),
    ]
    assert all(a[kept].tobytes() == b[kept].tobytes() for a, b in pairs)


def test_device_arrays_that_cannot_be_read_in_place_are_refused(monkeypatch) -> None:
    monkeypatch.setenv("PYOIP_CUDA_HOST_DEVICES", "2")
    stack, images, _ = problem(3)
    engine = CudaEngine(stack)
    for given, rule in (
        (_Giver(images, (2, 1)), "images on device 1 .*: must be on the engine's CUDA device 0"),
        (_Giver(images.astype(np.float64)), "images on a CUDA device must be float32"),
        (_Giver(images[..., ::-1].copy()[:, :, ::-1]), "must be contiguous, in C order"),
        (_Giver(images[:, :, 1:].copy()), r"images must have the shape \(count, "),
    ):
        with pytest.raises(ValueError, match=rule):
            engine.score(given, "activation")
