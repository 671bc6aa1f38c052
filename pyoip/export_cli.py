"""``pyoip export-step`` and ``pyoip export-web``: what goes to hosts without Python."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any

from . import options as o
from .settings import Settings

EXPORT_STEP = "Example:  pyoip export-step mnist --layer conv2 --update --out step.onnx"
EXPORT_WEB = (
    "Examples:\n\n"
    "pyoip export-web mnist page\n\n"
    "pyoip export-web my.onnx page --layers 1,2 --runtime node_modules/onnxruntime-web"
)


def export_step(
    model: o.Model,
    layer: o.LayerSpec = "1",
    out: o.StepFile = None,
    update: o.Update = False,
    layout: o.Layout = None,
    objective: o.Objective = Settings.objective,
    constraint: o.ConstraintKind = Settings.constraint.kind,
    low: o.Low = None,
    high: o.High = None,
    input_shape: o.InputShape = None,
    pixels: o.Pixels = None,
    mean: o.Mean = None,
    std: o.Std = None,
    quiet: o.Quiet = False,
) -> None:
    """Write a layer's ascent step, forward and gradient, as an ONNX model for any runtime."""
    from .gradient import export_step as run

    network = o.network_from(model, input_shape, pixels, mean, std)
    target = network.layer(layer)
    path = out or Path(f"{o.file_name(network.name)}_layer{target.number}_step.onnx")
    rule = o.constraint_from(constraint, low, high)
    chosen: Any = objective
    step = run(
        network,
        target.number,
        path,
        objective=chosen,
        update=update,
        constraint=rule,
        layout=layout,
    )
    if not quiet:
        print(f"{path}: {network.name}, layer {target.number} ({target.name})")
        for title, values in (("in", step.graph.input), ("out", step.graph.output)):
            for value in values:
                dims = value.type.tensor_type.shape.dim
                sides = " x ".join(d.dim_param or str(d.dim_value) for d in dims)
                print(f"  {title:<5}{value.name:<12}{sides}")


def export_web(
    model: o.Model,
    directory: o.PageFolder,
    layers: o.Layers = None,
    title: o.PageTitle = None,
    runtime: o.Runtime = None,
    objective: o.Objective = Settings.objective,
    constraint: o.ConstraintKind = Settings.constraint.kind,
    low: o.Low = None,
    high: o.High = None,
    scales: o.Scales = None,
    weights: o.Weights = None,
    smoothing: o.Smoothing = 0,
    input_shape: o.InputShape = None,
    pixels: o.Pixels = None,
    mean: o.Mean = None,
    std: o.Std = None,
    overwrite: o.PageOverwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> None:
    """Write a page on which a network's maps can be climbed in the browser."""
    from .web.page import export_web as run

    chosen: Any = objective
    page = run(
        o.network_from(model, input_shape, pixels, mean, std),
        directory,
        layers=o.layers_from(layers),
        runtime=runtime,
        title=title,
        objective=chosen,
        constraint=o.constraint_from(constraint, low, high),
        fluctuations=o.fluctuations_from(scales, weights, smoothing),
        overwrite=overwrite,
    )
    if json:
        print(dumps(asdict(page), indent=1, allow_nan=False, default=str))
    elif not quiet:
        print(page)
