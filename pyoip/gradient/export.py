"""One step of an ascent as an ONNX file, for hosts in any language."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import onnx

from ..files import check_place, replacing
from ..network import load
from ..settings import Constraint, Objective, as_constraint, require
from .step import Place, locate, step_model


def export_step(
    model: Any,
    layer: int | str,
    path: str | os.PathLike[str],
    *,
    objective: Objective = "activation",
    update: bool = False,
    constraint: str | Constraint = "standardize",
    layout: str | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> onnx.ModelProto:
    """Write the ascent step of a layer as an ONNX model that any runtime executes.

    Only the part of the network up to the layer's activation is in it, and what goes back from
    there to the image. The host's loop, with ``update=True``, is::

        while better(activation):
            activation, gradient, image = step(image, map, step_size)

    Inputs
        ``image`` float32 (B, C, H, W), or with the network's own axes, as (B, C, L); ``map`` int64
        (B,), the map that each image is after, from 0; with `update` ``step_size`` float32 (B,),
        in units of the images' root mean square for ``"standardize"``.
    Outputs
        ``activation`` float32 (B,), the mean of the map over its positions (before the activation
        function if `objective` says so); ``gradient``, its derivative by the image; with `update`
        ``next_image``, brought to the constraint. B is open, all else is fixed.

    Parameters
    ----------
    model : str, path, onnx.ModelProto, torch.nn.Module or Network
        See `pyoip.load`; its scaling of pixels becomes part of the step.
    layer : int or str
        Number from 1, or name.
    path : path
        The file; an earlier one is replaced once the new one is complete.
    objective : {"activation", "preactivation"}
    update : bool
        Put the next image out: one step of the rule in `pyoip.reference`, without momentum. A map
        that its ReLU silences everywhere is then followed on its highest preactivation, in
        ``gradient`` as well; without `update` its gradient is exactly 0.
    constraint : {"standardize", "clip"} or Constraint
        Of the next image.
    layout : {"NCHW", "NHWC", "NCW", "NWC"}, optional
        Axes of images; default those of the model itself. Without H only for signals.
    input_shape : (C, H, W), or (C, L) of signals, optional
        Where the model leaves it open; see `pyoip.load`.

    Returns
    -------
    onnx.ModelProto
        What was written: operators of ONNX's default domain, opset 18 or that of the model if
        it is later. Its ``metadata_props`` say what it is of.

    Raises
    ------
    UnsupportedOperator
        A node on the way has no known gradient; named with its path from the image.
    ModelError, InvalidArgument

    Examples
    --------
    >>> import pyoip
    >>> step = pyoip.export_step("mnist", "conv2", "step.onnx", update=True)
    >>> [value.name for value in step.graph.output]
    ['activation', 'gradient', 'next_image']
    """
    known = get_args(Objective)
    require(objective in known, "objective", objective, f"one of {known}")
    require(isinstance(update, bool), "update", update, "True or False")
    rule = as_constraint(constraint)
    network = load(model, input_shape=input_shape)
    layouts = ("NCHW", "NHWC", "NCW", "NWC")[: 4 if network.input_shape[1] == 1 else 2]
    require(
        layout in (None, *layouts), "layout", layout, f"{', '.join(map(repr, layouts))} or None"
    )
    place = locate(network, layer)
    derived = step_model(place, objective, rule if update else None, layout)
    onnx.helper.set_model_props(derived, _facts(place, objective, rule if update else None))
    onnx.checker.check_model(derived, full_check=True)
    file = Path(path)
    check_place(file)
    with replacing(file) as temporary:
        temporary.write_bytes(derived.SerializeToString(deterministic=True))
    return derived


def _facts(place: Place, objective: str, constraint: Constraint | None) -> dict[str, str]:
    layer = place.network.layers[place.number - 1]
    facts = {
        "pyoip.network": place.network.name,
        "pyoip.sha256": place.network.sha256,
        "pyoip.layer": f"{layer.number} ({layer.name})",
        "pyoip.maps": str(layer.maps),
        "pyoip.objective": objective,
        "pyoip.scaling": str(place.network.scaling),
    }
    if constraint is not None:
        box = f" {constraint.low:g}..{constraint.high:g}" if constraint.kind == "clip" else ""
        facts["pyoip.constraint"] = constraint.kind + box
    try:
        facts["pyoip.version"] = metadata.version("pyoip")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        facts["pyoip.version"] = "unknown"
    return facts
