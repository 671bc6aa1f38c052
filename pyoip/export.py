"""Write a trained torch network as one ONNX file, checked against torch, with its facts inside.

Importing this module imports neither torch nor onnx.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import Bytes
from .errors import ModelError
from .files import replacing

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 18
# Largest difference between a logit of the exported file and torch's, relative to the largest
# logit. float32 sums of 1152 terms in another order differ by about 1e-6; a wrong weight,
# a swapped axis or a missing layer differs by far more than this.
TOLERANCE = 1e-4
VERIFIED_IMAGES = 500
BATCH = 500

Maxima = dict[str, dict[str, dict[str, list[float]]]]


def unit_pixels(images: torch.Tensor) -> torch.Tensor:
    """Bring bytes (B, 28, 28) to float32 (B, 1, 28, 28) with pixels 0 to 1."""
    return images[:, None].float() / 255


def standardised(images: torch.Tensor) -> torch.Tensor:
    """Bring bytes (B, 28, 28) to float32 (B, 1, 28, 28), each of zero mean and deviation 1.

    The deviation is that of the population; an image of one grey becomes zero everywhere.
    """
    pixels = images[:, None].double()
    centred = pixels - pixels.mean((1, 2, 3), keepdim=True)
    deviation = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
    return (centred / deviation.clamp(min=1e-7)).float()


CONSTRAINTS = {"standardize": standardised, "clip": unit_pixels}


def accuracy(network: torch.nn.Module, images: Bytes, labels: Bytes) -> float:
    """Share, 0 to 1, of the images (N, 28, 28) that the network classifies rightly."""
    import torch

    right = 0
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            classes = network(unit_pixels(torch.tensor(images[part]))).argmax(1).numpy()
            right += int((classes == labels[part]).sum())
    return right / len(images)


def map_maxima(network: torch.nn.Sequential, images: Bytes) -> Maxima:
    """Largest mean response of every map of every conv layer over real images.

    Parameters
    ----------
    network : torch.nn.Sequential
        Conv layers, each followed by a ReLU.
    images : ndarray of uint8, shape (N, 28, 28)
        The images, brought to each constraint in turn.

    Returns
    -------
    dict
        ``maxima[layer][constraint][objective]`` is a list with one float per map; layers are
        "1", "2", ...; constraints "standardize" and "clip"; objectives "activation" and
        "preactivation". A response is the mean over the map's positions; float32 of 8 digits.
    """
    import torch

    best: dict[tuple[str, str, str], torch.Tensor] = {}
    with torch.no_grad():
        for constraint, prepare in CONSTRAINTS.items():
            for part in torch.split(torch.tensor(images), BATCH):
                for layer, objective, values in _responses(network, prepare(part)):
                    key = (layer, constraint, objective)
                    top = values.amax(0)
                    best[key] = torch.maximum(best[key], top) if key in best else top
    maxima: Maxima = {}
    for (layer, constraint, objective), top in best.items():
        digits = [float(f"{value:.8g}") for value in top.float().tolist()]
        maxima.setdefault(layer, {}).setdefault(constraint, {})[objective] = digits
    return maxima


def _responses(
    network: torch.nn.Sequential, x: torch.Tensor
) -> Iterator[tuple[str, str, torch.Tensor]]:
    import torch

    layer = 0
    for module in network:
        x = module(x)
        if isinstance(module, torch.nn.Conv2d):
            layer += 1
            yield str(layer), "preactivation", x.mean((2, 3), dtype=torch.float64)
        elif isinstance(module, torch.nn.ReLU) and x.ndim == 4:
            yield str(layer), "activation", x.mean((2, 3), dtype=torch.float64)


def write_onnx(
    network: torch.nn.Module, images: Bytes, facts: Mapping[str, str], path: Path
) -> None:
    """Export a network, verify the export with onnxruntime, and only then put it in place.

    The file has a dynamic batch, input "image" (batch, 1, 28, 28), output "logits", the weights
    inside, and no trace of the machine that it was made on.

    Parameters
    ----------
    network : torch.nn.Module
        From (B, 1, 28, 28) pixels 0 to 1 to (B, classes) logits.
    images : ndarray of uint8, shape (N, 28, 28)
        Real images; the first 500 verify the export.
    facts : Mapping[str, str]
        Becomes the model's ``metadata_props``.
    path : Path
        The file. What was there before stays as it was unless all went well.

    Raises
    ------
    ModelError
        When a logit differs from torch's by more than 1e-4 of the largest.
    """
    import onnx

    model = to_onnx(network)
    verify(model, network, images[:VERIFIED_IMAGES])
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def to_onnx(network: torch.nn.Module) -> onnx.ModelProto:
    """Export a network of one 28x28 image input in memory, without the exporter's notes."""
    import torch

    with _quiet():
        program = torch.onnx.export(
            network.eval(),
            # Two images: an example of one would fix the batch at one.
            (torch.zeros(2, 1, 28, 28),),
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            external_data=False,
        )
    if program is None:
        raise ModelError("the network: torch.onnx.export returned nothing: use torch 2.6 or newer")
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back the exporter's remarks on torchvision and its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip(model: onnx.ModelProto) -> None:
    """Remove doc strings and exporter metadata: stack traces, paths, names of torch's objects."""
    graph = model.graph
    parts: tuple[Any, ...] = (model, graph, *graph.node, *graph.initializer)
    for part in (*parts, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    weights = {value.name for value in graph.initializer}
    shapes = [value for value in graph.value_info if value.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(shapes)


def verify(model: onnx.ModelProto, network: torch.nn.Module, images: Bytes) -> float:
    """Compare an exported model with its network, as one batch and as a single image.

    Returns
    -------
    float
        Largest difference of a logit, relative to the largest logit.

    Raises
    ------
    ModelError
        When that is more than `TOLERANCE`, or not a number.
    """
    import onnxruntime
    import torch

    batch = unit_pixels(torch.tensor(images))
    with torch.no_grad():
        expected = network(batch).numpy()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    differences = [
        np.abs(session.run(["logits"], {"image": batch[:count].numpy()})[0] - expected[:count])
        for count in (len(images), 1)
    ]
    worst = float(np.max([part.max() for part in differences]) / np.abs(expected).max())
    if not worst <= TOLERANCE:
        raise ModelError(
            f"the exported file: its logits differ from torch's by {worst:.1e} of the largest,"
            f" must be at most {TOLERANCE:.0e}: not written"
        )
    return worst


def facts(settings: Mapping[str, Any], score: float, maxima: Maxima, count: int) -> dict[str, str]:
    """Gather what the file says about itself, as ONNX ``metadata_props``.

    Parameters
    ----------
    settings : Mapping[str, Any]
        Of the training; "dataset" among them.
    score : float
        Test accuracy, 0 to 1.
    maxima : dict
        From `map_maxima`.
    count : int
        How many test images there were.
    """
    dataset = settings["dataset"]
    return {
        "pyoip.dataset": dataset,
        "pyoip.pixels": "0..1",
        "pyoip.accuracy": f"{score:.4f}",
        "pyoip.version": _version(),
        "pyoip.training": json.dumps(settings),
        "pyoip.real_maxima": json.dumps({"images": f"{dataset} test, {count}", "layers": maxima}),
    }


def _version() -> str:
    try:
        return metadata.version("pyoip")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
