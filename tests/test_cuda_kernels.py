"""The CUDA kernels on the host: barriers, precision, changes moved."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from problems import TOLERANCE, conv_layer, problem, relative_error

import pyoip
from pyoip.engines.cuda import CudaEngine
from pyoip.engines.reference import ReferenceEngine
from pyoip.fluctuations import start_images
from pyoip.settings import Settings
from pyoip.stack import Activation, Pool, Stack, build_stack

OUTCOMES = ("images", "history", "snapshots", "activations", "steps", "woke", "stops")


def _answers(stack: Stack, images, targets, settings: Settings) -> list[bytes]:
    engine = CudaEngine(stack)
    found = engine.ascend(images, targets, settings)
    arrays = [
        engine.score(images, "activation"),
        engine.activations(images),
        *engine.gradient(images, targets, "preactivation"),
        *(getattr(found, name) for name in OUTCOMES),
    ]
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("order", ["backward", "random:1", "random:2"])
def test_bits_do_not_depend_on_which_thread_comes_first(cuda, monkeypatch, order: str) -> None:
    """Between two barriers any thread may be first: a barrier that is missing shows here."""
    cases = [problem(seed, count=2, sides=(5, 14)) for seed in range(12)]
    shipped = build_stack(pyoip.load("mnist"), 3)
    cases.append((shipped, start_images(2, shipped.input_shape), np.array([3, 77], np.int32)))
    settings = Settings(steps=6, smooth=3, snapshots=(2,))
    for stack, images, targets in cases:
        monkeypatch.delenv("PYOIP_CUDA_HOST_ORDER", raising=False)
        forward = _answers(stack, images, targets, settings)
        monkeypatch.setenv("PYOIP_CUDA_HOST_ORDER", order)
        assert _answers(stack, images, targets, settings) == forward


def _middle_layers(stack: Stack) -> set[str]:
    """What the layers between the first and the target have that needs code of its own."""
    kinds = set()
    for layer in stack.layers[1:-1]:
        pool = layer.pool
        kinds.add("strided" if max(layer.stride) > 1 else "dense")
        kinds.add("no pool" if pool is None else pool.kind)
        if pool is not None and pool.kind == "max":
            overlaps = any(s < k for s, k in zip(pool.stride, pool.kernel, strict=True))
            kinds.add("overlapping" if overlaps else "tiling")
        kinds.add(layer.activation.kind)
    return kinds | ({"four layers"} if len(stack.layers) == 4 else set())


def test_random_stacks_have_all_kinds_of_layers_in_between() -> None:
    """The 200 stacks that the engines are compared on."""
    found = Counter(kind for seed in range(200) for kind in _middle_layers(problem(seed)[0]))
    kinds = (
        *("strided", "dense", "no pool", "max", "average", "overlapping", "tiling", "four layers"),
        *("relu", "leaky_relu", "tanh", "sigmoid", "none"),
    )
    assert {kind: found[kind] for kind in kinds if found[kind] < 5} == {}


def _busy_stack() -> Stack:
    """Two layers in between whose decisions change by the hundred with large steps."""
    rng = np.random.default_rng(8)
    pool = Pool("max", (2, 2), (2, 2), (0, 0, 0, 0))
    first = conv_layer(rng, (1, 30, 30), 8, pool=pool)
    second = conv_layer(rng, first.pooled_shape, 16)
    third = conv_layer(rng, second.pooled_shape, 24, pool=pool)
    return Stack((1, 30, 30), (first, second, third, conv_layer(rng, third.pooled_shape, 5)))


@pytest.mark.parametrize("size", [0.002, 0.02, 0.3])
def test_moved_changes_add_up_to_the_gradient(cuda, size: float) -> None:
    """Few changes a step, dozens, and more than the list holds: each step follows the gradient."""
    stack = _busy_stack()
    engine, truth = CudaEngine(stack), ReferenceEngine(stack)
    images, targets = start_images(3, stack.input_shape), np.array([0, 2, 4], np.int32)
    steps = tuple(range(40))
    settings = Settings(steps=40, method="article", step_size=size, snapshots=steps)
    found = engine.ascend(images, targets, settings).snapshots.astype(np.float64)
    for t in (0, 1, 5, 20, 30, 31, 32, 38):
        before, after = found[:, t], found[:, t + 1]
        _, g = truth.gradient(before.astype(np.float32), targets, "activation")
        rms = np.sqrt((g.astype(np.float64) ** 2).mean(axis=(1, 2, 3), keepdims=True))
        expected = before + size * g / (rms + 1e-7)
        expected -= expected.mean(axis=(1, 2, 3), keepdims=True)
        expected /= expected.std(axis=(1, 2, 3), keepdims=True)
        off = np.abs(after - expected).max(axis=(1, 2, 3))
        assert np.sort(off)[1] < 4e-6, t  # one of three may sit within rounding of a decision


@pytest.mark.parametrize("stride", [1, 2])
def test_ties_in_a_layer_in_between_go_to_the_first_position(cuda, stride: int) -> None:
    """A constant image ties all windows, tiling or overlapping; the gradient shows the place."""
    rng = np.random.default_rng(1)
    first = conv_layer(rng, (1, 16, 16), 8)
    second = conv_layer(
        rng, first.pooled_shape, 9, pool=Pool("max", (2, 2), (stride, stride), (0, 0, 0, 0))
    )
    second.bias[:] = 1
    stack = Stack((1, 16, 16), (first, second, conv_layer(rng, second.pooled_shape, 3)))
    images, targets = np.full((3, 1, 16, 16), 0.25, np.float32), np.arange(3, dtype=np.int32)
    _, found = CudaEngine(stack).gradient(images, targets, "preactivation")
    _, exact = ReferenceEngine(stack).gradient(images, targets, "preactivation")
    assert np.abs(exact).max() > 0
    assert relative_error(found, exact) < TOLERANCE


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("size", "stride"), [(3, (1, 2)), (3, (2, 1)), (3, (3, 3)), (2, (3, 3))])
def test_averages_of_the_first_layer_leave_every_decision(cuda, size, stride, activation) -> None:
    """Windows that overlap, tile or have gaps: each position's is left by one of those over it."""
    rng = np.random.default_rng(4)
    pool, kind = Pool("average", (size, size), stride, (0, 0, 0, 0)), Activation(activation)
    first = conv_layer(rng, (3, 17, 16), 8, activation=kind, pool=pool)
    stack = Stack((3, 17, 16), (first, conv_layer(rng, first.pooled_shape, 3)))
    images, targets = start_images(3, stack.input_shape), np.arange(3, dtype=np.int32)
    _, found = CudaEngine(stack).gradient(images, targets, "preactivation")
    _, exact = ReferenceEngine(stack).gradient(images, targets, "preactivation")
    assert relative_error(found, exact) < TOLERANCE


def test_tf32_is_another_precision_within_its_errors(cuda) -> None:
    """One product with 11 bits: 8e-5 of the largest activation (operands cut, not rounded: 7e-4).

    In float64's place stands the exact engine, and of the ascents only their first value: what
    follows it climbs elsewhere.
    """
    stack = build_stack(pyoip.load("mnist"), 3)
    engine, images = CudaEngine(stack), start_images(16, stack.input_shape)
    targets = engine.score(images, "activation").argmax(axis=1).astype(np.int32)
    exact = Settings(steps=1, method="article", step_size=0.05)
    coarse = engine.ascend(images, targets, replace(exact, precision="tf32")).history
    found = engine.ascend(images, targets, exact).history
    off = np.abs(coarse[:, 0] - found[:, 0]).max() / np.abs(found[:, 0]).max()
    assert 1e-6 < off < 2e-4
    fast = engine.ascend(images, targets, replace(exact, precision="fast")).history
    assert fast.tobytes() == found.tobytes()
