"""What `pyoip train` writes into a model file beside the graph, read back and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto

from ..errors import ModelError
from .node import fail, plain, quote

MAXIMA = "pyoip.real_maxima"

Maxima = dict[tuple[int, str, str], np.ndarray[Any, np.dtype[np.float32]]]


def read_metadata(model: ModelProto, source: str) -> dict[str, str]:
    """Return the model's notes; raise `ModelError` if they are not text."""
    notes = {entry.key: entry.value for entry in model.metadata_props}
    for key, value in notes.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise fail(source, f"its metadata {quote(key)} is not text", "fetch or export it again")
    return notes


def read_maxima(metadata: Mapping[str, str], source: str, maps: Sequence[int]) -> Maxima:
    """Return the maxima of real images: (layer number, constraint, objective) -> (maps,)."""
    if MAXIMA not in metadata:
        return {}
    try:
        layers = json.loads(metadata[MAXIMA])["layers"]
        count = dict(enumerate(maps, 1))
        return {
            (int(number), constraint, objective): _values(values, count[int(number)])
            for number, by_constraint in layers.items()
            for constraint, by_objective in by_constraint.items()
            for objective, values in by_objective.items()
        }
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise _damaged(source, error) from None


def _values(values: Any, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    array = np.array(values, np.float32)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise ValueError(f"{array.shape} values; must be {count} finite numbers")
    return array


def _damaged(source: str, error: Exception) -> ModelError:
    return fail(
        source,
        f"its metadata {MAXIMA} is damaged ({plain(error)})",
        "remove the entry or train the network again",
    )
