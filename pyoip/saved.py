"""A result as a document and named arrays, which `folder` keeps on disk, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .fluctuations import Fluctuations
from .folder import Document, checked
from .settings import Constraint, Settings
from .summary import VERDICTS

Array = npt.NDArray[Any]

# Array -> (dtype, one letter per axis); equal letters are equal lengths.
_LAYOUT = {
    "maps": ("int64", "n"),
    "images": ("float32", "nchw"),
    "activations": ("float32", "n"),
    "preactivations": ("float32", "n"),
    "history": ("float32", "nt"),
    "starts": ("float32", "nchw"),
    "origins": ("float32", "nchw"),
    "candidates": ("int64", "n"),
    "kicks": ("int32", "n"),
    "bounds": ("float64", "n"),
    "real": ("float32", "n"),
    "converged": ("bool", "n"),
    "woke": ("int32", "n"),
    "snapshot_steps": ("int64", "s"),
    "snapshots": ("float32", "nschw"),
}
_RUNS_LAYOUT = {
    "activations": ("float32", "nk"),
    "steps": ("int32", "nk"),
    "stops": ("uint8", "nk"),
    "candidates": ("int64", "nk"),
}
PLAIN = ("network", "sha256", "layer", "layer_name", "engine", "version")
ADDED = {"scaling": "pixels 0 to 1", "layout": "NCHW"}  # what the first version did not write


@dataclass(frozen=True, eq=False)
class Runs:
    """Every ascent that was made: K per map, the best of which is the map's OIP.

    Attributes
    ----------
    activations : ndarray of float32, (n, K)
        Best activation of each ascent.
    steps : ndarray of int32, (n, K)
        Steps each ascent took.
    stops : ndarray of uint8, (n, K)
        Why it ended: index into `pyoip.engines.STOPS`.
    candidates : ndarray of int64, (n, K)
        Number in the pool of the start image it goes back to; -1: your own start image.
        The first columns are the ascents from start images, the rest the kicks.
    """

    activations: Array
    steps: Array
    stops: Array
    candidates: Array


def arrays_of(result: Any) -> dict[str, Array]:
    """Return the arrays of a `Result` by the names under which they are saved."""
    own = {k: np.asarray(getattr(result, k), dtype) for k, (dtype, _) in _LAYOUT.items()}
    runs = {
        f"runs_{k}": np.asarray(getattr(result.runs, k), dtype)
        for k, (dtype, _) in _RUNS_LAYOUT.items()
    }
    return own | runs


def fields_of(document: Document, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return what a `Result` is made of from its document and arrays.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError, PyoipError
        Something is missing or wrong.
    """
    sizes: dict[str, int] = {"n": len(document["maps"])}
    own: dict[str, Any] = checked(arrays, _LAYOUT, sizes)
    runs = checked(arrays, _RUNS_LAYOUT, sizes, prefix="runs_")
    settings = dict(document["settings"])
    settings["constraint"] = Constraint(**settings["constraint"])
    settings["snapshots"] = tuple(settings["snapshots"])
    verdicts = tuple(entry["verdict"] for entry in document["maps"])
    if not set(verdicts) <= set(VERDICTS):
        raise ValueError("verdict")
    fluctuations = document["fluctuations"]
    if fluctuations is not None:
        tuples: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in fluctuations.items()
        }
        fluctuations = Fluctuations(**tuples)
    return {
        **{name: document[name] for name in PLAIN},
        **{name: str(document.get(name, before)) for name, before in ADDED.items()},
        "interrupted": bool(document.get("interrupted", False)),
        **own,
        "verdicts": verdicts,
        "runs": Runs(**runs),
        "settings": Settings(**settings),
        "fluctuations": fluctuations,
        "timing": dict(document["timing"]),
    }
