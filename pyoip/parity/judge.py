"""The judge: a layer's forward pass as the model itself computes it, at images of its choice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fluctuations import start_images
from ..graph.original import Original
from ..graph.response import Response, response
from ..network import Layer, Network
from ..settings import Objective

Floats = NDArray[np.float32]
Exact = NDArray[np.float64]
Targets = NDArray[np.int32]

NOISE = 8 * float(np.finfo(np.float32).eps)

_ELSEWHERE = 2**32  # directions and images are different fluctuations


class Judge:
    """A layer, some images, and for each the map that it excites more than the others do.

    Parameters
    ----------
    network : Network
    layer : Layer
    count, seed : int
        Of the images.
    threads : int
        Of ONNX Runtime.
    before : bool
        Look at the layer before its activation function, whatever it does behind it.

    Attributes
    ----------
    runtime : str
        What runs the model.
    images : float32 (B, C, H, W)
    targets : int32 (B,)
    objective : {"activation", "preactivation"}
        What is compared: the preactivation where no image activates any map, or where a pooling
        stands before the activation function.
    exact : float64 (B, maps, positions)
        What the model computes at the images, before or after its activation function as
        `objective` says.
    """

    def __init__(
        self,
        network: Network,
        layer: Layer,
        *,
        count: int,
        seed: int,
        threads: int,
        before: bool = False,
    ) -> None:
        self._network, self.layer, self._threads = network, layer, threads
        self._model = network.original()
        shape = network.input_shape
        self.images: Floats = start_images(count, shape, seed=seed)
        elsewhere = range(_ELSEWHERE, _ELSEWHERE + count)
        others = start_images(indices=elsewhere, shape=shape, seed=seed).astype(np.float64)
        self._others: Exact = others / lengths(others)
        self._choose(response(network.graph, network.nodes[layer.node]), before=before)
        self.targets = favourites(self.scores, self.objective)

    def _choose(self, reply: Response, *, before: bool) -> None:
        """Choose the objective, and look at the images."""
        at_once = reply.source == reply.before and not before
        self.objective: Objective = "activation" if at_once else "preactivation"
        self._read(reply.after if at_once else reply.before)
        if self.objective == "activation" and not self.scores.any():  # all asleep
            self.objective = "preactivation"
            self._read(reply.before)

    def _read(self, tensor: str) -> None:
        self._forward = Original(self._model, tensor, self._threads)
        self.runtime = self._forward.runtime
        self.exact = self._maps(self.images)

    @property
    def scores(self) -> Exact:
        """Means over positions at the images, (B, maps)."""
        means: Exact = self.exact.mean(axis=2)
        return means

    def _maps(self, images: Floats) -> Exact:
        given = self._network.fed(images)
        found = [self._forward(image) for image in given]
        return np.stack([one.reshape(self.layer.maps, -1) for one in found]).astype(np.float64)

    def values(self, images: Floats) -> Exact:
        """Mean of map targets[i] at image i of others than its own, (B,)."""
        means: Exact = self._maps(images)[np.arange(len(images)), self.targets].mean(axis=1)
        return means

    def slopes(self, along: Exact, reach: float) -> Exact:
        """Mean slopes (B,) between `reach` of an image's length before and behind it."""
        up, down = (self.values(self.moved(along, end * reach)) for end in (1, -1))
        slopes: Exact = (up - down) / (2 * reach * lengths(self.images).ravel())
        return slopes

    def noise(self, reach: float) -> Exact:
        """What rounding of the model's own float32 values leaves of mean slopes, (B,)."""
        largest = np.abs(self.scores[np.arange(len(self.targets)), self.targets])
        noise: Exact = NOISE * largest / (2 * reach * lengths(self.images).ravel())
        return noise

    def moved(self, along: Exact, reach: float) -> Floats:
        """Images so many lengths away."""
        return (self.images + reach * lengths(self.images) * along).astype(np.float32)

    def directions(self, gradients: Exact) -> Iterator[tuple[Exact, bool]]:
        """Unit vectors (B, C, H, W): uphill, where fluctuations lead, and where nothing does.

        The last, told by True, moves only pixels whose gradient is exactly 0: those that a layer
        does not see, or that an engine has forgotten.
        """
        steep = lengths(gradients)
        yield np.where(steep > 0, gradients / np.maximum(steep, 1e-30), self._others), False
        yield self._others, False
        flat = np.where(gradients == 0, self._others, 0.0)
        if flat.any():
            yield flat / np.maximum(lengths(flat), 1e-30), True


def lengths(images: NDArray[Any]) -> Exact:
    """Euclidean lengths, (B, 1, 1, 1)."""
    squares: Exact = np.square(images.astype(np.float64)).sum(axis=(1, 2, 3), keepdims=True)
    return np.sqrt(squares)


def favourites(scores: Exact, objective: Objective) -> Targets:
    """For each image the map, awake, that it excites most beside what other images do."""
    beside = (scores - scores.mean(axis=0)) / np.maximum(scores.std(axis=0), 1e-12)
    awake = scores != 0
    any_map = ~awake.any(axis=1, keepdims=True) | (objective == "preactivation")
    chosen: Targets = np.where(awake | any_map, beside, -np.inf).argmax(axis=1).astype(np.int32)
    return chosen
