"""Upper bounds: never below what an image reaches, and tight where they can be."""

from __future__ import annotations

import numpy as np
import pytest
from problems import conv_layer, random_stack

from pyoip import reference
from pyoip.bounds import preactivation_bounds, spectral_norm
from pyoip.engines.cpu import CpuEngine
from pyoip.fluctuations import start_images
from pyoip.settings import Constraint, Settings
from pyoip.stack import Stack

CONSTRAINTS = (Constraint(), Constraint("clip", 0.0, 1.0), Constraint("clip", -2.0, 0.5))


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=["standardize", "box", "shifted box"])
def test_no_image_exceeds_the_bound(constraint: Constraint) -> None:
    """Random images and the ends of ascents towards every map, on 60 random stacks."""
    nearest = 0.0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        stack = random_stack(rng, (5, 14))
        maps = stack.layers[-1].output_shape[0]
        bounds = preactivation_bounds(stack, constraint)
        starts = start_images(maps, stack.input_shape, constraint=constraint, seed=seed)
        settings = Settings(steps=30, objective="preactivation", constraint=constraint)
        ends = CpuEngine(stack).ascend(starts, np.arange(maps), settings).images
        images = np.concatenate([starts, ends]).astype(np.float64)
        reached = reference.forward(stack, images)[1].max(axis=(0, 2, 3))
        assert bounds.shape == (maps,)
        assert (reached <= bounds + 1e-5 * np.abs(bounds)).all(), seed
        nearest = max(
            nearest,
            float(((reached - stack.layers[-1].bias) / (bounds - stack.layers[-1].bias)).max()),
        )
    assert nearest > 0.3  # a bound that is always far away would prove nothing


def test_first_layer_bounds_are_reached() -> None:
    """The image that looks like the kernel attains them, under both constraints."""
    rng = np.random.default_rng(0)
    layer = conv_layer(rng, (1, 12, 12), 6, (3, 5))
    stack = Stack((1, 12, 12), (layer,))
    kernels = np.zeros((6, 1, 12, 12))
    kernels[:, :, 4:7, 3:8] = layer.weights
    standard = np.stack([reference.constrain(Constraint(), k) for k in kernels])
    reached = reference.forward(stack, standard)[1].max(axis=(2, 3))[np.arange(6), np.arange(6)]
    np.testing.assert_allclose(reached, preactivation_bounds(stack, Constraint()), rtol=1e-9)
    box = np.where(kernels > 0, 1.0, 0.0)
    reached = reference.forward(stack, box)[1].max(axis=(2, 3))[np.arange(6), np.arange(6)]
    np.testing.assert_allclose(reached, preactivation_bounds(stack, CONSTRAINTS[1]), rtol=1e-9)


def test_small_weights_and_a_negative_bias_are_proven_dead() -> None:
    """As weight decay leaves a dead map: found dead on layer 3, but only below its threshold."""
    rng = np.random.default_rng(0)
    first = conv_layer(rng, (1, 16, 16), 8)
    second = conv_layer(rng, first.pooled_shape, 8)
    third = conv_layer(rng, second.pooled_shape, 3)
    third.weights[1:] *= 1e-4 / np.abs(third.weights[1:]).max()
    third.bias[:] = (-0.5, -0.5, -1e-6)
    bounds = preactivation_bounds(Stack((1, 16, 16), (first, second, third)), Constraint())
    assert bounds[1] <= 0 < min(bounds[0], bounds[2])


def test_energy_beats_intervals_on_deep_stacks() -> None:
    """Without the norm bound the third layer's bounds would be several times larger."""
    rng = np.random.default_rng(3)
    layers = [conv_layer(rng, (1, 20, 20), 32)]
    for _ in range(2):
        layers.append(conv_layer(rng, layers[-1].pooled_shape, 32))
    stack = Stack((1, 20, 20), tuple(layers))
    bounds = preactivation_bounds(stack, Constraint())
    high = np.full(1, np.sqrt(400.0))
    low = -high
    for layer in layers:
        w = layer.weights.astype(np.float64)
        up, down = np.maximum(w, 0).sum((2, 3)), np.minimum(w, 0).sum((2, 3))
        low, high = layer.bias + up @ low + down @ high, layer.bias + up @ high + down @ low
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    assert (bounds < high / 4).all()


def test_spectral_norm_against_the_whole_matrix() -> None:
    """Above the norm of the convolution's own matrix, and not far above."""
    rng = np.random.default_rng(1)
    layer = conv_layer(rng, (3, 9, 8), 5)
    units = np.eye(3 * 9 * 8).reshape(-1, 3, 9, 8)
    columns = reference.convolve(layer, units) - layer.bias.astype(np.float64)[:, None, None]
    exact = np.linalg.norm(columns.reshape(len(units), -1), 2)
    above = spectral_norm(layer.weights.astype(np.float64), (9, 8))
    assert exact <= above * (1 + 1e-12)
    assert above < 1.2 * exact
