"""The truth about a model of strangers: ONNX Runtime's own forward pass of it as it was given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import inliner

import pyoip
from pyoip.engines.base import Floats, Targets
from pyoip.engines.onnx import OnnxEngine
from pyoip.graph.response import response

LONG = 0.25
"""Length of a line, as a fraction of the way from one start image to another."""

POINTS = (48, 192, 768)
"""Of a line: the gradient is taken at so many, at more of them while kinks lie too close."""

SCORES = 1e-5
"""float32 through up to 61 layers, relative to the largest value of a map; measured 1e-6."""

LINES = 3e-3
"""Kinks of up to 61 layers of ReLU between the points of a line; smooth networks: below 1e-4."""


class Untouched:
    """The model of a network with the maps of some layers as extra outputs, image by image."""

    def __init__(self, network: pyoip.Network, layers: Sequence[int]) -> None:
        model = network.original()
        if model.functions:
            model = inliner.inline_local_functions(model)
        replies = [
            response(network.graph, network.nodes[network.layers[number - 1].node])
            for number in layers
        ]
        self.before = dict(zip(layers, (reply.before for reply in replies), strict=True))
        self.after = dict(zip(layers, (reply.after for reply in replies), strict=True))
        self._wanted = list(dict.fromkeys([*self.before.values(), *self.after.values()]))
        given = onnx.ModelProto()
        given.CopyFrom(model)
        known = {value.name for value in given.graph.output}
        extra = (onnx.ValueInfoProto(name=name) for name in self._wanted if name not in known)
        given.graph.output.extend(extra)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        # As it stands in the file: fused operators of quantised models round otherwise.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            given.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        weights = {tensor.name for tensor in given.graph.initializer}
        (self._image,) = [v for v in self._session.get_inputs() if v.name not in weights]
        self._nhwc = network.layout == "NHWC"

    def run(self, images: Floats) -> dict[str, Floats]:
        """Return (B, maps, h, w) by the names of `before` and `after`."""
        kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64}
        own = images.transpose(0, 2, 3, 1) if self._nhwc else images
        own = own.astype(kind.get(self._image.type, np.float32))
        found = [self._one(image) for image in own]
        joined = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return dict(zip(self._wanted, joined, strict=True))

    def _one(self, image: Floats) -> list[Floats]:
        """Run one image, as often as the model demands, and return what came of the first."""
        count = self._image.shape[0] if isinstance(self._image.shape[0], int) else 1
        batch = np.repeat(image[None], count, axis=0)
        return [part[:1] for part in self._session.run(self._wanted, {self._image.name: batch})]


def means(maps: Floats) -> Floats:
    """Return what maps (B, maps, h, w) score, or those of a signal inside, (B, maps, l)."""
    return np.asarray(maps, np.float64).mean(axis=tuple(range(2, np.ndim(maps))))


def assert_scores(
    network: pyoip.Network,
    layers: Sequence[int],
    images: Floats,
    tolerance: float,
) -> None:
    """Check both scores of all maps beside the untouched model."""
    truth = Untouched(network, layers)
    tensors = truth.run(images)
    for number in layers:
        engine = OnnxEngine(network, number, threads=1)
        for objective, names in (("preactivation", truth.before), ("activation", truth.after)):
            maps = tensors[names[number]]
            error = np.abs(engine.score(images, objective) - means(maps)).max() / size_of(maps)
            assert error < tolerance, (network.layers[number - 1].name, objective, error)


def size_of(maps: Floats) -> float:
    """Return the largest value: normalised maps have means of nearly 0."""
    return float(np.abs(maps).max()) or 1.0


def line_error(network: pyoip.Network, number: int, images: Floats, tolerance: float) -> float:
    """Return by how much the gradient along a line misses what the untouched model does there.

    The line leads from the first image some way to the second, for the map that changes most.
    However many kinks a network has, and wherever they lie, a true gradient adds up to the
    difference of the values at both ends; differences this large are not lost to rounding, as
    those of near points would be. It is added up by the rule of the midpoint, and where kinks lie
    too close, or maps are normalised by small numbers, at more points: a wrong gradient adds up to
    something else at however many. The error is relative to the sum of all changes, or what
    rounding leaves of the values where these hardly change.
    """
    truth = Untouched(network, [number])
    start = images[0]
    end = (start + LONG * (images[1] - start)).astype(np.float32)
    maps = truth.run(np.stack([start, end]))[truth.after[number]]
    changes = np.subtract(*means(maps)[::-1])
    assert maps.any(), "a layer that is 0 everywhere shows nothing"
    target = int(np.abs(changes).argmax())
    engine = OnnxEngine(network, number, threads=1)
    error = np.inf
    for points in POINTS:
        shares = ((np.arange(points) + 0.5) / points)[:, None, None, None]
        between = (start + shares * (end - start)).astype(np.float32)
        targets: Targets = np.full(points, target, np.int32)
        _, slopes = engine.gradient(between, targets, "activation")
        steps = (np.float64(slopes) * (end - start)).sum(axis=(1, 2, 3))
        least = 1e-4 * size_of(maps)
        error = abs(changes[target] - steps.mean()) / max(np.abs(steps).mean(), least)
        if error < tolerance:
            break
    return float(error)


def assert_rises(network: pyoip.Network, number: int) -> None:
    """Check that a short ascent raises a map, to what the untouched model says of the image."""
    few = {"candidates": 6, "trials": 2, "starts": 1, "kicks": 0, "steps": 8, "engine": "onnx"}
    result = pyoip.ascend(network, number, **few)
    rises = result.activations - result.history[:, 0]
    assert (rises >= 0).all()
    assert rises.max() > 0
    truth = Untouched(network, [number])
    best = int(rises.argmax())
    maps = truth.run(result.images[best : best + 1])[truth.after[number]]
    error = abs(means(maps)[0, best] - result.activations[best]) / size_of(maps)
    assert error < 5e-3, error  # as coarse as half precision


def all_layers(network: pyoip.Network) -> list[int]:
    return [layer.number for layer in network.layers]


def some_layers(network: pyoip.Network) -> list[int]:
    """Return the first, the middle one and the last."""
    count = len(network.layers)
    return sorted({1, (count + 1) // 2, count})


def check(
    network: pyoip.Network,
    layers: Sequence[int],
    scores: float = SCORES,
    lines: float = LINES,
) -> None:
    """Check the scores and the gradients of some layers beside the untouched model."""
    images = pyoip.start_images(3, network.input_shape, seed=3)
    assert_scores(network, layers, images, scores)
    for number in layers:
        error = line_error(network, number, images, lines)
        assert error < lines, (network.layers[number - 1].name, error)
