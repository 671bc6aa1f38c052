"""Networks: loading and checking a model, its convolution layers, and how they are asked for.

Example
-------
>>> import pyoip
>>> network = pyoip.load("mnist")
>>> [layer.maps for layer in network.layers]
[32, 64, 128]
"""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto
from onnx.external_data_helper import load_external_data_for_model

from .errors import InvalidArgument, ModelError
from .graph.build import build_graph
from .graph.file import parse, read_file, serialize
from .graph.layers import usable
from .graph.metadata import read_maxima, read_metadata
from .graph.module import SOURCE as MODULE_SOURCE
from .graph.module import export_module, is_module
from .graph.node import Graph, Node, Shape, fail, plain, quote
from .graph.scaling import Scaling, make_scaling, own_layout, scaled, to_layout
from .graph.select import find_layer, parse_maps, split_spec
from .layers import Layer, layers_of, table

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MODELS", "Layer", "Network", "load"]

MODELS = Path(__file__).with_name("models")
"""Folder of the trained networks that ship with the package."""

_SHIPPED = ("mnist",)

Image = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Network:
    """A checked network and its convolution layers; made by `load`.

    Attributes
    ----------
    name : str
        ``"mnist"`` for the shipped one, else the file's stem, the graph's or the class's name.
    source : str
        Path of the file, ``"<ModelProto>"`` or ``"<torch module>"``.
    input_shape : (C, H, W)
        Of one image as pyoip handles it, whatever the model's own layout; of a signal (C, 1, L).
    layers : tuple of Layer
    metadata : dict
        The model's own notes (ONNX ``metadata_props``).
    sha256 : str
        Of the serialized model.
    scaling : Scaling
        How an image's numbers become what the model takes.
    graph : Graph
        Plain nodes, constants and shapes that the layers depend on, free of ONNX types.
    """

    name: str
    source: str
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    metadata: dict[str, str]
    sha256: str
    scaling: Scaling
    graph: Graph = field(repr=False)
    _proto: ModelProto | None = field(repr=False, default=None)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes that the layers depend on, in order."""
        return self.graph.nodes

    @property
    def layout(self) -> str:
        """Return the meaning of the axes of the model's own input.

        ``"NCHW"``, ``"NHWC"``; of signals, whose height is left out, ``"NCW"``, ``"NWC"``.
        """
        return self.graph.own_layout

    def planes(self, images: Any) -> Any:
        """Return images (…, C, H, W); those in the model's own layout are brought to it."""
        return own_layout(images, self.layout, self.input_shape)

    def fed(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return images (n, C, H, W) with the axes and in the numbers that the model takes."""
        gain, shift = (part.reshape(-1, 1, 1) for part in self.scaling.affine)
        scaled_images = images if self.scaling.neutral else gain * images + shift
        return to_layout(scaled_images, self.layout)

    def original(self) -> ModelProto:
        """Return the model as it was given, read again where it has a file.

        Raises
        ------
        ModelError
            The file is gone or has changed.
        """
        if self._proto is not None:
            return self._proto
        data = read_file(Path(self.source), self.source)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise fail(self.source, "has changed since it was loaded", "load it again")
        model = parse(data, self.source)
        load_external_data_for_model(model, str(Path(self.source).parent))
        return model

    def layer(self, spec: int | str) -> Layer:
        """Return the layer that `spec`, a number from 1 or a name, asks for.

        Raises
        ------
        InvalidArgument
            No such layer; the message lists the valid ones.

        Example
        -------
        >>> import pyoip
        >>> pyoip.load("mnist").layer(2).maps
        64
        """
        names = [layer.name for layer in self.layers]
        return self.layers[find_layer(spec, names, [layer.aliases for layer in self.layers])]

    def select(self, spec: int | str, maps: Any = None) -> tuple[Layer, NDArray[np.int64]]:
        """Return the layer and the map numbers that `spec` and `maps` ask for.

        Parameters
        ----------
        spec : int or str
            A layer as in `layer`; a text may add maps: ``"conv2:17"``, ``"2:3,5,8-11"``.
        maps : None, int, range, slice or list of int
            Maps counted from 0; None (default) stands for those in `spec`, or else all.

        Raises
        ------
        InvalidArgument
            No such layer or map, or maps given in both ways.

        Example
        -------
        >>> import pyoip
        >>> pyoip.load("mnist").select("2:3,5,8-11")[1].tolist()
        [3, 5, 8, 9, 10, 11]
        """
        names = [layer.name for layer in self.layers]
        index, text = split_spec(spec, names, [layer.aliases for layer in self.layers])
        if text is not None and maps is not None:
            raise InvalidArgument(
                f"layer {quote(spec)} names maps; maps={quote(maps)} must be left out"
            )
        layer = self.layers[index]
        return layer, parse_maps(maps if text is None else text, layer.maps, layer.name)

    def real_maxima(
        self, layer: int, constraint: str, objective: str
    ) -> NDArray[np.float32] | None:
        """Return the best objective of real images per map, if the model's metadata has it.

        Parameters
        ----------
        layer : int
            Number of the layer.
        constraint : {"standardize", "clip"}
            How the images were brought into the constraint.
        objective : {"activation", "preactivation"}

        Returns
        -------
        float32 array of shape (maps,), or None
            None also where the images are scaled otherwise than the model's metadata says.
        """
        if self.scaling != make_scaling(None, None, None, self.metadata, self.input_shape[0]):
            return None
        table = read_maxima(self.metadata, self.source, [item.maps for item in self.layers])
        values = table.get((layer, constraint, objective))
        return None if values is None else values.copy()

    def __str__(self) -> str:
        channels, height, width = self.input_shape
        title = f"{self.name}: input {channels} x {height} x {width}"
        title += "" if self.layout == "NCHW" else f" (the model's own layout is {self.layout})"
        title += "" if self.scaling.neutral else f", {self.scaling}"
        return title + "\n" + table(self.layers)


# --- loading ---------------------------------------------------------------------------------


def load(
    model: Any,
    *,
    input_shape: tuple[int, ...] | None = None,
    pixels: tuple[float, float] | None = None,
    mean: float | tuple[float, ...] | None = None,
    std: float | tuple[float, ...] | None = None,
) -> Network:
    """Load a network, check it, and list its convolution layers.

    Parameters
    ----------
    model : str, Path, onnx.ModelProto, torch.nn.Module or Network
        ``"mnist"`` is the network that ships with the package. A torch module is exported in
        memory, in evaluation mode, and left as it was. A `Network` is returned as it is.
    input_shape : (C, H, W), or (C, L) of signals, optional
        Size of the images in pixels; needed only where the model leaves it open, as torch modules
        do. The default takes what the model fixes.
    pixels : (low, high), optional
        What black and white are in the numbers that the model takes: ``(0, 255)``, ``(-1, 1)``.
        pyoip's images are 0 to 1 (or standardised) whatever the model takes. The default is
        what the model's metadata says (``pyoip.pixels`` or ONNX's ``Image.NominalPixelRange``),
        else 0 and 1.
    mean, std : float or one per channel, optional
        What is subtracted from pixels, and what they are divided by then, as torchvision's
        ``Normalize`` does; default 0 and 1.

    Raises
    ------
    ModelError
        Not a model, damaged, or without convolution layers that can be listed. One line that
        names the model, the node, and the remedy.
    InvalidArgument
        `model` is of another type, `input_shape` contradicts the model, or the scaling is none.

    Example
    -------
    >>> import pyoip
    >>> print(pyoip.load("mnist").input_shape)
    (1, 28, 28)
    """
    scaling = (pixels, mean, std)
    if isinstance(model, Network):
        if scaling != (None, None, None):
            raise InvalidArgument("pixels, mean and std belong to the first load of a model")
        return model
    network = _loaded(model, _checked_shape(input_shape))
    chosen = make_scaling(*scaling, network.metadata, network.input_shape[0])
    return network if chosen.neutral else _rescaled(network, chosen)


def _rescaled(network: Network, scaling: Scaling) -> Network:
    graph = scaled(network.graph, scaling)
    return replace(network, scaling=scaling, graph=graph, layers=layers_of(graph))


def _loaded(model: Any, shape: Shape | None) -> Network:
    if isinstance(model, ModelProto):
        return _guarded("<ModelProto>", lambda: _from_proto(model, shape))
    if is_module(model):
        return _guarded(MODULE_SOURCE, lambda: _from_module(model, shape))
    if not isinstance(model, str | os.PathLike):
        raise InvalidArgument(
            f"model of type {type(model).__name__}; must be 'mnist', a path, an onnx.ModelProto, "
            "a torch.nn.Module or a Network"
        )
    shipped = isinstance(model, str) and model in _SHIPPED
    path = MODELS / f"{model}.onnx" if shipped else Path(model)
    return _guarded(str(path), lambda: _from_file(path, shape))


def _checked_shape(shape: Any) -> Shape | None:
    if shape is None:
        return None
    try:
        sizes = tuple(operator.index(n) for n in shape)
    except TypeError:
        sizes = ()
    if len(sizes) not in (2, 3):
        raise InvalidArgument(
            f"input_shape={plain(repr(shape))}: must be three numbers (C, H, W), or (C, L) for "
            "signals"
        )
    if min(sizes) < 1 or max(sizes) > 2**16:
        raise InvalidArgument(f"input_shape={plain(repr(shape))}: each must be 1..65536")
    return sizes


def _guarded(source: str, read: Callable[[], Network]) -> Network:
    """Call `read`; whatever damage our checks did not foresee still becomes a `ModelError`."""
    try:
        return read()
    except (ModelError, InvalidArgument):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {plain(error)}"
        raise fail(source, f"cannot be read ({reason})", "fetch or export it again") from error


@dataclass(frozen=True)
class _Origin:
    """Where a model comes from: its name, what messages call it, its folder, its checksum."""

    name: str
    source: str
    folder: Path | None
    sha256: str
    proto: ModelProto | None = None


def _from_file(path: Path, shape: Shape | None) -> Network:
    source = str(path)
    data = read_file(path, source)
    model = parse(data, source)
    origin = _Origin(path.stem, source, path.parent, hashlib.sha256(data).hexdigest())
    return _network(model, origin, shape)


def _from_proto(model: ModelProto, shape: Shape | None) -> Network:
    source = "<ModelProto>"
    sha256 = hashlib.sha256(serialize(model, source)).hexdigest()
    given = model.graph.name
    name = given if isinstance(given, str) and usable(given) else "model"
    return _network(model, _Origin(name, source, None, sha256, model), shape)


def _from_module(module: Any, shape: Shape | None) -> Network:
    model = export_module(module, shape)
    sha256 = hashlib.sha256(serialize(model, MODULE_SOURCE)).hexdigest()
    origin = _Origin(type(module).__name__, MODULE_SOURCE, None, sha256, model)
    return _network(model, origin, shape)


def _network(model: ModelProto, origin: _Origin, shape: Shape | None) -> Network:
    source = origin.source
    graph = build_graph(model, source, origin.folder, shape)
    layers = layers_of(graph)
    if not layers:
        raise fail(
            source,
            "no convolution along one or two axes",
            "pass a network for images (N, C, H, W) or signals (N, C, L)",
        )
    metadata = read_metadata(model, source)
    read_maxima(metadata, source, [layer.maps for layer in layers])
    dims = dict(zip(graph.layout, graph.shapes[graph.image], strict=True))
    size = (dims["C"], dims["H"], dims["W"])
    return Network(
        origin.name,
        source,
        size,
        layers,
        metadata,
        origin.sha256,
        Scaling(),
        graph,
        origin.proto,
    )
