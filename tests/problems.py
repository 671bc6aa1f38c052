"""Problems that tests and benchmarks share: random stacks, and how an answer is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pyoip import reference
from pyoip.activation import FUNCTIONS
from pyoip.engines.base import Ascents, Engine, Floats, Targets
from pyoip.engines.reference import ReferenceEngine
from pyoip.fluctuations import start_images
from pyoip.settings import Constraint, Settings
from pyoip.stack import Activation, ConvLayer, Pool, Stack

if TYPE_CHECKING:
    import torch

# float32 sums of up to a few thousand products; measured at most 2e-6 without near-ties.
TOLERANCE = 5e-6

# Of short ascents: each rule of the loop is in one of them.
SETTINGS = {
    "tangent": Settings(steps=12, patience=3, snapshots=(0, 3, 12)),
    "article": Settings(steps=12, method="article", step_size=0.1),
    "smooth": Settings(steps=12, objective="preactivation", momentum=0.0, smooth=4),
    "clip": Settings(
        steps=12, constraint=Constraint("clip", -0.5, 1.5), step_size=0.05, snapshots=(1,)
    ),
}

# Maps sit around the vector widths 4, 8 and 16.
MAPS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 33)
ACTIVATIONS = tuple(
    Activation(kind, 0.0 if function.slope is None else 0.1) for kind, function in FUNCTIONS.items()
)
RELU = Activation("relu")


def conv_layer(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    maps: int,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    activation: Activation = RELU,
    pool: Pool | None = None,
) -> ConvLayer:
    """A layer with random weights that keep activations of order one."""
    channels, height, width = shape
    size = tuple(
        (n + before + after - k) // s + 1
        for n, before, after, k, s in zip(
            (height, width), pads[:2], pads[2:], kernel, stride, strict=True
        )
    )
    pooled = size
    if pool is not None:
        pooled = tuple(
            (n + before + after - k) // s + 1
            for n, before, after, k, s in zip(
                size, pool.pads[:2], pool.pads[2:], pool.kernel, pool.stride, strict=True
            )
        )
    scale = np.sqrt(2.0 / (channels * kernel[0] * kernel[1]))
    return ConvLayer(
        weights=(rng.standard_normal((maps, channels, *kernel)) * scale).astype(np.float32),
        bias=(rng.standard_normal(maps) * 0.3).astype(np.float32),
        stride=stride,
        pads=pads,
        activation=activation,
        pool=pool,
        input_shape=shape,
        output_shape=(maps, *size),
        pooled_shape=(maps, *pooled),
    )


def _pads(rng: np.random.Generator, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    kind = rng.integers(3)
    if kind == 0:
        return (0, 0, 0, 0)
    same = tuple((k - 1) // 2 for k in kernel), tuple(k // 2 for k in kernel)
    if kind == 1:
        return (*same[0], *same[1])
    return tuple(int(rng.integers(0, k)) for k in (*kernel, *kernel))


def _pool(rng: np.random.Generator, size: tuple[int, int]) -> Pool | None:
    k = int(rng.choice([2, 3]))
    if rng.random() < 0.35 or min(size) < k:
        return None
    kind = str(rng.choice(["max", "max", "average"]))
    stride = int(rng.integers(1, k + 1)), int(rng.integers(1, k + 1))
    pads = (0, 0, 0, 0)
    if kind == "max" and rng.random() < 0.3:
        pads = tuple(int(rng.integers(0, 2)) for _ in range(4))
    return Pool(kind, (k, k), stride, pads)


def _random_layer(
    rng: np.random.Generator, shape: tuple[int, int, int], *, last: bool
) -> ConvLayer | None:
    kernel = tuple(int(k) for k in rng.choice([1, 3, 3, 5, 7], 2))
    if rng.random() < 0.7:
        kernel = (kernel[0], kernel[0])
    stride = tuple(int(s) for s in rng.choice([1, 1, 2], 2))
    pads = _pads(rng, kernel)
    size = [
        (n + a + b - k) // s + 1
        for n, a, b, k, s in zip(shape[1:], pads[:2], pads[2:], kernel, stride, strict=True)
    ]
    if min(size) < 1 or any(
        (n - 1) * s - a >= m for n, s, a, m in zip(size, stride, pads[:2], shape[1:], strict=True)
    ):
        return None
    pool = None if last else _pool(rng, (size[0], size[1]))
    activation = (RELU, RELU, *ACTIVATIONS)[int(rng.choice(len(ACTIVATIONS) + 2))]
    return conv_layer(rng, shape, int(rng.choice(MAPS)), kernel, stride, pads, activation, pool)


def random_stack(rng: np.random.Generator, sides: tuple[int, int] = (5, 24)) -> Stack:
    """A stack anywhere within the limits of the fused engines, sides in `sides`."""
    shape = (int(rng.choice([1, 1, 3])), *(int(n) for n in rng.integers(*sides, size=2)))
    start, layers = shape, []
    count = int(rng.integers(1, 5))
    while len(layers) < count:
        last = len(layers) == count - 1
        layer = next(
            (made for _ in range(50) if (made := _random_layer(rng, shape, last=last)) is not None),
            None,
        )
        if layer is None:  # no more room: begin again
            shape, layers = start, []
            continue
        layers.append(layer)
        shape = layer.pooled_shape
    return Stack(start, tuple(layers))


def problem(
    seed: int, count: int = 3, sides: tuple[int, int] = (5, 24)
) -> tuple[Stack, Floats, Targets]:
    """A random stack with start images and a target for each."""
    rng = np.random.default_rng(seed)
    stack = random_stack(rng, sides)
    images = start_images(count, stack.input_shape, seed=seed)
    targets = rng.integers(stack.layers[-1].output_shape[0], size=count).astype(np.int32)
    return stack, images, targets


def by_torch(activation: Activation, z: torch.Tensor) -> torch.Tensor:
    """What torch makes of z: its functions have our names."""
    import torch

    if activation.kind == "none":
        return z
    parameters = () if activation.function.slope is None else (activation.slope,)
    return getattr(torch.nn.functional, activation.kind)(z, *parameters)


# --- how an answer is judged -----------------------------------------------------------------


@dataclass(frozen=True)
class Margin:
    """How near the reference's forward pass comes to a decision that rounding could flip."""

    smallest: float

    @property
    def tie(self) -> bool:
        return self.smallest < 3e-6


def margin(stack: Stack, image: NDArray[np.float32], target: int) -> Margin:
    """The smallest relative distance to a kink of a ReLU or to a pooling tie, one image."""
    traces, z = reference.forward(stack, image[None].astype(np.float64))
    nearest = [np.inf]
    for layer, trace in zip(stack.layers, traces, strict=False):
        nearest.append(_kink(layer.activation, trace.z))
        if layer.pool is not None and layer.pool.kind == "max":
            nearest.append(_pool_gap(layer, trace.z))
    nearest.append(_kink(stack.layers[-1].activation, z[:, target]))
    return Margin(min(nearest))


def _kink(activation: Activation, z: NDArray[np.float64]) -> float:
    below, above = activation.derivative(np.array([-1e-9, 1e-9]))
    if abs(above - below) < 1e-6:
        return np.inf
    return float(np.abs(z).min() / max(np.abs(z).max(), 1e-9))


def _pool_gap(layer: ConvLayer, z: NDArray[np.float64]) -> float:
    """Distance between the best and the second best of a window, where the best is alive.

    Exact ties (equal inputs, as in a padded border) are no matter of rounding: the rule
    of the first position decides them everywhere.
    """
    a = layer.activation.value(z)
    padded = reference._pad(a, layer.pool.pads, -np.inf)
    windows = reference._windows(
        padded, layer.pool.kernel, layer.pool.stride, layer.pooled_shape[1:]
    )
    two = np.sort(windows.reshape(*windows.shape[:4], -1), axis=-1)[..., -2:]
    gap = two[..., 1] - two[..., 0]
    alive = gap > 0
    if layer.activation.function.gates:
        alive &= two[..., 1] > 0
    return float(gap[alive].min() / max(np.abs(a).max(), 1e-9)) if alive.any() else np.inf


def relative_error(found: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Largest deviation over the largest true value; NaN counts as infinite."""
    error = np.abs(found.astype(np.float64) - truth).max(initial=0.0)
    scale = max(float(np.abs(truth).max(initial=0.0)), 1e-12)
    return float("inf") if np.isnan(error) else float(error / scale)


@dataclass(frozen=True)
class Errors:
    """Of all that an engine computes for one problem, beside the definition."""

    forward: list[float]  # scores, activations and values
    gradients: list[float]
    ties: int  # gradients left out: the definition itself is within rounding of a decision

    @property
    def largest(self) -> float:
        return max(self.forward + self.gradients)


def errors_of(engine: Engine, stack: Stack, images: Floats, targets: Targets) -> Errors:
    """Scores, activations and gradients of both objectives."""
    truth = ReferenceEngine(stack)
    forward = [relative_error(engine.activations(images), truth.activations(images))]
    gradient_errors, ties = [], 0
    for objective in ("activation", "preactivation"):
        scores = truth.score(images, objective)
        forward.append(relative_error(engine.score(images, objective), scores))
        values, gradients = engine.gradient(images, targets, objective)
        true_values, true_gradients = truth.gradient(images, targets, objective)
        forward.append(relative_error(values, true_values))
        for i, target in enumerate(targets):
            error = relative_error(gradients[i], true_gradients[i])
            if error > TOLERANCE and margin(stack, images[i], int(target)).tie:
                ties += 1
            else:
                gradient_errors.append(error)
    return Errors(forward, gradient_errors, ties)


def same_ascents(found: Ascents, exact: Ascents) -> bool:
    """Whether short ascents ended alike; they may not where rounding flipped a decision."""
    assert np.array_equal(np.isnan(found.history), np.isnan(exact.history))
    same = (
        relative_error(np.nan_to_num(found.history), np.nan_to_num(exact.history)) < 1e-4
        and relative_error(found.images, exact.images) < 1e-3
        and relative_error(found.snapshots, exact.snapshots) < 1e-3
    )
    if same:
        np.testing.assert_array_equal(found.steps, exact.steps)
        np.testing.assert_array_equal(found.stops, exact.stops)
        np.testing.assert_array_equal(found.woke, exact.woke)
        assert relative_error(found.activations, exact.activations) < 1e-4
        assert relative_error(found.preactivations, exact.preactivations) < 1e-4
    return same


# --- stacks as models --------------------------------------------------------------------------


def as_model(stack: Stack) -> onnx.ModelProto:
    """The ONNX model of a stack, for whatever reads models."""
    nodes, constants, tensor = [], {}, "image"
    for number, layer in enumerate(stack.layers, 1):
        names = [f"conv{number}.{part}" for part in ("weight", "bias")]
        constants |= dict(zip(names, (layer.weights, layer.bias), strict=True))
        convolution = {"strides": layer.stride, "pads": layer.pads}
        steps = [("Conv", names, convolution), _activation_node(layer.activation)]
        if layer.pool is not None:
            pool = layer.pool
            window = {"kernel_shape": pool.kernel, "strides": pool.stride, "pads": pool.pads}
            steps.append((f"{pool.kind.capitalize()}Pool", [], window))
        for op, more, attributes in filter(None, steps):
            nodes.append(helper.make_node(op, [tensor, *more], [f"t{len(nodes)}"], **attributes))
            tensor = nodes[-1].output[0]
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("image", 1, ["N", *stack.input_shape])],
        [helper.make_tensor_value_info(tensor, 1, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def _activation_node(activation: Activation) -> tuple[str, list[str], dict[str, float]] | None:
    if activation.kind == "none":
        return None
    own = activation.function.slope is not None
    return activation.function.operator, [], {"alpha": activation.slope} if own else {}
