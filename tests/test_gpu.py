"""What only a CUDA device can show; the numbers are compared in test_engines.py, there too."""

from __future__ import annotations

import _thread
import threading
import time

import numpy as np
import pytest
import torch

import pyoip
from pyoip.engines.cpu import CpuEngine
from pyoip.engines.cuda import CudaEngine
from pyoip.fluctuations import start_images
from pyoip.settings import Settings
from pyoip.stack import Stack, build_stack

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("device")]


def _shipped(layer: int, count: int) -> tuple[Stack, np.ndarray, np.ndarray]:
    stack = build_stack(pyoip.load("mnist"), layer)
    images = start_images(count, stack.input_shape)
    scores = CpuEngine(stack).score(images, "activation")
    return stack, images, scores.argmax(axis=1).astype(np.int32)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_ends_where_the_cpu_ends(layer: int) -> None:
    """Nearly all: rounding flips a decision of a pool here and there, and another way is taken."""
    stack, images, targets = _shipped(layer, 256)
    settings = Settings(steps=64)
    found, expected = (e(stack).ascend(images, targets, settings) for e in (CudaEngine, CpuEngine))
    off = np.abs(found.activations / expected.activations - 1) > 1e-4
    assert off.mean() < 0.1


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_bits_on_rerun_and_in_any_batch(layer: int) -> None:
    stack, images, targets = _shipped(layer, 700)
    engine, settings = CudaEngine(stack), Settings(steps=70)
    whole = engine.ascend(images, targets, settings)
    for part in (slice(None), slice(0, 1), slice(300, 433)):
        again = engine.ascend(images[part], targets[part], settings)
        assert again.images.tobytes() == whole.images[part].tobytes()
        assert again.history.tobytes() == whole.history[part].tobytes()


def test_tensors_go_in_and_come_out_without_a_copy() -> None:
    stack, images, targets = _shipped(2, 32)
    engine, settings = CudaEngine(stack), Settings(steps=20)
    found = engine.ascend(torch.tensor(images, device="cuda"), targets, settings)
    assert isinstance(found.images, torch.Tensor)
    assert found.images.is_cuda
    expected = engine.ascend(images, targets, settings)
    np.testing.assert_array_equal(found.images.cpu().numpy(), expected.images)


def test_an_interrupt_ends_a_long_ascent_within_half_a_second() -> None:
    stack, images, targets = _shipped(3, 4096)
    engine = CudaEngine(stack)
    engine.ascend(images[:8], targets[:8], Settings(steps=4))
    settings = Settings(steps=10**6, method="article", step_size=0.1)
    threading.Timer(1.0, _thread.interrupt_main).start()
    began = time.perf_counter()
    found = engine.ascend(images, targets, settings)
    assert found.interrupted
    assert time.perf_counter() - began < 60  # a timing must not decide; half a second is expected
    print(f"ended {time.perf_counter() - began - 1:.2f} s after the interrupt")
