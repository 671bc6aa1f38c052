"""Every engine against the float64 definition, and both against torch."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from cores import Core
from problems import (
    ACTIVATIONS,
    SETTINGS,
    TOLERANCE,
    by_torch,
    conv_layer,
    errors_of,
    margin,
    problem,
    relative_error,
    same_ascents,
)

import pyoip
from pyoip import _cpu, engines, reference
from pyoip.activation import FUNCTIONS, Activation
from pyoip.engines.cpu import CpuEngine
from pyoip.engines.reference import ReferenceEngine
from pyoip.errors import EngineUnavailable, InvalidArgument, UnsupportedLayer
from pyoip.fluctuations import start_images
from pyoip.settings import Constraint, Settings
from pyoip.stack import Pool, Stack, build_stack

EACH_ACTIVATION = pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.kind)


@pytest.mark.parametrize("block", range(10))
def test_gradients_of_random_stacks(block: int, core: Core) -> None:
    """200 stacks: score, activations and gradient equal the definition's.

    A gradient may differ only where the definition itself is within rounding of a pooling
    tie or a ReLU's kink; these are recognised, counted, and must stay rare.
    """
    errors, ties = [], 0
    for seed in range(20 * block, 20 * block + 20):
        stack, images, targets = problem(seed)
        found = errors_of(core(stack), stack, images, targets)
        assert found.largest < TOLERANCE, seed
        errors += found.gradients
        ties += found.ties
    assert np.median(errors) < core.median
    assert ties <= len(errors) // 50


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_gradients_of_the_shipped_network(layer: int, core: Core) -> None:
    """In the median image within a few roundings of float64, whatever the kernels do."""
    stack = build_stack(pyoip.load("mnist"), layer)
    images, engine, truth = (
        start_images(32, stack.input_shape),
        core(stack),
        ReferenceEngine(stack),
    )
    targets = engine.score(images, "activation").argmax(axis=1).astype(np.int32)
    (_, found), (_, exact) = (e.gradient(images, targets, "activation") for e in (engine, truth))
    errors = [relative_error(g, h) for g, h in zip(found, exact, strict=True)]
    assert np.median(errors) < core.shipped_median


def test_core_and_definition_know_the_same_activation_functions() -> None:
    assert _cpu.info()["activations"] == list(FUNCTIONS)


def _sweep(activation: Activation) -> Stack:
    """A stack that does nothing to 64 × 64 values but activate them."""
    rng, shape = np.random.default_rng(0), (1, 64, 64)
    layer = conv_layer(rng, shape, 1, (1, 1), activation=activation)
    layer.weights[:], layer.bias[:] = 1, 0
    return Stack(shape, (layer,))


@EACH_ACTIVATION
def test_activation_functions_over_all_magnitudes(activation: Activation, core: Core) -> None:
    """From 1e-30 to 1e4 on both sides: values to 4e-7 of themselves, as far as float32 reaches."""
    magnitudes = np.logspace(-30, 4, 1024), np.linspace(0.01, 12, 1024)
    z = np.concatenate([sign * m for sign in (-1, 1) for m in magnitudes]).astype(np.float32)
    engine = core(_sweep(activation))
    found = engine.activations(z.reshape(1, 1, 64, 64)).ravel().astype(np.float64)
    truth = activation.value(z.astype(np.float64))
    assert (np.abs(found - truth) <= 4e-7 * np.abs(truth) + 1e-37).all()
    steps = np.diff(found[np.argsort(z)])
    assert (steps >= -4e-7 * np.abs(found).clip(None, 1).max()).all()


@EACH_ACTIVATION
def test_a_derivative_is_the_slope_of_its_value(activation: Activation) -> None:
    """And falls nowhere, nor rises more steeply than is said of it."""
    z = np.concatenate([np.linspace(-12, 12, 1001), [-1e-7, 0.0]])
    slopes = activation.derivative(z)
    h = 1e-6
    below, above = (activation.value(z + sign * h) for sign in (-1, 1))
    smooth = np.abs(z) > h
    np.testing.assert_allclose(((above - below) / (2 * h))[smooth], slopes[smooth], atol=1e-8)
    assert (slopes >= 0).all()
    assert slopes.max() <= activation.steepest
    assert slopes[-1] == pytest.approx(slopes[-2], abs=1e-6)  # at 0 as just below it
    value = activation.value(z)
    assert activation.function.gates == bool(
        (np.where(value > 0, slopes == 1, (slopes == 0) & (value == 0))).all()
    )


def _torch_gradient(stack: Stack, images, targets, objective: str):
    """Objective and gradient by torch autograd in float64."""
    x = torch.tensor(images, dtype=torch.float64, requires_grad=True)
    h = x
    functional = torch.nn.functional
    for layer in stack.layers:
        top, left, bottom, right = layer.pads
        h = functional.pad(h, (left, right, top, bottom))
        weight, bias = (torch.tensor(v, dtype=torch.float64) for v in (layer.weights, layer.bias))
        z = functional.conv2d(h, weight, bias, layer.stride)
        h = by_torch(layer.activation, z)
        if layer.pool is not None:
            top, left, bottom, right = layer.pool.pads
            lowest = -torch.inf if layer.pool.kind == "max" else 0.0
            h = functional.pad(h, (left, right, top, bottom), value=lowest)
            pool = functional.max_pool2d if layer.pool.kind == "max" else functional.avg_pool2d
            h = pool(h, layer.pool.kernel, layer.pool.stride)
    maps = z if objective == "preactivation" else h
    value = maps[torch.arange(len(targets)), torch.tensor(targets, dtype=torch.int64)].mean((1, 2))
    value.sum().backward()
    return value.detach().numpy(), x.grad.numpy()


def test_definition_equals_torch_autograd() -> None:
    """The definition and torch, both in float64, on 200 stacks."""
    for seed in range(200):
        stack, images, targets = problem(seed, count=2)
        for objective in ("activation", "preactivation"):
            value, gradient = _torch_gradient(stack, images, targets, objective)
            found = reference.evaluate(
                stack, images.astype(np.float64), targets, objective, wake=False
            )
            mean = found.activation if objective == "activation" else found.preactivation
            assert relative_error(mean, value) < 1e-12, seed
            assert relative_error(found.gradient, gradient) < 1e-10, seed


def test_definition_by_finite_differences() -> None:
    """The slope along a random direction, where no kink lies between the two points."""
    checked = 0
    for seed in range(40):
        stack, images, targets = problem(seed, count=1)
        x = images.astype(np.float64)
        d = np.random.default_rng(seed).standard_normal(x.shape)
        h = 1e-6
        up, here, down = (
            reference.evaluate(stack, x + k * h * d, targets, "activation", wake=False)
            for k in (1, 0, -1)
        )
        if not (np.allclose(up.gradient, here.gradient, rtol=1e-3, atol=1e-7)):
            continue
        checked += 1
        slope = (up.activation - down.activation) / (2 * h)
        assert slope == pytest.approx((here.gradient * d).sum(), rel=1e-4, abs=1e-8), seed
    assert checked > 20


def test_wide_and_full_size_stacks(core: Core) -> None:
    """The corners of the limits: 64×64 RGB, 256 maps, 7×7 kernels under 3×3 pools.

    Where an engine has no room for such images, the largest that it has room for.
    """
    rng = np.random.default_rng(5)
    shape = (3, core.widest, core.widest)
    first = conv_layer(
        rng, shape, 20, (7, 7), (2, 2), (3, 3, 3, 3), pool=Pool("max", (3, 3), (2, 2), (1, 1, 1, 1))
    )
    second = conv_layer(rng, first.pooled_shape, 256, (5, 5), (1, 1), (2, 2, 2, 2))
    stack = Stack(shape, (first, second))
    images, targets = start_images(2, shape), np.array([0, 255], np.int32)
    engine, truth = core(stack), ReferenceEngine(stack)
    assert (
        relative_error(engine.score(images, "activation"), truth.score(images, "activation"))
        < TOLERANCE
    )
    _, gradients = engine.gradient(images, targets, "activation")
    _, exact = truth.gradient(images, targets, "activation")
    for i in range(2):
        error = relative_error(gradients[i], exact[i])
        assert error < TOLERANCE or margin(stack, images[i], int(targets[i])).tie


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_ties_go_to_the_first_position(kind: str, core: Core) -> None:
    """A constant image ties every window: the gradient shows which place was taken."""
    rng = np.random.default_rng(0)
    first = conv_layer(rng, (1, 8, 8), 3, pool=Pool(kind, (2, 2), (2, 2), (0, 0, 0, 0)))
    first.bias[:] = 0.5
    stack = Stack((1, 8, 8), (first, conv_layer(rng, first.pooled_shape, 2)))
    image = np.full((1, 1, 8, 8), 0.25, np.float32)
    for target in (0, 1):
        _, found = core(stack).gradient(image, np.array([target]), "preactivation")
        _, exact = ReferenceEngine(stack).gradient(image, np.array([target]), "preactivation")
        assert np.abs(exact).max() > 0
        assert relative_error(found, exact) < TOLERANCE


def test_relu_at_zero_has_no_slope(core: Core) -> None:
    rng = np.random.default_rng(0)
    layer = conv_layer(rng, (1, 4, 4), 1)
    layer.bias[:] = 0
    image = np.zeros((1, 1, 4, 4), np.float32)
    _, gradient = core(Stack((1, 4, 4), (layer,))).gradient(image, np.array([0]), "activation")
    assert not gradient.any()


# --- whole ascents -------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_ascent_equals_the_definition(settings: Settings, core: Core) -> None:
    """Twelve steps of 25 random stacks: the same image, history, stops.

    Rounding grows along an ascent and a flipped decision changes what follows, so the
    bound is wider than a gradient's and nearly all, not all, must hold it.
    """
    off = 0
    for seed in range(25):
        stack, images, targets = problem(seed, count=2, sides=(5, 16))
        found = core(stack).ascend(images, targets, settings)
        exact = ReferenceEngine(stack).ascend(images, targets, settings)
        off += not same_ascents(found, exact)
    assert off <= 2


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_a_step_follows_the_gradient_at_its_image(layer: int, core: Core) -> None:
    """What an ascent carries over from step to step adds up to the gradient made afresh.

    The article's rule is undone: from an image and its successor, the direction that was
    taken. Early, just before all is added up afresh, and just after.
    """
    stack = build_stack(pyoip.load("mnist"), layer)
    engine = core(stack)
    images = start_images(16, stack.input_shape)
    targets = engine.score(images, "activation").argmax(axis=1).astype(np.int32)
    moments = (3, 30, 31, 32, 94)
    steps = tuple(sorted({t + k for t in moments for k in (0, 1)}))
    settings = Settings(steps=96, method="article", step_size=0.1, snapshots=steps)
    found = engine.ascend(images, targets, settings).snapshots.astype(np.float64)
    for t in moments:
        before, after = found[:, steps.index(t)], found[:, steps.index(t + 1)]
        _, g = engine.gradient(before.astype(np.float32), targets, "activation")
        rms = np.sqrt((g.astype(np.float64) ** 2).mean(axis=(1, 2, 3), keepdims=True))
        expected = before + 0.1 * g / (rms + 1e-7)
        expected -= expected.mean(axis=(1, 2, 3), keepdims=True)
        expected /= expected.std(axis=(1, 2, 3), keepdims=True)
        # A few units of rounding in images of deviation 1; a gradient off by 1e-4 shows.
        np.testing.assert_allclose(after, expected, rtol=0, atol=2e-6, err_msg=str(t))


def test_fast_precision_is_near_enough_and_another(isa: str) -> None:
    """The larger transformation: wider bounds than the exact one's, and not its bits."""
    rng = np.random.default_rng(3)
    other = 0
    for size, channels, maps in ((12, 16, 24), (14, 33, 9), (22, 40, 70), (17, 8, 8)):
        first = conv_layer(rng, (1, size, size), channels)
        second = conv_layer(
            rng, first.pooled_shape, maps, pool=Pool("max", (2, 2), (2, 2), (0, 0, 0, 0))
        )
        third = conv_layer(rng, second.pooled_shape, 7)
        stack = Stack((1, size, size), (first, second, third))
        images, targets = start_images(4, stack.input_shape), np.arange(4, dtype=np.int32)
        engine, truth = CpuEngine(stack), ReferenceEngine(stack)
        fast = Settings(steps=6, method="article", step_size=0.1, precision="fast")
        found, exact = engine.ascend(images, targets, fast), truth.ascend(images, targets, fast)
        plain = engine.ascend(images, targets, replace(fast, precision="exact"))
        assert relative_error(found.history[:, 0], exact.history[:, 0]) < 10 * TOLERANCE
        # A decision may flip along the way; the first step, and most ascents, must agree.
        ours, theirs = np.nan_to_num(found.history), np.nan_to_num(exact.history)
        errors = [relative_error(ours[i], theirs[i]) for i in range(4)]
        assert np.median(errors) < 100 * TOLERANCE
        other += found.history.tobytes() != plain.history.tobytes()
    assert other >= 3


@pytest.mark.parametrize("method", ["tangent", "article"])
def test_a_gradient_that_vanishes_on_the_way_is_reported(method: str, core: Core) -> None:
    """All ReLUs below go off, one by one: what was carried along must not leave a residue."""
    vanished = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        pool = Pool("max", (2, 2), (2, 2), (0, 0, 0, 0)) if seed % 2 else None
        first = conv_layer(rng, (1, 14, 14), 8, pool=pool)
        first.bias[:] = -0.3
        second = conv_layer(rng, first.pooled_shape, 4)
        second.weights[:] = -np.abs(second.weights)
        stack = Stack((1, 14, 14), (first, second))
        images = start_images(2, stack.input_shape, seed=seed, constraint=Constraint("clip", -1, 1))
        settings = Settings(
            steps=120,
            objective="preactivation",
            constraint=Constraint("clip", -3, 3),
            step_size=0.05,
            method=method,
        )
        targets = np.zeros(2, np.int32)
        found = core(stack).ascend(images, targets, settings)
        exact = ReferenceEngine(stack).ascend(images, targets, settings)
        np.testing.assert_array_equal(found.stops, exact.stops)
        np.testing.assert_array_equal(found.steps, exact.steps)
        vanished += (exact.stops == engines.STOPS.index("zero gradient")).sum()
    assert vanished > 4


def test_a_start_image_far_from_zero_is_standardized(core: Core) -> None:
    """A mean of 1000 deviations must not swallow the deviation."""
    stack, images, targets = problem(7, count=3)
    settings = Settings(steps=1, snapshots=(0,))
    near = core(stack).ascend(images, targets, settings).snapshots
    far = core(stack).ascend(images + np.float32(1000), targets, settings).snapshots
    assert np.abs(near - far).max() < 1e-3  # float32 at 1000 has steps of 6e-5
    assert far.std(axis=(2, 3, 4)) == pytest.approx(1, abs=1e-5)


def test_best_image_is_what_its_activation_says(core: Core) -> None:
    """The image returned, scored again, has the activation returned, the history's best."""
    stack, images, targets = problem(7, count=6)
    engine = core(stack)
    out = engine.ascend(images, targets, Settings(steps=60))
    values, _ = engine.gradient(out.images, targets, "activation")
    assert relative_error(values[:, 0], out.activations) < 1e-6
    np.testing.assert_array_equal(np.nanmax(out.history, axis=1), out.activations)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_batch_or_threads(threads: int, core: Core) -> None:
    """Batches of 1, 2, 7, 32 and all, on any number of threads: the same bits."""
    for seed in (3, 11):
        stack, images, targets = problem(seed, count=40, sides=(8, 14))
        settings = Settings(steps=20, snapshots=(2,))
        one = core(stack, threads=1)
        whole = one.ascend(images, targets, settings)
        scores = one.score(images, "activation")
        engine = core(stack, threads=threads)
        for size in (1, 2, 7, 32, 40):
            part = engine.ascend(images[-size:], targets[-size:], settings)
            for name in ("images", "history", "snapshots", "activations", "steps", "woke", "stops"):
                a, b = getattr(part, name), getattr(whole, name)[-size:]
                assert a.tobytes() == b.tobytes(), (seed, size, name)
            assert engine.score(images[:size], "activation").tobytes() == scores[:size].tobytes()


def test_a_silent_map_is_woken(core: Core) -> None:
    """A ReLU that is off on the start image is climbed on its preactivation until it is on."""
    rng = np.random.default_rng(1)
    layer = conv_layer(rng, (1, 12, 12), 4)
    layer.bias[:] = -2.0
    stack = Stack((1, 12, 12), (layer,))
    dim = 0.1 * start_images(4, (1, 12, 12), constraint=Constraint("clip", -8, 8))
    settings = Settings(steps=200, constraint=Constraint("clip", -8, 8), step_size=0.05)
    out = core(stack).ascend(dim, np.arange(4), settings)
    assert (out.history[:, 0] == 0).all()
    assert (out.woke > 0).all()
    assert (out.activations > 0).all()
    article = Settings(steps=200, method="article", constraint=settings.constraint)
    stuck = core(stack).ascend(dim, np.arange(4), article)
    assert (stuck.stops == engines.STOPS.index("zero gradient")).all()
    assert (stuck.steps == 0).all()


def test_inputs_need_not_be_contiguous_or_writable(core: Core) -> None:
    stack, images, _targets = problem(2, count=8)
    engine = core(stack)
    plain = engine.score(images, "activation")
    wide = np.zeros((8, *stack.input_shape[:2], stack.input_shape[2] * 2), np.float64)
    wide[..., ::2] = images
    strided = wide[..., ::2]
    strided.flags.writeable = False
    np.testing.assert_array_equal(engine.score(strided, "activation"), plain)
    reversed_twice = images[::-1]
    np.testing.assert_array_equal(engine.score(reversed_twice, "activation"), plain[::-1])
    assert len(engine.score(images[:0], "activation")) == 0


# --- choosing an engine --------------------------------------------------------------------


def test_unknown_and_missing_engines_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyoip._cuda", None)  # also where it is installed
    monkeypatch.delattr("pyoip._cuda", raising=False)
    stack = problem(0)[0]
    with pytest.raises(InvalidArgument, match=r"engine='cpuu': must be one of 'auto', 'cpu'"):
        engines.make("cpuu", stack)
    with pytest.raises(EngineUnavailable, match="engine='cuda'"):
        engines.make("cuda", stack)
    assert set(engines.available()) == {"cpu", "reference", "cuda", "onnx"}
    assert engines.available()["cpu"] is None


def test_missing_instruction_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    slowest = _cpu.info()["instruction_sets"][-1]
    monkeypatch.setenv("PYOIP_CPU_ISA", "mmx")
    with pytest.raises(EngineUnavailable, match=rf"PYOIP_CPU_ISA='mmx'.*{slowest}"):
        engines.make("cpu", problem(0)[0])
    assert "mmx" in (engines.available()["cpu"] or "")


def test_reference_takes_what_the_core_does_not() -> None:
    rng = np.random.default_rng(0)
    stack = Stack((1, 80, 8), (conv_layer(rng, (1, 80, 8), 2),))
    with pytest.raises(UnsupportedLayer, match=r"reference"):
        engines.make("auto", stack)
    images = start_images(1, (1, 80, 8))
    assert engines.make("reference", stack).score(images, "activation").shape == (1, 2)


def test_wrong_images_and_targets_are_refused() -> None:
    stack, images, targets = problem(0)
    engine = CpuEngine(stack)
    with pytest.raises(InvalidArgument, match="images of shape"):
        engine.score(images[:, :, 1:], "activation")
    with pytest.raises(ValueError, match="target 99999: must be a map in 0"):
        engine.gradient(images, np.full_like(targets, 99999), "activation")
    with pytest.raises(ValueError, match="targets must hold one map for each"):
        engine.gradient(images, targets[:1], "activation")


def test_judges_recognise_a_wrong_answer() -> None:
    """The comparison helper itself: a wrong value, a wrong place and NaN all fail it."""
    truth = np.array([1.0, -2.0, 3.0])
    assert relative_error(truth, truth) == 0
    assert relative_error(truth[::-1], truth) > TOLERANCE
    assert relative_error(truth * (1 + 1e-5), truth) > TOLERANCE
    assert relative_error(np.array([1.0, np.nan, 3.0]), truth) == np.inf
    ties = [
        margin(stack, x, int(t)).tie
        for stack, images, targets in map(problem, range(30))
        for x, t in zip(images, targets, strict=True)
    ]
    assert sum(ties) < 0.1 * len(ties)


def test_an_ascent_that_finds_nothing_is_worth_nan(core: Core, rng: np.random.Generator) -> None:
    """Where sums are beyond float32: a map that a ReLU would call silent is told from those."""
    layer = conv_layer(rng, (1, 6, 6), 2)
    layer = replace(layer, weights=np.full_like(layer.weights, np.inf))
    engine = core(Stack((1, 6, 6), (layer,)))
    images = rng.standard_normal((2, 1, 6, 6)).astype(np.float32)
    found = engine.ascend(images, np.array([0, 1], np.int32), Settings(steps=3))
    for outcome in (found.activations, found.preactivations, found.images):
        assert np.isnan(outcome).all()
