"""What the compiled cores are told: layers and settings as plain mappings."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from ..stack import ConvLayer


def described(layer: ConvLayer) -> dict[str, Any]:
    """Return one layer as csrc/bindings/arguments.cpp reads it."""
    pool = layer.pool
    return {
        "input_shape": layer.input_shape,
        "output_shape": layer.output_shape,
        "kernel": layer.weights.shape[2:],
        "stride": layer.stride,
        "pad": layer.pads[:2],
        "activation": layer.activation.kind,
        "slope": layer.activation.slope,
        "pool": pool.kind if pool else "none",
        "pool_kernel": pool.kernel if pool else (1, 1),
        "pool_stride": pool.stride if pool else (1, 1),
        "pool_pad": pool.pads[:2] if pool else (0, 0),
        "pooled": layer.pooled_shape[1:],
        "weights": layer.weights,
        "bias": layer.bias,
    }


def numbers_of(settings: Settings) -> dict[str, Any]:
    """Return what an ascent needs of its settings, but for its step size and precision."""
    return {
        "objective": settings.objective,
        "constraint": settings.constraint.kind,
        "low": settings.constraint.low,
        "high": settings.constraint.high,
        "steps": settings.steps,
        "momentum": settings.momentum,
        "patience": settings.patience,
        "tolerance": settings.tolerance,
        "smooth": settings.smooth,
        "article": settings.method == "article",
        "snapshots": list(settings.snapshots),
    }
