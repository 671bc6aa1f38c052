"""What the CUDA kernels carry along an ascent, from step to step and from image to image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from problems import TOLERANCE, conv_layer, margin, problem, relative_error

from pyoip import reference
from pyoip.engines.base import Ascents, Floats, Targets
from pyoip.engines.cuda import CudaEngine
from pyoip.engines.reference import ReferenceEngine
from pyoip.fluctuations import start_images
from pyoip.settings import Settings
from pyoip.stack import ConvLayer, Pool, Stack

MOST_CHANGES = 256  # kMostChanges of csrc/cuda/plan.hpp
REFRESH = 32  # kRefresh of csrc/cuda/backward.cuh


pytestmark = pytest.mark.usefixtures("cuda")


def _bits(ascents: Ascents, part: slice = slice(None)) -> tuple[bytes, ...]:
    names = ("images", "history", "snapshots", "activations", "preactivations", "steps", "woke")
    return tuple(getattr(ascents, name)[part].tobytes() for name in (*names, "stops"))


@pytest.mark.parametrize("blocks", [1, 3, 132])
def test_bits_do_not_depend_on_the_batch_or_on_blocks(blocks: int, monkeypatch) -> None:
    """Batches of 1, 2, 7 and all, by few blocks that take many images and by many."""
    for seed in (3, 11):
        stack, images, targets = problem(seed, count=20, sides=(8, 14))
        settings = Settings(steps=20, snapshots=(2,))
        monkeypatch.delenv("PYOIP_CUDA_HOST_MULTIPROCESSORS", raising=False)
        whole = CudaEngine(stack).ascend(images, targets, settings)
        scores = CudaEngine(stack).score(images, "activation")
        monkeypatch.setenv("PYOIP_CUDA_HOST_MULTIPROCESSORS", str(blocks))
        engine = CudaEngine(stack)
        for size in (1, 2, 7, 20):
            part = engine.ascend(images[-size:], targets[-size:], settings)
            assert _bits(part) == _bits(whole, slice(-size, None)), (seed, size)
            assert engine.score(images[:size], "activation").tobytes() == scores[:size].tobytes()


def _layers(rng: np.random.Generator, *kinds: dict) -> tuple[ConvLayer, ...]:
    shape, layers = (1, 16, 16), []
    for kind in kinds:
        layers.append(conv_layer(rng, shape, pads=(1, 1, 1, 1), **kind))
        shape = layers[-1].pooled_shape
    return tuple(layers)


_OVERLAPPING = Pool("max", (3, 3), (1, 2), (1, 1, 1, 1))
_QUADS = Pool("max", (2, 2), (2, 2), (0, 0, 0, 0))
_STACKS = {
    "one layer in between": ({"maps": 8}, {"maps": 24}, {"maps": 4}),
    "two layers in between": ({"maps": 8, "pool": _QUADS}, {"maps": 24}, {"maps": 33}, {"maps": 4}),
    "pools in between": ({"maps": 9}, {"maps": 16, "pool": _OVERLAPPING}, {"maps": 3}),
    "strides in between": ({"maps": 8}, {"maps": 40, "stride": (2, 1)}, {"maps": 3}),
    "2x2 in between": ({"maps": 8}, {"maps": 40, "pool": _QUADS}, {"maps": 3}),
}
_STEADY = Settings(
    steps=72,
    method="article",
    objective="preactivation",
    snapshots=tuple(range(73)),
)
# Bold steps change more than a list holds, careful ones little; the smallest at times nothing, so
# that a layer further below lists changes as well.
_STEPS = np.array([0.4, 0.04, 0.0003], np.float32)


def _climbing(kinds: tuple[dict, ...]) -> tuple[Stack, Floats, Targets]:
    stack = Stack((1, 16, 16), _layers(np.random.default_rng(2), *kinds))
    targets = np.arange(len(_STEPS), dtype=np.int32)
    return stack, start_images(len(_STEPS), stack.input_shape, seed=2), targets


def _codes(stack: Stack, images: NDArray[np.float64]) -> NDArray[np.intp]:
    """Of the layer below the target: which place went through, or -1, by images."""
    layer, trace = stack.layers[-2], reference.forward(stack, images)[0][-1]
    if layer.pool is None:
        place, value = np.zeros_like(trace.z, np.intp), trace.z
    else:
        place = trace.place
        value, _ = reference.pool(layer.pool, trace.z, layer.pooled_shape[1:])
    return np.where(value > 0, place, -1).reshape(len(images), -1)


@pytest.mark.parametrize("kinds", _STACKS.values(), ids=_STACKS.keys())
def test_every_step_follows_the_gradient_at_its_image(kinds) -> None:
    """72 steps, with few changes, with more than their list holds, and all made afresh twice.

    The article's rule is undone, from each image to its successor. The engine's gradient at an
    image, in a call of its own, is made afresh, and is held to the definition's.
    """
    stack, images, targets = _climbing(kinds)
    engine, truth = CudaEngine(stack), ReferenceEngine(stack)
    found = engine.ascend(images, targets, _STEADY, step_sizes=_STEPS).snapshots
    assert found.shape[1] > 2 * REFRESH
    counts = []
    for climb, target, size in zip(found, targets, _STEPS, strict=True):
        codes = _codes(stack, climb.astype(np.float64))
        counts += list((np.diff(codes, axis=0) != 0).sum(axis=1))
        goals = np.full(len(climb), target, np.int32)
        _, gradients = engine.gradient(climb, goals, "preactivation")
        _, exact = truth.gradient(climb, goals, "preactivation")
        for image, g, h in zip(climb, gradients, exact, strict=True):
            assert relative_error(g, h) < TOLERANCE or margin(stack, image, int(target)).tie
        stepped = _stepped(climb, gradients, float(size))
        np.testing.assert_allclose(climb[1:], stepped[:-1], rtol=0, atol=2e-6)
    changes = np.array(counts)
    assert (changes > MOST_CHANGES).any()
    assert ((changes > 0) & (changes <= MOST_CHANGES)).sum() > REFRESH
    assert (changes == 0).any()


def _stepped(images: Floats, gradients: Floats, size: float) -> NDArray[np.float64]:
    """Each image a step of the article's rule on."""
    g, axes = gradients.astype(np.float64), (1, 2, 3)
    after = images + size * g / (np.sqrt((g**2).mean(axis=axes, keepdims=True)) + 1e-7)
    after -= after.mean(axis=axes, keepdims=True)
    return after / after.std(axis=axes, keepdims=True)


def test_the_order_of_threads_changes_no_bit(monkeypatch) -> None:
    """Of lists of changes, their moves, and what is made afresh."""
    stack, images, targets = _climbing(_STACKS["two layers in between"])
    settings = replace(_STEADY, steps=36, snapshots=(35,))
    found = []
    for order in ("forward", "backward", "random:3"):
        monkeypatch.setenv("PYOIP_CUDA_HOST_ORDER", order)
        found.append(_bits(CudaEngine(stack).ascend(images, targets, settings, None, _STEPS)))
    assert found[0] == found[1] == found[2]
