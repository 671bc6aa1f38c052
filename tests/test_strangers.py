"""Every convolution layer of other people's models: gradients beside torch's, and OIPs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, STRANGERS, needs_strangers
from problems import relative_error
from untouched import LINES, Untouched, all_layers, line_error, means, some_layers

import pyoip
from pyoip.engines.onnx import OnnxEngine

sys.path.append(str(ROOT / "benchmarks"))

from peers.torch_graph import TorchGraph

NAMES = (
    *("avgpool_digits", "cifar_base_kw", "cntk_mnist", "depthwise_mnist"),
    *("lenet5_mnist", "mesonet_nhwc", "residual_mnist", "tanh_lenet_32"),
)
EACH = [needs_strangers, pytest.mark.parametrize("name", NAMES)]
TOLERANCE = 1e-5  # float32 through up to 21 layers, relative to the largest value
IMAGES = 3


def _each(test):
    for mark in EACH:
        test = mark(test)
    return test


@_each
def test_gradients_of_every_layer_are_those_of_torch(name: str) -> None:
    """In float64, and at most one image of a layer near a decision that rounding may flip."""
    network = pyoip.load(STRANGERS / f"{name}.onnx")
    images = pyoip.start_images(IMAGES, network.input_shape, seed=5)
    own = images.transpose(0, 2, 3, 1) if network.layout == "NHWC" else images
    for layer in network.layers:
        engine = OnnxEngine(network, layer.number)
        targets = engine.score(images, "activation").argmax(axis=1).astype(np.int32)
        values, gradients = engine.gradient(images, targets, "activation")
        conv = network.nodes[layer.node].outputs[0]
        truth = TorchGraph(network.graph, conv, torch.contiguous_format).double()
        exact, slopes = truth.gradient(torch.tensor(own).double(), torch.tensor(targets).long())
        assert relative_error(values[:, 0], exact.numpy()) < TOLERANCE
        expected = slopes.numpy()
        if network.layout == "NHWC":
            expected = expected.transpose(0, 3, 1, 2)
        errors = [relative_error(g, e) for g, e in zip(gradients, expected, strict=True)]
        assert np.abs(expected).max() > 0
        assert sorted(errors)[IMAGES - 2] < TOLERANCE, (layer.name, errors)


@_each
def test_scores_are_those_of_the_untouched_model(name: str) -> None:
    """ONNX Runtime's own forward pass, one image at a time, with the layers as extra outputs."""
    network = pyoip.load(STRANGERS / f"{name}.onnx")
    truth = Untouched(network, all_layers(network))
    images = pyoip.start_images(IMAGES, network.input_shape, seed=6)
    tensors = truth.run(images)
    for layer in network.layers:
        found = OnnxEngine(network, layer.number).score(images, "preactivation")
        exact = means(tensors[truth.before[layer.number]])
        for one, other in zip(found, exact, strict=True):
            assert relative_error(one, other) < TOLERANCE, layer.name


@_each
def test_gradients_add_up_to_what_the_untouched_model_does(name: str) -> None:
    network = pyoip.load(STRANGERS / f"{name}.onnx")
    images = pyoip.start_images(2, network.input_shape, seed=3)
    for number in some_layers(network):
        assert line_error(network, number, images, LINES) < LINES, number


@_each
def test_every_layer_gives_oips(name: str) -> None:
    network = pyoip.load(STRANGERS / f"{name}.onnx")
    large = network.input_shape[1] > 64
    few = {"candidates": 8, "trials": 2, "starts": 2, "kicks": 0, "steps": 4 if large else 16}
    for layer in network.layers:
        result = pyoip.ascend(network, layer.number, maps=[0, 1], **few)
        assert result.images.shape == (2, *network.input_shape)
        first, best = result.history[:, 0], result.activations
        assert (best >= first).all()
        assert np.isfinite(result.images).all()
