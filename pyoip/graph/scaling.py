"""How an image's numbers become what the network takes: pixels, mean and deviation, in the graph.

pyoip handles images whose pixels are 0 to 1 from black to white (or, standardised, numbers of
zero mean and unit deviation). A network that was trained on other numbers gets, channel by
channel, ``(low + (high - low) · x - mean) / std``. The two operations become nodes in front of
the network, so that whatever computes layers computes them as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument
from .node import Graph, Node

_RANGES = {  # ONNX's own metadata for images: docs/MetadataProps.md of its repository
    "NominalRange_0_255": (0.0, 255.0),
    "NominalRange_16_235": (16.0, 235.0),
    "Normalized_0_1": (0.0, 1.0),
    "Normalized_1_1": (-1.0, 1.0),
}


@dataclass(frozen=True)
class Scaling:
    """What black, white, mean and deviation are in the numbers that a network takes.

    Attributes
    ----------
    pixels : (low, high)
        Black and white before mean and deviation are applied; default 0 and 1.
    mean, std : tuple of float
        One for all channels, or one for each; default 0 and 1.
    """

    pixels: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def neutral(self) -> bool:
        """Tell whether the network takes images as they are."""
        return self == Scaling()

    @property
    def affine(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return gain and shift, one for all channels or one for each: gain · x + shift."""
        low, high = self.pixels
        mean, std = np.array(self.mean), np.array(self.std)
        gain, shift = np.broadcast_arrays((high - low) / std, (low - mean) / std)
        return gain, shift

    def __str__(self) -> str:
        text = f"pixels {self.pixels[0]:g} to {self.pixels[1]:g}"
        if set(self.mean) != {0.0}:
            text += f", mean {_listed(self.mean)}"
        return text if set(self.std) == {1.0} else f"{text}, std {_listed(self.std)}"


def _listed(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def make_scaling(
    pixels: Any, mean: Any, std: Any, metadata: Mapping[str, str], channels: int
) -> Scaling:
    """Return the scaling asked for; what is None comes from the metadata, or is neutral.

    Raises
    ------
    InvalidArgument
        Not numbers, a wrong count of them, ``low`` not below ``high``, or ``std`` not positive.
    """
    low_high = _pair(pixels) if pixels is not None else _declared(metadata)
    means = _per_channel("mean", mean, channels) if mean is not None else (0.0,)
    deviations = _per_channel("std", std, channels) if std is not None else (1.0,)
    if min(deviations) <= 0:
        raise InvalidArgument(f"std={std!r}: every value must be above 0")
    return Scaling(low_high, means, deviations)


def _pair(pixels: Any) -> tuple[float, float]:
    values = _numbers("pixels", pixels, "two numbers, black and white, as in (0, 255)")
    if len(values) != 2 or not values[0] < values[1]:
        raise InvalidArgument(f"pixels={pixels!r}: must be two numbers, the lower one first")
    return values[0], values[1]


def _per_channel(name: str, given: Any, channels: int) -> tuple[float, ...]:
    rule = f"a number, or one for each of {channels} channels"
    values = _numbers(name, given if np.iterable(given) else (given,), rule)
    if len(values) not in (1, channels):
        raise InvalidArgument(f"{name}={given!r}: must be {rule}")
    return values if len(set(values)) > 1 else values[:1]


def _numbers(name: str, given: Any, rule: str) -> tuple[float, ...]:
    try:
        values = tuple(float(value) for value in given)
    except (TypeError, ValueError):
        values = ()
    if not values or isinstance(given, str) or not all(map(math.isfinite, values)):
        raise InvalidArgument(f"{name}={given!r}: must be {rule}")
    return values


def _declared(metadata: Mapping[str, str]) -> tuple[float, float]:
    """Return what the model says of its pixels, in pyoip's own words or in those of ONNX."""
    own = re.fullmatch(r"(-?[\d.]+)\.\.(-?[\d.]+)", metadata.get("pyoip.pixels", ""))
    if own:
        return _pair(own.groups())
    return _RANGES.get(metadata.get("Image.NominalPixelRange", ""), (0.0, 1.0))


def scaled(graph: Graph, scaling: Scaling) -> Graph:
    """Return the graph with nodes in front that bring images to what the network takes."""
    if scaling.neutral:
        return graph
    gain, shift = scaling.affine
    shape = [1, 1, 1, 1]
    shape[graph.layout.index("C")] = gain.size
    names = {part: free(graph, f"pyoip.{part}") for part in ("image", "gain", "shift", "scaled")}
    if graph.image_type not in ("float32", "float64"):  # half precision knows no exact means
        graph = replace(graph, image_type="float32")
    kind = np.dtype(graph.image_type)
    constants = {
        names["gain"]: gain.reshape(shape).astype(kind),
        names["shift"]: shift.reshape(shape).astype(kind),
    }
    opset = max((node.opset for node in graph.nodes), default=13)
    nodes = (
        Node("Mul", "pixels", (names["image"], names["gain"]), (names["scaled"],), {}, opset),
        Node("Add", "pixels", (names["scaled"], names["shift"]), (graph.image,), {}, opset),
    )
    whole = graph.shapes[graph.image]
    shapes = {**graph.shapes, names["image"]: whole, names["scaled"]: whole}
    return replace(
        graph,
        nodes=(*nodes, *graph.nodes),
        constants={**graph.constants, **constants},
        shapes=shapes,
        image=names["image"],
    )


def free(graph: Graph, name: str) -> str:
    """Return a name that no tensor of `graph` has: `name`, lengthened where it is taken."""
    while name in graph.shapes or name in graph.constants:
        name += "_"
    return name


def own_layout(images: Any, layout: str, shape: tuple[int, int, int]) -> Any:
    """Return images (…, C, H, W) whose axes lie as the network's own; others as they are."""
    order = layout.replace("N", "")
    sizes = dict(zip("CHW", shape, strict=True))
    own = tuple(sizes[letter] for letter in order)
    try:
        given = np.shape(images)
    except ValueError:  # lists of unequal lengths: whoever takes the images says so
        return images
    ahead = len(given) - len(order)
    if given[-3:] == shape or ahead < 0 or given[ahead:] != own:
        return images
    axes = [*range(ahead), *(ahead + order.index(letter) for letter in "CHW" if letter in order)]
    return np.transpose(np.asarray(images), axes).reshape(*given[:ahead], *shape)


def to_layout(images: NDArray[Any], layout: str) -> NDArray[Any]:
    """Return images (n, C, H, W) with a network's own axes; those it leaves out are of length 1."""
    dropped = [letter for letter in "NCHW" if letter not in layout]
    turned = np.transpose(images, ["NCHW".index(letter) for letter in (*layout, *dropped)])
    return turned.reshape(turned.shape[: len(layout)])
